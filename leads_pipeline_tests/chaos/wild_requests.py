"""Requests that nobody should send, as Hypothesis draws them: from nearly right to bytes without sense."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote_from_bytes, urlencode

from hypothesis import strategies as st

# Poison that other JSON readers, or PostgreSQL, or this door's own code choked on once.
POISON = (
    b'{"a": "\\u0000"}',
    b'{"a": "\\ud800"}',
    b'{"a": 1e400000}',
    b'{"a": ' + b"9" * 5_000 + b"}",
    b'{"a": -0.0, "a": 1, "a": null}',
    b'{"a": NaN}',
    b"\xef\xbb\xbf" + b'{"email": "bom@example.com"}',
    b"[" * 20_000 + b"]" * 20_000,
    b'{"a":' * 5_000 + b"1" + b"}" * 5_000,
    b"{" + b",".join(b'"f%d": %d' % (field, field) for field in range(10_000)) + b"}",
    b'{"consent": ' + b"[" * 20 + b"]" * 20 + b', "email": "a@example.com"}',
    b'{"email": {"a": "b"}, "phone": [1], "consent": 7}',
    b'{"email": "a@example.com"',
    b'{"email": "\xff\xfe"}',
    '{"email": "utf-16"}'.encode("utf-16"),
    b"",
    b"\x00",
    b"null",
    b'"' + b"a" * 100_000 + b'"',
)
POSTS = ("/v1/leads", "/v1/leads/batch")
PAGES = (
    "/healthz",
    "/readyz",
    "/metrics",
    "/openapi.json",
    "/docs",
    "/example",
    "/leads.js",
    "/",
    "/v1/in/",
    "/%00",
    "*",
)
METHODS = ("POST", "POST", "POST", "GET", "HEAD", "OPTIONS", "PUT", "DELETE", "PATCH", "TRACE", "BREW", "p")
MEDIA_TYPES = (
    "application/json",
    "application/x-ndjson",
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=x",
    "multipart/form-data",
    "application/json; charset=utf-16",
    "text/plain",
    "",
)

_PART = b'--x\r\nContent-Disposition: form-data; name="email"\r\n\r\n'

texts = st.text(max_size=20) | st.sampled_from(["\x00", "\ud800", "\ufeff", "a@example.com", "1e999", "§" * 300])
integers = st.integers() | st.integers(-(10**400), 10**400)
scalars = st.none() | st.booleans() | integers | st.floats() | texts | st.just("x" * 5_000)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=5) | st.dictionaries(texts, inner, max_size=5), max_leaves=15
)


def text_of(value: Any) -> bytes:
    """JSON as Python writes it, with NaN and half surrogates where they come up."""
    return json.dumps(value).encode()


@st.composite
def changed(draw: st.DrawFn, value: Any) -> Any:
    """A message that is right but for one or two places."""
    for _change in range(draw(st.integers(1, 2))):
        value = _with_one_change(draw, value)
    return value


def _with_one_change(draw: st.DrawFn, value: Any) -> Any:
    goes_deeper = isinstance(value, dict | list) and value and draw(st.integers(0, 5))
    if not goes_deeper:
        return draw(values)
    if isinstance(value, dict):
        name = draw(st.sampled_from(sorted(value)))
        if draw(st.integers(0, 9)) == 0:
            return {key: item for key, item in value.items() if key != name}
        return {**value, name: _with_one_change(draw, value[name])}
    place = draw(st.integers(0, len(value) - 1))
    return [*value[:place], _with_one_change(draw, value[place]), *value[place + 1 :]]


json_bodies = (
    values.map(text_of)
    | st.dictionaries(texts, values, max_size=5).map(text_of)
    | st.lists(st.dictionaries(texts, scalars, max_size=3), max_size=5).map(text_of)
    | st.sampled_from(POISON)
)
form_bodies = (
    st.dictionaries(texts, texts, max_size=5).map(
        lambda fields: urlencode({_encodable(k): _encodable(v) for k, v in fields.items()}).encode()
    )
    | st.binary(max_size=200).map(lambda raw: b"email=" + quote_from_bytes(raw).encode())
    | st.binary(max_size=200).map(lambda raw: _PART + raw + b"\r\n--x--")
    | st.binary(max_size=200).map(lambda raw: b"--x\r\n" + raw)
    | st.integers(1, 3_000).map(lambda count: b"&".join(b"f%d=1" % field for field in range(count)))
)  # fmt: skip
bodies = json_bodies | form_bodies | st.binary(max_size=300)


@dataclass(frozen=True)
class Request:
    """The bytes of a request. ``is_framed``: it says its own length, so that an answer is due."""

    raw: bytes
    is_framed: bool


header_values = st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=40)
header_names = st.sampled_from(
    [
        "Idempotency-Key",
        "Origin",
        "X-Leads-Source",
        "Accept",
        "Content-Encoding",
        "X-Forwarded-For",
        "User-Agent",
        "Cookie",
        "Expect",
        "Range",
        "X-API-Key",
        "webhook-id",
        "X-Hub-Signature-256",
        "Forwarded",
        "Upgrade",
        "Content-Disposition",
    ]
)
headers = st.lists(st.tuples(header_names, header_values), max_size=3)


@st.composite
def requests(draw: st.DrawFn, *, paths: tuple[str, ...], keys: Mapping[str, str]) -> Request:
    """A request to one of ``paths``, mostly with the key that opens it, in mostly sound framing."""
    path = draw(st.sampled_from(paths) | st.sampled_from(PAGES))
    body, method = draw(bodies), draw(st.sampled_from(METHODS))
    query = draw(st.sampled_from(["", "?source=website", "?key=x", "?%ff=%"]))
    lines = [
        f"{method} {path}{query} HTTP/1.1".encode(),
        b"Host: fuzz",
        b"Content-Type: " + draw(st.sampled_from(MEDIA_TYPES)).encode(),
    ]
    if draw(st.integers(0, 9)):
        lines.append(b"Authorization: Bearer " + keys.get(path, keys[POSTS[0]]).encode())
    lines += [f"{name}: {value}".encode("latin-1") for name, value in draw(headers)]
    return draw(framed(lines, body))


@st.composite
def framed(draw: st.DrawFn, lines: list[bytes], body: bytes) -> Request:
    """Head and body on the wire: whole, in chunks, cut short, too long, doubled, contradicting themselves."""
    way = draw(st.integers(0, 11))
    head = b"\r\n".join([*lines, b"Connection: close"])
    length = b"\r\nContent-Length: %d" % len(body)
    if way <= 4:
        return Request(head + length + b"\r\n\r\n" + body, is_framed=True)
    if way == 5:
        cut = draw(st.integers(0, len(body)))
        pieces = [piece for piece in (body[:cut], body[cut:]) if piece]
        chunks = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
        return Request(head + b"\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n", is_framed=True)
    odd = {
        6: head + b"\r\nContent-Length: %d\r\n\r\n" % (len(body) + 10) + body,
        7: head + b"\r\nContent-Length: %d\r\n\r\n" % (len(body) // 2) + body,
        8: head + length + length + b"1\r\n\r\n" + body,
        9: head + length + b"\r\nTransfer-Encoding: chunked\r\n\r\n" + b"zz\r\n" + body,
        10: b"\r\n".join(lines) + length + b"\r\n\r\n" + body + b"\r\n".join(lines) + b"\r\nContent-Length: -1\r\n\r\n",
        11: draw(st.binary(max_size=100)) + head + b"\r\n\r\n" + body,
    }
    return Request(odd[way], is_framed=False)


def _encodable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()
