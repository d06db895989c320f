"""What a request's body is, and the cutting of it into leads."""

import json
import re
from collections.abc import Mapping

import msgspec

from leads_pipeline.capture.refusals import Code, Refused

JSON_TYPES = frozenset({"application/json"})
NDJSON_TYPES = frozenset({"application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines"})

_ITEMS = msgspec.json.Decoder(list[msgspec.Raw])
# A string whole, or one character that opens, closes or parts.
_TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{},"]', re.DOTALL)
_LINE = re.compile(rb"[^ \t\r\n][^\n]*")
_BLANK = b" \t\r\n"
# A million strings and brackets take 0.4 s to cut by hand, in which nobody else is answered; 16 MB of them took 5 s.
# Ten thousand leads of fifteen fields have half as many.
MOST_TOKENS = 1_000_000


def media_type(headers: Mapping[bytes, bytes], allowed: frozenset[str]) -> str | Refused:
    """The request's media type, if the service takes it."""
    content_type = headers.get(b"content-type", b"").decode("latin-1")
    if content_type in allowed and b"content-encoding" not in headers:  # nearly always
        return content_type
    kind, _, parameters = content_type.partition(";")
    kind = kind.strip().lower()
    charset = parameters.strip().lower().removeprefix("charset=").strip('"')
    encoded = headers.get(b"content-encoding", b"identity").lower() != b"identity"
    if kind not in allowed or encoded or (parameters and charset not in ("utf-8", "utf8")):
        return Refused(Code.UNSUPPORTED_MEDIA_TYPE)
    return kind


def split_ndjson(body: bytes, *, most: int) -> list[bytes] | Refused:
    """The lines that hold something, unless they are more than ``most``."""
    lines: list[bytes] = []
    for line in _LINE.finditer(body.removeprefix(b"\xef\xbb\xbf")):
        lines.append(line.group())
        if len(lines) > most:
            return Refused(Code.TOO_MANY_LEADS)
    return lines


def split_array(body: bytes, *, most: int) -> list[bytes] | Refused:
    """The items of a JSON array, each as its own text, so that one that cannot be read does not spoil the others."""
    if body.count(b",") <= MOST_TOKENS:  # eight million items, of two bytes each, would take a gigabyte to hold
        try:
            items = [bytes(item) for item in _ITEMS.decode(body)]
        except (ValueError, RecursionError):
            pass
        else:
            return items if len(items) <= most else Refused(Code.TOO_MANY_LEADS)
    text = body.strip(_BLANK)
    if not text.startswith(b"["):
        return Refused(Code.NOT_AN_ARRAY if _is_json(body) else Code.MALFORMED_JSON)
    return _cut(text, most=most)


def _cut(text: bytes, *, most: int) -> list[bytes] | Refused:
    """The items of an array by its brackets and commas alone, if these fit together.

    Needed for poison that JSON's own reader stops at, such as nesting by the thousand.
    """
    items: list[bytes] = []
    depth = 0
    start = 1
    closed = False
    for place, token in enumerate(_TOKEN.finditer(text)):
        if place >= MOST_TOKENS:
            return Refused(Code.BODY_TOO_LARGE)
        mark = token.group()
        if closed or mark == b'"':
            return Refused(Code.MALFORMED_JSON)
        if mark in b"[{":
            depth += 1
        elif mark in b"]}":
            depth -= 1
            closed = depth == 0
        if closed or (mark == b"," and depth == 1):
            item = text[start : token.start()].strip(_BLANK)
            if not item:
                return Refused(Code.MALFORMED_JSON)
            items.append(item)
            if len(items) > most:
                return Refused(Code.TOO_MANY_LEADS)
            start = token.end()
    return items if closed and not text[start:].strip(_BLANK) else Refused(Code.MALFORMED_JSON)


def _is_json(body: bytes) -> bool:
    try:
        json.loads(body)
    except (ValueError, RecursionError):
        return False
    return True
