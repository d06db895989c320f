"""The indexes by which identity resolution finds who may be whom: blocking keys, and how common values are.

Both are tables of 64-bit hashes with the tenant inside, read and written by the thousand: a chunk of 5,000 leads looks
up 50,000 keys. Arrays go in as one text parameter each, lists of ids come out as text, rows go in by COPY; the driver
makes no object for what is only compared. Measured with 47,000 keys against 250,000 contacts: 0.25 s a look-up where
JSON in and UUIDs out took 1.6 s.

Keep out: what the keys of a record are (``domain.match_keys``).
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import lru_cache
from hashlib import blake2b, md5

import sqlalchemy as sa

from leads_pipeline.domain.candidates import NARROW, limit_of
from leads_pipeline.domain.match_keys import MatchFields, MatchKey, match_keys
from leads_pipeline.storage.copying import escaped
from leads_pipeline.storage.database import copy_text

# Lead ids are ordered by time: the primary key read backwards yields the newest records first and stops at the limit.
# Of a key with more records than are wanted of it only that is told.
_CANDIDATES = sa.text(
    """
    select wanted.key_hash, found.lead_ids
    from unnest(cast(:keys as bigint[]), cast(:most as integer[]), cast(:read as integer[]))
        as wanted(key_hash, most, read)
    cross join lateral (
        select count(*) as records,
            case when count(*) <= wanted.most then array_to_string(array_agg(newest.lead_id), ',') end as lead_ids
        from (
            select k.lead_id from match_keys k
            where k.key_hash = wanted.key_hash
            order by k.lead_id desc limit wanted.read
        ) newest
    ) found
    where found.records > 0
    """
)

_REMOVE = sa.text(
    """
    with gone as (
        delete from match_records where lead_id = any(cast(:leads as uuid[])) returning lead_id, key_hashes
    ), keys as (
        delete from match_keys k using (select lead_id, unnest(key_hashes) as key_hash from gone) own
        where k.key_hash = own.key_hash and k.lead_id = own.lead_id
    )
    select count(*) from gone
    """
)

_FREQUENCIES = sa.text(
    """
    select f.term_hash, f.occurrences
    from unnest(cast(:terms as bigint[])) as wanted(term_hash)
    join term_frequencies f on f.term_hash = wanted.term_hash
    """
)

_ADD_FREQUENCIES = sa.text(
    """
    insert into term_frequencies as f (term_hash, occurrences, tenant)
    select t.term_hash, t.added, :tenant
    from unnest(cast(:terms as bigint[]), cast(:added as integer[])) as t(term_hash, added)
    on conflict (term_hash) do update set occurrences = f.occurrences + excluded.occurrences
    """
)


def find_candidates(
    connection: sa.Connection, tenant: str, keys: Iterable[MatchKey], *, cap: int
) -> dict[int, list[str] | None]:
    """For the hash of each key that somebody has, the leads whose records share it, the newest first.

    None if those are more than ``domain.candidates`` wants of a key of its kind.
    """
    salt = _salt(tenant)
    wanted = {}
    for kind, key_hash in keys:
        limit = limit_of(kind, cap)
        wanted[key_hash ^ salt] = limit + (kind in NARROW), limit + 1
    stored = sorted(wanted)
    rows = connection.execute(
        _CANDIDATES,
        {
            "keys": _array(stored),
            "most": _array(wanted[key][0] for key in stored),
            "read": _array(wanted[key][1] for key in stored),
        },
    ).all()
    return {row[0] ^ salt: None if row[1] is None else row[1].split(",") for row in rows}


def write_keys(connection: sa.Connection, tenant: str, keys: Iterable[tuple[object, Sequence[int]]]) -> None:
    """Make records findable: their lead ids with their keys as ``stored_keys`` has them."""
    lines = [f"{key}\t{lead_id}" for lead_id, own in keys for key in own]
    if lines:
        # In no order: sorting costs more than it saves while the index is in memory.
        ending = f"\t{escaped(tenant)}\n"
        copy_text(
            connection, "copy match_keys (key_hash, lead_id, tenant) from stdin", (ending.join(lines) + ending).encode()
        )


def stored_keys(tenant: str, fields: MatchFields) -> list[int]:
    """The distinct keys under which a record stands."""
    salt = _salt(tenant)
    return sorted({key.key_hash ^ salt for key in match_keys(fields)})


def remove_records(connection: sa.Connection, leads: Collection[object]) -> int:
    """Forget the records of these leads with their keys; how many there were is answered."""
    return int(connection.execute(_REMOVE, {"leads": _array(leads)}).scalar_one())


def read_frequencies(
    connection: sa.Connection, tenant: str, terms: Iterable[tuple[str, str]]
) -> dict[tuple[str, str], int]:
    """How many contacts have each of these values (field, value); unseen ones are not in the answer."""
    term_of = {term_hash(tenant, *term): term for term in terms}
    rows = connection.execute(_FREQUENCIES, {"terms": _array(sorted(term_of))}).all()
    return {term_of[row[0]]: row[1] for row in rows}


def add_frequencies(connection: sa.Connection, tenant: str, terms: Mapping[tuple[str, str], int]) -> None:
    """Count these values (field, value) up."""
    added = sorted((term_hash(tenant, *term), count) for term, count in terms.items())
    if added:
        terms_array, counts_array = (_array(column) for column in zip(*added, strict=True))
        connection.execute(_ADD_FREQUENCIES, {"terms": terms_array, "added": counts_array, "tenant": tenant})


def _array(values: Iterable[object]) -> str:
    """An array of numbers or ids, as PostgreSQL writes it."""
    return "{" + ",".join(map(str, values)) + "}"


@lru_cache(maxsize=1_024)
def _salt(tenant: str) -> int:
    return int.from_bytes(blake2b(tenant.encode(), digest_size=8).digest(), "big", signed=True)


def term_hash(tenant: str, field: str, term: str) -> int:
    """Under which a value of a field stands in term_frequencies."""
    # MD5 because PostgreSQL has it too, and a migration made these of what was there.
    digest = md5(f"{tenant}\x1f{field}\x1f{term}".encode(), usedforsecurity=False).digest()
    return int.from_bytes(digest[:8], "big", signed=True)
