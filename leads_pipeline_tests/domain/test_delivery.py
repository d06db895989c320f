"""What is sent of a contact, and what must not show."""

from datetime import date
from uuid import UUID

from leads_pipeline.domain.delivery import CrmRecord, RecordVerdict, Verdict, as_properties
from leads_pipeline.domain.stage import Operation

MAPPING = {"first_name": "firstname", "company": "company", "date_of_birth": "date_of_birth"}


def test_known_fields_go_under_the_vendor_s_names_and_unknown_ones_are_left_out() -> None:
    contact = {"first_name": "Ada", "company": None, "last_name": "Byron", "date_of_birth": date(1815, 12, 10)}
    assert as_properties(contact, mapping=MAPPING, delivered_fields=()) == {
        "firstname": "Ada",
        "date_of_birth": "1815-12-10",
    }


def test_only_what_was_delivered_before_is_cleared() -> None:
    contact = {"first_name": None, "company": None}
    assert as_properties(contact, mapping=MAPPING, delivered_fields=("company",)) == {"company": ""}


def test_a_field_that_left_the_mapping_is_not_touched() -> None:
    assert as_properties({}, mapping=MAPPING, delivered_fields=("nickname",)) == {}


def test_the_lead_s_values_do_not_show_in_representations() -> None:
    record = CrmRecord(1, "acme", UUID(int=1), 1, Operation.UPSERT, None, properties={"email": "ada@example.com"})
    verdict = RecordVerdict(1, Verdict.INVALID, explanation="Email address ada@example.com is invalid")
    assert "ada@example.com" not in repr(record) + repr(verdict)
