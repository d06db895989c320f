"""Text as people and forms send it, made comparable.

``cleaned`` keeps what a reader would see; ``letters_key`` and ``words_key`` are for comparing and are never shown.
Keep out: what a field means, which is the business of the field's own module.
"""

import re
import unicodedata

from anyascii import anyascii

_NOT_LETTERS = re.compile(r"[^a-z]+")
_NOT_LETTERS_DIGITS = re.compile(r"[^a-z0-9]+")
# Invisible, though Unicode calls them marks, letters or symbols: joiners, fillers, blanks, variation selectors.
_INVISIBLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)


def as_text(value: object) -> str | None:
    """A payload's value as text, or ``None`` if it is not a scalar that a person could have typed.

    Spreadsheets turn identifiers into floats: 90210.0 was 90210.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else repr(value)
    return None


def cleaned(value: str) -> str:
    """One line: composed (NFC), without control and invisible characters, white space collapsed.

    Format characters (Cf: zero-width spaces, byte-order marks, direction marks) make equal names unequal and are in no
    name that anybody can see.
    """
    if value.isascii():
        if value.isprintable():
            return value.strip() if "  " not in value else " ".join(value.split())
    elif (value := _INVISIBLE.sub("", value)).isprintable():
        return " ".join(unicodedata.normalize("NFC", value).split())
    # First off, then composed: what stood between a letter and its accent parts them no longer.
    visible = "".join(_visible(character) for character in value)
    return " ".join(unicodedata.normalize("NFC", visible).split())


def cleaned_lines(value: str) -> str:
    """As ``cleaned``, line by line: for what a person wrote."""
    if value.isascii() and value.isprintable():
        return cleaned(value)
    return "\n".join(cleaned(line) for line in value.splitlines()).strip()


def _visible(character: str) -> str:
    if character.isspace():
        return " "  # a tab or a line break parts two words
    return "" if unicodedata.category(character) in ("Cc", "Cf", "Cs", "Co", "Cn") else character


def letters_key(value: str) -> str | None:
    """The Latin letters a-z of ``value``, transliterated, lower case, nothing between them; ``None`` if it has none."""
    latin = value if value.isascii() else anyascii(value)
    lowered = latin.lower()
    return lowered if latin.isalpha() else _NOT_LETTERS.sub("", lowered) or None


def letters_digits_key(value: str) -> str | None:
    """As ``letters_key``, with the digits."""
    latin = value if value.isascii() else anyascii(value)
    lowered = latin.lower()
    return lowered if latin.isalnum() else _NOT_LETTERS_DIGITS.sub("", lowered) or None


def words_key(value: str) -> list[str]:
    """The words of ``value``: runs of Latin letters and digits, transliterated, lower case."""
    latin = (value if value.isascii() else anyascii(value)).lower().replace("'", "").replace("’", "")
    return _NOT_LETTERS_DIGITS.sub(" ", latin).split()


def without_query(url: str) -> str:
    """An address of a page without its query, fragment and user information."""
    page = re.split(r"[?#]", url, maxsplit=1)[0]
    return re.sub(r"^([a-zA-Z][a-zA-Z0-9+.-]*://)[^/]*@", r"\1", page)
