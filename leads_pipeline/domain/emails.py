"""E-mail addresses in three forms: as sent, as one writes to them, as one compares them.

Syntax and IDN are email-validator's; what nearly all addresses look like takes a shorter way that must agree with it
(a property test compares the two). Domains are judged once each and remembered: in a hundred thousand leads there are a
few thousand domains, and hardly an address comes twice. Nothing here asks the network.
"""

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from email_validator import SPECIAL_USE_DOMAIN_NAMES, EmailNotValidError, validate_email
from email_validator.rfc_constants import CASE_INSENSITIVE_MAILBOX_NAMES
from rapidfuzz.distance import OSA

from leads_pipeline.domain.data import mailboxes, placeholders
from leads_pipeline.domain.mailbox_lists import KNOWN, MailboxLists
from leads_pipeline.domain.text import cleaned, letters_digits_key

MAX_LENGTH = 254  # of an address in an SMTP envelope, RFC 5321 4.5.3.1.3
MAX_LOCAL_LENGTH = 64

_LOCAL = re.compile(r"[a-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[a-z0-9!#$%&'*+/=?^_`{|}~-]+)*", re.IGNORECASE | re.ASCII)
_SEVERAL = re.compile(r"@[^@\s,;]*[\s,;]+[^@]*@")
# Mailboxes whose case means nothing by RFC 2142; email-validator lower-cases exactly these.
_LOWERED = frozenset(CASE_INSENSITIVE_MAILBOX_NAMES)
# Domains that email-validator would certainly take as they stand; under the tops of special names it is asked.
_PLAIN_DOMAIN = re.compile(r"(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]{2,63}", re.ASCII)
_SPECIAL_TOP_LEVELS = frozenset(name.rpartition(".")[2] for name in SPECIAL_USE_DOMAIN_NAMES)
_MAX_DOMAIN_LENGTH = 253
# What keyboards for Chinese, Japanese and Korean type for "@", "." and their like.
_WIDE = {wide: wide - 0xFEE0 for wide in range(0xFF01, 0xFF5F)}


class Email(NamedTuple):
    """A well-formed address. ``suggestion`` is the domain that was probably meant; nobody corrects it unasked."""

    address: str
    key: str
    flags: tuple[str, ...] = ()
    suggestion: str | None = None


@dataclass(frozen=True, slots=True)
class EmailFault:
    """Why a value is no address that could be used."""

    rule: str
    value_class: str


@dataclass(frozen=True, slots=True)
class _Domain:
    """What is known of a domain. ``ascii`` is the A-label form, ``shown`` the one for people."""

    ascii: str
    shown: str
    flags: tuple[str, ...]
    suggestion: str | None


def parse_email(raw: str, *, lists: MailboxLists = KNOWN) -> Email | EmailFault:
    """Read one address. A display name (``Anna <a@b.com>``) and ``mailto:`` are taken off."""
    text = cleaned(raw)
    if not text.isascii():
        text = text.translate(_WIDE)
    if text[:7].lower() == "mailto:":
        text = text[7:].split("?", 1)[0]
    text = text.strip(" ,;")
    if text.endswith(">") and "<" in text:
        text = text[text.rindex("<") + 1 : -1].strip()
    local, at, domain_text = text.rpartition("@")
    if not at:
        nothing = letters_digits_key(text)
        if nothing is None or nothing in placeholders.EMAIL_WORDS:
            return EmailFault("email_placeholder", "placeholder")
        return EmailFault("email_invalid", "no_at_sign")
    if "@" in local and _SEVERAL.search(text):
        return EmailFault("email_invalid", "several_addresses")
    domain = _judge_domain(domain_text.lower() if domain_text.isascii() else domain_text, lists)
    if domain is None:
        return EmailFault("email_invalid", "bad_domain")
    address = _fast_address(local, domain) or _slow_address(text)
    if address is None:
        too_long = len(local) > MAX_LOCAL_LENGTH or len(text) > MAX_LENGTH
        return EmailFault("email_invalid", "address_too_long" if too_long else "bad_local_part")
    local = address.rpartition("@")[0]
    lowered = local.lower()
    if _is_placeholder(lowered, domain.ascii):
        return EmailFault("email_placeholder", "placeholder")
    flags = (*domain.flags, "role_mailbox") if lists.is_role(lowered.split("+", 1)[0]) else domain.flags
    return Email(address, _match_key(lowered, domain.ascii), flags, domain.suggestion)


def _fast_address(local: str, domain: _Domain) -> str | None:
    """The address, if it is plain enough that email-validator would certainly take it as it stands."""
    if len(local) > MAX_LOCAL_LENGTH or domain.ascii != domain.shown or len(local) + len(domain.ascii) >= MAX_LENGTH:
        return None
    if _LOCAL.fullmatch(local) is None:
        return None
    lowered = local.lower()
    return f"{lowered if lowered in _LOWERED else local}@{domain.ascii}"


def _slow_address(text: str) -> str | None:
    try:
        found = validate_email(text, check_deliverability=False, test_environment=True, strict=True)
    except EmailNotValidError:
        return None
    return found.normalized


@lru_cache(maxsize=65_536)
def _judge_domain(domain: str, lists: MailboxLists) -> _Domain | None:
    if _is_plain(domain):
        name = shown = domain
    else:
        try:
            found = validate_email(f"a@{domain}", check_deliverability=False, test_environment=True)
        except EmailNotValidError:
            return None
        name, shown = found.ascii_domain, found.domain
    if len(name.rpartition(".")[2]) < 2:
        return None  # no top-level domain has one letter; a CRM refuses it, and it is nearly always a slip
    suggestion = suggested_domain(name, lists=lists)
    flags: list[str] = []
    if suggestion is not None:
        # First: well-known misspellings are registered by disposable-mail providers, and their senders are real people.
        flags.append("email_typo_suspected")
    elif lists.is_disposable(name):
        flags.append("disposable_mailbox")
    if lists.is_free(name):
        flags.append("free_mailbox")
    if name in mailboxes.RESERVED_DOMAINS or name.rsplit(".", 1)[-1] in mailboxes.RESERVED_TOP_LEVELS:
        flags.append("email_domain_reserved")
    return _Domain(name, shown, tuple(flags), suggestion)


def _is_plain(domain: str) -> bool:
    return (
        _PLAIN_DOMAIN.fullmatch(domain) is not None
        and len(domain) <= _MAX_DOMAIN_LENGTH
        and "--" not in domain
        and domain.rpartition(".")[2] not in _SPECIAL_TOP_LEVELS
    )


def suggested_domain(domain: str, *, lists: MailboxLists = KNOWN) -> str | None:
    """The large provider that ``domain`` (lower case, A-label) probably misspells, or ``None``.

    One edit (insert, delete, replace, swap of neighbours) away; two for long names that begin alike. The same first
    letter is asked for with short names and of domains known to be disposable: without it, with more targets, or
    without the list of real providers, companies are flagged by chance.
    """
    if lists.is_free(domain) or lists.names(domain):
        return None
    name, _, top_level = domain.partition(".")
    disposable = lists.is_disposable(domain)
    best: tuple[int, str] | None = None
    for target in mailboxes.TYPO_TARGETS:
        begins_alike = domain[:1] == target[0]
        if not begins_alike and (len(target) < 9 or disposable):
            continue
        if name == target.partition(".")[0] and len(top_level) == 2 and top_level not in mailboxes.SLIPPED_TOP_LEVELS:
            continue  # the provider's own branch in a country that the list of providers does not have
        limit = 2 if len(target) >= 11 and begins_alike and not disposable else 1
        distance = OSA.distance(domain, target, score_cutoff=limit)
        if distance <= limit and (best is None or distance < best[0]):
            best = (distance, target)
    return best[1] if best else None


def _match_key(local: str, domain: str) -> str:
    domain = mailboxes.SAME_MAILBOX_DOMAINS.get(domain, domain)
    if not local.isascii():
        local = unicodedata.normalize("NFC", local)  # not case-folded: strasse and straße are two people's
    if domain in mailboxes.PLUS_TAG_DOMAINS:
        local = local.split("+", 1)[0] or local
    if domain in mailboxes.DOTLESS_DOMAINS:
        local = local.replace(".", "") or local
    return f"{local}@{domain}"


def _is_placeholder(local: str, domain: str) -> bool:
    name = domain.partition(".")[0]
    if local in mailboxes.NO_MAILBOX_LOCAL_PARTS or (len(local) == 1 and local == name):
        return True
    return local in placeholders.EMAIL_WORDS and name in placeholders.EMAIL_WORDS
