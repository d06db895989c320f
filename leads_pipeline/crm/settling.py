"""Settles the batches of one destination, each in a transaction of its own.

What cannot be settled together is settled record by record, and a record that cannot be settled at all as unreadable:
otherwise its claim would stay, and the next run would end at the same record. Keep out: what a verdict leads to
(``batch``).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import sqlalchemy as sa

from leads_pipeline.clock import Clock
from leads_pipeline.crm.batch import ClaimedBatch, SettledBatch, settle_batch
from leads_pipeline.crm.failures import is_everybodys, tell, unreadable
from leads_pipeline.crm.port import RecordVerdict
from leads_pipeline.domain.retry import RetryBudgets
from leads_pipeline.domain.stage import Operation
from leads_pipeline.storage.latency import Measure, measure_latency


@dataclass(frozen=True, slots=True)
class Settling:
    """How one destination's batches are settled."""

    engine: sa.Engine
    destination: str
    budgets: RetryBudgets
    jitter: Callable[[], float]
    clock: Clock
    measure: Measure = measure_latency

    def settle(
        self, batch: ClaimedBatch, answered: Sequence[RecordVerdict], *, operation: Operation
    ) -> Iterator[SettledBatch]:
        """Settle the batch's records of ``operation``: all at once, or one by one."""
        together = self._tried(batch, answered, operation)
        if together is not None:
            yield together
            return
        for record in batch.records_of(operation):
            alone = replace(batch, records=(record,))
            own = [verdict for verdict in answered if verdict.outbox_id == record.outbox_id]
            yield self._tried(alone, own, operation) or self._settle(alone, unreadable([record]), operation)

    def _tried(
        self, batch: ClaimedBatch, answered: Sequence[RecordVerdict], operation: Operation
    ) -> SettledBatch | None:
        try:
            return self._settle(batch, answered, operation)
        except Exception as error:
            if is_everybodys(error):
                raise
            tell("crm_batch_not_settled", error, destination=self.destination)
            return None

    def _settle(self, batch: ClaimedBatch, answered: Sequence[RecordVerdict], operation: Operation) -> SettledBatch:
        now = self.clock.now()
        with self.engine.begin() as connection:
            return settle_batch(
                connection,
                batch,
                answered,
                operation=operation,
                budgets=self.budgets,
                jitter=self.jitter,
                now=now,
                measure=self.measure,
            )
