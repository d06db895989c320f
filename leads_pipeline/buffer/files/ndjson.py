"""NDJSON: one JSON object a line.

Objects inside a lead become columns with dotted names, so that ``{"name": {"first": "Ada"}}`` has a column
``name.first``; of several objects in a list the first to name a column has it, the others are numbered.
"""

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from leads_pipeline.buffer.files.rows import BrokenRow, FileRow
from leads_pipeline.domain.posted_lead import Fault, Unreadable, decode_lead
from leads_pipeline.errors import ImportFileError

_REASONS = {
    Fault.MALFORMED_JSON: "is not valid JSON in UTF-8",
    Fault.NOT_AN_OBJECT: "is not a JSON object",
    Fault.EMPTY_LEAD: "has no field",
    Fault.WRONG_TYPE: "has a field of the wrong type",
    Fault.NUL_CHARACTER: "holds the character U+0000",
    Fault.LONE_SURROGATE: "holds half of a surrogate pair",
    Fault.NUMBER_OUT_OF_RANGE: "holds a number beyond the range of a double",
    Fault.TOO_DEEP: "is nested too deeply",
}


class NdjsonFile:
    """A file with one JSON object a line. ``columns`` reads all of it: a late one may be the e-mail address."""

    kind = "NDJSON"
    rejected_suffix = "ndjson"
    rejected_header = b""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.total = path.stat().st_size

    @cached_property
    def columns(self) -> tuple[str, ...]:
        seen: dict[str, None] = {}
        for row in self.rows():
            if isinstance(row, FileRow):
                seen.update(dict.fromkeys(row.values))
        if not seen:
            raise ImportFileError(f"{self._path} holds no line that is a JSON object")
        return tuple(name for name in seen if name != "consent")

    def rows(self) -> Iterator[FileRow | BrokenRow]:
        position = 0
        with self._path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                position += len(line)
                text = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
                if not text.strip():
                    continue
                lead = decode_lead(text)
                if isinstance(lead, Unreadable):
                    yield BrokenRow(number, describe(lead), line, position)
                    continue
                values = flatten(lead.payload)
                if lead.consent:
                    values["consent"] = lead.consent
                yield FileRow(number, values, line, position)


def describe(lead: Unreadable) -> str:
    """Why a lead cannot be taken, with its fields, without its values."""
    fields = "; ".join(f"{fault.field} {fault.message}" for fault in lead.fields)
    return f"{_REASONS[lead.fault]}: {fields}" if fields else _REASONS[lead.fault]


def flatten(lead: dict[str, Any]) -> dict[str, Any]:
    """A lead's values by dotted column names. Lists of plain values stay lists."""
    values: dict[str, Any] = {}
    for key, value in lead.items():
        _flatten_into(values, key, value)
    return values


def _flatten_into(values: dict[str, Any], name: str, value: Any) -> None:
    if isinstance(value, dict):
        for key, item in value.items():
            _flatten_into(values, f"{name}.{key}", item)
    elif isinstance(value, list) and any(isinstance(item, dict | list) for item in value):
        for item in value:
            _flatten_into(values, name, item)
    elif value is not None:
        place = name
        number = 1
        while place in values:
            number += 1
            place = f"{name}.{number}"
        values[place] = value
