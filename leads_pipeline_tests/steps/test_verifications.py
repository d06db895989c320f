"""Look-ups at a provider, on a real database and over real HTTP: who is asked, in which order, and what follows."""

from datetime import timedelta

import pytest
import sqlalchemy as sa

from leads_pipeline.clock import FrozenClock, SystemClock
from leads_pipeline.config import VerificationSettings
from leads_pipeline.domain.verification import LookupKind
from leads_pipeline.sandbox.faults import FaultKind, FaultRule
from leads_pipeline.steps.verifications import kinds_to_look_up, verify_leads
from leads_pipeline.storage import schema
from leads_pipeline.verification.client import ProviderClient
from leads_pipeline.verification.sandbox.dns import running_dns_sandbox
from leads_pipeline.verification.sandbox.domains import DnsRule, DomainKind
from leads_pipeline.verification.sandbox.options import ProviderOptions
from leads_pipeline.verification.sandbox.running import ProviderSandbox, running_provider_sandbox
from leads_pipeline_tests.conftest import NOW
from leads_pipeline_tests.steps.rows import rows_of
from leads_pipeline_tests.steps.verifying import (
    KEY,
    books_are_closed,
    due_times,
    look_up,
    look_up_until_done,
    provider,
    unsettled,
    verdicts,
    verification,
    waiting,
)

SECOND = timedelta(seconds=1)


def test_nothing_waiting_is_nothing_asked(
    engine: sa.Engine, usual: VerificationSettings, clock: FrozenClock, zerobounce: ProviderSandbox
) -> None:
    report = look_up(engine, usual, clock)
    assert report.totals() == {}
    assert report.stopped == {}
    assert zerobounce.report()["requests"] == 0
    assert clock.slept == []


def test_a_verdict_is_a_snapshot_that_lets_its_lead_go_on_at_once(
    engine: sa.Engine, usual: VerificationSettings, clock: FrozenClock
) -> None:
    good, bad = waiting(engine, ["valid@firm.example", "invalid@firm.example"])
    assert due_times(engine) == {good: NOW + 30 * SECOND, bad: NOW + 30 * SECOND}
    clock.advance(3)

    report = look_up(engine, usual, clock)

    assert verdicts(engine) == {good: ("valid", ("mailbox_exists",)), bad: ("invalid", ("mailbox_not_found",))}
    assert due_times(engine) == {good: NOW + 3 * SECOND, bad: NOW + 3 * SECOND}
    assert (report.lookups, report.calls, report.leads, report.released) == (2, 1, 2, 2)
    rows = rows_of(engine, schema.verifications)
    assert {(row["tier"], row["provider"], row["cost_micros"], row["requested_at"]) for row in rows} == {
        ("full", "zb", 10_000, NOW)
    }
    assert {row["call_id"] for row in rows} == {row["call_id"] for row in rows_of(engine, schema.verification_calls)}
    (spend,) = rows_of(engine, schema.verification_spend)
    assert (spend["calls"], spend["lookups"], spend["cost_micros"]) == (1, 2, 20_000)
    assert unsettled(engine) == 0
    books_are_closed(engine)


def test_leads_bear_what_was_billed_and_nothing_for_answers_that_were_free(
    engine: sa.Engine, usual: VerificationSettings, clock: FrozenClock, zerobounce: ProviderSandbox
) -> None:
    waiting(engine, ["valid@firm.example", "greylisted@firm.example", "invalid@firm.example"])
    look_up(engine, usual, clock)
    cost_of = {row["verdict"]: row["cost_micros"] for row in rows_of(engine, schema.verifications)}
    assert cost_of == {"valid": 10_000, "invalid": 10_000, "unknown": 0}
    (spend,) = rows_of(engine, schema.verification_spend)
    assert spend["cost_micros"] == 20_000
    assert zerobounce.report()["billed"] == 2


def test_equal_addresses_are_asked_once_and_settle_every_lead(
    engine: sa.Engine, usual: VerificationSettings, clock: FrozenClock, zerobounce: ProviderSandbox
) -> None:
    leads = waiting(engine, ["valid@firm.example", "Valid@Firm.example", "valid@firm.example"])
    look_up(engine, usual, clock)
    assert verdicts(engine) == dict.fromkeys(leads, ("valid", ("mailbox_exists",)))
    assert zerobounce.report()["looked_up"] == 1
    assert sorted(row["cost_micros"] for row in rows_of(engine, schema.verifications)) == [0, 0, 10_000]
    assert set(due_times(engine).values()) == {NOW}


def test_a_lead_of_which_nothing_is_left_does_not_take_its_namesakes_with_it(
    engine: sa.Engine, usual: VerificationSettings, clock: FrozenClock
) -> None:
    gone, stays = waiting(engine, ["valid@firm.example"])[0], waiting(engine, ["valid@firm.example"], at=NOW + SECOND)
    (only,) = waiting(engine, ["invalid@firm.example"])
    with engine.begin() as connection:
        connection.execute(sa.delete(schema.validated_leads).where(schema.validated_leads.c.lead_id.in_([gone, only])))
    clock.advance(5)
    look_up(engine, usual, clock)
    assert verdicts(engine)[stays[0]] == ("valid", ("mailbox_exists",))
    assert only not in verdicts(engine)
    assert unsettled(engine) == 0


def test_what_was_looked_up_is_remembered_as_long_as_its_standing_says(
    engine: sa.Engine, usual: VerificationSettings, clock: FrozenClock
) -> None:
    waiting(engine, ["valid@a.example", "invalid@a.example", "catch-all@a.example", "greylisted@a.example"])
    look_up(engine, usual, clock)
    kept = {row["verdict"]: (row["expires_at"] - NOW).days for row in rows_of(engine, schema.verdict_cache)}
    assert kept == {"valid": 90, "invalid": 180, "risky": 30, "unknown": 1}


def test_an_urgent_tier_goes_first_and_tenants_take_turns_within_it(
    engine: sa.Engine, usual: VerificationSettings, clock: FrozenClock
) -> None:
    waiting(engine, [f"low{n}@a.example" for n in range(250)], tier="minimal", urgency=1, at=NOW - timedelta(hours=1))
    waiting(engine, [f"many{n}@a.example" for n in range(150)])
    waiting(engine, [f"few{n}@b.example" for n in range(30)], tenant="globex", at=NOW + SECOND)
    clock.advance(5)

    look_up_until_done(engine, usual, clock, hours=1)

    calls = {row["call_id"]: row["sent_at"] for row in rows_of(engine, schema.verification_calls)}
    asked: dict[object, list[tuple[str, str]]] = {}
    for row in rows_of(engine, schema.verifications):
        asked.setdefault(row["call_id"], []).append((row["tier"], row["tenant"]))
    order = [asked[call_id] for call_id in sorted(asked, key=lambda call_id: calls[call_id])]
    tiers = [tier for call in order for tier in sorted(tier for tier, _tenant in call)]
    assert tiers == ["full"] * 180 + ["minimal"] * 250
    assert order[0].count(("full", "globex")) == 30
    assert order[0].count(("full", "acme")) == 70
    assert [len(call) for call in order] == [100, 100, 100, 100, 30]


def test_who_comes_while_others_are_asked_for_is_asked_next(
    engine: sa.Engine, usual: VerificationSettings, zerobounce: ProviderSandbox
) -> None:
    """The grant comes before the claim: an urgent lead waits for one call, not for those before it in the queue."""
    arrived: list[object] = []

    def arrive(_seconds: float) -> None:
        if clock.now() >= NOW + 3 * SECOND and not arrived:
            arrived.extend(waiting(engine, ["urgent@b.example"], at=clock.now()))

    clock = FrozenClock(NOW, on_sleep=arrive)
    waiting(engine, [f"low{n}@a.example" for n in range(1_000)], tier="minimal", urgency=1)
    look_up(engine, usual, clock, seconds=30)
    (row,) = rows_of(engine, schema.verifications, lead_id=arrived[0])
    assert row["verified_at"] - row["requested_at"] <= 2.1 * SECOND


def test_a_mailbox_waits_for_its_domain_and_a_dead_domain_spares_it(
    engine: sa.Engine, zerobounce: ProviderSandbox, clock: FrozenClock
) -> None:
    rules = {"dead.test": DnsRule(DomainKind.NXDOMAIN), "broken.test": DnsRule(DomainKind.SERVFAIL)}
    with running_dns_sandbox(rules) as dns:
        mx = {"enabled": True, "resolvers": [dns.address], "timeout_seconds": 30, "queries_per_second": 10_000}
        settings = verification({"zb": provider(zerobounce.base_url)}, mx=mx)
        both = (LookupKind.MX, LookupKind.MAILBOX)
        good, dead, broken = waiting(engine, ["valid@good.test", "valid@dead.test", "valid@broken.test"], kinds=both)

        look_up(engine, settings, clock, seconds=4)

    assert set(zerobounce.lookups()) == {"valid@good.test", "valid@broken.test"}
    found = {
        (row["lead_id"], row["kind"]): (row["verdict"], row["provider"])
        for row in rows_of(engine, schema.verifications)
    }
    assert found[good, "mx"] == ("valid", "dns")
    assert found[good, "mailbox"] == ("valid", "zb")
    assert found[dead, "mx"] == ("invalid", "dns")
    assert found[dead, "mailbox"] == ("invalid", "dns")
    # DNS failed: the mailbox need not wait for its return, the domain is asked about again.
    assert found[broken, "mailbox"] == ("valid", "zb")
    assert (broken, "mx") not in found
    (again,) = rows_of(engine, schema.verification_requests)
    assert (again["lead_id"], again["kind"], again["last_reason"]) == (broken, "mx", "dns_failure")
    due = due_times(engine)
    assert due[good] <= clock.now()
    assert due[dead] <= clock.now()
    assert due[broken] == NOW + 30 * SECOND


def test_the_sensor_is_told_only_of_what_somebody_can_be_asked_for(
    engine: sa.Engine, usual: VerificationSettings, clock: FrozenClock, zerobounce: ProviderSandbox
) -> None:
    def due() -> list[LookupKind]:
        return kinds_to_look_up(engine, settings=usual, clock=clock)

    assert due() == []
    waiting(engine, ["valid@a.example"], at=NOW + SECOND)
    assert due() == []  # not yet
    clock.advance(2)
    assert due() == [LookupKind.MAILBOX]
    zerobounce.set_faults([FaultRule(FaultKind.AUTH)])
    look_up(engine, usual, clock)
    assert due() == []  # a person must act first
    clock.advance(301)
    assert due() == [LookupKind.MAILBOX]


def test_phones_are_looked_up_one_by_one(engine: sa.Engine, clock: FrozenClock) -> None:
    with running_provider_sandbox(ProviderOptions("twilio", key=KEY, account="AC1"), clock=clock) as twilio:
        settings = verification({"tw": provider(twilio.base_url, "twilio", account="AC1")}, phone=["tw"])
        numbers = [f"+141555526{end}" for end in ("10", "72", "86")]
        leads = waiting(engine, numbers, kinds=(LookupKind.PHONE,))
        look_up(engine, settings, clock)
        assert twilio.report()["requests"] == 3
    details = {row["lead_id"]: row["details"]["line_type"] for row in rows_of(engine, schema.verifications)}
    assert details == dict(zip(leads, ["mobile", "landline", "fixed_voip"], strict=True))


def test_as_many_single_look_ups_are_claimed_at_once_as_may_be_under_way(engine: sa.Engine, clock: FrozenClock) -> None:
    with running_provider_sandbox(ProviderOptions("kickbox", key=KEY), clock=clock) as kickbox:
        settings = verification({"kb": provider(kickbox.base_url, "kickbox")})
        leads = waiting(engine, [f"p{n}+valid@a.example" for n in range(60)])
        report = look_up(engine, settings, clock)
        assert kickbox.report()["looked_up"] == 60 == len(verdicts(engine)) == len(leads)
    assert len({row["batch_id"] for row in rows_of(engine, schema.verification_calls)}) == 3  # 25 may be under way
    assert report.calls == 60


def test_by_the_machines_clock_mailboxes_follow_their_domains_within_one_run(engine: sa.Engine) -> None:
    rules = {"dead.test": DnsRule(DomainKind.NXDOMAIN), "slow.test": DnsRule(DomainKind.SLOW, seconds=0.3)}
    with (
        running_dns_sandbox(rules) as dns,
        running_provider_sandbox(ProviderOptions("kickbox", key=KEY)) as kickbox,
    ):
        mx = {"enabled": True, "resolvers": [dns.address], "timeout_seconds": 5, "queries_per_second": 1_000}
        settings = verification({"kb": provider(kickbox.base_url, "kickbox")}, mx=mx)
        domains = ("good", "slow", "dead")
        waiting(engine, [f"valid@{name}.test" for name in domains], kinds=(LookupKind.MX, LookupKind.MAILBOX))
        report = verify_leads(engine, settings=settings, clock=SystemClock(), runner_id="worker", budget_seconds=20)
        assert set(kickbox.lookups()) == {"valid@good.test", "valid@slow.test"}
    assert unsettled(engine) == 0
    assert (report.leads, report.calls) == (6, 2)


def test_what_goes_wrong_while_calls_are_under_way_is_told_and_their_subjects_are_not_paid_again(
    engine: sa.Engine, zerobounce: ProviderSandbox, usual: VerificationSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ask(_client: ProviderClient, _subjects: object) -> None:
        raise RuntimeError("out of memory")

    (lead,) = waiting(engine, ["valid@a.example"])
    with monkeypatch.context() as patch:
        patch.setattr(ProviderClient, "ask", ask)
        with pytest.raises(RuntimeError, match="out of memory"):
            verify_leads(engine, settings=usual, clock=SystemClock(), runner_id="worker", budget_seconds=5)
    later = FrozenClock(SystemClock().now() + timedelta(minutes=5))
    look_up_until_done(engine, usual, later, hours=1)
    assert verdicts(engine) == {lead: ("unknown", ("answer_lost",))}
    assert zerobounce.report()["billed"] == 0
    books_are_closed(engine)
