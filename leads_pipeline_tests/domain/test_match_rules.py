"""The rules that need no probability."""

from dataclasses import replace
from datetime import date

import pytest

from leads_pipeline.domain.match_keys import MatchFields
from leads_pipeline.domain.match_rules import Rule, decided_by_rule, given_names_agree

PHONE = "+14155552671"
ANNA = MatchFields(phone_key=PHONE, first_name_key="anna", last_name_key="kowalczyk")


def test_one_email_address_is_one_contact_whatever_else_differs() -> None:
    left = MatchFields(email_key="a@firm.com", first_name_key="anna", last_name_key="smith")
    right = MatchFields(email_key="a@firm.com", first_name_key="bert", last_name_key="quist")
    assert decided_by_rule(left, right) is Rule.SAME_EMAIL


@pytest.mark.parametrize(
    "other",
    [
        ANNA,
        replace(ANNA, first_name_key="ana"),
        replace(ANNA, first_name_key="a"),
        replace(ANNA, first_name_key="kowalczyk", last_name_key="anna"),
        replace(ANNA, date_of_birth=date(1980, 5, 4)),
    ],
)
def test_one_phone_with_one_name_is_one_person(other: MatchFields) -> None:
    assert decided_by_rule(replace(ANNA, date_of_birth=date(1980, 4, 5)), other) is Rule.SAME_PHONE_AND_NAME


@pytest.mark.parametrize(
    "other",
    [
        replace(ANNA, first_name_key="peter"),  # a household
        replace(ANNA, last_name_key="smith"),  # a switchboard
        replace(ANNA, first_name_key=None),
        replace(ANNA, phone_key="+14155552672"),
        replace(ANNA, date_of_birth=date(1950, 11, 30)),  # a mother of the same name
    ],
)
def test_one_phone_is_not_enough(other: MatchFields) -> None:
    assert decided_by_rule(replace(ANNA, date_of_birth=date(1980, 4, 5)), other) is None


def test_nothing_known_decides_nothing() -> None:
    assert decided_by_rule(MatchFields(), MatchFields()) is None


@pytest.mark.parametrize(
    ("left", "right", "agree"),
    [
        ("bob", "robert", True),
        ("jon", "john", True),
        ("j", "john", True),
        ("j", "peter", False),
        ("anna", "peter", False),
    ],
)
def test_given_names_agree_if_one_may_be_the_other(left: str, right: str, agree: bool) -> None:
    assert given_names_agree(left, right) is given_names_agree(right, left) is agree
