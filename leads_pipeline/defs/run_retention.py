"""Old runs and their events go, so that Dagster's tables do not grow for as long as the pipeline runs.

Dagster itself deletes only ticks. A run a minute is 0.1 GB a day, so this job comes every hour and takes a bounded
portion. What a person may still look for stays longer: what failed, the newest runs of each job, and the runs that the
latest state of an asset or a check points to. Keep out: tables of ours (``defs.maintenance``).
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

import dagster as dg
import sqlalchemy as sa

from leads_pipeline.clock import Clock
from leads_pipeline.config import RetentionSettings
from leads_pipeline.defs.metadata import markdown_table
from leads_pipeline.defs.runs import BACKGROUND, SERIAL_TAG, has_unfinished_run
from leads_pipeline.defs.shield import shielded
from leads_pipeline.flows import FlowContext

# A deletion takes about 30 ms. In a busy hour three sensors ask for some 2,000 runs.
RUNS_AT_ONCE = 4_000
SECONDS_AT_ONCE = 150.0
_PAGE = 200
_CHECKS_AT_ONCE = 20_000

# Jobs that only look: what they found stands in the checks themselves.
LOOKING_JOBS = frozenset({"slo_checks"})
# Jobs that start by themselves all day long.
FREQUENT_JOBS = frozenset({"near_real_time", "delivery", "verification", "retention"})

_TABLES = (
    "event_logs", "runs", "run_tags", "asset_check_executions", "asset_event_tags", "asset_keys", "job_ticks",
    "bulk_actions", "snapshots", "kvs",
)  # fmt: skip
_SIZES = sa.text(
    """
    select name, pg_total_relation_size(to_regclass('public.' || name)) as bytes
    from unnest(cast(:names as text[])) as name where to_regclass('public.' || name) is not null
    """
)
_HAS_CHECKS = sa.text("select to_regclass('public.asset_check_executions') is not null")
_CHECKED = sa.text(
    """
    select run_id from public.asset_check_executions
    where run_id is not null
        and id in (select max(id) from public.asset_check_executions group by asset_key, check_name)
    """
)
# Deleting a run leaves what its checks said. Of each check the newest verdict stays, however old.
_PRUNE_CHECKS = sa.text(
    """
    with newest as materialized (
        select max(id) as id from public.asset_check_executions group by asset_key, check_name
    ),
    old as materialized (
        select id from public.asset_check_executions
        where create_timestamp < (cast(:until as timestamptz) at time zone 'UTC') and id not in (select id from newest)
        order by id limit :limit
    )
    delete from public.asset_check_executions using old where asset_check_executions.id = old.id
    """
)


@dataclass(frozen=True, slots=True)
class RunsPruned:
    """What one pruning did. ``spared``: runs past their time that something still points to."""

    deleted: int
    spared: int
    is_complete: bool


def kept_for(job_name: str, settings: RetentionSettings, *, failed: bool) -> timedelta:
    """How long a run of the job is kept after it was made."""
    if job_name in LOOKING_JOBS:
        days = settings.check_runs_days
    elif job_name in FREQUENT_JOBS:
        days = settings.runs_days
    else:
        days = settings.other_runs_days
    return timedelta(days=max(days, settings.failed_runs_days) if failed else days)


def prune_old_runs(
    instance: dg.DagsterInstance,
    settings: RetentionSettings,
    *,
    clock: Clock,
    spare: Collection[str] = (),
    limit: int = RUNS_AT_ONCE,
    seconds: float = SECONDS_AT_ONCE,
) -> RunsPruned:
    """Delete finished runs past their time, the oldest first: at most ``limit``, for at most ``seconds``.

    Never one of ``spare``, one of its job's newest, or the one that last made an asset.
    """
    started, now = clock.monotonic(), clock.now()
    needed = {*spare, *_last_materialised(instance), *_newest(instance, settings.runs_kept_per_job)}
    past: dict[str, None] = {}
    spared = set[str]()
    for record in _finished(instance, settings, now=now):
        run = record.dagster_run
        failed = run.status is not dg.DagsterRunStatus.SUCCESS
        if now - record.create_timestamp <= kept_for(run.job_name, settings, failed=failed):
            continue
        if run.run_id in needed:
            spared.add(run.run_id)
        else:
            past[run.run_id] = None
        if len(past) > limit:
            break
    deleted = 0
    for run_id in past:  # collected first: a page's cursor is a run, and must still be there
        if deleted >= limit or clock.monotonic() - started >= seconds:
            break
        instance.delete_run(run_id)
        deleted += 1
    return RunsPruned(deleted, len(spared), is_complete=deleted == len(past))


def prune_check_verdicts(connection: sa.Connection, *, before: datetime, limit: int = _CHECKS_AT_ONCE) -> int:
    """Delete what checks said before an instant, at most ``limit``; each check's newest verdict stays."""
    if not _has_checks(connection):
        return 0
    return connection.execute(_PRUNE_CHECKS, {"until": before, "limit": limit}).rowcount


def runs_of_newest_verdicts(connection: sa.Connection) -> set[str]:
    """The runs that the UI links to as the latest of a check."""
    if not _has_checks(connection):
        return set()
    return set(connection.execute(_CHECKED).scalars())


def _has_checks(connection: sa.Connection) -> bool:
    found: bool = connection.execute(_HAS_CHECKS).scalar_one()
    return found


def dagster_bytes(connection: sa.Connection) -> dict[str, int]:
    """What Dagster's tables and their indexes take on disk, by table; nothing where its storage is elsewhere."""
    return {row.name: row.bytes for row in connection.execute(_SIZES, {"names": list(_TABLES)})}


def _finished(instance: dg.DagsterInstance, settings: RetentionSettings, *, now: datetime) -> Iterator[dg.RunRecord]:
    """Finished runs that may be past their time, job by job, the oldest first.

    Each is asked for by its own time: a question for all would read a month of them every hour.
    """
    succeeded, failed = [dg.DagsterRunStatus.SUCCESS], [dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
    asked: list[tuple[str | None, list[dg.DagsterRunStatus], timedelta]] = [
        (name, succeeded, kept_for(name, settings, failed=False)) for name in sorted(LOOKING_JOBS | FREQUENT_JOBS)
    ]
    asked.append((None, succeeded, timedelta(days=settings.other_runs_days)))
    asked.append((None, failed, timedelta(days=settings.failed_runs_days)))
    for name, statuses, age in asked:
        filters = dg.RunsFilter(job_name=name, statuses=statuses, created_before=now - age)
        cursor: str | None = None
        while page := instance.get_run_records(filters, limit=_PAGE, ascending=True, cursor=cursor):
            yield from page
            cursor = page[-1].dagster_run.run_id


def _newest(instance: dg.DagsterInstance, most: int) -> set[str]:
    """The newest runs of each job that ever ran."""
    if most == 0:  # to Dagster no limit
        return set()
    names = {tag for key, values in instance.get_run_tags(tag_keys=[SERIAL_TAG]) for tag in values if key == SERIAL_TAG}
    return {
        run_id for name in names for run_id in instance.get_run_ids(dg.RunsFilter(tags={SERIAL_TAG: name}), limit=most)
    }


def _last_materialised(instance: dg.DagsterInstance) -> set[str]:
    """The runs that the UI links to as the latest of an asset."""
    records = instance.get_asset_records(list(instance.all_asset_keys()))
    latest = (record.asset_entry.last_materialization for record in records)
    return {event.run_id for event in latest if event is not None}


@dg.op(description="Deletes old runs with their events, a bounded portion, and measures what Dagster's tables take.")
def prune_runs(context: dg.OpExecutionContext, flow: dg.ResourceParam[FlowContext]) -> None:
    settings, instance = flow.settings.retention, context.instance
    with shielded("retention deletes old runs"):
        with flow.engine.connect() as connection:
            spare = runs_of_newest_verdicts(connection)
        pruned = prune_old_runs(instance, settings, clock=flow.clock, spare=spare)
        until = flow.clock.now() - timedelta(days=settings.runs_days)
        with flow.engine.begin() as connection:
            verdicts = prune_check_verdicts(connection, before=until)
            sizes = dagster_bytes(connection)
        runs = instance.get_runs_count()
    context.add_output_metadata(
        {
            "deleted_runs": pruned.deleted,
            "spared_runs": pruned.spared,
            "is_complete": pruned.is_complete,
            "deleted_check_verdicts": verdicts,
            "runs": runs,
            "dagster_bytes": sum(sizes.values()),
            "kb_per_run": round(sum(sizes.values()) / 1000 / max(1, runs), 1),
            "tables": markdown_table(("table", "MB"), [(name, size / 1e6) for name, size in sizes.items()]),
        }
    )


@dg.job(
    description="Deletes old runs and their events, a bounded portion an hour, and measures what they take.",
    tags={SERIAL_TAG: "retention", "dagster/priority": "-20", **BACKGROUND},
)
def retention() -> None:
    prune_runs()


@dg.schedule(
    job=retention,
    cron_schedule="50 * * * *",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Old runs go, every hour.",
)
def retention_hourly(
    context: dg.ScheduleEvaluationContext, flow: dg.ResourceParam[FlowContext]
) -> dg.RunRequest | dg.SkipReason:
    if has_unfinished_run(context.instance, retention.name, now=flow.clock.now()):
        return dg.SkipReason("the last run is still under way")
    return dg.RunRequest()
