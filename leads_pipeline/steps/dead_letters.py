"""What an operator does with dead letters: see what would be sent, send them again, or take them out for good.

Safe to repeat: a letter that is resolved already is left alone. Each action is written down in the transaction of what
it did. Keep out: how letters come to be (``crm.batch``), and what changes a contact (``steps.fixed_dead_letters``).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import islice
from uuid import UUID

import sqlalchemy as sa

from leads_pipeline.config import Destination, Settings
from leads_pipeline.crm.mapping import destination_mapping
from leads_pipeline.crm.sendable import unsendable_contacts
from leads_pipeline.domain.delivery import CrmRecord, PropertyValue, RecordVerdict
from leads_pipeline.domain.mapping import Fault
from leads_pipeline.domain.sending_gate import GateRule, Unsendable
from leads_pipeline.domain.stage import Operation
from leads_pipeline.errors import NotFound
from leads_pipeline.storage.dead_letter_actions import Action, DoneBy, redrive_letters, write_actions
from leads_pipeline.storage.dead_letters import (
    PAGE,
    DeadLetter,
    dispose_undelivered_leads,
    get_dead_letter,
    get_dead_letters,
    operations_of,
    resolve,
    take_out,
    unknown_letters,
)
from leads_pipeline.storage.outbox import wanted_contacts
from leads_pipeline.telemetry import get_logger

log = get_logger(__name__)

# Says of each record, by outbox id, what a destination would.
Sandbox = Callable[[Destination, Sequence[CrmRecord]], Mapping[int, RecordVerdict]]


@dataclass(frozen=True, slots=True)
class Resolution:
    """What became of one letter. ``changed`` is ``False`` when somebody, or a delivery, was quicker.

    ``is_open``: the letter is open nevertheless, as its contact waits to be sent. ``operation``: what was given up.
    """

    dead_letter_id: UUID
    changed: bool
    leads_discarded: int = 0
    is_open: bool = False
    operation: Operation = Operation.UPSERT


@dataclass(frozen=True, slots=True)
class Foreseen:
    """What a redrive would send of one letter; ``None`` where it would send nothing. The properties are personal.

    ``withheld``: what would be left out, and why; ``changed``: names of what is not as it was when it was refused.
    ``refused``: why the contact must not be sent at all. ``operation``: what is asked for; nothing is sent of a contact
    whose record is to be archived or erased.
    """

    letter: DeadLetter
    version: int | None
    properties: Mapping[str, PropertyValue] = field(default_factory=dict, repr=False)
    withheld: Mapping[str, Fault] = field(default_factory=dict)
    changed: tuple[str, ...] = ()
    refused: Unsendable | None = None
    operation: Operation = Operation.UPSERT

    @property
    def sendable(self) -> bool:
        """Whether anything would be sent."""
        return self.version is not None and self.refused is None

    @property
    def rehearsable(self) -> bool:
        """Whether a sandbox, which knows nobody, can say anything of it."""
        return self.sendable and self.operation is Operation.UPSERT


@dataclass(frozen=True, slots=True)
class Rehearsed:
    """What a sandbox said of one letter's contact; ``None`` where nothing would be sent."""

    foreseen: Foreseen
    verdict: RecordVerdict | None


def redrive(
    engine: sa.Engine, dead_letter_ids: Iterable[UUID], *, done: DoneBy, per_second: float | None = None
) -> list[Resolution]:
    """Let the letters' contacts be sent again, as they are now, with a fresh budget.

    ``per_second``: come due one after the other at this rate, each destination by itself, behind what was paced before,
    and in the batch lane. The times stand in the outbox: no process has to live on for them, and a command that was
    killed can be given again.

    Raises:
        NotFound: there is no such letter; what came before its page was redriven.
    """
    step = None if per_second is None else timedelta(seconds=1 / per_second)
    resolutions: list[Resolution] = []
    for page in _pages(dead_letter_ids):
        with engine.begin() as connection:
            _must_exist(connection, page)
            redriven = redrive_letters(connection, page, done=done, step=step)
            still_open = {item.dead_letter_id for item in get_dead_letters(connection, page) if not item.resolved_at}
        resolutions += [
            Resolution(letter_id, letter_id in redriven, is_open=letter_id in still_open) for letter_id in page
        ]
    log.info("dead_letters_redriven", actor=done.actor, letters=sum(item.changed for item in resolutions))
    return resolutions


def foresee(
    engine: sa.Engine, dead_letter_ids: Iterable[UUID], *, settings: Settings, done: DoneBy
) -> Iterator[Foreseen]:
    """What a redrive would send now. Sends nothing and changes nothing; that somebody looked is written down.

    Raises:
        NotFound: there is no such letter.
    """
    for page in _pages(dead_letter_ids):
        with engine.begin() as connection:
            found = _foreseen(connection, page, settings=settings)
            write_actions(connection, (_named(item.letter) for item in found), Action.DRY_RUN, done=done)
        yield from found


def rehearse(
    engine: sa.Engine, dead_letter_ids: Iterable[UUID], *, settings: Settings, done: DoneBy, sandbox: Sandbox
) -> Iterator[Rehearsed]:
    """Send what a redrive would send to ``sandbox`` (``crm.rehearsal.try_in_sandbox``), and tell what it said.

    The real destination is not asked and nothing of its quota is used; letters and contacts stay as they are.

    Raises:
        NotFound: there is no such letter.
        ConfigError: the destination's secret is not set.
    """
    for page in _pages(dead_letter_ids):
        with engine.connect() as connection:
            found = _foreseen(connection, page, settings=settings)
        verdicts: dict[UUID, RecordVerdict] = {}
        for name in sorted({item.letter.destination for item in found if item.rehearsable}):
            chosen = [item for item in found if item.letter.destination == name and item.rehearsable]
            said = sandbox(settings.destinations[name], [_record(item) for item in chosen])
            verdicts |= {item.letter.dead_letter_id: said[item.letter.outbox_id] for item in chosen}
        with engine.begin() as connection:
            for letter_id, verdict in verdicts.items():
                letters = [_named(item.letter) for item in found if item.letter.dead_letter_id == letter_id]
                details = {"verdict": verdict.verdict, "code": verdict.code}
                write_actions(connection, letters, Action.TO_SANDBOX, done=done, details=details)
        yield from (Rehearsed(item, verdicts.get(item.letter.dead_letter_id)) for item in found)


def discard(engine: sa.Engine, dead_letter_ids: Iterable[UUID], *, done: DoneBy) -> list[Resolution]:
    """Give up on the letters' versions of their contacts; ``done`` has a reason.

    The leads that waited for them become ``discarded``, so that they stay accounted for; leads that an earlier version
    delivered stay delivered. A new lead of the same person is delivered as usual.

    Raises:
        NotFound: there is no such letter; those before it were discarded.
    """
    resolutions = [_discard(engine, letter_id, done=done) for letter_id in dead_letter_ids]
    log.info("dead_letters_discarded", actor=done.actor, letters=sum(item.changed for item in resolutions))
    return resolutions


def _discard(engine: sa.Engine, dead_letter_id: UUID, *, done: DoneBy) -> Resolution:
    with engine.begin() as connection:
        letter = get_dead_letter(connection, dead_letter_id, for_update=True)
        if letter is None:
            raise _not_found(dead_letter_id)
        operation = operations_of(connection, [letter.outbox_id]).get(letter.outbox_id, Operation.UPSERT)
        if letter.resolved_at is not None or not take_out(connection, letter.outbox_id, now=done.at):
            return Resolution(dead_letter_id, changed=False, is_open=letter.resolved_at is None)
        leads = dispose_undelivered_leads(connection, letter, actor=done.actor, reason=done.reason or "", now=done.at)
        resolve(connection, dead_letter_id, resolution=f"discarded by {done.actor}", now=done.at)
        write_actions(
            connection, [(dead_letter_id, letter.tenant)], Action.DISCARD, done=done, details={"leads": len(leads)}
        )
    return Resolution(dead_letter_id, changed=True, leads_discarded=len(leads), operation=operation)


def _foreseen(connection: sa.Connection, page: list[UUID], *, settings: Settings) -> list[Foreseen]:
    _must_exist(connection, page)
    letters = get_dead_letters(connection, page)
    contacts = wanted_contacts(connection, [letter.contact_id for letter in letters])
    operations = operations_of(connection, [letter.outbox_id for letter in letters])
    found: list[Foreseen] = []
    for name in sorted({letter.destination for letter in letters}):
        its = [letter for letter in letters if letter.destination == name]
        destination = settings.destinations.get(name)
        if destination is None:
            found += [Foreseen(letter, None) for letter in its]
            continue
        mapping = destination_mapping(connection, name, destination)
        theirs = {item.contact_id: contacts[item.contact_id] for item in its if item.contact_id in contacts}
        gate = GateRule(**destination.gate.model_dump())
        refused = unsendable_contacts(connection, theirs, gate=gate, destination=name)
        for letter in its:
            contact = theirs.get(letter.contact_id)
            operation = operations.get(letter.outbox_id, Operation.UPSERT)
            if letter.resolved_at is None and operation is not Operation.UPSERT:
                found.append(Foreseen(letter, letter.version, operation=operation))
                continue
            if letter.resolved_at is not None or contact is None:
                found.append(Foreseen(letter, None))
                continue
            mapped = mapping.properties_of(contact)
            # An empty value clears, which is what leaving the property out asks for by now.
            changed = [
                name for name, was in letter.payload.items() if (mapped.properties.get(name) or "") != (was or "")
            ]
            why = refused.get(letter.contact_id)
            found.append(
                Foreseen(letter, contact["version"], mapped.properties, mapped.withheld, tuple(sorted(changed)), why)
            )
    place = {letter_id: number for number, letter_id in enumerate(page)}
    return sorted(found, key=lambda item: place[item.letter.dead_letter_id])


def _record(foreseen: Foreseen) -> CrmRecord:
    letter = foreseen.letter
    return CrmRecord(
        outbox_id=letter.outbox_id,
        tenant=letter.tenant,
        contact_id=letter.contact_id,
        version=foreseen.version or letter.version,
        operation=Operation.UPSERT,
        properties=foreseen.properties,
    )


def _named(letter: DeadLetter) -> tuple[UUID, str]:
    return letter.dead_letter_id, letter.tenant


def _pages(dead_letter_ids: Iterable[UUID]) -> Iterator[list[UUID]]:
    ids = iter(dict.fromkeys(dead_letter_ids) if isinstance(dead_letter_ids, list | tuple) else dead_letter_ids)
    while page := list(islice(ids, PAGE)):
        yield page


def _must_exist(connection: sa.Connection, dead_letter_ids: list[UUID]) -> None:
    if missing := unknown_letters(connection, dead_letter_ids):
        raise _not_found(missing[0])


def _not_found(dead_letter_id: UUID) -> NotFound:
    return NotFound(f"there is no dead letter {dead_letter_id}; `leads dead-letters list` shows what there is")
