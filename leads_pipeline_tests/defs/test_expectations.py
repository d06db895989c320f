"""The Great Expectations suite: what it refuses, source by source."""

from datetime import timedelta
from typing import Any

import pytest

from leads_pipeline.defs.expectations import Outcome, examine
from leads_pipeline.domain.ids import uuid7
from leads_pipeline.storage.validated_sample import EXAMINED_COLUMNS, Completeness
from leads_pipeline_tests.conftest import NOW

pytestmark = pytest.mark.usefixtures("expectations_imported")


def row(**values: Any) -> dict[str, Any]:
    """A validated lead as the sample reads it."""
    plain = dict.fromkeys(EXAMINED_COLUMNS) | {
        "lead_id": str(uuid7(NOW)), "revision": 1, "tenant": "acme", "source": "import", "sync_lane": "batch",
        "received_at": NOW, "validated_at": NOW, "rule_version": "1", "email": "a@example.com",
        "email_key": "a@example.com", "country": "US",
    }  # fmt: skip
    assert values.keys() <= plain.keys()
    return plain | values


def broken(*rows: dict[str, Any], baselines: tuple[Completeness, ...] = ()) -> list[Outcome]:
    outcomes = examine(rows, baselines=baselines, min_sample=2, now=NOW)
    assert outcomes
    return [outcome for outcome in outcomes if not outcome.met]


def test_normalised_leads_are_accepted():
    assert broken(row(), row(email=None, email_key=None, phone="+14155550123", phone_key="14155550123")) == []


def test_nothing_to_examine_is_nothing_broken():
    assert examine([], baselines=(), min_sample=2, now=NOW) == []


@pytest.mark.parametrize(
    ("values", "expectation"),
    [
        ({"email": "no address"}, "expect_column_values_to_match_regex email"),
        ({"email": "a@" + "x" * 330 + ".com"}, "expect_column_value_lengths_to_be_between email"),
        ({"phone": "555", "phone_key": "555"}, "expect_column_values_to_match_regex phone"),
        ({"country": "USA"}, "expect_column_values_to_match_regex country"),
        ({"sync_lane": "express"}, "expect_column_values_to_be_in_set sync_lane"),
        ({"rule_version": None}, "expect_column_values_to_not_be_null rule_version"),
        ({"received_at": NOW + timedelta(hours=2)}, "expect_column_values_to_be_between age_seconds"),
        ({"date_of_birth": (NOW + timedelta(days=400)).date()}, "expect_column_values_to_be_between birth_year"),
        ({"email_key": None}, "expect_column_pair_values_to_be_equal has_email has_email_key"),
        ({"email": None, "email_key": None}, "expect_column_values_to_be_in_set usable"),
        ({"email": None, "email_key": None, "last_name": "Doe"}, "expect_column_values_to_be_in_set usable"),
    ],
)
def test_a_broken_promise_of_validation_is_found(values, expectation):
    assert [(item.expectation, item.unexpected) for item in broken(row(), row(**values))] == [(expectation, 1)]


def test_a_name_with_another_identifying_field_is_usable():
    assert broken(row(email=None, email_key=None, full_name="Jane Doe", postcode="94107")) == []


def test_two_rows_of_one_lead_are_found():
    twice = row()
    assert [item.expectation for item in broken(twice, dict(twice))] == ["expect_column_values_to_be_unique lead_id"]


def test_a_changed_schema_is_found():
    rows = [{**row(), "surprise": 1}]
    assert "expect_table_columns_to_match_set" in [item.expectation for item in broken(*rows)]


def test_a_source_that_lost_a_column_is_found_by_how_complete_it_was_before():
    before = Completeness("acme", "import", rows=50, present={"email": 50, "phone": 45, "last_name": 0, "company": 0})
    outcomes = broken(row(), row(), baselines=(before,))
    assert [item.expectation for item in outcomes] == ["expect_column_values_to_not_be_null phone"]


def test_a_source_that_is_new_is_not_held_to_a_history():
    before = Completeness("acme", "import", rows=1, present={"email": 1, "phone": 1, "last_name": 1, "company": 1})
    assert broken(row(), row(), baselines=(before,)) == []


def test_a_broken_source_does_not_hide_behind_a_healthy_one():
    healthy = [row() for _ in range(50)]
    outcomes = broken(*healthy, row(source="partner", email="no address"))
    assert [(item.source, item.rows, item.unexpected) for item in outcomes] == [("partner", 1, 1)]


def test_outcomes_hold_no_values():
    outcomes = broken(row(email="jane no address"))
    assert "jane" not in repr(outcomes)
