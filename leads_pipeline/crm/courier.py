"""Carries the requests of one claimed batch: through the gate, into the books, to the CRM and back.

Every request of a destination goes this way, the halves of a refused batch included. Keep out: what a request says and
what its answer means; see the destination's module.
"""

import threading
from collections import Counter
from dataclasses import replace
from datetime import timedelta

import sqlalchemy as sa

from leads_pipeline.clock import Clock
from leads_pipeline.crm.gate import Entry, Gate
from leads_pipeline.crm.port import CrmClient, CrmRequest, CrmResponse, Quota
from leads_pipeline.domain.ids import BatchId, uuid7
from leads_pipeline.storage.outbox import extend_claims
from leads_pipeline.storage.sync_batches import RequestRow, write_answer, write_request


class Tally:
    """What a destination's threads have seen of its CRM."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.counts: Counter[str] = Counter()
        self.quota = Quota()

    def add(self, **counts: int) -> None:
        with self._lock:
            self.counts.update(counts)

    def saw(self, response: CrmResponse) -> None:
        with self._lock:
            self.counts["requests"] += 1
            self.counts["throttled"] += response.status == 429
            if response.quota != Quota():
                self.quota = response.quota


class BatchCourier:
    """The ``Courier`` of one claimed batch. The first request uses the entry that the batch was claimed under."""

    def __init__(
        self,
        engine: sa.Engine,
        client: CrmClient,
        *,
        gate: Gate,
        entry: Entry,
        clock: Clock,
        lease: timedelta,
        token: str,
        first: RequestRow,
        tally: Tally,
    ) -> None:
        self._engine = engine
        self._client = client
        self._gate = gate
        self._entry: Entry | None = entry
        self._clock = clock
        self._lease = lease
        self._token = token
        self._row = first
        self._tally = tally

    def __call__(self, request: CrmRequest) -> CrmResponse:
        entry, self._entry = self._entry, None
        row = replace(
            self._row,
            batch_id=self._row.batch_id if entry else BatchId(uuid7(self._clock.now())),
            endpoint=request.path,
            operation=request.purpose,
            records=request.records,
        )
        if entry is None:
            entry = self._gate.enter()
        now = self._clock.now()
        with self._engine.begin() as connection:
            write_request(connection, replace(row, sent_at=now))
            # A poisoned batch takes many requests; the lease must outlive the last one.
            extend_claims(connection, token=self._token, until=now + self._lease)
        response = self._client.send(request)
        self._gate.answered(entry, response)
        self._tally.saw(response)
        with self._engine.begin() as connection:
            write_answer(
                connection,
                row.batch_id,
                http_status=response.status,
                correlation_id=response.correlation_id,
                now=self._clock.now(),
            )
        return response

    def close(self) -> None:
        """Give back the first entry if nothing was sent."""
        if self._entry is not None:
            self._gate.turn_back(self._entry)
            self._entry = None


def lease_for(timeout_seconds: float) -> timedelta:
    """How long a claim holds without being extended: two time-outs of one request, and a minute for the rest."""
    return timedelta(seconds=2 * timeout_seconds + 60)
