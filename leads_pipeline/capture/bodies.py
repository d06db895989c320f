"""Reading request bodies: bounded while they stream in, then cut into leads."""

import json
import re
from collections.abc import Iterator

import msgspec
from starlette.requests import Request

from leads_pipeline.capture.refusals import Code, Refused

JSON_TYPES = frozenset({"application/json"})
NDJSON_TYPES = frozenset({"application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines"})

_ITEMS = msgspec.json.Decoder(list[msgspec.Raw])
# A string whole, or one character that opens, closes or parts.
_TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{},"]', re.DOTALL)
_BLANK = b" \t\r\n"


def media_type(request: Request, allowed: frozenset[str]) -> str | Refused:
    """The request's media type, if the service takes it."""
    kind, _, parameters = request.headers.get("content-type", "").partition(";")
    kind = kind.strip().lower()
    charset = parameters.strip().lower().removeprefix("charset=").strip('"')
    encoded = request.headers.get("content-encoding", "identity").lower() != "identity"
    if kind not in allowed or encoded or (parameters and charset not in ("utf-8", "utf8")):
        return Refused(Code.UNSUPPORTED_MEDIA_TYPE)
    return kind


async def read_body(request: Request, *, limit: int) -> bytes | Refused:
    """The body, unless it is larger than ``limit``: then reading stops there, whatever Content-Length says."""
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > limit:
        return Refused(Code.BODY_TOO_LARGE)
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > limit:
            return Refused(Code.BODY_TOO_LARGE)
        parts.append(part)
    return b"".join(parts)


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
