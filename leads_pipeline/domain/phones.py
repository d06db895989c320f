"""Phone numbers in E.164, with the country, type and time zone that the numbering plan tells."""

import re
from dataclasses import dataclass
from typing import NamedTuple

from leads_pipeline.domain.data.placeholders import NOTHING, NOTHING_OR_NAME, is_placeholder_number
from leads_pipeline.domain.phone_engines import ENGINE, PhoneEngine
from leads_pipeline.domain.text import cleaned, letters_digits_key

_SCIENTIFIC = re.compile(r"\d(?:[.,]\d+)?e\+?\d+", re.IGNORECASE)
_NOT_DIGITS = re.compile(r"\D+")
# Between two numbers in one field; a slash alone also stands inside one.
_BETWEEN_NUMBERS = re.compile(r"[,;|&]| / | (?:or|oder|ou|and|und|et|y) ", re.IGNORECASE)


class Phone(NamedTuple):
    """A number that its country's plan has a use for. ``number`` is E.164 and also what is compared.

    ``region`` (ISO 3166) is ``None`` for a number of no country, ``time_zone`` (IANA) where there may be several.
    ``type`` is the plan's: American numbers are all ``fixed_line_or_mobile``.
    """

    number: str
    flags: tuple[str, ...] = ()
    region: str | None = None
    type: str | None = None
    time_zone: str | None = None

    @property
    def key(self) -> str:
        return self.number


@dataclass(frozen=True, slots=True)
class PhoneFault:
    """Why a value is no number that could be called."""

    rule: str
    value_class: str


_SHORTEST_NUMBER = 7
_NOTHING = NOTHING | NOTHING_OR_NAME
_PLACEHOLDER = PhoneFault("phone_placeholder", "placeholder")


def parse_phone(
    raw: str, *, country: str, fallback: str | None = None, engine: PhoneEngine = ENGINE
) -> Phone | PhoneFault:
    """Read one number.

    ``country`` (ISO 3166) is assumed where the number names none; ``fallback`` is tried if that gives no valid number:
    people abroad leave the numbers that they brought along.
    """
    text = cleaned(raw)
    if "e" in text.lower() and _SCIENTIFIC.fullmatch(text):
        return PhoneFault("phone_invalid", "scientific_notation")
    text = _respelled(text)
    digits = _NOT_DIGITS.sub("", text)
    if not digits:
        nothing = (letters_digits_key(text) or "na") in _NOTHING
        return _PLACEHOLDER if nothing else PhoneFault("phone_invalid", "no_digits")
    if is_placeholder_number(digits) or (len(digits) == 11 and digits[0] == "1" and is_placeholder_number(digits[1:])):
        return _PLACEHOLDER
    number = engine.read(text, country)
    flags: list[str] = []
    if number is None and fallback is not None and fallback != country:
        number = engine.read(text, fallback)
        if number is not None:
            flags.append("phone_country_assumed")
    if number is None:
        several = sum(_is_long_enough(part) for part in _BETWEEN_NUMBERS.split(text)) > 1
        return PhoneFault("phone_invalid", "several_numbers" if several else "not_assigned")
    if is_placeholder_number(number.national):
        return _PLACEHOLDER
    if number.has_extension:
        flags.append("phone_extension_dropped")
    return Phone(number.e164, tuple(flags), number.region, number.type, number.time_zone)


def _respelled(text: str) -> str:
    if text.startswith("00") and not text.startswith("000"):
        return "+" + text[2:]  # how most of the world writes "+", whatever the home market dials
    if text.endswith(".0") and text[:-2].isdigit():
        return text[:-2]  # a column of numbers that was written as text
    return text


def _is_long_enough(part: str) -> bool:
    return len(_NOT_DIGITS.sub("", part)) >= _SHORTEST_NUMBER
