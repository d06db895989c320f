"""From a source's fields to canonical ones: the mapping of leads.yaml, the kind's names, the common names."""

from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leads_pipeline.config import FieldMappingSettings, Transform
from leads_pipeline.domain.field_mapping import (
    TRANSFORM_NAMES,
    FieldRule,
    Mapped,
    map_fields,
    plan_fields,
    transformed,
)
from leads_pipeline.domain.lead import FIELD_NAMES

USUAL = {"email": "email", "work_email": "email", "phone_number": "phone"}


def rule(*path: str, default: str | None = None, transform: tuple[Any, ...] = ()) -> FieldRule:
    return FieldMappingSettings(path=path, default=default, transform=transform)


def mapped(fields: dict[str, Any], rules: dict[str, FieldRule] | None = None, *, usual_names: bool = True) -> Mapped:
    return map_fields(fields, rules or {}, usual=USUAL, usual_names=usual_names)


def test_the_mapping_goes_before_the_kinds_names_and_those_before_the_common_ones():
    fields = {"mail": "c@firm.com", "work_email": "b@firm.com", "email": "a@firm.com", "box": "own@firm.com"}

    assert mapped(fields, {"email": rule("box")}).lead == {"email": "own@firm.com"}
    assert mapped(fields).lead == {"email": "a@firm.com"}
    assert mapped({"mail": "c@firm.com", "work_email": "b@firm.com"}).lead == {"email": "b@firm.com"}
    assert mapped({"mail": "c@firm.com"}).lead == {"email": "c@firm.com"}
    assert mapped({"mail": "c@firm.com"}, usual_names=False) == Mapped({}, {}, ("mail",))


def test_where_the_best_field_is_empty_the_next_one_fills_in():
    assert mapped({"box": " ", "work_email": None, "email": "", "mail": "m@firm.com"}, {"email": rule("box")}).lead == {
        "email": "m@firm.com"
    }
    two = {"phone": rule("cell", "landline")}
    assert mapped({"landline": "1", "cell": ""}, two).lead == {"phone": "1"}
    assert mapped({"landline": "1", "cell": "2"}, two).lead == {"phone": "2"}


def test_a_field_that_the_mapping_names_means_nothing_else():
    found = mapped({"source": "Acme Ltd", "your-name": "Anna Berg"}, {"company": rule("source")})

    assert found.lead == {"company": "Acme Ltd", "full_name": "Anna Berg"}
    assert found.used == {"company": "source", "full_name": "your-name"}


def test_one_field_may_be_cut_up_into_several():
    rules = {
        "first_name": rule("who", transform=("first_word",)),
        "last_name": rule("who", transform=("after_first_word",)),
    }

    assert mapped({"who": " Anna  Maria Berg "}, rules).lead == {"first_name": "Anna", "last_name": "Maria Berg"}
    assert mapped({"who": "Anna"}, rules).lead == {"first_name": "Anna"}


def test_a_default_stands_in_only_where_the_source_sends_nothing():
    rules = {"lead_source": rule("origin", default="partner"), "email": rule(default="info@firm.com")}

    assert mapped({"origin": " "}, rules).lead == {"lead_source": "partner", "email": "info@firm.com"}
    assert mapped({"origin": "fair", "email": "a@firm.com"}, rules).lead == {
        "lead_source": "fair",
        "email": "a@firm.com",
    }
    assert (
        mapped({"origin": "?", "email": ""}, {"lead_source": rule("origin", default="x", transform=("digits",))}).lead[
            "lead_source"
        ]
        == "x"
    )


def test_a_transform_without_a_path_is_for_the_usual_field_and_one_with_a_path_for_that_field_alone():
    assert mapped({"phone_number": "+1 415"}, {"phone": rule(transform=("digits",))}).lead == {"phone": "1415"}
    assert mapped({"phone_number": "+1 415"}, {"phone": rule("cell", transform=("digits",))}).lead == {
        "phone": "+1 415"
    }


@pytest.mark.parametrize(
    ("value", "taken"),
    [(["", None, {"a": 1}, "x", "y"], "x"), ([], None), ([[1], {}], None), (0, 0), (False, False), ("  ", None)],
)
def test_of_a_list_the_first_value_is_taken(value, taken):
    assert mapped({"email": value}).lead == ({} if taken is None else {"email": taken})


def test_what_means_nothing_is_named_and_what_would_have_filled_in_is_not():
    found = mapped({"budget": "1", "email": "a@firm.com", "mail": "m@firm.com", "colour": "red"})

    assert found.used == {"email": "email"}
    assert found.unused == ("budget", "colour")


@pytest.mark.parametrize(
    ("names", "value", "result"),
    [
        (("strip",), "  a b ", "a b"),
        (("lower",), "ÀB", "àb"),
        (("upper",), "ab", "AB"),
        (("digits",), "+1 (415) 555", "1415555"),
        (("digits",), "none", None),
        (("digits",), 90210.0, "90210"),
        (("first_word",), " Anna Maria Berg", "Anna"),
        (("last_word",), "Anna Maria Berg ", "Berg"),
        (("after_first_word",), "Anna  Maria Berg", "Maria Berg"),
        (("after_first_word",), "Anna", None),
        (("after_first_word", "upper"), "Anna Berg", "BERG"),
        (("lower",), True, None),
        ((), " a ", " a "),
    ],
)
def test_transforms(names, value, result):
    assert transformed(value, names) == result


def test_the_transforms_are_those_of_the_configuration():
    assert set(TRANSFORM_NAMES) == set(get_args(Transform))


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12)
NAMES = st.sampled_from([*FIELD_NAMES, "mail", "surname", "address.city", "x", "your-name", "*", ""]) | st.text(
    max_size=6
)
FIELDS = st.dictionaries(NAMES, SCALARS | st.lists(SCALARS, max_size=3), max_size=8)
RULES = st.dictionaries(
    st.sampled_from(FIELD_NAMES),
    st.builds(
        FieldMappingSettings,
        path=st.lists(st.sampled_from([*FIELD_NAMES, "mail", "x", "your-name"]), max_size=3).map(tuple),
        default=st.none() | st.text(max_size=5),
        transform=st.lists(st.sampled_from(TRANSFORM_NAMES), max_size=3).map(tuple),
    ),
    max_size=4,
)


@given(fields=FIELDS, rules=RULES, usual_names=st.booleans())
def test_any_post_becomes_a_lead_of_canonical_scalars_and_no_field_is_forgotten(fields, rules, usual_names):
    found = map_fields(fields, rules, usual=USUAL, usual_names=usual_names)

    assert found.lead.keys() <= set(FIELD_NAMES)
    assert not any(isinstance(value, list | dict) or value is None for value in found.lead.values())
    assert set(found.used.values()) <= fields.keys()
    assert found.used.keys() | {name for name, item in rules.items() if item.default is not None} >= found.lead.keys()
    assert found.lead.keys() >= found.used.keys()
    assert not set(found.unused) & set(found.used.values())
    meanings = plan_fields(tuple(fields), rules, usual=USUAL, usual_names=usual_names).meanings
    assert meanings.keys() == fields.keys()
    assert {field for field, meaning in meanings.items() if meaning is None} == set(found.unused)


@given(fields=FIELDS, rules=RULES)
def test_the_order_of_the_fields_decides_nothing_but_between_equals(fields, rules):
    """Renamed copies of a name are equals; here every field has a rank of its own."""
    turned = dict(reversed(list(fields.items())))
    one = map_fields(fields, rules, usual=USUAL, usual_names=False)
    other = map_fields(turned, rules, usual=USUAL, usual_names=False)
    assert repr(sorted(one.lead.items())) == repr(sorted(other.lead.items()))


@given(fields=FIELDS, extra=st.text(min_size=1, max_size=8))
def test_a_field_more_that_means_nothing_changes_no_lead(fields, extra):
    name = f"q:{extra}:?"
    before = map_fields(fields, {}, usual=USUAL, usual_names=False)
    after = map_fields({**fields, name: "x"}, {}, usual=USUAL, usual_names=False)
    assert repr(after.lead) == repr(before.lead)
    assert name in after.unused
