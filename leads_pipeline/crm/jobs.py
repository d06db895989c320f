"""Contacts that go as one job, at which a vendor works by itself: begun, taken further step by step, and settled.

The claims of a job are held by the job and not by a process: any process asks how far it is, and goes on where another
one was killed, or only is slow: then that one writes nothing any more. Every step is written down before the next. Keep
out: what a step asks of the vendor (``JobClient``).
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial

import msgspec
import sqlalchemy as sa

from leads_pipeline.clock import Clock
from leads_pipeline.crm.batch import ClaimedBatch, SettledBatch, settle_batch
from leads_pipeline.crm.courier import BatchCourier, Tally
from leads_pipeline.crm.failures import is_everybodys, tell, unreadable
from leads_pipeline.crm.last_look import LastLook
from leads_pipeline.crm.parts import NOT_SENT, OVERTAKEN
from leads_pipeline.crm.port import (
    CrmClient,
    CrmRecord,
    CrmResponse,
    JobClient,
    JobState,
    JobStep,
    JobTraits,
    RecordVerdict,
    Verdict,
)
from leads_pipeline.crm.quality_gate import GateWatch
from leads_pipeline.domain.ids import BatchId, uuid7
from leads_pipeline.domain.retry import RetryBudgets
from leads_pipeline.domain.stage import Lane, Operation
from leads_pipeline.errors import AccountParked, CrmError, Overtaken
from leads_pipeline.outbound.gate import Gate
from leads_pipeline.storage.bulk_jobs import StoredJob, add_job, end_job, keep_job, note_batch, note_step, take_job
from leads_pipeline.storage.latency import Measure, measure_latency
from leads_pipeline.storage.sync_batches import is_written
from leads_pipeline.telemetry import get_logger

log = get_logger(__name__)

# The code of records whose job could not be asked about, or ended, in its time; they may have been written.
JOB_LOST = "JOB_LOST"
_SETTLED = "settled"
# Claims outlive their job's end by this: after that whoever comes sends the contacts again.
_LEASE_BEYOND = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class AdvancedJob:
    """A job that was looked at. ``settled`` once it is over; ``last``: what its last request was answered."""

    batch_id: BatchId
    settled: SettledBatch | None
    last: CrmResponse | None

    @property
    def refused(self) -> bool:
        """Whether the destination refuses our credentials or our set-up."""
        return self.refused_with is not None if self.settled is None else self.settled.refused

    @property
    def refused_with(self) -> str | None:
        """The code with which it does."""
        if self.settled is not None:
            return self.settled.refused_with
        if self.last is None or self.last.throttled:
            return None
        if self.last.no_credentials is not None:
            return self.last.no_credentials.code
        return f"HTTP_{self.last.status}" if self.last.status in (401, 403) else None

    @property
    def is_telling(self) -> bool:
        """Whether it says how the destination is; one that goes on well says nothing of how contacts are taken."""
        if self.settled is not None or self.refused:
            return True
        return self.last is not None and (self.last.status is None or self.last.status >= 500)


class JobTaken(CrmError):
    """Somebody else took the job after we had been slow with it: what it holds is theirs to send and to settle."""


class Jobs:
    """The jobs of one destination."""

    def __init__(
        self,
        engine: sa.Engine,
        destination: str,
        *,
        client: CrmClient,
        gate: Gate,
        tally: Tally,
        clock: Clock,
        budgets: RetryBudgets,
        jitter: Callable[[], float],
        step_lease: timedelta,
        measure: Measure = measure_latency,
        gates: GateWatch | None = None,
    ) -> None:
        """``step_lease``: so long after a step was begun another process may take it again."""
        self._engine = engine
        self._destination = destination
        self._client = client
        self._gate = gate
        self._tally = tally
        self._clock = clock
        self._budgets = budgets
        self._jitter = jitter
        self._step_lease = step_lease
        self._measure = measure
        self._gates = gates

    @property
    def traits(self) -> JobTraits | None:
        """When contacts go as a job here; ``None``: the vendor has no jobs."""
        return self._client.job_traits if isinstance(self._client, JobClient) else None

    def _traits(self) -> JobTraits:
        assert isinstance(self._client, JobClient)  # nothing else has jobs
        return self._client.job_traits

    def lease(self) -> timedelta:
        """How long the claims of a job hold."""
        return timedelta(seconds=self._traits().deadline_seconds) + _LEASE_BEYOND

    def parts(self, batch: ClaimedBatch) -> tuple[ClaimedBatch, ClaimedBatch]:
        """What of a claimed batch may go in a job, and the rest: removals, withdrawals, records that change hands."""
        request = replace(batch.request, batch_id=BatchId(uuid7(self._clock.now())))
        return (
            replace(batch, records=tuple(record for record in batch.records if _fits(record))),
            replace(batch, records=tuple(record for record in batch.records if not _fits(record)), request=request),
        )

    def begin(self, connection: sa.Connection, batch: ClaimedBatch) -> None:
        """Write down a job for what ``batch`` has claimed; commit both together."""
        now = self._clock.now()
        job = StoredJob(
            job_id=uuid7(now),
            crm_job_id=None,
            step=JobStep.PLANNED,
            batch=msgspec.json.encode(batch).decode(),
            claimed_by=batch.token,
            deadline_at=now + timedelta(seconds=self._traits().deadline_seconds),
        )
        add_job(connection, job, destination=self._destination, records=len(batch.records), until=now, now=now)

    def next(self) -> AdvancedJob | None:
        """Take a job that is due further, until it is over or has to be waited for; ``None``: none is due.

        Raises:
            AccountParked: the account must not be asked now; the jobs are where they were.
        """
        while self.traits is not None:
            with self._engine.begin() as connection:
                taken = take_job(connection, self._destination, lease=self._step_lease, now=self._clock.now())
            if taken is None:
                return None
            try:
                return self._advance(taken)
            except JobTaken:
                log.info("crm_job_taken_over", destination=self._destination, job_id=str(taken.job_id))
        return None

    def _advance(self, taken: StoredJob) -> AdvancedJob:
        batch = msgspec.json.decode(taken.batch, type=ClaimedBatch)
        state = JobState(JobStep(taken.step), taken.crm_job_id)
        courier = self._courier(taken, batch)
        while True:
            if state.step is JobStep.PLANNED and not batch.records:
                return self._settle(taken, batch, [], courier.last)
            try:
                outcome = self._ask(taken, state, batch, courier)
            except Overtaken as overtaken:
                batch = self._without(taken, batch, overtaken.outbox_ids)
                courier.take(batch.records, lane=_lane(batch))
                # What it was handed already must not be carried out: that job is ended, and another one begun.
                fresh = state.step is JobStep.CREATED and bool(batch.records)
                state = JobState(JobStep.CREATED, state.crm_job_id, fresh=fresh)
                continue
            if outcome == state and self._is_lost(taken):
                outcome = _each(batch, Verdict.AMBIGUOUS, JOB_LOST)
            if isinstance(outcome, list):
                return self._settle(taken, batch, outcome, courier.last)
            if outcome == state:  # nothing to do but to wait
                self._note(taken, outcome, after=self._traits().poll_seconds)
                return AdvancedJob(batch.request.batch_id, None, courier.last)
            self._note(taken, outcome, after=self._step_lease.total_seconds())
            state = outcome

    def _is_lost(self, taken: StoredJob) -> bool:
        """Whether its contacts are free by now: whatever the vendor says of it or does not say, it is over."""
        return self._clock.now() >= taken.deadline_at + _LEASE_BEYOND

    def _ask(
        self, taken: StoredJob, state: JobState, batch: ClaimedBatch, courier: BatchCourier
    ) -> JobState | list[RecordVerdict]:
        """Have the client take the next step; what hinders it leaves the job where it is."""
        assert isinstance(self._client, JobClient)
        overdue = self._clock.now() >= taken.deadline_at
        try:
            return self._client.advance(state, batch.records, courier=courier, overdue=overdue)
        except AccountParked:
            if state.step is JobStep.PLANNED:
                return _each(batch, Verdict.THROTTLED, NOT_SENT)
            if self._is_lost(taken):
                return state
            self._note(taken, state, after=0)
            raise
        except Exception as error:
            if is_everybodys(error) or isinstance(error, JobTaken | Overtaken):
                raise
            tell("crm_job_unreadable", error, destination=self._destination)
            return unreadable(batch.records) if overdue else state  # it is asked again until its time is over

    def _courier(self, taken: StoredJob, batch: ClaimedBatch) -> BatchCourier:
        with self._engine.connect() as connection:
            begun = is_written(connection, batch.request.batch_id)
        request = replace(batch.request, batch_id=BatchId(uuid7(self._clock.now()))) if begun else batch.request
        courier = BatchCourier(
            self._engine,
            self._client,
            gate=self._gate,
            clock=self._clock,
            last_look=LastLook(
                destination=self._destination,
                token=batch.token,
                owner=lambda: None,
                lease=self.lease(),
                time_out=self._step_lease,
                rows=batch.rows,
                subjects=batch.subjects,
                gates=self._gates,
            ),
            first=request,
            granted=lambda: None,
            tally=self._tally,
            keep=partial(self._keep, taken),
        )
        courier.take(batch.records, lane=_lane(batch))
        return courier

    def _keep(self, taken: StoredJob, connection: sa.Connection) -> None:
        """Before each request, which may have waited for its turn: it is still ours, and stays so for one more."""
        if not keep_job(connection, taken, until=self._clock.now() + self._step_lease):
            raise JobTaken(str(taken.job_id))

    def _note(self, taken: StoredJob, state: JobState, *, after: float) -> None:
        next_poll_at = self._clock.now() + timedelta(seconds=after)
        with self._engine.begin() as connection:
            if not note_step(
                connection, taken, step=state.step, crm_job_id=state.crm_job_id, next_poll_at=next_poll_at
            ):
                raise JobTaken(str(taken.job_id))
        log.info("crm_job_step", destination=self._destination, job_id=str(taken.job_id), step=str(state.step))

    def _without(self, taken: StoredJob, batch: ClaimedBatch, overtaken: Collection[int]) -> ClaimedBatch:
        """The batch without records that must no longer go; they are settled, and the job holds the others."""
        out = [record for record in batch.records if record.outbox_id in overtaken]
        left = replace(batch, records=tuple(record for record in batch.records if record not in out))
        with self._engine.begin() as connection:
            self._settled(connection, replace(batch, records=tuple(out)), [_overtaken(record) for record in out])
            document = msgspec.json.encode(left).decode()
            if not note_batch(connection, taken, batch=document, records=len(left.records)):
                raise JobTaken(str(taken.job_id))
        return left

    def _settle(
        self, taken: StoredJob, batch: ClaimedBatch, verdicts: Sequence[RecordVerdict], last: CrmResponse | None
    ) -> AdvancedJob:
        with self._engine.begin() as connection:
            settled = self._settled(connection, batch, verdicts)
            if not end_job(connection, taken, step=_SETTLED, now=self._clock.now()):
                raise JobTaken(str(taken.job_id))
        return AdvancedJob(batch.request.batch_id, settled, last)

    def _settled(
        self, connection: sa.Connection, batch: ClaimedBatch, verdicts: Sequence[RecordVerdict]
    ) -> SettledBatch:
        return settle_batch(
            connection,
            batch,
            verdicts,
            operation=Operation.UPSERT,
            budgets=self._budgets,
            jitter=self._jitter,
            now=self._clock.now(),
            measure=self._measure,
        )


def _lane(batch: ClaimedBatch) -> Lane:
    return min((row.lane for row in batch.rows.values()), key=list(Lane).index)


def _each(batch: ClaimedBatch, verdict: Verdict, code: str) -> list[RecordVerdict]:
    return [RecordVerdict(record.outbox_id, verdict, code=code) for record in batch.records]


def _overtaken(record: CrmRecord) -> RecordVerdict:
    return RecordVerdict(record.outbox_id, Verdict.THROTTLED, code=OVERTAKEN)


def _fits(record: CrmRecord) -> bool:
    stays = record.claims_record in (None, record.crm_record_id)
    return record.operation is Operation.UPSERT and stays and not record.withdrawal
