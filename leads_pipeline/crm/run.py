"""One destination's part of a delivery: the threads that carry out its requests, one batch after the other.

A thread waits until the next request is near, claims what is to go in it, and sends. Only one thread of a process is
between the claim and the grant: the others' contacts stay free for whoever is quicker. Keep out: whose turn it is
(``claiming``), what a batch becomes (``batch``), and what one of its requests goes through (``courier``).
"""

import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from datetime import timedelta
from functools import partial

import sqlalchemy as sa

from leads_pipeline.config import DestinationSettings
from leads_pipeline.crm.batch import ClaimedBatch, SettledBatch, claim_batch, unclaim_batch
from leads_pipeline.crm.claiming import LOOK_SECONDS, Claims, Turn
from leads_pipeline.crm.company import Delivering, run_all
from leads_pipeline.crm.courier import BatchCourier, Tally, lease_for
from leads_pipeline.crm.failures import answers_of, is_everybodys, tell
from leads_pipeline.crm.health import Health
from leads_pipeline.crm.jobs import Jobs
from leads_pipeline.crm.last_look import LastLook
from leads_pipeline.crm.mapping import blocked_destinations, destination_mapping
from leads_pipeline.crm.parking import (
    FAILURE,
    MAPPING,
    Forecasts,
    Parked,
    limiter_of,
    price_of_full,
    until,
)
from leads_pipeline.crm.port import CrmClient, CrmResponse
from leads_pipeline.crm.quality_gate import GateWatch
from leads_pipeline.crm.report import DestinationReport
from leads_pipeline.crm.settling import Settling
from leads_pipeline.domain.ids import BatchId, uuid7
from leads_pipeline.domain.mapping import DestinationMapping
from leads_pipeline.domain.quota_budget import BudgetPlan
from leads_pipeline.domain.retry import AUTH_PAUSE, budgets_of
from leads_pipeline.domain.sending_gate import GateRule
from leads_pipeline.domain.stage import Lane, Operation
from leads_pipeline.errors import AccountParked
from leads_pipeline.outbound.gate import Gate, GrantTaken
from leads_pipeline.outbound.limiter import Ask, Grant, WaitReason
from leads_pipeline.storage.destination_schemas import doubt_schema, mapping_edition
from leads_pipeline.storage.outbox import keep_claims
from leads_pipeline.storage.outbox_queues import count_due
from leads_pipeline.telemetry import get_logger

log = get_logger(__name__)

# A queue whose rows somebody else holds is left after so many looks, a little apart.
_FRUITLESS_LOOKS = 3
_FRUITLESS_SECONDS = 0.05

# What is claimed for a grant that is `claim_ahead_seconds` away is kept for twice as long if others get that one.
_TIMES_AHEAD = 2


class DestinationRun:
    """Delivers to one destination. Its threads share the queues, the gate and the tally."""

    def __init__(
        self, name: str, work: Delivering, *, client: CrmClient, lanes: Sequence[Lane], parked: Parked | None = None
    ) -> None:
        """``parked``: until then it is left alone, if so."""
        settings = work.settings
        self.name = name
        self.tally = Tally()
        self.parked = parked
        self.parked_lanes: dict[Lane, Parked] = {}
        self._work_of_all = work
        self._engine = work.engine
        self._clock = work.clock
        self._destination: DestinationSettings = settings.destinations[name]
        self._client = client
        self._ahead = settings.delivery.claim_ahead_seconds
        self._deadline = work.clock.monotonic() + settings.pipeline.run_seconds
        self._budgets = budgets_of(settings.retry.model_dump())
        self._gates = GateWatch(work.engine, settings=settings, clock=work.clock)
        self._rule = GateRule(**self._destination.gate.model_dump())
        self._mapping: DestinationMapping | None = None  # once something is due
        self._edition: str | None = None  # of the mapping
        self._lease = lease_for(self._destination.timeout_seconds)
        self._forecast = Forecasts(work.engine, settings=settings, clock=work.clock).of(name)
        self._limiter = limiter_of(work.engine, name, settings=settings, forecast=self._forecast)
        self.gate = Gate(self._limiter, clock=work.clock, deadline=self._deadline, stopping=work.stopping)
        self._health = Health(work.engine, name, policy=settings.delivery.breaker, clock=work.clock)
        self._tenants = [tenant for tenant, its in settings.tenants.items() if name in its.destinations]
        size = min(self._destination.batch_size, client.traits.max_batch)
        self._size = size
        self._claims = self._claims_of(lanes, size=size)
        self._jobs = Jobs(
            work.engine,
            name,
            client=client,
            gate=self.gate,
            tally=self.tally,
            clock=work.clock,
            budgets=self._budgets,
            jitter=work.jitter,
            step_lease=self._lease,
            measure=work.measure,
            gates=self._gates,
        )
        self._settling = Settling(work.engine, name, self._budgets, work.jitter, work.clock, work.measure)
        # Whoever asked for something just now does not wait for a job.
        self._urgent_lanes = [lane for lane in lanes if lane is Lane.REAL_TIME]
        self._job_lanes = [lane for lane in lanes if lane not in self._urgent_lanes]
        # Held from the choice of a batch until its first request has its grant.
        self._turn = threading.Lock()

    def deliver(self) -> None:
        """Send until nothing is due, the time is over, or the destination is parked.

        While another destination is still at work, perhaps for minutes because it hardly answers, or more is to come,
        what becomes due here goes on being sent.
        """
        try:
            self._guarded(self._serve)
        finally:
            self._work_of_all.company.leave()
        while not self._is_over():
            # Looked once more after the last has left: what it left behind became due before.
            is_last_look = self._work_of_all.company.all_have_left(within=LOOK_SECONDS)
            self._guarded(self._serve)
            if is_last_look:
                return

    def _guarded(self, work: Callable[[], None]) -> None:
        """Do ``work``. What nobody foresaw in it parks this destination alone; a database that is away stops all."""
        try:
            work()
        except Exception as error:
            if is_everybodys(error):
                raise
            tell("crm_destination_failed", error, destination=self.name)
            self._park(self._health.give_up(FAILURE))

    def _serve(self) -> None:
        if self.parked is not None and self.parked.until <= self._clock.now():
            self.parked = None
        if self.parked is None:
            self._advance_jobs()
        if self.parked is not None or self._claims.next(without=self._parked_lanes()) is None:
            return
        if self._mapping is None:
            self._mapping = self._checked_mapping()
            if self._mapping is None:
                return
        while (room := self._room()) > 0:
            if self._health.closed:
                self._begin_jobs()
            alone = room == 1 and not self._health.closed
            work = partial(self._guarded, partial(self._work, batches=1 if alone else None))
            run_all([work] * room, stopping=self._work_of_all.stopping)
            if not alone or not self._health.closed:
                return

    def _advance_jobs(self) -> None:
        """Take what is due of the destination's jobs further, and note those that are over."""
        try:
            while self._goes_on() and (job := self._jobs.next()) is not None:
                if job.settled is not None:
                    self._note(job.batch_id, Operation.UPSERT, job.settled)
                if job.is_telling:
                    self._judge(refused=job.refused, code=job.refused_with, last=job.last)
        except AccountParked as parked:
            self._park(Parked(parked.reason, parked.until))

    def _begin_jobs(self) -> None:
        """Let contacts go as jobs while so many are due that the vendor takes them so."""
        traits = self._jobs.traits
        if traits is None or traits.above is None or not self._job_lanes:
            return
        while self._goes_on() and self._due(self._job_lanes, most=traits.above + 1) > traits.above:
            if self._due(self._urgent_lanes, most=1):
                self._work(batches=1)  # a job takes a while to hand over
            claims = self._claims_of(self._job_lanes, size=traits.most)
            turn = claims.next(without=self._parked_lanes())
            if turn is None or turn.removals or not isinstance(self._limiter.peek(Ask(lane=turn.lane)), Grant):
                return
            batch = self._claim(turn, claims=claims, as_job=True)
            if batch is None:
                return
            if batch.records:
                self._deliver_batch(batch, granted=lambda: None)
            self._advance_jobs()

    def _claims_of(self, lanes: Sequence[Lane], *, size: int) -> Claims:
        return Claims(
            self._engine,
            self.name,
            lanes=lanes,
            tenants=self._tenants,
            size=size,
            settings=self._work_of_all.settings.delivery,
            clock=self._clock,
            passes=self._passes,
            rule=self._rule,
        )

    def _passes(self, tenant: str, lane: Lane) -> bool:
        return self._work_of_all.passes(tenant, lane) and self._gates.passes(tenant, lane, self.name)

    def _due(self, lanes: Sequence[Lane], *, most: int) -> int:
        """How many contacts of ``lanes`` could be claimed; no more than ``most`` are counted."""
        with self._engine.connect() as connection:
            return count_due(
                connection,
                destination=self.name,
                lanes=lanes,
                tenants=self._tenants,
                most=most,
                now=self._clock.now(),
            )

    def _checked_mapping(self) -> DestinationMapping | None:
        """The mapping, checked lately; ``None`` if it lets no contact through: then the destination is parked."""
        self._work_of_all.prepare(self.name)
        with self._engine.connect() as connection:
            blocked = blocked_destinations(connection, {self.name: self._destination})
            mapping = destination_mapping(connection, self.name, self._destination)
        if self.name not in blocked:
            return mapping
        self._park(Parked(MAPPING, max(blocked[self.name], self._clock.now() + AUTH_PAUSE)))
        return None

    def _mapping_now(self, connection: sa.Connection) -> DestinationMapping | None:
        """The mapping as it is once rows are locked: whoever mended it and wanted them had written it before.

        ``None`` if it lets no contact through any more: then the destination is parked.
        """
        edition = mapping_edition(connection, self.name)
        if edition == self._edition:
            return self._mapping
        mapping = destination_mapping(connection, self.name, self._destination)
        if any(fault.blocks for fault in mapping.faults()):
            self._park(Parked(MAPPING, self._clock.now() + AUTH_PAUSE))
            return None
        self._mapping, self._edition = mapping, edition
        return mapping

    def budget(self) -> BudgetPlan:
        """What is left of the account's quota, for whom, and until when."""
        return self._limiter.plan(self._forecast())

    def report(self) -> DestinationReport:
        """What was done here."""
        counts = self.tally.counts
        return DestinationReport(
            delivered=counts["delivered"],
            unchanged=counts["unchanged"],
            suppressed=counts["suppressed"],
            retried=counts["retried"],
            dead=counts["dead"],
            records=counts["records"],
            requests=counts["requests"],
            throttled=counts["throttled"],
            breaker=self._health.stands(),
            refusals=dict(self.tally.refusals),
        )

    def _room(self) -> int:
        """How many threads may send: one while the breaker is to be probed, none while it is open."""
        answer = self._health.may_send()
        if isinstance(answer, Parked):
            self._park(answer)
            return 0
        return self._destination.limits.in_flight if self._health.closed else 1

    def _work(self, *, batches: int | None) -> None:
        done = fruitless = 0
        while self._goes_on() and (batches is None or done < batches):
            with ExitStack() as held:
                held.enter_context(self._turn)
                turn = self._next_turn()
                if turn is None:
                    return
                batch = self._claim(turn)
                if batch is None:
                    fruitless += 1
                    if fruitless == _FRUITLESS_LOOKS:
                        return  # others hold it: it is theirs, or due for the next run
                    if fruitless > 1:  # once may be ourselves, since the last look
                        self._clock.sleep(_FRUITLESS_SECONDS)
                    continue
                done, fruitless = done + 1, 0
                # What a removal makes room for must not be sent before it is done.
                self._deliver_batch(batch, granted=(lambda: None) if turn.makes_room else held.close)

    def _goes_on(self) -> bool:
        return self.parked is None and not self._is_over()

    def _is_over(self) -> bool:
        return self._work_of_all.stopping.is_set() or self._clock.monotonic() >= self._deadline

    def _next_turn(self) -> Turn | None:
        """Whose request is so near that its contacts may be claimed; ``None``: there is none in this run."""
        while self._goes_on():
            turn = self._claims.next(without=self._parked_lanes())
            if turn is None:
                return None
            # A full request's price: a claim that must not be sent afterwards would hold up its rows.
            answer = self._limiter.peek(price_of_full(self._destination, lane=turn.lane, records=self._size))
            if isinstance(answer, Grant) or answer.seconds <= self._ahead:
                return turn
            now = self._clock.now()
            if answer.reason is WaitReason.RESERVE:
                self._park_lane(turn.lane, Parked(answer.reason, until(answer, now=now)))
            elif self._clock.monotonic() + answer.seconds > self._deadline:
                self._park(Parked(answer.reason, until(answer, now=now)))
            else:
                # Whoever comes meanwhile may be more urgent: so it is looked up again.
                self._wait(min(answer.seconds - self._ahead, LOOK_SECONDS))
        return None

    def _wait(self, seconds: float) -> None:
        self.gate.waited_seconds += seconds
        self._clock.sleep(seconds)

    def _claim(self, turn: Turn, *, claims: Claims | None = None, as_job: bool = False) -> ClaimedBatch | None:
        """Claim what goes in the turn's request. ``as_job``: begin a job with it; what cannot go so is returned."""
        now = self._clock.now()
        # A job's claims outlive their process: whoever comes next takes the job further.
        owner = None if as_job else self._work_of_all.owner.key()
        with self._engine.begin() as connection:
            outbox_ids = (claims or self._claims).pick(connection, turn, now=now)
            mapping = self._mapping_now(connection) if outbox_ids else None
            if mapping is None:
                return None
            batch = claim_batch(
                connection,
                outbox_ids,
                destination=self.name,
                account=self._destination.account,
                mapping=mapping,
                traits=self._client.traits,
                gate=self._rule,
                batch_id=BatchId(uuid7(now)),
                runner_id=self._work_of_all.runner_id,
                lease=self._jobs.lease() if as_job else self._lease,
                owner=owner,
                now=now,
                measure=self._work_of_all.measure,
            )
            self.tally.add(records=len(batch.records), **batch.spared)
            if as_job:
                in_job, batch = self._jobs.parts(batch)
                if in_job.records:
                    self._jobs.begin(connection, in_job)
                keep_claims(
                    connection,
                    [batch.rows[record.outbox_id] for record in batch.records],
                    sent=(),
                    token=batch.token,
                    owner=self._work_of_all.owner.key(),
                    until=now + self._lease,
                    under_way_until=now,
                )
        return batch if batch.rows else None

    def _deliver_batch(self, batch: ClaimedBatch, *, granted: Callable[[], None]) -> None:
        courier = BatchCourier(
            self._engine,
            self._client,
            gate=self.gate,
            clock=self._clock,
            last_look=LastLook(
                destination=self.name,
                token=batch.token,
                owner=self._work_of_all.owner.key,
                lease=self._lease,
                time_out=timedelta(seconds=self._destination.timeout_seconds),
                rows=batch.rows,
                subjects=batch.subjects,
                gates=self._gates,
            ),
            first=batch.request,
            granted=granted,
            tally=self.tally,
            patience=_TIMES_AHEAD * self._ahead,
        )
        refused, code = False, None
        for operation in (*(item for item in Operation if item is not Operation.UPSERT), Operation.UPSERT):
            if records := batch.records_of(operation):
                courier.take(records, lane=_most_urgent(batch.rows[record.outbox_id].lane for record in records))
                asked = partial(self._client.deliver, courier=courier)
                try:
                    answered = answers_of(asked, records, destination=self.name)
                except GrantTaken:
                    self._give_back(batch)
                    return
                for settled in self._settling.settle(batch, answered, operation=operation):
                    self._note(batch.request.batch_id, operation, settled)
                    refused, code = refused or settled.refused, code or settled.refused_with
        self._judge(refused=refused, code=code, last=courier.last)

    def _give_back(self, batch: ClaimedBatch) -> None:
        """Let others have what was claimed for a grant that others got."""
        with self._engine.begin() as connection:
            unclaim_batch(connection, batch, now=self._clock.now())
        self.tally.add(records=-len(batch.records))

    def _judge(self, *, refused: bool, code: str | None, last: CrmResponse | None) -> None:
        """Note how the destination took what it was sent, and leave it alone if it must be."""
        if refused:
            with self._engine.begin() as connection:
                doubt_schema(connection, self.name)  # a property may be gone that was there when it was asked
        if (parked := self._health.after(refused=refused, code=code, last=last)) is not None:
            self._park(parked)

    def _note(self, batch_id: BatchId, operation: Operation, settled: SettledBatch) -> None:
        outcome = settled.outcome
        self.tally.add(delivered=outcome.delivered, retried=outcome.retried, dead=outcome.dead)
        self.tally.refused(settled.refusals)
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

    def _parked_lanes(self) -> list[Lane]:
        now = self._clock.now()
        return [lane for lane, parked in self.parked_lanes.items() if parked.until > now]

    def _park_lane(self, lane: Lane, parked: Parked) -> None:
        self.parked_lanes[lane] = parked
        log.warning(
            "crm_lane_parked", destination=self.name, lane=lane, reason=parked.reason, until=parked.until.isoformat()
        )

    def _park(self, parked: Parked) -> None:
        self.parked = parked
        if parked.reason != WaitReason.WINDOW:
            log.warning(
                "crm_destination_parked",
                destination=self.name,
                reason=parked.reason,
                code=parked.code,
                until=parked.until.isoformat(),
            )


def _most_urgent(lanes: Iterable[Lane]) -> Lane:
    return min(lanes, key=list(Lane).index)
