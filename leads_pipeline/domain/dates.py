"""Dates of birth, in the ways that people and spreadsheets write them."""

import re
from dataclasses import dataclass
from datetime import date

from leads_pipeline.domain.data.placeholders import DATES, NOTHING, NOTHING_OR_NAME
from leads_pipeline.domain.text import cleaned, letters_digits_key, letters_key

# Where 3/4/1980 is 4 March. Everywhere else it is 3 April.
MONTH_FIRST_COUNTRIES = frozenset({"US", "PH", "FM", "GU", "MH", "PW", "PR"})
EARLIEST_YEAR = 1000  # archives and family registers are imported too; a year of three digits is a slip
LIKELY_AGES = range(13, 121)  # outside: kept and flagged. Forms often send today's date for "not filled in".

_YEAR_FIRST = re.compile(r"(\d{4})[-/.](\d{1,2})[-/.](\d{1,2})(?:[t ]\d{2}:\d{2}.*)?")
_COMPACT = re.compile(r"(\d{4})(\d{2})(\d{2})")
_YEAR_LAST = re.compile(r"(\d{1,2})([-/. ])(\d{1,2})\2(\d{4}|\d{2})(?: \d{2}:\d{2}.*)?")
_NAMED = re.compile(
    r"(?:(\d{1,2})(?:st|nd|rd|th|\.)?[ -]+)?([a-zà-ÿ]{3,})\.?[ -]*(?:(\d{1,2})(?:st|nd|rd|th)?,?[ ]+|,? *)(\d{4})"
)
# As spreadsheets write it: 24-May-11.
_NAMED_SHORT = re.compile(r"(\d{1,2})[-/. ]([a-zà-ÿ]{3,})\.?[-/. ](\d{2})")

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
# German, French, Spanish and Italian months whose first three letters differ from English and from each other.
_OTHER_MONTHS = {
    "mai": 5, "okt": 10, "dez": 12, "maerz": 3, "marz": 3, "fev": 2, "avr": 4, "juin": 6, "juil": 7, "aou": 8, "ene": 1,
    "abr": 4, "ago": 8, "dic": 12, "gen": 1, "mag": 5, "giu": 6, "lug": 7, "set": 9, "ott": 10, "out": 10,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class BirthDate:
    """A day that exists and has come. ``flags`` say what had to be assumed."""

    day: date
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DateFault:
    """Why a value is no date of birth."""

    rule: str
    value_class: str


def parse_birth_date(raw: str, *, country: str, today: date) -> BirthDate | DateFault:
    """Read one date. ``country`` decides whether 3/4 is in March or in April, and the doubt is flagged."""
    text = cleaned(raw).lower()
    nothing = letters_digits_key(text)
    if nothing is None or nothing in NOTHING or nothing in NOTHING_OR_NAME or not nothing.strip("0"):
        return DateFault("date_placeholder", "placeholder")
    flags: list[str] = []
    if match := _YEAR_FIRST.fullmatch(text) or _COMPACT.fullmatch(text):
        year, month, day = (int(part) for part in match.groups())
    elif match := _YEAR_LAST.fullmatch(text):
        first, separator, second, year_text = int(match[1]), match[2], int(match[3]), match[4]
        month_first = separator != "." and country in MONTH_FIRST_COUNTRIES
        if first > 12 or second > 12:
            month_first = second > 12  # only one reading is a date
        elif first != second and separator != ".":
            flags.append("date_ambiguous")
        month, day = (first, second) if month_first else (second, first)
        year = _year(year_text, flags, today)
    elif (match := _NAMED.fullmatch(text)) and (named := _month(match[2])) and bool(match[1]) != bool(match[3]):
        year, month, day = int(match[4]), named, int(match[1] or match[3])
    elif (match := _NAMED_SHORT.fullmatch(text)) and (named := _month(match[2])):
        year, month, day = _year(match[3], flags, today), named, int(match[1])
    else:
        return DateFault("date_invalid", "unknown_format")
    if f"{year:04}-{month:02}-{day:02}" in DATES:
        return DateFault("date_placeholder", "placeholder")
    return _plausible(year, month, day, flags, today)


def _year(text: str, flags: list[str], today: date) -> int:
    if len(text) != 2:
        return int(text)
    flags.append("date_century_assumed")
    return int(text) + (2000 if 2000 + int(text) <= today.year else 1900)


def _plausible(year: int, month: int, day: int, flags: list[str], today: date) -> BirthDate | DateFault:
    if year < EARLIEST_YEAR:
        return DateFault("date_invalid", "impossible_date")
    try:
        found = date(year, month, day)
    except ValueError:
        return DateFault("date_invalid", "impossible_date")
    if found > today:
        return DateFault("date_invalid", "future_date")
    age = today.year - found.year - ((today.month, today.day) < (found.month, found.day))
    if age not in LIKELY_AGES:
        flags.append("date_unlikely")
    return BirthDate(found, tuple(flags))


def _month(word: str) -> int | None:
    name = letters_key(word) or ""
    for length in (5, 4, 3):
        if name[:length] in _OTHER_MONTHS and len(name) >= length:
            return _OTHER_MONTHS[name[:length]]
    return _MONTHS.index(name[:3]) + 1 if name[:3] in _MONTHS else None
