"""In which order the run queue takes what is asked for, by our dagster.yaml and Dagster's own coordinator."""

import dagster as dg
import pytest
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin
from dagster._daemon.run_coordinator.queued_run_coordinator_daemon import QueuedRunCoordinatorDaemon

from leads_pipeline.definitions import build_defs

HERE = RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("leads"), "__repository__")
BACKGROUND_JOBS = ("batch", "maintenance", "reverification", "retention")


@pytest.fixture
def queue(stored_instance):
    """A run queue: ``ask(job)`` puts a run into it, ``take()`` starts whatever the coordinator would start now."""
    definitions = build_defs()
    coordinator = QueuedRunCoordinatorDaemon(interval_seconds=1)

    class Queue:
        def ask(self, job: str, **tags: str) -> None:
            definition = definitions.resolve_job_def(job)
            stored_instance.create_run_for_job(
                definition,
                status=dg.DagsterRunStatus.QUEUED,
                remote_job_origin=RemoteJobOrigin(HERE, job),
                tags={**definition.tags, **tags},
            )

        def take(self) -> list[str]:
            runs = coordinator._get_runs_to_dequeue(
                stored_instance, stored_instance.get_concurrency_config(), fixed_iteration_time=None
            )
            for run in runs:
                event = dg.DagsterEvent(dg.DagsterEventType.PIPELINE_STARTING.value, run.job_name, message="")
                stored_instance.report_dagster_event(event, run.run_id)
            return [run.job_name for run in runs]

    yield Queue()
    coordinator.__exit__(None, None, None)


def test_a_real_time_run_goes_before_background_runs_that_were_asked_for_earlier(queue):
    for job in BACKGROUND_JOBS:
        queue.ask(job)
    queue.ask("near_real_time")
    assert queue.take()[0] == "near_real_time"


def test_however_many_background_runs_wait_two_run_at_once_and_the_others_have_their_places(queue):
    for job in BACKGROUND_JOBS:
        queue.ask(job)
        queue.ask(job)
    assert len(queue.take()) == 2
    assert queue.take() == []
    for job in ("near_real_time", "delivery", "verification", "slo_checks"):
        queue.ask(job)
    assert set(queue.take()) == {"near_real_time", "delivery", "verification", "slo_checks"}


def test_a_job_has_one_run_at_once_whoever_asks_for_it(queue):
    queue.ask("near_real_time")
    queue.ask("near_real_time")
    assert queue.take() == ["near_real_time"]
    assert queue.take() == []


def test_every_job_of_this_location_is_serial_and_has_its_place_in_the_queue():
    for job in build_defs().resolve_all_job_defs():
        if job.name.startswith("__"):
            continue
        assert job.tags["leads/serial"] == job.name
        is_background = job.tags.get("leads/pace") == "background"
        assert is_background == (int(job.tags.get("dagster/priority", "0")) < 0), job.name


def test_no_sensor_waits_for_another_s_tick(stored_instance):
    sensors = build_defs().get_repository_def().sensor_defs
    assert stored_instance.get_settings("sensors")["num_workers"] >= len(sensors)
