"""The pipeline looks at itself: latencies are folded, promises evaluated, rules applied, alerts raised, in this order.

Each part is by itself: one that fails, or takes longer than its share of a tick, leaves the others alone and is named.
Add a part to ``PARTS``; keep out what it does.
"""

import math
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as TookTooLong
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from leads_pipeline.domain.policy_targets import Sample
from leads_pipeline.flows.context import FlowContext
from leads_pipeline.steps.applied_policies import PolicyReport, apply_policies
from leads_pipeline.steps.evaluated_slos import EvaluationReport, evaluate_slos, is_slow
from leads_pipeline.steps.raised_alerts import RaiseReport, raise_alerts
from leads_pipeline.storage import measure_history
from leads_pipeline.storage.latency import fold
from leads_pipeline.storage.measure_history import Taken
from leads_pipeline.storage.slos import read_verdicts
from leads_pipeline.storage.watch_looks import Watched, note_looks
from leads_pipeline.telemetry import get_logger
from leads_pipeline.watching.measures import take_measures
from leads_pipeline.watching.rules import measures_asked

log = get_logger(__name__)

# How often it is looked. An order that is not renewed ends after six times as long.
WATCH_SECONDS = 30.0
# A sensor's tick is killed at 60 s with its work lost.
PART_SECONDS = 12.0
# So the promises that were judged are written down before it is over.
JUDGE_SECONDS = 9.0
# A part that has not come back by then is begun anew. What it may wait for has limits of its own (statements, locks, a
# server that is gone: two minutes), so that hardly any is left behind, each with a connection of the pool.
HUNG_SECONDS = 300.0
# Every five minutes, two minutes after the job slo_checks begins: what that has judged is not judged here as well.
_SLOW_MINUTES, _SLOW_AT_MINUTE = 5, 2
_JUDGED_LATELY = timedelta(minutes=4)


@dataclass(frozen=True, slots=True)
class Part:
    """One thing that is done in every look. What it answers is shown with ``words``."""

    name: str
    run: Callable[[FlowContext, str], Any]
    words: Callable[[Any], str]


@dataclass(frozen=True, slots=True)
class Done:
    """What became of a part. ``failed``: the class of its error, or that it took too long."""

    name: str
    seconds: float
    words: str = ""
    report: Any = None
    failed: str | None = None


@dataclass(frozen=True, slots=True)
class WatchReport:
    """One look at everything."""

    parts: tuple[Done, ...] = field(default_factory=tuple)

    @property
    def policies(self) -> PolicyReport | None:
        """What the rules did, if they could look."""
        found = [part.report for part in self.parts if isinstance(part.report, PolicyReport)]
        return found[0] if found else None

    @property
    def failed(self) -> dict[str, str]:
        """The parts that failed, each with why."""
        return {part.name: part.failed for part in self.parts if part.failed is not None}

    def words(self) -> str:
        """One line for people."""
        return "; ".join(f"{part.name}: {part.failed or part.words}" for part in self.parts)


def fold_latencies(context: FlowContext, _runner_id: str) -> int:
    """Add up what chunks wrote down of how long their leads took."""
    return fold(context.engine, now=context.clock.now())


def act(context: FlowContext, runner_id: str) -> PolicyReport:
    """Measure what the rules ask for, and once a minute all there is; then let the rules look."""
    with context.engine.connect() as connection:
        keeps = measure_history.is_due(connection, now=context.clock.now())
    taken = take(context, None if keeps else measures_asked(context.settings))
    if keeps:
        with context.engine.begin() as connection:
            measure_history.keep(connection, taken, now=context.clock.now())
    return apply_policies(
        context.engine, settings=context.settings, clock=context.clock, runner_id=runner_id, taken=taken
    )


def take(context: FlowContext, names: Sequence[str] | None) -> Taken:
    """What is measured now, without what could not be; all there is without ``names``."""
    measures = take_measures(context.engine, settings=context.settings, clock=context.clock, names=names)
    return {
        name: [Sample(item.labels, item.value) for item in values if math.isfinite(item.value)]
        for name, values in measures.by_name.items()
    }


def judge(context: FlowContext, runner_id: str) -> EvaluationReport:
    """Judge the promises; those that read many leads every five minutes, unless a job does."""
    return evaluate_slos(
        context.engine,
        settings=context.settings,
        clock=context.clock,
        runner_id=runner_id,
        slow=_slow_ones_are_due(context),
        all_seconds=JUDGE_SECONDS,
    )


def _slow_ones_are_due(context: FlowContext) -> bool:
    """Once in a minute of five: of its two looks one may come late, and one that did it needs no second."""
    now = context.clock.now()
    if now.minute % _SLOW_MINUTES != _SLOW_AT_MINUTE:
        return False
    slow = {name for name, item in context.settings.slos.promises.items() if is_slow(item)}
    with context.engine.connect() as connection:
        judged = [item.evaluated_at for item in read_verdicts(connection) if item.key.slo in slow]
    return not judged or not all(now - _JUDGED_LATELY < at <= now for at in judged)


def _judged(report: EvaluationReport) -> str:
    told = [f"{len(report.findings)} judged", f"{len(report.breached)} not kept"]
    if report.failed:
        told.append(f"failed: {', '.join(report.failed)}")
    if report.closed:
        told.append(f"{len(report.closed)} gates closed")
    return ", ".join(told)


def alert(context: FlowContext, runner_id: str) -> RaiseReport:
    """Open what is wrong and close what is well again; sending is not waited for."""
    return raise_alerts(context.engine, settings=context.settings, clock=context.clock, runner_id=runner_id)


def _alerted(report: RaiseReport) -> str:
    told = [f"{count} {step}" for step, count in report.steps.items() if count]
    return ", ".join([*told, *(f"{source} unreadable" for source in report.blind)]) or "nothing new"


def _acted(report: PolicyReport) -> str:
    if report.busy:
        return "another engine is at it"
    told = [f"{report.acting} in force", f"{len(report.began)} began", f"{len(report.ended)} ended"]
    if report.failed:
        told.append(f"failed: {', '.join(report.failed)}")
    if report.unmeasured:
        told.append(f"not measured: {', '.join(report.unmeasured)}")
    return ", ".join(told)


PARTS: tuple[Part, ...] = (
    Part("latencies", fold_latencies, lambda folded: f"{folded} folded"),
    Part("promises", judge, _judged),
    Part("policies", act, _acted),
    Part("alerts", alert, _alerted),
)


def watch(
    context: FlowContext, *, runner_id: str, parts: Sequence[Part] = PARTS, part_seconds: float = PART_SECONDS
) -> WatchReport:
    """Look once. Never raises: what fails is named in the report, logged, and noted for those who tell people."""
    report = WatchReport(tuple(_done(part, context, runner_id, part_seconds) for part in parts))
    notes = Part("notes", lambda context, _runner_id: note(context, report), str)
    _done(notes, context, runner_id, part_seconds / 2)
    return report


def note(context: FlowContext, report: WatchReport) -> None:
    """Write down what came of a look, of every part, rule, measure and promise that it was about."""
    outcomes: dict[tuple[Watched, str], str | None] = {}
    for part in report.parts:
        outcomes[Watched.PART, part.name] = part.failed
        if isinstance(part.report, PolicyReport) and not part.report.busy:
            blind, rules = part.report.unmeasured, context.settings.policies
            outcomes |= {(Watched.RULE, name): part.report.failed.get(name) for name in rules}
            outcomes |= {
                (Watched.MEASURE, name): "not measured" if name in blind else None
                for name in measures_asked(context.settings)
            }
        if isinstance(part.report, EvaluationReport):
            never, failed = {key.slo for key in part.report.unjudged}, part.report.failed
            outcomes |= {
                (Watched.PROMISE, name): failed.get(name, "not judged yet") if name in never else None
                for name in context.settings.slos.promises
            }
    with context.engine.begin() as connection:
        note_looks(connection, outcomes, now=context.clock.now())


# Parts of earlier looks that have not come back, and when they began: a second one would only wait for the same.
_under_way: dict[str, tuple[Future[Any], float]] = {}


def _done(part: Part, context: FlowContext, runner_id: str, seconds: float) -> Done:
    began = context.clock.monotonic()
    before, before_at = _under_way.get(part.name, (None, began))
    if before is not None and not before.done():
        if began - before_at < HUNG_SECONDS:
            return Done(part.name, 0.0, failed="the last look at it is still under way")
        log.error("watch_part_hangs", part=part.name, seconds=round(began - before_at))
    future: Future[Any] = Future()
    _under_way[part.name] = (future, began)
    threading.Thread(target=_carry_out, args=(future, part, context, runner_id), daemon=True).start()
    try:
        report = future.result(timeout=seconds)
    except TookTooLong:
        failed = f"it took longer than {seconds:g} s"
    except Exception as error:  # noqa: BLE001 - one part's trouble must not keep the others from looking
        failed = type(error).__name__
    else:
        return Done(part.name, context.clock.monotonic() - began, part.words(report), report)
    log.error("watch_part_failed", part=part.name, why=failed)
    return Done(part.name, context.clock.monotonic() - began, failed=failed)


def _carry_out(future: "Future[Any]", part: Part, context: FlowContext, runner_id: str) -> None:
    try:
        future.set_result(part.run(context, runner_id))
    except BaseException as error:  # noqa: BLE001 - it is the waiting thread's to judge
        future.set_exception(error)
