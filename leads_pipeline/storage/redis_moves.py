"""What PostgreSQL keeps of a buffer in Redis: its leads as raw leads, the count of what left it, what it may forget.

``STORE`` writes a chunk; whoever runs it also calls ``count_moves`` and ``note_unacknowledged`` in the same
transaction. Afterwards the leads are taken out of Redis, and ``forget_acknowledged`` follows. A worker that dies in
between leaves the note: it says which of the leads that Redis still holds were settled, so that none is counted or
stored twice.
"""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from uuid import UUID

import msgspec
import sqlalchemy as sa

from leads_pipeline.domain.stage import Chunk, Lane
from leads_pipeline.storage.database import copy_text

# SQLSTATE 54: a limit of the program, such as the size of one jsonb value.
_PROGRAM_LIMIT_CLASS = "54"

# `ingest_keys` has the last word on what is a re-post: it knows posts from before the buffer was in Redis, and those
# that a Redis without its memory took again. `do update` instead of `do nothing`, because only so is a row that another
# transaction has just committed returned. Who was told 202 for another body under a known key keeps a lead of its own:
# nothing that was accepted is dropped.
STORE = """
with incoming as materialized (
    select t.*, decode(t.key_hex, 'hex') as key_sha256, decode(t.body_hex, 'hex') as body_sha256
    from rows from (
        jsonb_to_recordset(cast(%(leads)s as jsonb)) as (
            lead_id uuid, source text, lane text, received_at timestamptz, key_hex text, body_hex text,
            payload jsonb, consent jsonb, context jsonb
        )
    ) with ordinality as t(
        lead_id, source, lane, received_at, key_hex, body_hex, payload, consent, context, place
    )
), keyed as (
    insert into ingest_keys (tenant, source, key_sha256, lead_id, body_sha256, received_at)
    select distinct on (source, key_sha256) %(tenant)s, source, key_sha256, lead_id, body_sha256, received_at
    from incoming
    order by source, key_sha256, place
    on conflict (tenant, source, key_sha256) do update set received_at = ingest_keys.received_at
    returning source, key_sha256, lead_id, body_sha256
), judged as materialized (
    select incoming.lead_id, incoming.source, incoming.lane, incoming.received_at, incoming.payload, incoming.consent,
        incoming.context,
        keyed.lead_id <> incoming.lead_id and keyed.body_sha256 = incoming.body_sha256 as is_duplicate
    from incoming
    join keyed on keyed.source = incoming.source and keyed.key_sha256 = incoming.key_sha256
), stored as (
    insert into raw_leads (
        lead_id, tenant, source, capture_lane, received_at, payload, context, batch_id, runner_id, moved_at
    )
    select lead_id, %(tenant)s, source, lane, received_at, payload, context, %(batch_id)s, %(runner_id)s, %(now)s
    from judged where not is_duplicate
    on conflict (lead_id) do nothing
    returning lead_id
)
select judged.lead_id, judged.source, judged.lane, judged.received_at, judged.is_duplicate,
    stored.lead_id is not null as is_new,
    case when judged.consent = '[]'::jsonb then null else judged.consent end as consent,
    case when judged.consent = '[]'::jsonb and judged.context -> 'reference' is null then null
        else judged.context end as context
from judged left join stored on stored.lead_id = judged.lead_id
"""

# The keys of a chunk alone. The answer is how many of its leads are not the first under their key.
_OWN_KEYS = """
with incoming as materialized (
    select t.*, decode(t.key_hex, 'hex') as key_sha256, decode(t.body_hex, 'hex') as body_sha256
    from rows from (
        jsonb_to_recordset(cast(%(keys)s as jsonb)) as (
            lead_id uuid, source text, key_hex text, body_hex text, received_at timestamptz
        )
    ) with ordinality as t(lead_id, source, key_hex, body_hex, received_at, place)
), keyed as (
    insert into ingest_keys (tenant, source, key_sha256, lead_id, body_sha256, received_at)
    select distinct on (source, key_sha256) %(tenant)s, source, key_sha256, lead_id, body_sha256, received_at
    from incoming
    order by source, key_sha256, place
    on conflict (tenant, source, key_sha256) do update set received_at = ingest_keys.received_at
    returning source, key_sha256, lead_id
)
select count(*) from incoming
join keyed on keyed.source = incoming.source and keyed.key_sha256 = incoming.key_sha256
where keyed.lead_id <> incoming.lead_id
"""

_COPY = """
copy raw_leads (
    lead_id, tenant, source, capture_lane, received_at, payload, context, batch_id, runner_id, moved_at
) from stdin
"""

_COUNT_MOVES = sa.text(
    """
    insert into redis_moves (batch_id, tenant, source, lane, moved, moved_by_day, duplicates, captured)
    select :batch_id, :tenant, t.source, t.lane, t.moved, t.moved_by_day, t.duplicates, t.captured
    from jsonb_to_recordset(cast(:counts as jsonb))
        as t(source text, lane text, moved bigint, moved_by_day jsonb, duplicates bigint, captured bigint)
    """
)

_NOTE_UNACKNOWLEDGED = sa.text(
    "insert into redis_unacknowledged (note_id, tenant, lead_ids) values (:note_id, :tenant, cast(:ids as uuid[]))"
)

_SETTLED = sa.text("select note_id, lead_ids from redis_unacknowledged where tenant = :tenant")

# One statement for both: a round trip costs more than either.
_FORGET_OWN = sa.text(
    """
    delete from redis_unacknowledged using (select set_config('synchronous_commit', 'off', true)) as setting
    where note_id = :note_id
    """
)

_FORGET_EARLIER = sa.text(
    """
    with rest as materialized (
        select note_id, array(select unnest(lead_ids) except select unnest(cast(:ids as uuid[]))) as lead_ids
        from redis_unacknowledged where note_id = any(:notes) order by note_id for update
    ), gone as (
        delete from redis_unacknowledged using rest
        where redis_unacknowledged.note_id = rest.note_id and rest.lead_ids = '{}'
    )
    update redis_unacknowledged set lead_ids = rest.lead_ids from rest
    where redis_unacknowledged.note_id = rest.note_id and rest.lead_ids <> '{}'
    """
)

_NOTE_INCARNATION = sa.text(
    "insert into redis_incarnations (incarnation, first_seen_at) values (:incarnation, :now) on conflict do nothing"
)

_MOVES = sa.text(
    "select tenant, source, lane, sum(moved)::bigint as moved, sum(duplicates)::bigint as duplicates, "
    "max(captured) as captured from redis_moves group by tenant, source, lane order by tenant, source, lane"
)
_FORGET_INCARNATIONS = sa.text("delete from redis_incarnations where incarnation is distinct from cast(:but as text)")
_INCARNATIONS = sa.text("select incarnation from redis_incarnations order by first_seen_at, incarnation")
_UNACKNOWLEDGED = sa.text("select tenant, lead_ids from redis_unacknowledged")


@dataclass(frozen=True, slots=True)
class Count:
    """What one chunk did for one source and lane.

    ``moved`` by the day (UTC) of the leads' ids. ``captured`` is the door's own counter as it stood then.
    """

    source: str
    lane: Lane
    moved: Mapping[date, int]
    duplicates: int
    captured: int


@dataclass(frozen=True, slots=True)
class Move:
    """What left Redis so far, for one tenant, source and lane."""

    tenant: str
    source: str
    lane: Lane
    moved: int
    duplicates: int
    captured: int


class NewKey(msgspec.Struct, frozen=True):
    """Under which key a lead came."""

    lead_id: UUID
    source: str
    key_hex: str
    body_hex: str
    received_at: datetime


class NewRow(msgspec.Struct, frozen=True):
    """A lead that is probably new. ``payload`` and ``context`` are JSON text, as they were sent."""

    key: NewKey
    lane: Lane
    payload: bytes
    context: bytes


def store_new(connection: sa.Connection, rows: Sequence[NewRow], *, chunk: Chunk) -> bool:
    """Store leads by COPY if all of them are new, which is nearly always so, at half the cost of ``STORE``.

    ``False``: nothing was stored, because a key was known, a lead was there, or PostgreSQL refused a value. ``STORE``
    tells which.
    """
    keys = msgspec.json.encode([row.key for row in rows]).decode()
    try:
        with connection.begin_nested() as attempt:
            known: int = connection.exec_driver_sql(_OWN_KEYS, {"keys": keys, "tenant": chunk.tenant}).scalar_one()
            if known:
                attempt.rollback()
                return False
            copy_text(connection, _COPY, b"".join(_lines(rows, chunk)))
    except (sa.exc.IntegrityError, sa.exc.DataError):
        return False
    except sa.exc.DBAPIError as error:
        if str(getattr(error.orig, "sqlstate", "")).startswith(_PROGRAM_LIMIT_CLASS):
            return False
        raise
    return True


def _lines(rows: Sequence[NewRow], chunk: Chunk) -> Iterator[bytes]:
    stamps = f"\t{chunk.batch_id}\t{chunk.runner_id}\t{chunk.now.isoformat()}\n".replace("\\", "\\\\").encode()
    for row in rows:
        key = row.key
        texts = b"%b\t%b" % (row.payload, row.context)
        if b"\\" in texts:
            texts = texts.replace(b"\\", b"\\\\")
        head = f"{key.lead_id}\t{chunk.tenant}\t{key.source}\t{row.lane}\t{key.received_at.isoformat()}\t"
        yield head.encode() + texts + stamps


def count_moves(connection: sa.Connection, counts: Sequence[Count], *, tenant: str, batch_id: UUID) -> None:
    """Put what a chunk did on record."""
    rows = [
        {
            "source": count.source,
            "lane": count.lane,
            "moved": sum(count.moved.values()),
            "moved_by_day": {day.isoformat(): leads for day, leads in count.moved.items()},
            "duplicates": count.duplicates,
            "captured": count.captured,
        }
        for count in counts
    ]
    if rows:
        connection.execute(_COUNT_MOVES, {"batch_id": batch_id, "tenant": tenant, "counts": json.dumps(rows)})


def note_unacknowledged(connection: sa.Connection, lead_ids: Collection[UUID], *, tenant: str, note_id: UUID) -> None:
    """Remember which leads this transaction settles, until Redis has let go of them."""
    # As one text: the driver takes a millisecond for a list of a thousand.
    ids = "{" + ",".join(map(str, lead_ids)) + "}"
    connection.execute(_NOTE_UNACKNOWLEDGED, {"note_id": note_id, "tenant": tenant, "ids": ids})


def settled_earlier(connection: sa.Connection, *, tenant: str) -> dict[UUID, UUID]:
    """The leads that an earlier chunk settled and Redis may still hold, with the note that says so."""
    return {
        lead_id: row.note_id for row in connection.execute(_SETTLED, {"tenant": tenant}) for lead_id in row.lead_ids
    }


def forget_acknowledged(
    connection: sa.Connection, lead_ids: Collection[UUID], *, own: UUID, earlier: Collection[UUID]
) -> None:
    """Redis has let go of these leads: the ``own`` note goes, and their part of ``earlier`` ones.

    The commit need not be durable: a note that stays does no harm.
    """
    connection.execute(_FORGET_OWN, {"note_id": own})
    if earlier:
        connection.execute(_FORGET_EARLIER, {"notes": list(earlier), "ids": list(lead_ids)})


def note_incarnation(connection: sa.Connection, incarnation: str, *, now: datetime) -> None:
    """Remember a Redis buffer by the name that it gave itself: one that was emptied has another one, or none."""
    connection.execute(_NOTE_INCARNATION, {"incarnation": incarnation, "now": now})


def forget_incarnations(connection: sa.Connection, *, but: str | None) -> None:
    """Forget the Redis buffers that are gone; ``but`` is the one that is there."""
    connection.execute(_FORGET_INCARNATIONS, {"but": but})


def moves(connection: sa.Connection) -> list[Move]:
    """What left Redis so far, by tenant, source and lane."""
    return [
        Move(row.tenant, row.source, Lane(row.lane), row.moved, row.duplicates, row.captured)
        for row in connection.execute(_MOVES)
    ]


def incarnations(connection: sa.Connection) -> list[str]:
    """The Redis buffers that were seen, oldest first; more than one means that one was lost."""
    return list(connection.execute(_INCARNATIONS).scalars())


def unacknowledged(connection: sa.Connection) -> set[UUID]:
    """The leads that are settled and that Redis may still hold."""
    return {lead_id for row in connection.execute(_UNACKNOWLEDGED) for lead_id in row.lead_ids}
