"""One claimed batch: taken from the outbox with what it is to send, and settled record by record.

Each of the two is one transaction of the caller's. Keep out: when a batch may go (``gate``), and how (``courier``).
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa

from leads_pipeline.crm.port import CrmRecord, RecordVerdict, Verdict
from leads_pipeline.domain.delivery import ClaimedRow, PropertyValue, as_properties
from leads_pipeline.domain.ids import BatchId, uuid7
from leads_pipeline.domain.retry import RetryPolicy, after_verdict
from leads_pipeline.domain.stage import Operation, OutboxState
from leads_pipeline.storage.dead_letters import DeadLetter, supersede, write_dead_letters
from leads_pipeline.storage.outbox import Settlement, cancel, claim, settle, wanted_contacts
from leads_pipeline.storage.sync_batches import AttemptRow, Outcome, RequestRow, write_attempts, write_outcome


@dataclass(frozen=True, slots=True)
class ClaimedBatch:
    """What one worker holds. ``cancelled`` rows had nothing to send. ``request`` is the row that its requests share."""

    token: str
    rows: Mapping[int, ClaimedRow]
    records: tuple[CrmRecord, ...]
    cancelled: int
    request: RequestRow

    def records_of(self, operation: Operation) -> list[CrmRecord]:
        """The records that ask for ``operation``; a row's operation can have changed since it was planned."""
        return [record for record in self.records if record.operation is operation]


@dataclass(frozen=True, slots=True)
class SettledBatch:
    """What became of a batch: its sums, and how often each verdict came."""

    outcome: Outcome
    verdicts: Mapping[str, int]

    @property
    def refused(self) -> bool:
        """Whether the destination refuses our credentials or our set-up."""
        return Verdict.AUTH in self.verdicts


def claim_batch(
    connection: sa.Connection,
    outbox_ids: Sequence[int],
    *,
    tenant: str,
    destination: str,
    account: str,
    mapping: Mapping[str, str],
    batch_id: BatchId,
    runner_id: str,
    lease: timedelta,
    now: datetime,
) -> ClaimedBatch:
    """Take what is still due of ``outbox_ids``, all of ``tenant``, with the contacts as they are now."""
    token = f"{runner_id}/{batch_id}"
    claimed = claim(connection, outbox_ids, token=token, until=now + lease, now=now)
    contacts = wanted_contacts(connection, [row.contact_id for row in claimed])
    records = []
    for row in claimed:
        contact = contacts.get(row.contact_id)
        if row.operation is Operation.ARCHIVE:
            records.append(_record(row, version=row.wanted_version, properties={}))
        elif contact is not None:
            properties = as_properties(contact, mapping=mapping, delivered_fields=tuple(row.snapshot))
            records.append(_record(row, version=contact["version"], properties=properties))
    rows = {row.outbox_id: row for row in claimed}
    gone = list(rows.keys() - {record.outbox_id for record in records})
    if gone:
        cancel(connection, gone, token=token, now=now)
    request = RequestRow(
        batch_id=batch_id,
        tenant=tenant,
        destination=destination,
        account=account,
        endpoint="",
        operation="",
        records=len(records),
        runner_id=runner_id,
        sent_at=now,
    )
    attempts = [
        AttemptRow(item.outbox_id, item.contact_id, item.version, rows[item.outbox_id].attempts + 1) for item in records
    ]
    write_attempts(connection, request, attempts)
    return ClaimedBatch(token=token, rows=rows, records=tuple(records), cancelled=len(gone), request=request)


def settle_batch(
    connection: sa.Connection,
    batch: ClaimedBatch,
    answered: Iterable[RecordVerdict],
    *,
    operation: Operation,
    policy: RetryPolicy,
    jitter: Callable[[], float],
    now: datetime,
) -> SettledBatch:
    """Write what became of the batch's records of ``operation``. A record without a verdict is ambiguous."""
    records = {record.outbox_id: record for record in batch.records_of(operation)}
    verdicts = {verdict.outbox_id: verdict for verdict in answered}
    settlements: dict[int, Settlement] = {}
    for outbox_id, record in records.items():
        verdict = verdicts.get(outbox_id) or RecordVerdict(outbox_id, Verdict.AMBIGUOUS, code="NOT_REPORTED")
        attempts = batch.rows[outbox_id].attempts
        step = after_verdict(verdict, attempts=attempts, policy=policy, now=now, random=jitter)
        snapshot = dict.fromkeys(name for name, value in record.properties.items() if value)
        settlements[outbox_id] = Settlement(verdict, step, record.version, snapshot)
    settled = settle(connection, list(settlements.values()), token=batch.token, operation=operation, now=now)
    dead = [item.outbox_id for item in settled if item.state is OutboxState.DEAD]
    delivered = [i.outbox_id for i in settled if settlements[i.outbox_id].verdict.verdict is Verdict.DELIVERED]
    write_dead_letters(connection, [_dead_letter(batch, records[i], settlements[i], now=now) for i in dead])
    supersede(connection, delivered, now=now)
    outcome = Outcome(len(delivered), len(settled) - len(delivered) - len(dead), len(dead))
    given = [item.verdict for item in settlements.values()]
    write_outcome(connection, batch.request.batch_id, given, outcome, now=now)
    return SettledBatch(outcome, Counter(item.verdict for item in given))


def _record(row: ClaimedRow, *, version: int, properties: Mapping[str, PropertyValue]) -> CrmRecord:
    return CrmRecord(
        outbox_id=row.outbox_id,
        tenant=row.tenant,
        contact_id=row.contact_id,
        version=version,
        operation=row.operation,
        crm_record_id=row.crm_record_id,
        properties=properties,
    )


def _dead_letter(batch: ClaimedBatch, record: CrmRecord, settlement: Settlement, *, now: datetime) -> DeadLetter:
    return DeadLetter(
        dead_letter_id=uuid7(now),
        tenant=batch.request.tenant,
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
