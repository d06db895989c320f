"""Small tables of verification: the ledger's arithmetic, the verdict cache, velocity and switches."""

from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from leads_pipeline.config import BudgetSettings, ProviderSettings, TierSettings, VerdictCacheSettings
from leads_pipeline.domain.ids import uuid7
from leads_pipeline.domain.verification import LookupKind, LookupVerdict, Standing
from leads_pipeline.errors import LeadsError, NotFound
from leads_pipeline.storage import verification_calls as books
from leads_pipeline.storage.velocity import count_sightings, prune_velocity, sighting
from leads_pipeline.storage.verdicts import BY_DNS, Stamp, SubjectVerdict, prune_cache, read_cached, settle
from leads_pipeline.storage.verification_calls import Call, Spend
from leads_pipeline.storage.verification_switches import (
    Switch,
    active_switches,
    switch_back,
    switch_down,
    tiers_in_force,
)
from leads_pipeline_tests.conftest import NOW

HOUR = timedelta(hours=1)


def account(**said: object) -> ProviderSettings:
    return ProviderSettings.model_validate({"vendor": "reacher", "base_url": "http://127.0.0.1:9", **said})


# -- the ledger


@given(limit=st.floats(5, 1_000), spent=st.integers(0, 10**9), price=st.floats(0.0001, 5), kept_back=st.floats(0, 1))
def test_what_the_budget_pays_for_never_exceeds_it(limit: float, spent: int, price: float, kept_back: float) -> None:
    settings = account(cost_per_lookup=price, budget={"per_day": limit})
    left = books.affordable(Spend(0, 0, spent, spent), settings, kept_back=kept_back)
    assert left is not None
    assert left >= 0
    if left:
        assert spent + left * books.micros(price) <= books.micros(limit) * (1 - kept_back) + 1
    more = spent + (left + 1) * books.micros(price)
    assert more > round(books.micros(limit) * (1 - kept_back))


def test_a_share_that_is_kept_back_is_exact() -> None:
    settings = account(cost_per_lookup=0.1, budget={"per_day": 1})
    assert books.affordable(Spend(0, 0, 0, 0), settings, kept_back=0.9) == 1
    assert books.affordable(Spend(0, 0, 0, 0), account(cost_per_lookup=0.1), kept_back=0.9) is None


def test_the_day_is_the_accounts(engine: sa.Engine) -> None:
    budget = BudgetSettings(time_zone="Pacific/Auckland")
    assert books.day_of(datetime(2026, 1, 15, 12, tzinfo=UTC), budget).isoformat() == "2026-01-16"


def test_a_call_reserves_and_its_answer_gives_back_once(engine: sa.Engine) -> None:
    settings = account(cost_per_lookup=0.01, budget={"per_day": 1})
    call = Call(uuid7(NOW), "re", "mailbox", 60, 600_000, NOW)
    too_much = Call(uuid7(NOW), "re", "mailbox", 41, 410_000, NOW)

    def reserved(wanted: Call) -> bool:
        with engine.begin() as connection:
            return books.reserve(
                connection, wanted, settings, kept_back=0, batch_id=uuid7(NOW), runner_id="test", now=NOW
            )

    def spend() -> Spend:
        with engine.connect() as connection:
            return books.spend_of(connection, "re", settings, now=NOW)

    assert reserved(call)
    assert not reserved(too_much)
    assert spend() == Spend(1, 60, 600_000, 600_000)
    for _again in range(2):
        with engine.begin() as connection:
            books.write_answer(
                connection, call, settings, outcome="answered", http_status=200, billed=10, now=NOW + HOUR
            )
    assert spend() == Spend(1, 10, 100_000, 100_000)
    assert reserved(too_much)
    with engine.begin() as connection:
        books.write_lost(connection, too_much.call_id, now=NOW)
        books.write_lost(connection, call.call_id, now=NOW)
        found = books.read_calls(connection, [call.call_id, too_much.call_id])
    assert spend() == Spend(2, 51, 510_000, 510_000)
    assert {item.cost_micros for item in found.values()} == {100_000, 410_000}


# -- the verdict cache


def test_a_verdict_is_known_until_it_expires_and_is_then_pruned(engine: sa.Engine) -> None:
    cache = VerdictCacheSettings(valid_days=2, unknown_days=0)
    stamp = Stamp(uuid7(NOW), "test", NOW)
    verdicts = [
        SubjectVerdict("acme", LookupKind.MAILBOX, 1, LookupVerdict(Standing.VALID, ("mailbox_exists",)), "zb"),
        SubjectVerdict("acme", LookupKind.MAILBOX, 2, LookupVerdict(Standing.UNKNOWN, ("timeout",)), "zb"),
        SubjectVerdict("acme", LookupKind.MAILBOX, 3, LookupVerdict(Standing.INVALID, ("null_mx",)), BY_DNS),
        SubjectVerdict("acme", LookupKind.MX, 4, LookupVerdict(Standing.VALID), BY_DNS),
    ]  # fmt: skip
    with engine.begin() as connection:
        settle(connection, verdicts, stamp, cache=cache)

    def known(at: timedelta, tenant: str = "acme") -> set[int]:
        wanted = [(LookupKind.MAILBOX, n) for n in (1, 2, 3)] + [(LookupKind.MX, 4)]
        with engine.connect() as connection:
            return {hashed for _kind, hashed in read_cached(connection, tenant, wanted, now=NOW + at)}

    assert known(timedelta()) == {1}  # DNS has a cache of its own; that nobody could tell is not kept here
    assert known(timedelta(), "globex") == set()
    assert known(timedelta(days=2) - timedelta(seconds=1)) == {1}
    assert known(timedelta(days=2)) == set()
    with engine.begin() as connection:
        assert prune_cache(connection, expired_before=NOW + HOUR) == 1  # the unknown one
        assert prune_cache(connection, expired_before=NOW + timedelta(days=2)) == 0
        assert prune_cache(connection, expired_before=NOW + timedelta(days=2, hours=1)) == 1


# -- velocity


def test_sightings_are_counted_within_the_window_and_pruned(engine: sa.Engine) -> None:
    def count(*minutes: int, tenant: str = "acme") -> list[int]:
        seen = [sighting(tenant, "ip", "203.0.113.5", NOW + timedelta(minutes=minute)) for minute in minutes]
        with engine.begin() as connection:
            return count_sightings(connection, tenant, seen, window=HOUR)

    assert count(0, 1, 2) == [1, 2, 3]
    assert count(30, 59) == [4, 5]
    assert count(0, tenant="globex") == [1]
    assert count(200) == [1]
    with engine.begin() as connection:
        assert count_sightings(connection, "acme", [], window=HOUR) == []
        assert prune_velocity(connection, before=NOW + 2 * HOUR) == 4
    assert count(201) == [2]


# -- switches

TIERS = {"full": TierSettings(), "minimal": TierSettings(), "none": TierSettings()}


def down(engine: sa.Engine, tier: str, to: str, *, until: datetime | None = None, now: datetime = NOW) -> Switch:
    with engine.begin() as connection:
        return switch_down(connection, tier, down_to=to, tiers=TIERS, actor="ops", reason="cost", until=until, now=now)


def in_force(engine: sa.Engine, now: datetime = NOW) -> dict[str, str]:
    with engine.connect() as connection:
        return tiers_in_force(TIERS, active_switches(connection, now=now))


def test_a_switch_holds_until_its_end_or_until_it_is_taken_back(engine: sa.Engine) -> None:
    assert in_force(engine) == {"full": "full", "minimal": "minimal", "none": "none"}
    down(engine, "full", "minimal", until=NOW + HOUR)
    assert in_force(engine)["full"] == "minimal"
    down(engine, "minimal", "none")
    assert in_force(engine) == {"full": "none", "minimal": "none", "none": "none"}  # one leads to the next
    assert in_force(engine, NOW + HOUR)["full"] == "full"
    with engine.begin() as connection:
        switch_back(connection, "minimal", actor="ops", now=NOW)
    assert in_force(engine) == {"full": "minimal", "minimal": "minimal", "none": "none"}
    down(engine, "full", "none")  # the newest holds, and ends the one before
    assert in_force(engine)["full"] == "none"
    with engine.begin() as connection:
        assert len(active_switches(connection, now=NOW)) == 1
        switch_back(connection, "full", actor="ops", now=NOW)
        with pytest.raises(NotFound, match="'full' is not switched down"):
            switch_back(connection, "full", actor="ops", now=NOW)


@pytest.mark.parametrize(
    ("tier", "to", "says"),
    [
        ("gold", "none", "there is no tier 'gold' in leads.yaml; defined, most thorough first: full, minimal, none"),
        ("full", "some", "there is no tier 'some'"),
        ("minimal", "full", "'minimal' can only be switched down to a less thorough tier; those are: none"),
        ("none", "none", "none: it is the last"),
    ],
)
def test_an_unknown_or_a_higher_tier_is_refused_with_those_that_there_are(
    engine: sa.Engine, tier: str, to: str, says: str
) -> None:
    with pytest.raises(LeadsError, match=says):
        down(engine, tier, to)
    with pytest.raises(LeadsError, match="would have ended already"):
        down(engine, "full", "none", until=NOW)


def test_a_switch_that_the_configuration_does_not_know_any_more_is_passed_over(engine: sa.Engine) -> None:
    down(engine, "full", "minimal")
    with engine.connect() as connection:
        assert tiers_in_force(["full", "none"], active_switches(connection, now=NOW)) == {
            "full": "full",
            "none": "none",
        }
