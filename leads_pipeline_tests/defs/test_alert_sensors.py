"""Runs and checks that fail are alerts until they succeed again."""

import uuid

import dagster as dg
import pytest
import sqlalchemy as sa

from leads_pipeline.clock import FrozenClock
from leads_pipeline.defs.alert_sensors import RUN, alerts_waiting, checks_seen, failed_check, failures_seen, runs_seen
from leads_pipeline.domain.alerting import Health, Observation
from leads_pipeline.domain.severity import Severity
from leads_pipeline.flows import FlowContext
from leads_pipeline.storage.alerts import list_alerts

FAILED, SUCCEEDED = dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.SUCCESS


def finish(instance: dg.DagsterInstance, job: str, *statuses: dg.DagsterRunStatus) -> None:
    for status in statuses:
        instance.add_run(dg.DagsterRun(job_name=job, run_id=str(uuid.uuid4()), status=status))


def seen_of(instance: dg.DagsterInstance, job: str) -> Observation:
    [seen] = runs_seen(instance, [job], failed_runs=3)
    return seen


def test_one_failed_micro_batch_is_no_news_and_three_in_a_row_are(instance: dg.DagsterInstance) -> None:
    assert seen_of(instance, "near_real_time").health is Health.UNKNOWN
    finish(instance, "near_real_time", SUCCEEDED, FAILED, FAILED)
    assert seen_of(instance, "near_real_time").health is Health.UNKNOWN
    finish(instance, "near_real_time", FAILED)
    trouble = seen_of(instance, "near_real_time").trouble
    assert trouble is not None
    assert (trouble.severity, dict(trouble.facts)["failed in a row"]) == (Severity.TICKET, "3")
    finish(instance, "near_real_time", SUCCEEDED)
    assert seen_of(instance, "near_real_time").health is Health.WELL


def test_a_vital_job_that_is_given_up_wakes_somebody(instance: dg.DagsterInstance) -> None:
    finish(instance, "delivery", *[FAILED] * 10)
    trouble = seen_of(instance, "delivery").trouble
    assert trouble is not None
    assert trouble.severity is Severity.PAGE
    assert "leads runs retry delivery" in str(trouble.facts)


def test_a_nightly_job_is_told_when_it_fails_once(instance: dg.DagsterInstance) -> None:
    finish(instance, "maintenance", FAILED)
    assert seen_of(instance, "maintenance").health is Health.TROUBLE


@dg.asset
def leads() -> None: ...


def check_that(passed: bool, severity: dg.AssetCheckSeverity) -> dg.AssetChecksDefinition:
    @dg.asset_check(asset=leads, name="conservation")
    def check() -> dg.AssetCheckResult:
        return dg.AssetCheckResult(passed=passed, severity=severity)

    return check


@pytest.mark.parametrize(
    ("passed", "severity", "health"),
    [
        (False, dg.AssetCheckSeverity.ERROR, Health.TROUBLE),
        (False, dg.AssetCheckSeverity.WARN, Health.WELL),
        (True, dg.AssetCheckSeverity.ERROR, Health.WELL),
    ],
)
def test_a_check_that_fails_as_an_error_is_told_although_its_run_succeeds(
    instance: dg.DagsterInstance, passed: bool, severity: dg.AssetCheckSeverity, health: Health
) -> None:
    checks = [key for each in [check_that(passed, severity)] for key in each.check_keys]
    assert [each.health for each in checks_seen(instance, checks)] == [Health.UNKNOWN]
    assert dg.materialize([leads, check_that(passed, severity)], instance=instance).success
    [seen] = checks_seen(instance, checks)
    assert (seen.key, seen.health) == ("check:leads:conservation", health)
    if seen.trouble is not None:
        assert seen.trouble.playbook == "conservation-broken"


@pytest.mark.parametrize(
    ("asset", "playbook"), [("deduped_leads", "leads-late"), ("crm_sync_batches", "deliveries-late")]
)
def test_what_waits_too_long_opens_the_page_of_where_it_waits(asset: str, playbook: str) -> None:
    check = dg.AssetCheckKey(dg.AssetKey(asset), "oldest_pending")
    assert failed_check(check, 0.0).playbook == playbook


def test_a_check_that_is_being_asked_is_as_it_was_answered_before(instance: dg.DagsterInstance) -> None:
    meanwhile = []

    @dg.asset_check(asset=leads, name="conservation")
    def check() -> dg.AssetCheckResult:
        meanwhile.append(checks_seen(instance, [dg.AssetCheckKey(leads.key, "conservation")])[0].health)
        return dg.AssetCheckResult(passed=False)

    for _run in range(2):
        dg.materialize([leads, check], instance=instance)
    assert meanwhile == [Health.UNKNOWN, Health.TROUBLE]


def test_the_sensors_tell_what_they_did(
    instance: dg.DagsterInstance, definitions: dg.Definitions, flow_context: FlowContext, engine: sa.Engine
) -> None:
    finish(instance, "maintenance", FAILED)
    context = dg.build_sensor_context(instance=instance, definitions=definitions, resources={"flow": flow_context})
    assert failures_seen(context).skip_message == "run: 1 open"
    with engine.connect() as connection:
        [alert] = list_alerts(connection, tenant=None, closed=False, limit=9)
    assert (alert.source, alert.title, alert.playbook) == (RUN, "Runs of the job maintenance fail", "stuck-run")
    finish(instance, "maintenance", SUCCEEDED)
    clock = flow_context.clock
    assert isinstance(clock, FrozenClock)
    failures_seen(context)
    clock.advance(301)
    assert failures_seen(context).skip_message == "run: 1 close"
    assert alerts_waiting(flow=flow_context).skip_message == "no alert is due"  # leads.yaml names no channel
