"""The last step: what a plan holds, what several processes do, and what a killed one leaves behind."""

import json
import signal
import subprocess
import sys
from datetime import timedelta

import pytest
import sqlalchemy as sa

from leads_pipeline.clock import FrozenClock, SystemClock
from leads_pipeline.crm.parking import Parked, Parking
from leads_pipeline.crm.sandbox.hubspot.options import HubSpotOptions
from leads_pipeline.crm.sandbox.running import running_sandbox
from leads_pipeline.domain.stage import ALL_LANES, Lane
from leads_pipeline.steps.crm_sync_batches import SyncPlan, deliver, plan_sync
from leads_pipeline.storage.claim_owners import GRACE
from leads_pipeline_tests.conftest import NOW
from leads_pipeline_tests.crm.deliver_process import READY
from leads_pipeline_tests.crm.delivering import (
    TOKEN,
    add_contacts,
    outbox_rows,
    settings_for,
    states,
    sync,
)
from leads_pipeline_tests.outbound.blocked import until_somebody_is_blocked
from leads_pipeline_tests.storage.sessions import sessions_end

NOWHERE = settings_for("http://127.0.0.1:9")


def test_a_plan_claims_nothing(engine: sa.Engine) -> None:
    contacts = add_contacts(engine, 3)
    plans = [plan_sync(engine, settings=NOWHERE, lanes=ALL_LANES, limit=1000, now=NOW) for _ in range(2)]
    assert [plan.by_destination for plan in plans] == [{"hubspot": 3}] * 2
    assert states(engine, contacts) == {"waiting"}


def test_a_plan_counts_only_what_is_due_in_its_lanes_and_no_further_than_its_limit(engine: sa.Engine) -> None:
    add_contacts(engine, due_at=NOW + timedelta(seconds=1))
    add_contacts(engine, 2, lane=Lane.BATCH)
    add_contacts(engine, lane=Lane.REAL_TIME)
    plan = plan_sync(engine, settings=NOWHERE, lanes=[Lane.REAL_TIME], limit=10, now=NOW)
    assert (plan.lanes, plan.by_destination) == ((Lane.REAL_TIME,), {"hubspot": 1})
    assert plan_sync(engine, settings=NOWHERE, lanes=ALL_LANES, limit=2, now=NOW).by_destination == {"hubspot": 2}


def test_a_delivery_serves_the_lanes_of_its_plan(engine: sa.Engine, clock: FrozenClock) -> None:
    urgent, bulk = add_contacts(engine), add_contacts(engine, lane=Lane.BATCH)
    with running_sandbox(HubSpotOptions(token=TOKEN).without_limits()) as sandbox:
        settings = settings_for(sandbox.base_url)
        plan = plan_sync(engine, settings=settings, lanes=[Lane.BATCH], limit=10, now=NOW)
        assert deliver(engine, plan, settings=settings, clock=clock, runner_id="test").delivered == 1
    assert (states(engine, urgent), states(engine, bulk)) == ({"waiting"}, {"delivered"})


def test_a_row_of_a_destination_that_its_tenant_no_longer_has_is_not_sent(
    engine: sa.Engine, clock: FrozenClock
) -> None:
    [contact] = add_contacts(engine, destination="salesforce")
    plan = plan_sync(engine, settings=NOWHERE, lanes=ALL_LANES, limit=10, now=NOW)
    assert plan.by_destination == {}
    gone = SyncPlan(ALL_LANES, {"salesforce": 1})
    assert deliver(engine, gone, settings=NOWHERE, clock=clock, runner_id="test").requests == 0
    assert states(engine, [contact]) == {"waiting"}


def test_real_time_contacts_are_delivered_before_a_batch_when_the_quota_is_short(
    engine: sa.Engine, clock: FrozenClock
) -> None:
    bulk = add_contacts(engine, 20, lane=Lane.BATCH)
    urgent = add_contacts(engine, 10, lane=Lane.REAL_TIME)
    with running_sandbox(HubSpotOptions(token=TOKEN).without_limits()) as sandbox:
        settings = settings_for(sandbox.base_url, batch_size=10, daily=1)
        assert sync(engine, settings, clock).delivered == 10
    assert states(engine, urgent) == {"delivered"}
    assert states(engine, bulk) == {"waiting"}


def test_what_becomes_due_while_more_is_to_come_is_sent_in_the_same_delivery(engine: sa.Engine) -> None:
    """Leads are being matched: the delivery that was started beside the chain has nothing due at first."""
    clock = FrozenClock(NOW)
    looks = iter(range(3))

    def more_to_come() -> bool:
        add_contacts(engine, 5)
        return next(looks) < 2

    with running_sandbox(HubSpotOptions(token=TOKEN).without_limits()) as sandbox:
        settings = settings_for(sandbox.base_url)
        plan = plan_sync(engine, settings=settings, lanes=ALL_LANES, limit=10, now=NOW)
        assert plan.by_destination == {}
        report = deliver(engine, plan, settings=settings, clock=clock, runner_id="test", more_to_come=more_to_come)
        writes = sandbox.writes_per_lead_key()
    assert (report.delivered, len(writes), set(writes.values())) == (15, 15, {1})


def test_nobody_stays_for_what_is_to_come_when_no_destination_may_be_asked(engine: sa.Engine) -> None:
    plan = SyncPlan(ALL_LANES, {}, Parking({"hubspot": Parked("auth", NOW + timedelta(minutes=1))}), follow=True)
    report = deliver(
        engine, plan, settings=NOWHERE, clock=FrozenClock(NOW), runner_id="test", more_to_come=lambda: True
    )
    assert report.parked_until == NOW + timedelta(minutes=1)


def test_a_destination_is_asked_for_its_fields_only_when_something_is_due_there_and_holds_up_no_other(
    engine: sa.Engine, clock: FrozenClock
) -> None:
    add_contacts(engine, 3)
    asked: list[str] = []
    with running_sandbox(HubSpotOptions(token=TOKEN).without_limits()) as sandbox:
        settings = settings_for(sandbox.base_url)
        plan = plan_sync(engine, settings=settings, lanes=ALL_LANES, limit=10, now=NOW)
        for _ in range(2):
            deliver(engine, plan, settings=settings, clock=clock, runner_id="test", prepare=asked.append)
    assert asked == ["hubspot"]


def test_a_run_takes_no_new_batch_after_its_time(engine: sa.Engine) -> None:
    add_contacts(engine, 30)
    clock = FrozenClock(NOW)
    with running_sandbox(HubSpotOptions(token=TOKEN).without_limits()) as sandbox:
        settings = settings_for(sandbox.base_url, batch_size=10, run_seconds=5, in_flight=1)
        from leads_pipeline.crm.clients import build_clients

        client = build_clients(settings)["hubspot"]

        class TakesThreeSeconds:
            send, close, traits = client.send, client.close, client.traits

            def deliver(self, records, *, courier):
                clock.advance(3)
                return client.deliver(records, courier=courier)

        assert sync(engine, settings, clock, clients={"hubspot": TakesThreeSeconds()}).delivered == 20
        client.close()


def test_with_the_limiter_there_is_no_429_and_without_it_there_are(engine: sa.Engine) -> None:
    """Thirty requests against a CRM that allows ten in any two seconds."""
    options = HubSpotOptions(token=TOKEN, requests=10, window_seconds=2, daily=None)
    add_contacts(engine, 300)
    with running_sandbox(options, clock=FrozenClock(NOW)) as sandbox:  # however long they take, its two seconds last
        unlimited = settings_for(sandbox.base_url, batch_size=10, requests=1_000_000, run_seconds=2)
        assert sync(engine, unlimited, FrozenClock(NOW)).throttled > 0
        assert sandbox.report()["http_429"] > 0
    with engine.begin() as connection:
        connection.execute(sa.text("delete from rate_limits"))
        connection.execute(
            # The next CRM is another one and holds nothing yet.
            sa.text("update outbox set state = 'waiting', wanted_version = 2, due_at = :now, snapshot = null"),
            {"now": NOW},
        )
        connection.execute(sa.text("update golden_contacts set version = 2, first_name = 'Augusta'"))
    with running_sandbox(options) as sandbox:
        limited = settings_for(sandbox.base_url, batch_size=10, requests=10, seconds=2)
        report = sync(engine, limited, SystemClock())
        seen = sandbox.report()
    assert (report.delivered, report.throttled, seen["http_429"]) == (300, 0, 0)
    assert 5 <= seen["max_accepted_in_any_window"] <= 10


def _process(database_url: str, base_url: str, *extra: str, **numbers: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "leads_pipeline_tests.crm.deliver_process", database_url, base_url]
    return subprocess.Popen([*command, json.dumps(numbers), *extra], stdout=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_two_processes_together_stay_in_the_quota_and_send_each_contact_once(
    engine: sa.Engine, database_url: str
) -> None:
    contacts = add_contacts(engine, 600)
    with running_sandbox(HubSpotOptions(token=TOKEN, requests=10, window_seconds=2, daily=None)) as sandbox:
        numbers = {"batch_size": 20, "requests": 10, "seconds": 2}
        # All is sent in four seconds: one that came later than that would find nothing.
        with engine.begin() as connection:
            connection.execute(sa.text("select pg_advisory_xact_lock(:ready)"), {"ready": READY})
            running = [_process(database_url, sandbox.base_url, **numbers) for _ in range(2)]
            until_somebody_is_blocked(engine, count=2, seconds=100)
        reports = [json.loads(process.communicate(timeout=120)[0]) for process in running]
        seen = sandbox.report()
        writes = sandbox.writes_per_lead_key()
    assert sum(report["delivered"] for report in reports) == 600
    assert all(report["delivered"] > 0 for report in reports)
    assert (seen["http_429"], seen["duplicates"], seen["contacts"]) == (0, 0, 600)
    assert set(writes.values()) == {1}
    assert seen["max_accepted_in_any_window"] <= 10
    assert states(engine, contacts) == {"delivered"}


@pytest.mark.chaos
@pytest.mark.parametrize(
    ("when", "sent", "done"),
    [("claimed", 0, 0), ("written", 0, 0), ("sent", 10, 0), ("answered", 10, 0), ("settled", 10, 10)],
)
def test_what_a_killed_process_held_is_delivered_seconds_later_and_nothing_is_doubled(
    when: str, sent: int, done: int, engine: sa.Engine, database_url: str
) -> None:
    contacts = add_contacts(engine, 30)
    clock = FrozenClock(NOW)
    with running_sandbox(HubSpotOptions(token=TOKEN).without_limits()) as sandbox:
        with sessions_end(engine):
            killed = _process(database_url, sandbox.base_url, when, batch_size=10, in_flight=1)
            killed.communicate(timeout=120)
        assert killed.returncode == -signal.SIGKILL
        assert sandbox.report()["contacts"] == sent
        settings = settings_for(sandbox.base_url, batch_size=10)
        assert sync(engine, settings, clock).delivered == 20 - done
        held = [row for row in outbox_rows(engine).values() if row["state"] == "in_flight"]
        assert len(held) == 10
        clock.advance(GRACE.total_seconds() - 0.001)
        assert sync(engine, settings, clock).delivered == 0
        clock.advance(0.001)
        assert sync(engine, settings, clock).delivered == 10
        seen = sandbox.report()
        writes = sandbox.writes_per_lead_key()
    assert (seen["contacts"], seen["duplicates"]) == (30, 0)
    assert max(writes.values()) == (2 if sent > done else 1)
    assert states(engine, contacts) == {"delivered"}


def test_no_log_line_holds_the_token_or_a_lead(
    engine: sa.Engine, clock: FrozenClock, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import logging

    import structlog

    from leads_pipeline.telemetry import configure_logging

    token = "s3cret-of-the-crm"
    monkeypatch.setenv("LEADS_HUBSPOT_TOKEN", token)
    configure_logging(as_json=True, level=logging.DEBUG)
    root = logging.getLogger()
    stream = logging.StreamHandler()
    root.addHandler(stream)
    before = root.level
    root.setLevel(logging.DEBUG)
    try:
        with running_sandbox(HubSpotOptions(token=token).without_limits()) as sandbox:
            add_contacts(engine, 3, first_name="Grace")
            add_contacts(engine, email="not-an-address")
            settings = settings_for(sandbox.base_url, batch_size=2, in_flight=1)
            sync(engine, settings, clock)
            sandbox.set_faults([{"kind": "auth"}])
            add_contacts(engine)
            sync(engine, settings, clock)
    finally:
        root.removeHandler(stream)
        root.setLevel(before)
        structlog.reset_defaults()
    output = "".join(capfd.readouterr())
    assert "crm_batch_settled" in output
    assert "crm_destination_parked" in output
    assert token not in output
    assert "Grace" not in output
    assert "not-an-address" not in output
