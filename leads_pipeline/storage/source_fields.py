"""The table ``source_fields``: which fields each source's posts have, what they are used for, and when they last came.

Two names are not fields: ``*`` counts the posts themselves, ``OTHER`` whatever came under more names than are
remembered, or under a name that may be a person's data. Only posts are counted that were read by a mapping: no imported
rows, nothing that was set aside.
"""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from datetime import datetime

import sqlalchemy as sa

from leads_pipeline.domain.schema_drift import POSTS, SourceField
from leads_pipeline.domain.stage import Chunk

OTHER = "(other)"
# A sender can invent names. So many are remembered for each source, and as many again that are used for something.
MAX_FIELDS = 500

# Names end in Dagster's metadata: what could be an address or a number of somebody is not kept as a name.
_KEPT_NAME = re.compile(r"[\w .:/#?()\[\]{}'&,+$%!-]{1,100}")
_NUMBER_LIKE = re.compile(r"[\d\s+().-]{7,}")


# What the fields of one source are for: the canonical field, ``consent``, ``lane``; nothing where a name is missing.
Uses = Mapping[str, str]


class FieldCount:
    """What one chunk's posts had: posts of one source mostly have the same fields, so shapes are counted."""

    def __init__(self) -> None:
        self._shapes: Counter[tuple[str, tuple[str, ...]]] = Counter()

    def add(self, source: str, fields: tuple[str, ...]) -> None:
        """Count one post. Of a post with very many fields the first ones are enough."""
        self._shapes[source, fields[:MAX_FIELDS]] += 1

    def rows(self, uses: Mapping[str, Uses]) -> list[dict[str, object]]:
        """One row for each source and field, and one for its posts; ``uses`` says what a source's fields are for."""
        fields: dict[str, Counter[str]] = defaultdict(Counter)
        posts: Counter[str] = Counter()
        kept = {name: kept_name(name) for name in {name for _source, names in self._shapes for name in names}}
        for (source, names), times in self._shapes.items():
            posts[source] += times
            found = fields[source]
            for name in {kept[name] for name in names}:
                found[name] += times
        return [
            {
                "source": source,
                "field": name,
                "used_for": None if name == OTHER else uses[source].get(name),
                "seen": seen,
                "posts": posts[source],
            }
            for source, found in fields.items()
            for name, seen in [(POSTS, posts[source]), *_bounded(found)]
        ]


def kept_name(name: str) -> str:
    """The name under which a field is remembered."""
    return name if _KEPT_NAME.fullmatch(name) and not _NUMBER_LIKE.fullmatch(name) else OTHER


def _bounded(found: Counter[str]) -> list[tuple[str, int]]:
    ordered = found.most_common()
    kept, rest = ordered[: 2 * MAX_FIELDS], ordered[2 * MAX_FIELDS :]
    if not rest:
        return kept
    return [*((name, seen) for name, seen in kept if name != OTHER), (OTHER, max(rest[0][1], found[OTHER]))]


# Rows are written, and so locked, in one order: two workers with posts of one source wait for each other and cannot
# deadlock. Past the bound a name that is not known yet is counted under OTHER.
_NOTE = sa.text(
    f"""
    with incoming as (
        select t.source, t.field, t.used_for, t.seen, t.posts from jsonb_to_recordset(cast(:rows as jsonb))
            as t(source text, field text, used_for text, seen bigint, posts bigint)
    ), known as (
        select f.source, count(*) as fields, max(f.seen) filter (where f.field = '{POSTS}') as posts
        from source_fields f
        where f.tenant = :tenant and f.source in (select source from incoming)
        group by f.source
    ), placed as (
        select i.*, k.fields, coalesce(k.posts, 0) as posts_before,
            f.field is not null or i.field in ('{POSTS}', '{OTHER}') as is_known,
            row_number() over (
                partition by i.source, f.field is not null order by i.used_for is null, i.field
            ) as place
        from incoming i
        left join known k on k.source = i.source
        left join source_fields f on f.tenant = :tenant and f.source = i.source and f.field = i.field
    ), admitted as (
        select source, used_for, seen, posts_before + posts as posts,
            case when is_known
                or coalesce(fields, 0) + place <= case when used_for is null then {MAX_FIELDS} else {2 * MAX_FIELDS} end
            then field else '{OTHER}' end as field
        from placed
    )
    insert into source_fields (
        tenant, source, field, used_for, seen, posts_by_then, first_seen_at, last_seen_at
    )
    select :tenant, source, field, max(used_for) filter (where field <> '{OTHER}'), max(seen), max(posts), :now, :now
    from admitted
    group by source, field
    order by source, field
    on conflict (tenant, source, field) do update set
        seen = source_fields.seen + excluded.seen,
        used_for = excluded.used_for,
        posts_by_then = greatest(source_fields.posts_by_then, excluded.posts_by_then),
        last_seen_at = greatest(source_fields.last_seen_at, excluded.last_seen_at)
    """  # noqa: S608 - constants of this module
)


def note_fields(connection: sa.Connection, count: FieldCount, uses: Mapping[str, Uses], chunk: Chunk) -> None:
    """Add what a chunk's posts had. Locks rows that other workers' chunks need: the last thing in a transaction."""
    rows = count.rows(uses)
    if rows:
        connection.execute(_NOTE, {"rows": json.dumps(rows), "tenant": chunk.tenant, "now": chunk.now})


def forget_unused_fields(connection: sa.Connection, *, last_seen_before: datetime) -> int:
    """Forget names that nothing uses and that came last before an instant: they make room for others. Says how many."""
    statement = sa.text(
        f"delete from source_fields where used_for is null and field <> '{POSTS}' and last_seen_at < :until"  # noqa: S608
    )
    return connection.execute(statement, {"until": last_seen_before}).rowcount


def known_fields(
    connection: sa.Connection, *, tenant: str | None = None, source: str | None = None
) -> list[SourceField]:
    """What is remembered, by tenant, source and field; of one tenant and source if they are named."""
    statement = sa.text(
        """
        select tenant, source, field, used_for, seen, posts_by_then, first_seen_at, last_seen_at
        from source_fields
        where (cast(:tenant as text) is null or tenant = :tenant)
            and (cast(:source as text) is null or source = :source)
        order by tenant, source, field
        """
    )
    rows = connection.execute(statement, {"tenant": tenant, "source": source})
    return [
        SourceField(r.tenant, r.source, r.field, r.used_for, r.seen, r.posts_by_then, r.first_seen_at, r.last_seen_at)
        for r in rows
    ]
