"""Judgement: who is one person, who is not, and what a person must be asked. Each case is one that people would know.

All of them are invented. They are decided as a chunk is: rules first, then the model, among few and among many
contacts; a case whose answer depends on how many there are is no matter of judgement.
"""

import math
from collections.abc import Mapping
from datetime import date
from enum import StrEnum
from itertools import combinations

import pytest

from leads_pipeline.config import MatchingSettings
from leads_pipeline.domain.clustering import Edge, Strength, cluster
from leads_pipeline.domain.match_fields import match_fields
from leads_pipeline.domain.match_keys import MatchFields
from leads_pipeline.domain.match_rules import compile_rules
from leads_pipeline.domain.validation import ValidLead, validate
from leads_pipeline.matching.evaluation import limits_of
from leads_pipeline.matching.pairs import Frequencies
from leads_pipeline.matching.scoring import PairScorer

TODAY = date(2026, 1, 1)
SETTINGS = MatchingSettings()
RULES = compile_rules(SETTINGS.rules)

# What part of all contacts has a value; one that is not here is one contact's.
SHARES = {
    ("first_name", "walter"): 0.002, ("first_name", "clara"): 0.002, ("first_name", "judith"): 0.002,
    ("first_name", "james"): 0.016, ("first_name", "robert"): 0.015, ("last_name", "smith"): 0.009,
    ("last_name", "brandt"): 0.0003, ("last_name", "osei"): 0.0001,
    ("city", "fairview"): 0.001, ("city", "chicago"): 0.01, ("postcode", "44126"): 0.0005, ("postcode", "60614"): 0.001,
}  # fmt: skip
TENANTS = {size: Frequencies(size, {of: math.ceil(share * size) for of, share in SHARES.items()})
           for size in (5_000, 50_000, 1_000_000)}  # fmt: skip


class Answer(StrEnum):
    ONE = "one person"
    ASKED = "a person is asked"
    TWO = "two people"


PHONE, OFFICE = {"phone": "+1 440 331 5521"}, {"company": "Northwind Traders", "phone": "+1 312 555 7700"}
HOME = {"address": "12 Elm Street", "city": "Fairview", "state": "OH", "postcode": "44126"}
WALTER = {"first_name": "Walter", "last_name": "Brandt"}
FATHER, SON = {**WALTER, "date_of_birth": "1951-03-14"}, {**WALTER, "date_of_birth": "1983-11-02"}
CLARA = {"first_name": "Clara", "last_name": "Brandt"}
JUDITH = {"first_name": "Judith", "last_name": "Brandt"}
TWINS = [{**CLARA, "date_of_birth": "1990-05-06"}, {**JUDITH, "date_of_birth": "1990-05-06"}]
OTHER_CLARA, OTHER_JUDITH = {**CLARA, "last_name": "Osei"}, {**JUDITH, "last_name": "Osei"}
JAMES = {"first_name": "James", "last_name": "Smith"}


def fields(payload: Mapping[str, str]) -> MatchFields:
    lead = validate(payload, country="US", today=TODAY)
    assert isinstance(lead, ValidLead), lead
    return match_fields(lead, source="import")


def answer(scorer: PairScorer, left: MatchFields, right: MatchFields, frequencies: Frequencies) -> Answer:
    if RULES.decide(left, right):
        return Answer.ONE
    (pair,) = scorer.score([left, right], [(0, 1)], frequencies=frequencies)
    if pair.match_weight >= SETTINGS.merge_weight:
        return Answer.ONE
    return Answer.ASKED if pair.match_weight >= SETTINGS.review_weight else Answer.TWO


@pytest.mark.parametrize("contacts", TENANTS)
@pytest.mark.parametrize(
    ("left", "right"),
    [
        pytest.param({**FATHER, **PHONE}, {**SON, **PHONE}, id="father-and-son-of-one-name-and-telephone"),
        pytest.param({**FATHER, **HOME}, {**SON, **HOME}, id="father-and-son-of-one-name-and-house"),
        pytest.param({**FATHER, **HOME, **PHONE}, {**SON, **HOME, **PHONE}, id="father-and-son-of-one-household"),
        pytest.param(
            {**FATHER, "postcode": "44126", "state": "OH"},
            {**SON, "postcode": "44126", "state": "OH"},
            id="father-and-son-of-one-postcode",
        ),
        pytest.param(
            {**FATHER, "company": "Brandt Roofing"},
            {**SON, "company": "Brandt Roofing"},
            id="father-and-son-of-one-firm",
        ),
        pytest.param(
            {"full_name": "Walter Brandt Sr.", "date_of_birth": "1951-03-14", **PHONE},
            {"full_name": "Walter Brandt Jr.", "date_of_birth": "1983-11-02", **PHONE},
            id="senior-and-junior",
        ),
        pytest.param({**OTHER_CLARA, **OFFICE}, {**JUDITH, **OFFICE}, id="colleagues-of-one-switchboard"),
        pytest.param({**CLARA, **OFFICE}, {**JUDITH, **OFFICE}, id="colleagues-of-one-family-name"),
        pytest.param({**CLARA, **OFFICE}, {**OTHER_CLARA, **OFFICE}, id="colleagues-of-one-given-name"),
        pytest.param(
            {**CLARA, "email": "sales@northwind.com"},
            {**OTHER_JUDITH, "email": "sales@northwind.com"},
            id="two-people-of-one-role-mailbox",
        ),
        pytest.param(
            {**CLARA, "email": "sales@northwind.com"},
            {**JUDITH, "email": "sales@northwind.com"},
            id="two-people-of-one-role-mailbox-and-family-name",
        ),
        pytest.param(
            {**CLARA, "email": "home@mail.com"},
            {**OTHER_JUDITH, "email": "home@mail.com"},
            id="a-couple-of-one-mailbox",
        ),
        pytest.param(
            {**FATHER, "email": "brandts@mail.com"},
            {**CLARA, "date_of_birth": "1954-08-21", "email": "brandts@mail.com"},
            id="a-couple-of-one-mailbox-and-family-name",
        ),
        pytest.param(
            {**CLARA, "first_name": "Maria", "date_of_birth": "1954-08-21", "email": "brandts@mail.com"},
            {**CLARA, "first_name": "Marta", "date_of_birth": "1988-01-09", "email": "brandts@mail.com"},
            id="mother-and-daughter-of-one-mailbox-and-alike-names",
        ),
        pytest.param({**CLARA, **HOME, **PHONE}, {**JUDITH, **HOME, **PHONE}, id="sisters-of-one-household"),
        pytest.param(
            {**CLARA, "email": "clara.brandt@northwind.com"},
            {**JUDITH, "email": "judith.brandt@northwind.com"},
            id="colleagues-with-addresses-of-their-own",
        ),
    ],
)
def test_what_a_family_or_an_office_shares_makes_nobody_one_person(
    scorer: PairScorer, left: dict[str, str], right: dict[str, str], contacts: int
) -> None:
    assert answer(scorer, fields(left), fields(right), TENANTS[contacts]) is Answer.TWO


@pytest.mark.parametrize("contacts", TENANTS)
def test_a_mailbox_of_three_and_a_lead_without_a_name_makes_nobody_one_person(
    scorer: PairScorer, contacts: int
) -> None:
    family = [FATHER, {**CLARA, "date_of_birth": "1954-08-21"}, {**JUDITH, "date_of_birth": "1988-01-09"}, {}]
    leads = [fields({**lead, "email": "brandts@mail.com"}) for lead in family]
    scored = scorer.score(leads, list(combinations(range(4), 2)), frequencies=TENANTS[contacts])
    edges = [
        Edge(
            pair.left,
            pair.right,
            pair.match_weight,
            Strength.IDENTITY if RULES.decide(leads[pair.left], leads[pair.right]) else Strength.MODEL,
        )
        for pair in scored
    ]
    found = cluster(range(4), contact_of={}, contact_sizes={}, pairs=edges, limits=limits_of(SETTINGS))
    assert len({found.group_of[place] for place in range(3)}) == 3
    # Whose the lead without a name is, somebody is asked.
    assert any(3 in (edge.left, edge.right) for edge in found.refused)


@pytest.mark.parametrize("contacts", TENANTS)
@pytest.mark.parametrize("shared", [PHONE, HOME, {**HOME, **PHONE}], ids=["telephone", "house", "both"])
def test_twins_of_one_household_are_never_merged(scorer: PairScorer, shared: dict[str, str], contacts: int) -> None:
    left, right = (fields({**twin, **shared}) for twin in TWINS)
    assert answer(scorer, left, right, TENANTS[contacts]) is not Answer.ONE


@pytest.mark.parametrize("contacts", [50, 300, 1_000, 3_000])
def test_two_of_a_common_name_are_two_also_where_few_are(scorer: PairScorer, contacts: int) -> None:
    few = Frequencies(contacts, {of: math.ceil(share * contacts) for of, share in SHARES.items()})
    left, right = fields({**JAMES, "email": "smithy77@mail.com"}), fields({**JAMES, "phone": "+1 312 555 8111"})
    assert answer(scorer, left, right, few) is Answer.TWO
    town = {**JAMES, "city": "Chicago", "state": "IL"}
    at_work = fields({**town, **OFFICE, "email": "james.smith@northwind.com"})
    dentist = fields({**town, "company": "Lakeside Dental", "phone": "+1 312 555 8111", "email": "jsmith@lakeside.com"})
    assert answer(scorer, at_work, dentist, few) is Answer.TWO


@pytest.mark.parametrize("contacts", [50_000, 1_000_000])
def test_two_of_a_common_name_in_one_city_are_two_where_many_are(scorer: PairScorer, contacts: int) -> None:
    left, right = fields({**JAMES, "city": "Chicago", "state": "IL"}), fields({**JAMES, "city": "Chicago"})
    assert answer(scorer, left, right, TENANTS[contacts]) is Answer.TWO


@pytest.mark.parametrize("contacts", TENANTS)
@pytest.mark.parametrize(
    ("left", "right"),
    [
        pytest.param(
            {**CLARA, "date_of_birth": "1990-05-06", **PHONE},
            {**OTHER_CLARA, "date_of_birth": "1990-05-06", **PHONE},
            id="she-married-and-kept-the-telephone",
        ),
        pytest.param(
            {**CLARA, "email": "clara.1990@mail.com"},
            {**OTHER_CLARA, "email": "clara.1990@mail.com"},
            id="she-married-and-kept-the-mailbox",
        ),
        pytest.param({**FATHER, **PHONE}, {**FATHER, "first_name": "W", **PHONE}, id="an-initial"),
        pytest.param(
            {"first_name": "Robert", "last_name": "Osei", **PHONE},
            {"first_name": "Bob", "last_name": "Osei", **PHONE},
            id="a-short-form",
        ),
        pytest.param(
            {**WALTER, "date_of_birth": "1951-03-14", **HOME},
            {**WALTER, "date_of_birth": "1991-03-14", **HOME},
            id="a-slip-in-the-year-of-birth",
        ),
        pytest.param(
            {**WALTER, "date_of_birth": "1951-03-14", **PHONE},
            {**WALTER, "date_of_birth": "1978-03-14", **PHONE},
            id="another-year-of-birth-and-the-same-day",
        ),
        pytest.param({"first_name": "Brandt", "last_name": "Walter", **HOME}, {**WALTER, **HOME}, id="names-exchanged"),
    ],
)
def test_one_person_stays_one(scorer: PairScorer, left: dict[str, str], right: dict[str, str], contacts: int) -> None:
    assert answer(scorer, fields(left), fields(right), TENANTS[contacts]) is Answer.ONE
