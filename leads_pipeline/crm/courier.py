"""Carries the requests of one claimed batch: through the gate, into the books, to the CRM and back.

Every request of a destination goes this way, the halves of a refused batch included. Keep out: what a request says and
what its answer means; see the destination's module.
"""

import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta

import sqlalchemy as sa

from leads_pipeline.clock import Clock
from leads_pipeline.crm.failures import keepable
from leads_pipeline.crm.last_look import LastLook
from leads_pipeline.crm.port import CrmClient, CrmRecord, CrmRequest, CrmResponse, QuotaReading
from leads_pipeline.crm.report import Refusal
from leads_pipeline.domain.ids import BatchId, uuid7
from leads_pipeline.domain.stage import Lane
from leads_pipeline.errors import Overtaken
from leads_pipeline.outbound.gate import Gate
from leads_pipeline.outbound.limiter import Ask
from leads_pipeline.storage.sync_batches import RequestRow, write_answer, write_request


class Tally:
    """What a destination's threads have seen of its CRM."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.counts: Counter[str] = Counter()
        self.lanes: Counter[str] = Counter()  # requests, by the lane for which they were asked
        self.readings: dict[tuple[str, int | None], QuotaReading] = {}  # the last of each class and window
        self.refusals: Counter[Refusal] = Counter()

    def add(self, **counts: int) -> None:
        with self._lock:
            self.counts.update(counts)

    def refused(self, refusals: Mapping[Refusal, int]) -> None:
        with self._lock:
            self.refusals.update(refusals)

    def saw(self, response: CrmResponse, *, lane: Lane | None) -> None:
        with self._lock:
            self.counts["requests"] += 1
            self.lanes[str(lane)] += 1
            self.counts["throttled"] += response.throttled
            for reading in response.readings:
                self.readings[reading.endpoint_class, reading.seconds] = reading


class BatchCourier:
    """The ``Courier`` of one claimed batch. ``last`` is what its last request was answered, ``None`` before the first.

    ``granted`` is called once the first request has its grant. If that does not come within ``patience`` seconds,
    ``GrantTaken`` is raised: nothing was sent, and the batch is for whoever has the grant. ``owner`` says whose claims
    they are at each request. ``keep`` is called in the transaction that writes a request down, and may refuse it.
    """

    def __init__(
        self,
        engine: sa.Engine,
        client: CrmClient,
        *,
        gate: Gate,
        clock: Clock,
        last_look: LastLook,
        first: RequestRow,
        granted: Callable[[], None],
        tally: Tally,
        patience: float | None = None,
        keep: Callable[[sa.Connection], None] = lambda _connection: None,
    ) -> None:
        self.last: CrmResponse | None = None
        self._engine = engine
        self._client = client
        self._gate = gate
        self._clock = clock
        self._last_look = last_look
        self._row = first
        self._first = True
        self._granted = granted
        self._tally = tally
        self._patience = patience
        self._keep = keep
        self._outbox_ids: tuple[int, ...] = ()
        self._lane: Lane | None = None

    def take(self, records: Sequence[CrmRecord], *, lane: Lane) -> None:
        """Name the records that the next requests are about; their claims are kept whenever one is sent.

        ``lane``: of the most urgent of them, from whose share of the quota the requests are.
        """
        self._outbox_ids = tuple(record.outbox_id for record in records)
        self._lane = lane

    def __call__(self, request: CrmRequest) -> CrmResponse:
        row = replace(
            self._row,
            batch_id=self._row.batch_id if self._first else BatchId(uuid7(self._clock.now())),
            endpoint=request.path,
            operation=request.purpose,
            records=request.records,
            lane=self._lane,
        )
        ask = Ask(request.endpoint_class, request.cost, self._lane)
        entry = self._gate.enter(ask, patience=self._patience if self._first else None)
        self._granted()
        try:
            self._write_down(row, request)
        except BaseException:
            self._gate.turn_back(entry)
            raise
        self._first = False
        try:
            response = keepable(self._client.send(request))
        except BaseException:
            self._gate.answered(entry)  # it may have left
            raise
        self.last = response
        self._gate.answered(
            entry,
            pause_seconds=response.pause_seconds,
            until_midnight=response.until_reset,
            throttled=response.throttled,
            readings=response.readings,
        )
        self._tally.saw(response, lane=self._lane)
        with self._engine.begin() as connection:
            write_answer(
                connection,
                row.batch_id,
                http_status=response.status,
                throttled=response.throttled,
                correlation_id=response.correlation_id,
                now=self._clock.now(),
            )
        return response

    def _write_down(self, row: RequestRow, request: CrmRequest) -> None:
        """Keep the records and write the request down, unless some of them must not go any more."""
        now = self._clock.now()
        with self._engine.begin() as connection:
            overtaken = self._last_look.overtaken(connection, request, claimed=self._outbox_ids, now=now)
            if overtaken:
                raise Overtaken(overtaken)
            self._keep(connection)
            write_request(connection, replace(row, sent_at=now))


def lease_for(timeout_seconds: float) -> timedelta:
    """How long a claim holds without being extended: two time-outs of one request, and a minute for the rest."""
    return timedelta(seconds=2 * timeout_seconds + 60)
