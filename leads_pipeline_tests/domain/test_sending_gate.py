"""Who may be sent."""

from uuid import UUID

import pytest

from leads_pipeline.cli.suppressions import KINDS
from leads_pipeline.domain.sending_gate import (
    GateRule,
    SuppressionKind,
    Unsendable,
    refusal,
    subject,
    subjects_of,
)


def _said(granted: bool, *, purpose: str = "marketing", channel: str = "email") -> dict:
    return {purpose: {channel: {"granted": granted, "as_of": "2026-01-15T12:00:00+00:00", "lead_id": str(UUID(int=1))}}}


@pytest.mark.parametrize(
    ("consent", "granted", "not_withdrawn", "nothing"),
    [
        ({}, Unsendable.NO_CONSENT, None, None),
        (_said(True), None, None, None),
        (_said(False), Unsendable.WITHDRAWN, Unsendable.WITHDRAWN, None),
        (_said(True, channel="any"), None, None, None),
        (_said(False, channel="any"), Unsendable.WITHDRAWN, Unsendable.WITHDRAWN, None),
        (_said(False, channel="phone"), Unsendable.NO_CONSENT, None, None),
        (_said(False, purpose="profiling"), Unsendable.NO_CONSENT, None, None),
    ],
)
def test_what_a_destination_asks_for_decides(consent, granted, not_withdrawn, nothing) -> None:
    outcomes = [refusal(consent, listed=False, rule=GateRule(r)) for r in ("granted", "not_withdrawn", "nothing")]
    assert outcomes == [granted, not_withdrawn, nothing]


def test_the_list_holds_whatever_was_consented_to() -> None:
    assert refusal(_said(True), listed=True, rule=GateRule("nothing")) is Unsendable.LISTED


def _contact(**fields) -> dict:
    known = {"contact_id": UUID(int=7), "tenant": "acme", "email_key": None, "awaited_email_key": None, "phone": None}
    return known | fields


@pytest.mark.parametrize(
    ("kind", "value", "contact"),
    [
        (SuppressionKind.EMAIL, " Ada@Example.com ", _contact(email_key="ada@example.com")),
        (SuppressionKind.EMAIL, "ada@example.com", _contact(awaited_email_key="ada@example.com")),
        (SuppressionKind.PHONE, "(415) 555-2671", _contact(phone="+14155552671")),
        (SuppressionKind.DOMAIN, "Example.com", _contact(email_key="ada@example.com")),
        (SuppressionKind.DOMAIN, "@example.com", _contact(email_key="ada@mail.example.com")),
        (SuppressionKind.CONTACT, str(UUID(int=7)).upper(), _contact()),
    ],
)
def test_a_listed_value_is_found_however_it_is_written(kind, value, contact) -> None:
    assert subject("acme", kind, value, country="US") in subjects_of(contact)
    assert subject("globex", kind, value, country="US") not in subjects_of(contact)


def test_a_domain_is_not_part_of_a_name() -> None:
    listed = subject("acme", SuppressionKind.DOMAIN, "example.com", country="US")
    assert listed not in subjects_of(_contact(email_key="ada@notexample.com"))


@pytest.mark.parametrize("kind", SuppressionKind)
def test_what_is_no_value_of_its_kind_is_none(kind: SuppressionKind) -> None:
    assert subject("acme", kind, "no such thing", country="US") is None


def test_a_subject_tells_no_value() -> None:
    found = subject("acme", SuppressionKind.EMAIL, "ada@example.com", country="US")
    assert "ada" not in repr(found)


def test_the_commands_know_every_kind() -> None:
    assert tuple(SuppressionKind) == KINDS
