"""What is looked up about a lead, and what can be said of it: one vocabulary for DNS and every provider.

Add a reason or a flag here when a provider says something new; keep out what a vendor calls it (``verification``).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import blake2b
from uuid import UUID

from leads_pipeline.domain.stage import Lane


class LookupKind(StrEnum):
    """What is asked, the cheapest first: a domain without mail needs no paid look-up of its mailbox."""

    MX = "mx"
    MAILBOX = "mailbox"
    PHONE = "phone"


class Standing(StrEnum):
    """What a look-up says of an address."""

    VALID = "valid"
    INVALID = "invalid"
    RISKY = "risky"  # reaches somebody, perhaps not the person: catch-all, disposable, role, full
    UNKNOWN = "unknown"  # nobody could tell; says nothing about the address


# The worst first: what counts where several look-ups speak of one address.
SEVERITY: tuple[Standing, ...] = (Standing.INVALID, Standing.RISKY, Standing.VALID, Standing.UNKNOWN)

# Why, in words that are ours. A vendor's own word that is not here becomes ``other``.
REASONS = frozenset(
    {
        "accepts_all", "answer_lost", "bad_syntax", "blocked_by_mailbox", "complainer", "disconnected", "disposable",
        "dns_failure", "do_not_mail", "domain_not_found", "forwarded", "full_mailbox", "greylisted", "low_quality",
        "mail_server_failed", "mailbox_disabled", "mailbox_exists", "mailbox_not_found", "no_coverage",
        "no_mail_server", "not_assigned", "not_personal", "null_mx", "number_exists", "other",
        "personal_data_objection", "possible_typo", "provider_failed", "role", "spamtrap", "suppressed",
        "switched_down", "timeout", "toxic", "voip", "waited_too_long",
    }
)  # fmt: skip

# What is true besides, whatever the standing.
FLAGS = frozenset({"accepts_all", "alias", "automated", "disposable", "free", "gibberish", "role", "suggestion"})


@dataclass(frozen=True, slots=True)
class LookupVerdict:
    """What one look-up found. ``details`` hold codes only (``line_type``, ``mail_provider``), never the address."""

    standing: Standing
    reasons: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    details: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class WantedLookup:
    """One look-up that a lead needs. ``subject`` is what is looked up: a domain, an address, a number in E.164."""

    lead_id: UUID
    revision: int
    kind: LookupKind
    lane: Lane
    tier: str
    urgency: int
    subject: str = field(repr=False)


def subject_of(kind: LookupKind, *, email: str | None, email_key: str | None, phone: str | None) -> str | None:
    """What a kind of look-up looks up of a lead; ``None`` if the lead has nothing of it. Domains as A-labels."""
    if kind is LookupKind.PHONE:
        return phone
    if kind is LookupKind.MAILBOX:
        return email
    return email_key.rpartition("@")[2] if email_key is not None else None


def subject_hash(tenant: str, kind: LookupKind, subject: str) -> int:
    """What a subject is called where it must not stand itself: signed 64 bits, of the tenant, the kind and it."""
    text = f"{tenant}\x1f{kind}\x1f{subject.lower()}"
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big", signed=True)


# What a golden contact says of an address that nobody has looked up: not yet, or not at all.
UNVERIFIED = "unverified"


def email_standing(mx: LookupVerdict | None, mailbox: LookupVerdict | None) -> Standing | None:
    """What an e-mail address is, by both look-ups; ``None`` as long as nobody has looked the mailbox up.

    A provider's word about the mailbox counts; DNS alone can say that there is no mail, not that the mailbox exists.
    """
    if mailbox is not None and mailbox.standing is not Standing.UNKNOWN:
        return mailbox.standing
    if mx is not None and mx.standing is Standing.INVALID:
        return Standing.INVALID
    return None if mailbox is None else Standing.UNKNOWN
