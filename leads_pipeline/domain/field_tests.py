"""Whether a field's value meets what a rule of leads.yaml asks of it."""

import re
from typing import Any, Protocol

# A regular expression is tried on so much of a value at most: nobody must be kept busy by one lead.
_LONGEST_VALUE = 500


class FieldTest(Protocol):
    """What a rule asks of a value; what is ``None`` is not asked."""

    @property
    def is_in(self) -> tuple[str, ...] | None: ...
    @property
    def matches(self) -> str | None: ...
    @property
    def at_least(self) -> float | None: ...


def meets(value: Any, test: FieldTest) -> bool:
    """Whether the value meets all of the test. What is missing, a list or a mapping meets nothing."""
    if not isinstance(value, str | int | float):
        return False
    text = str(value).strip()[:_LONGEST_VALUE]
    if test.is_in is not None and text.casefold() not in {item.casefold() for item in test.is_in}:
        return False
    if test.matches is not None and re.search(test.matches, text) is None:
        return False
    return test.at_least is None or _number(text) >= test.at_least


def _number(text: str) -> float:
    """The number that a form's value is: 12,000 and 12000.50 are; what is none is below every number."""
    try:
        return float(text.replace(",", "").replace(" ", ""))
    except ValueError:
        return float("-inf")
