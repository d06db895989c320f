"""Consent out of a form's fields."""

from datetime import UTC, datetime

from leads_pipeline.config import ConsentMappingSettings
from leads_pipeline.domain.consent import parse_consent
from leads_pipeline.domain.consent_mapping import consent_statements

BOX = ConsentMappingSettings(
    path="newsletter", channel="email", legal_basis="consent", text_version="2026-01", granted_when=("I agree",)
)


def test_a_ticked_box_is_a_statement_that_becomes_an_event():
    [statement] = consent_statements({"newsletter": ["I agree"], "email": "a@example.org"}, [BOX])
    parsed = parse_consent([statement], context={"ip": "192.0.2.7"}, received_at=datetime(2026, 1, 1, tzinfo=UTC))

    [event] = parsed.events
    assert (event.granted, event.channel, event.purpose) == (True, "email", "marketing")
    assert (event.legal_basis, event.text_version, event.ip) == ("consent", "2026-01", "192.0.2.7")


def test_a_box_that_is_not_sent_or_empty_states_nothing():
    assert consent_statements({}, [BOX]) == []
    assert consent_statements({"newsletter": "  "}, [BOX]) == []
    assert consent_statements({"newsletter": []}, [BOX]) == []


def test_a_no_is_a_no_and_what_cannot_be_read_is_kept_as_it_came():
    assert consent_statements({"newsletter": "off"}, [BOX])[0]["granted"] is False
    assert consent_statements({"newsletter": "vielleicht"}, [BOX])[0]["granted"] == "vielleicht"


def test_the_text_version_may_come_from_a_field():
    mapping = ConsentMappingSettings(path="ok", text_version="old", text_version_path="consent_text")

    assert consent_statements({"ok": True, "consent_text": "v7"}, [mapping])[0]["text_version"] == "v7"
    assert consent_statements({"ok": True}, [mapping])[0]["text_version"] == "old"
