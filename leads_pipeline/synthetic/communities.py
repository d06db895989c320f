"""Names from other languages than the country's, and the several ways in which one of them is written.

A name in Cyrillic or Greek letters has no one spelling in Latin ones: a passport, a German form and its bearer each have
theirs. Romanisations here are simplified from the published ones (ICAO 9303, DIN 1460, common English use; ELOT 743 and
common use for Greek). Add a language here if mimesis has a list of its names.
"""

import json
import random
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from leads_pipeline.synthetic.markets import Weighted


@dataclass(frozen=True)
class Community:
    """People whose names come from one language; ``alphabet`` names its romanisations, if it needs any."""

    locale: str
    male: Weighted
    female: Weighted
    surnames_male: Weighted
    surnames_female: Weighted
    alphabet: str | None


# Locale of mimesis: its share of the people with a name from elsewhere, and its alphabet.
_LOCALES = {
    "es-mx": (26, None),
    "it": (16, None),
    "nl": (12, None),
    "tr": (12, None),
    "cs": (8, None),
    "ru": (16, "cyrillic"),
    "el": (10, "greek"),
}

_CYRILLIC = "абвгдеёжзийклмнопрстуфхцчшщъыьэюя"
_GREEK = "αβγδεζηθικλμνξοπρσςτυφχψω"


def _table(letters: str, latin: str) -> dict[str, str]:
    return dict(zip(letters, (part.replace("-", "") for part in latin.split()), strict=True))


# "-" stands for no letter at all.
ROMANISATIONS: dict[str, tuple[dict[str, str], ...]] = {
    "cyrillic": (
        _table(_CYRILLIC, "a b v g d e e zh z i y k l m n o p r s t u f kh ts ch sh shch - y - e yu ya"),
        _table(_CYRILLIC, "a b v g d e e zh z i i k l m n o p r s t u f kh ts ch sh shch ie y - e iu ia"),
        _table(_CYRILLIC, "a b w g d e jo sch s i j k l m n o p r s t u f ch z tsch sch schtsch - y - e ju ja"),
    ),
    "greek": (
        _table(_GREEK, "a v g d e z i th i k l m n x o p r s s t y f ch ps o"),
        _table(_GREEK, "a b g d e z h th i k l m n ks o p r s s t u f h ps o"),
        _table(_GREEK, "a v g d e z i th i k l m n x o p r s s t i ph kh ps o"),
    ),
}
_ACCENTED_GREEK = str.maketrans("άέήίόύώϊϋΐΰ", "αεηιουωιυιυ")


def romanised(name: str, alphabet: str, scheme: int) -> str:
    """``name`` in Latin letters by one of the ``ROMANISATIONS`` of its alphabet."""
    table = ROMANISATIONS[alphabet][scheme]
    letters = (table.get(letter, letter) for letter in name.lower().translate(_ACCENTED_GREEK))
    return "-".join(part.capitalize() for part in "".join(letters).split("-"))


@cache
def communities() -> tuple[tuple[Community, ...], tuple[int, ...]]:
    """The communities and how common each is."""
    found = tuple(_community(locale, alphabet) for locale, (_share, alphabet) in _LOCALES.items())
    return found, tuple(share for share, _alphabet in _LOCALES.values())


def _community(locale: str, alphabet: str | None) -> Community:
    text = files("mimesis").joinpath("datasets", locale, "person.json").read_text(encoding="utf-8")
    person = json.loads(text)
    surnames = person["surnames"]
    by_gender = surnames if isinstance(surnames, dict) else {"male": surnames, "female": surnames}
    return Community(
        locale,
        _ranked(person["names"]["male"], exponent=1.05),
        _ranked(person["names"]["female"], exponent=1.05),
        _ranked(by_gender["male"], exponent=0.8),
        _ranked(by_gender["female"], exponent=0.8),
        alphabet,
    )


def _ranked(names: list[str], *, exponent: float) -> Weighted:
    # The lists are alphabetical and have no frequencies: shuffled once and for all, then as unequal as in life.
    shuffled = sorted({name.strip() for name in names if len(name.strip()) > 2})
    random.Random(len(shuffled)).shuffle(shuffled)  # noqa: S311 - a fixed order, not a secret
    return Weighted.by_rank(shuffled, exponent=exponent, offset=8)
