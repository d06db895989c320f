"""Domains' verdicts from the cache and from DNS, and how long each is remembered."""

from collections.abc import Iterator

import pytest
import sqlalchemy as sa
import structlog.testing
from dns.resolver import NoResolverConfiguration

from leads_pipeline.clock import FrozenClock
from leads_pipeline.config import MxSettings
from leads_pipeline.domain.verification import LookupVerdict, Standing
from leads_pipeline.storage.mx_cache import (
    Remembered,
    domain_hash,
    prune_mx_cache,
    read_mx_cache,
    write_mx_cache,
)
from leads_pipeline.storage.mx_pace import reserve_questions
from leads_pipeline.verification.mx import holds_for
from leads_pipeline.verification.mx_lookup import MxReport, look_up_mx, remembered
from leads_pipeline.verification.sandbox.dns import DnsSandbox, running_dns_sandbox
from leads_pipeline.verification.sandbox.domains import DnsRule, DomainKind

VALID = LookupVerdict(Standing.VALID, details={"mail_provider": "google"})
IMPLICIT = LookupVerdict(Standing.VALID, flags=("implicit_mx",))
DEAD = LookupVerdict(Standing.INVALID, ("domain_not_found",))
FAILED = LookupVerdict(Standing.UNKNOWN, ("dns_failure",))
HOUR = 3600.0


RULES = {
    "good.test": DnsRule(hosts=((1, "aspmx.l.google.com"),)),
    "web.test": DnsRule(DomainKind.NO_MX),
    "gone.test": DnsRule(DomainKind.NXDOMAIN),
    "broken.test": DnsRule(DomainKind.SERVFAIL),
    "slow.test": DnsRule(DomainKind.TIMEOUT),
}


@pytest.fixture
def dns() -> Iterator[DnsSandbox]:
    with running_dns_sandbox(RULES) as running:
        yield running


def asked_by(dns: DnsSandbox) -> dict[str, int]:
    names: dict[str, int] = dns.report()["names"]
    return names


@pytest.fixture
def mx(dns: DnsSandbox) -> MxSettings:
    return MxSettings(enabled=True, resolvers=(dns.address,), timeout_seconds=5, queries_per_second=10_000)


def ask(engine: sa.Engine, mx: MxSettings, clock: FrozenClock, *domains: str, budget: float = 60.0) -> MxReport:
    return look_up_mx(engine, domains, settings=mx, clock=clock, budget_seconds=budget)


def rows(engine: sa.Engine) -> int:
    with engine.connect() as connection:
        return int(connection.execute(sa.text("select count(*) from mx_cache")).scalar_one())


def test_what_dns_said_is_not_asked_again(
    engine: sa.Engine, mx: MxSettings, clock: FrozenClock, dns: DnsSandbox
) -> None:
    verdicts = {"good.test": VALID, "web.test": IMPLICIT, "gone.test": DEAD}
    assert ask(engine, mx, clock, *verdicts) == MxReport(verdicts, from_cache=0, asked=3)
    dns.reset()
    assert ask(engine, mx, clock, *verdicts) == MxReport(verdicts, from_cache=3, asked=0)
    assert asked_by(dns) == {}


def test_each_kind_of_verdict_is_remembered_for_its_own_time(
    engine: sa.Engine, mx: MxSettings, clock: FrozenClock, dns: DnsSandbox
) -> None:
    domains = ("good.test", "gone.test", "broken.test")
    assert ask(engine, mx, clock, *domains).verdicts["broken.test"] == FAILED
    assert ask(engine, mx, clock, *domains).from_cache == 3
    clock.advance(mx.failure_seconds)
    assert ask(engine, mx, clock, *domains).from_cache == 2
    clock.advance(mx.negative_hours * HOUR - mx.failure_seconds)
    assert ask(engine, mx, clock, *domains).from_cache == 1
    clock.advance((mx.positive_hours - mx.negative_hours) * HOUR)
    assert ask(engine, mx, clock, *domains).from_cache == 0


def test_a_failure_becomes_a_verdict_when_dns_is_well_again(
    engine: sa.Engine, mx: MxSettings, clock: FrozenClock, dns: DnsSandbox
) -> None:
    dns.set_rules({"*": DnsRule(DomainKind.SERVFAIL)})
    assert ask(engine, mx, clock, "good.test").verdicts == {"good.test": FAILED}
    dns.set_rules(RULES)
    clock.advance(mx.failure_seconds)
    assert ask(engine, mx, clock, "good.test").verdicts == {"good.test": VALID}


def test_a_failure_does_not_replace_what_another_process_found(engine: sa.Engine, clock: FrozenClock) -> None:
    settings = MxSettings()
    with engine.begin() as connection:
        write_mx_cache(connection, {"good.test": remembered(VALID, settings, clock.now())}, now=clock.now())
        write_mx_cache(connection, {"good.test": remembered(FAILED, settings, clock.now())}, now=clock.now())
        assert read_mx_cache(connection, ["good.test"], now=clock.now()) == {"good.test": VALID}
        write_mx_cache(connection, {"good.test": remembered(DEAD, settings, clock.now())}, now=clock.now())
        assert read_mx_cache(connection, ["good.test"], now=clock.now()) == {"good.test": DEAD}


def test_verdicts_have_the_names_that_the_caller_gave(
    engine: sa.Engine, mx: MxSettings, clock: FrozenClock, dns: DnsSandbox
) -> None:
    report = ask(engine, mx, clock, "GOOD.test", "good.test", "münchen.test", "a..b")
    assert {domain: str(verdict.standing) for domain, verdict in report.verdicts.items()} == {
        "GOOD.test": "valid",
        "good.test": "valid",
        "münchen.test": "valid",
        "a..b": "invalid",
    }
    assert report.verdicts["a..b"].reasons == ("bad_syntax",)
    assert (report.asked, rows(engine), asked_by(dns)["good.test"]) == (2, 2, 1)


def test_what_is_not_answered_in_time_is_neither_reported_nor_remembered(
    engine: sa.Engine, mx: MxSettings, clock: FrozenClock, dns: DnsSandbox
) -> None:
    patient = mx.model_copy(update={"timeout_seconds": 30})
    report = ask(engine, patient, clock, "good.test", "slow.test", budget=3.0)
    assert report == MxReport({"good.test": VALID}, from_cache=0, asked=1)
    assert rows(engine) == 1


@pytest.mark.parametrize(("enabled", "budget"), [(False, 60.0), (True, 0.0)])
def test_without_leave_or_time_to_ask_only_the_cache_answers(
    engine: sa.Engine, mx: MxSettings, clock: FrozenClock, dns: DnsSandbox, *, enabled: bool, budget: float
) -> None:
    ask(engine, mx, clock, "good.test")
    dns.reset()
    settings = mx.model_copy(update={"enabled": enabled})
    report = ask(engine, settings, clock, "good.test", "gone.test", budget=budget)
    assert report == MxReport({"good.test": VALID}, from_cache=1, asked=0)
    assert asked_by(dns) == {}


def test_what_has_expired_is_pruned_and_nothing_else(engine: sa.Engine, clock: FrozenClock) -> None:
    settings = MxSettings()
    with engine.begin() as connection:
        for name, verdict in (("good.test", VALID), ("gone.test", DEAD), ("broken.test", FAILED)):
            write_mx_cache(connection, {name: remembered(verdict, settings, clock.now())}, now=clock.now())
        clock.advance(settings.negative_hours * HOUR)
        assert prune_mx_cache(connection, now=clock.now()) == 2
        assert read_mx_cache(connection, ["good.test", "gone.test"], now=clock.now()) == {"good.test": VALID}


def test_the_cache_names_no_domain(engine: sa.Engine, clock: FrozenClock) -> None:
    with engine.begin() as connection:
        write_mx_cache(connection, {"good.test": Remembered(VALID, clock.now())}, now=clock.now())
        [row] = connection.execute(sa.text("select m.*, m::text as everything from mx_cache m"))
    assert row.domain_hash == domain_hash("good.test")
    assert "good.test" not in row.everything


def test_a_verdict_that_says_nothing_holds_shortest() -> None:
    settings = MxSettings()
    times = [holds_for(standing, settings) for standing in (Standing.UNKNOWN, Standing.INVALID, Standing.VALID)]
    assert times == sorted(times)


def test_a_servers_time_is_given_out_once_for_all_processes(engine: sa.Engine) -> None:
    waits = [reserve_questions(engine, "192.0.2.53:53", seconds=100) for _process in range(3)]
    assert waits[0] == 0
    assert 90 < waits[1] <= 100
    assert 190 < waits[2] <= 200
    assert reserve_questions(engine, "192.0.2.54:53", seconds=100) == 0


def test_what_a_look_up_asks_counts_for_the_others(
    engine: sa.Engine, mx: MxSettings, clock: FrozenClock, dns: DnsSandbox
) -> None:
    ask(engine, mx.model_copy(update={"queries_per_second": 1}), clock, "good.test")
    with engine.connect() as connection:
        [row] = connection.execute(
            sa.text("select account, endpoint_class, paused_until - now() as ahead from rate_limits")
        )
    assert (row.account, row.endpoint_class) == (f"dns {dns.address}", "mx")
    assert row.ahead.total_seconds() <= 1


def test_where_nobody_names_a_dns_server_leads_go_on_and_the_log_says_what_to_do(
    engine: sa.Engine, clock: FrozenClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nothing(configure: bool) -> None:
        raise NoResolverConfiguration

    monkeypatch.setattr("dns.resolver.Resolver", nothing)
    with structlog.testing.capture_logs() as logs:
        report = ask(engine, MxSettings(enabled=True, failure_seconds=59), clock, "good.test")
    assert report.verdicts == {"good.test": FAILED}
    [line] = logs
    assert "name some under verification.mx.resolvers" in line["problem"]
