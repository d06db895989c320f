"""The key goes where it belongs and nowhere else, and nothing that a vendor answers does harm."""

import base64
import gzip
import json
import logging
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from pydantic import SecretStr

from leads_pipeline.clock import FrozenClock
from leads_pipeline.errors import ConfigError
from leads_pipeline.outbound import transport as transport_module
from leads_pipeline.outbound.credentials import StaticKey
from leads_pipeline.outbound.transport import HttpAnswer, NetworkFailure, Transport
from leads_pipeline_tests.conftest import NOW
from leads_pipeline_tests.outbound.http_listener import Listener, hang_up, listening

KEY = "k3y-of-acme"
PERSON = "ada+leads@example.com"

PLACES = ["bearer", "basic", "header:X-Key", "query:api_key", "body:api_key", "form:key"]


@pytest.fixture
def listener() -> Iterator[Listener]:
    with listening() as listener:
        yield listener


def _transport(url: str, *, key_in: str = "bearer", key: str | None = KEY, timeout_seconds: float = 5) -> Transport:
    credentials = None if key is None else StaticKey(SecretStr(key), base_url=url, key_in=key_in, user="AC1")
    return Transport(url, credentials=credentials, timeout_seconds=timeout_seconds, connections=2)


def _ask(transport: Transport, key_in: str) -> HttpAnswer | NetworkFailure:
    """One request with the address where that vendor would have it."""
    if key_in.startswith("form"):
        return transport.send("POST", "/look-up", form={"email": PERSON})
    if key_in.startswith("body"):
        return transport.send("POST", "/look-up", body={"emails": [PERSON]})
    return transport.send("GET", "/look-up", query={"email": PERSON})


@pytest.mark.parametrize("key_in", PLACES)
def test_the_key_and_the_address_arrive_where_the_vendor_wants_them(listener: Listener, key_in: str) -> None:
    answer = _ask(_transport(listener.url, key_in=key_in), key_in)
    assert isinstance(answer, HttpAnswer)
    assert answer.status == 200
    [sent] = listener.sent
    query = parse_qs(urlsplit(sent.path).query)
    match key_in:
        case "bearer":
            assert sent.headers["authorization"] == f"Bearer {KEY}"
            assert query == {"email": [PERSON]}
        case "basic":
            assert base64.b64decode(sent.headers["authorization"].removeprefix("Basic ")).decode() == f"AC1:{KEY}"
            assert query == {"email": [PERSON]}
        case "header:X-Key":
            assert sent.headers["x-key"] == KEY
            assert query == {"email": [PERSON]}
        case "query:api_key":
            assert query == {"email": [PERSON], "api_key": [KEY]}
        case "body:api_key":
            assert json.loads(sent.content) == {"emails": [PERSON], "api_key": KEY}
            assert sent.headers["content-type"] == "application/json"
        case "form:key":
            assert parse_qs(sent.content.decode()) == {"email": [PERSON], "key": [KEY]}
            assert sent.headers["content-type"] == "application/x-www-form-urlencoded"
    assert sent.path.count(KEY) == (key_in == "query:api_key")
    assert KEY not in sent.headers.get("referer", "")


def test_a_key_in_the_body_comes_with_a_request_that_has_none(listener: Listener) -> None:
    _transport(listener.url, key_in="body:api_key").send("POST", "/credits")
    assert json.loads(listener.sent[0].content) == {"api_key": KEY}


def test_a_file_goes_out_byte_by_byte_under_its_own_type(listener: Listener) -> None:
    content = b'Id,Name\r\n1,"Ada, Countess"\r\n'
    _transport(listener.url).send("PUT", "/jobs/1/batches", content=content, content_type="text/csv")
    [sent] = listener.sent
    assert (sent.method, sent.content, sent.headers["content-type"]) == ("PUT", content, "text/csv")


def test_an_answer_that_is_no_json_is_told_as_text(listener: Listener) -> None:
    listener.content = b'sf__Id,Email\n"003","ada@example.com"\n'
    answer = _transport(listener.url).send("GET", "/jobs/1/results")
    assert isinstance(answer, HttpAnswer)
    assert (answer.body, answer.text) == (None, 'sf__Id,Email\n"003","ada@example.com"\n')
    assert "ada@example.com" not in repr(answer)


class _Rotating:
    """Credentials whose first token ran out; ``left`` more can be had."""

    def __init__(self, left: int) -> None:
        self.left = left
        self.number = 1

    def apply(self, request: httpx.Request) -> httpx.Request:
        request.headers["Authorization"] = f"Bearer {self.number}"
        return request

    def refused(self, request: httpx.Request, body: object) -> bool:
        self.left, self.number = self.left - 1, self.number + 1
        return self.left >= 0


@pytest.mark.parametrize(("status", "left", "renewed"), [(401, 1, True), (401, 0, False), (403, 1, False)])
def test_credentials_are_renewed_after_a_401_and_the_request_is_not_sent_again_past_the_limiter(
    listener: Listener, status: int, left: int, renewed: bool
) -> None:
    listener.status = status
    transport = Transport(listener.url, credentials=_Rotating(left), timeout_seconds=5, connections=1)
    answer = transport.send("GET", "/look-up")
    assert isinstance(answer, HttpAnswer)
    assert answer.credentials_renewed is renewed
    assert len(listener.sent) == 1
    transport.send("GET", "/look-up")
    assert listener.sent[1].headers["authorization"] == f"Bearer {1 if status == 403 else 2}"


def test_without_a_key_none_is_sent(listener: Listener) -> None:
    _transport(listener.url, key=None).send("GET", "/look-up")
    assert "authorization" not in listener.sent[0].headers


@pytest.mark.parametrize("key_in", PLACES)
@pytest.mark.parametrize("status", [200, 302, 401, 500])
def test_neither_key_nor_address_is_logged_at_any_level(
    listener: Listener, caplog: pytest.LogCaptureFixture, key_in: str, status: int
) -> None:
    caplog.set_level(logging.DEBUG)
    for name in ("httpx", "httpcore"):
        caplog.set_level(logging.DEBUG, logger=name)  # somebody who looks for a fault turns them on by name
    listener.status = status
    listener.headers = {"Location": f"{listener.url}/else?email={PERSON}", "X-Echo": KEY}
    transport = _transport(listener.url, key_in=key_in)
    _ask(transport, key_in)
    transport.close()
    unreachable = _transport("http://127.0.0.1:9", key_in=key_in)
    assert _ask(unreachable, key_in) is NetworkFailure.NOT_SENT
    held = vars(transport)["_client"].auth
    shown = caplog.text + "".join(map(repr, (transport, vars(transport), held, vars(held))))
    for secret in (KEY, PERSON, "ada%2Bleads", base64.b64encode(f"AC1:{KEY}".encode()).decode()):
        assert secret not in shown


def test_what_others_send_with_httpx_is_logged_as_before(
    listener: Listener, caplog: pytest.LogCaptureFixture
) -> None:  # fmt: skip
    caplog.set_level(logging.DEBUG)
    _transport(listener.url).send("GET", "/ours")
    httpx.get(f"{listener.url}/theirs", trust_env=False, timeout=60)
    assert "/theirs" in caplog.text
    assert "/ours" not in caplog.text


def test_a_redirect_is_an_answer(listener: Listener) -> None:
    listener.status, listener.headers = 307, {"Location": f"{listener.url}/elsewhere"}
    answer = _transport(listener.url).send("GET", "/look-up")
    assert isinstance(answer, HttpAnswer)
    assert answer.status == 307
    assert [sent.path for sent in listener.sent] == ["/look-up"]


def test_proxies_of_the_environment_are_not_used(listener: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    assert isinstance(_transport(listener.url).send("GET", "/look-up"), HttpAnswer)


@pytest.mark.parametrize("announced", [True, False])
def test_an_answer_that_is_too_large_is_none_and_is_not_read_to_its_end(
    listener: Listener, monkeypatch: pytest.MonkeyPatch, announced: bool
) -> None:
    monkeypatch.setattr(transport_module, "MAX_ANSWER_BYTES", 100_000)
    written = 0

    def endless(handler: BaseHTTPRequestHandler) -> None:
        nonlocal written
        handler.send_response(200)
        if announced:
            handler.send_header("Content-Length", str(10**9))
        handler.send_header("Connection", "close")
        handler.end_headers()
        while written < 10**9:
            handler.wfile.write(b"1" * 65_536)
            written += 65_536

    listener.answer_with = endless
    assert _transport(listener.url).send("GET", "/look-up") is NetworkFailure.NO_ANSWER
    assert written < 10**8  # what the buffers of both ends hold, not what the vendor had


def test_an_answer_of_the_largest_size_is_read(listener: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    listener.content = b'"' + b"x" * 998 + b'"'
    monkeypatch.setattr(transport_module, "MAX_ANSWER_BYTES", 1000)
    answer = _transport(listener.url).send("GET", "/look-up")
    assert isinstance(answer, HttpAnswer)
    assert answer.body == "x" * 998


@pytest.mark.parametrize(
    "content", [b"", b"<html>gone</html>", b"[" * 200_000, b"\xff\xfe\x00", b'{"a": 1', b"9" * 5000]
)  # fmt: skip
def test_a_body_that_is_no_json_is_none(listener: Listener, content: bytes) -> None:
    listener.content = content
    answer = _transport(listener.url).send("GET", "/look-up")
    assert isinstance(answer, HttpAnswer)
    assert answer.body is None


def test_an_answer_that_is_compressed_unasked_is_not_blown_up(listener: Listener) -> None:
    listener.content, listener.headers = gzip.compress(b'"' + b" " * 1_000_000 + b'"'), {"Content-Encoding": "gzip"}
    answer = _transport(listener.url).send("GET", "/look-up")
    assert isinstance(answer, HttpAnswer)
    assert answer.body is None
    assert listener.sent[0].headers["accept-encoding"] == "identity"


def test_an_answer_that_drips_in_after_the_time_out_is_none(listener: Listener) -> None:
    clock = FrozenClock(NOW)

    def drip(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "2")
        handler.end_headers()
        handler.wfile.write(b"1")
        clock.advance(5.1)
        handler.wfile.write(b"2")

    listener.answer_with = drip
    slow = Transport(listener.url, credentials=None, timeout_seconds=5, connections=1, clock=clock)
    assert slow.send("GET", "/look-up") is NetworkFailure.NO_ANSWER


class _Slow:
    """Credentials that take a while, as those do that have to be fetched."""

    def __init__(self, clock: FrozenClock) -> None:
        self._clock = clock

    def apply(self, request: httpx.Request) -> httpx.Request:
        self._clock.advance(5.1)
        return request

    def refused(self, request: httpx.Request, body: object) -> bool:
        return False


def test_an_answer_has_its_whole_time_however_long_the_credentials_took(listener: Listener) -> None:
    clock = FrozenClock(NOW)
    transport = Transport(listener.url, credentials=_Slow(clock), timeout_seconds=5, connections=1, clock=clock)
    assert isinstance(transport.send("GET", "/look-up"), HttpAnswer)


@pytest.mark.parametrize("key_in", ["bearer", "body:api_key", "form:key"])
def test_a_vendor_that_does_not_answer_is_given_up_after_the_time_out(listener: Listener, key_in: str) -> None:
    over = threading.Event()
    listener.answer_with = lambda _handler: over.wait(10) and None
    answer = _ask(_transport(listener.url, key_in=key_in, timeout_seconds=0.2), key_in)
    over.set()
    assert answer is NetworkFailure.NO_ANSWER


def test_a_connection_that_breaks_after_the_request_leaves_open_what_became_of_it(listener: Listener) -> None:
    listener.answer_with = hang_up
    assert _transport(listener.url).send("GET", "/look-up") is NetworkFailure.NO_ANSWER


@pytest.mark.parametrize("key", ["k3y\n", " k3y", "k3y\r\nX-Other: 1", "k\u00e9y", "k3y\x00"])
@pytest.mark.parametrize("key_in", PLACES)
def test_a_key_that_cannot_be_sent_is_refused_without_being_shown(key: str, key_in: str) -> None:
    with pytest.raises(ConfigError, match=r"the key for api\.example\.com cannot be sent") as refused:
        _transport("https://api.example.com/v2", key_in=key_in, key=key)
    assert key.strip() not in repr(refused.value)


@pytest.mark.parametrize("key_in", ["cookie:key", "header", "query:", "bearer:X", ""])
def test_there_is_no_other_place_for_a_key(key_in: str) -> None:
    with pytest.raises(ValueError, match="no place"):
        _transport("https://api.example.com", key_in=key_in)


@pytest.mark.parametrize(("timeout_seconds", "connect"), [(70, 10), (3, 3)])
def test_a_connection_is_waited_for_less_long_than_an_answer(timeout_seconds: float, connect: float) -> None:
    timeout = vars(_transport("http://127.0.0.1:9", timeout_seconds=timeout_seconds))["_client"].timeout
    assert (timeout.connect, timeout.read) == (connect, timeout_seconds)
