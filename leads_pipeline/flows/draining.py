"""One stage's drain: whatever is pending at its door, in chunks of one tenant, round robin over the tenants.

So one tenant's flood does not hold up another's leads. Add a stage in ``_step``; keep out what a step does.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Self

import sqlalchemy as sa

from leads_pipeline.buffer.opening import buffers_to_drain
from leads_pipeline.buffer.port import LeadBuffer
from leads_pipeline.buffer.postgresql import PostgresBuffer
from leads_pipeline.domain.chunk_sizes import ChunkSizes
from leads_pipeline.domain.ids import BatchId, uuid7
from leads_pipeline.domain.stage import Chunk, ChunkReport, Lane, Stage
from leads_pipeline.domain.verification import LookupKind
from leads_pipeline.errors import DatabaseError, DatabaseUnavailable, LeadsError
from leads_pipeline.flows.context import FlowContext
from leads_pipeline.flows.lookups import verify
from leads_pipeline.matching.scorer_source import ScorerSource
from leads_pipeline.steps.deduped_leads import dedupe_leads
from leads_pipeline.steps.fetched_leads import fetch_leads
from leads_pipeline.steps.golden_contacts import refresh_golden_contacts
from leads_pipeline.steps.raw_leads import move_raw_leads
from leads_pipeline.steps.raw_leads import tenants_waiting as tenants_in_buffer
from leads_pipeline.steps.validated_leads import validate_leads
from leads_pipeline.storage import pending
from leads_pipeline.storage.database import translated_errors
from leads_pipeline.storage.lead_fetches import tenants_to_fetch_for
from leads_pipeline.storage.orders import OrdersWatch
from leads_pipeline.telemetry import get_logger

log = get_logger(__name__)

# The stages that move leads inside the database; delivery is planned and then carried out.
DRAINED_STAGES = (Stage.RAW_LEADS, Stage.VALIDATED_LEADS, Stage.DEDUPED_LEADS, Stage.GOLDEN_CONTACTS)

# For how long one drain asks vendors for leads that they only named: the assets below wait for it. What is left is due,
# and the next run asks for it.
FETCH_BUDGET = timedelta(seconds=20)
FETCH_CHUNK = 40

# A subject on which a step breaks waits this long before it is tried again: time to mend the code or the lead.
POISON_PAUSE = timedelta(hours=1)
# Of one tenant in one drain. Where more fails the fault is not in the leads, and setting them aside only delays them.
MOST_SET_ASIDE = 3


@dataclass(frozen=True, slots=True)
class StageSummary:
    """What one drain of a stage did.

    ``asked``: leads that a vendor was asked for, whatever it answered. ``oldest_wait_seconds``: how long the oldest
    subject that still waits has waited; ``None`` when nothing does.
    """

    stage: Stage
    chunks: int
    taken: int
    passed: int
    counts: dict[str, int]
    seconds: float
    oldest_wait_seconds: float | None
    remaining: int
    asked: int = 0


class StageFailed(LeadsError):
    """A stage could not take the chunks of some tenants; the others were served (``summary``), and nothing was lost."""

    def __init__(self, message: str, *, summary: StageSummary, tenants: tuple[str, ...]) -> None:
        self.summary = summary
        self.tenants = tenants
        super().__init__(message)


Step = Callable[[Chunk], ChunkReport]


def drain(
    context: FlowContext, stage: Stage, *, lanes: Sequence[Lane], runner_id: str, seconds: float | None = None
) -> StageSummary:
    """Run ``stage`` until nothing of ``lanes`` is due at its door, or ``seconds`` have passed.

    Without ``seconds``, ``pipeline.run_seconds``.

    A chunk that fails is tried again in halves; what fails by itself is set aside for ``POISON_PAUSE``, so that its
    neighbours go on.

    Raises:
        DatabaseUnavailable: the database cannot be reached; nothing was lost, call again.
        StageFailed: the chunks of some tenants failed or something was set aside; all else was served first.
    """
    started = context.clock.monotonic()
    most = context.settings.pipeline.run_seconds if seconds is None else seconds
    with translated_errors(f"{stage} takes what is pending"), _Drain(context, stage, tuple(lanes), runner_id) as work:
        while context.clock.monotonic() - started < most:
            now = context.clock.now()
            tenants = [name for name in work.tenants_waiting(now) if name not in work.finished]
            if not tenants:
                break
            for tenant in tenants:
                work.take(tenant, context.clock.now())  # those before it took their time
        if stage is Stage.RAW_LEADS:
            work.fetch()
        if stage is Stage.VALIDATED_LEADS:
            work.verify()
        remaining, oldest = work.still_waiting()
    summary = StageSummary(
        stage=stage,
        chunks=work.chunks,
        taken=work.taken,
        passed=work.passed,
        counts=dict(work.counts),
        seconds=context.clock.monotonic() - started,
        # Never negative: a clock may have been set back since.
        oldest_wait_seconds=max(0.0, (context.clock.now() - oldest).total_seconds()) if oldest else None,
        remaining=remaining,
        asked=work.asked,
    )
    if work.errors:
        raise work.failure(summary)
    return summary


class _Drain:
    """What one drain of a stage has done so far, tenant by tenant."""

    def __init__(self, context: FlowContext, stage: Stage, lanes: tuple[Lane, ...], runner_id: str) -> None:
        self._context = context
        self._stage = stage
        self._lanes = lanes
        self._runner_id = runner_id
        self._buffers = buffers_to_drain(context.settings, context.engine) if stage is Stage.RAW_LEADS else ()
        self._step = _step(context, stage, self._buffers)
        self._orders = OrdersWatch(context.engine, clock=context.clock)
        pipeline = context.settings.pipeline
        self._sizes = ChunkSizes(first=pipeline.first_chunk_size, most=pipeline.chunk_size)
        self._size_of: dict[str, int] = {}
        self._limits: dict[str, int] = {}
        self._set_aside: Counter[str] = Counter()
        self.finished: set[str] = set()
        self.errors: dict[str, Exception] = {}
        self.chunks = self.taken = self.passed = self.asked = 0
        self.counts: Counter[str] = Counter()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        for buffer in self._buffers:
            buffer.close()

    def tenants_waiting(self, now: datetime) -> list[str]:
        """The tenants with something due at this stage's door, by name."""
        with self._context.engine.connect() as connection:
            if self._stage is not Stage.RAW_LEADS:
                return pending.tenants_waiting(connection, self._stage, lanes=self._lanes, now=now)
            found: set[str] = set()
            for buffer in self._buffers:
                try:
                    found.update(tenants_in_buffer(connection, lanes=self._lanes, now=now, buffers=(buffer,)))
                except DatabaseUnavailable as error:  # Redis: what PostgreSQL holds goes on
                    log.error("buffer_unavailable", why=error.why)  # noqa: TRY400 - no traceback where leads may be quoted
                    self.errors.setdefault("a buffer that cannot be reached", error)
                    self._buffers = tuple(other for other in self._buffers if other is not buffer)
                    self._step = _step(self._context, self._stage, self._buffers)
                    buffer.close()
            return sorted(found)

    def still_waiting(self) -> tuple[int, datetime | None]:
        """How much waits at this stage's door, due or not, and since when."""
        waiting, oldest = _still_waiting(self._context, self._stage, self._lanes)
        for buffer in self._buffers:
            if isinstance(buffer, PostgresBuffer):
                continue  # counted by the statement
            with self._context.engine.connect() as connection:
                depths = [depth for depth in buffer.depths(connection) if depth.lane in self._lanes]
            waiting += sum(depth.waiting for depth in depths)
            ages = [depth.oldest_received_at for depth in depths] + ([oldest] if oldest else [])
            oldest = min(ages, default=None)
        return waiting, oldest

    def take(self, tenant: str, now: datetime) -> None:
        """Take one chunk of ``tenant``, of the lanes that no rule pauses, as large as rules have it."""
        orders = self._orders.now()
        lanes = orders.lanes_open(tenant, self._lanes)
        if not lanes:
            self.finished.add(tenant)
            return
        usual = self._size_of.get(tenant, self._sizes.begin())
        chunk = Chunk(
            tenant=tenant,
            lanes=lanes,
            limit=self._limits.get(tenant) or orders.chunk_size(usual, tenant=tenant, lanes=lanes),
            batch_id=BatchId(uuid7(now)),
            runner_id=self._runner_id,
            now=now,
        )
        try:
            report = self._step(chunk)
        except (DatabaseError, sa.exc.OperationalError, sa.exc.InterfaceError):
            raise
        except Exception as error:  # noqa: BLE001 - one tenant's trouble must not hold up another's leads
            self._after_failure(chunk, error)
            return
        if report.taken == 0:
            self.finished.add(tenant)  # another worker holds what is due for this tenant: it is being served
            return
        self._size_of[tenant] = self._sizes.after(usual, was_full=report.taken >= chunk.limit)
        self.chunks += 1
        self.taken += report.taken
        self.passed += report.passed
        self.counts.update(report.counts)
        if report.counts.get("set_aside"):  # by the buffer itself; behind it there may be nothing wrong
            self._limits.pop(tenant, None)
            self._set_aside[tenant] += 1
            if self._set_aside[tenant] >= MOST_SET_ASIDE:
                self.finished.add(tenant)

    def fetch(self) -> None:
        """Ask vendors for the leads that they only named, for as long as ``FETCH_BUDGET`` allows."""
        clock, engine = self._context.clock, self._context.engine
        ends, finished = clock.monotonic() + FETCH_BUDGET.total_seconds(), set[str]()
        while (left := ends - clock.monotonic()) > 0:
            now, budget = clock.now(), timedelta(seconds=left)
            with engine.connect() as connection:
                tenants = [t for t in tenants_to_fetch_for(connection, lanes=self._lanes, now=now) if t not in finished]
            if not tenants:
                break
            for tenant in tenants:
                chunk = Chunk(tenant, self._lanes, FETCH_CHUNK, BatchId(uuid7(now)), self._runner_id, now)
                try:
                    report = fetch_leads(engine, chunk, settings=self._context.settings, clock=clock, budget=budget)
                except (DatabaseError, sa.exc.OperationalError, sa.exc.InterfaceError):
                    raise
                except Exception as error:  # noqa: BLE001 - one tenant's trouble must not hold up another's leads
                    self._note_failure(chunk, error)
                    finished.add(tenant)
                    continue
                self.asked += report.taken
                self.counts.update(report.counts)
                if report.taken == 0:
                    finished.add(tenant)

    def verify(self) -> None:
        """Ask DNS for a moment, so that most leads need not wait for a run of their own.

        Not providers: a micro-batch would wait for their answers, which may take a minute.
        """
        seconds = self._context.settings.verification.seconds_in_hot_run
        if seconds > 0:
            report = verify(self._context, runner_id=self._runner_id, seconds=seconds, kinds=(LookupKind.MX,))
            self.asked += report.lookups
            self.counts.update(report.totals())

    def _note_failure(self, chunk: Chunk, error: Exception) -> None:
        # No traceback: a driver's message may quote the row.
        log.error(
            "chunk_failed", stage=self._stage, tenant=chunk.tenant, limit=chunk.limit, error_type=type(error).__name__
        )
        self.errors.setdefault(chunk.tenant, error)

    def _after_failure(self, chunk: Chunk, error: Exception) -> None:
        tenant, stage = chunk.tenant, self._stage
        self._note_failure(chunk, error)
        if self._set_aside[tenant] >= MOST_SET_ASIDE:
            self.finished.add(tenant)  # where so much fails, it is not the leads
        elif chunk.limit > 1:
            self._limits[tenant] = chunk.limit // 2
        elif stage is Stage.RAW_LEADS:
            self.finished.add(tenant)  # PostgreSQL's buffer has no door of its own to wait at
        else:
            with self._context.engine.begin() as connection:
                subject = pending.set_aside(connection, stage, chunk, until=chunk.now + POISON_PAUSE)
            log.error("set_aside", stage=stage, tenant=tenant, subject_id=str(subject), until=chunk.now + POISON_PAUSE)
            self._set_aside[tenant] += 1
            self.counts["set_aside"] += 1
            self._limits.pop(tenant, None)

    def failure(self, summary: StageSummary) -> StageFailed:
        """What is raised when all else is done."""
        names = tuple(sorted(self.errors))
        first = self.errors[names[0]]
        aside = sum(self._set_aside.values())
        made = StageFailed(
            f"{self._stage}: chunks of {', '.join(names)} failed with {type(first).__name__}; what they held is "
            f"pending again, {aside} set aside for {POISON_PAUSE.total_seconds() / 60:.0f} minutes; "
            f"{summary.taken} were taken",
            summary=summary,
            tenants=names,
        )
        made.__cause__ = first
        return made


def _step(context: FlowContext, stage: Stage, buffers: Sequence[LeadBuffer]) -> Step:
    engine, settings, measure = context.engine, context.settings, context.measure
    if stage is Stage.RAW_LEADS:
        return lambda chunk: move_raw_leads(engine, chunk, buffers=buffers, measure=measure)
    if stage is Stage.VALIDATED_LEADS:
        return lambda chunk: validate_leads(engine, chunk, settings=settings, measure=measure)
    if stage is Stage.DEDUPED_LEADS:
        return _dedupe_step(context)
    if stage is Stage.GOLDEN_CONTACTS:
        return lambda chunk: refresh_golden_contacts(engine, chunk, settings=settings, measure=measure)
    raise ValueError(f"{stage} is not drained: plan_sync and deliver serve it")


def _dedupe_step(context: FlowContext) -> Step:
    scorers = ScorerSource(context.engine)

    def step(chunk: Chunk) -> ChunkReport:
        # Asked for anew for every chunk: a model that is activated meanwhile serves the next one.
        scorer = scorers.scorer_of(chunk.tenant)
        return dedupe_leads(context.engine, chunk, settings=context.settings, scorer=scorer, measure=context.measure)

    return step


def _still_waiting(context: FlowContext, stage: Stage, lanes: Sequence[Lane]) -> tuple[int, datetime | None]:
    if stage is Stage.RAW_LEADS:
        waiting = "select lane, received_at as since from buffer union all select lane, since from lead_fetches"
        source = f"({waiting}) as intake"
    else:
        source = "pending"
    statement = sa.text(
        f"select count(*) as waiting, min(since) as oldest from {source} "  # noqa: S608 - names from this module
        f"where lane = any(:lanes){'' if stage is Stage.RAW_LEADS else ' and stage = :stage'}"
    )
    with context.engine.connect() as connection:
        row = connection.execute(statement, {"stage": stage, "lanes": [str(lane) for lane in lanes]}).one()
    return row.waiting, row.oldest
