"""A tenant's records, keys and frequencies made anew, after a release that makes them otherwise.

Contacts stay as they are: what changes is which records a new lead is compared with, and what an agreement weighs.
Chunks of new leads are resolved in between; the tenant's identity lock is held for some leads at a time. Killed at any
time it goes on where it was, and running it again over what is current changes nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass

import sqlalchemy as sa

from leads_pipeline.domain.match_keys import INDEX_VERSION
from leads_pipeline.matching.pairs import terms_of
from leads_pipeline.storage import reindexing
from leads_pipeline.storage.identity import lock_identity, walk_by_index
from leads_pipeline.storage.term_recount import Recount, recount_terms
from leads_pipeline.telemetry import get_logger

log = get_logger(__name__)

Progress = Callable[[str, int, int], None]
"""What is being made anew, how far it is, and where that ends."""

# Of so many leads the lock is held for less than a second.
_LEADS_AT_ONCE = 2_000


@dataclass(frozen=True, slots=True)
class Reindexed:
    """``leads`` were gone through by this run, ``records`` is how many the tenant has now."""

    leads: int
    records: int
    recount: Recount


def reindex(
    engine: sa.Engine,
    tenant: str,
    *,
    leads_at_once: int = _LEADS_AT_ONCE,
    progress: Progress = lambda _doing, _done, _total: None,
) -> Reindexed:
    """Make everything by which the tenant's leads are found anew, from its leads as they were resolved."""
    with engine.connect() as connection:
        total = reindexing.leads_left(connection, tenant)
    done = 0
    while some := _next(engine, tenant, leads_at_once):
        done += some
        progress("records", done, max(done, total))
    with engine.connect() as connection:
        records = reindexing.records(connection, tenant)
    recount = recount_terms(
        engine, tenant, terms_of=terms_of, progress=lambda read: progress("frequencies", read, max(read, records))
    )
    with engine.begin() as connection:
        lock_identity(connection, tenant)
        reindexing.end_reindexing(connection, tenant)
        records = reindexing.records(connection, tenant)
    log.info(
        "records_reindexed",
        tenant=tenant,
        version=INDEX_VERSION,
        leads=done,
        records=records,
        corrected_terms=recount.corrected,
    )
    return Reindexed(done, records, recount)


def _next(engine: sa.Engine, tenant: str, limit: int) -> int:
    with engine.begin() as connection:
        lock_identity(connection, tenant)
        walk_by_index(connection)
        return reindexing.reindex_next(connection, tenant, limit=limit)
