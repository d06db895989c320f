"""Addresses: cleaned for people, and reduced to what can be compared."""

import re
from functools import lru_cache

from leads_pipeline.domain.data.countries import COUNTRY_NAMES, STATES
from leads_pipeline.domain.data.placeholders import NOTHING, POSTCODES
from leads_pipeline.domain.text import letters_digits_key, letters_key, words_key

_ZIP = re.compile(r"(\d{5})(?:[- ]?\d{4})?")
_SHORT_ZIP = re.compile(r"\d{3,4}")
_MAX_POSTCODE = 12

# One spelling for the words that addresses are full of.
_ADDRESS_WORDS = {
    "street": "st", "str": "st", "avenue": "ave", "av": "ave", "boulevard": "blvd", "road": "rd", "drive": "dr",
    "lane": "ln", "court": "ct", "place": "pl", "square": "sq", "terrace": "ter", "highway": "hwy", "parkway":
    "pkwy", "circle": "cir", "trail": "trl", "north": "n", "south": "s", "east": "e", "west": "w", "northeast":
    "ne", "northwest": "nw", "southeast": "se", "southwest": "sw", "apartment": "apt", "suite": "ste", "floor":
    "fl", "building": "bldg", "saint": "st", "mount": "mt", "strasse": "st", "rue": "r", "platz": "pl", "gasse":
    "g", "number": "no", "nr": "no",
}  # fmt: skip
_NOTHING_HERE = frozenset({"na", "nan", "nil", "null"})
_CITY_WORDS = {"saint": "st", "sainte": "ste", "mount": "mt", "fort": "ft", "city": ""}


@lru_cache(maxsize=8_192)
def is_placeholder(value: str) -> bool:
    """Whether the words mean that nothing was said."""
    compared = letters_digits_key(value)
    return compared is None or compared in NOTHING or compared in _NOTHING_HERE


def is_placeholder_country(value: str) -> bool:
    """As ``is_placeholder``, but NA is Namibia."""
    return is_placeholder(value) and value.upper() != "NA"


@lru_cache(maxsize=1_024)
def country_code(value: str) -> str | None:
    """ISO 3166 alpha-2 of a code (two or three letters) or a name, or ``None`` if it is none of ours."""
    if value.isascii() and value.isalpha():
        return COUNTRY_NAMES.get(value.lower())
    words = words_key(value.replace("&", " and "))
    if len(words) > 1 and words[0] == "st":
        words[0] = "saint"
    compared = letters_key("".join(words))
    return COUNTRY_NAMES.get(compared) if compared else None


def state_name(value: str, *, country: str | None) -> str:
    """The two-letter code of a state of the USA or a province of Canada, else ``value`` as it is."""
    known = STATES.get(country or "")
    if known is None:
        return value
    compared = letters_key(value) or ""
    return known.get(compared, value)


def address_key(value: str) -> str | None:
    """The words of an address, with one spelling for street, avenue and their like."""
    words: list[str] = []
    for word in words_key(value.replace("#", " no ").replace("ß", "ss")):
        if word.endswith("strasse") and len(word) > len("strasse"):
            words.append(word.removesuffix("asse"))  # hauptstrasse, hauptstr
            continue
        words.append(_ADDRESS_WORDS.get(word, word))
    return " ".join(words) or None


@lru_cache(maxsize=8_192)
def city_key(value: str) -> str | None:
    """The letters of a city's name; New York City is New York, Saint Louis is St. Louis."""
    words = words_key(value)
    short = [_CITY_WORDS.get(word, word) for word in words]
    return letters_key("".join(short)) or letters_key("".join(words))


def parse_postcode(value: str, *, country: str | None) -> tuple[str, str, bool] | None:
    """A postcode as shown, as compared, and whether a lost leading zero was put back; ``None`` if it is none.

    ``country`` is the one that the lead names. A spreadsheet makes 2134 of Boston's 02134; only where the lead says
    that it is American are the zeros put back, since elsewhere four digits are a whole postcode.
    """
    shown = value.upper()
    compared = letters_digits_key(shown)
    if compared is None or not any(character.isdigit() for character in compared):
        return None
    if compared in POSTCODES or not 3 <= len(compared) <= _MAX_POSTCODE:
        return None
    padded = False
    if country == "US" and _SHORT_ZIP.fullmatch(shown):
        shown, padded = shown.zfill(5), True
        compared = shown
    if (zip_code := _ZIP.fullmatch(shown)) and country in ("US", None):
        return shown, zip_code[1], padded
    return shown, compared, padded
