"""The bytes with which a DNS server answers a query, honestly or not."""

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset

from leads_pipeline.verification.sandbox.domains import DnsRule, DomainKind

_CODES = {
    DomainKind.NXDOMAIN: dns.rcode.NXDOMAIN,
    DomainKind.SERVFAIL: dns.rcode.SERVFAIL,
    DomainKind.REFUSED: dns.rcode.REFUSED,
}
# What stands in these is what one with mail says; they differ in how it arrives.
_AS_MAIL = frozenset(
    {DomainKind.MAIL, DomainKind.SLOW, DomainKind.TRUNCATED, DomainKind.WRONG_ID, DomainKind.WRONG_NAME}
)
_GARBAGE = bytes(range(200, 256))


def parsed(wire: bytes) -> dns.message.QueryMessage | None:
    """The query, if it is one with one question."""
    try:
        message = dns.message.from_wire(wire)
    except (dns.exception.DNSException, ValueError):
        return None
    if not isinstance(message, dns.message.QueryMessage) or len(message.question) != 1:
        return None
    return message


def name_of(query: dns.message.QueryMessage) -> str:
    """What is asked about, in lower case and without the last dot; the root is empty."""
    return query.question[0].name.to_text(omit_final_dot=True).lower().removesuffix(".")


def answer_to(query: dns.message.QueryMessage, rule: DnsRule, *, over_tcp: bool) -> tuple[str, bytes | None]:
    """What the answer says (its code, or the kind of a lie) and its bytes; ``None`` for no answer."""
    if rule.kind is DomainKind.TIMEOUT:
        return "none", None
    if rule.kind is DomainKind.GARBAGE:
        return rule.kind.value, _GARBAGE
    response = dns.message.make_response(query, recursion_available=True)
    response.set_rcode(_CODES.get(rule.kind, dns.rcode.NOERROR))
    if rule.kind is DomainKind.TRUNCATED and not over_tcp:
        response.flags |= dns.flags.TC
        return rule.kind.value, response.to_wire()
    _fill(response, query, rule)
    if rule.kind is DomainKind.WRONG_ID:
        response.id ^= 0xFFFF
        return rule.kind.value, response.to_wire()
    if rule.kind is DomainKind.WRONG_NAME:
        other = dns.name.from_text("another.example.")
        for rrset in (*response.question, *response.answer):
            rrset.name = other
        return rule.kind.value, response.to_wire()
    return dns.rcode.to_text(response.rcode()), response.to_wire()


def _fill(response: dns.message.Message, query: dns.message.QueryMessage, rule: DnsRule) -> None:
    question = query.question[0]
    name, kind = question.name, question.rdtype
    if name == dns.name.root:
        known = kind == dns.rdatatype.NS and rule.kind is not DomainKind.NXDOMAIN
        _add(response, name, rule.ttl, dns.rdatatype.NS, ["a.root-servers.net."] if known else [])
    elif rule.kind is DomainKind.REFERRAL:
        servers = dns.rrset.from_text(name.parent(), rule.ttl, "IN", "NS", "ns1.registry.example.")
        response.authority.append(servers)
    elif rule.kind is DomainKind.CNAME:
        target = dns.name.from_text("alias-of", origin=name.parent())
        _add(response, name, rule.ttl, dns.rdatatype.CNAME, [target.to_text()])
        _add(response, target, rule.ttl, kind, _records(target, kind, DnsRule(addresses=rule.addresses)))
    else:
        _add(response, name, rule.ttl, kind, _records(name, kind, rule))
    if not response.answer and response.rcode() in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN) and not response.authority:
        soa = "ns1.registry.example. hostmaster.registry.example. 1 7200 900 1209600 300"
        zone = name if name == dns.name.root else name.parent()
        response.authority.append(dns.rrset.from_text(zone, rule.ttl, "IN", "SOA", soa))


def _records(name: dns.name.Name, kind: dns.rdatatype.RdataType, rule: DnsRule) -> list[str]:
    if kind == dns.rdatatype.MX:
        if rule.kind is DomainKind.NULL_MX:
            return ["0 ."]
        if rule.kind in _AS_MAIL:
            text = name.to_text(omit_final_dot=True)
            hosts = rule.hosts or ((10, f"mx1.{text}"), (20, f"mx2.{text}"))
            return [f"{priority} {host.rstrip('.')}." for priority, host in hosts]
        return []
    if rule.kind in _AS_MAIL or rule.kind in (DomainKind.NO_MX, DomainKind.NULL_MX):
        if kind == dns.rdatatype.A:
            return [address for address in rule.addresses if ":" not in address]
        if kind == dns.rdatatype.AAAA:
            return [address for address in rule.addresses if ":" in address]
    return []


def _add(
    response: dns.message.Message, name: dns.name.Name, ttl: int, kind: dns.rdatatype.RdataType, records: list[str]
) -> None:
    if records:
        response.answer.append(dns.rrset.from_text(name, ttl, "IN", dns.rdatatype.to_text(kind), *records))
