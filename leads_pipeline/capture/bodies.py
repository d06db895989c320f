"""What a request's body is, and the cutting of it into leads."""

import json
import re
from collections.abc import Iterator, Mapping

import msgspec

from leads_pipeline.capture.refusals import Code, Refused

JSON_TYPES = frozenset({"application/json"})
NDJSON_TYPES = frozenset({"application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines"})

_ITEMS = msgspec.json.Decoder(list[msgspec.Raw])
# A string whole, or one character that opens, closes or parts.
_TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{},"]', re.DOTALL)
_BLANK = b" \t\r\n"


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


def split_ndjson(body: bytes) -> list[bytes]:
    """The lines that hold something."""
    return [line for line in body.removeprefix(b"\xef\xbb\xbf").split(b"\n") if line.strip(_BLANK)]


def split_array(body: bytes) -> list[bytes] | Refused:
    """The items of a JSON array, each as its own text, so that one that cannot be read does not spoil the others."""
    try:
        return [bytes(item) for item in _ITEMS.decode(body)]
    except (ValueError, RecursionError):
        pass
    text = body.strip(_BLANK)
    if not text.startswith(b"["):
        return Refused(Code.NOT_AN_ARRAY if _is_json(body) else Code.MALFORMED_JSON)
    items = list(_cut(text))
    return [item for item in items if item is not None] if None not in items else Refused(Code.MALFORMED_JSON)


def _cut(text: bytes) -> Iterator[bytes | None]:
    """The items of an array by its brackets and commas alone; ``None`` if these do not fit together.

    Needed for poison that JSON's own reader stops at, such as nesting by the thousand.
    """
    depth = 0
    start = 1
    closed = False
    for token in _TOKEN.finditer(text):
        mark = token.group()
        if closed or mark == b'"':
            yield None
            return
        if mark in b"[{":
            depth += 1
        elif mark in b"]}":
            depth -= 1
            closed = depth == 0
        if closed or (mark == b"," and depth == 1):
            item = text[start : token.start()].strip(_BLANK)
            if not item:
                yield None
                return
            yield item
            start = token.end()
    if not closed or text[start:].strip(_BLANK):
        yield None


def _is_json(body: bytes) -> bool:
    try:
        json.loads(body)
    except (ValueError, RecursionError):
        return False
    return True
