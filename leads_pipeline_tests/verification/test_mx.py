"""What a domain's DNS becomes, against servers that are well, silent, broken and lying."""

import asyncio
import contextlib
import itertools
from collections.abc import Awaitable, Callable, Iterator

import pytest
from pydantic import ValidationError

from leads_pipeline.clock import FrozenClock
from leads_pipeline.config import MxSettings
from leads_pipeline.domain.verification import LookupVerdict, Standing
from leads_pipeline.errors import ConfigError, DatabaseUnavailable
from leads_pipeline.verification.mx import FAILED, MAX_UNDER_WAY, MxResolver, dns_name
from leads_pipeline.verification.mx_servers import (
    HONEST_SECONDS,
    LIES_SECONDS,
    SHARED_STRETCH_SECONDS,
    Pace,
    servers_of,
)
from leads_pipeline.verification.sandbox.dns import DnsSandbox, running_dns_sandbox
from leads_pipeline.verification.sandbox.domains import DnsRule, DomainKind
from leads_pipeline_tests.conftest import NOW

MAIL = DnsRule(hosts=((20, "backup.good.test"), (10, "mx.good.test")))
GONE = DnsRule(DomainKind.NXDOMAIN)
WEB = DnsRule(DomainKind.NO_MX, addresses=("192.0.2.10",))
BROKEN = DnsRule(DomainKind.SERVFAIL)
RULES = {
    "good.test": MAIL,
    "google.test": DnsRule(hosts=((1, "ASPMX.L.GOOGLE.COM"), (5, "alt1.aspmx.l.google.com"))),
    "office.test": DnsRule(hosts=((0, "office-test.mail.protection.outlook.com"),)),
    "null.test": DnsRule(DomainKind.NULL_MX),
    "half_null.test": DnsRule(hosts=((0, "."), (10, "mx.good.test"))),
    "parked.test": DnsRule(hosts=((10, "localhost"), (20, "127.0.0.1"))),
    "web.test": WEB,
    "six.test": DnsRule(DomainKind.NO_MX, addresses=("2001:db8::10",)),
    "blocked.test": DnsRule(DomainKind.NO_MX, addresses=("0.0.0.0",)),
    "empty.test": DnsRule(DomainKind.NODATA),
    "alias.test": DnsRule(DomainKind.CNAME),
    "many.test": DnsRule(DomainKind.TRUNCATED),
    "gone.test": GONE,
}
MANY = [f"d{number}.test" for number in range(MAX_UNDER_WAY + 20)]
GOOD = LookupVerdict(Standing.VALID)
PATIENT = 60.0  # more than any of these tests needs: no test here is about the deadline unless it says so
# What a server can do wrong, and whether it is only noticed when the time-out has passed.
SILENT = {DomainKind.TIMEOUT, DomainKind.GARBAGE, DomainKind.WRONG_NAME, DomainKind.WRONG_ID}
FAULTS = [DomainKind.SERVFAIL, DomainKind.REFUSED, DomainKind.REFERRAL, *sorted(SILENT)]


@pytest.fixture(scope="module")
def _server() -> Iterator[DnsSandbox]:
    with running_dns_sandbox() as server:
        yield server


@pytest.fixture
def server(_server: DnsSandbox) -> DnsSandbox:
    """A server that is well, and counts anew."""
    _server.set_rules(RULES)
    _server.reset()
    return _server


def asked_by(server: DnsSandbox) -> dict[str, int]:
    """How often each name was asked about."""
    names: dict[str, int] = server.report()["names"]
    return names


def resolver(*servers: DnsSandbox, timeout: float = 5.0, per_second: int = 100_000) -> MxResolver:
    addresses = tuple(server.address for server in servers)
    return MxResolver(MxSettings(resolvers=addresses, timeout_seconds=timeout, queries_per_second=per_second))


def verdict(name: str, *servers: DnsSandbox, timeout: float = 5.0) -> LookupVerdict:
    return resolver(*servers, timeout=timeout).look_up([name], deadline_seconds=PATIENT)[name]


@pytest.mark.parametrize(
    ("name", "standing", "reasons", "flags", "provider"),
    [
        ("good.test", "valid", (), (), None),
        ("google.test", "valid", (), (), "google"),
        ("office.test", "valid", (), (), "microsoft"),
        ("alias.test", "valid", (), (), None),
        ("half_null.test", "valid", (), (), None),
        ("xn--mnchen-3ya.test", "valid", (), (), None),
        ("web.test", "valid", (), ("implicit_mx",), None),
        ("six.test", "valid", (), ("implicit_mx",), None),
        ("null.test", "invalid", ("null_mx",), (), None),
        ("gone.test", "invalid", ("domain_not_found",), (), None),
        ("empty.test", "invalid", ("no_mail_server",), (), None),
        ("parked.test", "invalid", ("no_mail_server",), (), None),
        ("blocked.test", "unknown", ("dns_failure",), (), None),
    ],
)
def test_what_dns_says_becomes_a_verdict(
    server: DnsSandbox, name: str, standing: str, reasons: tuple[str, ...], flags: tuple[str, ...], provider: str | None
) -> None:
    found = verdict(name, server)
    assert (str(found.standing), found.reasons, found.flags) == (standing, reasons, flags)
    assert found.details.get("mail_provider") == provider


@pytest.mark.parametrize("fault", FAULTS)
def test_a_server_that_fails_says_nothing_about_the_domain(server: DnsSandbox, fault: DomainKind) -> None:
    server.set_rules({"good.test": DnsRule(fault)})
    assert verdict("good.test", server, timeout=0.3 if fault in SILENT else 5.0) == FAILED


@pytest.mark.parametrize("fault", [*FAULTS, DomainKind.NXDOMAIN, DomainKind.NO_MX])
def test_where_one_server_fails_or_lies_about_everything_the_next_one_is_asked(
    server: DnsSandbox, fault: DomainKind
) -> None:
    with running_dns_sandbox({"*": DnsRule(fault)}) as broken:
        asked = resolver(broken, server, timeout=1.0 if fault in SILENT else 5.0)
        found = asked.look_up(["good.test"], deadline_seconds=PATIENT)
        assert asked_by(broken)["good.test"] >= 1
    assert found == {"good.test": GOOD}


def test_a_failure_on_the_way_to_the_address_is_a_failure(server: DnsSandbox) -> None:
    found = resolver(server)
    server.set_rules({"gone.test": DnsRule(DomainKind.NODATA)})
    assert found.look_up(["gone.test"], deadline_seconds=PATIENT)["gone.test"].reasons == ("no_mail_server",)
    assert server.report()["types"] == {"A": 2, "AAAA": 1, "MX": 1, "NS": 1}  # one A is the test of its honesty


@pytest.mark.parametrize("lie", [DomainKind.NXDOMAIN, DomainKind.NO_MX, DomainKind.NODATA])
def test_a_server_that_says_the_same_of_every_name_is_not_believed(server: DnsSandbox, lie: DomainKind) -> None:
    server.set_rules({"*": DnsRule(lie)})
    found = resolver(server).look_up(["good.test", "web.test", "empty.test"], deadline_seconds=PATIENT)
    assert found == dict.fromkeys(("good.test", "web.test", "empty.test"), FAILED)


def test_a_liar_that_has_come_to_its_senses_is_believed_after_a_while(server: DnsSandbox) -> None:
    clock = FrozenClock(NOW)
    asked = MxResolver(MxSettings(resolvers=(server.address,), timeout_seconds=5), clock=clock, sleep=moving(clock))
    server.set_rules({"*": GONE})
    assert asked.look_up(["gone.test"], deadline_seconds=PATIENT)["gone.test"] == FAILED
    server.set_rules(RULES)
    assert asked.look_up(["gone.test"], deadline_seconds=PATIENT)["gone.test"] == FAILED
    clock.advance(LIES_SECONDS)
    assert asked.look_up(["gone.test"], deadline_seconds=PATIENT)["gone.test"].reasons == ("domain_not_found",)


def test_a_server_that_begins_to_lie_is_found_out_after_a_while(server: DnsSandbox) -> None:
    clock = FrozenClock(NOW)
    asked = MxResolver(MxSettings(resolvers=(server.address,), timeout_seconds=5), clock=clock, sleep=moving(clock))
    assert asked.look_up(["good.test"], deadline_seconds=PATIENT)["good.test"] == GOOD
    assert asked.look_up(["gone.test"], deadline_seconds=PATIENT)["gone.test"].standing is Standing.INVALID
    server.set_rules({"*": GONE})
    clock.advance(HONEST_SECONDS)
    assert asked.look_up(["good.test"], deadline_seconds=PATIENT)["good.test"] == FAILED


def test_of_two_servers_both_must_say_that_a_domain_is_dead(server: DnsSandbox) -> None:
    with running_dns_sandbox(RULES) as second:
        assert verdict("gone.test", server, second).standing is Standing.INVALID
        assert asked_by(server)["gone.test"] == asked_by(second)["gone.test"] == 1
        second.set_rules({"gone.test": BROKEN})
        assert verdict("gone.test", server, second) == FAILED


def test_two_servers_that_contradict_each_other_say_nothing(server: DnsSandbox) -> None:
    with running_dns_sandbox({**RULES, "gone.test": WEB, "web.test": MAIL}) as second:
        assert verdict("gone.test", server, second) == FAILED
        assert verdict("web.test", second, server) == GOOD  # records that are there were put there by somebody


def test_a_third_server_may_stand_in_for_one_that_fails(server: DnsSandbox) -> None:
    with running_dns_sandbox({"*": BROKEN}) as broken, running_dns_sandbox(RULES) as third:
        assert verdict("gone.test", server, broken, third).reasons == ("domain_not_found",)


def test_an_answer_too_long_for_a_datagram_is_fetched_over_tcp(server: DnsSandbox) -> None:
    assert verdict("many.test", server) == GOOD
    assert server.report()["over_tcp"] == 1


def test_a_domain_is_asked_for_once_in_a_batch(server: DnsSandbox) -> None:
    found = resolver(server).look_up(["good.test", "google.test", "good.test"], deadline_seconds=PATIENT)
    assert set(found) == {"good.test", "google.test"}
    assert asked_by(server) == {"good.test": 1, "google.test": 1}


def test_more_domains_than_are_asked_for_at_once_are_all_answered(server: DnsSandbox) -> None:
    assert resolver(server).look_up(MANY, deadline_seconds=PATIENT) == dict.fromkeys(MANY, GOOD)


def test_what_the_deadline_cuts_off_is_missing(server: DnsSandbox) -> None:
    server.set_rules({**RULES, "good.test": DnsRule(DomainKind.TIMEOUT)})
    found = resolver(server, timeout=30).look_up(["google.test", "good.test"], deadline_seconds=2.0)
    assert set(found) == {"google.test"}


def test_a_servers_honesty_is_tested_once_for_many_domains(server: DnsSandbox) -> None:
    server.set_rules({"*.gone.test": GONE})
    found = resolver(server).look_up([f"d{number}.gone.test" for number in range(30)], deadline_seconds=PATIENT)
    assert {item.reasons for item in found.values()} == {("domain_not_found",)}
    assert sum(name.endswith(".com") for name in asked_by(server)) == 1
    assert asked_by(server)["."] == 1


def test_a_server_that_is_known_to_find_mail_is_not_asked_for_the_root(server: DnsSandbox) -> None:
    asked = resolver(server)
    asked.look_up(["good.test"], deadline_seconds=PATIENT)
    assert asked.look_up(["gone.test"], deadline_seconds=PATIENT)["gone.test"].standing is Standing.INVALID
    assert "." not in asked_by(server)


# --- pace ------------------------------------------------------------------------------------------------------------


def moving(clock: FrozenClock) -> Callable[[float], Awaitable[None]]:
    """A sleep that moves the clock."""

    async def sleep(seconds: float) -> None:
        clock.sleep(seconds)

    return sleep


def test_queries_to_a_server_are_spaced_evenly() -> None:
    clock = FrozenClock(NOW)
    pace = Pace(50, clock=clock, sleep=moving(clock))

    async def turns() -> list[float]:
        found = []
        for _turn in range(101):
            await pace.turn()
            found.append(clock.monotonic())
        return found

    times = asyncio.run(turns())
    assert times[-1] == pytest.approx(2.0)
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert min(gaps) == pytest.approx(0.02)
    assert max(gaps) == pytest.approx(0.02)


def test_processes_that_share_a_server_keep_one_pace() -> None:
    clock = FrozenClock(NOW)
    taken = 0.0

    def reserve(seconds: float) -> float:
        """What ``storage.mx_pace`` does."""
        nonlocal taken
        begins = max(taken, clock.monotonic())
        taken = begins + seconds
        return begins - clock.monotonic()

    paces = [Pace(50, clock=clock, sleep=moving(clock), reserve=reserve) for _process in range(3)]

    async def turns() -> list[float]:
        found = []
        for number in range(150):
            await paces[number % 3].turn()
            found.append(clock.monotonic())
        return found

    times = asyncio.run(turns())
    for second in range(int(times[-1])):
        assert sum(second <= moment < second + 1 for moment in times) <= 50


def test_a_stretch_that_was_taken_is_used_up_before_the_next() -> None:
    clock = FrozenClock(NOW)
    taken: list[float] = []

    def reserve(seconds: float) -> float:
        taken.append(seconds)
        return 0.0

    async def turns(count: int) -> None:
        pace = Pace(50, clock=clock, sleep=moving(clock), reserve=reserve)
        for _turn in range(count):
            await pace.turn()

    asyncio.run(turns(10))
    assert taken == [SHARED_STRETCH_SECONDS] * 2


def test_where_the_pace_cannot_be_kept_the_reason_is_raised_as_it_is(server: DnsSandbox) -> None:
    def reserve(address: str, seconds: float) -> float:
        raise DatabaseUnavailable(address)

    asked = MxResolver(MxSettings(resolvers=(server.address,)), reserve=reserve)
    with pytest.raises(DatabaseUnavailable, match=server.address):
        asked.look_up(["good.test", "web.test"], deadline_seconds=PATIENT)
    assert asked_by(server) == {}


def test_a_batch_takes_as_long_as_the_pace_of_its_servers_says(server: DnsSandbox) -> None:
    clock = FrozenClock(NOW)
    settings = MxSettings(resolvers=(server.address,), timeout_seconds=5, queries_per_second=10)
    asked = MxResolver(settings, clock=clock, sleep=moving(clock))
    names = MANY[:41]
    assert len(asked.look_up(names, deadline_seconds=PATIENT)) == 41
    assert clock.monotonic() >= 4.0


def test_two_servers_share_the_work(server: DnsSandbox) -> None:
    with running_dns_sandbox() as second:
        names = MANY[:60]
        settings = MxSettings(resolvers=(server.address, second.address), timeout_seconds=5, queries_per_second=500)
        assert len(MxResolver(settings).look_up(names, deadline_seconds=PATIENT)) == 60
        assert min(server.report()["queries"], second.report()["queries"]) >= 20


def test_who_does_not_wait_gives_the_turn_back() -> None:
    clock = FrozenClock(NOW)

    async def leave() -> float:
        pace = Pace(10, clock=clock, sleep=asyncio.sleep)
        await pace.turn()
        waiting = [asyncio.create_task(pace.turn()) for _place in range(5)]
        await asyncio.sleep(0)
        assert pace.wait_seconds == pytest.approx(0.6)
        for task in waiting:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        return pace.wait_seconds

    assert asyncio.run(leave()) == pytest.approx(0.1)


def test_a_server_that_keeps_failing_is_asked_last_and_again_later(server: DnsSandbox) -> None:
    with running_dns_sandbox({"*": BROKEN}) as broken:
        asked = resolver(broken, server)
        for name in MANY[:40]:
            assert asked.look_up([name], deadline_seconds=PATIENT) == {name: GOOD}
        assert 3 <= broken.report()["queries"] < 10


# --- names and addresses ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("domain", "name"),
    [
        ("Example.COM.", "example.com"),
        ("münchen.test", "xn--mnchen-3ya.test"),
        ("XN--MNCHEN-3YA.test", "xn--mnchen-3ya.test"),
        ("日本.jp", "xn--wgv71a.jp"),
        ("", None),
        (".", None),
        ("a..b", None),
        ("x" * 64 + ".de", None),
        ("x." * 127 + "com", None),
        ("\ud800.com", None),
    ],
)
def test_a_domain_is_asked_for_in_a_labels(domain: str, name: str | None) -> None:
    assert dns_name(domain) == name


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("192.0.2.1", ("192.0.2.1", 53)),
        ("192.0.2.1:5353", ("192.0.2.1", 5353)),
        ("2001:db8::1", ("2001:db8::1", 53)),
        ("[2001:db8::1]", ("2001:db8::1", 53)),
        ("[2001:db8::1]:5353", ("2001:db8::1", 5353)),
    ],
)
def test_a_server_is_named_by_its_address(text: str, address: tuple[str, int]) -> None:
    assert MxSettings(resolvers=(text,)).addresses == (address,)


@pytest.mark.parametrize("text", ["dns.google", "192.0.2.1:0", "192.0.2.1:x", "192.0.2.1:70000", "", "[::1", "[::1]x"])
def test_a_server_that_is_no_address_is_refused_with_what_is_allowed(text: str) -> None:
    with pytest.raises(ValidationError, match="allowed: an IP address, or one with a port"):
        MxSettings(resolvers=(text,))


def test_without_configured_servers_the_machines_own_are_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    import dns.resolver

    class Own:
        nameservers = ("192.0.2.53", "2001:db8::53")
        port = 53

    clock = FrozenClock(NOW)
    monkeypatch.setattr(dns.resolver, "Resolver", lambda configure: Own())
    found = servers_of(MxSettings(), clock=clock, sleep=asyncio.sleep)
    assert [(server.address, server.port) for server in found] == [("192.0.2.53", 53), ("2001:db8::53", 53)]

    def nothing(configure: bool) -> None:
        raise dns.resolver.NoResolverConfiguration

    monkeypatch.setattr(dns.resolver, "Resolver", nothing)
    with pytest.raises(ConfigError, match=r"name some under verification\.mx\.resolvers"):
        servers_of(MxSettings(), clock=clock, sleep=asyncio.sleep)
