"""The verdict on a whole lead, and the table of rules."""

import re
from dataclasses import fields
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leads_pipeline.domain.lead import CANONICAL_FIELDS, FIELD_NAMES
from leads_pipeline.domain.rules import NOTES, RULE_VERSION, RULES, RULES_BY_KEY, Effect
from leads_pipeline.domain.validation import ATTRIBUTION_FIELDS, Rejection, ValidLead, validate
from leads_pipeline.storage import schema

TODAY = date(2026, 1, 15)
DOCUMENT = Path(__file__).parents[2] / "docs" / "validation.md"


def valid(**payload: object) -> ValidLead:
    verdict = validate(payload, country="US", today=TODAY)
    assert isinstance(verdict, ValidLead), verdict
    return verdict


def reasons(**payload: object) -> set[tuple[str, str, str]]:
    verdict = validate(payload, country="US", today=TODAY)
    assert isinstance(verdict, Rejection), verdict
    return {(finding.name, finding.field, finding.value_class) for finding in verdict.reasons}


def test_a_lead_is_kept_in_the_forms_that_later_stages_need() -> None:
    lead = valid(
        email=" Anna.Smith+x@GMAIL.com ",
        phone="(415) 555-2671",
        full_name="dr. anna o'brien",
        company="Widget Co., Inc.",
        job_title=" CTO ",
        date_of_birth="2/21/1980",
        address="1 Main Street",
        city="Boston",
        state="Massachusetts",
        postcode="2134",
        country="USA",
        external_id=4711,
        message="Hello,\r\n please call.",
        campaign="spring",
        utm_source="news",
    )
    assert lead == ValidLead(
        email_raw="Anna.Smith+x@GMAIL.com",
        email="Anna.Smith+x@gmail.com",
        email_key="annasmith@gmail.com",
        phone_raw="(415) 555-2671",
        phone="+14155552671",
        phone_key="+14155552671",
        phone_region="US",
        phone_type="fixed_line_or_mobile",
        phone_time_zone="America/Los_Angeles",
        first_name="Anna",
        first_name_key="anna",
        last_name="O'Brien",
        last_name_key="obrien",
        full_name="dr. anna o'brien",
        company="Widget Co., Inc.",
        company_key="widget",
        job_title="CTO",
        date_of_birth=date(1980, 2, 21),
        address="1 Main Street",
        address_key="1 main st",
        city="Boston",
        city_key="boston",
        state="MA",
        postcode="02134",
        postcode_key="02134",
        country="US",
        external_id="4711",
        message="Hello,\nplease call.",
        attribution={"campaign": "spring", "utm_source": "news"},
        flags=("free_mailbox", "postcode_zero_restored"),
    )


@pytest.mark.parametrize(
    "payload",
    [
        {"email": "anna@firm.com"},
        {"phone": "+14155552671"},
        {"last_name": "Smith", "date_of_birth": "1980-02-21"},
        {"last_name": "Smith", "company": "Acme"},
        {"first_name": "Anna", "address": "1 Main St"},
        {"full_name": "Anna Smith", "postcode": "02134"},
        {"full_name": "Anna Smith", "city": "Boston"},
    ],
)
def test_a_lead_is_usable_with_an_address_a_number_or_a_name_and_one_thing_more(payload: dict[str, object]) -> None:
    valid(**payload)


@pytest.mark.parametrize(
    "payload",
    [
        {},
        {"message": "hello"},
        {"last_name": "Smith"},
        {"last_name": "Smith", "city": "Boston", "state": "MA", "country": "US"},
        {"company": "Acme", "date_of_birth": "1980-02-21"},
        {"last_name": "Smith", "company": "self-employed"},
        {"email": "   ", "last_name": "Smith"},
    ],
)
def test_a_lead_without_identity_is_rejected(payload: dict[str, object]) -> None:
    assert ("nothing_identifying", "lead", "no_identity") in reasons(**payload)


def test_a_rejection_names_everything_that_might_have_saved_the_lead_and_no_value() -> None:
    payload = {
        "email": "anna.at.firm",
        "phone": "12345",
        "first_name": "test",
        "last_name": "x@y.zz",
        "company": "n/a",
        "date_of_birth": "1980-13-45",
        "postcode": "nowhere",
        "address": "unknown",
        "country": "Atlantis",
        "job_title": True,
        "city": "c" * 500,
    }
    assert reasons(**payload) == {
        ("nothing_identifying", "lead", "no_identity"),
        ("email_invalid", "email", "no_at_sign"),
        ("phone_invalid", "phone", "not_assigned"),
        ("name_placeholder", "first_name", "placeholder"),
        ("name_invalid", "last_name", "email_address"),
        ("company_placeholder", "company", "placeholder"),
        ("date_invalid", "date_of_birth", "impossible_date"),
        ("postcode_invalid", "postcode", "no_postcode"),
        ("value_placeholder", "address", "placeholder"),
        ("country_unknown", "country", "unknown_country"),
        ("not_text", "job_title", "not_text"),
        ("too_long", "city", "too_long"),
    }
    verdict = validate(payload, country="US", today=TODAY)
    assert isinstance(verdict, Rejection)
    stored = repr([finding.as_reason() for finding in verdict.reasons])
    assert not [
        value
        for value in ("anna.at.firm", "12345", "x@y.zz", "1980-13-45", "nowhere", "Atlantis", "cccc")
        if value in stored
    ]


def test_an_invalid_phone_beside_a_good_address_is_a_flag_and_the_number_stays_out() -> None:
    lead = valid(email="anna@firm.com", phone="12345")
    assert (lead.phone, lead.phone_key, lead.phone_raw, lead.flags) == (None, None, "12345", ("phone_invalid",))


def test_the_leads_own_country_reads_its_phone_and_its_dates() -> None:
    fields = {"email": "anna@firm.com", "phone": "020 7946 0018", "date_of_birth": "3/4/1980"}
    at_home, abroad = valid(**fields), valid(**fields, country="UK")
    assert (at_home.phone, at_home.date_of_birth, at_home.country) == (None, date(1980, 3, 4), None)
    assert (abroad.phone, abroad.date_of_birth, abroad.country) == ("+442079460018", date(1980, 4, 3), "GB")


@pytest.mark.parametrize("field", [field for field in CANONICAL_FIELDS if field.name != "email"], ids=lambda f: f.name)
def test_a_value_over_its_limit_is_left_out_whole(field: object) -> None:
    name, limit = field.name, field.max_length  # type: ignore[attr-defined]
    lead = valid(email="anna@firm.com", **{name: "x" * (limit + 1)})
    assert "too_long" in lead.flags
    assert "x" * 10 not in repr(lead)


def test_numbers_from_spreadsheets_are_read_as_what_they_were() -> None:
    lead = valid(phone=14155552671.0, postcode=90210.0, last_name="Smith", date_of_birth=19800221)
    assert (lead.phone, lead.postcode, lead.date_of_birth) == ("+14155552671", "90210", date(1980, 2, 21))


def test_every_canonical_field_has_a_place_in_a_valid_lead_and_every_column_a_value() -> None:
    places = {field.name for field in fields(ValidLead)}
    assert set(FIELD_NAMES) == (set(FIELD_NAMES) & places) | set(ATTRIBUTION_FIELDS)
    columns = {column.name for column in schema.validated_leads.columns}
    bookkeeping = (
        "lead_id revision tenant source capture_lane sync_lane received_at rule_version batch_id runner_id validated_at"
    )
    of_triage = "tier value_score risk_score risk_factors"
    assert columns - places == set(bookkeeping.split()) | set(of_triage.split())
    assert places <= columns


def test_every_rule_can_be_told_apart_and_says_what_to_do() -> None:
    assert len(RULES_BY_KEY) == len(RULES)
    assert len(NOTES) == sum(rule.effect is Effect.NOTES for rule in RULES)
    assert all(rule.remedy.endswith(".") for rule in RULES)
    assert {rule.field for rule in RULES} <= {*FIELD_NAMES, "lead", "*"}


def test_the_documented_table_is_the_table_of_rules() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| (\S+) \| `(\w+)` \| (\w+) \| (.+) \|$", text, flags=re.MULTILINE)
    assert rows == [(rule.name, rule.field, rule.value_class, rule.effect.value, rule.remedy) for rule in RULES]
    assert f"version `{RULE_VERSION}`" in text


def test_the_documented_limits_are_those_of_the_fields() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| ([\d,]+) \|$", text, flags=re.MULTILINE)
    assert [(name, int(limit.replace(",", ""))) for name, limit in rows] == [
        (field.name, field.max_length) for field in CANONICAL_FIELDS
    ]


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=60),
    st.lists(st.text(), max_size=2),
    st.sampled_from(
        ["anna@firm.com", "+1 415 555 2671", "Anna", "n/a", "1980-02-21", "02134", "Acme Inc", "US", "\u0000", "😀"]
    ),
)


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.one_of(st.sampled_from(FIELD_NAMES), st.text(max_size=5)), VALUES, max_size=12))
def test_any_payload_gets_the_same_verdict_twice_and_every_finding_has_a_rule(payload: dict[str, object]) -> None:
    verdict = validate(payload, country="US", today=TODAY)
    assert verdict == validate(dict(reversed(payload.items())), country="US", today=TODAY)
    if isinstance(verdict, Rejection):
        assert verdict.reasons[0].rule.effect is Effect.REJECTS
        assert all(finding.as_reason()["remedy"] for finding in verdict.reasons)
    else:
        assert verdict.email_key or verdict.phone_key or verdict.first_name_key or verdict.last_name_key
        assert set(verdict.flags) <= {rule.name for rule in RULES}
