"""What a team may ask about one contact before it calls or writes, and what it is told.

A question is read as validation reads a lead, so that whatever spelling of an address found its way into a contact
finds it again. Keep out: SQL (``storage.contact_lookup``), HTTP (``capture.contact_lookup``).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from leads_pipeline.domain.consent import Channel
from leads_pipeline.domain.consent_folding import ANY_CHANNEL
from leads_pipeline.domain.emails import EmailFault, parse_email
from leads_pipeline.domain.phones import PhoneFault, parse_phone
from leads_pipeline.domain.places import country_code
from leads_pipeline.domain.posted_lead import FieldFault


class AskedBy(StrEnum):
    """What a contact can be asked for by."""

    EMAIL = "email"
    PHONE = "phone"
    LEAD_ID = "lead_id"
    CONTACT_ID = "contact_id"


Statements = Mapping[str, Mapping[str, object]]
"""By channel what was stated last: ``granted``, ``as_of``."""

MAX_TEXT = 320  # of an address with its local part; a number or an id is shorter


@dataclass(frozen=True, slots=True)
class Question:
    """``value`` is as it is compared: a match key, a number in E.164, an id."""

    by: AskedBy
    value: str = field(repr=False)


def read_question(given: Mapping[str, object], *, country: str) -> Question | FieldFault:
    """The question in ``given``: one of ``AskedBy``, and for a phone perhaps the ``country`` that it is dialled from.

    ``country`` (ISO 3166) is the tenant's, for numbers that name none. A fault never repeats what was given.
    """
    asked = [by for by in AskedBy if given.get(by) is not None]
    if len(asked) != 1:
        return FieldFault("email", "exactly one of email, phone, lead_id and contact_id must be given")
    if not given.keys() <= {*AskedBy, "country"}:
        return FieldFault(asked[0], "beside it only country may be given")
    [by] = asked
    text, home = given[by], given.get("country")
    if not isinstance(text, str) or not 0 < len(text) <= MAX_TEXT:
        return FieldFault(by, f"must be text of 1 to {MAX_TEXT} characters")
    market = country if home is None else country_code(home) if isinstance(home, str) else None
    if market is None or (home is not None and by is not AskedBy.PHONE):
        return FieldFault("country", "must be a country, such as US, and stands beside a phone only")
    if by is AskedBy.EMAIL:
        address = parse_email(text)
        return FieldFault(by, "is no e-mail address") if isinstance(address, EmailFault) else Question(by, address.key)
    if by is AskedBy.PHONE:
        number = parse_phone(text, country=market, fallback=country)
        return (
            FieldFault(by, "is no number that can be called")
            if isinstance(number, PhoneFault)
            else Question(by, number.key)
        )
    try:
        return Question(by, str(UUID(text)))
    except ValueError:
        return FieldFault(by, "is no UUID")


@dataclass(frozen=True, slots=True)
class KnownContact:
    """What golden contacts hold of it. A contact that was founded a moment ago has no values yet.

    ``marketing_of_all``: by channel, what each contact that was found stated, this one and those that were merged into
    it a moment ago included.
    """

    contact_id: UUID
    first_name: str | None
    last_name: str | None
    company: str | None
    job_title: str | None
    email_verdict: str | None
    phone_verdict: str | None
    phone_line_type: str | None
    consent: Mapping[str, Statements] | None
    last_seen_at: datetime | None
    more_contacts: int
    marketing_of_all: Sequence[Statements]


def answer(contact: KnownContact | None) -> dict[str, Any]:
    """What is told, of the same shape whether the contact is known or not.

    ``consent`` is this contact's own. ``do_not_contact``: by which channel marketing was withdrawn, by this contact or
    another that shares what was asked for: whoever writes to an address does not choose who reads it. Silence is
    neither consent nor a withdrawal.
    """
    consent = (contact.consent if contact else None) or {}
    marketing = contact.marketing_of_all if contact else ()
    return {
        "known": contact is not None,
        "contact_id": str(contact.contact_id) if contact else None,
        "first_name": contact.first_name if contact else None,
        "last_name": contact.last_name if contact else None,
        "company": contact.company if contact else None,
        "job_title": contact.job_title if contact else None,
        "email_verdict": contact.email_verdict if contact else None,
        "phone_verdict": contact.phone_verdict if contact else None,
        "phone_line_type": contact.phone_line_type if contact else None,
        "last_seen_at": contact.last_seen_at.isoformat() if contact and contact.last_seen_at else None,
        "more_contacts": contact.more_contacts if contact else 0,
        "consent": {
            purpose: {
                channel: {"granted": statement["granted"], "as_of": statement["as_of"]}
                for channel, statement in channels.items()
            }
            for purpose, channels in consent.items()
        },
        "do_not_contact": {
            channel: any(_is_withdrawn(channels, channel) for channels in marketing)
            for channel in (Channel.EMAIL, Channel.PHONE)
        },
    }


def _is_withdrawn(channels: Statements, channel: str) -> bool:
    statement = channels.get(channel) or channels.get(ANY_CHANNEL)
    return statement is not None and statement["granted"] is False
