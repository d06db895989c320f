"""From a validated lead to what is compared: the one place that says which of its columns are, and in what form.

Add a field here, in ``match_keys.MatchFields`` and in ``match_records``. Keep out: how alike two records are.
"""

from leads_pipeline.domain.match_keys import MatchFields
from leads_pipeline.domain.text import letters_key, words_key
from leads_pipeline.domain.validation import ValidLead

ROLE_MAILBOX_FLAG = "role_mailbox"
# What the plan calls a number that may be either, as all American ones, says nothing.
_PHONE_KINDS = {"mobile": "mobile", "fixed_line_or_mobile": None}


def match_fields(lead: ValidLead, *, source: str | None = None, email_verified: bool = False) -> MatchFields:
    """What identity resolution sees of ``lead``. ``source`` is where it came from: its ids are unique there."""
    return MatchFields(
        email_key=lead.email_key,
        phone_key=lead.phone_key,
        first_name_key=lead.first_name_key,
        last_name_key=lead.last_name_key,
        company_key=lead.company_key,
        date_of_birth=lead.date_of_birth,
        address_key=lead.address_key,
        city_key=lead.city_key,
        postcode_key=lead.postcode_key,
        state_key=state_key(lead.state),
        job_title_key=job_title_key(lead.job_title),
        external_id_key=external_id_key(source, lead.external_id),
        phone_kind=phone_kind(lead.phone_key, lead.phone_type),
        email_verified=email_verified,
        role_mailbox=ROLE_MAILBOX_FLAG in lead.flags,
    )


def external_id_key(source: str | None, external_id: str | None) -> str | None:
    """``<source>:<id>``; senders number their own people, so the number alone says nothing."""
    return f"{source}:{external_id}" if source and external_id else None


def phone_kind(phone_key: str | None, phone_type: str | None) -> str | None:
    """``mobile``, ``other``, or ``None`` where there is no number or its plan does not tell."""
    if phone_key is None or phone_type is None:
        return None
    return _PHONE_KINDS.get(phone_type, "other")


def state_key(state: str | None) -> str | None:
    """The letters of a state's name or code."""
    return letters_key(state) if state else None


def job_title_key(title: str | None) -> str | None:
    """The words of a job title."""
    return " ".join(words_key(title)) or None if title else None
