"""What look-ups may cost, and several workers at once: no budget and no limit is ever exceeded."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa

from leads_pipeline.clock import FrozenClock, SystemClock
from leads_pipeline.config import VerificationSettings
from leads_pipeline.sandbox.faults import FaultKind, FaultRule
from leads_pipeline.steps.verifications import VerificationReport, verify_leads
from leads_pipeline.storage import schema
from leads_pipeline.storage.database import engine_for
from leads_pipeline.verification.sandbox.options import ProviderOptions
from leads_pipeline.verification.sandbox.running import ProviderSandbox, running_provider_sandbox
from leads_pipeline_tests.conftest import NOW
from leads_pipeline_tests.steps.rows import rows_of
from leads_pipeline_tests.steps.verifying import (
    KEY,
    TIERS,
    books_are_closed,
    look_up,
    look_up_until_done,
    provider,
    unsettled,
    verification,
    waiting,
)


def addresses(count: int, prefix: str = "p") -> list[str]:
    return [f"{prefix}{n}+valid@a.example" for n in range(count)]


def by_tier(engine: sa.Engine) -> dict[str, int]:
    found: dict[str, int] = {}
    for row in rows_of(engine, schema.verifications):
        found[row["tier"]] = found.get(row["tier"], 0) + 1
    return found


def test_a_days_budget_is_spent_and_not_exceeded_and_the_next_day_is_another(
    engine: sa.Engine, zerobounce: ProviderSandbox, clock: FrozenClock
) -> None:
    budget = {"per_day": 1.5, "time_zone": "America/New_York"}
    settings = verification({"zb": provider(zerobounce.base_url, cost_per_lookup=0.01, budget=budget)})
    waiting(engine, addresses(400))
    report = look_up(engine, settings, clock)
    assert report.lookups == 150  # a hundred, and what was left
    assert report.stopped == {"mailbox": "zb: budget"}
    clock.advance((datetime(2026, 1, 16, 4, 59, tzinfo=UTC) - clock.now()).total_seconds())  # 23:59 there
    assert look_up(engine, settings, clock).lookups == 0
    clock.advance(60)
    assert look_up(engine, settings, clock).lookups == 150
    spends = rows_of(engine, schema.verification_spend)
    assert [(str(row["day"]), row["cost_micros"]) for row in spends] == [
        ("2026-01-15", 1_500_000), ("2026-01-16", 1_500_000),
    ]  # fmt: skip


def test_a_months_budget_holds_over_days_and_ends_with_the_month(
    engine: sa.Engine, zerobounce: ProviderSandbox, clock: FrozenClock
) -> None:
    budget = {"per_day": 1, "per_month": 1.2}
    settings = verification({"zb": provider(zerobounce.base_url, cost_per_lookup=0.01, budget=budget)})
    waiting(engine, addresses(300))
    lookups = []
    for day in (15, 16, 17, 31):
        clock.advance((datetime(2026, 1, day, 13, tzinfo=UTC) - clock.now()).total_seconds())
        lookups.append(look_up(engine, settings, clock).lookups)
    assert lookups == [100, 20, 0, 0]
    clock.advance(12 * 3600)
    assert look_up(engine, settings, clock).lookups == 100


def test_what_is_kept_for_upper_tiers_is_not_spent_on_lower_ones(
    engine: sa.Engine, zerobounce: ProviderSandbox, clock: FrozenClock
) -> None:
    tiers = {**TIERS, "minimal": {"lookups": ["mailbox"], "budget_reserve": 0.6}}
    account = provider(zerobounce.base_url, cost_per_lookup=0.01, budget={"per_day": 1})
    settings = verification({"zb": account}, tiers=tiers)
    waiting(engine, addresses(200, "low"), tier="minimal", urgency=1)
    look_up(engine, settings, clock)
    assert by_tier(engine) == {"minimal": 40}
    waiting(engine, addresses(30, "urgent"), at=clock.now())
    look_up(engine, settings, clock)
    assert by_tier(engine) == {"minimal": 40, "full": 30}
    waiting(engine, addresses(50, "more"), at=clock.now())
    look_up(engine, settings, clock)
    assert by_tier(engine) == {"minimal": 40, "full": 60}


def test_urgent_and_lesser_leads_of_one_batch_do_not_stand_in_each_others_way(
    engine: sa.Engine, zerobounce: ProviderSandbox, clock: FrozenClock
) -> None:
    tiers = {**TIERS, "minimal": {"lookups": ["mailbox"], "budget_reserve": 0.5}}
    account = provider(zerobounce.base_url, cost_per_lookup=0.01, budget={"per_day": 0.8})
    settings = verification({"zb": account}, tiers=tiers)
    waiting(engine, addresses(60, "low"), tier="minimal", urgency=1)
    waiting(engine, addresses(30, "urgent"))
    look_up(engine, settings, clock)
    assert by_tier(engine) == {"full": 30, "minimal": 10}  # 40 of 80 pay for the lesser tier


def test_where_one_is_spent_the_next_is_asked(
    engine: sa.Engine, zerobounce: ProviderSandbox, clock: FrozenClock
) -> None:
    with running_provider_sandbox(ProviderOptions("kickbox", key=KEY), clock=clock) as kickbox:
        settings = verification(
            {
                "zb": provider(zerobounce.base_url, cost_per_lookup=0.01, budget={"per_day": 0.5}),
                "kb": provider(kickbox.base_url, "kickbox"),
            }
        )
        waiting(engine, addresses(80))
        look_up(engine, settings, clock)
        assert (zerobounce.report()["billed"], kickbox.report()["billed"]) == (50, 30)
    assert unsettled(engine) == 0


def test_where_the_rest_is_kept_for_upper_tiers_the_next_is_asked_for_the_lower(
    engine: sa.Engine, zerobounce: ProviderSandbox, clock: FrozenClock
) -> None:
    tiers = {**TIERS, "minimal": {"lookups": ["mailbox"], "budget_reserve": 0.6}}
    with running_provider_sandbox(ProviderOptions("kickbox", key=KEY), clock=clock) as kickbox:
        settings = verification(
            {
                "zb": provider(zerobounce.base_url, cost_per_lookup=0.01, budget={"per_day": 1}),
                "kb": provider(kickbox.base_url, "kickbox"),
            },
            tiers=tiers,
        )
        waiting(engine, addresses(100, "low"), tier="minimal", urgency=1)
        look_up(engine, settings, clock)
        assert (zerobounce.report()["billed"], kickbox.report()["billed"]) == (40, 60)


def test_money_for_what_was_not_billed_comes_back(
    engine: sa.Engine, zerobounce: ProviderSandbox, clock: FrozenClock
) -> None:
    account = provider(zerobounce.base_url, cost_per_lookup=0.01, budget={"per_day": 0.1})
    settings = verification({"zb": account})
    zerobounce.set_faults([FaultRule(FaultKind.HTTP_500, count=1)])
    waiting(engine, [*addresses(4), *(f"p{n}+unknown@a.example" for n in range(6))])
    look_up_until_done(engine, settings, clock, hours=1)
    (spend,) = rows_of(engine, schema.verification_spend)
    assert (spend["calls"], spend["lookups"], spend["cost_micros"]) == (2, 4, 40_000)
    waiting(engine, addresses(10, "more"), at=clock.now())
    look_up(engine, settings, clock)
    assert zerobounce.report()["billed"] == 10
    assert unsettled(engine) == 4


def at_once(
    database_url: str, settings: VerificationSettings, *, workers: int, seconds: float
) -> list[VerificationReport]:
    """So many workers on the machine's clock, each with an engine of its own."""
    ready = threading.Barrier(workers)

    def work(number: int) -> VerificationReport:
        engine = engine_for(database_url)
        ready.wait(timeout=30)
        try:
            return verify_leads(
                engine, settings=settings, clock=SystemClock(), runner_id=f"worker {number}", budget_seconds=seconds
            )
        finally:
            engine.dispose()

    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(work, range(workers)))


def test_workers_at_once_keep_the_budget_and_ask_for_nothing_twice(engine: sa.Engine, database_url: str) -> None:
    with running_provider_sandbox(ProviderOptions("zerobounce", key=KEY, limited=False)) as sandbox:
        account = provider(
            sandbox.base_url, cost_per_lookup=0.01, budget={"per_day": 3}, batch_size=7, calls_per_minute=6_000
        )
        settings = verification({"zb": account})
        waiting(engine, addresses(500), at=datetime.now(UTC) - timedelta(minutes=1))
        reports = at_once(database_url, settings, workers=3, seconds=120)
        assert sandbox.report()["billed"] == 300
        assert sandbox.report()["looked_up_twice"] == 0
    assert sum(report.lookups for report in reports) == 300
    (spend,) = rows_of(engine, schema.verification_spend)
    assert spend["cost_micros"] == 3_000_000
    assert unsettled(engine) == 200
    books_are_closed(engine)


def test_workers_at_once_never_ask_oftener_than_the_vendor_allows(engine: sa.Engine, database_url: str) -> None:
    """Ten a second, which they use up in a moment, by the vendor's own count; questions after a 202 count as well."""
    with running_provider_sandbox(ProviderOptions("hunter", key=KEY, pending_seconds=0.5)) as sandbox:
        settings = verification({"hu": provider(sandbox.base_url, "hunter")})
        waiting(engine, addresses(100), at=datetime.now(UTC) - timedelta(minutes=1))
        reports = at_once(database_url, settings, workers=2, seconds=3)
        report = sandbox.report()
    assert (report["calls_over_limit"], report["looked_up_twice"]) == (0, 0)
    assert report["max_in_flight"] <= 10
    assert 12 <= report["requests"] <= 40
    assert sum(item.calls for item in reports) == len(rows_of(engine, schema.verification_calls))


def test_a_slow_providers_calls_are_under_way_side_by_side(engine: sa.Engine, database_url: str) -> None:
    with running_provider_sandbox(ProviderOptions("zerobounce", key=KEY, calls_per_minute=600)) as sandbox:
        sandbox.set_faults([FaultRule(FaultKind.SLOW, latency_ms=1_500)])
        settings = verification({"zb": provider(sandbox.base_url, batch_size=2, calls_per_minute=600)})
        waiting(engine, addresses(20), at=NOW)
        (report,) = at_once(database_url, settings, workers=1, seconds=30)
        assert report.calls == 10
        assert sandbox.report()["max_in_flight"] >= 5
        assert sandbox.report()["calls_over_limit"] == 0
    assert unsettled(engine) == 0
