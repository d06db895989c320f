"""What Dagster alone knows of trouble, and the sending of alerts: two sensors, so that neither waits for the other.

``run_failure_sensor`` would tell of single runs and never that a job works again; and a check that fails without
blocking fails no run. So both are looked at as they stand, by what Dagster's storage says. What the database knows is
``watching.alert_sources``'s.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg

from leads_pipeline.defs.runs import FINISHED, GIVEN_UP_AFTER
from leads_pipeline.defs.shield import shielded
from leads_pipeline.domain.alerting import Health, Observation, Trouble
from leads_pipeline.domain.severity import Severity
from leads_pipeline.domain.stage import Stage
from leads_pipeline.flows import FlowContext
from leads_pipeline.steps.raised_alerts import note_observations, raise_alerts
from leads_pipeline.steps.sent_alerts import send_alerts
from leads_pipeline.storage.alert_notices import any_due
from leads_pipeline.watching.alert_sources import LOOKS, STALENESS

RUN, CHECK = "run", "check"

# Asked for again within seconds when they fail, so that one failed run is no news.
ASKED_AGAIN = frozenset({"near_real_time", "delivery", "verification"})
# Nothing moves while these fail.
_VITAL = frozenset({"near_real_time", "delivery"})

# Checks of what other alerts are about, with more to say; those of promises begin so.
TOLD_ELSEWHERE = frozenset({"runs_succeed", "parked_destinations", "mapping"})
PROMISES = "slo_"
# Which page a failed check opens.
CHECK_PLAYBOOKS = {
    "conservation": "conservation-broken",
    "duplicate_emails": "duplicates-rising",
    "record_keys": "duplicates-rising",
    "oldest_pending": "leads-late",
    "chunks_taken": "stuck-run",
    "delivery_success": "deliveries-late",
    "open_dead_letters": "deliveries-late",
    "rejection_rate": "rejections-rising",
    "validation_rules": "rejections-rising",
    "quality_holds": "rejections-rising",
    "expectations": "rejections-rising",
    "schema_drift": "rejections-rising",
    "verified_in_time": "verification-outage",
    "verification_budget": "verification-outage",
}
# Of deliveries a check of the same name is about a CRM, not about the chain before it.
DELIVERY_PLAYBOOKS = {**CHECK_PLAYBOOKS, "oldest_pending": "deliveries-late"}
DEFAULT_PLAYBOOK = "stuck-run"
# Of a check that is being asked now the answer before counts; also of one whose run died a few times.
_ANSWERS_READ = 5


@dg.sensor(
    name="alerts_waiting",
    default_status=dg.DefaultSensorStatus.RUNNING,
    minimum_interval_seconds=5,
    description="Sends alerts that are due to their channels. A channel that is dead holds up nothing but itself.",
)
def alerts_waiting(flow: dg.ResourceParam[FlowContext]) -> dg.SkipReason:
    """The outbox holds the truth; a tick that dies leaves claims that run out."""
    with shielded("alerts_waiting sends alerts"):
        with flow.engine.connect() as connection:
            longest = timedelta(minutes=flow.settings.alerts.retry_minutes)
            due = any_due(connection, now=flow.clock.now(), longest=longest)
        if not due:
            return dg.SkipReason("no alert is due")
        report = send_alerts(flow.engine, settings=flow.settings, clock=flow.clock)
    told = [f"{count} sent to {channel}" for channel, count in report.sent.items()]
    told += [f"{channel} not told: {why}" for channel, why in report.failed.items()]
    return dg.SkipReason("; ".join(told) or "nothing sent")


@dg.sensor(
    name="failures_seen",
    default_status=dg.DefaultSensorStatus.RUNNING,
    minimum_interval_seconds=30,
    description="Raises alerts about failed runs, checks and looks, and about promises that nobody judges.",
)
def failures_seen(context: dg.SensorEvaluationContext, flow: dg.ResourceParam[FlowContext]) -> dg.SkipReason:
    """It does not depend on the sensor that judges promises, so that it can tell when that one has stopped."""
    definitions = context.repository_def
    jobs = [] if definitions is None else [job.name for job in definitions.get_all_jobs()]
    checks = [] if definitions is None else list(definitions.asset_graph.asset_check_keys)
    now, settings = flow.clock.now(), flow.settings.alerts
    told: list[str] = []
    with shielded("failures_seen looks at runs and checks"):
        # First, as it needs nothing of Dagster's: what fails there must not hide that nobody judges promises.
        report = raise_alerts(
            flow.engine, settings=flow.settings, clock=flow.clock, runner_id="failures_seen", only=(STALENESS, LOOKS)
        )
        # Of one of Dagster's own, "__ASSET_JOB", nothing is asked for.
        named = [name for name in jobs if not name.startswith("__")]
        seen = {
            RUN: runs_seen(context.instance, named, failed_runs=settings.failed_runs),
            CHECK: checks_seen(context.instance, checks),
        }
        for source, observations in seen.items():
            steps = note_observations(
                flow.engine, source, observations, settings=settings, now=now, runner_id="failures_seen"
            )
            told += [f"{source}: {count} {step}" for step, count in steps.items()]
    told += [f"watching: {count} {step}" for step, count in report.steps.items()]
    return dg.SkipReason("; ".join(told) or "runs and checks are well")


def runs_seen(instance: dg.DagsterInstance, jobs: Iterable[str], *, failed_runs: int) -> list[Observation]:
    """One observation for each job: how its last finished runs went."""
    found = []
    for job in jobs:
        filters = dg.RunsFilter(job_name=job, statuses=FINISHED)
        records = instance.get_run_records(filters, limit=GIVEN_UP_AFTER)
        statuses = [record.dagster_run.status for record in records]
        failed = next((at for at, status in enumerate(statuses) if status is not dg.DagsterRunStatus.FAILURE), None)
        in_a_row = len(statuses) if failed is None else failed
        key = f"{RUN}:{job}"
        if in_a_row >= (failed_runs if job in ASKED_AGAIN else 1):
            found.append(Observation.of(key, _failing(job, in_a_row, records[0])))
        elif statuses and statuses[0] is dg.DagsterRunStatus.SUCCESS:
            found.append(Observation(key, Health.WELL))
        else:
            found.append(Observation(key, Health.UNKNOWN))
    return found


def checks_seen(instance: dg.DagsterInstance, checks: Sequence[dg.AssetCheckKey]) -> list[Observation]:
    """One observation for each check: whether it last failed as an error. A warning is for the cockpit."""
    watched = [key for key in checks if key.name not in TOLD_ELSEWHERE and not key.name.startswith(PROMISES)]
    storage = instance.event_log_storage
    latest = storage.get_latest_asset_check_execution_by_key(watched)
    found = []
    for check in watched:
        key = f"{CHECK}:{check.asset_key.to_user_string()}:{check.name}"
        records = [latest[check]] if check in latest else []
        if records and _evaluation(records[0]) is None:
            records = list(storage.get_asset_check_execution_history(check, limit=_ANSWERS_READ))
        answered = next((record for record in records if _evaluation(record) is not None), None)
        evaluation = None if answered is None else _evaluation(answered)
        if answered is None or evaluation is None:  # never asked
            found.append(Observation(key, Health.UNKNOWN))
        elif not evaluation.passed and evaluation.severity is dg.AssetCheckSeverity.ERROR:
            found.append(Observation.of(key, failed_check(check, answered.create_timestamp)))
        else:
            found.append(Observation(key, Health.WELL))
    return found


def _evaluation(record: Any) -> dg.AssetCheckEvaluation | None:
    """What came of a check; ``None``: it is under way, or its run died. Dagster does not export the record's type."""
    evaluation: dg.AssetCheckEvaluation | None = None if record.event is None else record.event.asset_check_evaluation
    return evaluation


def _failing(job: str, in_a_row: int, last: dg.RunRecord) -> Trouble:
    facts = [("failed in a row", f"{in_a_row} or more" if in_a_row >= GIVEN_UP_AFTER else str(in_a_row))]
    facts.append(("the last of them", f"run {last.dagster_run.run_id[:8]}"))
    if last.end_time:
        facts.append(("it ended at", f"{datetime.fromtimestamp(last.end_time, tz=UTC):%Y-%m-%d %H:%M:%S} UTC"))
    given_up = in_a_row >= GIVEN_UP_AFTER and job in ASKED_AGAIN
    if given_up:
        facts.append(
            ("tried", "once an hour from now on; once it is mended: `leads runs retry " + job + " --actor YOU`")
        )
    severity = Severity.PAGE if given_up and job in _VITAL else Severity.TICKET
    return Trouble(severity, f"Runs of the job {job} fail", tuple(facts), "stuck-run", "leads runs list")


def failed_check(check: dg.AssetCheckKey, failed_at: float) -> Trouble:
    """What is told of a check that failed at an instant, and which page it opens."""
    asset = check.asset_key.to_user_string()
    facts = (
        ("what was found", f"in Dagster: the asset {asset}, its check {check.name}"),
        ("last failed", f"{datetime.fromtimestamp(failed_at, tz=UTC):%Y-%m-%d %H:%M:%S} UTC"),
    )
    title = f"The check {check.name} of {asset} fails"
    playbooks = DELIVERY_PLAYBOOKS if asset == Stage.CRM_SYNC_BATCHES else CHECK_PLAYBOOKS
    playbook = playbooks.get(check.name, DEFAULT_PLAYBOOK)
    return Trouble(Severity.TICKET, title, facts, playbook, "leads status")


ALERT_SENSORS = (alerts_waiting, failures_seen)
