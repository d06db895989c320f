"""How columns find their fields, and what becomes of those that find none."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leads_pipeline.domain.import_mapping import map_columns
from leads_pipeline.domain.lead import CANONICAL_FIELDS, FIELD_NAMES


@pytest.mark.parametrize("field", CANONICAL_FIELDS, ids=lambda field: field.name)
def test_every_alias_of_a_field_finds_it_in_the_usual_spellings(field: Any) -> None:
    for name in (field.name, *field.aliases):
        for column in (name, name.upper(), f" {name.replace('_', ' ')} ", name.replace("_", "-")):
            assert map_columns([column]).apply({column: "x"}) == {field.name: "x"}


def test_the_fields_own_name_wins_and_the_other_fills_in_where_it_is_empty() -> None:
    mapping = map_columns(["dob", "date_of_birth"])
    assert mapping.apply({"dob": "1", "date_of_birth": "2"}) == {"date_of_birth": "2", "dob": "1"}
    assert mapping.apply({"dob": "1", "date_of_birth": " "}) == {"date_of_birth": "1"}
    reasons = {use.column: use.reason for use in mapping.uses}
    assert reasons["date_of_birth"] == "wins: the field's own name"
    assert reasons["dob"] == (
        "only where date_of_birth is empty, else kept as sent: date_of_birth is the field's own name"
    )


def test_a_persons_map_goes_before_names() -> None:
    mapping = map_columns(["email", "private"], {"private": "email"})
    assert mapping.apply({"email": "work", "private": "home"}) == {"email": "home", "column.email": "work"}
    mapping = map_columns(["email", "mail"], {"email": None})
    assert mapping.apply({"email": "x", "mail": "y"}) == {"email": "y", "column.email": "x"}


@pytest.mark.parametrize(
    ("column", "value", "statement"),
    [
        ("consent", "yes", ("any", True)),
        ("Opt-In", "1", ("any", True)),
        ("gdpr_consent", True, ("any", True)),
        ("gdpr_consent", "no", ("any", False)),
        ("newsletter", "TRUE", ("email", True)),
        ("newsletter", 0, ("email", False)),
        ("unsubscribed", "y", ("email", False)),
        ("do_not_call", "x?", ("phone", "x?")),
        ("do_not_call", "true", ("phone", False)),
        ("unsubscribed", "no", None),
        ("consent", "", None),
        ("consent", None, None),
        ("consent", "maybe", ("any", "maybe")),
    ],
)
def test_a_yes_or_no_column_becomes_a_statement(column: str, value: Any, statement: tuple[str, Any] | None) -> None:
    lead = map_columns([column]).apply({column: value})
    found = [(item["channel"], item["granted"]) for item in lead.get("consent", [])]
    assert found == ([] if statement is None else [statement])


def test_the_time_of_a_consent_goes_with_it() -> None:
    lead = map_columns(["opt_in", "opt_in_date"]).apply({"opt_in": "yes", "opt_in_date": "2025-05-05"})
    assert lead["consent"][0]["occurred_at"] == "2025-05-05"
    assert "opt_in_date" not in lead


def test_ids_and_truth_stay_what_they_were() -> None:
    assert map_columns(["unique_id", "cluster"]).apply({"unique_id": "7", "cluster": "3"}) == {
        "unique_id": "7",
        "cluster": "3",
    }


@given(
    columns=st.lists(st.sampled_from([*FIELD_NAMES, "mail", "dob", "surname", "x", "consent_malformed"]), unique=True),
    cells=st.lists(st.text(min_size=1).filter(str.strip), min_size=30, max_size=30),
)
def test_no_value_of_a_row_is_lost(columns: list[str], cells: list[str]) -> None:
    row = dict(zip(columns, cells, strict=False))
    assert sorted(map_columns(columns).apply(row).values()) == sorted(row.values())


_COLUMNS = (
    "email",
    "work_email",
    "mail",
    "Surname",
    "newsletter",
    "consent",
    "opt_in_date",
    "cluster",
    "city",
    "rejected_because",
)


@given(
    cells=st.lists(st.sampled_from(["", " ", "x", "yes", "no", " y "]), min_size=len(_COLUMNS), max_size=len(_COLUMNS)),
    own=st.dictionaries(
        st.sampled_from(_COLUMNS[:8]), st.sampled_from(["email", "city", "consent_email", None]), max_size=3
    ),
)
def test_text_cells_become_the_leads_that_named_values_become(cells: list[str], own: dict[str, str | None]) -> None:
    mapping = map_columns(_COLUMNS, own)
    assert mapping.for_cells(_COLUMNS)(cells) == mapping.apply(dict(zip(_COLUMNS, cells, strict=True)))


def test_why_a_row_was_rejected_before_is_not_stored_with_it() -> None:
    mapping = map_columns(["email", "rejected_because"])
    assert mapping.apply({"email": "a", "rejected_because": "has no field"}) == {"email": "a"}
    assert mapping.uses[1].reason.startswith("left out")
