"""Which lane a lead takes, by what it says."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from leads_pipeline.domain.stage import Lane

# A regular expression is tried on so much of a value at most: the door must not be kept busy by one lead.
_LONGEST_VALUE = 500


class LaneRule(Protocol):
    """What ``config.LaneRule`` says."""

    @property
    def lane(self) -> str: ...
    @property
    def field(self) -> str: ...
    @property
    def is_in(self) -> tuple[str, ...] | None: ...
    @property
    def matches(self) -> str | None: ...
    @property
    def at_least(self) -> float | None: ...


def lane_of(fields: Mapping[str, Any], rules: Sequence[LaneRule], *, default: Lane) -> Lane:
    """The lane of the first rule that holds, else ``default``. A field that is missing or a list meets no rule."""
    for rule in rules:
        value = fields.get(rule.field)
        if isinstance(value, str | int | float) and _holds(rule, str(value)):
            return Lane(rule.lane)
    return default


def _holds(rule: LaneRule, value: str) -> bool:
    text = value.strip()[:_LONGEST_VALUE]
    if rule.is_in is not None and text.casefold() not in {item.casefold() for item in rule.is_in}:
        return False
    if rule.matches is not None and re.search(rule.matches, text) is None:
        return False
    return rule.at_least is None or _number(text) >= rule.at_least


def _number(text: str) -> float:
    """The number that a form's value is: 12,000 and 12000.50 are; what is none is below every number."""
    try:
        return float(text.replace(",", "").replace(" ", ""))
    except ValueError:
        return float("-inf")
