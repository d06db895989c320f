"""Golden contacts to the CRMs: plan what is due, then deliver it inside every account's limits.

A plan claims nothing, so that one which is never carried out costs nothing. Delivery claims one batch at a time, once
its grant is there; sends the contact as it is now, never as it was; and settles every record on its own verdict.
Killed anywhere, it leaves claims that run out: what was sent is sent again, by our own key, which changes nothing.
"""

import random
import threading
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from leads_pipeline.clock import Clock
from leads_pipeline.config import DestinationSettings, Settings
from leads_pipeline.crm.clients import build_clients
from leads_pipeline.crm.courier import BatchCourier, Tally, lease_for
from leads_pipeline.crm.gate import Entry, Gate
from leads_pipeline.crm.limiter import Limiter, WaitReason, park_destination, parked_destinations
from leads_pipeline.crm.port import CrmClient, CrmRecord, Quota, RecordVerdict, Verdict
from leads_pipeline.domain.delivery import ClaimedRow, as_properties
from leads_pipeline.domain.ids import BatchId, uuid7
from leads_pipeline.domain.retry import AUTH_PAUSE, RetryPolicy, after_verdict
from leads_pipeline.domain.stage import Lane, Operation, OutboxState
from leads_pipeline.errors import CrmParked
from leads_pipeline.storage.dead_letters import DeadLetter, supersede, write_dead_letters
from leads_pipeline.storage.outbox import (
    DueRow,
    Settlement,
    cancel,
    claim,
    due_rows,
    read_rows,
    settle,
    wanted_contacts,
)
from leads_pipeline.storage.sync_batches import AttemptRow, Outcome, RequestRow, write_attempts, write_outcome
from leads_pipeline.telemetry import get_logger

log = get_logger(__name__)

AUTH = "auth"


@dataclass(frozen=True, slots=True)
class SyncPlan:
    """The outbox rows to send, most urgent lane first, the tenants in turns."""

    outbox_ids: tuple[int, ...]
    by_destination: Mapping[str, int]
    parked: Mapping[str, datetime] = field(default_factory=dict)  # destinations that were left out, and until when


@dataclass(frozen=True, slots=True)
class Parked:
    """A destination that was left before its work was done: ``reason`` is auth, daily, paused or window."""

    reason: str
    until: datetime


@dataclass(frozen=True, slots=True)
class SyncReport:
    """What one delivery did. Records are counted by what became of them, ``throttled`` counts answers of 429."""

    delivered: int = 0
    retried: int = 0
    dead: int = 0
    cancelled: int = 0
    records: int = 0
    requests: int = 0
    throttled: int = 0
    waited_seconds: float = 0.0
    quota: Mapping[str, Quota] = field(default_factory=dict)  # by destination, as its headers said last
    parked: Mapping[str, Parked] = field(default_factory=dict)  # by destination

    @property
    def parked_until(self) -> datetime | None:
        """When the first parked destination may be asked again."""
        return min((item.until for item in self.parked.values()), default=None)


def plan_sync(engine: sa.Engine, *, settings: Settings, lanes: Sequence[Lane], limit: int, now: datetime) -> SyncPlan:
    """The rows that are due at ``now``, at most ``limit``. Claims nothing; two plans may name the same row."""
    with engine.connect() as connection:
        parked = parked_destinations(connection, now=now)
        doors = [
            (tenant, destination)
            for tenant, tenant_settings in settings.tenants.items()
            for destination in tenant_settings.destinations
            if destination not in parked
        ]
        rows = due_rows(connection, doors=doors, lanes=lanes, limit=limit, now=now)
    return SyncPlan(
        outbox_ids=tuple(row.outbox_id for row in rows),
        by_destination=dict(Counter(row.destination for row in rows)),
        parked=parked,
    )


def deliver(
    engine: sa.Engine,
    plan: SyncPlan,
    *,
    settings: Settings,
    clock: Clock,
    runner_id: str,
    clients: Mapping[str, CrmClient] | None = None,
    jitter: Callable[[], float] = random.random,
) -> SyncReport:
    """Carry out ``plan``: every destination by itself, archives before upserts, ``limits.in_flight`` requests at once.

    Takes no new batch after ``pipeline.run_seconds``, nor from a destination that is parked: its daily quota is spent,
    it asks for a pause that is too long to wait for, or it refuses our credentials. What is not sent stays due.

    Raises:
        ConfigError: a token's environment variable is not set.
    """
    if not plan.outbox_ids:
        return SyncReport()
    with engine.connect() as connection:
        rows = read_rows(connection, plan.outbox_ids)
    by_destination: dict[str, list[DueRow]] = defaultdict(list)
    for row in rows:
        by_destination[row.destination].append(row)
    owned = build_clients(settings) if clients is None else {}
    stopping = threading.Event()
    try:
        runs = [
            _DestinationRun(
                engine,
                name,
                settings=settings,
                client=(owned if clients is None else clients)[name],
                clock=clock,
                runner_id=runner_id,
                stopping=stopping,
                jitter=jitter,
            )
            for name in by_destination
            if name in settings.destinations
        ]
        _all_done([(run.deliver, by_destination[run.name]) for run in runs], stopping=stopping)
    finally:
        for client in owned.values():
            client.close()
    return _report(runs)


class _DestinationRun:
    """One destination's part of a plan. Its threads share the queue of batches, the gate and the tally."""

    def __init__(
        self,
        engine: sa.Engine,
        name: str,
        *,
        settings: Settings,
        client: CrmClient,
        clock: Clock,
        runner_id: str,
        stopping: threading.Event,
        jitter: Callable[[], float],
    ) -> None:
        self.name = name
        self.tally = Tally()
        self.parked: Parked | None = None
        self._engine = engine
        self._destination: DestinationSettings = settings.destinations[name]
        self._client = client
        self._clock = clock
        self._runner_id = runner_id
        self._stopping = stopping
        self._jitter = jitter
        self._deadline = clock.monotonic() + settings.pipeline.run_seconds
        self._policy = RetryPolicy(**settings.retry.model_dump())
        self._lease = lease_for(self._destination.timeout_seconds)
        limiter = Limiter(engine, account=self._destination.account, limits=self._destination.limits)
        self.gate = Gate(limiter, clock=clock, deadline=self._deadline, stopping=stopping)
        self._batches: deque[list[int]] = deque()

    def deliver(self, rows: Sequence[DueRow]) -> None:
        # A contact that was merged away may hold the e-mail that its survivor is about to be given.
        for operation in (Operation.ARCHIVE, Operation.UPSERT):
            chosen = [row for row in rows if row.operation is operation]
            self._batches.extend(_batches(chosen, size=self._destination.batch_size))
            workers = min(self._destination.limits.in_flight, len(self._batches))
            _all_done([(self._work, None)] * workers, stopping=self._stopping)

    def _work(self, _: None) -> None:
        while not self._stopping.is_set() and self.parked is None and self._clock.monotonic() < self._deadline:
            try:
                outbox_ids = self._batches.popleft()
            except IndexError:
                return
            try:
                entry = self.gate.enter()
            except CrmParked as parked:
                self._park(parked.reason, parked.until)
                return
            self._deliver_batch(outbox_ids, entry)

    def _deliver_batch(self, outbox_ids: Sequence[int], entry: Entry) -> None:
        batch_id = BatchId(uuid7(self._clock.now()))
        token = f"{self._runner_id}/{batch_id}"
        with self._engine.begin() as connection:
            claimed, records, request = self._claim(connection, outbox_ids, batch_id=batch_id, token=token)
        courier = BatchCourier(
            self._engine,
            self._client,
            gate=self.gate,
            entry=entry,
            clock=self._clock,
            lease=self._lease,
            token=token,
            first=request,
            tally=self.tally,
        )
        try:
            # A row's operation can have changed since it was planned.
            for operation in (Operation.ARCHIVE, Operation.UPSERT):
                chosen = [record for record in records if record.operation is operation]
                if chosen:
                    verdicts = self._client.deliver(chosen, courier=courier)
                    self._settle(chosen, verdicts, claimed, operation=operation, batch_id=batch_id, token=token)
        finally:
            courier.close()

    def _claim(
        self, connection: sa.Connection, outbox_ids: Sequence[int], *, batch_id: BatchId, token: str
    ) -> tuple[dict[int, ClaimedRow], list[CrmRecord], RequestRow]:
        now = self._clock.now()
        claimed = claim(connection, outbox_ids, token=token, until=now + self._lease, now=now)
        contacts = wanted_contacts(connection, [row.contact_id for row in claimed])
        records = []
        for row in claimed:
            contact = contacts.get(row.contact_id)
            if row.operation is Operation.ARCHIVE:
                records.append(_record(row, version=row.wanted_version, properties={}))
            elif contact is not None:
                properties = as_properties(
                    contact, mapping=self._destination.mapping, delivered_fields=row.delivered_fields
                )
                records.append(_record(row, version=contact["version"], properties=properties))
        sent = {record.outbox_id for record in records}
        gone = [row.outbox_id for row in claimed if row.outbox_id not in sent]
        if gone:
            cancel(connection, gone, token=token, now=now)
        request = RequestRow(
            batch_id=batch_id,
            tenant=claimed[0].tenant if claimed else "",
            destination=self.name,
            account=self._destination.account,
            endpoint="",
            operation="",
            records=len(records),
            runner_id=self._runner_id,
            sent_at=now,
        )
        by_id = {row.outbox_id: row for row in claimed}
        attempts = [
            AttemptRow(item.outbox_id, item.contact_id, item.version, by_id[item.outbox_id].attempts + 1)
            for item in records
        ]
        write_attempts(connection, request, attempts)
        self.tally.add(records=len(records), cancelled=len(gone))
        return by_id, records, request

    def _settle(
        self,
        records: Sequence[CrmRecord],
        answered: Iterable[RecordVerdict],
        claimed: Mapping[int, ClaimedRow],
        *,
        operation: Operation,
        batch_id: BatchId,
        token: str,
    ) -> None:
        verdicts = {verdict.outbox_id: verdict for verdict in answered}
        now = self._clock.now()
        settlements = {}
        for record in records:
            verdict = verdicts.get(record.outbox_id)
            # A client that forgets a record must not lose it.
            verdict = verdict or RecordVerdict(record.outbox_id, Verdict.AMBIGUOUS, code="NOT_REPORTED")
            attempts = claimed[record.outbox_id].attempts
            step = after_verdict(verdict, attempts=attempts, policy=self._policy, now=now, random=self._jitter)
            fields = tuple(sorted(name for name, value in record.properties.items() if value))
            settlements[record.outbox_id] = Settlement(verdict, step, record.version, fields)
        refused = any(item.verdict.verdict is Verdict.AUTH for item in settlements.values())
        with self._engine.begin() as connection:
            settled = settle(connection, list(settlements.values()), token=token, operation=operation, now=now)
            dead = [item.outbox_id for item in settled if item.state is OutboxState.DEAD]
            delivered = [
                item.outbox_id for item in settled if settlements[item.outbox_id].verdict.verdict is Verdict.DELIVERED
            ]
            by_id = {record.outbox_id: record for record in records}
            letters = [
                self._dead_letter(by_id[outbox_id], settlements[outbox_id], claimed[outbox_id], now=now)
                for outbox_id in dead
            ]
            write_dead_letters(connection, letters)
            supersede(connection, delivered, now=now)
            outcome = Outcome(len(delivered), len(settled) - len(delivered) - len(dead), len(dead))
            write_outcome(connection, batch_id, [item.verdict for item in settlements.values()], outcome, now=now)
            if refused:
                park_destination(
                    connection, self.name, account=self._destination.account, until=now + AUTH_PAUSE, now=now
                )
        self.tally.add(delivered=outcome.delivered, retried=outcome.retried, dead=outcome.dead)
        if refused:
            self._park(AUTH, now + AUTH_PAUSE)
        log.info(
            "crm_batch_settled",
            destination=self.name,
            batch_id=str(batch_id),
            operation=operation,
            delivered=outcome.delivered,
            retried=outcome.retried,
            dead=outcome.dead,
            verdicts=dict(Counter(str(item.verdict.verdict) for item in settlements.values())),
        )

    def _dead_letter(self, record: CrmRecord, settlement: Settlement, row: ClaimedRow, *, now: datetime) -> DeadLetter:
        return DeadLetter(
            dead_letter_id=uuid7(now),
            tenant=row.tenant,
            contact_id=row.contact_id,
            destination=self.name,
            outbox_id=row.outbox_id,
            version=settlement.version,
            reason=settlement.verdict.verdict,
            code=settlement.verdict.code,
            attempts=settlement.step.attempts,
            died_at=now,
            payload=record.properties,
            explanation=settlement.verdict.explanation,
        )

    def _park(self, reason: str, until: datetime) -> None:
        if reason == "stopping":
            return
        self.parked = Parked(reason, until)
        if reason != WaitReason.WINDOW:
            log.warning("crm_destination_parked", destination=self.name, reason=reason, until=until.isoformat())


def _record(row: ClaimedRow, *, version: int, properties: Mapping[str, str]) -> CrmRecord:
    return CrmRecord(
        outbox_id=row.outbox_id,
        contact_id=row.contact_id,
        version=version,
        operation=row.operation,
        crm_record_id=row.crm_record_id,
        properties=properties,
    )


def _batches(rows: Sequence[DueRow], *, size: int) -> list[list[int]]:
    """Batches of one tenant each, in the order of their first row: full batches, and the tenants still take turns."""
    by_tenant: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for position, row in enumerate(rows):
        by_tenant[row.tenant].append((position, row.outbox_id))
    batches = [items[start : start + size] for items in by_tenant.values() for start in range(0, len(items), size)]
    return [[outbox_id for _position, outbox_id in batch] for batch in sorted(batches)]


def _all_done(calls: Sequence[tuple[Callable[[Any], None], Any]], *, stopping: threading.Event) -> None:
    """Run the calls at once. The first failure, or Ctrl-C, stops the others after the batch they are at."""
    if not calls:
        return
    with ThreadPoolExecutor(max_workers=len(calls), thread_name_prefix="deliver") as pool:
        futures: list[Future[None]] = [pool.submit(call, argument) for call, argument in calls]
        try:
            for future in futures:
                future.result()
        except BaseException:
            stopping.set()
            raise


def _report(runs: Sequence[_DestinationRun]) -> SyncReport:
    counts: Counter[str] = Counter()
    for run in runs:
        counts.update(run.tally.counts)
    return SyncReport(
        **{name: counts[name] for name in
           ("delivered", "retried", "dead", "cancelled", "records", "requests", "throttled")},
        waited_seconds=sum(run.gate.waited_seconds for run in runs),
        quota={run.name: run.tally.quota for run in runs},
        parked={run.name: run.parked for run in runs if run.parked is not None},
    )  # fmt: skip
