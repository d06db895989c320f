"""Counting anew how many contacts have each value, while chunks that are resolved go on counting up.

Everything is read in one snapshot: the records, and what was counted until then. What differs is added to what is
counted by now, some values at a time, so nothing that was added meanwhile is lost, and who is killed half-way begins
again. What is in memory does not follow the number of records: the hashes of values are counted by PostgreSQL.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from leads_pipeline.domain.match_keys import MatchFields
from leads_pipeline.storage.database import copy_text
from leads_pipeline.storage.identity import MATCH_FIELDS, fields_of, lock_identity
from leads_pipeline.storage.match_index import term_hash

TermsOf = Callable[[MatchFields], Mapping[str, str]]
"""The values of a record that are counted, by field: ``matching.pairs.terms_of``."""

# Apart from the lock of identities: two that count at once would add the same difference twice.
_LOCK_PURPOSE = 0x1EAE
_RECORDS_AT_ONCE = 5_000
_TERMS_AT_ONCE = 20_000


@dataclass(frozen=True, slots=True)
class Recount:
    """``corrected`` values were counted wrongly; ``records`` and ``contacts`` by how much the sizes were off."""

    corrected: int
    records: int
    contacts: int


_LOCK = sa.text("select pg_advisory_lock(cast(:purpose as integer), hashtext(:tenant))")
_UNLOCK = sa.text("select pg_advisory_unlock(cast(:purpose as integer), hashtext(:tenant))")

_RECORDS = sa.text(
    f"""
    select m.contact_id, {", ".join(f"m.{name}" for name in MATCH_FIELDS)}
    from match_records m where m.tenant = :tenant
    order by m.contact_id
    """  # noqa: S608 - names of columns
)

_DIFFERENCE = sa.text(
    """
    create temporary table miscounted_terms on commit preserve rows as
    select term_hash, coalesce(present.occurrences, 0) - coalesce(counted.occurrences, 0) as more
    from (select term_hash, count(*) as occurrences from present_terms group by term_hash) present
    full join (
        select term_hash, occurrences from term_frequencies where tenant = :tenant
    ) counted using (term_hash)
    where coalesce(present.occurrences, 0) <> coalesce(counted.occurrences, 0)
    """
)

_SIZES = sa.text(
    """
    select (select count(*) from match_records where tenant = :tenant) - s.records as records,
        (select count(*) from contacts where tenant = :tenant and merged_into is null) - s.contacts as contacts
    from identity_sizes s where s.tenant = :tenant
    """
)

_CORRECT = sa.text(
    """
    with taken as (
        delete from miscounted_terms where ctid = any(array(select ctid from miscounted_terms limit :limit))
        returning term_hash, more
    ), corrected as (
        insert into term_frequencies as f (term_hash, occurrences, tenant)
        select term_hash, more, :tenant from taken
        on conflict (term_hash) do update set occurrences = f.occurrences + excluded.occurrences
        returning f.term_hash, f.occurrences
    )
    select count(*) as corrected, array_agg(term_hash) filter (where occurrences <= 0) as unseen from corrected
    """
)

_FORGET = sa.text("delete from term_frequencies where term_hash = any(:terms) and occurrences <= 0")

_RESIZE = sa.text(
    """
    update identity_sizes set records = records + :records, contacts = contacts + :contacts where tenant = :tenant
    """
)


def recount_terms(
    engine: sa.Engine,
    tenant: str,
    *,
    terms_of: TermsOf,
    progress: Callable[[int], None] = lambda _records: None,
) -> Recount:
    """Make the tenant's frequencies and sizes what its records and contacts say.

    Takes the tenant's identity lock for some values at a time; ``progress`` is told how many records were read. One
    that runs already is waited for.
    """
    with engine.connect() as connection, _alone(connection, tenant):
        connection.execute(sa.text("set transaction isolation level repeatable read"))
        connection.execute(sa.text("create temporary table present_terms (term_hash bigint) on commit drop"))
        for lines in _present(connection, tenant, terms_of, progress):
            copy_text(connection, "copy present_terms (term_hash) from stdin", lines)
        connection.execute(_DIFFERENCE, {"tenant": tenant})
        sizes = connection.execute(_SIZES, {"tenant": tenant}).one_or_none()
        connection.commit()
        corrected = 0
        while some := _correct(connection, tenant):
            corrected += some
        off = (sizes.records, sizes.contacts) if sizes else (0, 0)
        lock_identity(connection, tenant)
        connection.execute(_RESIZE, {"tenant": tenant, "records": off[0], "contacts": off[1]})
        connection.commit()
        return Recount(corrected, *off)


def _present(
    connection: sa.Connection, tenant: str, terms_of: TermsOf, progress: Callable[[int], None]
) -> Iterator[bytes]:
    """The hashes of the values of each contact, each once, a line each."""
    streaming = {"stream_results": True, "yield_per": _RECORDS_AT_ONCE}
    contact: Any = None
    known: set[tuple[str, str]] = set()
    read = 0
    for rows in connection.execute(_RECORDS, {"tenant": tenant}, execution_options=streaming).partitions():
        hashes: list[str] = []
        for row in rows:
            if row.contact_id != contact:
                contact, known = row.contact_id, set()
            new = terms_of(fields_of(row)).items() - known
            known |= new
            hashes += (f"{term_hash(tenant, *term)}\n" for term in new)
        read += len(rows)
        progress(read)
        yield "".join(hashes).encode()


def _correct(connection: sa.Connection, tenant: str) -> int:
    lock_identity(connection, tenant)
    row = connection.execute(_CORRECT, {"tenant": tenant, "limit": _TERMS_AT_ONCE}).one()
    if row.unseen:
        connection.execute(_FORGET, {"terms": row.unseen})
    connection.commit()
    return int(row.corrected)


@contextmanager
def _alone(connection: sa.Connection, tenant: str) -> Iterator[None]:
    """Nobody else counts this tenant's values meanwhile; what was set aside is dropped."""
    about = {"purpose": _LOCK_PURPOSE, "tenant": tenant}
    connection.execute(_LOCK, about)
    connection.commit()
    try:
        yield
    finally:
        connection.rollback()
        if not connection.invalidated:  # else the server has let go of both by itself
            connection.execute(sa.text("drop table if exists miscounted_terms"))
            connection.execute(_UNLOCK, about)
            connection.commit()
