"""What is true of a domain, by its name: the same for the DNS server and for every provider that is played.

Any domain has mail, except where its first label says otherwise (``servfail.example``, ``null-mx.shop.example``), under
``.invalid`` (RFC 2606), and where the first label is a random one, with which resolvers are asked whether they lie.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class DomainKind(StrEnum):
    """How DNS answers about a domain; the value is the label that says so."""

    MAIL = "mail"  # MX hosts and addresses
    NULL_MX = "null-mx"  # RFC 7505: takes no mail, and says so
    NO_MX = "no-mx"  # an address and no MX
    NODATA = "nodata"  # the name exists, and nothing is there
    NXDOMAIN = "nxdomain"  # no such name
    CNAME = "cname"  # an alias of a domain that has mail
    TRUNCATED = "truncated"  # the whole answer only over TCP
    SLOW = "slow"  # the answer of one that has mail, after ``DnsRule.seconds``
    SERVFAIL = "servfail"
    REFUSED = "refused"
    REFERRAL = "referral"  # only who might know
    TIMEOUT = "timeout"  # no answer
    WRONG_NAME = "wrong-name"  # the answer to another question
    WRONG_ID = "wrong-id"  # the answer to another message
    GARBAGE = "garbage"  # bytes that are no message


# There is no mail: DNS says so, and a provider knows it too.
NO_SUCH_DOMAIN = frozenset({DomainKind.NXDOMAIN})
NO_MAIL = frozenset({DomainKind.NULL_MX, DomainKind.NODATA})
# DNS fails; a provider that asks for itself fails with it.
FAILING = frozenset(
    {
        DomainKind.SERVFAIL, DomainKind.REFUSED, DomainKind.REFERRAL, DomainKind.TIMEOUT, DomainKind.WRONG_NAME,
        DomainKind.WRONG_ID, DomainKind.GARBAGE,
    }
)  # fmt: skip

_LABELS = {kind.value: kind for kind in DomainKind}
_RANDOM_LABEL = re.compile(r"[0-9a-f]{16,}")


@dataclass(frozen=True, slots=True)
class DnsRule:
    """What DNS says of a domain.

    ``hosts``: priority and name of each MX; if empty, two that are made of the domain. ``seconds`` is for ``SLOW``.
    """

    kind: DomainKind = DomainKind.MAIL
    hosts: tuple[tuple[int, str], ...] = ()
    addresses: tuple[str, ...] = ("192.0.2.10", "2001:db8::10")  # documentation's own: RFC 5737, RFC 3849
    ttl: int = 300
    seconds: float = 1.0


# Those whose hosts tell who keeps the mailboxes.
KNOWN_HOSTS: dict[str, tuple[tuple[int, str], ...]] = {
    "gmail.com": ((5, "gmail-smtp-in.l.google.com"), (10, "alt1.gmail-smtp-in.l.google.com")),
    "googlemail.com": ((5, "gmail-smtp-in.l.google.com"), (10, "alt1.gmail-smtp-in.l.google.com")),
    "outlook.com": ((5, "outlook-com.olc.protection.outlook.com"),),
    "hotmail.com": ((2, "hotmail-com.olc.protection.outlook.com"),),
    "live.com": ((2, "live-com.olc.protection.outlook.com"),),
    "yahoo.com": ((1, "mta5.am0.yahoodns.net"), (1, "mta6.am0.yahoodns.net"), (1, "mta7.am0.yahoodns.net")),
}


def kind_of(domain: str) -> DomainKind:
    """What is true of a domain that no rule names. ``domain`` in any case, with or without the last dot."""
    name = domain.rstrip(".").lower()
    first, _, rest = name.partition(".")
    if name == "invalid" or name.endswith(".invalid") or _RANDOM_LABEL.fullmatch(first):
        return DomainKind.NXDOMAIN
    return _LABELS.get(first, DomainKind.MAIL) if rest else DomainKind.MAIL


def rule_for(domain: str, rules: Mapping[str, DnsRule]) -> DnsRule:
    """The rule of a domain: its own, else that of the closest ``*.`` above it, else ``*``, else by its name."""
    name = domain.rstrip(".").lower()
    if name in rules:
        return rules[name]
    rest = name
    while rest:
        _, _, rest = rest.partition(".")
        if (found := rules.get(f"*.{rest}" if rest else "*")) is not None:
            return found
    if not name and "*" in rules:
        return rules["*"]  # the root
    kind = kind_of(name)
    return DnsRule(kind, hosts=KNOWN_HOSTS.get(name, ()) if kind is DomainKind.MAIL else ())
