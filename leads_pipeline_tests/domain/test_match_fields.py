"""What of a validated lead is compared."""

from datetime import date

import pytest

from leads_pipeline.domain.match_fields import external_id_key, match_fields, phone_kind
from leads_pipeline.domain.match_keys import MatchFields
from leads_pipeline.domain.validation import ValidLead, validate


def fields(**payload: str) -> MatchFields:
    lead = validate(payload, country="US", today=date(2026, 1, 1))
    assert isinstance(lead, ValidLead)
    return match_fields(lead, source="website")


def test_everything_that_is_compared_comes_from_the_lead() -> None:
    found = fields(
        email="Info@Northwind.com",
        phone="+43 664 1234567",
        first_name="Zoë",
        last_name="O'Neil",
        company="Northwind GmbH",
        date_of_birth="1980-04-05",
        address="12 Main Street",
        city="Saint Louis",
        state="Missouri",
        postcode="63101",
        job_title="Head of  Sales",
        external_id="42",
        country="US",
    )
    assert found == MatchFields(
        email_key="info@northwind.com",
        phone_key="+436641234567",
        first_name_key="zoe",
        last_name_key="oneil",
        company_key="northwind",
        date_of_birth=date(1980, 4, 5),
        address_key="12 main st",
        city_key="stlouis",
        postcode_key="63101",
        state_key="mo",
        job_title_key="head of sales",
        external_id_key="website:42",
        phone_kind="mobile",
        role_mailbox=True,
    )


def test_an_external_id_without_its_source_says_nothing() -> None:
    assert external_id_key(None, "42") is None
    assert external_id_key("website", None) is None


@pytest.mark.parametrize(
    ("phone_type", "kind"),
    [("mobile", "mobile"), ("fixed_line", "other"), ("voip", "other"), ("fixed_line_or_mobile", None), (None, None)],
)
def test_only_a_plan_that_tells_mobiles_apart_names_the_kind(phone_type: str | None, kind: str | None) -> None:
    assert phone_kind("+14155552671", phone_type) == kind
    assert phone_kind(None, phone_type) is None
