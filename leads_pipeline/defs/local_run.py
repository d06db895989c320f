"""Runs a Dagster job in this process, on the real instance, until nothing is pending.

For the demo, for a machine without the daemon and for a cron job: the runs, their events and checks stand in Dagster's
storage and in its UI like any others. ``DAGSTER_HOME`` must be set.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import dagster as dg
import sqlalchemy as sa

from leads_pipeline.clock import Clock
from leads_pipeline.errors import LeadsError

# What is due later (a retry with backoff) is waited for in steps of at most this.
_NAP_SECONDS = 2.0

_WAITING = """
select (select count(*) from buffer) + (select count(*) from pending)
       + (select count(*) from outbox where state in ('waiting', 'in_flight')) as waiting,
       least(
           (select min(received_at) from buffer),
           (select min(due_at) from pending),
           (select min(case state when 'waiting' then due_at else claimed_until end)
            from outbox where state in ('waiting', 'in_flight'))
       ) as next_due
"""


class RunFailed(LeadsError):
    """A run of the job failed; Dagster's UI has its events."""


@dataclass(frozen=True, slots=True)
class LocalRun:
    """One run: how long each of its steps took, how many checks passed, and the names of those that did not."""

    run_id: str
    seconds: dict[str, float]
    passed_checks: int
    failed_checks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StillWaiting:
    """How much is not at its end yet, and when the next of it is due."""

    count: int
    next_due: datetime | None


def still_waiting(engine: sa.Engine) -> StillWaiting:
    """What is in the buffer, at a stage's door, or in the outbox."""
    with engine.connect() as connection:
        row = connection.execute(sa.text(_WAITING)).one()
    return StillWaiting(row.waiting, row.next_due)


def run_once(job: dg.JobDefinition, instance: dg.DagsterInstance) -> LocalRun:
    """Run ``job`` here.

    Raises:
        RunFailed: naming the assets whose steps failed.
    """
    result = job.execute_in_process(
        instance=instance,
        run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
        raise_on_error=False,
    )
    seconds: dict[str, float] = {}
    failed_steps: list[str] = []
    passed_checks = 0
    failed_checks: list[str] = []
    for event in result.all_events:
        if event.is_step_success and event.step_key:
            seconds[event.step_key] = seconds.get(event.step_key, 0.0) + event.step_success_data.duration_ms / 1000
        elif event.is_step_failure and event.step_key:
            failed_steps.append(event.step_key)
        elif event.event_type is dg.DagsterEventType.ASSET_CHECK_EVALUATION:
            evaluation = event.asset_check_evaluation_data
            passed_checks += evaluation.passed
            if not evaluation.passed:
                failed_checks.append(f"{evaluation.asset_key.to_user_string()}: {evaluation.check_name}")
    if not result.success:
        raise RunFailed(
            f"run {result.run_id} failed in {', '.join(failed_steps) or 'its start'}; nothing was lost, what it held "
            "is pending again. Its events stand under Runs in the UI (`leads dev`)"
        )
    return LocalRun(result.run_id, seconds, passed_checks, tuple(failed_checks))


def run_until_idle(
    job: dg.JobDefinition,
    instance: dg.DagsterInstance,
    *,
    engine: sa.Engine,
    clock: Clock,
    limit_seconds: float,
    on_run: Callable[[LocalRun, StillWaiting], None],
) -> list[LocalRun]:
    """Run ``job`` until nothing is pending, waiting for retries that are due later.

    Raises:
        RunFailed: as ``run_once``.
        LeadsError: something still waits after ``limit_seconds``; the message says how much.
    """
    runs: list[LocalRun] = []
    started = clock.monotonic()
    while (waiting := still_waiting(engine)).count:
        if clock.monotonic() - started > limit_seconds:
            raise LeadsError(
                f"after {limit_seconds:.0f} s and {len(runs)} runs {waiting.count} still wait; "
                "`leads status` says where"
            )
        wait = (waiting.next_due - clock.now()).total_seconds() if waiting.next_due else 0.0
        if wait > 0:
            clock.sleep(min(wait, _NAP_SECONDS))
            continue
        run = run_once(job, instance)
        runs.append(run)
        on_run(run, still_waiting(engine))
    return runs
