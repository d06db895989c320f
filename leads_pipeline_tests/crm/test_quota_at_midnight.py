"""The day's quota ends at the account's own midnight, also on the days on which its clocks are changed."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from random import Random

import pytest
import sqlalchemy as sa

from leads_pipeline.config import Settings
from leads_pipeline.crm.sandbox.hubspot.options import HubSpotOptions
from leads_pipeline.crm.sandbox.running import SandboxServer, running_sandbox
from leads_pipeline.domain.stage import ALL_LANES, Lane
from leads_pipeline.steps.crm_sync_batches import plan_sync
from leads_pipeline_tests.crm.delivering import TOKEN, add_contacts, settings_for, states, sync
from leads_pipeline_tests.crm.simulated_time import SimulatedClock, simulated_time

DAILY, BATCH_SIZE = 4, 5

# The zone; the midnight at which a day begins whose clocks are changed, and the next two midnights, in UTC.
DAYS = {
    "New York springs forward": (
        "America/New_York", "2026-03-08T05:00", "2026-03-09T04:00", "2026-03-10T04:00",
    ),
    "New York falls back": ("America/New_York", "2026-11-01T04:00", "2026-11-02T05:00", "2026-11-03T05:00"),
    "Auckland falls back": ("Pacific/Auckland", "2026-04-04T11:00", "2026-04-05T12:00", "2026-04-06T12:00"),
    "Auckland springs forward": ("Pacific/Auckland", "2026-09-26T12:00", "2026-09-27T11:00", "2026-09-28T11:00"),
}  # fmt: skip


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


class Account:
    """A CRM that counts the days of its zone, and a pipeline that was told of the zone; simulated time for both."""

    def __init__(self, engine: sa.Engine, clock: SimulatedClock, sandbox: SandboxServer, zone: str) -> None:
        self.engine, self.clock, self.sandbox = engine, clock, sandbox
        settings = settings_for(
            sandbox.base_url, batch_size=BATCH_SIZE, daily=DAILY, in_flight=1, requests=100, timeout_seconds=60
        )
        destination = settings.destinations["hubspot"]
        assert destination.limits.daily is not None
        limits = destination.limits.model_copy(
            update={"daily": destination.limits.daily.model_copy(update={"time_zone": zone})}
        )
        self.settings: Settings = settings.model_copy(
            update={"destinations": {"hubspot": destination.model_copy(update={"limits": limits})}}
        )

    def requests(self) -> int:
        """Deliver what may be delivered now; how many requests that was."""
        report = sync(self.engine, self.settings, self.clock)
        assert report.throttled == 0
        return report.requests

    def parked(self) -> tuple[str, datetime] | None:
        """Why nothing is sent, and until when."""
        plan = plan_sync(self.engine, settings=self.settings, lanes=ALL_LANES, limit=100, now=self.clock.now())
        found = plan.parked.destinations.get("hubspot")
        return None if found is None else (found.reason, found.until)


@contextmanager
def account(database_url: str, zone: str, begin: datetime) -> Iterator[Account]:
    with simulated_time(database_url, begin) as (engine, clock):
        options = HubSpotOptions(token=TOKEN, requests=None, daily=DAILY, time_zone=zone, search_per_second=None)
        with running_sandbox(options, clock=clock, random=Random(1)) as sandbox:
            yield Account(engine, clock, sandbox, zone)


@pytest.mark.parametrize(
    ("begin_after", "seconds_before"), [(timedelta(minutes=1), 0), (timedelta(hours=1, minutes=59), 20)]
)
@pytest.mark.parametrize("day", DAYS)
def test_a_day_s_quota_is_spent_and_the_next_one_begins_at_the_account_s_midnight(
    day: str, begin_after: timedelta, seconds_before: int, database_url: str
) -> None:
    zone, midnight, next_midnight, the_one_after = DAYS[day]
    begin = at(midnight) + begin_after
    with account(database_url, zone, begin) as crm:
        contacts = add_contacts(crm.engine, 3 * DAILY * BATCH_SIZE, due_at=crm.clock.now())
        for ends in (at(next_midnight), at(the_one_after)):
            assert crm.requests() == DAILY
            assert crm.parked() == ("daily", ends)
            crm.clock.advance_to(ends - timedelta(minutes=2))
            assert crm.requests() == 0
            assert crm.parked() == ("daily", ends)
            crm.clock.advance_to(ends - timedelta(seconds=seconds_before))  # a run waits for so long, and no longer
        assert crm.requests() == DAILY
        assert states(crm.engine, contacts) == {"delivered"}
        seen = crm.sandbox.report()
        assert (seen["http_429"], seen["contacts"]) == (0, len(contacts))
        midnights = [at(next_midnight) - begin, at(the_one_after) - begin]
        sent = Counter(timedelta(seconds=int(item["seconds"])) for item in crm.sandbox.arrivals())
        assert sent == dict.fromkeys((timedelta(0), *midnights), DAILY)


@pytest.mark.parametrize("day", DAYS)
def test_what_is_kept_for_the_real_time_lane_is_kept_until_that_midnight(day: str, database_url: str) -> None:
    zone, midnight, next_midnight, _the_one_after = DAYS[day]
    with account(database_url, zone, at(midnight) + timedelta(minutes=1)) as crm:
        bulk = add_contacts(crm.engine, 2 * DAILY * BATCH_SIZE, lane=Lane.BATCH, due_at=crm.clock.now())
        assert crm.requests() == DAILY - 1  # a tenth, and never less than one
        crm.clock.advance(3600)
        assert crm.requests() == 0
        assert crm.parked() is None  # but for the lanes that have to wait
        [urgent] = add_contacts(crm.engine, due_at=crm.clock.now())
        assert crm.requests() == 1
        assert states(crm.engine, [urgent]) == {"delivered"}
        assert crm.parked() == ("daily", at(next_midnight))
        assert "waiting" in states(crm.engine, bulk)
        crm.clock.advance_to(at(next_midnight))
        assert crm.requests() > 0
        assert crm.sandbox.report()["http_429"] == 0
