"""Who is who, as identity resolution reads it: under one lock per tenant, and from indexes only.

What a chunk reads depends on its own leads and on the cap per key, never on how many contacts there are. Keys and
frequencies stand in ``storage.match_index``, what resolution writes in ``storage.identity_writing``.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from leads_pipeline.domain.ids import ContactId
from leads_pipeline.domain.match_fields import (
    ROLE_MAILBOX_FLAG,
    external_id_key,
    job_title_key,
    phone_kind,
    state_key,
)
from leads_pipeline.domain.match_keys import MatchFields
from leads_pipeline.domain.stage import Lane

# Half of the key names the lock's purpose, so that it cannot meet another use of advisory locks; the rest, the tenant.
_LOCK_PURPOSE = 0x1EAD

# The columns of match_records that are compared, in the order of ``MatchFields``.
MATCH_FIELDS: tuple[str, ...] = tuple(MatchFields.__dataclass_fields__)
# The first nine are columns of validated_leads too; the others are made from its columns (domain.match_fields).
_VALIDATED_FIELDS = MATCH_FIELDS[:9]


@dataclass(frozen=True, slots=True)
class ArrivingLead:
    """A validated lead that waits to be told apart. ``known_*`` is what an earlier run decided."""

    lead_id: UUID
    revision: int
    sync_lane: Lane
    fields: MatchFields
    flags: list[str]
    known_revision: int | None
    known_contact_id: ContactId | None


@dataclass(frozen=True, slots=True)
class KnownRecord:
    """One distinct appearance of a contact."""

    lead_id: UUID
    contact_id: ContactId
    fields: MatchFields


@dataclass(frozen=True, slots=True)
class IdentitySize:
    records: int
    contacts: int


_BY_INDEX = sa.text(
    """
    select set_config(name, 'off', true)
    from unnest(array['enable_seqscan', 'enable_hashjoin', 'enable_mergejoin', 'jit']) as name
    """
)

_LOCK = sa.text("select pg_advisory_xact_lock(cast(:purpose as integer), hashtext(:tenant))")

# Of a row of validated_leads v and the verdict on its address: what ``resolved_fields`` needs.
RESOLVED_COLUMNS = f"""
    v.lead_id, v.revision, v.sync_lane, v.flags, {", ".join(f"v.{name}" for name in _VALIDATED_FIELDS)},
    v.state, v.job_title, v.source, v.external_id, v.phone_type, verdict.verdict
"""

# The last word of a provider on the mailbox of one revision; DNS only says that its domain takes mail.
VERDICT_JOIN = """
    left join lateral (
        select c.verdict from verifications c
        where c.lead_id = v.lead_id and c.revision = v.revision and c.kind = 'mailbox'
        order by c.verified_at desc, c.verification_id desc limit 1
    ) verdict on true
"""

_LATEST = f"""
    select {RESOLVED_COLUMNS}, d.revision as known_revision, d.contact_id as known_contact_id
    from wanted
    cross join lateral (
        select * from validated_leads v
        where v.lead_id = wanted.lead_id and v.tenant = :tenant
        order by v.revision desc limit 1
    ) v
    {VERDICT_JOIN}
    left join deduped_leads d on d.lead_id = v.lead_id
    order by v.lead_id
"""  # noqa: S608 - names of columns

_ARRIVING = sa.text(f"with wanted as (select unnest(cast(:wanted as uuid[])) as lead_id) {_LATEST}")

# Leads that no row of match_records speaks for, because an equal one did when they came. As they were resolved: a later
# revision has its own turn.
_UNRECORDED = sa.text(
    f"""
    select {RESOLVED_COLUMNS}, d.revision as known_revision, d.contact_id as known_contact_id
    from deduped_leads d
    join validated_leads v on v.lead_id = d.lead_id and v.revision = d.revision
    {VERDICT_JOIN}
    where d.contact_id = any(cast(:contacts as uuid[])) and d.tenant = :tenant
      and not exists (select from match_records m where m.lead_id = d.lead_id)
    order by v.lead_id
    """  # noqa: S608 - names of columns
)

# What an earlier run went by.
_RESOLVED_AS = sa.text(
    f"""
    select {RESOLVED_COLUMNS}
    from unnest(cast(:wanted as uuid[])) as wanted(lead_id)
    join deduped_leads d on d.lead_id = wanted.lead_id
    join validated_leads v on v.lead_id = d.lead_id and v.revision = d.revision
    {VERDICT_JOIN}
    """  # noqa: S608 - names of columns
)

_RECORDS = sa.text(
    f"""
    select m.lead_id, m.contact_id, {", ".join(f"m.{name}" for name in MATCH_FIELDS)}
    from unnest(cast(:wanted as uuid[])) as t(lead_id)
    join match_records m on m.lead_id = t.lead_id
    where m.tenant = :tenant
    order by m.lead_id
    """  # noqa: S608 - names of columns
)

# The newest of each contact, as many as may be in one without a person's word.
_RECORDS_OF = sa.text(
    f"""
    select m.lead_id, m.contact_id, {", ".join(f"m.{name}" for name in MATCH_FIELDS)}
    from unnest(cast(:contacts as uuid[])) as wanted(contact_id)
    cross join lateral (
        select * from match_records m where m.contact_id = wanted.contact_id order by m.lead_id desc limit :limit
    ) m
    order by m.lead_id
    """  # noqa: S608 - names of columns
)

_RECORD_COUNTS = sa.text(
    """
    select m.contact_id, count(*) as records
    from unnest(cast(:contacts as uuid[])) as wanted(contact_id)
    join match_records m on m.contact_id = wanted.contact_id
    group by m.contact_id
    """
)

_MEMBERS = sa.text(
    """
    select c.contact_id, c.founding_lead_id, array(
        select d.lead_id from deduped_leads d where d.contact_id = c.contact_id order by d.lead_id limit :limit
    ) as lead_ids
    from contacts c where c.contact_id = any(cast(:contacts as uuid[]))
    """
)


def lock_identity(connection: sa.Connection, tenant: str) -> None:
    """Hold the tenant's identities until the transaction ends; waits for whoever holds them.

    Two chunks of one tenant that resolved at once would each found a contact for the same person.
    """
    connection.execute(_LOCK, {"purpose": _LOCK_PURPOSE, "tenant": tenant})


def walk_by_index(connection: sa.Connection) -> None:
    """Until the transaction ends every look-up walks from row to row by an index.

    The planner knows neither how many ids a chunk asks for nor how large a table is that grew since it was analyzed. In
    doubt it reads a whole table once, which costs a chunk the more the more contacts there are.
    """
    connection.execute(_BY_INDEX)


def read_arriving(connection: sa.Connection, tenant: str, lead_ids: Iterable[UUID]) -> list[ArrivingLead]:
    """The latest revision of each lead, by id. One that is gone is not in the answer."""
    wanted = "{" + ",".join(map(str, lead_ids)) + "}"
    return [_arriving(row) for row in connection.execute(_ARRIVING, {"tenant": tenant, "wanted": wanted}).all()]


def read_unrecorded(connection: sa.Connection, tenant: str, contacts: Collection[ContactId]) -> list[ArrivingLead]:
    """The leads of these contacts that have no record of their own."""
    rows = connection.execute(_UNRECORDED, {"tenant": tenant, "contacts": list(contacts)})
    return [_arriving(row) for row in rows]


def read_resolved_as(connection: sa.Connection, lead_ids: Collection[UUID]) -> dict[UUID, MatchFields]:
    """What these leads were when they were last resolved."""
    rows = connection.execute(_RESOLVED_AS, {"wanted": list(lead_ids)})
    return {row.lead_id: resolved_fields(row) for row in rows}


def read_members(
    connection: sa.Connection, contacts: Collection[ContactId], *, limit: int
) -> dict[ContactId, tuple[UUID, list[UUID]]]:
    """For each of these contacts its founding lead, and its oldest ``limit`` leads, the oldest first."""
    rows = connection.execute(_MEMBERS, {"contacts": list(contacts), "limit": limit})
    return {ContactId(row.contact_id): (row.founding_lead_id, row.lead_ids) for row in rows}


def read_records(connection: sa.Connection, tenant: str, lead_ids: Iterable[UUID | str]) -> list[KnownRecord]:
    """Known records by the id of the lead that they came from, in its order."""
    wanted = "{" + ",".join(map(str, lead_ids)) + "}"
    rows = connection.execute(_RECORDS, {"tenant": tenant, "wanted": wanted}).all()
    return [KnownRecord(row[0], row[1], MatchFields(*row[2:])) for row in rows]


def read_records_of(connection: sa.Connection, contacts: Collection[ContactId], *, limit: int) -> list[KnownRecord]:
    """The newest ``limit`` records of each of these contacts, in the order of their leads."""
    rows = connection.execute(_RECORDS_OF, {"contacts": list(contacts), "limit": limit})
    return [KnownRecord(row[0], row[1], MatchFields(*row[2:])) for row in rows]


def read_size(connection: sa.Connection, tenant: str) -> IdentitySize:
    """How many records and living contacts the tenant has."""
    row = connection.execute(
        sa.text("select records, contacts from identity_sizes where tenant = :tenant"), {"tenant": tenant}
    ).one_or_none()
    return IdentitySize(row.records, row.contacts) if row else IdentitySize(0, 0)


def count_records(connection: sa.Connection, contacts: Collection[ContactId]) -> dict[ContactId, int]:
    """How many distinct appearances each of these contacts has."""
    rows = connection.execute(_RECORD_COUNTS, {"contacts": list(contacts)})
    return {ContactId(row.contact_id): row.records for row in rows}


def _arriving(row: Any) -> ArrivingLead:
    known = None if row.known_contact_id is None else ContactId(row.known_contact_id)
    return ArrivingLead(
        row.lead_id, row.revision, Lane(row.sync_lane), resolved_fields(row), row.flags, row.known_revision, known
    )


def resolved_fields(row: Any) -> MatchFields:
    """What is compared, from a row of ``RESOLVED_COLUMNS``."""
    return MatchFields(
        **{name: getattr(row, name) for name in _VALIDATED_FIELDS},
        state_key=state_key(row.state),
        job_title_key=job_title_key(row.job_title),
        external_id_key=external_id_key(row.source, row.external_id),
        phone_kind=phone_kind(row.phone_key, row.phone_type),
        email_verified=row.verdict == "valid",
        role_mailbox=ROLE_MAILBOX_FLAG in row.flags,
    )


def fields_of(row: Any) -> MatchFields:
    """What is compared, from a row of match_records."""
    return MatchFields(*(getattr(row, name) for name in MATCH_FIELDS))
