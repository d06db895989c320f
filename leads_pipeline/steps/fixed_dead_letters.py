"""A dead letter, mended: the leads that its contact's refused values came from, or the mapping that made them unfit.

Corrected leads are judged again; the contact's next version is then wanted and sent by itself, and closes the letter.
What was sent to us stays as it was sent. Another mapping holds for every contact of the destination from then
on. Keep out: sending a letter again as it is; see ``steps.dead_letters``.
"""

import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from uuid import UUID

import sqlalchemy as sa

from leads_pipeline.config import Settings
from leads_pipeline.crm.mapping import destination_mapping, rule_as_json
from leads_pipeline.domain.lead import FIELD_NAMES
from leads_pipeline.domain.mapping import MappingRule, mapping_faults
from leads_pipeline.domain.posted_lead import storage_fault
from leads_pipeline.domain.stage import Stage
from leads_pipeline.domain.survivorship import GOLDEN_FIELDS, GROUPS
from leads_pipeline.domain.validation import Rejection
from leads_pipeline.errors import LeadsError, NotFound
from leads_pipeline.sources.stored_leads import StoredLeads
from leads_pipeline.storage.contact_origins import leads_behind
from leads_pipeline.storage.dead_letter_actions import Action, DoneBy, redrive_letters, write_actions
from leads_pipeline.storage.dead_letters import get_dead_letter
from leads_pipeline.storage.leads import read_raw_leads
from leads_pipeline.storage.mapping_overrides import MappingOverride, write_override
from leads_pipeline.storage.pending import Waiting, enqueue
from leads_pipeline.storage.rejected import Standing, standing_of, write_correction
from leads_pipeline.telemetry import get_logger

log = get_logger(__name__)

# Fields that a lead has and a golden contact takes from it.
FIXABLE_FIELDS: tuple[str, ...] = tuple(name for name in FIELD_NAMES if name in GOLDEN_FIELDS)

_BESIDE = {name: group.fields for group in GROUPS for name in group.fields}


@dataclass(frozen=True, slots=True)
class Fixed:
    """What a fix did. ``leads`` wait to be judged again; ``already``: the letter was resolved, and nothing was done."""

    dead_letter_id: UUID
    leads: tuple[UUID, ...] = ()
    already: bool = False


def fix(
    engine: sa.Engine, dead_letter_id: UUID, fields: Mapping[str, str | None], *, settings: Settings, done: DoneBy
) -> Fixed:
    """Correct these fields of the letter's contact; a field of ``None`` is taken away.

    Every lead of the contact that says the refused value is corrected. Validation is asked first: nothing is written
    if it would reject one of them.

    Raises:
        NotFound: there is no such letter, or its contact is no more.
        LeadsError: a field cannot be corrected, or validation would not take the value.
    """
    _check(fields)
    with engine.begin() as connection:
        letter = get_dead_letter(connection, dead_letter_id)
        if letter is None:
            raise NotFound(f"there is no dead letter {dead_letter_id}; `leads dead-letters list` shows what there is")
        if letter.resolved_at is not None:
            return Fixed(dead_letter_id, already=True)
        wanted: dict[UUID, dict[str, str | None]] = defaultdict(dict)
        for name, value in fields.items():
            for lead_id in leads_behind(connection, letter.contact_id, name, beside=_BESIDE[name]):
                wanted[lead_id][name] = value
        if not wanted:
            raise NotFound(f"the contact of dead letter {dead_letter_id} is no more: it was merged into another")
        judge = StoredLeads(settings, letter.tenant)
        for lead_id, corrected in sorted(wanted.items()):
            _correct(connection, lead_id, corrected, judge=judge, done=done)
        write_actions(
            connection,
            [(dead_letter_id, letter.tenant)],
            Action.FIX,
            done=done,
            details={"fields": sorted(fields), "leads": [str(lead_id) for lead_id in sorted(wanted)]},
        )
    log.info("dead_letter_fixed", dead_letter_id=str(dead_letter_id), actor=done.actor, fields=sorted(fields))
    return Fixed(dead_letter_id, tuple(sorted(wanted)))


def fix_mapping(
    engine: sa.Engine, dead_letter_id: UUID, name: str, rule: MappingRule | None, *, settings: Settings, done: DoneBy
) -> Fixed:
    """Have the property ``name`` filled in by ``rule``, or by nothing, for every contact of the letter's destination.

    The letter's contact is sent again; other letters wait to be redriven, and contacts that are delivered already get
    it with their next change.

    Raises:
        NotFound: there is no such letter.
        LeadsError: the destination is not in leads.yaml, or does not take what the rule says.
    """
    with engine.begin() as connection:
        letter = get_dead_letter(connection, dead_letter_id)
        if letter is None:
            raise NotFound(f"there is no dead letter {dead_letter_id}; `leads dead-letters list` shows what there is")
        if letter.resolved_at is not None:
            return Fixed(dead_letter_id, already=True)
        destination = settings.destinations.get(letter.destination)
        if destination is None:
            raise LeadsError(f"leads.yaml has no destination {letter.destination} any more: discard the letter")
        if name == destination.key():
            raise LeadsError(f"{name} holds our contact id: without it records could not be found again")
        schema = destination_mapping(connection, letter.destination, destination).schema
        faults = [] if schema is None else mapping_faults([] if rule is None else [rule], schema)
        if own := [fault for fault in faults if fault.name == name]:
            raise LeadsError(f"{letter.destination} would refuse {name} ({own[0].fault}): {own[0].advice}")
        override = MappingOverride(name, rule_as_json(rule), done.actor, done.reason, done.at)
        write_override(connection, letter.destination, override)
        redrive_letters(connection, [dead_letter_id], done=done, step=None)
        letters = [(dead_letter_id, letter.tenant)]
        write_actions(connection, letters, Action.FIX, done=done, details={"mapping": [name]})
    log.info("mapping_fixed", destination=letter.destination, property=name, actor=done.actor)
    return Fixed(dead_letter_id)


def _check(fields: Mapping[str, str | None]) -> None:
    if unknown := sorted(set(fields) - set(FIXABLE_FIELDS)):
        raise LeadsError(f"no field of a contact: {', '.join(unknown)}; its fields are {', '.join(FIXABLE_FIELDS)}")
    if (fault := storage_fault(dict(fields))) is not None:
        raise LeadsError("; ".join(f"{item.field} {item.message}" for item in fault.fields))


def _correct(
    connection: sa.Connection, lead_id: UUID, fields: Mapping[str, str | None], *, judge: StoredLeads, done: DoneBy
) -> None:
    standing = standing_of(connection, lead_id, for_update=True)
    if standing is None or standing.disposition is not None:
        words = standing.words if standing else "is not stored any more"
        raise LeadsError(f"lead {lead_id}, which the value came from, {words}: a new lead of the person mends it")
    _must_pass(connection, standing, fields, judge=judge)
    revision = write_correction(
        connection,
        standing,
        action="fix",
        fields=fields,
        release=standing.quarantine is not None,  # it was released before, or it would be no contact's
        actor=done.actor,
        reason=done.reason,
        now=done.at,
    )
    waiting = Waiting(lead_id, standing.tenant, standing.lane, revision, since=done.at)
    enqueue(connection, Stage.VALIDATED_LEADS, [waiting])


def _must_pass(
    connection: sa.Connection, standing: Standing, fields: Mapping[str, str | None], *, judge: StoredLeads
) -> None:
    """A lead that is rejected on its way to mending its contact would leave the contact as it is, without a lead."""
    wanted = {standing.lead_id: standing.next_revision}
    [raw] = read_raw_leads(connection, tenant=standing.tenant, wanted=wanted)
    corrections = json.dumps([*json.loads(raw.corrections), dict(fields)])
    verdict = judge.judge(replace(raw, corrections=corrections, released=True))
    if isinstance(verdict, Rejection):
        words = "; ".join(f"{item['rule']} ({item['field']}): {item['remedy']}" for item in _reasons(verdict))
        raise LeadsError(f"validation would reject lead {standing.lead_id} with these values: {words}")
    if dropped := [name for name, value in fields.items() if value is not None and getattr(verdict, name) is None]:
        words = ", ".join(dropped)
        raise LeadsError(f"validation would drop the new value of {words}: give one that docs/validation.md allows")


def _reasons(verdict: Rejection) -> list[dict[str, str]]:
    reasons = [finding.as_reason() for finding in verdict.reasons]
    return reasons[1:] or reasons  # what would save the lead; the verdict itself where there is nothing else to say
