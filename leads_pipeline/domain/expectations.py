"""What a source's validated leads of one day must be like: one table of rules for Great Expectations and for SQL.

A rule about rows counts those that break it. A rule about drift compares a share of the rows with the same source's
earlier days and is made from them (``drift_rules``). ``defs.expectations`` makes an expectation of each rule,
``storage.quality`` a condition in SQL; a test gives both the same rows. Add a rule here, and a column that the table
does not have in ``storage.quality.DERIVED``. Keep out: what validation itself decides (``domain.validation``).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import StrEnum
from math import sqrt

from leads_pipeline.domain.stage import Lane


class Kind(StrEnum):
    """What a rule asks of its column. All but the first two leave nulls alone."""

    PRESENT = "present"  # no row is without it
    HOLDS = "holds"  # a yes-or-no column is yes in every row
    MATCHES = "matches"  # the pattern, which reads the same in Python and in PostgreSQL
    AT_MOST = "at_most"  # so many characters
    BETWEEN = "between"  # both bounds included
    ONE_OF = "one_of"
    FILLED = "filled"  # the share of rows that have it
    SHARE = "share"  # the share of rows in which a yes-or-no column is yes


DRIFT_KINDS = (Kind.FILLED, Kind.SHARE)


@dataclass(frozen=True, slots=True)
class Rule:
    """One promise about one column. Bounds are in the column's unit, those of drift are shares from 0 to 1."""

    name: str
    kind: Kind
    column: str
    low: float | None = None
    high: float | None = None
    pattern: str | None = None
    allowed: tuple[str, ...] = ()

    @property
    def is_drift(self) -> bool:
        return self.kind in DRIFT_KINDS


# Character classes name ASCII white space: what else counts as such differs between Python and PostgreSQL.
_EMAIL = r"\A[^@ \t\r\n]+@[^@ \t\r\n]+\.[^@ \t\r\n.]+\Z"
_E164 = r"\A\+[1-9][0-9]{6,14}\Z"
_COUNTRY = r"\A[A-Z]{2}\Z"
_PHONE_REGION = r"\A(?:[A-Z]{2}|001)\Z"  # 001: a number of no country
_ALWAYS_PRESENT = ("validated_at", "sync_lane", "rule_version", "tier")

# A clock that runs ahead, or a time zone taken for UTC, shows as a lead from the future.
_CLOCKS_DIFFER_SECONDS = 60

# What is compared with the source's earlier days. A column that was lost or mapped wrongly shows in the first four; a
# robot or a bought list in the next two; another file, or a country read from the wrong column, in the last.
FILLED_COLUMNS = ("email", "phone", "last_name", "company")
FLAG_COLUMNS = {"disposable": "disposable_mailbox", "free": "free_mailbox"}
USUAL_COUNTRY = "usual_country"
COUNTED_COLUMNS = (*FILLED_COLUMNS, *FLAG_COLUMNS)

# How far a share may be from the mean of the earlier days: at least so much, more where those days differed among
# themselves, and besides what chance does to so few rows.
LEAST_TOLERANCE = 0.2
SPREADS = 3.0
CHANCE_ERRORS = 2.0
MIN_DAYS_FOR_SPREAD = 3


def row_rules(*, tiers: Iterable[str], now: datetime) -> tuple[Rule, ...]:
    """What holds for every validated lead. ``tiers``: those of leads.yaml."""
    return (
        *(Rule(f"{name}_present", Kind.PRESENT, name) for name in _ALWAYS_PRESENT),
        Rule("usable", Kind.HOLDS, "usable"),
        Rule("email_and_key", Kind.HOLDS, "email_and_key"),
        Rule("phone_and_key", Kind.HOLDS, "phone_and_key"),
        Rule("email_format", Kind.MATCHES, "email", pattern=_EMAIL),
        Rule("email_length", Kind.AT_MOST, "email", high=320),
        Rule("phone_format", Kind.MATCHES, "phone", pattern=_E164),
        Rule("phone_region_format", Kind.MATCHES, "phone_region", pattern=_PHONE_REGION),
        Rule("country_format", Kind.MATCHES, "country", pattern=_COUNTRY),
        Rule("birth_year_range", Kind.BETWEEN, "birth_year", low=1, high=now.year),
        Rule("not_from_the_future", Kind.BETWEEN, "age_seconds", low=-_CLOCKS_DIFFER_SECONDS),
        Rule("value_score_range", Kind.BETWEEN, "value_score", low=0, high=100),
        Rule("risk_score_range", Kind.BETWEEN, "risk_score", low=0, high=100),
        Rule("lane_known", Kind.ONE_OF, "sync_lane", allowed=tuple(str(lane) for lane in Lane)),
        # "none" is what the table has for leads from before there were tiers.
        Rule("tier_known", Kind.ONE_OF, "tier", allowed=tuple(sorted({"none", *tiers}))),
    )


@dataclass(frozen=True, slots=True, order=True)
class Group:
    """What is judged together: one source's leads of one day of receipt, in UTC."""

    tenant: str
    source: str
    day: date

    def __str__(self) -> str:
        return f"{self.tenant}/{self.source} of {self.day}"


@dataclass(slots=True)
class Tally:
    """What was counted in some rows: nothing of it is anybody's value.

    ``broken``: rows that break a rule, by its name. ``present``: rows in which a counted column is filled, or is yes.
    ``countries``: rows by country, under ``None`` those without one.
    """

    rows: int = 0
    broken: dict[str, int] = field(default_factory=dict)
    present: dict[str, int] = field(default_factory=dict)
    countries: dict[str | None, int] = field(default_factory=dict)

    def add(self, other: "Tally") -> None:
        self.rows += other.rows
        for mine, theirs in ((self.broken, other.broken), (self.present, other.present)):
            for name, count in theirs.items():
                mine[name] = mine.get(name, 0) + count
        for country, count in other.countries.items():
            self.countries[country] = self.countries.get(country, 0) + count

    def share(self, column: str, *, usual_country: str | None = None) -> float:
        """Of the rows, those in which ``column`` is filled or is yes; 0 where there are no rows."""
        found = self.countries.get(usual_country, 0) if column == USUAL_COUNTRY else self.present.get(column, 0)
        return found / self.rows if self.rows else 0.0


@dataclass(frozen=True, slots=True)
class Past:
    """A share as it was: over all rows of the earlier days, and how far those days lay apart (standard deviation)."""

    share: float
    spread: float


@dataclass(frozen=True, slots=True)
class History:
    """What a source's earlier days were like."""

    rows: int
    usual_country: str | None
    past: Mapping[str, Past]


def history_of(days: Sequence[Tally], *, min_sample: int) -> History | None:
    """The history that some days make; ``None`` where they have fewer than ``min_sample`` rows: that proves nothing."""
    total = Tally()
    for day in days:
        total.add(day)
    if total.rows < max(1, min_sample):
        return None
    named = {country: count for country, count in total.countries.items() if country is not None}
    usual = max(sorted(named), key=named.__getitem__) if named else None
    columns = (*COUNTED_COLUMNS, *([USUAL_COUNTRY] if usual is not None else []))
    telling = [day for day in days if day.rows >= min_sample]
    return History(
        rows=total.rows,
        usual_country=usual,
        past={
            name: Past(
                share=total.share(name, usual_country=usual),
                spread=_spread([day.share(name, usual_country=usual) for day in telling]),
            )
            for name in columns
        },
    )


def drift_rules(history: History | None, *, rows: int, min_sample: int) -> tuple[Rule, ...]:
    """What a source's history asks of ``rows`` rows; nothing where either is too small to tell."""
    if history is None or rows < max(1, min_sample):
        return ()
    rules = []
    for name, past in history.past.items():
        chance = CHANCE_ERRORS * sqrt(past.share * (1 - past.share) / rows)
        tolerance = max(LEAST_TOLERANCE, SPREADS * past.spread) + chance
        low = round(past.share - tolerance, 3) if past.share > tolerance else None
        high = round(past.share + tolerance, 3) if past.share + tolerance < 1 else None
        if name in FLAG_COLUMNS:
            if low is not None or high is not None:
                rules.append(Rule(f"{name}_share", Kind.SHARE, name, low=low, high=high))
        elif low is not None:
            # More rows with a field, or more of the usual country, is no harm.
            filled = name in FILLED_COLUMNS
            rules.append(Rule(f"{name}_share", Kind.FILLED if filled else Kind.SHARE, name, low=low))
    return tuple(rules)


@dataclass(frozen=True, slots=True)
class Finding:
    """A rule that some rows broke: how many did, or, for a drift, the share that was seen."""

    rule: Rule
    rows: int
    unexpected: int
    observed: float | None = None


def broken_rules(tally: Tally, rules: Iterable[Rule], *, usual_country: str | None = None) -> list[Finding]:
    """The rules that counted rows break."""
    findings = []
    for rule in rules:
        if not rule.is_drift:
            if unexpected := tally.broken.get(rule.name, 0):
                findings.append(Finding(rule, tally.rows, unexpected))
            continue
        seen = tally.share(rule.column, usual_country=usual_country)
        if (rule.low is not None and seen < rule.low) or (rule.high is not None and seen > rule.high):
            findings.append(Finding(rule, tally.rows, 0, observed=seen))
    return findings


def _spread(shares: Sequence[float]) -> float:
    if len(shares) < MIN_DAYS_FOR_SPREAD:
        return 0.0
    mean = sum(shares) / len(shares)
    return sqrt(sum((share - mean) ** 2 for share in shares) / (len(shares) - 1))
