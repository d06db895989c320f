"""The rules that need no probability."""

from dataclasses import dataclass, replace
from datetime import date
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leads_pipeline.config import MatchingSettings, MatchRuleSettings
from leads_pipeline.domain.match_keys import MatchFields
from leads_pipeline.domain.match_rules import (
    RULE_FIELDS,
    RULE_VETOES,
    RuleOutcome,
    Rules,
    compile_rules,
    family_names_agree,
    given_names_agree,
)

PHONE = "+14155552671"


@dataclass(frozen=True)
class MatchRule:
    """A rule as the configuration describes it, also one that the configuration would refuse."""

    name: str
    when: tuple[str, ...]
    veto: tuple[str, ...] = ()
    outranks_votes: bool = False


ANNA = MatchFields(phone_key=PHONE, first_name_key="anna", last_name_key="kowalczyk")
USUAL = compile_rules(MatchingSettings().rules)


def named(first: str | None, last: str | None, **others: object) -> MatchFields:
    return MatchFields(first_name_key=first, last_name_key=last, **others)  # type: ignore[arg-type]


def rules_of(*when: str, veto: tuple[str, ...] = ()) -> Rules:
    return compile_rules([MatchRule("it", when, veto)])


# The usual rules


def test_one_address_is_one_contact_if_a_name_agrees_or_none_is_known() -> None:
    anna = named("anna", "smith", email_key="a@firm.com")

    assert USUAL.decide(anna, replace(anna, last_name_key="jones")) == "same_email"  # married
    assert USUAL.decide(anna, replace(anna, first_name_key="peter")) == "same_email"
    assert USUAL.decide(anna, replace(anna, first_name_key=None, last_name_key="quist")) == "same_email"
    assert USUAL.decide(anna, MatchFields(email_key="a@firm.com")) == "same_email"
    assert USUAL.outranks_votes("same_email")


def test_one_address_does_not_join_two_people_of_other_names() -> None:
    anna, bert = named("anna", "smith", email_key="a@firm.com"), named("bert", "quist", email_key="a@firm.com")

    assert USUAL.decide(anna, bert) is None
    assert USUAL.explain(anna, bert) == [RuleOutcome("same_email", ("names_disagree",))]


def test_a_role_mailbox_is_nobodys_own() -> None:
    left = named("anna", "smith", email_key="info@firm.com", role_mailbox=True)

    assert USUAL.decide(left, left) is None
    assert USUAL.decide(left, replace(left, role_mailbox=False)) is None


MOBILE = named("anna", "kowalczyk", phone_key="+436641234567", phone_kind="mobile")


@pytest.mark.parametrize(
    "other",
    [
        MOBILE,
        replace(MOBILE, first_name_key=None),
        replace(MOBILE, first_name_key="a"),
        replace(MOBILE, first_name_key="kowalczyk", last_name_key="anna"),
        replace(MOBILE, phone_kind=None),  # a record from before the kind was kept
    ],
)
def test_one_mobile_and_one_surname_are_one_person(other: MatchFields) -> None:
    assert USUAL.decide(MOBILE, other) == USUAL.decide(other, MOBILE) == "same_mobile_and_surname"
    assert not USUAL.outranks_votes("same_mobile_and_surname")


@pytest.mark.parametrize(
    "other",
    [
        replace(MOBILE, first_name_key="peter"),  # lent to one's husband
        replace(MOBILE, last_name_key="smith"),
        replace(MOBILE, last_name_key=None),
        replace(MOBILE, date_of_birth=date(1950, 11, 30)),  # a mother of the same name
        replace(MOBILE, phone_key="+436641234568"),
    ],
)
def test_one_mobile_is_not_enough(other: MatchFields) -> None:
    assert USUAL.decide(replace(MOBILE, date_of_birth=date(1980, 4, 5)), other) is None


def test_a_line_that_may_be_a_households_needs_the_whole_name() -> None:
    line = replace(MOBILE, phone_kind=None)

    assert USUAL.decide(line, line) == "same_phone_and_name"
    assert USUAL.decide(line, replace(line, first_name_key=None)) is None
    assert USUAL.decide(line, replace(line, first_name_key="peter")) is None


def test_one_id_at_one_source_is_one_person_unless_both_names_disagree() -> None:
    left = named("anna", "smith", external_id_key="crm:7", email_key="a@x.example")

    assert USUAL.decide(left, replace(left, email_key="b@y.example")) == "same_external_id"
    assert USUAL.decide(left, named("anna", "smith", external_id_key="shop:7")) is None
    assert USUAL.decide(left, named("bert", "quist", external_id_key="crm:7")) is None


# What may stand in leads.yaml


@pytest.mark.parametrize(
    ("veto", "left", "right"),
    [
        ("names_disagree", named("anna", "smith"), named("bert", "quist")),
        ("first_names_disagree", named("anna", None), named("bert", None)),
        ("last_names_disagree", named(None, "smith"), named(None, "quist")),
        (
            "dates_of_birth_disagree",
            MatchFields(date_of_birth=date(1980, 4, 5)),
            MatchFields(date_of_birth=date(1950, 11, 30)),
        ),
        (
            "relatives",
            replace(named("anna", "smith"), date_of_birth=date(1980, 4, 5)),
            replace(named("hannes", "smith"), date_of_birth=date(1977, 11, 30)),
        ),
        ("companies_disagree", MatchFields(company_key="acme"), MatchFields(company_key="globex")),
        ("external_ids_disagree", MatchFields(external_id_key="crm:7"), MatchFields(external_id_key="crm:8")),
        ("role_mailbox", MatchFields(role_mailbox=True), MatchFields()),
    ],
)
def test_each_veto_holds_a_rule_back(veto: str, left: MatchFields, right: MatchFields) -> None:
    rules = rules_of("phone", veto=(veto,))
    left, right = replace(left, phone_key=PHONE), replace(right, phone_key=PHONE)

    assert rules.decide(left, right) is rules.decide(right, left) is None
    assert rules.decide(left, left if veto != "role_mailbox" else MatchFields(phone_key=PHONE)) == (
        "it" if veto != "role_mailbox" else None
    )
    assert rules.decide(MatchFields(phone_key=PHONE), right) == "it"  # what is not known speaks against nothing


def test_ids_of_two_sources_do_not_disagree() -> None:
    rules = rules_of("phone", veto=("external_ids_disagree",))

    left = MatchFields(phone_key=PHONE, external_id_key="crm:7")
    assert rules.decide(left, MatchFields(phone_key=PHONE, external_id_key="shop:8")) == "it"


@pytest.mark.parametrize(
    ("given", "other", "born"),
    [
        ("robert", "bob", date(1951, 11, 30)),
        ("r", "robert", date(1951, 11, 30)),
        ("smith", "robert", date(1951, 11, 30)),  # exchanged with the family name
        ("anna", "hannes", date(1980, 5, 4)),
    ],
)
def test_one_given_name_or_one_date_of_birth_with_a_slip_makes_no_relatives(given: str, other: str, born: date) -> None:
    left = replace(named(given, "robert" if given == "smith" else "smith"), phone_key=PHONE)
    right = replace(named(other, "smith"), phone_key=PHONE, date_of_birth=born)

    assert rules_of("phone", veto=("relatives",)).decide(replace(left, date_of_birth=date(1980, 4, 5)), right) == "it"


WHOLE = MatchFields(
    email_key="anna.smith@firm.example",
    phone_key=PHONE,
    first_name_key="anna",
    last_name_key="smith",
    company_key="firm",
    date_of_birth=date(1980, 4, 5),
    address_key="1mainst",
    city_key="vienna",
    postcode_key="1010",
    state_key="w",
    job_title_key="buyer",
    external_id_key="crm:7",
    phone_kind="mobile",
    email_verified=True,
)
# A field of a rule → a column without which it does not agree, and another value of it.
ELSE: dict[str, tuple[str, object]] = {
    "email": ("email_key", "b@x.example"),
    "own_email": ("role_mailbox", True),
    "verified_email": ("email_verified", False),
    "phone": ("phone_key", "+14155550000"),
    "mobile": ("phone_kind", "other"),
    "external_id": ("external_id_key", "crm:8"),
    "first_name": ("first_name_key", "peter"),
    "last_name": ("last_name_key", "smithers"),
    "date_of_birth": ("date_of_birth", date(1980, 4, 6)),
    "company": ("company_key", "firma"),
    "job_title": ("job_title_key", "seller"),
    "address": ("address_key", "2mainst"),
    "postcode": ("postcode_key", "1020"),
    "city": ("city_key", "graz"),
    "state": ("state_key", "st"),
}


# Two names alone are refused by the configuration: nothing in them must be equal.
PAIRS_OF_FIELDS = [pair for pair in combinations(RULE_FIELDS, 2) if set(pair) != {"first_name", "last_name"}]


@pytest.mark.parametrize(("one", "other"), PAIRS_OF_FIELDS)
def test_a_rule_asks_for_every_field_that_it_names(one: str, other: str) -> None:
    rules = rules_of(one, other)

    assert rules.decide(WHOLE, WHOLE) == "it"
    for name in (one, other):
        column, value = ELSE[name]
        changed = replace(WHOLE, **{column: value})  # type: ignore[arg-type]
        assert rules.decide(changed, changed if isinstance(value, bool) or name == "mobile" else WHOLE) is None


def test_what_nobody_knows_agrees_with_nothing() -> None:
    for field in set(RULE_FIELDS) - {"first_name", "last_name"}:
        assert rules_of(field).decide(MatchFields(), MatchFields()) is None


def test_the_first_rule_that_holds_gives_its_name() -> None:
    rules = compile_rules([MatchRule("a", ("phone",), ("role_mailbox",)), MatchRule("b", ("phone",))])

    assert rules.decide(ANNA, ANNA) == "a"
    assert rules.decide(replace(ANNA, role_mailbox=True), ANNA) == "b"


def test_without_rules_the_model_decides_everything() -> None:
    assert compile_rules(()).decide(WHOLE, WHOLE) is None


def test_every_rule_that_the_configuration_takes_can_be_compiled() -> None:
    for fields in combinations(RULE_FIELDS, 3):
        try:
            rule = MatchRuleSettings.model_validate({"name": "it", "when": fields, "veto": RULE_VETOES[:-1]})
        except ValueError:
            continue
        assert compile_rules([rule]).decide(WHOLE, WHOLE) == "it"


names = st.text("abcdefghijklmnopqrstuvwxyz", min_size=1, max_size=9)
people = st.builds(
    MatchFields,
    email_key=st.sampled_from([None, "a@x.example", "b@x.example"]),
    phone_key=st.sampled_from([None, PHONE]),
    first_name_key=st.none() | st.sampled_from(["anna", "a", "bob", "robert", "smith"]) | names,
    last_name_key=st.none() | st.sampled_from(["smith", "smyth", "anna", "garcialopez", "lopez"]) | names,
    date_of_birth=st.sampled_from([None, date(1980, 4, 5), date(1980, 5, 4), date(1950, 11, 30)]),
    external_id_key=st.sampled_from([None, "crm:7", "crm:8", "shop:7"]),
    phone_kind=st.sampled_from([None, "mobile", "other"]),
    email_verified=st.booleans(),
    role_mailbox=st.booleans(),
)
ALL_VETOES = compile_rules([MatchRule("it", ("phone",), (veto,)) for veto in RULE_VETOES])


@given(people, people)
def test_the_order_within_a_pair_does_not_matter(left: MatchFields, right: MatchFields) -> None:
    assert USUAL.decide(left, right) == USUAL.decide(right, left)
    assert ALL_VETOES.explain(left, right) == ALL_VETOES.explain(right, left)


@given(people, people)
def test_what_is_explained_is_what_is_decided(left: MatchFields, right: MatchFields) -> None:
    joining = [outcome.rule for outcome in USUAL.explain(left, right) if not outcome.vetoes]

    assert USUAL.decide(left, right) == (joining[0] if joining else None)


# Names


@pytest.mark.parametrize(
    ("left", "right", "agree"),
    [
        ("bob", "robert", True),
        ("jon", "john", True),
        ("j", "john", True),
        ("j", "peter", False),
        ("annamaria", "maria", True),
        ("yuri", "iouri", True),
        ("ann", "susann", False),
        ("anna", "peter", False),
    ],
)
def test_given_names_agree_if_one_may_be_the_other(left: str, right: str, agree: bool) -> None:
    assert given_names_agree(left, right) is given_names_agree(right, left) is agree


@pytest.mark.parametrize(
    ("left", "right", "agree"),
    [
        ("smith", "smyth", True),
        ("garcialopez", "lopez", True),
        ("s", "smith", True),
        ("shevchenko", "schewtschenko", True),  # of one name, in two romanisations
        ("mueller", "muller", True),
        ("smith", "quist", False),
        ("li", "lindberg", False),
    ],
)
def test_family_names_agree_if_one_may_be_the_other(left: str, right: str, agree: bool) -> None:
    assert family_names_agree(left, right) is family_names_agree(right, left) is agree


@pytest.mark.parametrize(
    ("left", "right", "disagree"),
    [
        (("anna", "smith"), ("bert", "quist"), True),
        (("anna", "smith"), ("smith", "anna"), False),  # exchanged
        (("anna", "smith"), ("smyth", "a"), False),  # exchanged, with a slip and an initial
        (("annamaria", "smith"), ("jones", "maria"), True),  # half exchanged is another person
        (("bob", "smith"), ("robert", "jones"), False),
        (("anna", "smith"), ("bert", None), False),
    ],
)
def test_both_names_must_disagree(left: tuple[str, str | None], right: tuple[str, str | None], disagree: bool) -> None:
    one, other = named(*left, phone_key=PHONE), named(*right, phone_key=PHONE)

    assert (rules_of("phone", veto=("names_disagree",)).decide(one, other) is None) is disagree
