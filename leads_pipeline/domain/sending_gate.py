"""Whether a contact may be sent to a destination at all: consent, and the list of those who must not be sent.

Asked at the last moment, with the contact as it is then. Pure. Add reasons here. Keep out: where the list is kept
(``storage.suppressions``).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from hashlib import blake2b
from typing import Any, Literal
from uuid import UUID

from leads_pipeline.domain.consent_folding import ANY_CHANNEL
from leads_pipeline.domain.emails import EmailFault, parse_email
from leads_pipeline.domain.phones import PhoneFault, parse_phone


class Unsendable(StrEnum):
    """Why a contact must not be sent."""

    LISTED = "listed"  # it is on the suppression list
    WITHDRAWN = "withdrawn"  # the person has withdrawn consent
    NO_CONSENT = "no_consent"  # the person never gave consent, and the destination asks for it


class SuppressionKind(StrEnum):
    """By what somebody is listed."""

    EMAIL = "email"
    PHONE = "phone"
    DOMAIN = "domain"  # of the e-mail address, with everything below it
    CONTACT = "contact"


@dataclass(frozen=True, slots=True)
class GateRule:
    """What consent a destination asks for. ``not_withdrawn`` lets those pass who never said anything."""

    require: Literal["granted", "not_withdrawn", "nothing"] = "not_withdrawn"
    purpose: str = "marketing"
    channel: str = "email"


@dataclass(frozen=True, slots=True)
class Subject:
    """What may be listed, as it is kept: a hash of its normal form. It proves a guess and tells no value."""

    kind: SuppressionKind
    value_hash: bytes


def refusal(consent: Mapping[str, Any], *, listed: bool, rule: GateRule) -> Unsendable | None:
    """Why a contact with this folded consent must not be sent, ``None`` if it may.

    For upserts only: to archive or to erase somebody is never refused.
    """
    if listed:
        return Unsendable.LISTED
    if rule.require == "nothing":
        return None
    if is_withdrawn(consent, rule):
        return Unsendable.WITHDRAWN
    return Unsendable.NO_CONSENT if rule.require == "granted" and _statement(consent, rule) is None else None


def is_withdrawn(consent: Mapping[str, Any], rule: GateRule) -> bool:
    """Whether the person has withdrawn the consent that ``rule`` is about. Who is listed may have, too."""
    statement = _statement(consent, rule)
    return statement is not None and statement["granted"] is not True


def subject(tenant: str, kind: SuppressionKind, value: str, *, country: str) -> Subject | None:
    """What a person listed, in its normal form; ``None`` when it is none.

    ``country`` (ISO 3166) is assumed of a number that names none.
    """
    text = value.strip()
    match kind:
        case SuppressionKind.EMAIL:
            email = parse_email(text)
            return None if isinstance(email, EmailFault) else _subject(tenant, kind, email.key)
        case SuppressionKind.PHONE:
            phone = parse_phone(text, country=country)
            return None if isinstance(phone, PhoneFault) else _subject(tenant, kind, phone.key)
        case SuppressionKind.DOMAIN:
            email = parse_email(f"suppressed.domain@{text.lstrip('@')}")
            return None if isinstance(email, EmailFault) else _subject(tenant, kind, email.key.rpartition("@")[2])
        case SuppressionKind.CONTACT:
            try:
                return _subject(tenant, kind, str(UUID(text)))
            except ValueError:
                return None


def subjects_of(contact: Mapping[str, Any], *, merged_away: Sequence[UUID] = ()) -> list[Subject]:
    """All by which a golden contact may be listed; by an address, too, that another contact holds.

    ``merged_away``: the contacts that it has taken in. Each of them was this person.
    """
    tenant = contact["tenant"]
    ids = (contact["contact_id"], *merged_away)
    found = [_subject(tenant, SuppressionKind.CONTACT, str(contact_id)) for contact_id in ids]
    if key := contact["email_key"] or contact["awaited_email_key"]:
        found.append(_subject(tenant, SuppressionKind.EMAIL, key))
        labels = key.rpartition("@")[2].split(".")
        domains = (".".join(labels[start:]) for start in range(len(labels) - 1))
        found += [_subject(tenant, SuppressionKind.DOMAIN, domain) for domain in domains]
    if contact["phone"]:
        found.append(_subject(tenant, SuppressionKind.PHONE, contact["phone"]))
    return found


def _statement(consent: Mapping[str, Any], rule: GateRule) -> Mapping[str, Any] | None:
    channels: Mapping[str, Mapping[str, Any]] = consent.get(rule.purpose, {})
    return channels.get(rule.channel) or channels.get(ANY_CHANNEL)


def _subject(tenant: str, kind: SuppressionKind, normal: str) -> Subject:
    return Subject(kind, blake2b(f"{tenant}\x1f{kind}\x1f{normal}".encode(), digest_size=32).digest())
