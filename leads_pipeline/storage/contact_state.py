"""Contacts and their leads as a decision finds them, and as it leaves them.

The caller holds ``identity.lock_identity``. Golden rows and what the CRMs are to have follow by themselves: every
contact that is touched waits at the door of ``golden_contacts`` in the same transaction.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import sqlalchemy as sa

from leads_pipeline.domain.identity_change import Change, IdentityState
from leads_pipeline.domain.ids import ContactId, LeadId
from leads_pipeline.domain.match_keys import MatchFields
from leads_pipeline.domain.stage import Chunk, Lane, Stage
from leads_pipeline.storage import identity, identity_writing
from leads_pipeline.storage.golden import uuid_array
from leads_pipeline.storage.identity_writing import Appearance
from leads_pipeline.storage.news import ON_LEAVING
from leads_pipeline.storage.pending import Waiting, enqueue


@dataclass(frozen=True)
class FoundContacts:
    """What was read: the state, and the revision of each lead."""

    state: IdentityState
    revisions: Mapping[LeadId, int]


_CONTACTS = sa.text(
    """
    select contact_id, merged_into, founding_lead_id from contacts
    where tenant = :tenant
      and (contact_id = any(cast(:ids as uuid[])) or merged_into = any(cast(:ids as uuid[])))
    """
)

_LEADS = sa.text(
    """
    select lead_id, revision, contact_id from deduped_leads
    where tenant = :tenant and contact_id = any(cast(:ids as uuid[]))
    """
)

_CONTACT_OF_LEADS = sa.text(
    "select lead_id, contact_id from deduped_leads where tenant = :tenant and lead_id = any(cast(:leads as uuid[]))"
)

_FOUND = sa.text(
    """
    insert into contacts (contact_id, tenant, founding_lead_id, created_at)
    select t.contact_id, :tenant, t.lead_id, :now
    from jsonb_to_recordset(cast(:rows as jsonb)) as t(contact_id uuid, lead_id uuid)
    """
)

_MERGE_INTO = sa.text(
    """
    update contacts set merged_into = t.merged_into
    from jsonb_to_recordset(cast(:rows as jsonb)) as t(contact_id uuid, merged_into uuid)
    where contacts.tenant = :tenant and contacts.contact_id = t.contact_id
    """
)

_SET_FOUNDER = sa.text(
    """
    update contacts set founding_lead_id = t.lead_id
    from jsonb_to_recordset(cast(:rows as jsonb)) as t(contact_id uuid, lead_id uuid)
    where contacts.tenant = :tenant and contacts.contact_id = t.contact_id
    """
)

_MOVE_LEADS = sa.text(
    f"""
    update deduped_leads d set
        contact_id = t.contact_id, golden_version = null,
        first_golden_version = case when d.contact_id = t.contact_id then d.first_golden_version else {ON_LEAVING} end
    from jsonb_to_recordset(cast(:rows as jsonb)) as t(lead_id uuid, contact_id uuid)
    where d.tenant = :tenant and d.lead_id = t.lead_id
    """  # noqa: S608 - text of ours
)

_MOVE_RECORDS = sa.text(
    """
    update match_records m set contact_id = t.contact_id
    from jsonb_to_recordset(cast(:rows as jsonb)) as t(lead_id uuid, contact_id uuid)
    where m.tenant = :tenant and m.lead_id = t.lead_id
    """
)

_RECORDED = sa.text("select lead_id from match_records where tenant = :tenant and contact_id = any(:contacts)")


def read_contacts(connection: sa.Connection, tenant: str, contacts: Iterable[ContactId]) -> FoundContacts:
    """These contacts and whatever was merged into them, with the leads of all these."""
    given = {"tenant": tenant, "ids": uuid_array(contacts)}
    rows = connection.execute(_CONTACTS, given).all()
    ids = uuid_array(row.contact_id for row in rows)
    leads = connection.execute(_LEADS, {"tenant": tenant, "ids": ids}).all()
    state = IdentityState(
        contact_of={LeadId(row.lead_id): ContactId(row.contact_id) for row in leads},
        merged_into={
            ContactId(row.contact_id): ContactId(row.merged_into) if row.merged_into else None for row in rows
        },
        founders={ContactId(row.contact_id): LeadId(row.founding_lead_id) for row in rows},
    )
    return FoundContacts(state, {LeadId(row.lead_id): row.revision for row in leads})


def contacts_of(connection: sa.Connection, tenant: str, leads: Iterable[LeadId]) -> dict[LeadId, ContactId]:
    """Whose each of these leads is. One that is nobody's yet is not in the answer."""
    rows = connection.execute(_CONTACT_OF_LEADS, {"tenant": tenant, "leads": uuid_array(leads)})
    return {LeadId(row.lead_id): ContactId(row.contact_id) for row in rows}


def match_fields_of(connection: sa.Connection, tenant: str, leads: Iterable[LeadId]) -> dict[LeadId, MatchFields]:
    """What matching sees of each lead, whether it has a record of its own or another speaks for it."""
    return {LeadId(lead.lead_id): lead.fields for lead in identity.read_arriving(connection, tenant, leads)}


def write_change(
    connection: sa.Connection, chunk: Chunk, state: IdentityState, change: Change, *, lane: Lane = Lane.NEAR_REAL_TIME
) -> None:
    """Write what a decision changes, and let the contacts that it touches wait for their golden records in ``lane``."""
    about = {"tenant": chunk.tenant}
    _send(connection, _FOUND, _pairs("contact_id", "lead_id", change.founded), now=chunk.now, **about)
    _send(connection, _MERGE_INTO, _pairs("contact_id", "merged_into", change.merged_into), **about)
    _send(connection, _SET_FOUNDER, _pairs("contact_id", "lead_id", change.founders), **about)
    moves = _pairs("lead_id", "contact_id", change.leads)
    _send(connection, _MOVE_LEADS, moves, **about)
    _send(connection, _MOVE_RECORDS, moves, **about)
    touched = change.touched(state)
    lives = {**state.merged_into, **change.merged_into}
    living = sorted(contact for contact in touched if lives.get(contact) is None)
    records = _speak_for_themselves(connection, chunk.tenant, living)
    identity_writing.add_to_statistics(
        connection, chunk.tenant, Counter(), records=records, contacts=change.contacts_more(state)
    )
    waiting = {lives.get(contact) or contact for contact in touched}
    enqueue(
        connection,
        Stage.GOLDEN_CONTACTS,
        [Waiting(contact, chunk.tenant, lane, 1, chunk.now) for contact in sorted(waiting)],
    )


def _speak_for_themselves(connection: sa.Connection, tenant: str, contacts: list[ContactId]) -> int:
    """Give a record to leads that none of their contact's speaks for any more; says how many.

    A lead that looks like another of its contact has none of its own. Taken apart from that other, it needs one, or
    later leads would not find it.
    """
    rows = connection.execute(_RECORDED, {"tenant": tenant, "contacts": contacts})
    records = identity.read_records(connection, tenant, [row.lead_id for row in rows])
    seen = {(record.contact_id, record.fields) for record in records}
    unheard: list[Appearance] = []
    for lead in identity.read_unrecorded(connection, tenant, contacts):
        owner = lead.known_contact_id
        if owner is not None and (owner, lead.fields) not in seen:
            seen.add((owner, lead.fields))
            unheard.append(Appearance(lead.lead_id, owner, lead.fields, lead.flags))
    identity_writing.write_appearances(connection, tenant, unheard)
    return len(unheard)


def _pairs(
    key: str, value: str, pairs: Mapping[ContactId, object] | Mapping[LeadId, object]
) -> list[dict[str, str | None]]:
    return [{key: str(one), value: str(other) if other else None} for one, other in sorted(pairs.items())]


def _send(
    connection: sa.Connection, statement: sa.TextClause, rows: list[dict[str, str | None]], **given: object
) -> None:
    if rows:
        connection.execute(statement, {"rows": json.dumps(rows), **given})
