"""Phone numbers in E.164.

Never import ``phonenumbers.geocoder`` here: it costs seconds and 200 MB.
"""

import re
from dataclasses import dataclass

import phonenumbers
from phonenumbers import NumberParseException, PhoneNumber, PhoneNumberFormat

from leads_pipeline.domain.data.placeholders import NOTHING, NOTHING_OR_NAME, is_placeholder_number
from leads_pipeline.domain.text import cleaned, letters_digits_key

_SCIENTIFIC = re.compile(r"\d(?:[.,]\d+)?e\+?\d+", re.IGNORECASE)
_NOT_DIGITS = re.compile(r"\D+")


@dataclass(frozen=True, slots=True)
class Phone:
    """A number that its country's plan has a use for. ``number`` is E.164 and also what is compared."""

    number: str
    flags: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        return self.number


@dataclass(frozen=True, slots=True)
class PhoneFault:
    """Why a value is no number that could be called."""

    rule: str
    value_class: str


_PLACEHOLDER = PhoneFault("phone_placeholder", "placeholder")


def parse_phone(raw: str, *, country: str, fallback: str | None = None) -> Phone | PhoneFault:
    """Read one number.

    ``country`` (ISO 3166) is assumed where the number names none; ``fallback`` is tried if that gives no valid number:
    people abroad leave the numbers that they brought along.
    """
    text = cleaned(raw)
    if _SCIENTIFIC.fullmatch(text):
        return PhoneFault("phone_invalid", "scientific_notation")
    digits = _NOT_DIGITS.sub("", text)
    if not digits:
        nothing = (letters_digits_key(text) or "na") in NOTHING | NOTHING_OR_NAME
        return _PLACEHOLDER if nothing else PhoneFault("phone_invalid", "no_digits")
    if is_placeholder_number(digits) or is_placeholder_number(digits.removeprefix("1")):
        return _PLACEHOLDER
    if text.startswith("00") and not text.startswith("000"):
        text = "+" + text[2:]  # how most of the world writes "+", whatever the home market dials
    number = _parse(text, country)
    flags: list[str] = []
    if number is None and fallback is not None and fallback != country:
        number = _parse(text, fallback)
        if number is not None:
            flags.append("phone_country_assumed")
    if number is None:
        return PhoneFault("phone_invalid", "not_assigned")
    if is_placeholder_number(str(number.national_number)):
        return _PLACEHOLDER
    if number.extension:
        flags.append("phone_extension_dropped")
    return Phone(phonenumbers.format_number(number, PhoneNumberFormat.E164), tuple(flags))


def _parse(text: str, country: str) -> PhoneNumber | None:
    try:
        number = phonenumbers.parse(text, country)
    except NumberParseException:
        return None
    return number if phonenumbers.is_valid_number(number) else None
