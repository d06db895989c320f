"""One claimed batch: taken from the outbox with what it is to send, and settled record by record.

Each of the two is one transaction of the caller's. Keep out: when a batch may go (``gate``), and how (``courier``).
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from uuid import UUID

import sqlalchemy as sa

from leads_pipeline.crm.parts import NOT_SENT, OVERTAKEN
from leads_pipeline.crm.port import CrmRecord, RecordVerdict, Traits, Verdict
from leads_pipeline.crm.refusing import without_refused
from leads_pipeline.crm.report import Refusal
from leads_pipeline.crm.sendable import judged, subjects_of_contacts, withdrawn_consent
from leads_pipeline.domain.delivery import NOT_THERE, ClaimedRow, PropertyValue
from leads_pipeline.domain.ids import BatchId, uuid7
from leads_pipeline.domain.mapping import DestinationMapping, Fault
from leads_pipeline.domain.retry import NextStep, RetryBudgets, after_verdict
from leads_pipeline.domain.sending_gate import GateRule, Subject, Unsendable
from leads_pipeline.domain.snapshot import Snapshot, acknowledged, difference, unsure
from leads_pipeline.domain.stage import Operation, OutboxState
from leads_pipeline.storage.dead_letters import DeadLetter, supersede, write_dead_letters
from leads_pipeline.storage.destination_schemas import marks_now, note_withheld, want_again
from leads_pipeline.storage.latency import Measure, measure_deliveries, measure_latency
from leads_pipeline.storage.outbox import (
    Settlement,
    cancel,
    claim,
    doubt,
    note_touched,
    settle,
    suppress,
    unclaim,
    wanted_contacts,
)
from leads_pipeline.storage.outbox_records import forget_handed_on, hold_records, taken_over_twice
from leads_pipeline.storage.sync_batches import (
    AttemptRow,
    Outcome,
    RequestRow,
    forget_attempts,
    write_attempts,
    write_outcome,
)

# The code of a record that needed no request: the destination holds all that is wanted.
UNCHANGED = "UNCHANGED"

_MAY_HAVE_WRITTEN = frozenset({Verdict.DELIVERED, Verdict.AMBIGUOUS})


@dataclass(frozen=True, slots=True)
class ClaimedBatch:
    """What one worker holds. ``request`` is the row that its requests share.

    ``wanted`` is what the destination will hold of each record once it is delivered, by outbox id. ``marks``: how the
    properties that are ``withheld`` were mapped, and what was known of them. ``subjects``: by what those may be listed
    who are sent because they are not. ``spared`` counts the rows that need no request, and are settled, by why:
    ``cancelled`` (nothing to send), ``suppressed`` (must not be sent), ``unchanged`` (the destination holds all).
    """

    token: str
    rows: Mapping[int, ClaimedRow]
    records: tuple[CrmRecord, ...]
    wanted: Mapping[int, Mapping[str, PropertyValue]] = field(repr=False)
    withheld: Mapping[int, Mapping[str, Fault]]
    marks: Mapping[str, str]
    subjects: Mapping[UUID, tuple[str, Sequence[Subject]]]
    spared: Mapping[str, int]
    request: RequestRow

    def records_of(self, operation: Operation) -> list[CrmRecord]:
        """The records that ask for ``operation``; a row's operation can have changed since it was planned."""
        return [record for record in self.records if record.operation is operation]


@dataclass(frozen=True, slots=True)
class SettledBatch:
    """What became of a batch: its sums, how often each verdict came, and why what was not taken was refused."""

    outcome: Outcome
    verdicts: Mapping[str, int]
    refusals: Mapping[Refusal, int] = field(default_factory=dict)

    @property
    def refused(self) -> bool:
        """Whether the destination refuses our credentials or our set-up."""
        return Verdict.AUTH in self.verdicts

    @property
    def refused_with(self) -> str | None:
        """The code with which it refuses us, if it gives one."""
        return next((item.code for item in self.refusals if item.verdict == Verdict.AUTH and item.code), None)


def claim_batch(
    connection: sa.Connection,
    outbox_ids: Sequence[int],
    *,
    destination: str,
    account: str,
    mapping: DestinationMapping,
    traits: Traits,
    gate: GateRule,
    batch_id: BatchId,
    runner_id: str,
    lease: timedelta,
    owner: int | None,
    now: datetime,
    measure: Measure = measure_latency,
) -> ClaimedBatch:
    """Take what is still due of ``outbox_ids`` with the contacts as they are now; they may be of several tenants.

    A record carries what the destination is not known to hold: the difference to the last snapshot that it took, or
    everything where a request got lost since. Without a difference the row is delivered here, and nothing is sent. A
    contact that must not be sent is suppressed; to archive or to erase one is never refused. A withdrawal itself is
    sent before, and nothing beside it, where the destination has the contact and consent is mapped.
    """
    token = f"{runner_id}/{batch_id}"
    claimed = claim(connection, outbox_ids, token=token, until=now + lease, owner=owner, now=now)
    rows = {row.outbox_id: row for row in claimed}
    contacts = wanted_contacts(connection, [row.contact_id for row in claimed])
    subjects = subjects_of_contacts(connection, contacts)
    refused = judged(connection, contacts, subjects, gate=gate, destination=destination)
    can_be_told = traits.partial_updates or traits.withdrawals
    records: list[CrmRecord] = []
    unchanged: list[CrmRecord] = []
    suppressed: dict[int, Unsendable] = {}
    wanted: dict[int, Mapping[str, PropertyValue]] = {}
    withheld: dict[int, Mapping[str, Fault]] = {}
    for row in claimed:
        contact = contacts.get(row.contact_id)
        if row.operation is not Operation.UPSERT:
            records.append(_record(row, version=row.wanted_version))
        elif row.contact_id in refused:
            reason = refused[row.contact_id]
            told = withdrawn_consent(row, contacts[row.contact_id], mapping, gate=gate) if can_be_told else {}
            if told:
                version = contacts[row.contact_id]["version"]
                records.append(replace(_record(row, version=version), properties=told, complete=False, withdrawal=True))
            else:
                suppressed[row.outbox_id] = reason
        elif contact is not None:
            mapped = mapping.properties_of(contact, delivered=row.snapshot.keys())
            record = _upsert(row, mapped.properties, version=contact["version"], traits=traits)
            (unchanged if _holds_all(row, record) else records).append(record)
            wanted[row.outbox_id] = mapped.properties
            withheld[row.outbox_id] = mapped.withheld
    gone = list(rows.keys() - suppressed.keys() - {record.outbox_id for record in (*records, *unchanged)})
    if gone:
        cancel(connection, gone, token=token, now=now)
    if suppressed:
        suppress(connection, suppressed, token=token, now=now)
        supersede(connection, list(suppressed), now=now)
    note_withheld(connection, withheld, token=token)
    new = {item.outbox_id: item.properties.keys() - rows[item.outbox_id].snapshot.keys() for item in records}
    note_touched(connection, {outbox_id: names for outbox_id, names in new.items() if names}, token=token)
    request = RequestRow(
        batch_id=batch_id,
        tenant=claimed[0].tenant if len({row.tenant for row in claimed}) == 1 else None,
        destination=destination,
        account=account,
        endpoint="",
        operation="",
        records=len(records),
        runner_id=runner_id,
        sent_at=now,
    )
    attempts = [
        AttemptRow(item.outbox_id, item.tenant, item.contact_id, item.version, rows[item.outbox_id].attempts + 1)
        for item in records
    ]
    attempts += [
        AttemptRow(item.outbox_id, item.tenant, item.contact_id, item.version, 0, Verdict.DELIVERED, UNCHANGED)
        for item in unchanged
    ]
    write_attempts(connection, request, attempts)
    batch = ClaimedBatch(
        token=token,
        rows=rows,
        records=tuple(records),
        wanted=wanted,
        withheld=withheld,
        marks={name: mapping.marks.get(name, "") for faults in withheld.values() for name in faults},
        subjects={
            item.contact_id: subjects[item.contact_id]
            for item in records
            if item.operation is Operation.UPSERT and not item.withdrawal
        },
        spared={"cancelled": len(gone), "suppressed": len(suppressed), "unchanged": len(unchanged)},
        request=request,
    )
    _settle_unchanged(connection, batch, unchanged, measure=measure, now=now)
    return batch


def unclaim_batch(connection: sa.Connection, batch: ClaimedBatch, *, now: datetime) -> None:
    """Give the batch's records back as they were: nothing of it was sent. What needed no request stays settled."""
    unclaim(connection, [record.outbox_id for record in batch.records], token=batch.token, now=now)
    forget_attempts(connection, batch.request.batch_id)


def settle_batch(
    connection: sa.Connection,
    batch: ClaimedBatch,
    answered: Iterable[RecordVerdict],
    *,
    operation: Operation,
    budgets: RetryBudgets,
    jitter: Callable[[], float],
    now: datetime,
    measure: Measure = measure_latency,
) -> SettledBatch:
    """Write what became of the batch's records of ``operation``. A record without a verdict is ambiguous."""
    records = {record.outbox_id: record for record in batch.records_of(operation)}
    destination = batch.request.destination
    answered = without_refused(connection, list(records.values()), answered, destination=destination, now=now)
    verdicts = {verdict.outbox_id: verdict for verdict in answered}
    settlements: dict[int, Settlement] = {}
    for outbox_id, record in records.items():
        verdict = verdicts.get(outbox_id) or RecordVerdict(outbox_id, Verdict.AMBIGUOUS, code="NOT_REPORTED")
        row = batch.rows[outbox_id]
        step = after_verdict(
            verdict, attempts=row.attempts, failures=row.failures, budgets=budgets, now=now, random=jitter
        )
        if verdict.verdict is Verdict.DELIVERED and verdict.created and not record.complete:
            # Somebody deleted its record there, and the CRM made another one of the difference: the rest follows now.
            step = NextStep(OutboxState.WAITING, row.attempts, now, row.failures)
        elif verdict.verdict is Verdict.DELIVERED and record.withdrawal:
            step = NextStep(OutboxState.WAITING, 0, now)  # for the gate, which has nothing more to let through
        snapshot = _snapshot_after(verdict, step, record, batch)
        taken_over = row.taken_over if record.withdrawal else _taken_over_after(verdict, row, operation)
        if record.withdrawal and verdict.crm_record_id == row.claims_record:
            verdict = replace(verdict, crm_record_id=None)  # it is still to be taken over
        touched = record.properties.keys() if verdict.verdict in _MAY_HAVE_WRITTEN else None
        settlements[outbox_id] = Settlement(verdict, step, record.version, snapshot, taken_over, touched)
    linked = {i: item.verdict.crm_record_id for i, item in settlements.items() if item.verdict.linked}
    taken = {outbox_id: record for outbox_id, record in linked.items() if record is not None}
    hold_records(connection, taken.values(), destination=destination)
    settled = settle(connection, list(settlements.values()), token=batch.token, operation=operation, now=now)
    held = {item.outbox_id for item in settled}
    lost = [i for i, item in settlements.items() if i not in held and item.verdict.code not in (NOT_SENT, OVERTAKEN)]
    # Of two that took over one record one has lost it: each is sent by its key, and the loser told whose it is.
    doubt(connection, [*lost, *taken_over_twice(connection, taken, destination=destination)], now=now)
    dead = [item.outbox_id for item in settled if item.state is OutboxState.DEAD]
    delivered = [i.outbox_id for i in settled if settlements[i.outbox_id].step.state is OutboxState.DELIVERED]
    write_dead_letters(connection, [_dead_letter(batch, records[i], settlements[i], now=now) for i in dead])
    supersede(connection, delivered, now=now)
    measure_deliveries(connection, measure, [batch.rows[i] for i in delivered], destination=destination, now=now)
    _want_mended(connection, batch, delivered, now=now)
    claimed = (batch.rows[outbox_id].claims_record for outbox_id in delivered)
    forget_handed_on(connection, [item for item in claimed if item], destination=destination)
    outcome = Outcome(len(delivered), len(settled) - len(delivered) - len(dead), len(dead))
    given = [item.verdict for item in settlements.values()]
    write_outcome(connection, batch.request.batch_id, given, outcome, now=now)
    refusals = Counter(
        Refusal(item.state is OutboxState.DEAD, str(said.verdict), said.code or "")
        for item in settled
        if (said := settlements[item.outbox_id].verdict).verdict is not Verdict.DELIVERED
    )
    return SettledBatch(outcome, Counter(item.verdict for item in given), refusals)


def _record(row: ClaimedRow, *, version: int) -> CrmRecord:
    # Whose record it is, is unknown of what older versions delivered. A duplicate that stays can be merged there; a
    # person's record that was taken away may be missed too late. What was never delivered was taken over by nobody.
    taken_over = row.taken_over
    if taken_over is None and row.operation is not Operation.UPSERT:
        taken_over = row.delivered_version is not None
    return CrmRecord(
        outbox_id=row.outbox_id,
        tenant=row.tenant,
        contact_id=row.contact_id,
        version=version,
        operation=row.operation,
        crm_record_id=row.crm_record_id,
        claims_record=row.claims_record,
        taken_over=taken_over,
        former_records=row.former_records,
    )


def _upsert(row: ClaimedRow, wanted: Mapping[str, PropertyValue], *, version: int, traits: Traits) -> CrmRecord:
    known = {} if row.delivered_version is None else row.snapshot
    if row.uncertain or row.claims_record:
        known = unsure({}, known)
    left = difference(wanted, known, contact_id=row.contact_id, always=traits.always_sent)
    # Nothing is known to be there, or the vendor takes a record whole only.
    if not known or (left and not traits.partial_updates):
        left = dict(wanted)
    return replace(_record(row, version=version), properties=left, complete=len(left) == len(wanted))


def _holds_all(row: ClaimedRow, record: CrmRecord) -> bool:
    """Whether the destination holds all that is wanted; not so where it never took the contact, or archived it."""
    taken = bool(row.snapshot) and row.delivered_version is not None and row.claims_record is None
    return taken and not record.properties


def _settle_unchanged(
    connection: sa.Connection,
    batch: ClaimedBatch,
    unchanged: Sequence[CrmRecord],
    *,
    measure: Measure,
    now: datetime,
) -> None:
    if not unchanged:
        return
    done = NextStep(OutboxState.DELIVERED, 0, now)
    settlements = [
        Settlement(
            RecordVerdict(item.outbox_id, Verdict.DELIVERED, code=UNCHANGED),
            done,
            item.version,
            _all_acknowledged(item, batch),
            item.taken_over,
        )
        for item in unchanged
    ]
    settle(connection, settlements, token=batch.token, operation=Operation.UPSERT, now=now)
    supersede(connection, [item.outbox_id for item in unchanged], now=now)
    rows = [batch.rows[item.outbox_id] for item in unchanged]
    measure_deliveries(connection, measure, rows, destination=batch.request.destination, now=now)
    _want_mended(connection, batch, [item.outbox_id for item in unchanged], now=now)


def _want_mended(connection: sa.Connection, batch: ClaimedBatch, delivered: Sequence[int], *, now: datetime) -> None:
    """Let those be sent again of which something was withheld that has been mended since they were claimed.

    Whoever mended it has wanted those that were delivered already; these were under way.
    """
    lacking = {outbox_id: faults for outbox_id in delivered if (faults := batch.withheld.get(outbox_id))}
    if not lacking:
        return
    marks = marks_now(connection, batch.request.destination)
    mended = {name for name, mark in batch.marks.items() if marks.get(name, "") != mark}
    want_again(connection, [item for item, faults in lacking.items() if faults.keys() & mended], now=now)


def _snapshot_after(verdict: RecordVerdict, step: NextStep, record: CrmRecord, batch: ClaimedBatch) -> Snapshot:
    """What is known of the destination once ``verdict`` is there."""
    before = batch.rows[record.outbox_id].snapshot
    if step.state is OutboxState.DELIVERED:
        return _all_acknowledged(record, batch)
    if verdict.verdict is Verdict.DELIVERED and record.withdrawal and verdict.code == NOT_THERE:
        return {}
    if verdict.verdict is Verdict.DELIVERED and record.withdrawal and not verdict.created:
        kept = {name: known for name, known in before.items() if name not in record.properties}
        return kept | acknowledged(record.contact_id, record.properties)
    if verdict.verdict is Verdict.DELIVERED:  # a new record of a part of it
        return unsure({}, record.properties)
    return unsure(before, record.properties) if verdict.verdict is Verdict.AMBIGUOUS else before


def _all_acknowledged(record: CrmRecord, batch: ClaimedBatch) -> Snapshot:
    """All that is wanted is there, beside what is withheld now and was there before."""
    before, withheld = batch.rows[record.outbox_id].snapshot, batch.withheld.get(record.outbox_id, {})
    kept = {name: known for name, known in before.items() if name in withheld}
    return kept | acknowledged(record.contact_id, batch.wanted.get(record.outbox_id, {}))


def _taken_over_after(verdict: RecordVerdict, row: ClaimedRow, operation: Operation) -> bool | None:
    """Whether people made the record that the contact has after ``verdict``.

    A record that came to be under our key is ours, also by a request that got lost: one that was to take over a record
    would have left a note before.
    """
    if verdict.verdict is not Verdict.DELIVERED:
        return row.taken_over
    if operation is not Operation.UPSERT:
        return None
    if verdict.linked:
        return True
    if row.claims_record and verdict.crm_record_id == row.claims_record:
        # Handed on: ours are archived, unless the survivor had none; then it was noted whose the record is.
        return True if row.crm_record_id else row.taken_over
    made_now = verdict.created if verdict.created is not None else not row.snapshot and not row.uncertain
    return False if made_now or (row.taken_over is None and row.delivered_version is None) else row.taken_over


def _dead_letter(batch: ClaimedBatch, record: CrmRecord, settlement: Settlement, *, now: datetime) -> DeadLetter:
    return DeadLetter(
        dead_letter_id=uuid7(now),
        tenant=record.tenant,
        contact_id=record.contact_id,
        destination=batch.request.destination,
        outbox_id=record.outbox_id,
        version=settlement.version,
        reason=settlement.verdict.verdict,
        code=settlement.verdict.code,
        attempts=settlement.step.attempts,
        died_at=now,
        payload=record.properties,
        explanation=settlement.verdict.explanation,
    )
