"""Who is who, as identity resolution writes it: one JSON-array parameter for each table and chunk.

The caller holds ``identity.lock_identity``, so these rows have no other writer. The order matters in one place: a merge
moves all that belongs to the contact that goes, so it comes after the rows of this chunk.
"""

import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from leads_pipeline.domain.ids import ContactId, uuid7
from leads_pipeline.domain.match_keys import MatchFields, match_keys
from leads_pipeline.domain.resolution import Founding, Merge, Reason, Review
from leads_pipeline.domain.stage import Chunk, Lane
from leads_pipeline.storage.identity import MATCH_FIELDS

_FIELD_TYPES = {"date_of_birth": "date"}
_FIELD_LIST = ", ".join(MATCH_FIELDS)

_INSERT_CONTACTS = sa.text(
    """
    insert into contacts (contact_id, tenant, founding_lead_id, created_at)
    select t.contact_id, :tenant, t.lead_id, :now
    from jsonb_to_recordset(cast(:rows as jsonb)) as t(contact_id uuid, lead_id uuid)
    """
)

_UPSERT_DEDUPED = sa.text(
    """
    insert into deduped_leads (
        lead_id, revision, tenant, sync_lane, contact_id, golden_version, decision, batch_id, runner_id, deduped_at
    )
    select t.lead_id, t.revision, :tenant, t.sync_lane, t.contact_id, null, t.decision, :batch_id, :runner_id, :now
    from jsonb_to_recordset(cast(:rows as jsonb)) as t(
        lead_id uuid, revision integer, sync_lane text, contact_id uuid, decision text
    )
    on conflict (lead_id) do update set
        revision = excluded.revision, sync_lane = excluded.sync_lane, contact_id = excluded.contact_id,
        golden_version = null, batch_id = excluded.batch_id,
        decision = case when excluded.decision = 'new' then deduped_leads.decision else excluded.decision end,
        runner_id = excluded.runner_id, deduped_at = excluded.deduped_at
    where deduped_leads.revision < excluded.revision
    """
)

_INSERT_RECORDS = sa.text(
    f"""
    insert into match_records (lead_id, tenant, contact_id, {_FIELD_LIST}, flags)
    select t.lead_id, :tenant, t.contact_id, {", ".join(f"t.{name}" for name in MATCH_FIELDS)}, t.flags
    from jsonb_to_recordset(cast(:rows as jsonb)) as t(
        lead_id uuid, contact_id uuid, flags jsonb,
        {", ".join(f"{name} {_FIELD_TYPES.get(name, 'text')}" for name in MATCH_FIELDS)}
    )
    """  # noqa: S608 - names of columns
)

_INSERT_KEYS = sa.text(
    """
    insert into match_keys (tenant, key_hash, lead_id, kind)
    select :tenant, t.key_hash, t.lead_id, t.kind
    from jsonb_to_recordset(cast(:rows as jsonb)) as t(key_hash bigint, lead_id uuid, kind text)
    on conflict do nothing
    """
)

_DELETE_RECORDS = sa.text("delete from match_records where lead_id = any(:leads)")
_DELETE_KEYS = sa.text("delete from match_keys where lead_id = any(:leads)")

_ADD_FREQUENCIES = sa.text(
    """
    insert into term_frequencies (tenant, field, term, occurrences)
    select :tenant, t.field, t.term, t.added
    from jsonb_to_recordset(cast(:rows as jsonb)) as t(field text, term text, added integer)
    on conflict (tenant, field, term) do update set
        occurrences = term_frequencies.occurrences + excluded.occurrences
    """
)

_ADD_SIZE = sa.text(
    """
    insert into identity_sizes (tenant, records, contacts) values (:tenant, :records, :contacts)
    on conflict (tenant) do update set
        records = identity_sizes.records + excluded.records, contacts = identity_sizes.contacts + excluded.contacts
    """
)

# Chains are flattened: whatever was merged into the contact that goes now points to the survivor as well.
_MERGE_CONTACTS = sa.text(
    """
    update contacts set merged_into = t.survivor
    from jsonb_to_recordset(cast(:rows as jsonb)) as t(other uuid, survivor uuid)
    where contacts.contact_id = t.other or contacts.merged_into = t.other
    """
)
_MOVE_LEADS = sa.text(
    """
    update deduped_leads d set contact_id = t.survivor, golden_version = null
    from jsonb_to_recordset(cast(:rows as jsonb)) as t(other uuid, survivor uuid)
    where d.contact_id = t.other
    returning t.other, d.lead_id, d.revision
    """
)
_MOVE_RECORDS = sa.text(
    """
    update match_records m set contact_id = t.survivor
    from jsonb_to_recordset(cast(:rows as jsonb)) as t(other uuid, survivor uuid)
    where m.contact_id = t.other
    """
)

_INSERT_MERGE_LOG = sa.text(
    """
    insert into merge_log (
        merge_id, tenant, kind, contact_id, other_contact_id, lead_ids, actor, match_weight, evidence, batch_id,
        runner_id, merged_at
    )
    select t.merge_id, :tenant, t.kind, t.contact_id, t.other_contact_id, t.lead_ids, t.actor, t.match_weight,
        t.evidence, :batch_id, :runner_id, :now
    from jsonb_to_recordset(cast(:rows as jsonb)) as t(
        merge_id uuid, kind text, contact_id uuid, other_contact_id uuid, lead_ids jsonb, actor text,
        match_weight double precision, evidence jsonb
    )
    """
)

_INSERT_REVIEWS = sa.text(
    """
    insert into match_reviews (
        review_id, tenant, lead_id, other_lead_id, match_weight, evidence, state, batch_id, runner_id, opened_at
    )
    select t.review_id, :tenant, t.lead_id, t.other_lead_id, t.match_weight, t.evidence, 'open', :batch_id, :runner_id,
        :now
    from jsonb_to_recordset(cast(:rows as jsonb)) as t(
        review_id uuid, lead_id uuid, other_lead_id uuid, match_weight double precision, evidence jsonb
    )
    on conflict (lead_id, other_lead_id) do nothing
    """
)


@dataclass(frozen=True, slots=True)
class Assigned:
    """A lead and the contact that it now belongs to. ``reason`` is missing where it founded the contact."""

    lead_id: UUID
    revision: int
    sync_lane: Lane
    contact_id: ContactId
    decision: str
    reason: Reason | None


@dataclass(frozen=True, slots=True)
class Appearance:
    """A record to be found by later leads."""

    lead_id: UUID
    contact_id: ContactId
    fields: MatchFields
    flags: Sequence[str]


def write_contacts(connection: sa.Connection, chunk: Chunk, foundings: Sequence[Founding]) -> None:
    rows = [{"contact_id": str(item.contact_id), "lead_id": str(item.lead_id)} for item in foundings]
    _send(connection, _INSERT_CONTACTS, rows, tenant=chunk.tenant, now=chunk.now)


def write_assignments(connection: sa.Connection, chunk: Chunk, leads: Sequence[Assigned]) -> None:
    """Say whose each lead is, and why where it joined somebody. A revision that is known already stays as it is."""
    rows = [
        {
            "lead_id": str(lead.lead_id),
            "revision": lead.revision,
            "sync_lane": lead.sync_lane,
            "contact_id": str(lead.contact_id),
            "decision": lead.decision,
        }
        for lead in leads
    ]
    _send(connection, _UPSERT_DEDUPED, rows, **_stamp(chunk))
    joins = [
        _log_row(chunk, "join", lead.contact_id, None, [_lead_of(lead.lead_id, lead.revision)], lead.reason)
        for lead in leads
        if lead.reason is not None
    ]
    _send(connection, _INSERT_MERGE_LOG, joins, **_stamp(chunk))


def write_merges(connection: sa.Connection, chunk: Chunk, merges: Sequence[Merge]) -> None:
    """Merge contacts: their leads, their records and whatever was merged into them go to the survivor."""
    if not merges:
        return
    pairs = [{"other": str(merge.other), "survivor": str(merge.survivor)} for merge in merges]
    _send(connection, _MERGE_CONTACTS, pairs)
    moved: dict[UUID, list[dict[str, Any]]] = {}
    for row in connection.execute(_MOVE_LEADS, {"rows": json.dumps(pairs)}):
        moved.setdefault(row.other, []).append(_lead_of(row.lead_id, row.revision))
    _send(connection, _MOVE_RECORDS, pairs)
    log = [
        _log_row(chunk, "merge", merge.survivor, merge.other, moved.get(merge.other, []), merge.reason)
        for merge in merges
    ]
    _send(connection, _INSERT_MERGE_LOG, log, **_stamp(chunk))


def write_reviews(connection: sa.Connection, chunk: Chunk, reviews: Sequence[Review]) -> None:
    """Put pairs before a person; one that was asked before is not asked again."""
    rows = [
        {
            "review_id": str(uuid7(chunk.now)),
            "lead_id": str(review.lead_id),
            "other_lead_id": str(review.other_lead_id),
            "match_weight": review.match_weight,
            "evidence": dict(review.evidence),
        }
        for review in reviews
    ]
    _send(connection, _INSERT_REVIEWS, rows, **_stamp(chunk))


def write_appearances(connection: sa.Connection, tenant: str, appearances: Sequence[Appearance]) -> None:
    """Make records findable."""
    records = [
        {
            "lead_id": str(item.lead_id),
            "contact_id": str(item.contact_id),
            "flags": list(item.flags),
            **{name: _as_json(getattr(item.fields, name)) for name in MATCH_FIELDS},
        }
        for item in appearances
    ]
    keys = [
        {"key_hash": key.key_hash, "lead_id": str(item.lead_id), "kind": key.kind}
        for item in appearances
        for key in match_keys(item.fields)
    ]
    _send(connection, _INSERT_RECORDS, records, tenant=tenant)
    _send(connection, _INSERT_KEYS, keys, tenant=tenant)


def remove_appearances(connection: sa.Connection, leads: Collection[UUID]) -> int:
    """Forget the records of leads that were corrected; how many there were is answered."""
    connection.execute(_DELETE_KEYS, {"leads": list(leads)})
    return connection.execute(_DELETE_RECORDS, {"leads": list(leads)}).rowcount


def add_to_statistics(
    connection: sa.Connection, tenant: str, terms: Counter[tuple[str, str]], *, records: int, contacts: int
) -> None:
    """Count up how many contacts have each of ``terms`` (field, value), and the tenant's sizes.

    Frequencies are never counted down: a merge or a correction leaves a value counted once too often, which only makes
    the next agreement on it weigh a little less.
    """
    rows = [{"field": name, "term": term, "added": added} for (name, term), added in terms.items()]
    _send(connection, _ADD_FREQUENCIES, rows, tenant=tenant)
    connection.execute(_ADD_SIZE, {"tenant": tenant, "records": records, "contacts": contacts})


def _log_row(
    chunk: Chunk, kind: str, contact: ContactId, other: ContactId | None, leads: list[dict[str, Any]], reason: Reason
) -> dict[str, Any]:
    return {
        "merge_id": str(uuid7(chunk.now)),
        "kind": kind,
        "contact_id": str(contact),
        "other_contact_id": str(other) if other else None,
        "lead_ids": leads,
        "actor": reason.actor,
        "match_weight": reason.match_weight,
        "evidence": dict(reason.evidence),
    }


def _lead_of(lead_id: UUID, revision: int) -> dict[str, Any]:
    return {"lead_id": str(lead_id), "revision": revision}


def _stamp(chunk: Chunk) -> Mapping[str, Any]:
    return {"tenant": chunk.tenant, "batch_id": chunk.batch_id, "runner_id": chunk.runner_id, "now": chunk.now}


def _send(connection: sa.Connection, statement: sa.TextClause, rows: list[dict[str, Any]], **values: Any) -> None:
    if rows:
        connection.execute(statement, {"rows": json.dumps(rows), **values})


def _as_json(value: object) -> object:
    return value.isoformat() if isinstance(value, date) else value
