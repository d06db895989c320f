"""What needs no probability: rules that say at once that two records are one person, and what speaks against them.

The rules stand in leads.yaml (``config.matching``); here is what their fields and vetoes mean. A vetoed rule decides
nothing: the pair is the model's. Keep out: anything with a threshold that data should set, which is the model's too.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, NamedTuple, Protocol

from rapidfuzz.distance import DamerauLevenshtein, JaroWinkler

from leads_pipeline.domain.match_keys import MatchFields, given_name_forms
from leads_pipeline.domain.spellings import sound, spelling

_ALIKE = 0.85
# Shorter parts of a name are in too many others: Ann in Hannah, Li in Oliver.
_MIN_PART = 4
# Two slips of the keyboard, or day and month exchanged; a parent and a child differ in more.
_MAX_DATE_SLIPS = 2

Test = Callable[[MatchFields, MatchFields], bool]


class RuleDescription(Protocol):
    """What ``config.MatchRuleSettings`` says."""

    @property
    def name(self) -> str: ...
    @property
    def when(self) -> Sequence[str]: ...
    @property
    def veto(self) -> Sequence[str]: ...
    @property
    def outranks_votes(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class RuleOutcome:
    """A rule whose fields agree. ``vetoes`` are those that hold; with one of them it decides nothing."""

    rule: str
    vetoes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Compiled:
    name: str
    # A column that must be equal, read before anything else is looked at: most pairs end there.
    column: str
    anchor: Callable[[MatchFields], Any]
    tests: tuple[Test, ...]
    vetoes: tuple[tuple[str, Test], ...]


class Rules:
    """Rules ready to be asked about pairs. Made by ``compile_rules``; keeps no state."""

    __slots__ = ("_outranking", "_rules")

    def __init__(self, rules: tuple[_Compiled, ...], outranking: frozenset[str]) -> None:
        self._rules = rules
        self._outranking = outranking

    @property
    def names(self) -> tuple[str, ...]:
        """The rules in their order."""
        return tuple(rule.name for rule in self._rules)

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of ``MatchFields``: records that agree in none of them are joined by no rule."""
        return tuple(dict.fromkeys(rule.column for rule in self._rules))

    def decide(self, left: MatchFields, right: MatchFields) -> str | None:
        """The name of the first rule that joins the two, or ``None``: then it is the model's to decide."""
        for rule in self._rules:
            value = rule.anchor(left)
            if value is None or value != rule.anchor(right):
                continue
            if all(test(left, right) for test in rule.tests) and not any(veto(left, right) for _, veto in rule.vetoes):
                return rule.name
        return None

    def outranks_votes(self, rule: str) -> bool:
        """Whether what ``rule`` joins stays joined whatever the model says of the other pairs of the two groups."""
        return rule in self._outranking

    def explain(self, left: MatchFields, right: MatchFields) -> list[RuleOutcome]:
        """Every rule whose fields agree, in their order, with the vetoes that hold; names only, no values."""
        return [
            RuleOutcome(rule.name, tuple(name for name, veto in rule.vetoes if veto(left, right)))
            for rule in self._rules
            if (value := rule.anchor(left)) is not None
            and value == rule.anchor(right)
            and all(test(left, right) for test in rule.tests)
        ]


def compile_rules(rules: Iterable[RuleDescription]) -> Rules:
    """``settings.matching.rules`` ready for use; once per run, not per pair."""
    described = list(rules)
    return Rules(
        tuple(_compiled(rule) for rule in described),
        frozenset(rule.name for rule in described if rule.outranks_votes),
    )


def _compiled(rule: RuleDescription) -> _Compiled:
    # The rarest agreement first, as _FIELDS lists them.
    ordered = sorted(set(rule.when), key=list(_FIELDS).index)
    anchor = next((name for name in ordered if _FIELDS[name].column is not None), None)
    if anchor is None:
        raise ValueError(f"the rule {rule.name} has no field that must be equal")
    tests: list[Test] = []
    for name in ordered:
        column, further = _FIELDS[name]
        if column is not None and column != _FIELDS[anchor].column:
            tests.append(_equal(column))
        if further is not None:
            tests.append(further)
    anchor_column = _FIELDS[anchor].column or ""
    return _Compiled(
        rule.name,
        anchor_column,
        attrgetter(anchor_column),
        tuple(tests),
        tuple((name, _VETOES[name]) for name in rule.veto),
    )


def _equal(column: str) -> Test:
    read = attrgetter(column)

    def test(left: MatchFields, right: MatchFields) -> bool:
        value = read(left)
        return value is not None and value == read(right)

    return test


def _own_mailbox(left: MatchFields, right: MatchFields) -> bool:
    return not (left.role_mailbox or right.role_mailbox)


def _verified_mailbox(left: MatchFields, right: MatchFields) -> bool:
    # One address, one mailbox: what was found out about it for one lead holds for the other.
    return (left.email_verified or right.email_verified) and _own_mailbox(left, right)


def _mobile(left: MatchFields, right: MatchFields) -> bool:
    # One number, one plan: a record from before the kind was kept says nothing.
    return left.phone_kind == "mobile" or right.phone_kind == "mobile"


def _exchanged(left: MatchFields, right: MatchFields) -> bool:
    return (
        left.first_name_key is not None
        and left.last_name_key is not None
        and left.first_name_key == right.last_name_key
        and left.last_name_key == right.first_name_key
    )


def _first_names_agree(left: MatchFields, right: MatchFields) -> bool:
    one, other = left.first_name_key, right.first_name_key
    return (one is not None and other is not None and given_names_agree(one, other)) or _exchanged(left, right)


def _last_names_agree(left: MatchFields, right: MatchFields) -> bool:
    one = left.last_name_key
    return (one is not None and one == right.last_name_key) or _exchanged(left, right)


class _Field(NamedTuple):
    """What a field of a rule asks: a column that is equal, something else that holds, or both."""

    column: str | None
    further: Test | None = None


# The rarest agreement stands first. Names agree in more ways than by being equal.
_FIELDS: dict[str, _Field] = {
    "external_id": _Field("external_id_key"),
    "email": _Field("email_key"),
    "own_email": _Field("email_key", _own_mailbox),
    "verified_email": _Field("email_key", _verified_mailbox),
    "phone": _Field("phone_key"),
    "mobile": _Field("phone_key", _mobile),
    "address": _Field("address_key"),
    "date_of_birth": _Field("date_of_birth"),
    "company": _Field("company_key"),
    "postcode": _Field("postcode_key"),
    "job_title": _Field("job_title_key"),
    "city": _Field("city_key"),
    "state": _Field("state_key"),
    "last_name": _Field(None, _last_names_agree),
    "first_name": _Field(None, _first_names_agree),
}


def given_names_agree(left: str, right: str) -> bool:
    """Whether two given names may be one person's: alike in some spelling, a short form, an initial, one of two."""
    if left == right or not set(given_name_forms(left)).isdisjoint(given_name_forms(right)):
        return True
    return _alike(left, right)


def family_names_agree(left: str, right: str) -> bool:
    """Whether two family names may be one person's: alike in some spelling, of one sound, an initial, a part of two."""
    return left == right or _alike(left, right) or sound(spelling(left)) == sound(spelling(right))


def _alike(left: str, right: str) -> bool:
    short, long = (left, right) if len(left) <= len(right) else (right, left)
    if len(short) == 1:
        return short == long[0]
    if len(short) >= _MIN_PART and (long.startswith(short) or long.endswith(short)):
        return True
    if JaroWinkler.similarity(left, right) >= _ALIKE:
        return True
    return JaroWinkler.similarity(spelling(left), spelling(right)) >= _ALIKE


def _first_names_disagree(left: MatchFields, right: MatchFields) -> bool:
    one, other = left.first_name_key, right.first_name_key
    return one is not None and other is not None and not given_names_agree(one, other) and not _exchanged(left, right)


def _last_names_disagree(left: MatchFields, right: MatchFields) -> bool:
    one, other = left.last_name_key, right.last_name_key
    return one is not None and other is not None and not family_names_agree(one, other) and not _exchanged(left, right)


def _names_disagree(left: MatchFields, right: MatchFields) -> bool:
    """Both the given and the family names, also if one of the two has them exchanged. One name alone may agree."""
    given, family = left.first_name_key, left.last_name_key
    other_given, other_family = right.first_name_key, right.last_name_key
    if given is None or family is None or other_given is None or other_family is None:
        return False
    if given_names_agree(given, other_given) or family_names_agree(family, other_family):
        return False
    return not (_alike_or_equal(given, other_family) and _alike_or_equal(family, other_given))


def _alike_or_equal(left: str, right: str) -> bool:
    return left == right or _alike(left, right)


def _dates_of_birth_disagree(left: MatchFields, right: MatchFields) -> bool:
    one, other = left.date_of_birth, right.date_of_birth
    if one is None or other is None or one == other:
        return False
    return DamerauLevenshtein.distance(one.isoformat(), other.isoformat()) > _MAX_DATE_SLIPS


def _relatives(left: MatchFields, right: MatchFields) -> bool:
    """Another given name, not merely another form of it, and another date of birth: a couple, a parent and a child."""
    one, other = left.first_name_key, right.first_name_key
    if one is None or other is None or not _dates_of_birth_disagree(left, right):
        return False
    same = spelling(one) == spelling(other) or not set(given_name_forms(one)).isdisjoint(given_name_forms(other))
    return not (same or _is_initial(one, other) or _exchanged(left, right))


def _is_initial(one: str, other: str) -> bool:
    return one[0] == other[0] and 1 in (len(one), len(other))


def _companies_disagree(left: MatchFields, right: MatchFields) -> bool:
    one, other = left.company_key, right.company_key
    if one is None or other is None or one == other:
        return False
    return JaroWinkler.similarity(one, other) < _ALIKE and not (one.startswith(other) or other.startswith(one))


def _external_ids_disagree(left: MatchFields, right: MatchFields) -> bool:
    """One source numbers them as two; ids of two sources say nothing of each other."""
    one, other = left.external_id_key, right.external_id_key
    if one is None or other is None or one == other:
        return False
    return one.partition(":")[0] == other.partition(":")[0]


def _role_mailbox(left: MatchFields, right: MatchFields) -> bool:
    return left.role_mailbox or right.role_mailbox


_VETOES: dict[str, Test] = {
    "names_disagree": _names_disagree,
    "first_names_disagree": _first_names_disagree,
    "last_names_disagree": _last_names_disagree,
    "dates_of_birth_disagree": _dates_of_birth_disagree,
    "relatives": _relatives,
    "companies_disagree": _companies_disagree,
    "external_ids_disagree": _external_ids_disagree,
    "role_mailbox": _role_mailbox,
}

RULE_FIELDS: tuple[str, ...] = tuple(_FIELDS)
RULE_VETOES: tuple[str, ...] = tuple(_VETOES)
