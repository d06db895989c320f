"""Why a comparison says nothing: told where it is silent, and true."""

from dataclasses import replace
from datetime import date
from itertools import combinations
from uuid import UUID

import pytest

from leads_pipeline.domain.ids import LeadId
from leads_pipeline.domain.match_keys import MatchFields
from leads_pipeline.matching.model import COMPARISONS
from leads_pipeline.matching.scoring import PairScorer
from leads_pipeline.matching.silent_comparisons import Silence, why_silent

FIRST, SECOND = LEADS = LeadId(UUID(int=1)), LeadId(UUID(int=2))
ANNA = MatchFields(
    email_key="anna.kowalczyk@northwind.com",
    phone_key="+14155552671",
    first_name_key="anna",
    last_name_key="kowalczyk",
    company_key="northwind",
    date_of_birth=date(1980, 4, 5),
    address_key="12 main",
    city_key="graz",
    postcode_key="8010",
    job_title_key="buyer",
)
PETER = replace(ANNA, first_name_key="peter")
STREET = MatchFields(first_name_key="anna", last_name_key="kowalczyk", address_key="12 main")


def silent(scorer: PairScorer, one: MatchFields, other: MatchFields) -> dict[str, Silence]:
    reached = scorer.levels([one, other], [(0, 1)])
    return {name: why_silent(name, LEADS, (one, other)) for name, levels in reached.items() if not any(levels.values())}


def test_who_lacks_a_value_is_named(scorer: PairScorer) -> None:
    found = silent(scorer, ANNA, MatchFields(first_name_key="anna"))
    assert found.keys() == {item.name for item in COMPARISONS} - {"first_name"}
    assert {item.lacking for item in found.values()} == {(SECOND,)}
    nothing = silent(scorer, MatchFields(), MatchFields())
    assert nothing.keys() == {item.name for item in COMPARISONS}
    assert {item.lacking for item in nothing.values()} == {(FIRST, SECOND)}
    office = replace(ANNA, email_key="info@northwind.com", role_mailbox=True)
    assert silent(scorer, office, ANNA)["mailbox"].lacking == (FIRST,)


@pytest.mark.parametrize(
    ("name", "one", "other", "said"),
    [
        ("last_name", ANNA, ANNA, "the whole name is one clue"),
        ("email", ANNA, ANNA, "at one domain"),
        ("mailbox", ANNA, replace(ANNA, email_key="anna@mailhaven.example"), "at two domains"),
        ("mailbox", ANNA, PETER, "a family's or a company's"),
        ("phone", ANNA, PETER, "a family's or a company's"),
        ("company", ANNA, ANNA, "one phone is one place of work"),
        (
            "company", ANNA, replace(ANNA, phone_key=None, date_of_birth=date(1951, 11, 28)),
            "a family's or a company's",
        ),
        ("place", ANNA, ANNA, "one phone is one place"),
        ("place", ANNA, replace(ANNA, phone_key="+14155550000"), "one company is one place"),
        (
            "place", ANNA,
            replace(PETER, phone_key=None, company_key="harbor", email_key="peter@harbor.com"),
            "a family's or a company's",
        ),
        (
            "place",
            replace(ANNA, city_key=None),
            replace(ANNA, postcode_key=None, address_key=None, phone_key=None, company_key=None, email_key=None),
            "one gives this, the other that",
        ),
        ("place", STREET, replace(STREET, address_key="14 main"), "number and street"),
        ("place", *[replace(STREET, address_key="main")] * 2, "number and street"),
        ("place", STREET, replace(STREET, address_key="14 main", city_key="graz"), "number and street"),
        ("place", STREET, replace(STREET, first_name_key="peter"), "a family's or a company's"),
    ],
)  # fmt: skip
def test_what_else_keeps_it_silent_is_told(
    scorer: PairScorer, name: str, one: MatchFields, other: MatchFields, said: str
) -> None:
    found = silent(scorer, one, other)[name]
    assert found.lacking == ()
    assert said in found.why


def test_an_address_alone_is_a_place(scorer: PairScorer) -> None:
    assert "place" not in silent(scorer, STREET, STREET)
    nowhere = silent(scorer, STREET, MatchFields(first_name_key="anna"))["place"]
    assert (nowhere.needed, nowhere.lacking) == ("address, postcode or city", (SECOND,))


def test_no_value_is_told(scorer: PairScorer) -> None:
    for one, other in combinations((ANNA, PETER, MatchFields(email_key="peter@harbor.com", city_key="graz")), 2):
        for item in silent(scorer, one, other).values():
            assert not [
                word for word in ("anna", "peter", "northwind", "harbor", "graz", "12 main") if word in item.why
            ]
