"""The DNS sandbox, asked over real UDP and TCP."""

import socket
import threading
from collections.abc import Iterator

import dns.exception
import dns.flags
import dns.message
import dns.query
import dns.rcode
import dns.rdatatype
import pytest

from leads_pipeline.clock import FrozenClock
from leads_pipeline.errors import LeadsError
from leads_pipeline.verification.sandbox.dns import DnsSandbox, running_dns_sandbox
from leads_pipeline.verification.sandbox.domains import DnsRule, DomainKind, kind_of, rule_for

# Where the answer comes at once, this is never waited for.
PATIENCE = 60.0
# Where it never comes, all of this is.
IMPATIENCE = 0.05


@pytest.fixture
def sandbox() -> Iterator[DnsSandbox]:
    with running_dns_sandbox() as running:
        yield running


def ask(sandbox: DnsSandbox, name: str, kind: str = "MX", *, timeout: float = PATIENCE) -> dns.message.Message:
    return dns.query.udp(dns.message.make_query(name, kind), sandbox.host, port=sandbox.port, timeout=timeout)


def records(message: dns.message.Message) -> list[str]:
    return sorted(record.to_text() for rrset in message.answer for record in rrset)


def test_any_domain_has_mail_hosts_with_priorities_and_an_address(sandbox: DnsSandbox):
    assert records(ask(sandbox, "Acme.Example")) == ["10 mx1.Acme.Example.", "20 mx2.Acme.Example."]
    assert records(ask(sandbox, "acme.example", "A")) == ["192.0.2.10"]
    assert records(ask(sandbox, "acme.example", "AAAA")) == ["2001:db8::10"]
    assert records(ask(sandbox, "gmail.com"))[1] == "5 gmail-smtp-in.l.google.com."


@pytest.mark.parametrize(
    ("name", "code", "mx", "addresses"),
    [
        ("null-mx.example", "NOERROR", ["0 ."], ["192.0.2.10"]),
        ("no-mx.example", "NOERROR", [], ["192.0.2.10"]),
        ("nodata.example", "NOERROR", [], []),
        ("nxdomain.example", "NXDOMAIN", [], []),
        ("acme.invalid", "NXDOMAIN", [], []),
        ("0123456789abcdef01234567.com", "NXDOMAIN", [], []),
        ("servfail.example", "SERVFAIL", [], []),
        ("refused.example", "REFUSED", [], []),
        ("referral.example", "NOERROR", [], []),
    ],
)
def test_a_name_says_what_is_wrong_with_it(
    sandbox: DnsSandbox, name: str, code: str, mx: list[str], addresses: list[str]
):
    answer = ask(sandbox, name)

    assert (dns.rcode.to_text(answer.rcode()), records(answer)) == (code, mx)
    assert records(ask(sandbox, name, "A")) == addresses


def test_a_name_that_has_nothing_is_told_from_one_that_is_elsewhere(sandbox: DnsSandbox):
    kinds = {
        name: {rrset.rdtype.name for rrset in ask(sandbox, name).authority}
        for name in ("nodata.example", "nxdomain.example", "referral.example", "servfail.example")
    }

    assert kinds == {
        "nodata.example": {"SOA"},
        "nxdomain.example": {"SOA"},
        "referral.example": {"NS"},
        "servfail.example": set(),
    }


def test_an_alias_comes_with_the_hosts_of_what_it_stands_for(sandbox: DnsSandbox):
    answer = ask(sandbox, "cname.example")

    assert [rrset.rdtype.name for rrset in answer.answer] == ["CNAME", "MX"]
    assert records(answer)[1:] == ["20 mx2.alias-of.example.", "alias-of.example."]


def test_what_is_too_long_for_udp_is_whole_over_tcp(sandbox: DnsSandbox):
    short = ask(sandbox, "truncated.example")
    whole = dns.query.tcp(
        dns.message.make_query("truncated.example", "MX"), sandbox.host, port=sandbox.port, timeout=PATIENCE
    )

    assert short.flags & dns.flags.TC
    assert records(short) == []
    assert records(whole) == ["10 mx1.truncated.example.", "20 mx2.truncated.example."]
    assert sandbox.report()["over_tcp"] == 1


@pytest.mark.parametrize("name", ["timeout.example", "wrong-id.example", "wrong-name.example", "garbage.example"])
def test_a_liar_gives_no_answer_that_is_one(sandbox: DnsSandbox, name: str):
    query = dns.message.make_query(name, "MX")

    with pytest.raises(dns.exception.Timeout):
        dns.query.udp(
            query,
            sandbox.host,
            port=sandbox.port,
            timeout=IMPATIENCE,
            ignore_unexpected=True,
            ignore_errors=True,
        )

    while not sandbox.report()["queries"]:
        pass
    assert sandbox.report()["names"] == {name: 1}


def test_a_wrong_id_and_a_wrong_name_look_like_good_answers_otherwise(sandbox: DnsSandbox):
    def raw(name: str) -> tuple[dns.message.QueryMessage, dns.message.Message]:
        query = dns.message.make_query(name, "MX")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(PATIENCE)
            client.sendto(query.to_wire(), (sandbox.host, sandbox.port))
            return query, dns.message.from_wire(client.recv(4096))

    asked, wrong_id = raw("wrong-id.example")
    assert wrong_id.id != asked.id
    assert records(wrong_id) == ["10 mx1.wrong-id.example.", "20 mx2.wrong-id.example."]
    asked, wrong_name = raw("wrong-name.example")
    assert wrong_name.id == asked.id
    assert wrong_name.question[0].name.to_text() == "another.example."


def test_a_slow_answer_waits_for_the_clock(clock: FrozenClock):
    with running_dns_sandbox({"late.example": DnsRule(DomainKind.SLOW, seconds=3600)}, clock=clock) as sandbox:
        answers: list[dns.message.Message] = []
        client = threading.Thread(target=lambda: answers.append(ask(sandbox, "late.example")))
        client.start()
        while not sandbox.report()["queries"]:
            pass
        assert answers == []
        clock.advance(3600)
        client.join()

    assert records(answers[0]) == ["10 mx1.late.example.", "20 mx2.late.example."]


def test_rules_win_over_names_and_the_closest_wins():
    rules = {
        "servfail.example": DnsRule(hosts=((5, "mx.shop.example"),), ttl=60),
        "*.shop.example": DnsRule(DomainKind.REFUSED),
        "*": DnsRule(DomainKind.NO_MX, addresses=("203.0.113.80",)),
    }

    assert rule_for("servfail.example", rules).hosts == ((5, "mx.shop.example"),)
    assert rule_for("a.b.shop.example.", rules).kind is DomainKind.REFUSED
    assert rule_for("shop.example", rules).kind is DomainKind.NO_MX
    assert rule_for("0123456789abcdef.com", rules).kind is DomainKind.NO_MX  # a portal answers every name
    with running_dns_sandbox(rules) as sandbox:
        answer = ask(sandbox, "servfail.example")
        assert (records(answer), answer.answer[0].ttl) == (["5 mx.shop.example."], 60)
        sandbox.set_rules({})
        assert ask(sandbox, "servfail.example").rcode() == dns.rcode.SERVFAIL


def test_questions_are_counted_by_name_and_type(sandbox: DnsSandbox):
    for name in ("acme.example", "ACME.example", "nxdomain.example"):
        ask(sandbox, name)
    ask(sandbox, "acme.example", "A")
    ask(sandbox, ".", "NS")

    assert sandbox.report() == {
        "vendor": "dns",
        "queries": 5,
        "over_tcp": 0,
        "names": {".": 1, "acme.example": 3, "nxdomain.example": 1},
        "types": {"A": 1, "MX": 3, "NS": 1},
        "answers": {"NOERROR": 4, "NXDOMAIN": 1},
    }
    sandbox.reset()
    assert sandbox.report()["queries"] == 0


def test_what_is_no_question_gets_no_answer_and_does_not_stop_it(sandbox: DnsSandbox):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        for noise in (b"", b"\x00", b"x" * 600, dns.message.Message().to_wire()):
            client.sendto(noise, (sandbox.host, sandbox.port))

    assert records(ask(sandbox, "acme.example")) == ["10 mx1.acme.example.", "20 mx2.acme.example."]
    assert sandbox.report()["queries"] == 1


def test_a_port_that_is_taken_is_named(sandbox: DnsSandbox):
    with pytest.raises(LeadsError, match="--port"):
        DnsSandbox(port=sandbox.port)


def test_it_leaves_no_thread_and_no_listener_behind():
    before = threading.active_count()
    with running_dns_sandbox() as sandbox:
        open_connection = socket.create_connection((sandbox.host, sandbox.port))
    open_connection.close()

    assert threading.active_count() == before
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((sandbox.host, sandbox.port))


def test_a_kind_is_the_label_that_asks_for_it():
    assert {kind_of(f"{kind.value}.example") for kind in DomainKind} == set(DomainKind)
    assert kind_of("servfail") is DomainKind.MAIL  # a top-level domain of its own
    assert kind_of("shop-servfail.example") is DomainKind.MAIL
