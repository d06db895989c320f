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
from leads_pipeline.verification.mx_servers import LIES_SECONDS, SHARED_STRETCH_SECONDS, Pace, servers_of
from leads_pipeline_tests.conftest import NOW
from leads_pipeline_tests.verification.dns_server import DnsServer, Zone, dns_server

ZONE: Zone = {
    "good.test": {"MX": ["20 backup.good.test.", "10 mx.good.test."]},
    "google.test": {"MX": ["1 ASPMX.L.GOOGLE.COM.", "5 alt1.aspmx.l.google.com."]},
    "office.test": {"MX": ["0 office-test.mail.protection.outlook.com."]},
    "null.test": {"MX": ["0 ."]},
    "half_null.test": {"MX": ["0 .", "10 mx.good.test."]},
    "parked.test": {"MX": ["10 localhost.", "20 127.0.0.1."]},
    "web.test": {"A": ["192.0.2.10"]},
    "six.test": {"AAAA": ["2001:db8::10"]},
    "blocked.test": {"A": ["0.0.0.0"]},
    "empty.test": {"TXT": ['"nothing else"']},
    "alias.test": {"CNAME": ["good.test."]},
    "dangling.test": {"CNAME": ["gone.test."]},
    "loop.test": {"CNAME": ["loop2.test."]},
    "xn--mnchen-3ya.test": {"MX": ["10 mx.good.test."]},
    "many.test": {"MX": [f"{number} mx-with-a-long-name-{number:03}.good.test." for number in range(200)]},
}
MANY = {f"d{number}.test": {"MX": ["10 mx.good.test."]} for number in range(MAX_UNDER_WAY + 20)}
GOOD = LookupVerdict(Standing.VALID)
PATIENT = 60.0  # more than any of these tests needs: no test here is about the deadline unless it says so


@pytest.fixture(scope="module")
def _server() -> Iterator[DnsServer]:
    with dns_server({**ZONE, **MANY}) as server:
        yield server


@pytest.fixture
def server(_server: DnsServer) -> DnsServer:
    """A server that is well, and counts anew."""
    _server.faults.clear()
    _server.asked.clear()
    return _server


def resolver(*servers: DnsServer, timeout: float = 5.0, per_second: int = 100_000) -> MxResolver:
    addresses = tuple(server.address for server in servers)
    return MxResolver(MxSettings(resolvers=addresses, timeout_seconds=timeout, queries_per_second=per_second))


def verdict(name: str, *servers: DnsServer, timeout: float = 5.0) -> LookupVerdict:
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
        ("dangling.test", "invalid", ("domain_not_found",), (), None),
        ("empty.test", "invalid", ("no_mail_server",), (), None),
        ("parked.test", "invalid", ("no_mail_server",), (), None),
        ("blocked.test", "unknown", ("dns_failure",), (), None),
    ],
)
def test_what_dns_says_becomes_a_verdict(
    server: DnsServer, name: str, standing: str, reasons: tuple[str, ...], flags: tuple[str, ...], provider: str | None
) -> None:
    found = verdict(name, server)
    assert (str(found.standing), found.reasons, found.flags) == (standing, reasons, flags)
    assert found.details.get("mail_provider") == provider


@pytest.mark.parametrize("fault", ["silent", "servfail", "refused", "garbage", "other_question", "referral"])
def test_a_server_that_fails_says_nothing_about_the_domain(server: DnsServer, fault: str) -> None:
    server.faults["good.test"] = server.faults["gone.test"] = fault
    timeout = 0.3 if fault in ("silent", "garbage", "other_question") else 5.0
    assert verdict("good.test", server, timeout=timeout) == FAILED
    assert verdict("gone.test", server, timeout=timeout) == FAILED


@pytest.mark.parametrize("fault", ["silent", "servfail", "refused", "garbage", "nxdomain", "address"])
def test_where_one_server_fails_or_lies_about_everything_the_next_one_is_asked(server: DnsServer, fault: str) -> None:
    with dns_server({}, everything=fault) as broken:
        found = resolver(broken, server, timeout=1.0).look_up(["good.test"], deadline_seconds=PATIENT)
        assert broken.asked
    assert found == {"good.test": GOOD}


def test_a_server_that_denies_everything_is_not_believed(server: DnsServer) -> None:
    server.faults["*"] = "nxdomain"
    assert verdict("good.test", server) == FAILED


def test_a_server_that_answers_everything_with_an_address_is_not_believed(server: DnsServer) -> None:
    server.faults["*"] = "address"
    asked = resolver(server)
    found = asked.look_up(["gone.test", "web.test", "empty.test"], deadline_seconds=PATIENT)
    assert found == dict.fromkeys(found, FAILED)
    assert len(found) == 3


def test_a_liar_that_has_come_to_its_senses_is_believed_after_a_while(server: DnsServer) -> None:
    clock = FrozenClock(NOW)
    asked = MxResolver(MxSettings(resolvers=(server.address,), timeout_seconds=5), clock=clock, sleep=moving(clock))
    server.faults["*"] = "nxdomain"
    assert asked.look_up(["gone.test"], deadline_seconds=PATIENT)["gone.test"] == FAILED
    server.faults.clear()
    assert asked.look_up(["gone.test"], deadline_seconds=PATIENT)["gone.test"] == FAILED
    clock.advance(LIES_SECONDS)
    assert asked.look_up(["gone.test"], deadline_seconds=PATIENT)["gone.test"].reasons == ("domain_not_found",)


def test_of_two_servers_both_must_say_that_a_domain_is_dead(server: DnsServer) -> None:
    with dns_server(ZONE) as second:
        assert verdict("gone.test", server, second).standing is Standing.INVALID
        assert server.asked_about("gone.test") == second.asked_about("gone.test") == 1
        second.faults["gone.test"] = "servfail"
        assert verdict("gone.test", server, second) == FAILED


def test_two_servers_that_contradict_each_other_say_nothing(server: DnsServer) -> None:
    with dns_server({**ZONE, "gone.test": {"A": ["192.0.2.1"]}, "web.test": {"MX": ["1 mx.good.test."]}}) as second:
        found = resolver(server, second).look_up(["gone.test"], deadline_seconds=PATIENT)
        assert found == {"gone.test": FAILED}
        with_mx = resolver(second, server).look_up(["web.test"], deadline_seconds=PATIENT)
    assert with_mx == {"web.test": GOOD}  # records that are there were put there by somebody


def test_a_third_server_may_stand_in_for_one_that_fails(server: DnsServer) -> None:
    with dns_server({}, everything="servfail") as broken, dns_server(ZONE) as third:
        assert verdict("gone.test", server, broken, third).reasons == ("domain_not_found",)


def test_an_answer_too_long_for_a_datagram_is_fetched_over_tcp(server: DnsServer) -> None:
    server.faults["many.test"] = "truncated"
    assert verdict("many.test", server) == GOOD
    assert server.asked_about("many.test") == 2


def test_a_domain_is_asked_for_once_in_a_batch(server: DnsServer) -> None:
    found = resolver(server).look_up(["good.test", "google.test", "good.test"], deadline_seconds=PATIENT)
    assert set(found) == {"good.test", "google.test"}
    assert server.asked == [("good.test", "MX"), ("google.test", "MX")]


def test_more_domains_than_are_asked_for_at_once_are_all_answered(server: DnsServer) -> None:
    assert resolver(server).look_up(MANY, deadline_seconds=PATIENT) == dict.fromkeys(MANY, GOOD)


def test_what_the_deadline_cuts_off_is_missing(server: DnsServer) -> None:
    server.faults["good.test"] = "silent"
    found = resolver(server, timeout=30).look_up(["google.test", "good.test"], deadline_seconds=1.0)
    assert set(found) == {"google.test"}


def test_a_servers_honesty_is_tested_once_for_many_domains(server: DnsServer) -> None:
    dead = [f"gone{number}.test" for number in range(30)]
    found = resolver(server).look_up(dead, deadline_seconds=PATIENT)
    assert {item.reasons for item in found.values()} == {("domain_not_found",)}
    assert sum(name.endswith(".com") for name, _kind in server.asked) == 1
    assert server.asked_about(".") == 1


def test_a_server_that_is_known_to_find_mail_is_not_asked_for_the_root(server: DnsServer) -> None:
    asked = resolver(server)
    asked.look_up(["good.test"], deadline_seconds=PATIENT)
    server.faults["."] = "refused"
    assert asked.look_up(["gone.test"], deadline_seconds=PATIENT)["gone.test"].standing is Standing.INVALID
    assert server.asked_about(".") == 0


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


def test_where_the_pace_cannot_be_kept_the_reason_is_raised_as_it_is(server: DnsServer) -> None:
    def reserve(address: str, seconds: float) -> float:
        raise DatabaseUnavailable(address)

    asked = MxResolver(MxSettings(resolvers=(server.address,)), reserve=reserve)
    with pytest.raises(DatabaseUnavailable, match=server.address):
        asked.look_up(["good.test", "web.test"], deadline_seconds=PATIENT)
    assert server.asked == []


def test_a_batch_takes_as_long_as_the_pace_of_its_servers_says(server: DnsServer) -> None:
    clock = FrozenClock(NOW)
    settings = MxSettings(resolvers=(server.address,), timeout_seconds=5, queries_per_second=10)
    asked = MxResolver(settings, clock=clock, sleep=moving(clock))
    names = list(MANY)[:41]
    assert len(asked.look_up(names, deadline_seconds=PATIENT)) == 41
    assert clock.monotonic() >= 4.0


def test_two_servers_share_the_work(server: DnsServer) -> None:
    with dns_server(MANY) as second:
        names = list(MANY)[:60]
        settings = MxSettings(resolvers=(server.address, second.address), timeout_seconds=5, queries_per_second=500)
        assert len(MxResolver(settings).look_up(names, deadline_seconds=PATIENT)) == 60
        assert min(len(server.asked), len(second.asked)) >= 20


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


def test_a_server_that_keeps_failing_is_asked_last_and_again_later(server: DnsServer) -> None:
    with dns_server(MANY, everything="servfail") as broken:
        asked = resolver(broken, server)
        for name in list(MANY)[:40]:
            assert asked.look_up([name], deadline_seconds=PATIENT) == {name: GOOD}
        assert 3 <= len(broken.asked) < 10


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
