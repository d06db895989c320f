"""Phone numbers: E.164 or a reason."""

import subprocess
import sys

import phonenumbers
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leads_pipeline.domain.phones import Phone, PhoneFault, parse_phone
from leads_pipeline_tests.domain.corpora import phone_lines


@pytest.mark.parametrize(
    ("raw", "country", "number"),
    [
        ("(415) 555-2671", "US", "+14155552671"),
        ("1-415-555-2671", "US", "+14155552671"),
        ("+44 20 7946 0018", "US", "+442079460018"),
        ("0044 20 7946 0018", "US", "+442079460018"),
        ("020 7946 0018", "GB", "+442079460018"),
        ("06 12 34 56 78", "FR", "+33612345678"),
        ("02 1234 5678", "IT", "+390212345678"),
        ("\u202a+1 415 555 2671\u202c", "GB", "+14155552671"),
    ],
)
def test_a_number_is_read_in_its_country(raw: str, country: str, number: str) -> None:
    phone = parse_phone(raw, country=country)
    assert isinstance(phone, Phone)
    assert (phone.number, phone.key, phone.flags) == (number, number, ())


@pytest.mark.parametrize(
    ("raw", "rule", "value_class"),
    [
        ("call me", "phone_invalid", "no_digits"),
        ("12345", "phone_invalid", "not_assigned"),
        ("+999 123 4567 890", "phone_invalid", "not_assigned"),
        ("4.15555E+09", "phone_invalid", "scientific_notation"),
        ("4,15555E+9", "phone_invalid", "scientific_notation"),
        ("n/a", "phone_placeholder", "placeholder"),
        ("-", "phone_placeholder", "placeholder"),
        ("5555555555", "phone_placeholder", "placeholder"),
        ("+1 555 555 5555", "phone_placeholder", "placeholder"),
        ("000-000-0000", "phone_placeholder", "placeholder"),
        ("1234567890", "phone_placeholder", "placeholder"),
    ],
)
def test_what_is_no_number_is_refused_with_its_class(raw: str, rule: str, value_class: str) -> None:
    assert parse_phone(raw, country="US") == PhoneFault(rule, value_class)


def test_a_number_from_the_home_market_is_found_when_the_leads_country_cannot_read_it() -> None:
    phone = parse_phone("(415) 555-2671", country="AT", fallback="US")
    assert isinstance(phone, Phone)
    assert (phone.number, phone.flags) == ("+14155552671", ("phone_country_assumed",))


def test_an_extension_is_dropped_and_said_so() -> None:
    phone = parse_phone("415-555-2671 ext. 12", country="US")
    assert isinstance(phone, Phone)
    assert (phone.number, phone.flags) == ("+14155552671", ("phone_extension_dropped",))


FUZZED_CORPUS = st.builds(
    lambda raw, at, extra: raw[: at % (len(raw) + 1)] + extra + raw[at % (len(raw) + 1) :],
    st.sampled_from([line.raw for line in phone_lines()]),
    st.integers(0, 40),
    st.sampled_from(["", "0", "5", " ", "-", "(", "x", "+", "\u200b", "\u0000", "ext. 3", "/"]),
)


@settings(max_examples=500, deadline=None)
@given(
    st.one_of(st.text(max_size=40), st.text(alphabet="0123456789+-() .x", max_size=25), FUZZED_CORPUS),
    st.sampled_from(["US", "GB", "DE", "IT", "BR", "NZ"]),
)
def test_any_text_gets_an_answer_and_an_accepted_number_is_valid_and_reads_as_itself(raw: str, country: str) -> None:
    phone = parse_phone(raw, country=country, fallback="GB")
    if isinstance(phone, Phone):
        assert phonenumbers.is_valid_number(phonenumbers.parse(phone.number))
        again = parse_phone(phone.number, country="FR")
        assert again == phone._replace(flags=())


def test_the_geocoder_stays_out() -> None:
    code = "import sys, leads_pipeline.domain.validation; print('phonenumbers.geocoder' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
