"""By which version of keys a tenant's records can be found, and making them anew, some leads at a time.

A record is what its lead was resolved with; who belongs to whom is not touched. The caller holds
``identity.lock_identity`` while it writes. Keep out: how common values are (``storage.term_recount``).
"""

from dataclasses import dataclass
from uuid import UUID

import sqlalchemy as sa

from leads_pipeline.domain.ids import ContactId
from leads_pipeline.domain.match_keys import INDEX_VERSION
from leads_pipeline.storage import identity, match_index
from leads_pipeline.storage.identity import MATCH_FIELDS, RESOLVED_COLUMNS, VERDICT_JOIN, fields_of, resolved_fields
from leads_pipeline.storage.identity_writing import Appearance, write_appearances


@dataclass(frozen=True, slots=True)
class StaleIndex:
    """A tenant whose records were made by an older version of keys than ours: new leads miss some of them."""

    tenant: str
    version: int
    records: int

    def __str__(self) -> str:
        return (
            f"the {self.records:,} records of {self.tenant} have keys of version {self.version}, this release makes "
            f"version {INDEX_VERSION}, so new leads miss some of them: `leads matching reindex --tenant {self.tenant}`"
        )


_STALE = sa.text(
    "select tenant, index_version, records from identity_sizes where index_version < :version order by tenant"
)

_THROUGH = sa.text(
    "select reindexed_through from identity_sizes where tenant = :tenant and reindexing_version = :version"
)

_GO_ON = sa.text(
    """
    insert into identity_sizes (tenant, records, reindexing_version, reindexed_through)
    values (:tenant, :more, :version, :through)
    on conflict (tenant) do update set
        records = identity_sizes.records + excluded.records,
        reindexing_version = excluded.reindexing_version, reindexed_through = excluded.reindexed_through
    """
)

_DONE = sa.text(
    """
    update identity_sizes set index_version = :version, reindexing_version = null, reindexed_through = null
    where tenant = :tenant
    """
)

_COUNT = sa.text("select count(*) from deduped_leads where tenant = :tenant and lead_id > :after")

_NEXT = sa.text(
    """
    select lead_id, contact_id from deduped_leads
    where tenant = :tenant and lead_id > :after
    order by lead_id limit :limit
    """
)

_RESOLVED_AS = sa.text(
    f"""
    select {RESOLVED_COLUMNS}, d.contact_id
    from unnest(cast(:leads as uuid[])) as wanted(lead_id)
    join deduped_leads d on d.lead_id = wanted.lead_id
    join validated_leads v on v.lead_id = d.lead_id and v.revision = d.revision
    {VERDICT_JOIN}
    order by v.lead_id
    """  # noqa: S608 - names of columns
)

_LOOKS = sa.text(
    f"""
    select m.contact_id, {", ".join(f"m.{name}" for name in MATCH_FIELDS)}
    from unnest(cast(:contacts as uuid[])) as wanted(contact_id)
    join match_records m on m.contact_id = wanted.contact_id
    where m.lead_id < :before
    """  # noqa: S608 - names of columns
)


def stale_indexes(connection: sa.Connection) -> list[StaleIndex]:
    """The tenants whose records are to be made anew."""
    rows = connection.execute(_STALE, {"version": INDEX_VERSION})
    return [StaleIndex(row.tenant, row.index_version, row.records) for row in rows]


def leads_left(connection: sa.Connection, tenant: str) -> int:
    """How many leads have no record yet that was made anew, as far as an interrupted run came."""
    return int(connection.execute(_COUNT, {"tenant": tenant, "after": _through(connection, tenant)}).scalar_one())


def records(connection: sa.Connection, tenant: str) -> int:
    """How many records the tenant has."""
    return identity.read_size(connection, tenant).records


def reindex_next(connection: sa.Connection, tenant: str, *, limit: int) -> int:
    """Make the records of the next ``limit`` leads anew, in the order of their ids; says how many leads that were.

    As in resolution, a lead that looks like an earlier one of its contact has none. How far it came is kept in the same
    transaction.
    """
    waiting = connection.execute(_NEXT, {"tenant": tenant, "after": _through(connection, tenant), "limit": limit}).all()
    if not waiting:
        return 0
    leads = [row.lead_id for row in waiting]
    # How their contacts look by the records of earlier leads, which are made anew already.
    looks = connection.execute(_LOOKS, {"contacts": list({row.contact_id for row in waiting}), "before": leads[0]})
    seen = {(ContactId(row.contact_id), fields_of(row)) for row in looks}
    anew: list[Appearance] = []
    for row in connection.execute(_RESOLVED_AS, {"leads": leads}):
        contact, fields = ContactId(row.contact_id), resolved_fields(row)
        if (contact, fields) not in seen:
            seen.add((contact, fields))
            anew.append(Appearance(row.lead_id, contact, fields, row.flags))
    gone = match_index.remove_records(connection, leads)
    write_appearances(connection, tenant, anew)
    more = len(anew) - gone
    connection.execute(_GO_ON, {"tenant": tenant, "more": more, "version": INDEX_VERSION, "through": leads[-1]})
    return len(leads)


def end_reindexing(connection: sa.Connection, tenant: str) -> None:
    """All records are ours: say so, and begin with the first lead next time."""
    connection.execute(_DONE, {"tenant": tenant, "version": INDEX_VERSION})


def _through(connection: sa.Connection, tenant: str) -> UUID:
    """The last lead whose record this version has made anew; before all leads if there is none."""
    found: UUID | None = connection.execute(_THROUGH, {"tenant": tenant, "version": INDEX_VERSION}).scalar_one_or_none()
    return found or UUID(int=0)
