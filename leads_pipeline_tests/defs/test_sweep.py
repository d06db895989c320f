"""Stuck work: runs that nobody runs any more, jobs that fail again and again, imports that stopped half-way."""

import json
import socket
from contextlib import closing
from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest
import sqlalchemy as sa

from leads_pipeline.clock import FrozenClock
from leads_pipeline.definitions import build_defs
from leads_pipeline.defs.runs import FIRST_PAUSE, GIVEN_UP_AFTER, PROBE_EVERY, ask_again, reason_to_wait, setbacks
from leads_pipeline.defs.sensors import leads_waiting
from leads_pipeline.defs.sweep import (
    LONGEST_SILENCE,
    LONGEST_SILENCE_HOT,
    LONGEST_START,
    RUNS_AT_ONCE,
    SWEPT_TAG,
    is_orphaned,
    stuck_work,
    sweep,
)
from leads_pipeline_tests.defs.conftest import verdicts


@pytest.fixture
def clock() -> FrozenClock:
    """Dagster stamps runs with the machine's time, so these tests begin there."""
    return FrozenClock(datetime.now(UTC))


@pytest.fixture
def leave(instance):
    """Leave a run of a job in a status, as a process that died would."""

    def left(job: str, status: dg.DagsterRunStatus = dg.DagsterRunStatus.STARTED) -> str:
        return instance.create_run_for_job(build_defs().resolve_job_def(job), status=status).run_id

    return left


@pytest.fixture
def fail(instance):
    """Let a run of the job fail, as one that dies before its first step."""

    def failed(job: str = "near_real_time", *, times: int = 1) -> None:
        for _ in range(times):
            run = instance.create_run_for_job(build_defs().resolve_job_def(job))
            instance.report_run_failed(run)

    return failed


def status_of(instance: dg.DagsterInstance, run_id: str) -> dg.DagsterRunStatus:
    return instance.get_run_by_id(run_id).status


def test_a_run_that_died_unseen_is_ended_and_its_sensor_asks_again(instance, flow_context, leave, clock, seeding):
    with seeding() as flow:
        flow.buffered()
    run_id = leave("near_real_time")
    tick = dg.build_sensor_context(instance=instance, resources={"flow": flow_context})
    assert "under way" in leads_waiting(tick).skip_message
    assert sweep(instance, flow_context).runs == {}, "it may be alive"
    clock.advance(LONGEST_SILENCE_HOT.total_seconds() + 25)
    said = stuck_work(dg.build_sensor_context(instance=instance, resources={"flow": flow_context})).skip_message
    assert f"ended run {run_id[:8]}: started and silent for 10 minutes" in said
    assert status_of(instance, run_id) is dg.DagsterRunStatus.FAILURE
    assert "silent" in instance.get_run_by_id(run_id).tags[SWEPT_TAG]
    assert isinstance(leads_waiting(tick), dg.RunRequest)
    assert "nothing is stuck" in sweep(instance, flow_context).words()


def test_a_run_whose_code_server_is_gone_does_not_hold_up_the_next_for_minutes(
    instance, flow_context, leave, clock, tmp_path
):
    served, gone = str(tmp_path / "served"), str(tmp_path / "gone")
    with closing(socket.socket(socket.AF_UNIX)) as server:
        server.bind(served)
        server.listen()
        runs = [leave("near_real_time"), leave("near_real_time")]
        for run_id, at in zip(runs, (served, gone), strict=True):
            instance.add_run_tags(run_id, {".dagster/grpc_info": json.dumps({"host": "localhost", "socket": at})})
        assert sweep(instance, flow_context).runs == {}, "it was heard of just now"
        clock.advance(60)
        assert sweep(instance, flow_context).runs == {runs[1]: "started and silent since its code server is gone"}


def test_only_a_code_server_of_this_machine_can_be_said_to_be_gone(tmp_path):
    with closing(socket.socket(socket.AF_UNIX)) as left_behind:
        left_behind.bind(str(tmp_path / "killed"))
    killed = json.dumps({"host": "localhost", "socket": str(tmp_path / "killed")})
    assert is_orphaned({".dagster/grpc_info": killed}), "its file stays, and nobody listens"
    for unknown in ({}, {".dagster/grpc_info": '{"host": "code", "port": 4000}'}, {".dagster/grpc_info": "?"}):
        assert not is_orphaned(unknown)


def test_a_run_that_writes_events_is_left_alone(instance, flow_context, leave, clock):
    run_id = leave("near_real_time")
    clock.advance(LONGEST_SILENCE_HOT.total_seconds() + 25)
    instance.handle_new_event(
        dg.EventLogEntry(
            error_info=None, level="info", user_message="a step says something", run_id=run_id,
            timestamp=clock.now().timestamp(), job_name="near_real_time",
        )
    )  # fmt: skip
    assert sweep(instance, flow_context).runs == {}


def test_a_replay_may_take_long_and_must_not_be_silent(instance, flow_context, leave, clock):
    run_id = leave("replay")
    clock.advance((LONGEST_SILENCE + timedelta(seconds=3 * 300)).total_seconds() - 5)
    assert sweep(instance, flow_context).runs == {}, "three stages may be working off a portion"
    clock.advance(60)
    assert list(sweep(instance, flow_context).runs) == [run_id]


def test_a_run_of_unknown_length_is_left_to_dagster_s_own_monitoring(instance, flow_context, leave, clock):
    leave("maintenance")
    clock.advance(timedelta(hours=2).total_seconds())
    assert sweep(instance, flow_context).runs == {}


@pytest.mark.parametrize(
    ("status", "becomes"),
    [
        (dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.FAILURE),
        (dg.DagsterRunStatus.CANCELING, dg.DagsterRunStatus.CANCELED),
    ],
)
def test_a_run_that_never_started_or_never_ended_is_ended_whatever_its_job(
    instance, flow_context, leave, clock, status, becomes
):
    run_id = leave("maintenance", status)
    clock.advance(LONGEST_START.total_seconds() + 25)
    assert list(sweep(instance, flow_context).runs) == [run_id]
    assert status_of(instance, run_id) is becomes


def test_one_sweep_ends_so_many_runs_at_most(instance, flow_context, leave, clock):
    for _ in range(RUNS_AT_ONCE + 1):
        leave("near_real_time")
    clock.advance(2 * LONGEST_SILENCE_HOT.total_seconds())  # however long it took to leave so many
    assert len(sweep(instance, flow_context).runs) == RUNS_AT_ONCE
    assert len(sweep(instance, flow_context).runs) == 1


def test_the_claims_of_a_process_that_is_gone_run_out_at_the_next_sweep(instance, flow_context, seeding, engine, clock):
    with seeding() as flow:
        flow.golden()
    claim = "update outbox set state = 'in_flight', claimed_by = 'x', claim_owner = 7, claimed_until = :until"
    with engine.begin() as connection:
        connection.execute(sa.text(claim), {"until": clock.now() + timedelta(minutes=5)})
    assert sweep(instance, flow_context).claims == 1
    with engine.connect() as connection:
        until = connection.execute(sa.text("select claimed_until from outbox")).scalar_one()
    assert until < clock.now() + timedelta(seconds=30)


def test_failed_runs_are_asked_again_a_bounded_number_of_times_and_then_once_an_hour(instance, fail, clock):
    fail(times=2)
    assert "asking again" in reason_to_wait(instance, "near_real_time", now=clock.now())
    clock.advance(FIRST_PAUSE.total_seconds() + 5)
    assert reason_to_wait(instance, "near_real_time", now=clock.now()) is None
    fail(times=GIVEN_UP_AFTER - 2)
    given_up = setbacks(instance, "near_real_time")
    assert given_up.is_given_up
    # Dagster stamps the end with the machine's time
    now = given_up.since + PROBE_EVERY - timedelta(seconds=1)
    assert "given up" in reason_to_wait(instance, "near_real_time", now=now)
    assert "leads runs retry near_real_time" in reason_to_wait(instance, "near_real_time", now=now)
    assert reason_to_wait(instance, "near_real_time", now=given_up.since + PROBE_EVERY) is None


def test_runs_that_succeed_and_move_nothing_are_never_given_up(instance, run, clock):
    for _ in range(2):
        assert run("near_real_time").success
    found = setbacks(instance, "near_real_time")
    assert (found.runs, found.failed) == (2, 0)


def test_a_person_who_mended_it_need_not_wait_for_the_hour(instance, fail):
    fail(times=GIVEN_UP_AFTER)
    now = datetime.now(UTC)
    assert reason_to_wait(instance, "near_real_time", now=now) is not None
    ask_again(instance, "near_real_time", now=now)
    assert reason_to_wait(instance, "near_real_time", now=now) is None
    fail(times=2)
    assert "the last 2 runs" in reason_to_wait(instance, "near_real_time", now=datetime.now(UTC)), "counted anew"


def test_what_a_run_is_asked_for_stands_in_its_tags(instance, flow_context, seeding, fail):
    with seeding() as flow:
        flow.buffered()
    fail()
    asked = leads_waiting(dg.build_sensor_context(instance=instance, resources={"flow": flow_context}))
    assert asked.tags["leads/reason"] == "due: raw_leads; the last run came to nothing"


@pytest.mark.usefixtures("expectations_imported")
def test_a_job_that_fails_again_and_again_is_a_failed_check_that_names_the_way_out(instance, run, fail):
    fail(times=2)
    assert verdicts(run("slo_checks"))["raw_leads.runs_succeed"] is True
    fail(times=GIVEN_UP_AFTER - 2)
    result = run("slo_checks")
    [check] = [
        c
        for c in result.get_asset_check_evaluations()
        if (c.check_name, c.asset_key.to_user_string()) == ("runs_succeed", "raw_leads")
    ]
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.ERROR)
    assert "leads runs retry near_real_time" in check.metadata["what_helps"].value
    assert verdicts(result)["crm_sync_batches.runs_succeed"] is True, "each job by itself"


def test_an_import_that_stopped_half_way_is_told(instance, run, seeding, clock, flow_context):
    with seeding() as flow:
        flow.insert("import_progress", finished_at=None, updated_at=clock.now() - timedelta(hours=2))
        flow.insert("import_progress", file_sha256="other", finished_at=None, updated_at=clock.now())
    assert verdicts(run("slo_checks"))["raw_leads.imports_finished"] is False
    assert "1 imports stopped half-way" in sweep(instance, flow_context).words()
