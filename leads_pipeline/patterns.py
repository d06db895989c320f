"""Regular expressions of leads.yaml: those that one value could keep busy for hours are refused when they are read.

The values come from anybody, and the door has one loop for all requests: ``^(\\w+\\.?)+@`` on forty letters without an
``@`` would end it. The sign of such a pattern is a repeat within a repeat; some that are harmless are refused with it.
"""

import re
from collections.abc import Iterator
from re import _constants, _parser  # type: ignore[attr-defined]  # the only reader of patterns that Python has
from typing import Any

# A part that comes so often at most multiplies the work and does not explode it.
_FEW = 4
_REPEATS = (_constants.MAX_REPEAT, _constants.MIN_REPEAT)


def fault_of(pattern: str) -> str | None:
    """Why the pattern cannot be used, or ``None``."""
    try:
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        return f"not a regular expression: {error}"
    if _repeats_within(_parser.parse(pattern), inside=False):
        return "a repeat within a repeat, such as (a+)+, can take hours on one value; write it without, such as a+"
    return None


def _repeats_within(node: Any, *, inside: bool) -> bool:
    for operator, argument in _operations(node):
        is_repeat = operator in _REPEATS and argument[1] > _FEW
        if (is_repeat and inside) or _repeats_within(argument, inside=inside or is_repeat):
            return True
    return False


def _operations(node: Any) -> Iterator[tuple[Any, Any]]:
    """The operations in a parsed pattern or in an operation's argument, wherever they stand in it."""
    if isinstance(node, tuple) and len(node) == 2 and isinstance(node[0], type(_constants.MAX_REPEAT)):
        yield node[0], node[1]
    elif isinstance(node, list | tuple | _parser.SubPattern):
        for item in node:
            yield from _operations(item)
