"""Old runs go, and what a person may still look for stays."""

from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest
import sqlalchemy as sa

from leads_pipeline.clock import FrozenClock
from leads_pipeline.config import RetentionSettings
from leads_pipeline.defs.run_retention import (
    dagster_bytes,
    prune_check_verdicts,
    prune_old_runs,
    runs_of_newest_verdicts,
)

NONE_SPARED = RetentionSettings(runs_kept_per_job=0)


@dg.asset
def table() -> None:
    """What a run makes."""


@dg.asset_check(asset=table)
def looks_good() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=True)


@dg.op
def fails() -> None:
    raise dg.Failure("no")


@pytest.fixture
def clock() -> FrozenClock:
    """Dagster stamps runs with the machine's time, so these tests begin there."""
    return FrozenClock(datetime.now(UTC))


@pytest.fixture
def ran():
    """Let a job of this name run once."""

    def run(instance: dg.DagsterInstance, name: str, *, fail: bool = False) -> str:
        @dg.job(name=name, tags={"leads/serial": name})
        def job() -> None:
            if fail:
                fails()

        return job.execute_in_process(instance=instance, raise_on_error=False).run_id

    return run


def left(instance: dg.DagsterInstance) -> set[str]:
    return set(instance.get_run_ids())


def test_each_job_s_runs_are_kept_for_their_own_time(instance, ran, clock):
    looked, frequent, other = (ran(instance, name) for name in ("slo_checks", "near_real_time", "batch"))
    clock.advance(timedelta(days=1).total_seconds())
    assert prune_old_runs(instance, NONE_SPARED, clock=clock).deleted == 0
    clock.advance(timedelta(days=2).total_seconds())
    assert prune_old_runs(instance, NONE_SPARED, clock=clock).deleted == 1
    assert left(instance) == {frequent, other}
    assert looked not in left(instance)
    clock.advance(timedelta(days=5).total_seconds())
    prune_old_runs(instance, NONE_SPARED, clock=clock)
    assert left(instance) == {other}
    clock.advance(timedelta(days=23).total_seconds())
    prune_old_runs(instance, NONE_SPARED, clock=clock)
    assert left(instance) == set()


def test_a_failed_run_stays_longer_and_an_unfinished_one_for_good(instance, ran, clock):
    ran(instance, "near_real_time")
    failed = ran(instance, "near_real_time", fail=True)
    under_way = ran(instance, "near_real_time")
    instance.run_storage.handle_run_event(
        under_way, dg.DagsterEvent(dg.DagsterEventType.RUN_START.value, "near_real_time"), datetime.now(UTC)
    )
    clock.advance(timedelta(days=8).total_seconds())
    prune_old_runs(instance, NONE_SPARED, clock=clock)
    assert left(instance) == {failed, under_way}
    clock.advance(timedelta(days=30).total_seconds())
    prune_old_runs(instance, NONE_SPARED, clock=clock)
    assert left(instance) == {under_way}


def test_the_newest_runs_of_a_job_stay_however_old(instance, ran, clock):
    runs = [ran(instance, "near_real_time") for _ in range(3)]
    clock.advance(timedelta(days=400).total_seconds())
    pruned = prune_old_runs(instance, RetentionSettings(runs_kept_per_job=2), clock=clock)
    assert left(instance) == set(runs[1:])
    assert (pruned.deleted, pruned.spared) == (1, 2)


def test_the_run_that_last_made_an_asset_stays_and_so_does_the_asset_s_latest_event(stored_instance, clock):
    runs = [dg.materialize([table, looks_good], instance=stored_instance).run_id for _ in range(3)]
    clock.advance(timedelta(days=400).total_seconds())
    prune_old_runs(stored_instance, NONE_SPARED, clock=clock)
    assert left(stored_instance) == {runs[-1]}
    assert stored_instance.get_latest_materialization_event(dg.AssetKey("table")).run_id == runs[-1]


def test_what_checks_said_long_ago_goes_and_the_newest_verdict_of_each_stays(stored_instance, engine, clock):
    runs = [dg.materialize([table, looks_good], instance=stored_instance).run_id for _ in range(3)]
    later = clock.now() + timedelta(days=400)
    with engine.begin() as connection:
        assert prune_check_verdicts(connection, before=later, limit=1) == 1, "a bounded portion"
        assert prune_check_verdicts(connection, before=later) == 1
        assert prune_check_verdicts(connection, before=later) == 0
        assert runs_of_newest_verdicts(connection) == {runs[-1]}


def test_a_portion_is_bounded_and_the_next_one_goes_on(instance, ran, clock):
    runs = [ran(instance, "slo_checks") for _ in range(5)]
    clock.advance(timedelta(days=3).total_seconds())
    first = prune_old_runs(instance, NONE_SPARED, clock=clock, limit=2)
    assert (first.deleted, first.is_complete) == (2, False)
    assert left(instance) == set(runs[2:]), "the oldest first"
    assert prune_old_runs(instance, NONE_SPARED, clock=clock, seconds=0).deleted == 0
    rest = prune_old_runs(instance, NONE_SPARED, clock=clock)
    assert (rest.deleted, rest.is_complete) == (3, True)


def test_a_page_boundary_loses_no_run(instance, ran, clock, monkeypatch):
    monkeypatch.setattr("leads_pipeline.defs.run_retention._PAGE", 2)
    for _ in range(5):
        ran(instance, "slo_checks")
    clock.advance(timedelta(days=3).total_seconds())
    assert prune_old_runs(instance, NONE_SPARED, clock=clock).deleted == 5


def test_the_job_says_what_it_deleted_and_what_a_run_takes(stored_instance, definitions, engine, ran, clock):
    for _ in range(25):
        ran(stored_instance, "slo_checks")
    clock.advance(timedelta(days=3).total_seconds())
    job = definitions.resolve_job_def("retention")
    result = job.execute_in_process(instance=stored_instance)
    [event] = [e for e in result.all_events if e.is_successful_output]
    told = {name: item.value for name, item in event.step_output_data.metadata.items()}
    assert (told["deleted_runs"], told["spared_runs"], told["is_complete"]) == (5, 20, True)
    assert told["runs"] == 21
    with engine.connect() as connection:
        sizes = dagster_bytes(connection)
    assert {"event_logs", "runs", "run_tags"} <= sizes.keys()
    assert told["dagster_bytes"] > 100_000
    assert told["kb_per_run"] == pytest.approx(told["dagster_bytes"] / 21_000, abs=0.1)


def test_dagster_s_storage_elsewhere_is_no_fault(engine):
    with engine.begin() as connection:
        connection.execute(sa.text("select 1"))
        assert dagster_bytes(connection) == {}
        assert runs_of_newest_verdicts(connection) == set()
        assert prune_check_verdicts(connection, before=datetime.now(UTC)) == 0
