"""A request's body as JSON, and the small readings of it that several kinds share.

Vendors' JSON is read more generously than ours: what is JSON by its grammar is taken, also where a value in it cannot
be stored (half of a surrogate pair, a number beyond a double). The door then keeps such a post raw, instead of having
its vendor send it in vain for a day.
"""

import json
import re
from collections.abc import Mapping
from typing import Any, Final, NoReturn

import msgspec

from leads_pipeline.sources.port import Fault, Unreadable

# Python's own readers give up at some 990 levels, and each a little earlier or later than the other: far below it, what
# one of them has read the others can walk too.
MAX_NESTING = 200

_REFERENCE = re.compile(r"[A-Za-z0-9_-]{1,100}")


class NotJson:
    """Says that a body is not JSON; ``None`` is JSON."""


NOT_JSON: Final = NotJson()
MALFORMED: Final = Unreadable(Fault.MALFORMED_JSON, "the body is not valid JSON in UTF-8")


def json_of(body: bytes) -> Any | NotJson:
    """The JSON value of a body, or ``NOT_JSON``: also for one that is nested deeper than ``MAX_NESTING``."""
    try:
        value = msgspec.json.decode(body)
    except (ValueError, RecursionError):  # msgspec's errors and UnicodeDecodeError are ValueErrors
        value = _generously(body)
    opened = body.count(b"{") + body.count(b"[")
    return NOT_JSON if opened > MAX_NESTING and _is_deeper(value) else value


def _generously(body: bytes) -> Any | NotJson:
    try:
        return json.loads(body.decode("utf-8-sig"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError):  # also for an integer of more digits than Python converts
        return NOT_JSON


def _refuse_constant(_literal: str) -> NoReturn:
    raise ValueError  # NaN and Infinity, which Python reads and JSON does not know


def _is_deeper(value: Any) -> bool:
    level = [value] if isinstance(value, dict | list) else []
    for _depth in range(MAX_NESTING):
        level = [
            entry
            for item in level
            for entry in (item.values() if isinstance(item, dict) else item)
            if isinstance(entry, dict | list)
        ]
        if not level:
            return False
    return True


def text_of(value: object) -> str | None:
    """A text or a whole number as text that can be stored; ``None`` for all else, and for an empty text."""
    if isinstance(value, int) and not isinstance(value, bool):
        # Python refuses to write out longer ones; no vendor's id has twenty digits.
        return str(value) if abs(value) < 10**30 else None
    if not isinstance(value, str) or not value or "\x00" in value:
        return None
    try:
        value.encode()
    except UnicodeEncodeError:
        return None
    return value


def reference_of(value: object) -> str | None:
    """The name under which a vendor is asked for a lead; only one that can stand in an address as it is."""
    text = text_of(value)
    return text if text is not None and _REFERENCE.fullmatch(text) else None


def one_or_all(values: list[Any]) -> Any:
    """A list of one value as that value."""
    return values[0] if len(values) == 1 else values


def add_repeated(found: dict[str, Any], name: str, value: Any) -> None:
    """Put a value under its name; a name that comes again makes a list of all its values."""
    if name not in found:
        found[name] = list(value) if isinstance(value, list) else value
        return
    before = found[name]
    if not isinstance(before, list):
        found[name] = before = [before]
    before.extend(value if isinstance(value, list) else [value])


def add_apart(found: dict[str, Any], answers: Mapping[str, Any], *, under: str) -> None:
    """Put answers beside the fields that describe them; one whose name is taken goes under ``under`` and a dot."""
    taken = frozenset(found)
    for name, value in answers.items():
        found[f"{under}.{name}" if name in taken else name] = value


def is_scalar(value: object) -> bool:
    """Whether a value is one that a field may have outside of a list."""
    return isinstance(value, str | int | float)
