"""Contacts whose verdict has expired are asked for again, inside the budgets; and what a lead's journey says of it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa

from leads_pipeline import flows
from leads_pipeline.clock import FrozenClock
from leads_pipeline.config import Settings, parse_settings
from leads_pipeline.domain.stage import ALL_LANES, Lane, Stage
from leads_pipeline.flows import FlowContext
from leads_pipeline.steps.reverified_contacts import KEPT_FOR_NEW_LEADS, ask_again
from leads_pipeline.storage.journey import JourneyEvent, lead_journey
from leads_pipeline.storage.verification_switches import switch_down
from leads_pipeline.verification.sandbox.options import ProviderOptions
from leads_pipeline.verification.sandbox.running import ProviderSandbox, running_provider_sandbox
from leads_pipeline_tests.conftest import LEADS_YAML
from leads_pipeline_tests.steps.rows import raw_lead

STAGES = (Stage.VALIDATED_LEADS, Stage.DEDUPED_LEADS, Stage.GOLDEN_CONTACTS)
PEOPLE = ["ada", "bob", "carl", "dora", "emil", "fritz", "greta", "hugo", "ines", "jakob", "karin", "lutz"]
HALF_A_YEAR = timedelta(days=181).total_seconds()


@dataclass
class World:
    """Leads that come, look-ups that are made, time that passes."""

    engine: sa.Engine
    clock: FrozenClock
    path: Path
    base_url: str
    options: dict[str, str] = field(default_factory=dict)

    @property
    def settings(self) -> Settings:
        options = {"budget": "{}", "reverify": "when_expired", "patience": "0", "calls": "6000", "reserve": "0"}
        options |= self.options
        text = f"""
verification:
  seconds_in_hot_run: 0
  providers:
    bounce:
      vendor: zerobounce
      base_url: {self.base_url}
      key: {{env: LEADS_BOUNCE_KEY}}
      cost_per_lookup: 0.25
      calls_per_minute: {options["calls"]}
      batch_size: 1
      budget: {options["budget"]}
  mailbox: [bounce]
  tiers:
    full: {{lookups: [mailbox], patience_seconds: {options["patience"]}}}
    spare: {{lookups: [mailbox], budget_reserve: {options["reserve"]}}}
    none: {{}}
  triage: [{{tier: full}}]
  cache: {{reverify: {options["reverify"]}, unknown_days: 1}}
"""
        return parse_settings(LEADS_YAML + text, path=self.path)

    @property
    def context(self) -> FlowContext:
        return FlowContext(self.engine, self.settings, self.clock)

    def come(self, *emails: str) -> list[UUID]:
        """Leads come and pass the chain."""
        leads = [raw_lead(self.engine, {"email": email}, received_at=self.clock.now()) for email in emails]
        self.pass_on()
        return leads

    def pass_on(self) -> None:
        for stage in STAGES:
            flows.drain(self.context, stage, lanes=ALL_LANES, runner_id="test")

    def look_up(self) -> None:
        self.clock.advance(1)
        flows.verify(self.context, runner_id="test", seconds=30)
        self.pass_on()

    def ask_again(self) -> dict[str, int]:
        settings = self.settings.verification
        return ask_again(self.engine, settings=settings, clock=self.clock, runner_id="test")

    def rows(self, statement: str) -> list[Any]:
        with self.engine.connect() as connection:
            return list(connection.execute(sa.text(statement)))

    def requests(self) -> list[Any]:
        return self.rows("select lead_id, tier, kind from verification_requests order by lead_id")

    def journey(self, lead: UUID) -> list[JourneyEvent]:
        with self.engine.connect() as connection:
            found = lead_journey(connection, lead)  # type: ignore[arg-type]
        assert found is not None
        return list(found.events)


@pytest.fixture
def bounce() -> Iterator[ProviderSandbox]:
    with running_provider_sandbox(ProviderOptions("zerobounce", limited=False)) as server:
        yield server


@pytest.fixture
def world(
    engine: sa.Engine, clock: FrozenClock, tmp_state: Path, bounce: ProviderSandbox, monkeypatch: pytest.MonkeyPatch
) -> World:
    monkeypatch.setenv("LEADS_BOUNCE_KEY", "a-key")
    return World(engine, clock, tmp_state / "leads.yaml", bounce.base_url)


def counted(counts: dict[str, int]) -> tuple[int, int]:
    return counts.get("mailbox_asked_again", 0), counts.get("mailbox_held_by_nobody", 0)


def test_a_contact_whose_verdict_has_expired_is_asked_for_again_in_the_last_tier(world: World, bounce: Any) -> None:
    [lead] = world.come("valid@firm.example")
    world.look_up()
    assert counted(world.ask_again()) == (0, 0), "it holds"
    world.clock.advance(HALF_A_YEAR)
    assert counted(world.ask_again()) == (1, 0)
    assert world.requests() == [(lead, "spare", "mailbox")]
    assert counted(world.ask_again()) == (0, 0), "once"
    world.look_up()
    verdicts = world.rows("select tier, verdict, cost_micros from verifications order by verified_at")
    assert verdicts == [("full", "valid", 250_000), ("spare", "valid", 250_000)]
    assert world.rows("select email_verdict from golden_contacts") == [("valid",)]
    assert bounce.lookups() == {"valid@firm.example": {"looked_up": 2, "billed": 2}}
    world.clock.advance(HALF_A_YEAR)
    assert counted(world.ask_again()) == (1, 0), "and again when that has expired"


def test_on_next_lead_asks_nobody(world: World) -> None:
    world.options["reverify"] = "on_next_lead"
    world.come("valid@firm.example")
    world.look_up()
    world.clock.advance(HALF_A_YEAR)
    assert world.ask_again() == {}
    assert world.requests() == []


def test_it_is_asked_in_the_name_of_the_lead_that_the_golden_value_came_from(world: World) -> None:
    world.come("valid@firm.example")
    world.look_up()
    world.clock.advance(3600)
    [later] = world.come("valid@firm.example")
    [(held,)] = world.rows("select cast(provenance -> 'email' ->> 'lead_id' as uuid) from golden_contacts")
    assert held == later, "whose verdict was known already"
    world.clock.advance(HALF_A_YEAR)
    assert counted(world.ask_again()) == (1, 0)
    assert [row.lead_id for row in world.requests()] == [later]


def test_what_no_contact_holds_any_more_and_what_was_unknown_is_forgotten(world: World) -> None:
    world.come("ada+valid@firm.example", "bob+unknown@other.example")
    world.look_up()
    with world.engine.begin() as connection:
        connection.execute(sa.text("delete from golden_contacts where email like 'ada%'"))
    world.clock.advance(HALF_A_YEAR)
    assert counted(world.ask_again()) == (0, 2)
    assert world.requests() == []
    assert world.rows("select 1 from verdict_cache") == []


@pytest.mark.parametrize(
    ("options", "leads", "asked"),
    [
        ({"budget": "{per_day: 2.5}"}, 12, 8),  # 10 look-ups, of which two are kept for new leads
        ({"budget": "{per_month: 2.5}", "reserve": "0.5"}, 12, 5),
        ({"budget": "{per_day: 0.25}"}, 2, 0),
        ({"calls": "2"}, 12, 5),  # in half of slo_seconds
    ],
)
def test_only_as_many_are_asked_for_as_budgets_and_limits_leave(
    world: World, options: dict[str, str], leads: int, asked: int
) -> None:
    assert KEPT_FOR_NEW_LEADS == 0.2
    world.come(*(f"{name}+valid@{name}.example" for name in PEOPLE[:leads]))
    world.look_up()
    world.clock.advance(HALF_A_YEAR)
    world.options |= options
    with world.engine.begin() as connection:
        connection.execute(sa.text("delete from rate_limits"))  # the database's time is the same
    assert counted(world.ask_again()) == (asked, 0)
    assert len(world.rows("select 1 from verdict_cache")) == leads - asked, "the others keep their turn"
    assert counted(world.ask_again()) == (0, 0), "what waits already is counted"


def test_a_tier_that_is_switched_down_asks_for_nothing_again(world: World) -> None:
    world.come("valid@firm.example")
    world.look_up()
    world.clock.advance(HALF_A_YEAR)
    tiers, now = world.settings.verification.tiers, world.clock.now()
    with world.engine.begin() as connection:
        switch_down(connection, "spare", down_to="none", tiers=tiers, actor="a", reason="r", until=None, now=now)
    assert world.ask_again() == {"mailbox_no_tier": 1}
    assert len(world.rows("select 1 from verdict_cache")) == 1


# -- the journey of a lead


@pytest.fixture
def told(world: World) -> Callable[[UUID], dict[str, dict[str, Any]]]:
    """What a journey says, by event."""
    return lambda lead: {event.event: event.details for event in world.journey(lead)}


def test_a_journey_tells_how_a_lead_was_weighed_what_it_waits_for_and_what_was_found(
    world: World, told: Callable[[UUID], dict[str, dict[str, Any]]]
) -> None:
    world.options["patience"] = "30"
    lead = raw_lead(world.engine, {"email": "catch-all@mailinator.com"}, received_at=world.clock.now())
    world.pass_on()
    events = told(lead)
    assert events["validated"]["tier"] == "full"
    assert events["validated"]["risk_factors"] == [{"factor": "disposable_mailbox", "points": 40}]
    assert (events["validated"]["value"], events["validated"]["risk"]) == (0, 40)
    waits = events["waits to be looked up"]
    assert (waits["kind"], waits["tier"], waits["attempts"]) == ("mailbox", "full", 0)
    assert "patience_until" in waits
    assert "went on unverified" not in events
    world.clock.advance(31)
    world.pass_on()
    assert told(lead)["went on unverified"] == {"still_to_look_up": ["mailbox"]}
    world.look_up()
    events = told(lead)
    assert events["went on unverified"] == {"still_to_look_up": ["mailbox"]}
    found = events["verified"]
    assert (found["provider"], found["verdict"], found["reasons"]) == ("bounce", "risky", ["accepts_all"])
    assert found["cost"] == 0.25
    assert "waits to be looked up" not in events
    assert "mailinator" not in str(world.journey(lead))


def test_a_journey_tells_what_was_known_already_and_whose_switch_let_a_look_up_go(
    world: World, told: Callable[[UUID], dict[str, dict[str, Any]]]
) -> None:
    world.come("valid@firm.example")
    world.look_up()
    [second] = world.come("valid@firm.example")
    known = told(second)["was known already"]
    assert (known["provider"], known["verdict"]) == ("bounce", "valid")
    assert "cost" not in known
    [third] = world.come("other@firm.example")
    world.clock.advance(1)
    tiers, now = world.settings.verification.tiers, world.clock.now()
    with world.engine.begin() as connection:
        switch_down(connection, "full", down_to="none", tiers=tiers, actor="grace", reason="down", until=None, now=now)
    world.look_up()
    assert told(third)["its look-up was let go"]["reasons"] == ["switched_down"]
    [fourth] = world.come("fourth@firm.example")
    events = told(fourth)
    assert events["validated"]["tier"] == "none"
    switched = events["a tier was switched down at that time"]
    assert (switched["tier"], switched["treated_as"], switched["actor"]) == ("full", "none", "grace")
    assert "a tier was switched down at that time" not in told(second)


def test_lanes_of_requests_are_the_leads_own(world: World) -> None:
    world.come("valid@firm.example")
    world.look_up()
    world.clock.advance(HALF_A_YEAR)
    world.ask_again()
    assert world.rows("select lane from verification_requests") == [(str(Lane.NEAR_REAL_TIME),)]
