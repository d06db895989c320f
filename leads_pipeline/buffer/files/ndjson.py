"""JSON: one object a line (NDJSON), or one array of objects, which is read piece by piece.

Objects inside a lead become columns with dotted names, so that ``{"name": {"first": "Ada"}}`` has a column
``name.first``; of several objects in a list the first to name a column has it, the others are numbered.
"""

import codecs
import json
from collections.abc import Iterator
from functools import cached_property, partial
from typing import Any, BinaryIO

import msgspec

from leads_pipeline.buffer.files.content import Content, OpenContent
from leads_pipeline.buffer.files.rows import BrokenRow, FileRow, Row
from leads_pipeline.domain.import_mapping import REJECTED_BECAUSE
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
# One lead is not longer; beyond it is somebody's mistake, which must not fill the memory.
_MAX_LINE_BYTES = 4 * 1024 * 1024
_BLOCK_BYTES = 256 * 1024
_BOM = b"\xef\xbb\xbf"


class _JsonRows:
    """What both kinds of JSON have in common."""

    rejected_suffix = "ndjson"
    rejected_header = b""
    reading = ""
    notes: tuple[str, ...] = ()
    _what = ""

    def __init__(self, content: Content) -> None:
        self.content = content
        self._opened: OpenContent | None = None

    @property
    def total(self) -> int:
        return self.content.size

    @property
    def position(self) -> int:
        return 0 if self._opened is None else self._opened.position

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """Reads all of it: a late column may be the e-mail address."""
        seen: dict[str, None] = {}
        for row in self.rows():
            if isinstance(row, FileRow):
                seen.update(dict.fromkeys(row.values))
        if not seen:
            raise ImportFileError(f"{self.content.name} holds {self._what}")
        return tuple(name for name in seen if name != "consent")

    def rows(self) -> Iterator[Row | BrokenRow]:
        with self.content.open() as opened:
            self._opened = opened
            for number, raw in self._pieces(opened.stream):
                if len(raw) >= _MAX_LINE_BYTES:
                    yield BrokenRow(number, f"is longer than {_MAX_LINE_BYTES:,} bytes; its beginning is kept", raw)
                    continue
                lead = decode_lead(raw)
                if isinstance(lead, Unreadable):
                    yield BrokenRow(number, describe(lead), raw)
                    continue
                values = flatten(lead.payload)
                if lead.consent:
                    values["consent"] = lead.consent
                yield FileRow(number, values)

    def rejected(self, row: Row, reason: str) -> bytes:
        assert isinstance(row, FileRow)
        return rejected_json(row.values, reason)

    def _pieces(self, stream: BinaryIO) -> Iterator[tuple[int, bytes]]:
        raise NotImplementedError


class NdjsonFile(_JsonRows):
    """A file with one JSON object a line."""

    kind = "NDJSON"
    _what = "no line that is a JSON object"

    def _pieces(self, stream: BinaryIO) -> Iterator[tuple[int, bytes]]:
        for number, line in enumerate(iter(partial(stream.readline, _MAX_LINE_BYTES), b""), start=1):
            text = line.removeprefix(_BOM) if number == 1 else line
            if len(line) == _MAX_LINE_BYTES:
                while (rest := stream.readline(_MAX_LINE_BYTES)) and not rest.endswith(b"\n"):
                    pass
            if text.strip():
                yield number, text


class JsonArrayFile(_JsonRows):
    """A file that is one JSON array. Its lines are the numbers of its elements.

    Where one of them is no JSON nobody knows where the next begins: the file is refused from there.
    """

    kind = "JSON"
    _what = "no JSON object in its array"

    def _pieces(self, stream: BinaryIO) -> Iterator[tuple[int, bytes]]:
        text = _ArrayText(self.content.name, stream)
        text.expect("[")
        number = 0
        if text.peek() == "]":
            text.expect("]")
        else:
            while True:
                number += 1
                yield number, text.element(number)
                if text.peek() != ",":
                    text.expect("]", number)
                    break
                text.expect(",")
        if text.peek():
            raise ImportFileError(f"{self.content.name} goes on behind the end of its array")


class _ArrayText:
    """The text of an array, of which a piece at a time is in memory."""

    def __init__(self, name: str, stream: BinaryIO) -> None:
        self._name = name
        self._stream = stream
        self._decode = codecs.getincrementaldecoder("utf-8-sig")()
        self._text = ""
        self._at = 0
        self._ended = False
        self._scan = json.JSONDecoder().raw_decode

    def peek(self) -> str:
        """The next letter that is no space; empty at the end."""
        while True:
            while self._at < len(self._text):
                if not self._text[self._at].isspace():
                    return self._text[self._at]
                self._at += 1
            if not self._more():
                return ""

    def expect(self, letter: str, number: int = 0) -> None:
        if self.peek() != letter:
            where = f"behind element {number:,}" if number else "at its beginning"
            raise ImportFileError(
                f"{self._name} is not a JSON array: {where} there is no {letter!r}. Mend the file "
                "and import it again; nothing is stored twice"
            )
        self._at += 1

    def element(self, number: int) -> bytes:
        self.peek()
        while True:
            try:
                _value, end = self._scan(self._text, self._at)
            except (ValueError, RecursionError) as error:
                if len(self._text) - self._at < _MAX_LINE_BYTES and self._more():
                    continue
                raise ImportFileError(
                    f"{self._name}: element {number:,} of its array is not valid JSON, or longer than "
                    f"{_MAX_LINE_BYTES:,} bytes, or the file breaks off there. Mend the file and import "
                    "it again; nothing is stored twice"
                ) from error
            # A number may go on in the next piece.
            if end == len(self._text) and self._more():
                continue
            # On one line, as the error file needs it: in JSON a line break stands between the values only.
            raw = self._text[self._at : end].replace("\n", " ").replace("\r", " ").encode()
            self._at = end
            return raw

    def _more(self) -> bool:
        if self._ended:
            return False
        block = self._stream.read(_BLOCK_BYTES)
        self._ended = not block
        try:
            self._text = self._text[self._at :] + self._decode.decode(block, final=self._ended)
        except UnicodeDecodeError as error:
            raise ImportFileError(f"{self._name} is not UTF-8 text, as JSON has to be") from error
        self._at = 0
        return True


def rejected_json(values: dict[str, Any], reason: str) -> bytes:
    """A row of an error file: the row, and why it is there, which a later import leaves out."""
    try:
        return msgspec.json.encode({**values, REJECTED_BECAUSE: reason}) + b"\n"
    except (UnicodeEncodeError, ValueError, OverflowError):  # the very reason, perhaps: half of a surrogate pair
        return json.dumps({**values, REJECTED_BECAUSE: reason}, default=str).encode() + b"\n"


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
