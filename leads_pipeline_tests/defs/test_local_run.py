"""The chain in this process: it runs until nothing is pending, and ends where no run can help."""

from datetime import timedelta

import pytest
import sqlalchemy as sa

from leads_pipeline.defs.local_run import LocalRun, RunFailed, run_until_idle, still_waiting
from leads_pipeline.errors import LeadsError


@pytest.fixture
def until_idle(definitions, instance, flow_context):
    """Run a job until nothing is pending; what ran is in ``runs``."""
    runs: list[LocalRun] = []

    def execute(job: str) -> list[LocalRun]:
        return run_until_idle(
            definitions.resolve_job_def(job),
            instance,
            flow_context,
            limit_seconds=600,
            on_run=lambda run, _waiting: runs.append(run),
        )

    execute.runs = runs
    return execute


def test_it_runs_until_nothing_is_pending(until_idle, seeding, count):
    with seeding() as flow:
        flow.buffered()
    until_idle("all_lanes")
    assert (len(until_idle.runs), count("golden_contacts"), count("pending")) == (1, 1, 0)


def test_a_job_that_does_not_deliver_does_not_wait_for_deliveries(until_idle, seeding, count):
    with seeding() as flow:
        flow.buffered()
    until_idle("near_real_time")
    assert (len(until_idle.runs), count("golden_contacts")) == (1, 1)


def test_it_ends_when_what_waits_is_for_a_destination_that_is_no_longer_configured(until_idle, seeding, engine):
    with seeding() as flow:
        flow.golden()
    with engine.begin() as connection:
        connection.execute(sa.text("update outbox set destination = 'gone'"))
    with pytest.raises(LeadsError, match="1 wait, and 3 runs of all_lanes moved none"):
        until_idle("all_lanes")
    assert len(until_idle.runs) == 3


def test_it_ends_when_what_waits_is_of_another_lane(until_idle, seeding):
    with seeding() as flow:
        flow.buffered()
    with pytest.raises(LeadsError, match="3 runs of batch moved none"):
        until_idle("batch")


def test_a_failed_run_says_why(until_idle, seeding, monkeypatch):
    with seeding() as flow:
        flow.golden()
    monkeypatch.delenv("LEADS_HUBSPOT_TOKEN")
    with pytest.raises(RunFailed, match=r"crm_sync_batches.* the environment variable LEADS_HUBSPOT_TOKEN is not set"):
        until_idle("all_lanes")


def test_it_does_not_wait_for_what_is_due_after_its_time_is_up(until_idle, seeding, engine, clock):
    with seeding() as flow:
        flow.at_dedupe()
    with engine.begin() as connection:
        connection.execute(sa.text("update pending set due_at = :then"), {"then": clock.now() + timedelta(hours=1)})
    with pytest.raises(LeadsError, match=r"1 wait until \d\d:\d\d UTC at the earliest"):
        until_idle("near_real_time")
    assert until_idle.runs == []
    assert clock.slept == []


def test_what_a_destination_refused_is_counted_by_its_verdict(flow_context, seeding, engine):
    with seeding() as flow:
        flow.golden()
    with engine.begin() as connection:
        connection.execute(sa.text("update outbox set attempts = 2, last_verdict = 'transient'"))
    assert still_waiting(flow_context).refused == "hubspot transient 1"


def test_a_lead_whose_vendor_may_be_asked_now_is_pending_and_one_to_be_asked_later_is_told_apart(
    flow_context, engine, clock
):
    with engine.begin() as connection:
        connection.execute(
            sa.text(
                "insert into lead_fetches (lead_id, tenant, source, lane, reference, since, due_at) "
                "values (gen_random_uuid(), 'acme', 'ads', 'real_time', '4', :now, :now), "
                "(gen_random_uuid(), 'acme', 'ads', 'real_time', '5', :now, :later)"
            ),
            {"now": clock.now(), "later": clock.now() + timedelta(minutes=5)},
        )
    waiting = still_waiting(flow_context)
    assert (waiting.count, waiting.to_fetch) == (1, 1)
