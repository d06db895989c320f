"""Carries requests that are about no record: through the gate, into the books, to the CRM and back.

What it sends counts against the account like a delivery, and its destination's breaker hears of it. Keep out: requests
for claimed records; see ``courier``.
"""

import sqlalchemy as sa

from leads_pipeline.clock import Clock
from leads_pipeline.config import DestinationSettings
from leads_pipeline.crm.failures import keepable
from leads_pipeline.crm.health import Health
from leads_pipeline.crm.port import CrmClient, CrmRequest, CrmResponse
from leads_pipeline.domain.ids import BatchId, uuid7
from leads_pipeline.errors import AccountParked
from leads_pipeline.outbound.gate import Gate
from leads_pipeline.outbound.limiter import Ask
from leads_pipeline.storage.sync_batches import RequestRow, write_answer, write_request


class PlainCourier:
    """The ``Courier`` of whoever asks a destination something."""

    def __init__(
        self,
        engine: sa.Engine,
        client: CrmClient,
        *,
        destination: str,
        settings: DestinationSettings,
        gate: Gate,
        clock: Clock,
        runner_id: str,
        health: Health,
        despite_breaker: bool = False,
    ) -> None:
        """``despite_breaker``: a person asks, who may have put right what it opened for."""
        self._engine = engine
        self._client = client
        self._destination = destination
        self._account = settings.account
        self._gate = gate
        self._clock = clock
        self._runner_id = runner_id
        self._health = health
        self._despite_breaker = despite_breaker

    def __call__(self, request: CrmRequest) -> CrmResponse:
        """See ``Courier``."""
        parked = None if self._despite_breaker else self._health.refuses()
        if parked is not None:
            raise AccountParked(f"{self._destination} fails", until=parked.until, reason=parked.reason)
        entry = self._gate.enter(Ask(request.endpoint_class, request.cost))
        now = self._clock.now()
        batch_id = BatchId(uuid7(now))
        row = RequestRow(
            batch_id=batch_id,
            tenant=None,
            destination=self._destination,
            account=self._account,
            endpoint=request.path,
            operation=request.purpose,
            records=request.records,
            runner_id=self._runner_id,
            sent_at=now,
        )
        try:
            with self._engine.begin() as connection:
                write_request(connection, row)
        except BaseException:
            self._gate.turn_back(entry)
            raise
        try:
            response = keepable(self._client.send(request))
        except BaseException:
            self._gate.answered(entry)  # it may have left
            raise
        self._gate.answered(
            entry,
            pause_seconds=response.pause_seconds,
            until_midnight=response.until_reset,
            throttled=response.throttled,
            readings=response.readings,
        )
        self._health.failed(response)
        with self._engine.begin() as connection:
            write_answer(
                connection,
                batch_id,
                http_status=response.status,
                throttled=response.throttled,
                correlation_id=response.correlation_id,
                now=self._clock.now(),
            )
        return response
