"""Runs a Dagster job in this process, on the real instance, until nothing is pending.

For the demo, for a machine without the daemon and for a cron job: the runs, their events and checks stand in Dagster's
storage and in its UI like any others. ``DAGSTER_HOME`` must be set.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import dagster as dg
import sqlalchemy as sa

from leads_pipeline.buffer.queues import redis_depths
from leads_pipeline.crm.parking import parked_now
from leads_pipeline.domain.stage import Stage
from leads_pipeline.errors import DatabaseUnavailable, LeadsError
from leads_pipeline.flows import FlowContext, lookups_due
from leads_pipeline.storage.claim_owners import release_dead_claims

# What is due later (a retry with backoff) is waited for in steps of at most this.
_NAP_SECONDS = 2.0

# What is due and not served by the job (another lane, a destination that is no longer configured) would be asked for
# again at once, a run a second, until the time is up.
_FRUITLESS_RUNS = 3

# A destination that refuses us is asked again when its pause ends: what waits for it is not due before.
_WAITING = """
with due as (
    select received_at as due_at, null as door from buffer
    union all
    -- what was never put off is due also where it is ahead of a clock that was set back
    select case when due_at <= since then least(due_at, :now) else due_at end, null from pending
    union all
    select due_at, null from lead_fetches where due_at <= :now
    union all
    select case state when 'waiting' then due_at else claimed_until end,
        destination || ' ' || lane
    from outbox where :delivers and state in ('waiting', 'in_flight')
)
select count(*) as waiting,
       count(*) filter (where door = any(:parked)) as parked,
       min(due_at) filter (where door is null or door <> all(:parked)) as next_due,
       (
           select string_agg(concat_ws(' ', destination, last_verdict, contacts), ', ' order by destination)
           from (
               select destination, last_verdict, count(*) as contacts from outbox
               where state = 'waiting' and attempts > 0 and last_verdict is not null group by destination, last_verdict
           ) as refused
       ) as refused,
       (select count(*) from lead_fetches where due_at > :now) as to_fetch
from due
"""


class RunFailed(LeadsError):
    """A run of the job failed; Dagster's UI has its events."""


@dataclass(frozen=True, slots=True)
class LocalRun:
    """One run: how long each of its steps took, how many checks passed, and what those say that did not, by name."""

    run_id: str
    seconds: dict[str, float]
    passed_checks: int
    failed_checks: dict[str, str]


@dataclass(frozen=True, slots=True)
class StillWaiting:
    """How much is not at its end yet, and when the next of it is due.

    ``parked`` of it wait for destinations that must not be asked for now; ``why`` says which and until when.
    ``refused`` counts what will be tried again by destination and last verdict; empty if there is none. ``to_fetch``
    leads, which are not of the count, wait until their vendor may be asked again who they are.
    """

    count: int
    next_due: datetime | None
    parked: int
    why: str
    refused: str
    to_fetch: int


def still_waiting(context: FlowContext, *, delivers: bool = True) -> StillWaiting:
    """What is in either buffer, at a stage's door, or, if the job ``delivers``, in the outbox.

    Raises:
        DatabaseUnavailable: Redis does not answer, and nothing else waits that a run could serve meanwhile.
    """
    now = context.clock.now()
    parked = parked_now(context.engine, settings=context.settings, now=now)
    doors = [f"{name} {lane}" for name in context.settings.destinations for lane in parked.lanes_of(name)]
    with context.engine.begin() as connection:
        release_dead_claims(connection, now=now)
        row = connection.execute(sa.text(_WAITING), {"parked": doors, "delivers": delivers, "now": now}).one()
    try:
        buffered = [depth for depth in redis_depths(context.settings) if depth.tenant in context.settings.tenants]
    except DatabaseUnavailable:
        if not row.waiting:
            raise
        buffered = []
    count = row.waiting + sum(depth.waiting for depth in buffered)
    next_due = min(
        (due for due in (row.next_due, *(depth.oldest_received_at for depth in buffered)) if due), default=None
    )
    why = ", ".join(
        f"{name} until {item.until:%Y-%m-%d %H:%M} UTC ({item.reason})" for name, item in parked.named().items()
    )
    return StillWaiting(count, next_due, row.parked, why, row.refused or "", row.to_fetch)


def run_once(job: dg.JobDefinition, instance: dg.DagsterInstance) -> LocalRun:
    """Run ``job`` here.

    Raises:
        RunFailed: naming the assets whose steps failed, and why as far as the shield lets it be said.
    """
    result = job.execute_in_process(
        instance=instance,
        run_config={**(job.run_config or {}), "loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
        raise_on_error=False,
    )
    seconds: dict[str, float] = {}
    failed_steps: list[str] = []
    reasons: list[str] = []
    passed_checks = 0
    failed_checks: dict[str, str] = {}
    for event in result.all_events:
        if event.is_step_success and event.step_key:
            seconds[event.step_key] = seconds.get(event.step_key, 0.0) + event.step_success_data.duration_ms / 1000
        elif event.is_step_failure and event.step_key:
            failed_steps.append(event.step_key)
            if (failure := event.step_failure_data.user_failure_data) and failure.description:
                reasons.append(failure.description)
        elif event.event_type is dg.DagsterEventType.ASSET_CHECK_EVALUATION:
            evaluation = event.asset_check_evaluation_data
            passed_checks += evaluation.passed
            if not evaluation.passed:
                name = f"{evaluation.asset_key.to_user_string()}: {evaluation.check_name}"
                failed_checks[name] = evaluation.description or ""
    if not result.success:
        raise RunFailed(
            f"run {result.run_id} failed in {': '.join([', '.join(failed_steps) or 'its start', *reasons])}. "
            "Nothing was lost, what it held is pending again. Its events stand under Runs in the UI (`leads dev`)"
        )
    return LocalRun(result.run_id, seconds, passed_checks, failed_checks)


def run_until_idle(
    job: dg.JobDefinition,
    instance: dg.DagsterInstance,
    context: FlowContext,
    *,
    limit_seconds: float,
    on_run: Callable[[LocalRun, StillWaiting], None],
) -> list[LocalRun]:
    """Run ``job`` until nothing is pending that it serves, waiting for retries that are due later.

    Raises:
        RunFailed: as ``run_once``.
        LeadsError: something still waits after ``limit_seconds``, or only for destinations that must not be asked now,
            or several runs moved nothing; the message says how much and why.
    """
    runs: list[LocalRun] = []
    fruitless = 0
    clock = context.clock
    started = clock.monotonic()
    delivers = dg.AssetKey(str(Stage.CRM_SYNC_BATCHES)) in job.asset_layer.selected_asset_keys
    while (waiting := still_waiting(context, delivers=delivers)).count:
        if waiting.count == waiting.parked:
            raise LeadsError(f"{waiting.count} contacts wait for a destination that is parked: {waiting.why}")
        if clock.monotonic() - started > limit_seconds:
            raise LeadsError(
                f"after {limit_seconds:.0f} s and {len(runs)} runs {waiting.count} still wait; "
                "`leads status` says where"
            )
        wait = (waiting.next_due - clock.now()).total_seconds() if waiting.next_due else 0.0
        if wait > limit_seconds - (clock.monotonic() - started):
            raise LeadsError(
                f"{waiting.count} wait until {waiting.next_due:%H:%M} UTC at the earliest, longer than the limit "
                "allows; `leads status` says where"
            )
        # What a lead waits for may be a look-up that somebody can make now: a run does.
        if wait > 0 and not lookups_due(context):
            clock.sleep(min(wait, _NAP_SECONDS))
            continue
        run = run_once(job, instance)
        runs.append(run)
        after = still_waiting(context, delivers=delivers)
        on_run(run, after)
        moved = (after.count, after.next_due) != (waiting.count, waiting.next_due)
        fruitless = 0 if moved else fruitless + 1
        if fruitless == _FRUITLESS_RUNS:
            raise LeadsError(
                f"{after.count} wait, and {fruitless} runs of {job.name} moved none of them: it does not serve their "
                "lane, tenant or destination; `leads status` says where they are"
            )
    return runs
