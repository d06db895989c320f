"""Decisions of ``merge_log``: read to be told or taken back, and written for those that persons take."""

from collections.abc import Iterable, Mapping
from uuid import UUID

import msgspec
import sqlalchemy as sa

from leads_pipeline.domain.identity_log import Decision, DecisionKind, Inverse, decision_of
from leads_pipeline.domain.ids import ContactId, LeadId, uuid7
from leads_pipeline.domain.resolution import Reason
from leads_pipeline.domain.stage import Chunk
from leads_pipeline.storage.golden import uuid_array

_COLUMNS = (
    "merge_id, number, kind, contact_id, other_contact_id, lead_ids, inverse, undoes, actor, reason, match_weight, "
    "evidence, compared_lead_id, compared_with_lead_id, review_weight, merge_weight, merged_at"
)

_TENANT_AND_ROW = sa.text(f"select tenant, {_COLUMNS} from merge_log where merge_id = :merge_id")  # noqa: S608

# Two look-ups by index rather than one condition over both columns.
_ABOUT = sa.text(
    f"""
    select {_COLUMNS} from merge_log
    where tenant = :tenant and contact_id = any(cast(:contacts as uuid[]))
    union
    select {_COLUMNS} from merge_log
    where tenant = :tenant and other_contact_id = any(cast(:contacts as uuid[]))
    order by number
    """  # noqa: S608 - names of columns
)

_INSERT = sa.text(
    """
    insert into merge_log (
        merge_id, tenant, kind, contact_id, other_contact_id, lead_ids, inverse, undoes, actor, reason, match_weight,
        evidence, compared_lead_id, compared_with_lead_id, review_weight, merge_weight, batch_id, runner_id, merged_at
    )
    values (
        :merge_id, :tenant, :kind, :contact_id, :other_contact_id, cast(:lead_ids as jsonb), cast(:inverse as jsonb),
        :undoes, :actor, :reason, :match_weight, cast(:evidence as jsonb), :compared_lead_id, :compared_with_lead_id,
        :review_weight, :merge_weight, :batch_id, :runner_id, :now
    )
    """
)


def find_decision(connection: sa.Connection, merge_id: UUID) -> tuple[str, Decision] | None:
    """A decision and its tenant."""
    row = connection.execute(_TENANT_AND_ROW, {"merge_id": merge_id}).mappings().one_or_none()
    return None if row is None else (row["tenant"], decision_of(dict(row)))


def decisions_about(connection: sa.Connection, tenant: str, contacts: Iterable[ContactId]) -> list[Decision]:
    """Every decision that names one of these contacts, in order."""
    rows = connection.execute(_ABOUT, {"tenant": tenant, "contacts": uuid_array(contacts)}).mappings()
    return [decision_of(dict(row)) for row in rows]


def decisions_after(connection: sa.Connection, tenant: str, decision: Decision) -> list[Decision]:
    """Every decision about the contacts that this one names, and about those that its later ones lead to, in order."""
    known: dict[UUID, Decision] = {}
    asked: set[ContactId] = set()
    contacts = set(decision.named)
    while contacts:
        asked |= contacts
        found = decisions_about(connection, tenant, contacts)
        known.update((item.merge_id, item) for item in found)
        contacts = {name for item in found if item.number > decision.number for name in item.named} - asked
    return sorted(known.values(), key=lambda item: item.number)


def write_decision(
    connection: sa.Connection,
    chunk: Chunk,
    *,
    merge_id: UUID,
    kind: DecisionKind,
    contact: ContactId,
    other: ContactId | None,
    moved: Mapping[LeadId, ContactId],
    revisions: Mapping[LeadId, int],
    inverse: Inverse,
    why: Reason,
    reason: str | None,
    undoes: UUID | None = None,
) -> None:
    """Add a decision to the log. ``reason`` is what a person said of it."""
    compared, compared_with = why.leads or (None, None)
    review_weight, merge_weight = why.cut_offs or (None, None)
    lead_ids = [
        {"lead_id": str(lead), "revision": revisions.get(lead, 1), "contact_id": str(owner)}
        for lead, owner in sorted(moved.items())
    ]
    connection.execute(
        _INSERT,
        {
            "merge_id": merge_id,
            "tenant": chunk.tenant,
            "kind": kind,
            "contact_id": contact,
            "other_contact_id": other,
            "lead_ids": msgspec.json.encode(lead_ids).decode(),
            "inverse": msgspec.json.encode(inverse.as_json(revisions)).decode(),
            "undoes": undoes,
            "actor": why.actor,
            "reason": reason,
            "match_weight": why.match_weight,
            "evidence": msgspec.json.encode(dict(why.evidence)).decode(),
            "compared_lead_id": compared,
            "compared_with_lead_id": compared_with,
            "review_weight": review_weight,
            "merge_weight": merge_weight,
            "batch_id": chunk.batch_id,
            "runner_id": chunk.runner_id,
            "now": chunk.now,
        },
    )


def new_decision_id(chunk: Chunk) -> UUID:
    return uuid7(chunk.now)
