"""When runs are asked for: the database says whether, Dagster's storage says whether now."""

import dataclasses
from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest
import sqlalchemy as sa

from leads_pipeline.clock import FrozenClock
from leads_pipeline.definitions import build_defs
from leads_pipeline.defs.maintenance import maintenance_daily
from leads_pipeline.defs.runs import FINISHED, FIRST_PAUSE, LONGEST_HANDOVER, LONGEST_PAUSE, UNFINISHED, Setbacks
from leads_pipeline.defs.schedules import batch_hourly
from leads_pipeline.defs.schedules import slo_checks_every_five_minutes as slo_schedule
from leads_pipeline.defs.sensors import POLL_SECONDS, WAIT_SECONDS, deliveries_waiting, leads_waiting
from leads_pipeline.flows import FlowContext
from leads_pipeline.steps.destination_backfill import doors_of
from leads_pipeline.storage.destination_doors import know_doors
from leads_pipeline_tests.ordering import order

# The database's trouble, not one tenant's: the run fails.
POISON = """
create function poison() returns trigger language plpgsql as $$ begin
    raise exception 'no' using errcode = '55P03';
end $$;
create trigger poison before insert on raw_leads for each row execute function poison();
"""


@pytest.fixture
def clock() -> FrozenClock:
    """Dagster stamps runs with the machine's time, so these tests begin there."""
    return FrozenClock(datetime.now(UTC))


@pytest.fixture
def tick(instance, flow_context):
    """Evaluate the sensor once."""

    def evaluate(flow: FlowContext = flow_context) -> dg.RunRequest | dg.SkipReason:
        return leads_waiting(dg.build_sensor_context(instance=instance, resources={"flow": flow}))

    return evaluate


@pytest.fixture
def deliveries_tick(instance, flow_context, engine):
    """Evaluate the sensor for deliveries once; its destinations hold all contacts that there were before them."""
    with engine.begin() as connection:
        know_doors(connection, doors_of(flow_context.settings))
        connection.execute(sa.text("update destination_doors set filled_at = now()"))

    def evaluate(flow: FlowContext = flow_context) -> dg.RunRequest | dg.SkipReason:
        return deliveries_waiting(dg.build_sensor_context(instance=instance, resources={"flow": flow}))

    return evaluate


def leave_unfinished(instance: dg.DagsterInstance, job: str, status: dg.DagsterRunStatus) -> None:
    """A run of a job in a state, as if another process had it."""
    instance.create_run_for_job(build_defs().resolve_job_def(job), status=status)


def test_nothing_is_asked_for_when_nothing_waits_and_the_tick_ends_in_time(tick, clock):
    assert isinstance(tick(), dg.SkipReason)
    assert WAIT_SECONDS <= sum(clock.slept) <= WAIT_SECONDS + POLL_SECONDS


def test_a_waiting_lead_is_asked_for_at_once(tick, seeding, clock):
    with seeding() as flow:
        flow.buffered()
    asked = tick()
    assert asked.tags["leads/due"] == "raw_leads"
    assert clock.slept == []


def test_a_lead_that_comes_during_the_tick_is_asked_for_in_it(tick, seeding, clock):
    def arrive(_seconds: float) -> None:
        with seeding() as flow:
            flow.buffered()

    clock._on_sleep = arrive
    assert isinstance(tick(), dg.RunRequest)
    assert clock.slept == [POLL_SECONDS]


def test_the_batch_lane_is_left_to_its_schedule(tick, seeding):
    with seeding(lane="batch", source="import") as flow:
        flow.buffered()
    assert isinstance(tick(), dg.SkipReason)


def test_nobody_is_asked_for_a_lane_that_a_rule_pauses_until_it_is_resumed(tick, seeding, engine, clock):
    with seeding() as flow:
        flow.buffered()
    order(engine, "pause_lane", now=clock.now(), tenant="acme", lane="real_time", minutes=1)

    assert isinstance(tick(), dg.SkipReason)
    clock.advance(60)
    assert isinstance(tick(), dg.RunRequest)


def test_nobody_is_asked_for_a_destination_that_a_rule_pauses_until_it_is_resumed(
    deliveries_tick, seeding, engine, clock
):
    with seeding() as flow:
        flow.golden()
    order(engine, "pause_destination", now=clock.now(), destination="hubspot", minutes=1)

    assert isinstance(deliveries_tick(), dg.SkipReason)
    clock.advance(60)
    assert isinstance(deliveries_tick(), dg.RunRequest)


def test_a_delivery_that_is_due_again_is_work(tick, deliveries_tick, seeding):
    with seeding() as flow:
        flow.golden()
    assert deliveries_tick().tags["leads/due"] == "crm_sync_batches"
    assert isinstance(tick(), dg.SkipReason), "the chain has nothing to do"


def test_a_parked_destination_is_not_asked_for(deliveries_tick, seeding, clock):
    with seeding() as flow:
        flow.golden()
        later = datetime.fromtimestamp(clock.now().timestamp() + 60, tz=UTC)
        flow.insert(
            "circuit_breakers", name="crm:hubspot", state="open", failures=1, reason="auth", next_probe_at=later
        )
    assert isinstance(deliveries_tick(), dg.SkipReason)
    clock.advance(60)
    assert isinstance(deliveries_tick(), dg.RunRequest)


def test_a_destination_that_its_tenant_no_longer_has_is_not_asked_for(deliveries_tick, seeding, flow_context):
    """A run could deliver nothing, and one fruitless run after another would hold up the leads that come meanwhile."""
    with seeding() as flow:
        flow.golden()
    tenants = {**flow_context.settings.tenants}
    tenants["acme"] = tenants["acme"].model_copy(update={"destinations": ()})
    settings = flow_context.settings.model_copy(update={"tenants": tenants})
    assert isinstance(deliveries_tick(dataclasses.replace(flow_context, settings=settings)), dg.SkipReason)
    assert isinstance(deliveries_tick(), dg.RunRequest)


def test_an_archive_that_waits_for_the_upsert_under_way_is_not_asked_for(deliveries_tick, seeding, engine, clock):
    with seeding() as flow:
        flow.golden()
    claim = "update outbox set operation = 'archive', claimed_by = 'other', claimed_until = :until"
    with engine.begin() as connection:
        connection.execute(sa.text(claim), {"until": clock.now() + timedelta(seconds=60)})
    assert isinstance(deliveries_tick(), dg.SkipReason)
    clock.advance(60)
    assert isinstance(deliveries_tick(), dg.RunRequest)


@pytest.mark.parametrize("lane", ["near_real_time", "batch"])
def test_what_is_due_at_a_destination_is_work_in_every_lane(deliveries_tick, seeding, lane):
    with seeding(lane=lane) as flow:
        flow.golden()
    assert deliveries_tick().tags["leads/due"] == "crm_sync_batches"


def test_a_delivery_is_started_with_the_micro_batch_so_that_the_first_contact_need_not_wait_for_it(
    deliveries_tick, seeding
):
    with seeding() as flow:
        flow.buffered()
    assert deliveries_tick().tags["leads/due"] == "raw_leads"


def test_no_delivery_is_started_for_leads_of_the_batch_lane_or_where_no_destination_may_be_asked(
    deliveries_tick, seeding, flow_context, clock
):
    with seeding(lane="batch", source="import") as flow:
        flow.buffered()
    assert isinstance(deliveries_tick(), dg.SkipReason)
    with seeding() as flow:
        flow.buffered()
        later = clock.now() + timedelta(seconds=60)
        for name in flow_context.settings.destinations:
            flow.insert(
                "circuit_breakers", name=f"crm:{name}", state="open", failures=1, reason="auth", next_probe_at=later
            )
    assert isinstance(deliveries_tick(), dg.SkipReason)


def test_a_destination_that_is_new_is_filled_without_anybody_asking(deliveries_tick, seeding, engine):
    with seeding() as flow:
        flow.golden()
    with engine.begin() as connection:
        connection.execute(sa.text("update outbox set state = 'delivered'"))
        connection.execute(sa.text("update destination_doors set filled_at = null"))
    assert deliveries_tick().tags["leads/due"] == "crm_sync_batches"


def test_a_vendor_s_job_that_may_be_over_is_work_although_nothing_else_is_due(deliveries_tick, seeding, clock):
    with seeding() as flow:
        flow.insert("bulk_jobs", destination="hubspot", next_poll_at=clock.now() + timedelta(seconds=5), ended_at=None)
    assert isinstance(deliveries_tick(), dg.SkipReason)
    clock.advance(5)
    assert deliveries_tick().tags["leads/due"] == "crm_sync_batches"


def test_runs_for_leads_on_their_way_are_no_setbacks_when_none_of_them_is_to_be_sent(
    deliveries_tick, run, seeding, clock, flow_context
):
    with seeding() as flow:
        flow.buffered(payload={"message": "no way to reach me"})
    clock._on_sleep = lambda _seconds: run("near_real_time")
    for _ in range(3):
        assert run("delivery").success
        with seeding() as flow:
            flow.buffered(payload={"message": "no way to reach me"})
    assert isinstance(deliveries_tick(), dg.RunRequest)


def test_every_status_of_a_run_is_known_as_finished_or_not():
    assert {*UNFINISHED, *FINISHED} == set(dg.DagsterRunStatus) - {dg.DagsterRunStatus.MANAGED}


# Dagster creates no queued run outside of a code location.
@pytest.mark.parametrize("status", [status for status in UNFINISHED if status is not dg.DagsterRunStatus.QUEUED])
def test_at_most_one_run_is_in_flight(tick, seeding, instance, status):
    with seeding() as flow:
        flow.buffered()
    leave_unfinished(instance, "near_real_time", status)
    assert "under way" in tick().skip_message


def test_a_run_that_was_made_and_never_handed_over_does_not_silence_the_sensor_for_good(tick, seeding, instance, clock):
    with seeding() as flow:
        flow.buffered()
    leave_unfinished(instance, "near_real_time", dg.DagsterRunStatus.NOT_STARTED)
    assert "under way" in tick().skip_message
    clock.advance(LONGEST_HANDOVER.total_seconds() + 120)  # the run is younger than the test
    assert isinstance(tick(), dg.RunRequest)


def test_a_run_of_another_job_does_not_hold_it_up(tick, seeding, instance):
    with seeding() as flow:
        flow.buffered()
    leave_unfinished(instance, "batch", dg.DagsterRunStatus.STARTED)
    assert isinstance(tick(), dg.RunRequest)


def test_after_a_failed_run_it_asks_again(tick, run, seeding, engine, count):
    with seeding() as flow:
        flow.buffered()
    with engine.begin() as connection:
        connection.exec_driver_sql(POISON)
    first = tick()
    assert not run("near_real_time").success
    again = tick()
    assert isinstance(again, dg.RunRequest)
    assert (first.run_key, again.run_key) == (None, None), "a run key is honoured once ever, failed runs included"
    with engine.begin() as connection:
        connection.exec_driver_sql("drop trigger poison on raw_leads")
    assert run("near_real_time").success
    assert count("buffer") == 0


def test_work_that_fails_every_time_is_asked_for_less_and_less_often(tick, run, seeding, engine, clock):
    with seeding() as flow:
        flow.buffered()
    with engine.begin() as connection:
        connection.exec_driver_sql(POISON)
    for _ in range(3):
        assert not run("near_real_time").success
    assert "3 runs came to nothing" in tick().skip_message
    clock.advance(LONGEST_PAUSE.total_seconds())
    assert isinstance(tick(), dg.RunRequest)


def test_runs_that_succeed_without_moving_anything_are_setbacks_too(tick, run, seeding):
    for _ in range(2):
        assert run("near_real_time").success
    with seeding() as flow:
        flow.buffered()
    assert "2 runs came to nothing" in tick().skip_message


def test_a_run_that_moved_something_ends_a_row_of_setbacks(tick, run, seeding):
    for _ in range(3):
        assert run("near_real_time").success
    with seeding() as flow:
        flow.buffered()
    assert run("near_real_time").success
    with seeding() as flow:
        flow.buffered()
    assert isinstance(tick(), dg.RunRequest)


def test_the_pause_doubles_up_to_its_cap(clock):
    pauses = [Setbacks(runs, clock.now()).pause_ends() for runs in range(9)]
    assert pauses[:2] == [None, None]
    waits = [pause - clock.now() for pause in pauses[2:]]
    assert waits[:3] == [FIRST_PAUSE, FIRST_PAUSE * 2, FIRST_PAUSE * 4]
    assert waits[-1] == LONGEST_PAUSE


def test_a_database_that_is_gone_fails_the_tick_instead_of_looking_quiet(tick, flow_context):
    gone = FlowContext(
        engine=sa.create_engine("postgresql+psycopg://nobody@127.0.0.1:9/nowhere", connect_args={"connect_timeout": 2}),
        settings=flow_context.settings,
        clock=flow_context.clock,
    )
    with pytest.raises(dg.Failure, match="OperationalError"):
        tick(gone)


@pytest.mark.parametrize(
    ("schedule", "job"),
    [
        (batch_hourly, "batch"),
        (slo_schedule, "slo_checks"),
        (maintenance_daily, "maintenance"),
    ],
)
def test_a_schedule_does_not_pile_up_runs(schedule, job):
    with dg.DagsterInstance.local_temp() as instance:
        assert schedule.evaluate_tick(dg.build_schedule_context(instance)).run_requests
        leave_unfinished(instance, job, dg.DagsterRunStatus.STARTED)
        assert "under way" in schedule.evaluate_tick(dg.build_schedule_context(instance)).skip_message
