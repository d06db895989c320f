"""What becomes of an address, by the address alone: the same at every provider and at every time.

In this order: what is no address; what DNS says of the domain (``domains``); a word as the local part or as its plus
tag (``catch-all@acme.example``, ``ann+greylisted@acme.example``); a disposable domain; a role; else the address's hash:
80 % valid, 8 % invalid, 7 % risky, 5 % unknown.
"""

from enum import StrEnum
from hashlib import blake2b

from leads_pipeline.verification.sandbox.domains import FAILING, NO_MAIL, NO_SUCH_DOMAIN, kind_of


class Fate(StrEnum):
    """What is true of an address; the value is the word that asks for it."""

    VALID = "valid"
    MAILBOX_NOT_FOUND = "mailbox-not-found"
    DOMAIN_NOT_FOUND = "domain-not-found"
    NO_MAIL_SERVER = "no-mail-server"
    BAD_SYNTAX = "bad-syntax"
    CATCH_ALL = "catch-all"
    DISPOSABLE = "disposable"
    ROLE = "role"
    FULL = "full"
    SPAMTRAP = "spamtrap"
    ABUSE = "abuse"
    TOXIC = "toxic"
    TIMEOUT = "timeout"
    GREYLISTED = "greylisted"
    UNREACHABLE = "unreachable"
    OBJECTION = "objection"  # the person asked a provider not to process their data; elsewhere as valid


INVALID = frozenset({Fate.MAILBOX_NOT_FOUND, Fate.DOMAIN_NOT_FOUND, Fate.NO_MAIL_SERVER, Fate.BAD_SYNTAX})
UNKNOWN = frozenset({Fate.TIMEOUT, Fate.GREYLISTED, Fate.UNREACHABLE})

_WORDS = {
    **{fate.value: fate for fate in Fate},
    "invalid": Fate.MAILBOX_NOT_FOUND,
    "unknown": Fate.TIMEOUT,
    "accept-all": Fate.CATCH_ALL,
}
# Upper ends in ten thousandths of all addresses.
_SHARES = (
    (8_000, Fate.VALID),
    (8_800, Fate.MAILBOX_NOT_FOUND),
    (9_300, Fate.CATCH_ALL),
    (9_400, Fate.FULL),
    (9_450, Fate.TOXIC),
    (9_500, Fate.SPAMTRAP),
    (9_750, Fate.TIMEOUT),
    (10_000, Fate.GREYLISTED),
)
_ROLES = frozenset(
    {"abuse", "admin", "billing", "contact", "hello", "info", "marketing", "office", "postmaster", "sales", "support"}
)
_DISPOSABLE = frozenset({"10minutemail.com", "guerrillamail.com", "mailinator.com", "trashmail.com", "yopmail.com"})
FREE = frozenset(
    {
        "aol.com", "gmail.com", "gmx.de", "googlemail.com", "hotmail.com", "icloud.com", "live.com", "outlook.com",
        "proton.me", "web.de", "yahoo.com",
    }
)  # fmt: skip


def parts_of(address: str) -> tuple[str, str]:
    """Local part and domain in lower case; both are empty if it is no address."""
    local, at, domain = address.strip().lower().rpartition("@")
    is_address = at and local and "." in domain and not any(letter.isspace() for letter in address.strip())
    return (local, domain) if is_address and "@" not in local else ("", "")


def fate_of(address: str) -> Fate:
    """What is true of an address."""
    local, domain = parts_of(address)
    if not local:
        return Fate.BAD_SYNTAX
    kind = kind_of(domain)
    if kind in NO_SUCH_DOMAIN:
        return Fate.DOMAIN_NOT_FOUND
    if kind in NO_MAIL:
        return Fate.NO_MAIL_SERVER
    if kind in FAILING:
        return Fate.UNREACHABLE
    word = asked_for(local)
    if word in _WORDS:
        return _WORDS[word]
    if domain in _DISPOSABLE or domain.startswith("disposable."):
        return Fate.DISPOSABLE
    if local in _ROLES:
        return Fate.ROLE
    share = share_of(address, "fate")
    return next(fate for end, fate in _SHARES if share < end)


def asked_for(local: str) -> str:
    """The word that a local part or its plus tag is, with hyphens for underscores."""
    name, _, tag = local.partition("+")
    return (tag or name).replace("_", "-")


def share_of(address: str, purpose: str) -> int:
    """A number from 0 to 9,999, by the address and what it is for."""
    text = f"{purpose}\x1f{address.strip().lower()}"
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big") % 10_000
