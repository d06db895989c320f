"""Verification in Dagster: what a run of look-ups says of itself, when one is asked for, what the checks hold it to."""

import dataclasses
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import sqlalchemy as sa

from leads_pipeline.clock import FrozenClock
from leads_pipeline.config import Settings, parse_settings
from leads_pipeline.defs.maintenance import CALLS_KEPT, EXPIRED_VERDICTS_KEPT, reverification_hourly
from leads_pipeline.defs.sensors import lookups_waiting
from leads_pipeline.flows import FlowContext
from leads_pipeline.sandbox.faults import FaultKind, FaultRule
from leads_pipeline.storage.verification_switches import switch_down
from leads_pipeline.verification.sandbox.dns import DnsSandbox, running_dns_sandbox
from leads_pipeline.verification.sandbox.options import ProviderOptions
from leads_pipeline.verification.sandbox.running import ProviderSandbox, running_provider_sandbox
from leads_pipeline_tests.conftest import LEADS_YAML
from leads_pipeline_tests.defs.conftest import metadata_of, verdicts

KEY = "a-key-that-nobody-may-see"

VERIFICATION = """
verification:
  seconds_in_hot_run: 0
  mx: {enabled: true, resolvers: ["@dns"]}
  providers:
    bounce:
      vendor: zerobounce
      base_url: @bounce
      key: {env: LEADS_BOUNCE_KEY}
      cost_per_lookup: 0.25
      calls_per_minute: 6000
      budget: {per_day: 10, per_month: 100}
    spare: {vendor: kickbox, base_url: "http://127.0.0.1:9", key: {env: LEADS_SPARE_KEY}}
  mailbox: [bounce]
  triage:
    - {tier: full, when: {present: [email]}}
"""


@pytest.fixture
def clock() -> FrozenClock:
    """Dagster stamps runs with the machine's time, so these tests begin there."""
    return FrozenClock(datetime.now(UTC))


@pytest.fixture
def bounce() -> Iterator[ProviderSandbox]:
    with running_provider_sandbox(ProviderOptions("zerobounce", key=KEY, limited=False)) as server:
        yield server


@pytest.fixture
def dns() -> Iterator[DnsSandbox]:
    with running_dns_sandbox() as server:
        yield server


@pytest.fixture
def crm_settings(
    sandbox: Any, bounce: ProviderSandbox, dns: DnsSandbox, tmp_state: Path, monkeypatch: pytest.MonkeyPatch
) -> Settings:
    monkeypatch.setenv("LEADS_BOUNCE_KEY", KEY)
    text = LEADS_YAML.replace("http://127.0.0.1:9", sandbox.base_url) + VERIFICATION
    text = text.replace("@dns", dns.address).replace("@bounce", bounce.base_url)
    return parse_settings(text, path=tmp_state / "leads.yaml")


@pytest.fixture
def tick(instance: dg.DagsterInstance, flow_context: FlowContext) -> Callable[[], dg.RunRequest | dg.SkipReason]:
    """Evaluate the sensor once."""
    return lambda: lookups_waiting(dg.build_sensor_context(instance=instance), flow=flow_context)


@pytest.fixture
def capture(seeding: Any, run: Any, clock: FrozenClock) -> Callable[..., None]:
    """Capture leads with these addresses and bring them through a micro-batch; a second later look-ups begin."""

    def captured(*emails: str) -> None:
        with seeding() as flow:
            for email in emails:
                flow.buffered(payload={"email": email, "last_name": "Lovelace"})
        assert run("near_real_time").success
        clock.advance(1)

    return captured


def switch_off(engine: sa.Engine, context: FlowContext) -> None:
    tiers, now = context.settings.verification.tiers, context.clock.now()
    with engine.begin() as connection:
        switch_down(connection, "full", down_to="none", tiers=tiers, actor="grace", reason="r", until=None, now=now)


def failing(run: Any) -> set[str]:
    return {name for name, passed in verdicts(run("slo_checks")).items() if not passed}


def test_a_run_of_look_ups_can_be_followed_in_its_metadata(run: Any, capture: Any, bounce: Any) -> None:
    capture("valid@firm.example", "invalid@firm.example", "ann@null-mx.example")
    result = run("verification")
    assert result.success
    found = metadata_of(result, "verifications")
    assert (found["lookups"], found["calls"]) == (2 + 2, 1), "two domains and two mailboxes; a dead domain has none"
    assert found["leads_settled"] == 6
    assert found["lookups_saved"] == 2, "one domain for two leads, one mailbox of a dead domain"
    assert found["leads_released"] == 3
    assert found["spent_today_bounce"] == found["spent_this_month_bounce"] == 0.5
    assert (found["waiting"], found["breakers_open"]) == (0, 0)
    assert "| bounce | answered | 1 | 2 |" in found["calls_by_outcome"]
    assert "| mailbox | bounce | valid | 1 |" in found["verdicts"]
    assert "| mailbox | dns | invalid | 1 |" in found["verdicts"]
    assert "| bounce | mailbox | 0.5000 | 0.5000 | 9.50 | 99.50 | closed |" in found["providers"]
    assert "stopped" not in found
    assert bounce.report()["billed_twice"] == 0
    for value in ("firm.example", "ann@", KEY):
        assert value not in str(found)


def test_what_is_known_already_is_shown_and_not_asked_for(run: Any, capture: Any) -> None:
    capture("valid@firm.example")
    assert run("verification").success
    capture("valid@firm.example")
    found = metadata_of(run("verification"), "verifications")
    assert (found["lookups"], found["calls"]) == (0, 0)
    assert (found["known_already_last_hour"], found["verdicts_last_hour"]) == (2, 4)


def test_validation_says_how_leads_were_weighed_and_what_was_asked_for(run: Any, seeding: Any) -> None:
    with seeding() as flow:
        flow.buffered(payload={"email": "valid@firm.example"})
    found = metadata_of(run("near_real_time"), "validated_leads")
    assert (found["tier_full"], found["lookups_asked"]) == (1, 2)


def test_nobody_to_ask_is_said_with_what_helps(run: Any, capture: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    capture("valid@firm.example")
    monkeypatch.delenv("LEADS_BOUNCE_KEY")
    found = metadata_of(run("verification"), "verifications")
    assert "| mailbox | bounce: no key |" in found["stopped"]
    assert "LEADS_BOUNCE_KEY is not set" in found["what_helps"]
    assert found["waiting"] == 1
    assert "| full | mailbox | 1 |" in found["backlog"]


def test_the_sensor_asks_for_a_run_when_a_look_up_is_due(tick: Any, capture: Any, run: Any) -> None:
    assert isinstance(tick(), dg.SkipReason)
    capture("valid@firm.example")
    assert tick().tags["leads/due"] == "mx"
    assert run("verification").success
    assert isinstance(tick(), dg.SkipReason)


def test_what_nobody_can_be_asked_for_is_no_work(
    tick: Any, capture: Any, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LEADS_BOUNCE_KEY")
    capture("valid@firm.example")
    assert run("verification").success, "its domain is looked up"
    assert "anybody can be asked" in tick().skip_message
    monkeypatch.setenv("LEADS_BOUNCE_KEY", KEY)
    assert tick().tags["leads/due"] == "mailbox"


def test_a_budget_that_is_kept_for_others_is_no_work(
    tick: Any, capture: Any, run: Any, flow_context: FlowContext, seeding: Any, clock: FrozenClock, instance: Any
) -> None:
    capture("valid@firm.example")
    assert run("verification").success
    capture("other@firm.example")
    assert tick().tags["leads/due"] == "mailbox"
    verification = flow_context.settings.verification
    kept = {"full": verification.tiers["full"].model_copy(update={"budget_reserve": 0.99})}
    tiers = {"gold": verification.tiers["full"], **verification.tiers, **kept}
    settings = flow_context.settings.model_copy(
        update={"verification": verification.model_copy(update={"tiers": tiers})}
    )
    with seeding() as flow:
        flow.connection.execute(sa.text("update verification_requests set urgency = 1"))
    context = dg.build_sensor_context(instance=instance)
    reserved = lookups_waiting(context, flow=dataclasses.replace(flow_context, settings=settings))
    assert isinstance(reserved, dg.SkipReason)


def test_a_tier_that_is_switched_down_is_work_though_nobody_can_be_asked(
    tick: Any, capture: Any, run: Any, engine: sa.Engine, clock: FrozenClock, flow_context: FlowContext,
    monkeypatch: pytest.MonkeyPatch, count: Any,
) -> None:  # fmt: skip
    monkeypatch.delenv("LEADS_BOUNCE_KEY")
    capture("valid@firm.example")
    assert run("verification").success
    assert isinstance(tick(), dg.SkipReason)
    switch_off(engine, flow_context)
    assert tick().tags["leads/due"] == "mailbox"
    assert run("verification").success
    assert count("verification_requests") == 0
    assert isinstance(tick(), dg.SkipReason)


def test_one_run_of_look_ups_at_a_time(tick: Any, capture: Any, instance: Any, definitions: Any) -> None:
    capture("valid@firm.example")
    instance.create_run_for_job(definitions.resolve_job_def("verification"), status=dg.DagsterRunStatus.STARTED)
    assert "under way" in tick().skip_message


def test_runs_that_looked_nothing_up_are_asked_for_less_often(tick: Any, capture: Any, run: Any) -> None:
    for _ in range(3):
        assert run("verification").success
    capture("valid@firm.example")
    assert "3 runs came to nothing" in tick().skip_message


def test_a_provider_that_fails_does_not_slow_the_sensor_down_as_well(
    tick: Any, capture: Any, run: Any, bounce: Any, clock: FrozenClock
) -> None:
    bounce.set_faults([FaultRule(FaultKind.HTTP_503)])
    capture("valid@firm.example")
    for _ in range(3):
        run("verification")
        clock.advance(60)
    assert isinstance(tick(), dg.RunRequest)


# -- checks


def looked_up(seeding: Any, clock: FrozenClock, leads: int, seconds: float, **values: Any) -> None:
    """Verdicts that came so long after they were asked for."""
    with seeding() as flow:
        for _ in range(leads):
            asked = clock.now() - timedelta(seconds=seconds)
            row = {"tier": "full", "kind": "mailbox", "provider": "bounce", "verdict": "valid", "reasons": []}
            row |= {"requested_at": asked, "verified_at": clock.now(), "cost_micros": 0}
            flow.insert("verifications", **{**row, **values})


def waiting(seeding: Any, clock: FrozenClock, leads: int, seconds: float) -> None:
    with seeding() as flow:
        for _ in range(leads):
            asked = clock.now() - timedelta(seconds=seconds)
            flow.insert(
                "verification_requests",
                tier="full", kind="mailbox", lane="real_time", requested_at=asked, patience_until=asked, due_at=asked,
            )  # fmt: skip


@pytest.mark.parametrize(
    ("values", "fails"),
    [
        ({"seconds": 301.0}, True),
        ({"seconds": 299.0}, False),
        ({"seconds": 10.0, "verdict": "unknown", "reasons": ["answer_lost"]}, True),
        ({"seconds": 10.0, "verdict": "unknown", "reasons": ["provider_failed"]}, True),
        ({"seconds": 10.0, "verdict": "unknown", "reasons": ["greylisted"]}, False),
        ({"seconds": 301.0, "verdict": "unknown", "reasons": ["switched_down"], "provider": "skipped"}, False),
        ({"seconds": 301.0, "tier": "a_tier_of_old"}, False),
    ],
)
def test_look_ups_that_come_late_or_fail_break_the_promise(
    run: Any, seeding: Any, clock: FrozenClock, values: dict[str, Any], fails: bool
) -> None:
    looked_up(seeding, clock, 98, 1.0)
    looked_up(seeding, clock, 2, **values)
    assert failing(run) == ({"verifications.verified_in_time"} if fails else set())


def test_what_was_known_at_once_does_not_flatter_the_share(run: Any, seeding: Any, clock: FrozenClock) -> None:
    looked_up(seeding, clock, 1_000, 0.0)
    looked_up(seeding, clock, 19, 301.0)
    assert failing(run) == set(), "19 look-ups prove nothing"
    looked_up(seeding, clock, 1, 301.0)
    assert failing(run) == {"verifications.verified_in_time"}


def test_look_ups_that_stand_still_break_the_promise_also_when_they_are_old(
    run: Any, seeding: Any, clock: FrozenClock
) -> None:
    waiting(seeding, clock, 20, 10.0)
    assert failing(run) == set()
    clock.advance(300)
    assert failing(run) == {"verifications.verified_in_time"}
    clock.advance(timedelta(days=3).total_seconds())
    assert failing(run) == {"verifications.verified_in_time"}


def test_verdicts_of_long_ago_are_out_of_the_window(run: Any, seeding: Any, clock: FrozenClock) -> None:
    looked_up(seeding, clock, 50, 301.0)
    assert failing(run) == {"verifications.verified_in_time"}
    clock.advance(timedelta(hours=24, seconds=1).total_seconds())
    assert failing(run) == set()


def budget_check(run: Any) -> tuple[dg.AssetCheckEvaluation, dict[str, Any]]:
    [found] = [
        check for check in run("slo_checks").get_asset_check_evaluations() if check.check_name == "verification_budget"
    ]
    return found, {name: item.value for name, item in found.metadata.items()}


@pytest.mark.parametrize(
    ("spent", "day", "words"),
    [
        (10_000_000, 0, "the day's budget of 10.00"),
        (100_000_000, -1, "the month's budget of 100.00"),
    ],
)
def test_a_spent_budget_is_a_warning_with_what_helps(
    run: Any, seeding: Any, clock: FrozenClock, spent: int, day: int, words: str
) -> None:
    clock.advance((clock.now().replace(day=15) - clock.now()).total_seconds())
    with seeding() as flow:
        flow.insert("verification_spend", provider="bounce", day=clock.now().date(), calls=1, cost_micros=9_000_000)
        assert budget_check(run)[0].passed
        flow.connection.execute(sa.text("delete from verification_spend"))
        when = clock.now().date() + timedelta(days=day)
        flow.insert("verification_spend", provider="bounce", day=when, calls=1, cost_micros=spent)
    found, metadata = budget_check(run)
    assert not found.passed
    assert found.severity is dg.AssetCheckSeverity.WARN
    assert words in str(found.description)
    assert metadata["budgets_spent"] == 1


def test_a_refused_key_is_a_warning_that_names_the_variable_alone(
    run: Any, capture: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LEADS_BOUNCE_KEY", "a-wrong-key")
    capture("valid@firm.example")
    assert run("verification").success
    found, metadata = budget_check(run)
    assert not found.passed
    assert "bounce refuses the key LEADS_BOUNCE_KEY" in str(found.description)
    assert metadata["breakers_open"] == 1
    assert "a-wrong-key" not in str((found, metadata))


def test_a_missing_key_is_a_warning_and_a_provider_that_nothing_asks_is_none(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, metadata = budget_check(run)
    assert found.passed, "the key of spare is not set, and nothing asks spare"
    assert metadata["providers"] == 1
    monkeypatch.delenv("LEADS_BOUNCE_KEY")
    found, metadata = budget_check(run)
    assert not found.passed
    assert metadata["keys_missing"] == 1


# -- upkeep


def test_maintenance_forgets_what_verification_need_not_remember(
    run: Any, seeding: Any, clock: FrozenClock, count: Any
) -> None:
    now = clock.now()
    second, counted = timedelta(seconds=1), timedelta(hours=72 + 1)
    with seeding() as flow:
        for gone in (False, True):
            past = second if gone else -second
            number = 1 if gone else 2
            flow.insert("verdict_cache", subject_hash=number, expires_at=now - EXPIRED_VERDICTS_KEPT - past)
            flow.insert("mx_cache", domain_hash=number, expires_at=now - past)
            flow.insert("velocity_counts", subject_hash=number, bucket=now - counted - past)
            flow.insert("verification_calls", provider="bounce", sent_at=now - CALLS_KEPT - past)
        flow.insert("verification_spend", provider="bounce", day=(now - CALLS_KEPT).date())
    assert run("maintenance").success
    for table in ("verdict_cache", "mx_cache", "velocity_counts", "verification_calls", "verification_spend"):
        assert count(table) == 1, table


def test_contacts_are_asked_for_again_only_where_leads_yaml_says_so(
    run: Any, capture: Any, flow_context: FlowContext, clock: FrozenClock, count: Any
) -> None:
    capture("valid@firm.example")
    assert run("verification").success
    clock.advance(timedelta(days=91).total_seconds())
    assert run("reverification").success
    assert count("verification_requests") == 0, "on_next_lead"
    with dg.DagsterInstance.local_temp() as instance:
        context = dg.build_schedule_context(instance)
        assert "on_next_lead" in reverification_hourly(context, flow=flow_context).skip_message
        wanted = dataclasses.replace(flow_context, settings=reverifying(flow_context.settings))
        assert isinstance(reverification_hourly(context, flow=wanted), dg.RunRequest)


def reverifying(settings: Settings) -> Settings:
    cache = settings.verification.cache.model_copy(update={"reverify": "when_expired"})
    return settings.model_copy(update={"verification": settings.verification.model_copy(update={"cache": cache})})


def test_a_tier_that_is_switched_down_lets_its_look_ups_go(
    run: Any, capture: Any, engine: sa.Engine, flow_context: FlowContext
) -> None:
    capture("valid@firm.example")
    switch_off(engine, flow_context)
    found = metadata_of(run("verification"), "verifications")
    assert (found["lookups"], found["leads_released"]) == (0, 1)
    assert "| mailbox | skipped | unknown | 1 |" in found["verdicts"]
