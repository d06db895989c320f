"""What a sender may post as one lead: any JSON object that can be stored and read again.

Only the form is judged here, at the door, where the sender can still mend it. Whether the lead is *usable* is
``domain.validation``'s question: an unusable lead is stored and quarantined with its reasons. The HTTP door and the
file import share this module, so that a lead is the same whichever way it comes.
"""

import json
import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NoReturn

import msgspec

from leads_pipeline.domain.lead import FIELDS_BY_NAME

# PostgreSQL and every JSON reader behind it must be able to walk a stored lead; forms nest three levels, not sixteen.
MAX_DEPTH = 16
MAX_CONSENT_STATEMENTS = 100

_ENCODER = msgspec.json.Encoder()


class Fault(StrEnum):
    """Why something cannot be taken as a lead."""

    MALFORMED_JSON = "malformed_json"
    NOT_AN_OBJECT = "not_an_object"
    EMPTY_LEAD = "empty_lead"
    WRONG_TYPE = "wrong_type"
    NUL_CHARACTER = "nul_character"
    LONE_SURROGATE = "lone_surrogate"
    NUMBER_OUT_OF_RANGE = "number_out_of_range"
    TOO_DEEP = "too_deep"


@dataclass(frozen=True, slots=True)
class FieldFault:
    """What is wrong with one field. Names the field, never its value."""

    field: str
    message: str


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Something that cannot be taken as a lead, and why."""

    fault: Fault
    fields: tuple[FieldFault, ...] = ()


@dataclass(frozen=True, slots=True)
class PostedLead:
    """One lead as it was sent: its fields without ``consent``, and its consent statements."""

    payload: dict[str, Any]
    consent: list[Any]

    def canonical_bytes(self) -> bytes:
        """The same bytes for the same content, whatever the order of its keys."""
        return msgspec.json.encode({"payload": self.payload, "consent": self.consent}, order="sorted")


def decode_lead(raw: bytes) -> PostedLead | Unreadable:
    """Read the JSON text of one lead."""
    try:
        value = msgspec.json.decode(raw)
    except (ValueError, RecursionError):  # msgspec's errors and UnicodeDecodeError are ValueErrors
        return _why_undecodable(raw)
    return read_lead(value)


def read_lead(value: object) -> PostedLead | Unreadable:
    """Judge the form of one decoded lead; ``None`` values are taken as not sent."""
    if not isinstance(value, dict):
        return Unreadable(Fault.NOT_AN_OBJECT)
    fault = storage_fault(value)
    if fault is not None:
        return fault
    payload = {str(key): item for key, item in value.items() if item is not None and key != "consent"}
    consent = statements_of(value.get("consent"))
    faults = [
        FieldFault(key, f"must be a string or a number, not {_json_type(item)}")
        for key, item in payload.items()
        if key in FIELDS_BY_NAME and (isinstance(item, bool) or not isinstance(item, str | int | float))
    ]
    if len(consent) > MAX_CONSENT_STATEMENTS:
        faults.append(FieldFault("consent", f"must hold at most {MAX_CONSENT_STATEMENTS} statements"))
    if faults:
        return Unreadable(Fault.WRONG_TYPE, tuple(faults))
    if not payload:
        return Unreadable(Fault.EMPTY_LEAD)
    return PostedLead(payload, consent)


def statements_of(consent: object) -> list[Any]:
    """The consent statements that a lead came with: one, a list of them, or none."""
    if consent is None:
        return []
    return list(consent) if isinstance(consent, list) else [consent]


def storage_fault(lead: dict[Any, Any]) -> Unreadable | None:
    """What PostgreSQL could not keep: NUL characters, lone surrogates, numbers beyond a double, bottomless nesting."""
    for key, value in lead.items():
        if _is_plain(key) and _is_plain(value):  # nearly everything: halves the cost of judging a lead
            continue
        fault = _value_fault(key) or _value_fault(value)
        if fault is not None:
            named = key in FIELDS_BY_NAME or key == "consent"
            return Unreadable(fault, (FieldFault(key, _FAULT_TEXT[fault]),) if named else ())
    return None


def _is_plain(value: object) -> bool:
    return isinstance(value, str) and value.isascii() and "\x00" not in value


def _value_fault(value: object) -> Fault | None:
    level: list[object] = [value]
    for _depth in range(MAX_DEPTH):
        deeper: list[object] = []
        for item in level:
            if isinstance(item, dict):
                deeper.extend(item.keys())
                deeper.extend(item.values())
            elif isinstance(item, list):
                deeper.extend(item)
            else:
                fault = _scalar_fault(item)
                if fault is not None:
                    return fault
        if not deeper:
            return None
        level = deeper
    return Fault.TOO_DEEP


def _scalar_fault(value: object) -> Fault | None:
    if isinstance(value, str):
        if "\x00" in value:
            return Fault.NUL_CHARACTER
        return Fault.LONE_SURROGATE if not value.isascii() and _has_surrogate(value) else None
    if isinstance(value, float) and not math.isfinite(value):
        return Fault.NUMBER_OUT_OF_RANGE
    return None


_FAULT_TEXT = {
    Fault.NUL_CHARACTER: "must not hold the character U+0000",
    Fault.LONE_SURROGATE: "must not hold half of a surrogate pair",
    Fault.NUMBER_OUT_OF_RANGE: "must not hold a number beyond the range of a double",
    Fault.TOO_DEEP: f"must not be nested deeper than {MAX_DEPTH} levels",
}


def _has_surrogate(text: str) -> bool:
    try:
        _ENCODER.encode(text)
    except UnicodeEncodeError:
        return True
    return False


def _why_undecodable(raw: bytes) -> Unreadable:
    """Tell poison that is JSON by its grammar from text that is not JSON. Slow, and only for refused input."""
    try:
        value = json.loads(raw.decode("utf-8"), parse_constant=_refuse_constant)
    except RecursionError:
        return Unreadable(Fault.TOO_DEEP)
    except (UnicodeDecodeError, json.JSONDecodeError, _NotJsonError):
        return Unreadable(Fault.MALFORMED_JSON)
    except ValueError:  # an integer of more digits than Python converts
        return Unreadable(Fault.NUMBER_OUT_OF_RANGE)
    if not isinstance(value, dict):
        return Unreadable(Fault.NOT_AN_OBJECT)
    return storage_fault(value) or Unreadable(Fault.MALFORMED_JSON)


class _NotJsonError(Exception):
    pass


def _refuse_constant(_literal: str) -> NoReturn:
    raise _NotJsonError  # NaN and Infinity, which Python reads and JSON does not know


def _json_type(value: object) -> str:
    if isinstance(value, bool):
        return "a boolean"
    return "an array" if isinstance(value, list) else "an object"
