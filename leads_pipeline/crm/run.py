"""One destination's part of a delivery: batches, and the threads that carry them out.

Keep out: what is due (``storage.outbox``) and what a batch becomes (``batch``).
"""

import threading
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from leads_pipeline.clock import Clock
from leads_pipeline.config import DestinationSettings, Settings
from leads_pipeline.crm.batch import SettledBatch, claim_batch, settle_batch
from leads_pipeline.crm.courier import BatchCourier, Tally, lease_for
from leads_pipeline.crm.mapping import destination_mapping
from leads_pipeline.crm.parking import AUTH, Parked, park_destination
from leads_pipeline.crm.port import CrmClient
from leads_pipeline.domain.ids import BatchId, uuid7
from leads_pipeline.domain.retry import AUTH_PAUSE, budgets_of
from leads_pipeline.domain.sending_gate import GateRule
from leads_pipeline.domain.stage import Operation
from leads_pipeline.errors import AccountParked
from leads_pipeline.outbound.gate import STOPPING, Entry, Gate
from leads_pipeline.outbound.limiter import Limiter, WaitReason
from leads_pipeline.storage.destination_schemas import doubt_schema
from leads_pipeline.storage.outbox import DueRow
from leads_pipeline.telemetry import get_logger

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class PlannedBatch:
    """Rows of one tenant that go in one request."""

    tenant: str
    outbox_ids: tuple[int, ...]


class DestinationRun:
    """Delivers to one destination. Its threads share the queue of batches, the gate and the tally."""

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
        self._budgets = budgets_of(settings.retry.model_dump())
        self._rule = GateRule(**self._destination.gate.model_dump())
        with engine.connect() as connection:
            self._mapping = destination_mapping(connection, name, self._destination)
        self._lease = lease_for(self._destination.timeout_seconds)
        limiter = Limiter(engine, account=self._destination.account, limits=self._destination.limits)
        self.gate = Gate(limiter, clock=clock, deadline=self._deadline, stopping=stopping)
        self._batches: deque[PlannedBatch] = deque()

    def deliver(self, rows: Sequence[DueRow]) -> None:
        """Send ``rows``; what is taken away goes first, as a merged-away contact may hold its survivor's e-mail."""
        for operation in (Operation.ERASE, Operation.ARCHIVE, Operation.UPSERT):
            chosen = [row for row in rows if row.operation is operation]
            self._batches.extend(batches(chosen, size=self._destination.batch_size))
            workers = min(self._destination.limits.in_flight, len(self._batches))
            run_all([self._work] * workers, stopping=self._stopping)

    def _work(self) -> None:
        while not self._stopping.is_set() and self.parked is None and self._clock.monotonic() < self._deadline:
            try:
                planned = self._batches.popleft()
            except IndexError:
                return
            try:
                entry = self.gate.enter()
            except AccountParked as parked:
                self._park(parked.reason, parked.until)
                return
            self._deliver_batch(planned, entry)

    def _deliver_batch(self, planned: PlannedBatch, entry: Entry) -> None:
        now = self._clock.now()
        with self._engine.begin() as connection:
            batch = claim_batch(
                connection,
                planned.outbox_ids,
                tenant=planned.tenant,
                destination=self.name,
                account=self._destination.account,
                mapping=self._mapping,
                traits=self._client.traits,
                gate=self._rule,
                batch_id=BatchId(uuid7(now)),
                runner_id=self._runner_id,
                lease=self._lease,
                now=now,
            )
        self.tally.add(records=len(batch.records), **batch.spared)
        courier = BatchCourier(
            self._engine,
            self._client,
            gate=self.gate,
            entry=entry,
            clock=self._clock,
            lease=self._lease,
            token=batch.token,
            first=batch.request,
            tally=self.tally,
        )
        try:
            for operation in (Operation.ERASE, Operation.ARCHIVE, Operation.UPSERT):
                if records := batch.records_of(operation):
                    courier.take(records)
                    answered = self._client.deliver(records, courier=courier)
                    now = self._clock.now()
                    with self._engine.begin() as connection:
                        settled = settle_batch(
                            connection,
                            batch,
                            answered,
                            operation=operation,
                            budgets=self._budgets,
                            jitter=self._jitter,
                            now=now,
                        )
                    self._note(batch.request.batch_id, operation, settled, now=now)
        finally:
            courier.close()

    def _note(self, batch_id: BatchId, operation: Operation, settled: SettledBatch, *, now: datetime) -> None:
        outcome = settled.outcome
        self.tally.add(delivered=outcome.delivered, retried=outcome.retried, dead=outcome.dead)
        log.info(
            "crm_batch_settled",
            destination=self.name,
            batch_id=str(batch_id),
            operation=str(operation),
            delivered=outcome.delivered,
            retried=outcome.retried,
            dead=outcome.dead,
            verdicts={str(verdict): count for verdict, count in settled.verdicts.items()},
        )
        if settled.refused:
            until = now + AUTH_PAUSE
            with self._engine.begin() as connection:
                park_destination(connection, self.name, account=self._destination.account, until=until, now=now)
                doubt_schema(connection, self.name)  # a property may be gone that was there when it was asked
            self._park(AUTH, until)

    def _park(self, reason: str, until: datetime) -> None:
        if reason == STOPPING:
            return
        self.parked = Parked(reason, until)
        if reason != WaitReason.WINDOW:
            log.warning("crm_destination_parked", destination=self.name, reason=reason, until=until.isoformat())


def batches(rows: Sequence[DueRow], *, size: int) -> list[PlannedBatch]:
    """Full batches of one tenant each, in the order of their first row, so that the tenants still take turns."""
    by_tenant: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for position, row in enumerate(rows):
        by_tenant[row.tenant].append((position, row.outbox_id))
    cut = [
        (
            items[start][0],
            PlannedBatch(tenant, tuple(outbox_id for _position, outbox_id in items[start : start + size])),
        )
        for tenant, items in by_tenant.items()
        for start in range(0, len(items), size)
    ]
    return [batch for _position, batch in sorted(cut, key=lambda item: item[0])]


def run_all(calls: Sequence[Callable[[], Any]], *, stopping: threading.Event) -> None:
    """Run the calls at once. The first failure, or Ctrl-C, stops the others after the batch that they are at."""
    if not calls:
        return
    with ThreadPoolExecutor(max_workers=len(calls), thread_name_prefix="deliver") as pool:
        futures: list[Future[Any]] = [pool.submit(call) for call in calls]
        try:
            for future in futures:
                future.result()
        except BaseException:
            stopping.set()
            raise
