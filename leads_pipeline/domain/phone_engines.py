"""How a phone number is read: by ``phonenumbers``, the reference, or by the faster ``rphonenumbers`` where both agree.

``rphonenumbers`` (the extra ``accelerated``) is young, and its numbering plans are of another day. It is asked only for
plain numbers of countries whose plans are known to be the same, and believed only when it says that a number is valid:
all else, and every refusal, is the reference's. ``ENGINE`` is the one in use. Never import ``phonenumbers.geocoder``
here: it costs seconds and 200 MB.
"""

import re
from importlib import import_module
from typing import Any, NamedTuple, Protocol

import phonenumbers
from phonenumbers import NumberParseException, PhoneNumberFormat, PhoneNumberType
from phonenumbers.re_util import enable_pattern_cache
from phonenumbers.tzdata import TIMEZONE_DATA

from leads_pipeline.domain.data.phone_metadata import COMPARED

# The patterns of the numbering plans are a few thousand; the cache of ``re`` has room for 512.
enable_pattern_cache()

_TYPES: dict[int, str] = {
    getattr(PhoneNumberType, name): name.lower()
    for name in (
        "FIXED_LINE",
        "MOBILE",
        "FIXED_LINE_OR_MOBILE",
        "TOLL_FREE",
        "PREMIUM_RATE",
        "SHARED_COST",
        "VOIP",
        "PERSONAL_NUMBER",
        "PAGER",
        "UAN",
        "VOICEMAIL",
    )
}
PHONE_TYPES = frozenset(_TYPES.values())
# Digits and what is put between them. Letters, extensions and other scripts' digits are for the reference.
_PLAIN = re.compile(r"\+?[0-9 ().\-/]{5,25}", re.ASCII)
# How many digits to look up of a number that starts like this; most time zones are told by the area code.
_ZONE_DIGITS: dict[str, int] = {}
for _prefix in TIMEZONE_DATA:
    _ZONE_DIGITS[_prefix[:2]] = max(len(_prefix), _ZONE_DIGITS.get(_prefix[:2], 1))
_NOBODYS_REGION = "001"  # satellite and other numbers that belong to no country


class ReadNumber(NamedTuple):
    """A number that its country's plan has a use for."""

    e164: str
    national: str
    region: str | None  # ISO 3166 alpha-2; None where the number belongs to no country
    type: str  # one of PHONE_TYPES
    time_zone: str | None  # IANA; None where the number has several
    has_extension: bool


class PhoneEngine(Protocol):
    """Reads numbers. ``name`` says which library and version does it."""

    name: str

    def read(self, text: str, country: str) -> ReadNumber | None:
        """The number that ``text`` means when dialled in ``country`` (ISO 3166), or ``None`` if it is no valid one."""


class _Reference:
    """``phonenumbers``, the port of libphonenumber to Python."""

    name = f"phonenumbers {phonenumbers.__version__}"

    def read(self, text: str, country: str) -> ReadNumber | None:
        try:
            number = phonenumbers.parse(text, country)
        except NumberParseException:
            return None
        return _read(phonenumbers, number)


class _Accelerated:
    """``rphonenumbers``, the port to Rust, with the reference behind it."""

    def __init__(self, library: Any, *, differing: frozenset[int]) -> None:
        self.name = f"rphonenumbers {library.__version__} before {REFERENCE.name}"
        self._library = library
        self._differing = differing
        self._same = frozenset(
            region
            for code, regions in phonenumbers.COUNTRY_CODE_TO_REGION_CODE.items()
            if code not in differing
            for region in regions
        )

    def read(self, text: str, country: str) -> ReadNumber | None:
        if country in self._same and _PLAIN.fullmatch(text) is not None:
            try:
                number = self._library.parse(text, country)
            except self._library.NumberParseException:
                return REFERENCE.read(text, country)
            if number.country_code not in self._differing:
                found = _read(self._library, number)
                if found is not None:
                    return found
        return REFERENCE.read(text, country)


def _read(library: Any, number: Any) -> ReadNumber | None:
    # A number of no type is one that no pattern of its plan knows: what is_valid_number asks, with one walk less.
    type_ = library.number_type(number)
    name = _TYPES.get(type_)
    if name is None:
        return None
    region = library.region_code_for_number(number)
    e164 = library.format_number(number, PhoneNumberFormat.E164)
    return ReadNumber(
        e164=e164,
        national=str(number.national_number),
        region=None if region == _NOBODYS_REGION else region,
        type=name,
        time_zone=_time_zone(e164, number.country_code, type_),
        has_extension=bool(number.extension),
    )


def _time_zone(e164: str, country_code: int, type_: int) -> str | None:
    """The one time zone of a valid number.

    As ``phonenumbers.timezone.time_zones_for_number``, which would find out the type once more.
    """
    geographical = phonenumbers.is_number_type_geographical(type_, country_code)
    digits = e164[1:] if geographical else str(country_code)
    for length in range(_ZONE_DIGITS.get(digits[:2], 1), 0, -1):
        zones = TIMEZONE_DATA.get(digits[:length])
        if zones is not None:
            return str(zones[0]) if len(zones) == 1 else None
    return None


REFERENCE: PhoneEngine = _Reference()


def accelerated() -> PhoneEngine | None:
    """The accelerator, or ``None`` where it is not installed or this pair of versions was never compared."""
    try:
        library = import_module("rphonenumbers")
    except ImportError:
        return None
    differing = COMPARED.get((library.__version__, phonenumbers.__version__))
    return None if differing is None else _Accelerated(library, differing=differing)


ENGINE: PhoneEngine = accelerated() or REFERENCE


def described(engine: PhoneEngine = ENGINE) -> str:
    """Which library reads phone numbers, and why an installed accelerator does not."""
    try:
        library = import_module("rphonenumbers")
    except ImportError:
        return engine.name
    if engine is not REFERENCE:
        return engine.name
    return (
        f"{engine.name} (rphonenumbers {library.__version__} is installed, but its numbering plans were not compared "
        "with these)"
    )
