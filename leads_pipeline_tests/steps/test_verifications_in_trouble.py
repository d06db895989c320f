"""Providers that fail, throttle, block, lose answers and run out: nothing is lost, nothing is paid twice."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
import sqlalchemy as sa

from leads_pipeline.clock import FrozenClock
from leads_pipeline.config import VerificationSettings
from leads_pipeline.outbound.breaker import BreakerState, read_breakers
from leads_pipeline.sandbox.faults import FaultKind, FaultRule
from leads_pipeline.steps.verifications import VerificationReport
from leads_pipeline.storage import schema
from leads_pipeline.storage.database import engine_for
from leads_pipeline.verification.sandbox.options import ProviderOptions
from leads_pipeline.verification.sandbox.running import ProviderSandbox, running_provider_sandbox
from leads_pipeline_tests.conftest import NOW
from leads_pipeline_tests.steps.rows import rows_of
from leads_pipeline_tests.steps.verifying import (
    KEY,
    KEY_VARIABLE,
    books_are_closed,
    look_up,
    look_up_until_done,
    provider,
    unsettled,
    verdicts,
    verification,
    waiting,
)

HOUR = 3600.0
VALID = ("valid", ("mailbox_exists",))
LOST = ("unknown", ("answer_lost",))


@pytest.fixture
def first(zerobounce: ProviderSandbox) -> ProviderSandbox:
    return zerobounce


@pytest.fixture
def second(clock: FrozenClock) -> Iterator[ProviderSandbox]:
    with running_provider_sandbox(ProviderOptions("kickbox", key=KEY), clock=clock) as sandbox:
        yield sandbox


@pytest.fixture
def alone(usual: VerificationSettings) -> VerificationSettings:
    return usual


@pytest.fixture
def pair(first: ProviderSandbox, second: ProviderSandbox) -> VerificationSettings:
    return verification(
        {
            "zb": provider(first.base_url, cost_per_lookup=0.01),
            "kb": provider(second.base_url, "kickbox", cost_per_lookup=0.02),
        }
    )


def addresses(count: int, prefix: str = "valid") -> list[str]:
    return [f"{prefix}{n}+valid@a.example" for n in range(count)]


def state_of(engine: sa.Engine, name: str = "zb") -> BreakerState:
    with engine.connect() as connection:
        (found,) = read_breakers(connection, name)
    return found.state


def test_after_an_outage_of_an_hour_everything_is_looked_up_once_and_in_order(
    engine: sa.Engine, alone: VerificationSettings, clock: FrozenClock, first: ProviderSandbox
) -> None:
    urgent = waiting(engine, addresses(150, "urgent"))
    low = waiting(engine, addresses(250, "low"), tier="minimal", urgency=1)
    first.set_faults([FaultRule(FaultKind.HTTP_503)])

    while clock.now() < NOW + timedelta(hours=1):
        report = look_up(engine, alone, clock, seconds=20)
        clock.advance(20)
    assert state_of(engine) is BreakerState.OPEN
    assert report.stopped == {"mailbox": "zb: breaker"}
    failed = rows_of(engine, schema.verification_calls)
    assert 5 + 6 <= len(failed) <= 5 + 9  # five open it, then a probe after 1, 2, 4, 8 and every 15 minutes
    assert {call["outcome"] for call in failed} == {"broken"}
    assert sum(call["cost_micros"] for call in failed) == 0 == len(rows_of(engine, schema.verifications))
    assert unsettled(engine) == 400

    first.clear_faults()
    look_up_until_done(engine, alone, clock, hours=1)

    assert verdicts(engine) == dict.fromkeys([*urgent, *low], VALID)
    report_of = first.report()
    assert (report_of["billed"], report_of["billed_twice"], report_of["calls_over_limit"]) == (400, 0, 0)
    assert state_of(engine) is BreakerState.CLOSED
    done = {row["lead_id"]: row["verified_at"] for row in rows_of(engine, schema.verifications)}
    assert max(done[lead] for lead in urgent) <= min(done[lead] for lead in low)
    (spend,) = rows_of(engine, schema.verification_spend)
    assert spend["cost_micros"] == 400 * 10_000
    books_are_closed(engine)


def test_in_an_outage_the_next_provider_is_asked_and_afterwards_the_first_again(
    engine: sa.Engine, pair: VerificationSettings, clock: FrozenClock, first: ProviderSandbox, second: ProviderSandbox
) -> None:
    first.set_faults([FaultRule(FaultKind.HTTP_500)])
    leads = waiting(engine, addresses(100))
    look_up_until_done(engine, pair, clock, hours=0.2, pause=20)
    assert verdicts(engine) == dict.fromkeys(leads, VALID)
    assert first.report()["billed"] == 0
    assert second.report()["billed"] == 100
    assert {row["provider"] for row in rows_of(engine, schema.verifications)} == {"kb"}

    first.clear_faults()
    clock.advance(900)
    later = waiting(engine, addresses(10, "later"), at=clock.now())
    look_up_until_done(engine, pair, clock, hours=0.1)
    assert {row["provider"] for row in rows_of(engine, schema.verifications) if row["lead_id"] in later} == {"zb"}
    assert first.report()["billed"] == 10
    assert second.report()["billed"] == 100
    books_are_closed(engine)


def test_where_nobody_listens_nothing_is_paid_and_the_next_is_asked(
    engine: sa.Engine, clock: FrozenClock, second: ProviderSandbox
) -> None:
    settings = verification(
        {"zb": provider("http://127.0.0.1:9", cost_per_lookup=1), "kb": provider(second.base_url, "kickbox")}
    )
    leads = waiting(engine, addresses(5))
    look_up(engine, settings, clock)
    assert verdicts(engine) == dict.fromkeys(leads, VALID)
    dead = [call for call in rows_of(engine, schema.verification_calls) if call["provider"] == "zb"]
    assert [(call["outcome"], call["cost_micros"]) for call in dead] == [("not_sent", 0)] * 5
    assert state_of(engine) is BreakerState.OPEN


def test_a_throttle_is_nobodys_attempt_and_its_block_is_waited_for(
    engine: sa.Engine, alone: VerificationSettings, clock: FrozenClock, first: ProviderSandbox
) -> None:
    leads = waiting(engine, addresses(3))
    first.set_faults([FaultRule(FaultKind.THROTTLE, count=1)])
    report = look_up(engine, alone, clock)
    assert report.counts["call_throttled"] == 1
    assert report.stopped == {"mailbox": "zb: paused"}
    assert [row["attempts"] for row in rows_of(engine, schema.verification_requests)] == [0, 0, 0]
    clock.advance(599)
    assert look_up(engine, alone, clock, seconds=0.5).calls == 0
    clock.advance(2)
    look_up(engine, alone, clock)
    assert verdicts(engine) == dict.fromkeys(leads, VALID)
    assert sum(call["cost_micros"] for call in rows_of(engine, schema.verification_calls)) == 30_000


def test_a_throttle_inside_a_200_and_one_that_is_a_403_are_throttles(
    engine: sa.Engine, clock: FrozenClock, second: ProviderSandbox
) -> None:
    for vendor, limited in (("hunter", 403), ("neverbounce", 200)):
        with running_provider_sandbox(ProviderOptions(vendor, key=KEY), clock=clock) as sandbox:  # type: ignore[arg-type]
            sandbox.set_faults([FaultRule(FaultKind.THROTTLE)])
            settings = verification(
                {vendor: provider(sandbox.base_url, vendor), "kb": provider(second.base_url, "kickbox")}
            )
            leads = waiting(engine, addresses(2, vendor), at=clock.now())
            look_up_until_done(engine, settings, clock, hours=0.2)
        calls = [call for call in rows_of(engine, schema.verification_calls) if call["provider"] == vendor]
        assert {(call["outcome"], call["http_status"]) for call in calls} == {("throttled", limited)}
        assert {verdicts(engine)[lead] for lead in leads} == {VALID}


@pytest.mark.parametrize("kind", [FaultKind.AUTH, FaultKind.OUT_OF_CREDIT])
def test_a_bad_key_or_an_empty_account_is_left_alone_for_five_minutes(
    engine: sa.Engine, pair: VerificationSettings, clock: FrozenClock, first: ProviderSandbox, kind: FaultKind
) -> None:
    first.set_faults([FaultRule(kind)])
    leads = waiting(engine, addresses(2))
    report = look_up(engine, pair, clock)
    assert verdicts(engine) == dict.fromkeys(leads, VALID)
    assert report.counts["asked_zb"] == 1
    assert state_of(engine) is BreakerState.OPEN
    first.clear_faults()
    clock.advance(301)
    waiting(engine, addresses(1, "later"), at=clock.now())
    look_up(engine, pair, clock)
    assert first.report()["billed"] == 1
    assert state_of(engine) is BreakerState.CLOSED


def test_a_key_that_is_not_set_is_the_accounts_trouble_alone(
    engine: sa.Engine, pair: VerificationSettings, clock: FrozenClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(KEY_VARIABLE)
    waiting(engine, addresses(1))
    report = look_up(engine, pair, clock)
    assert report.stopped == {"mailbox": "zb: no key; kb: no key"}
    assert unsettled(engine) == 1


def test_a_lost_answer_may_have_been_paid_and_is_not_asked_for_again(
    engine: sa.Engine, alone: VerificationSettings, clock: FrozenClock, first: ProviderSandbox
) -> None:
    first.set_faults([FaultRule(FaultKind.ANSWERED_THEN_LOST, count=1)])
    leads = waiting(engine, addresses(3))
    look_up_until_done(engine, alone, clock, hours=1)
    assert verdicts(engine) == dict.fromkeys(leads, LOST)
    assert first.report()["billed"] == 3
    assert first.report()["billed_twice"] == 0
    (call,) = rows_of(engine, schema.verification_calls)
    assert (call["outcome"], call["cost_micros"]) == ("lost", 30_000)
    books_are_closed(engine)


def test_the_subject_that_a_batch_fails_for_is_found_and_given_up_alone(
    engine: sa.Engine, alone: VerificationSettings, clock: FrozenClock, first: ProviderSandbox
) -> None:
    first.set_faults([FaultRule(FaultKind.HTTP_500, match="poison")])
    leads = waiting(engine, addresses(99))
    (poison,) = waiting(engine, ["poison@a.example"])
    look_up_until_done(engine, alone, clock, hours=24, pause=120)
    found = verdicts(engine)
    assert found.pop(poison) == ("unknown", ("provider_failed",))
    assert found == dict.fromkeys(leads, VALID)
    done = {row["lead_id"]: row["verified_at"] for row in rows_of(engine, schema.verifications)}
    assert max(done[lead] for lead in leads) < NOW + timedelta(minutes=10)
    assert first.report()["billed_twice"] == 0
    books_are_closed(engine)


def test_answers_that_are_still_being_made_are_fetched_by_whoever_comes_later(
    engine: sa.Engine, clock: FrozenClock, second: ProviderSandbox
) -> None:
    """NeverBounce makes a job of a batch; its answer is fetched in two steps, and none of them is paid."""
    with running_provider_sandbox(ProviderOptions("neverbounce", key=KEY, job_seconds=40), clock=clock) as jobs:
        settings = verification(
            {
                "kb": provider("http://127.0.0.1:9", "kickbox"),
                "nb": provider(jobs.base_url, "neverbounce", cost_per_lookup=0.01),
            }
        )
        leads = waiting(engine, addresses(30))
        look_up(engine, settings, clock, seconds=5, runner_id="one")
        (call,) = [call for call in rows_of(engine, schema.verification_calls) if call["provider"] == "nb"]
        assert call["poll_reference"] is not None
        assert call["answered_at"] is None
        # The first provider is well again; what the second has begun is fetched from the second all the same.
        settings = settings.model_copy(update={"mailbox": ("kb",)})
        for _run in range(12):
            look_up(engine, settings, clock, seconds=2, runner_id="two")
            clock.advance(10)
        assert verdicts(engine) == dict.fromkeys(leads, VALID)
        assert {row["provider"] for row in rows_of(engine, schema.verifications)} == {"nb"}
        assert jobs.report()["billed"] == 30
        assert jobs.report()["billed_twice"] == 0
    assert second.report()["requests"] == 0
    books_are_closed(engine)


def test_an_answer_that_never_comes_is_given_up_when_its_patience_ends(engine: sa.Engine, clock: FrozenClock) -> None:
    options = ProviderOptions("hunter", key=KEY, pending_seconds=10_000)
    with running_provider_sandbox(options, clock=clock) as hunter:
        settings = verification({"hu": provider(hunter.base_url, "hunter", cost_per_lookup=0.01)})
        leads = waiting(engine, ["pending@a.example"])
        look_up_until_done(engine, settings, clock, hours=1)
        assert verdicts(engine) == dict.fromkeys(leads, LOST)
        assert timedelta(seconds=300) <= clock.now() - NOW <= timedelta(seconds=400)
        report = hunter.report()
        assert 10 <= report["requests"] <= 62
        assert report["calls_over_limit"] == 0
    books_are_closed(engine)


def test_of_two_workers_one_probes_and_the_other_leaves_the_account_alone(
    engine: sa.Engine, database_url: str, clock: FrozenClock, second: ProviderSandbox
) -> None:
    """The probe takes a while: the other worker asks meanwhile, and is told that the breaker is open."""
    settings = verification({"kb": provider(second.base_url, "kickbox")})
    second.set_faults([FaultRule(FaultKind.HTTP_500)])
    waiting(engine, addresses(10))
    look_up(engine, settings, clock, seconds=30)
    assert state_of(engine, "kb") is BreakerState.OPEN
    clock.advance(60)
    second.set_faults([FaultRule(FaultKind.SLOW, latency_ms=700, count=1)])
    ready = threading.Barrier(2)

    def work(number: int) -> VerificationReport:
        own = engine_for(database_url)
        ready.wait(timeout=30)
        try:
            return look_up(own, settings, FrozenClock(clock.now()), seconds=5, runner_id=f"worker {number}")
        finally:
            own.dispose()

    with ThreadPoolExecutor(2) as pool:
        reports = list(pool.map(work, range(2)))
    idle, busy = sorted(reports, key=lambda report: report.calls)
    assert (idle.calls, idle.stopped) == (0, {"mailbox": "kb: breaker"})
    assert busy.calls >= 1
    assert second.report()["max_in_flight"] == 1
    assert state_of(engine, "kb") is BreakerState.CLOSED


def test_a_probe_of_single_look_ups_is_one_of_them(
    engine: sa.Engine, clock: FrozenClock, second: ProviderSandbox
) -> None:
    settings = verification({"kb": provider(second.base_url, "kickbox")})
    second.set_faults([FaultRule(FaultKind.HTTP_500)])
    waiting(engine, addresses(100))
    requests = []
    for pause in (60, 120, 0):
        look_up(engine, settings, clock, seconds=5)
        assert state_of(engine, "kb") is BreakerState.OPEN
        requests.append(second.report()["requests"])
        clock.advance(pause)
    assert requests == [5, 6, 7]
    assert {row["attempts"] for row in rows_of(engine, schema.verification_requests)} == {0, 1}
