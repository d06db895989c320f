"""Reading numbers with the accelerator is reading them with the reference, only faster."""

import random
import sys
from collections.abc import Iterator

import phonenumbers
import pytest
import rphonenumbers
from hypothesis import given, settings
from hypothesis import strategies as st
from phonenumbers import PhoneMetadata, PhoneNumberFormat, PhoneNumberType
from phonenumbers.timezone import time_zones_for_number

from leads_pipeline.domain import phone_engines
from leads_pipeline.domain.data import phone_metadata
from leads_pipeline.domain.phone_engines import ENGINE, PHONE_TYPES, REFERENCE, accelerated, described

FAST = accelerated()
REGIONS = sorted(phonenumbers.SUPPORTED_REGIONS)
TYPES = [value for value in PhoneNumberType.values() if value != PhoneNumberType.UNKNOWN]


def differences(numbers: Iterator[tuple[str, str]]) -> tuple[int, list[tuple[str, str]]]:
    """How many were read, and those that the two read differently."""
    assert FAST is not None
    found, count = [], 0
    for text, country in numbers:
        count += 1
        if FAST.read(text, country) != REFERENCE.read(text, country):
            found.append((text, country))
    return count, found


def examples() -> Iterator[tuple[str, str]]:
    """Every region's example of every type, written as people write, right and wrong, dialled at home and elsewhere."""
    rng = random.Random(4)
    for region in REGIONS:
        for type_ in TYPES:
            number = phonenumbers.example_number_for_type(region, type_)
            if number is None:
                continue
            e164 = phonenumbers.format_number(number, PhoneNumberFormat.E164)
            national = phonenumbers.format_number(number, PhoneNumberFormat.NATIONAL)
            place = rng.randrange(4, len(e164))
            other = rng.choice(REGIONS)
            yield from (
                (e164, region),
                (e164, other),
                (national, region),
                (national, other),
                (e164.removeprefix("+"), region),
                ("00" + e164[1:], region),
                (phonenumbers.format_number(number, PhoneNumberFormat.INTERNATIONAL), other),
                (phonenumbers.format_out_of_country_calling_number(number, other), other),
                (e164[:-1], region),
                (e164 + "0", region),
                (e164[:place] + rng.choice("0123456789") + e164[place + 1 :], region),
                (national.replace(" ", "-"), region),
                (f"{national} ext. 12", region),
                (f"tel:{e164}", region),
                (f"({national})", region),
            )
        if (invalid := phonenumbers.invalid_example_number(region)) is not None:
            yield phonenumbers.format_number(invalid, PhoneNumberFormat.E164), region


def prefixes(*, digits: int, codes: frozenset[int] | None = None) -> Iterator[tuple[str, str]]:
    """A number of every country, of every length that it has, for every beginning of so many digits."""
    rng = random.Random(5)
    for code, regions in sorted(phonenumbers.COUNTRY_CODE_TO_REGION_CODE.items()):
        if codes is not None and code not in codes:
            continue
        plans = [PhoneMetadata.metadata_for_region_or_calling_code(code, region) for region in regions]
        lengths = {length for plan in plans for length in plan.general_desc.possible_length if length > digits}
        for length in sorted(lengths):
            for prefix in range(10**digits):
                rest = rng.randrange(10 ** (length - digits))
                yield f"+{code}{prefix:0{digits}}{rest:0{length - digits}}", "US"


def test_the_locked_versions_were_compared_so_that_the_accelerator_is_in_use() -> None:
    """If this fails after an update: scripts/compare_phone_metadata.py says what to add to phone_metadata.py."""
    assert (rphonenumbers.__version__, phonenumbers.__version__) in phone_metadata.COMPARED
    assert FAST is not None
    assert ENGINE.name == FAST.name


def test_every_region_s_numbers_are_read_alike() -> None:
    count, found = differences(examples())

    assert count > 15_000
    assert found == []


def test_numbers_of_every_beginning_are_read_alike() -> None:
    count, found = differences(prefixes(digits=1))

    assert count > 5_000
    assert found == []


@pytest.mark.slow
def test_numbers_of_every_beginning_of_three_digits_are_read_alike() -> None:
    count, found = differences(prefixes(digits=3))

    assert count > 500_000
    assert found == []


@settings(max_examples=500, deadline=None)
@given(
    st.one_of(
        st.text(max_size=30),
        st.text(alphabet="0123456789+-() ./x#", max_size=25),
        st.from_regex(r"\+?[0-9]{1,3}[ -]?\(?[0-9]{1,4}\)?[0-9 -]{3,10}", fullmatch=True),
    ),
    st.sampled_from([*REGIONS, "ZZ", "us", ""]),
)
def test_any_text_is_read_alike_in_any_country(text: str, country: str) -> None:
    assert FAST is not None
    assert FAST.read(text, country) == REFERENCE.read(text, country)


def test_a_country_whose_plan_differs_is_read_by_the_reference() -> None:
    """The numbers on which the two libraries disagree are the reason for the list of countries."""
    assert FAST is not None
    differing = phone_metadata.COMPARED[rphonenumbers.__version__, phonenumbers.__version__]
    disagreed = 0
    for text, country in prefixes(digits=2, codes=differing):
        own = phone_engines._read(rphonenumbers, rphonenumbers.parse(text, country))
        disagreed += own != REFERENCE.read(text, country)
        assert FAST.read(text, country) == REFERENCE.read(text, country)
    assert disagreed > 0


def test_what_the_reference_calls_valid_is_taken_with_its_type_region_and_one_time_zone() -> None:
    several = 0
    for text, country in examples():
        try:
            number = phonenumbers.parse(text, country)
        except phonenumbers.NumberParseException:
            assert REFERENCE.read(text, country) is None
            continue
        found = REFERENCE.read(text, country)
        assert (found is not None) == phonenumbers.is_valid_number(number)
        if found is None:
            continue
        zones = time_zones_for_number(number)
        several += len(zones) > 1
        assert found.time_zone == (zones[0] if len(zones) == 1 and zones[0] != "Etc/Unknown" else None)
        assert found.type in PHONE_TYPES
        assert found.region == phonenumbers.region_code_for_number(number)
    assert several > 0


def test_a_pair_of_versions_that_was_never_compared_is_not_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(phone_engines, "COMPARED", {})

    assert accelerated() is None
    assert described(REFERENCE) == (
        f"phonenumbers {phonenumbers.__version__} (rphonenumbers {rphonenumbers.__version__} is installed, "
        "but its numbering plans were not compared with these)"
    )


def test_without_the_accelerator_the_reference_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rphonenumbers", None)

    assert accelerated() is None
    assert described(REFERENCE) == f"phonenumbers {phonenumbers.__version__}"
