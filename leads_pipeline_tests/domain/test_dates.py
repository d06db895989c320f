"""Dates of birth."""

from datetime import date, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leads_pipeline.domain.dates import BirthDate, DateFault, parse_birth_date

TODAY = date(2026, 1, 15)


def read(raw: str, country: str = "US") -> BirthDate | DateFault:
    return parse_birth_date(raw, country=country, today=TODAY)


@pytest.mark.parametrize(
    "raw",
    [
        "1980-02-21",
        "1980/2/21",
        "19800221",
        "1980-02-21T00:00:00Z",
        "2/21/1980",
        "21.02.1980",
        "21.2.1980",
        "21/02/1980",
        "21 Feb 1980",
        "Feb 21, 1980",
        "21st February 1980",
        "21-Feb-1980",
        "February 21 1980",
        "21. Februar 1980",
        "21 février 1980",
        "21 febrero 1980",
    ],
)
def test_a_date_is_read_however_it_is_written(raw: str) -> None:
    assert read(raw) == BirthDate(date(1980, 2, 21))


def test_the_country_decides_between_day_and_month_and_the_doubt_is_flagged() -> None:
    assert read("3/4/1980", "US") == BirthDate(date(1980, 3, 4), ("date_ambiguous",))
    assert read("3/4/1980", "GB") == BirthDate(date(1980, 4, 3), ("date_ambiguous",))
    assert read("4/4/1980", "GB") == BirthDate(date(1980, 4, 4))
    assert read("3.4.1980", "US") == BirthDate(date(1980, 4, 3))  # nobody writes the month first with dots


def test_two_digits_of_a_year_never_make_a_date_to_come() -> None:
    assert read("21/2/80") == BirthDate(date(1980, 2, 21), ("date_century_assumed",))
    assert read("21-Feb-80") == BirthDate(date(1980, 2, 21), ("date_century_assumed",))
    assert read("21 feb. 05") == BirthDate(date(2005, 2, 21), ("date_century_assumed",))
    assert read("21-Tag-80") == DateFault("date_invalid", "unknown_format")
    assert read("21/2/05") == BirthDate(date(2005, 2, 21), ("date_century_assumed",))
    assert read("21/2/27") == BirthDate(date(1927, 2, 21), ("date_century_assumed",))


@pytest.mark.parametrize(
    ("raw", "value_class"),
    [
        ("yesterday", "unknown_format"),
        ("Feb 1980", "unknown_format"),
        ("1819-12-55", "impossible_date"),
        ("1861-88-12", "impossible_date"),
        ("29 Feb 1981", "impossible_date"),
        ("0901-01-01", "impossible_date"),
        ("2026-01-16", "future_date"),
    ],
)
def test_what_is_no_date_is_refused_with_its_class(raw: str, value_class: str) -> None:
    assert read(raw) == DateFault("date_invalid", value_class)


@pytest.mark.parametrize("raw", ["1900-01-01", "01/01/1900", "0000-00-00", "n/a", "-", "9999-12-31", "1111-11-11"])
def test_a_placeholder_is_no_date(raw: str) -> None:
    assert read(raw) == DateFault("date_placeholder", "placeholder")


@pytest.mark.parametrize("raw", ["1630-08-01", "2026-01-15", "2020-05-05"])
def test_an_unlikely_age_is_kept_and_flagged(raw: str) -> None:
    assert read(raw) == BirthDate(date.fromisoformat(raw), ("date_unlikely",))


def test_the_thirteenth_birthday_is_counted_to_the_day() -> None:
    assert read("2013-01-15") == BirthDate(date(2013, 1, 15))
    assert read("2013-01-16") == BirthDate(date(2013, 1, 16), ("date_unlikely",))


@settings(max_examples=200, deadline=None)
@given(st.dates(min_value=date(1906, 1, 2), max_value=TODAY - timedelta(days=14 * 366)))
def test_every_day_comes_back_from_every_unambiguous_form(day: date) -> None:
    forms = [
        day.isoformat(),
        f"{day:%Y%m%d}",
        f"{day:%d.%m.%Y}",
        f"{day.day} {day:%B %Y}",
        f"{day:%B} {day.day}, {day.year}",
    ]
    assert {read(form) for form in forms} == {BirthDate(day)}
    assert read(f"{day.month}/{day.day}/{day.year}", "US") in (BirthDate(day), BirthDate(day, ("date_ambiguous",)))


@settings(max_examples=200, deadline=None)
@given(st.one_of(st.text(max_size=30), st.text(alphabet="0123456789-/. ", max_size=12)))
def test_any_text_gets_an_answer(raw: str) -> None:
    assert isinstance(read(raw), BirthDate | DateFault)
