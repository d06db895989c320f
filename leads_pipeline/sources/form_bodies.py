"""The body of an HTML form, in both ways that browsers send one. Of files only the name and the size are kept."""

import logging
from typing import Any, Final
from urllib.parse import unquote_to_bytes

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, QuerystringParser, parse_options_header

URL_ENCODED = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data"

# A form has tens of fields; a body of a megabyte could hold half a million, and would keep the door busy for seconds.
MAX_FIELDS = 1_000


# The parsers warn of each broken form, with a character of it; the post says enough.
_SILENT = logging.Logger("forms", level=logging.CRITICAL + 1)  # noqa: LOG001 - outside of the tree: nobody sets its level


class NotAForm:
    """Says that a body cannot be read as the form that its content type announces."""


NOT_A_FORM: Final = NotAForm()

Pairs = list[tuple[str, Any]]


class _TooMany(ValueError):
    """The form has more fields than ``MAX_FIELDS``."""


def form_of(body: bytes, content_type: str) -> Pairs | NotAForm:
    """The form's names and values in the order they were sent; a file is ``{"filename": …, "size": …}``, in bytes."""
    try:
        kind, options = parse_options_header(content_type)
        if kind == URL_ENCODED.encode():
            return _url_encoded(body)
        return _multipart(body, options.get(b"boundary", b""))
    except (FormParserError, ValueError):  # UnicodeEncodeError, too, of a content type that is not latin-1
        return NOT_A_FORM


def _url_encoded(body: bytes) -> Pairs:
    reading = _UrlEncoded()
    reading.read(body)
    return reading.pairs


def _multipart(body: bytes, boundary: bytes) -> Pairs:
    if not boundary:
        raise FormParserError("the content type names no boundary")
    reading = _Multipart()
    reading.read(body, boundary)
    return reading.pairs


class _UrlEncoded:
    """The parser's callbacks for ``a=1&b=2``."""

    def __init__(self) -> None:
        self.pairs: Pairs = []
        self._fields = 0
        self._name = b""
        self._value = b""

    def read(self, body: bytes) -> None:
        if body.count(b"&") > 2 * MAX_FIELDS:  # the parser takes a quarter of a second for a megabyte of nothing else
            raise _TooMany
        parser = QuerystringParser(
            {
                "on_field_name": self._on_name,
                "on_field_data": self._on_value,
                "on_field_end": self._on_end,
            }
        )
        parser.logger = _SILENT
        parser.write(body)
        parser.finalize()

    def _on_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _on_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_end(self) -> None:
        self._fields = _one_more(self._fields)
        name = _text(unquote_to_bytes(self._name.replace(b"+", b" ")))
        if name:
            self.pairs.append((name, _text(unquote_to_bytes(self._value.replace(b"+", b" ")))))
        self._name = self._value = b""


class _Multipart:
    """The parser's callbacks for ``multipart/form-data``."""

    def __init__(self) -> None:
        self.pairs: Pairs = []
        self._fields = 0
        self._header_name = self._header_value = b""
        self._disposition = b""
        self._parts: list[bytes] = []
        self._is_whole = False

    def read(self, body: bytes, boundary: bytes) -> None:
        parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._on_part_begin,
                "on_header_field": self._on_header_name,
                "on_header_value": self._on_header_value,
                "on_header_end": self._on_header_end,
                "on_part_data": self._on_data,
                "on_part_end": self._on_part_end,
                "on_end": self._on_end,
            },
        )
        parser.logger = _SILENT
        parser.write(body)
        parser.finalize()
        if not self._is_whole:
            raise FormParserError("the form breaks off")

    def _on_part_begin(self) -> None:
        self._fields = _one_more(self._fields)
        self._disposition = b""
        self._parts = []

    def _on_header_name(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _on_header_end(self) -> None:
        if self._header_name.lower() == b"content-disposition":
            self._disposition = self._header_value
        self._header_name = self._header_value = b""

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        self._parts.append(data[start:end])

    def _on_part_end(self) -> None:
        _kind, options = parse_options_header(self._disposition)
        name = _text(options.get(b"name", b""))
        content = b"".join(self._parts)
        self._parts = []
        if not name:
            return
        if b"filename" not in options:
            self.pairs.append((name, _text(content)))
        elif options[b"filename"] or content:  # else no file was chosen
            self.pairs.append((name, {"filename": _text(options[b"filename"]), "size": len(content)}))

    def _on_end(self) -> None:
        self._is_whole = True


def _one_more(fields: int) -> int:
    if fields >= MAX_FIELDS:
        raise _TooMany
    return fields + 1


def _text(raw: bytes) -> str:
    """UTF-8, or else what old pages send: Windows' western characters."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("cp1252", "replace")
