"""Addresses, postcodes, countries."""

import phonenumbers
import pytest

from leads_pipeline.domain import places


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ("at", "AT"),
        ("AUT", "AT"),
        ("Österreich", "AT"),
        ("The Netherlands", "NL"),
        ("U.S.A.", "US"),
        ("United States of America", "US"),
        ("England", "GB"),
        ("Trinidad & Tobago", "TT"),
        ("St. Lucia", "LC"),
        ("Côte d’Ivoire", "CI"),
        ("NA", "NA"),
        ("Georgia", "GE"),
        ("Atlantis", None),
        ("", None),
        ("12", None),
    ],
)
def test_a_country_is_known_by_its_codes_and_names(value: str, code: str | None) -> None:
    assert places.country_code(value) == code


def test_every_country_with_a_phone_plan_is_known() -> None:
    islands_without_a_code_of_their_own = {"AC", "TA"}
    known = {code for code in phonenumbers.SUPPORTED_REGIONS if places.country_code(code) == code}
    assert phonenumbers.SUPPORTED_REGIONS - known == islands_without_a_code_of_their_own


def test_no_answer_is_not_namibia() -> None:
    assert places.is_placeholder_country("n/a")
    assert not places.is_placeholder_country("NA")


@pytest.mark.parametrize(
    ("value", "country", "expected"),
    [
        ("02134", "US", ("02134", "02134", False)),
        ("2134", "US", ("02134", "02134", True)),
        ("1010", "AT", ("1010", "1010", False)),
        ("1010", None, ("1010", "1010", False)),
        ("02134-1234", None, ("02134-1234", "02134", False)),
        ("tq13 8df", None, ("TQ13 8DF", "tq138df", False)),
        ("K1A 0B1", "CA", ("K1A 0B1", "k1a0b1", False)),
        ("00000", "US", None),
        ("London", None, None),
        ("1", None, None),
        ("123456789012345", None, None),
    ],
)
def test_a_postcode_is_shown_and_compared(
    value: str, country: str | None, expected: tuple[str, str, bool] | None
) -> None:
    assert places.parse_postcode(value, country=country) == expected


@pytest.mark.parametrize(
    "spellings",
    [
        ["123 Main Street", "123 main st.", "123  MAIN STR"],
        ["Hauptstraße 5", "Hauptstrasse 5", "Hauptstr. 5"],
        ["12 North Oak Avenue, Apartment 4", "12 N. Oak Ave Apt 4"],
        ["12 Oak Ave #4", "12 Oak Avenue No. 4"],
    ],
)
def test_one_address_in_several_spellings_has_one_key(spellings: list[str]) -> None:
    assert len({places.address_key(spelling) for spelling in spellings}) == 1


def test_cities_are_compared_by_their_letters() -> None:
    assert places.city_key("Saint Louis") == places.city_key("St. Louis") == "stlouis"
    assert places.city_key("New York City") == places.city_key("NEW YORK")
    assert places.city_key("City") == "city"
    assert places.city_key("Zürich") == "zurich"


def test_states_have_their_code_where_the_country_has_states() -> None:
    assert places.state_name("massachusetts", country="US") == "MA"
    assert places.state_name("ma", country="US") == "MA"
    assert places.state_name("Ontario", country="CA") == "ON"
    assert places.state_name("Hessen", country="US") == "Hessen"
    assert places.state_name("Bayern", country="DE") == "Bayern"
