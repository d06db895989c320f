"""What an operator does with a rejected lead: fix it, have it judged again, or take it out for good.

Each call is one transaction per lead and safe to repeat: a lead that is not rejected (any more) is left alone, and the
decision says so. A fixed lead goes through the chain again under its own id, as its next revision; what was sent stays
as it was sent. Keep out: the verdict itself; see ``steps.validated_leads``.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from uuid import UUID

import msgspec
import sqlalchemy as sa

from leads_pipeline.config import Settings
from leads_pipeline.domain.lead import FIELD_NAMES
from leads_pipeline.domain.posted_lead import storage_fault
from leads_pipeline.domain.stage import Stage
from leads_pipeline.domain.validation import Rejection, ValidLead
from leads_pipeline.errors import LeadsError
from leads_pipeline.sources.port import Quarantine
from leads_pipeline.sources.stored_leads import StoredLeads
from leads_pipeline.storage.leads import read_raw_leads
from leads_pipeline.storage.pending import Waiting, enqueue
from leads_pipeline.storage.rejected import Standing, dispose, standing_of, write_correction
from leads_pipeline.telemetry import get_logger

log = get_logger(__name__)

# Canonical field → its new value; ``None`` takes it away.
Fields = Mapping[str, str | None]


class Outcome(StrEnum):
    """What became of the wish."""

    WAITS = "waits"  # to be judged as its next revision
    DISCARDED = "discarded"
    LEFT_ALONE = "left_alone"  # it is not rejected (any more)
    SET_ASIDE = "set_aside"  # the door set it aside, and nobody released it
    UNREADABLE = "unreadable"  # there is nothing to judge in its body
    UNKNOWN = "unknown"  # there is no such lead


@dataclass(frozen=True, slots=True)
class Decision:
    """What became of one lead. ``why``: in words, for whoever asked; no values."""

    lead_id: UUID
    outcome: Outcome
    why: str
    revision: int | None = None

    @property
    def changed(self) -> bool:
        return self.outcome in (Outcome.WAITS, Outcome.DISCARDED)


def fix(
    engine: sa.Engine,
    lead_id: UUID,
    fields: Fields,
    *,
    actor: str,
    reason: str | None = None,
    release: bool = False,
    now: datetime,
) -> Decision:
    """Let a lead be judged again with other values for some of its fields.

    ``release``: also one that the door set aside. Of an unreadable body nothing but ``fields`` is judged.

    Raises:
        LeadsError: a field is no lead's, or a value cannot be stored.
    """
    checked(fields)
    decision = _judge_again(engine, lead_id, fields, action="fix", actor=actor, reason=reason, release=release, now=now)
    if decision.changed:
        # Not the values.
        log.info("rejected_lead_fixed", lead_id=str(lead_id), actor=actor, fields=sorted(fields))
    return decision


def retry(
    engine: sa.Engine,
    lead_ids: Iterable[UUID],
    *,
    actor: str,
    reason: str | None = None,
    release: bool = False,
    now: datetime,
) -> list[Decision]:
    """Let leads be judged again, by today's rules and mapping. ``release``: also those that the door set aside."""
    decisions = [
        _judge_again(engine, lead_id, {}, action="retry", actor=actor, reason=reason, release=release, now=now)
        for lead_id in lead_ids
    ]
    log.info("rejected_leads_retried", actor=actor, leads=sum(decision.changed for decision in decisions))
    return decisions


def discard(engine: sa.Engine, lead_ids: Iterable[UUID], *, actor: str, reason: str, now: datetime) -> list[Decision]:
    """Give leads up: they count as discarded, and nothing judges them again."""
    decisions = [_discard(engine, lead_id, actor=actor, reason=reason, now=now) for lead_id in lead_ids]
    log.info("rejected_leads_discarded", actor=actor, leads=sum(decision.changed for decision in decisions))
    return decisions


def foresee(
    connection: sa.Connection, lead_id: UUID, fields: Fields, *, settings: Settings, release: bool = False
) -> ValidLead | Rejection | Decision:
    """What validation would say now; a ``Decision`` where it would not be asked. Writes nothing.

    Raises:
        LeadsError: a field is no lead's, or a value cannot be stored.
    """
    checked(fields)
    standing = standing_of(connection, lead_id)
    refused = _refused(lead_id, standing, fields=fields, release=release)
    if standing is None or refused is not None:
        return refused or _unknown(lead_id)
    [raw] = read_raw_leads(connection, tenant=standing.tenant, wanted={lead_id: standing.next_revision})
    corrections = [*msgspec.json.decode(raw.corrections), dict(fields)]
    wanted = replace(raw, corrections=msgspec.json.encode(corrections).decode(), released=True)
    return StoredLeads(settings, standing.tenant).judge(wanted)


def checked(fields: Fields) -> None:
    """Refuse what is no correction of a lead.

    Raises:
        LeadsError: a field is no lead's, or a value cannot be stored.
    """
    if unknown := sorted(set(fields) - set(FIELD_NAMES)):
        raise LeadsError(f"no field of a lead: {', '.join(unknown)}; its fields are {', '.join(FIELD_NAMES)}")
    if (fault := storage_fault(dict(fields))) is not None:
        raise LeadsError("; ".join(f"{item.field} {item.message}" for item in fault.fields))


def _judge_again(
    engine: sa.Engine,
    lead_id: UUID,
    fields: Fields,
    *,
    action: str,
    actor: str,
    reason: str | None,
    release: bool,
    now: datetime,
) -> Decision:
    with engine.begin() as connection:
        standing = standing_of(connection, lead_id, for_update=True)
        refused = _refused(lead_id, standing, fields=fields, release=release)
        if standing is None or refused is not None:
            return refused or _unknown(lead_id)
        revision = write_correction(
            connection,
            standing,
            action=action,
            fields=fields,
            release=standing.quarantine is not None,  # it would not come here unreleased
            actor=actor,
            reason=reason,
            now=now,
        )
        enqueue(
            connection, Stage.VALIDATED_LEADS, [Waiting(lead_id, standing.tenant, standing.lane, revision, since=now)]
        )
    return Decision(lead_id, Outcome.WAITS, f"waits to be judged as revision {revision}", revision)


def _discard(engine: sa.Engine, lead_id: UUID, *, actor: str, reason: str, now: datetime) -> Decision:
    with engine.begin() as connection:
        standing = standing_of(connection, lead_id, for_update=True)
        if standing is None:
            return _unknown(lead_id)
        if not standing.is_rejected:
            return _left_alone(standing)
        dispose(connection, standing, actor=actor, reason=reason, now=now)
    return Decision(lead_id, Outcome.DISCARDED, "discarded")


def _refused(lead_id: UUID, standing: Standing | None, *, fields: Fields, release: bool) -> Decision | None:
    """Why a lead is not judged again, or ``None``."""
    if standing is None:
        return _unknown(lead_id)
    if not standing.is_rejected:
        return _left_alone(standing)
    if standing.quarantine is None or standing.released:
        return None
    if standing.quarantine == Quarantine.UNREADABLE_BODY:
        if fields:
            return None
        why = (
            "its body cannot be read, so there is nothing to judge: look at it with `leads rejected show --values` and "
            "give its fields with `leads rejected fix --set`, or mend the sender's template and have it sent again"
        )
        return Decision(lead_id, Outcome.UNREADABLE, why)
    if release:
        return None
    return Decision(lead_id, Outcome.SET_ASIDE, f"was set aside ({standing.quarantine}): judged only with --release")


def _left_alone(standing: Standing) -> Decision:
    return Decision(standing.lead_id, Outcome.LEFT_ALONE, f"left alone: it {standing.words}")


def _unknown(lead_id: UUID) -> Decision:
    return Decision(lead_id, Outcome.UNKNOWN, "there is no such lead; `leads rejected list` shows what there is")
