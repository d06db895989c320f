"""The countries that invented people live in: their names by frequency, towns, streets and numbers.

Common names stand in the order of how common they are; the long tail comes from mimesis, which lists names without
frequencies (1,000 surnames at most for English: drawn evenly, they would make namesakes far too rare).
"""

import json
import random
from bisect import bisect
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from itertools import accumulate
from typing import Any


@dataclass(frozen=True)
class Weighted:
    """Values with cumulated weights: one draw is one random number and one bisection."""

    values: tuple[str, ...]
    cumulated: tuple[float, ...]

    @classmethod
    def by_rank(cls, values: Sequence[str], *, exponent: float, offset: float) -> "Weighted":
        """Zipf–Mandelbrot weights, 1 / (rank + offset) ** exponent."""
        weights = (1 / (rank + offset) ** exponent for rank in range(1, len(values) + 1))
        return cls(tuple(values), tuple(accumulate(weights)))

    def draw(self, rng: random.Random) -> str:
        return self.values[bisect(self.cumulated, rng.random() * self.cumulated[-1])]


@dataclass(frozen=True)
class Town:
    """A town; ``postcode`` and ``dial`` are its leading characters."""

    name: str
    state: str
    postcode: str
    dial: str


@dataclass(frozen=True)
class Market:
    """One country."""

    country: str
    country_name: str
    dial_code: str
    national_prefix: str
    towns: tuple[Town, ...]
    streets: tuple[str, ...]
    company_forms: tuple[str, ...]
    mobile_prefixes: tuple[str, ...]
    landline_digits: int
    mobile_digits: int
    male: Weighted = field(repr=False)
    female: Weighted = field(repr=False)
    surnames: Weighted = field(repr=False)

    def postcode(self, town: Town, rng: random.Random) -> str:
        if self.country == "GB":
            letters = "ABDEFGHJLNPQRSTUWXYZ"
            return f"{town.postcode}{rng.randint(1, 19)} {rng.randint(1, 9)}{rng.choice(letters)}{rng.choice(letters)}"
        return town.postcode + "".join(rng.choices("0123456789", k=5 - len(town.postcode)))

    def address(self, rng: random.Random) -> str:
        street, number = rng.choice(self.streets), rng.randint(1, 240)
        return f"{street} {number}" if self.country == "DE" else f"{number} {street}"

    def landline(self, town: Town, rng: random.Random) -> str:
        """In E.164. American exchanges are 555, which no line has."""
        if self.country == "US":
            return f"+1{town.dial}555{rng.randint(0, 9999):04d}"
        return f"+{self.dial_code}{town.dial}{_digits(rng, self.landline_digits)}"

    def mobile_number(self, town: Town, rng: random.Random) -> str:
        if not self.mobile_prefixes:
            return self.landline(town, rng)
        return f"+{self.dial_code}{rng.choice(self.mobile_prefixes)}{_digits(rng, self.mobile_digits)}"


def _digits(rng: random.Random, count: int) -> str:
    return str(rng.randint(2, 9)) + "".join(rng.choices("0123456789", k=count - 1))


@cache
def pools() -> dict[str, Any]:
    """The word lists that everything is drawn from."""
    loaded: dict[str, Any] = json.loads(files(__package__).joinpath("pools.json").read_text(encoding="utf-8"))
    return loaded


@cache
def market(country: str) -> Market:
    """The market of a country of ``market_shares``."""
    pool = pools()["markets"][country]
    tails = [_mimesis_names(locale) for locale in pool["name_lists"]]
    surnames = [name for tail in tails for name in tail["surnames"]]
    # Exponents and offsets put the commonest surname near 1 % and the commonest given name near 2.5 %, as in a census.
    return Market(
        country=country,
        country_name=pool["name"],
        dial_code=pool["dial_code"],
        national_prefix=pool["national_prefix"],
        towns=tuple(Town(*town) for town in pool["towns"]),
        streets=tuple(pool["streets"]),
        company_forms=tuple(pool["company_forms"]),
        mobile_prefixes=tuple(pool["mobile_prefixes"]),
        landline_digits=pool["landline_digits"],
        mobile_digits=pool["mobile_digits"],
        male=Weighted.by_rank(_extended(pool["male"], tails[0]["male"]), exponent=1.05, offset=8),
        female=Weighted.by_rank(_extended(pool["female"], tails[0]["female"]), exponent=1.05, offset=8),
        surnames=Weighted.by_rank(_extended(pool["surnames"], surnames), exponent=0.85, offset=6),
    )


def market_shares() -> dict[str, float]:
    """The countries and their shares of the population."""
    return {country: pool["share"] for country, pool in pools()["markets"].items()}


def _extended(common: Sequence[str], tail: Sequence[str]) -> list[str]:
    names = list(dict.fromkeys(common))
    # The lists of mimesis are alphabetical: shuffled, so that the tail's frequencies do not follow the alphabet.
    rest = sorted(set(tail) - set(names))
    random.Random(len(rest)).shuffle(rest)  # noqa: S311 - a fixed order, not a secret
    return names + rest


def _mimesis_names(locale: str) -> dict[str, list[str]]:
    text = files("mimesis").joinpath("datasets", locale, "person.json").read_text(encoding="utf-8")
    person = json.loads(text)
    return {"male": person["names"]["male"], "female": person["names"]["female"], "surnames": person["surnames"]}
