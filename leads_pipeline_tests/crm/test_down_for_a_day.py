"""A destination that is down for a day: nobody dies of it, it is not stormed, it catches up; others notice nothing."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import pairwise
from random import Random

import pytest
import sqlalchemy as sa

from leads_pipeline.config import Settings
from leads_pipeline.crm.sandbox.hubspot.options import HubSpotOptions
from leads_pipeline.crm.sandbox.running import SandboxServer, running_sandbox
from leads_pipeline.domain.stage import Lane
from leads_pipeline_tests.conftest import NOW
from leads_pipeline_tests.crm.delivering import (
    TOKEN,
    Contact,
    add_contacts,
    outbox_rows,
    settings_for,
    states,
    sync,
)
from leads_pipeline_tests.crm.simulated_time import SimulatedClock, simulated_time
from leads_pipeline_tests.crm.watched_writes import Write, watch_writes
from leads_pipeline_tests.ports import free_port

DAY = timedelta(hours=24)
# The limit of each of the two accounts, and the records of a request.
REQUESTS, SECONDS, BATCH_SIZE = 10, 10, 10
# New contacts of each destination in every hour.
HOURLY = 20


def both(down: str, up: str) -> Settings:
    """One tenant's two destinations, at two accounts."""
    numbers = {"batch_size": BATCH_SIZE, "requests": REQUESTS, "seconds": SECONDS, "in_flight": 1, "run_seconds": 300,
               "timeout_seconds": 60}  # fmt: skip
    settings = settings_for(down, **numbers)
    other = settings.destinations["hubspot"].model_copy(update={"base_url": up, "account": "other"})
    tenants = {
        name: tenant.model_copy(update={"destinations": ("hubspot", "other")})
        for name, tenant in settings.tenants.items()
    }
    return settings.model_copy(update={"destinations": {**settings.destinations, "other": other}, "tenants": tenants})


@pytest.fixture
def writes(monkeypatch: pytest.MonkeyPatch) -> list[Write]:
    return watch_writes(monkeypatch)


@pytest.fixture
def time(database_url: str) -> Iterator[tuple[sa.Engine, SimulatedClock]]:
    with simulated_time(database_url, NOW) as simulated:
        yield simulated


def options() -> HubSpotOptions:
    return HubSpotOptions(token=TOKEN, requests=REQUESTS, window_seconds=SECONDS, daily=None)


def next_event(engine: sa.Engine, clock: SimulatedClock, parked: datetime | None, hour: datetime) -> datetime:
    """When a scheduler that looks every second would find the next thing to do: what is due and may be sent."""
    waiting = [row["due_at"] for row in outbox_rows(engine).values() if row["state"] == "waiting"]
    found = max(min(waiting, default=hour), parked or clock.now())
    return min(max(found, clock.now() + timedelta(seconds=1)), hour)


@pytest.mark.parametrize("how", ["unreachable", "http_503"])
def test_a_destination_that_is_down_for_a_day(
    how: str, time: tuple[sa.Engine, SimulatedClock], writes: list[Write]
) -> None:
    engine, clock = time
    begin = clock.now()
    with running_sandbox(options(), clock=clock, random=Random(1)) as up:
        if how == "unreachable":
            port = free_port()
            settings = both(f"http://127.0.0.1:{port}", up.base_url)
            contacts, asked = a_day_of_it(engine, clock, settings)
            with running_sandbox(options(), clock=clock, random=Random(2), port=port) as back:
                it_catches_up(engine, clock, settings, back, contacts, writes)
        else:
            with running_sandbox(options(), clock=clock, random=Random(2)) as down:
                down.set_faults([{"kind": how}])
                settings = both(down.base_url, up.base_url)
                contacts, asked = a_day_of_it(engine, clock, settings)
                assert down.report()["requests"] == asked
                down.clear_faults()
                it_catches_up(engine, clock, settings, down, contacts, writes)
        assert up.report()["http_429"] == 0
    # No pause of the breaker is longer than a quarter of an hour, no wait of a record than an hour.
    assert clock.now() - begin < DAY + timedelta(minutes=80)


def a_day_of_it(engine: sa.Engine, clock: SimulatedClock, settings: Settings) -> tuple[list[Contact], int]:
    """The day. Answers whom the destination owes, and how often it was asked."""
    end = clock.now() + DAY
    owed: list[Contact] = []
    asked_at: list[datetime] = []
    while clock.now() < end:
        hour = clock.now() + timedelta(hours=1)
        owed += add_contacts(engine, HOURLY, due_at=clock.now(), lane=Lane.NEAR_REAL_TIME)
        others = add_contacts(engine, HOURLY, due_at=clock.now(), destination="other")
        came = clock.now()
        while clock.now() < hour:
            report = sync(engine, settings, clock)
            asked_at += [clock.now()] * (report.requests - report.delivered // BATCH_SIZE)
            if clock.now() - came <= timedelta(seconds=SECONDS):
                assert states(engine, others) == {"delivered"}, "the other destination waits for nobody"
            assert report.dead == 0
            parked = report.parked.get("hubspot")
            clock.advance_to(next_event(engine, clock, parked.until if parked else None, hour))
    # Five failures open the breaker; then one probe for each pause of up to a quarter of an hour.
    pauses = [(later - earlier).total_seconds() for earlier, later in pairwise(asked_at)]
    assert sum(pause < 30 for pause in pauses) == 4
    assert all(pause >= 899 for pause in pauses[12:])
    assert DAY.total_seconds() / 900 - 10 <= len(asked_at) <= DAY.total_seconds() / 900 + 12
    with engine.connect() as connection:
        assert connection.execute(sa.text("select count(*) from dead_letters")).scalar_one() == 0
    assert states(engine, owed) == {"waiting"}
    return owed, len(asked_at)


def it_catches_up(
    engine: sa.Engine,
    clock: SimulatedClock,
    settings: Settings,
    sandbox: SandboxServer,
    owed: list[Contact],
    writes: list[Write],
) -> None:
    """The destination is back: the newest contact goes with the first requests, the last when the quota lets."""
    before = len(writes)
    waiting = sorted(
        (row for row in outbox_rows(engine).values() if row["state"] == "waiting"), key=lambda row: row["due_at"]
    )
    oldest = {str(row["contact_id"]) for row in waiting[:BATCH_SIZE]}
    [fresh] = add_contacts(engine, due_at=clock.now(), lane=Lane.NEAR_REAL_TIME)
    while True:
        report = sync(engine, settings, clock)
        assert report.dead == 0
        if states(engine, owed) == {"delivered"}:
            break
        parked = report.parked.get("hubspot")
        hour = clock.now() + timedelta(hours=1)
        clock.advance_to(next_event(engine, clock, parked.until if parked else None, hour))
    taken = [write.key for write in writes[before:]]
    assert sorted(taken) == sorted(str(contact.contact_id) for contact in (*owed, fresh))
    assert taken.index(str(fresh.contact_id)) < 2 * BATCH_SIZE, "the newest goes with the first"
    assert oldest <= set(taken[: 8 * BATCH_SIZE]), "the oldest do not wait for the last"
    [fullest] = sandbox.fullest_windows(SECONDS)
    assert fullest["requests"] == REQUESTS
    assert sandbox.report()["http_429"] == 0
    # As fast as the limit lets, from the probe on; the last ones wait for what their own failures cost them.
    arrivals = [arrival["seconds"] for arrival in sandbox.arrivals() if arrival["status"] == 200]
    most = int(0.8 * len(arrivals))
    assert arrivals[most] - arrivals[0] <= 1.1 * SECONDS * (most // REQUESTS + 1)
