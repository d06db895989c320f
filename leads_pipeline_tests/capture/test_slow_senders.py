"""Senders that dribble, swarm or speak something else than HTTP, on bare connections; and their neighbours."""

import json
import logging
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
import structlog.testing

from leads_pipeline.capture.protocol import TAMED, tame_logs
from leads_pipeline.clock import FrozenClock
from leads_pipeline.config import Settings
from leads_pipeline_tests.capture.processes import connect, metric, received, service
from leads_pipeline_tests.capture.running import Capture, capture_service, make_key, wait_until, with_capture
from leads_pipeline_tests.capture.test_workers import post
from leads_pipeline_tests.conftest import LEADS_YAML

HEADERS = b"POST /v1/leads HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


def quick(settings: Settings, **limits: object) -> Settings:
    return with_capture(settings, **{"headers_seconds": 1, "body_seconds": 1, **limits})


def send_until_closed(connection: socket.socket, dribble: bytes, *, every: float) -> None:
    """Send one byte after the other until the other side closes."""
    connection.settimeout(every)
    for place in range(10_000):
        try:
            connection.sendall(dribble[place % len(dribble) : place % len(dribble) + 1])
            if connection.recv(1) == b"":
                break
        except TimeoutError:
            continue
        except OSError:
            break


def is_closed_unanswered(connection: socket.socket) -> bool:
    """Wait until the other side closes; whether it said nothing before."""
    try:
        return received(connection) == b""
    except ConnectionResetError:  # something of ours came after the end
        return True


@pytest.mark.parametrize(
    ("first", "dribble"),
    [
        (b"", HEADERS * 100),
        (b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", HEADERS * 100),
        (b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", b"\r\n"),
    ],
    ids=["first request", "second request", "blank lines for ever"],
)
def test_who_dribbles_headers_is_closed_in_time_and_the_neighbours_are_served(
    settings: Settings, database_url: str, engine: sa.Engine, clock: FrozenClock, first: bytes, dribble: bytes
) -> None:
    with capture_service(quick(settings), database_url=database_url, engine=engine, clock=clock) as capture:
        began = time.monotonic()
        slow = [connect(capture.url) for _ in range(20)]
        for connection in slow:
            if first:
                connection.sendall(first)
                assert connection.recv(65_536).startswith(b"HTTP/1.1 200")
        for connection in slow[1:]:
            connection.sendall(dribble[:20])
        assert capture.post({"number": "1"}).status_code == 202
        send_until_closed(slow[0], dribble, every=0.1)
        assert time.monotonic() - began >= 1
        for connection in slow[1:]:
            assert is_closed_unanswered(connection)
        assert capture.post({"number": "2"}).status_code == 202
        assert metric(capture.url, "leads_capture_connections_closed_total", reason="slow_headers") == 20
        for connection in slow:
            connection.close()


def test_who_says_nothing_at_all_is_closed(
    settings: Settings, database_url: str, engine: sa.Engine, clock: FrozenClock
) -> None:
    with (
        capture_service(quick(settings), database_url=database_url, engine=engine, clock=clock) as capture,
        connect(capture.url, timeout=60) as silent,
    ):
        assert received(silent) == b""


def test_who_dribbles_a_body_gets_408_and_the_neighbours_are_served(
    settings: Settings, database_url: str, engine: sa.Engine, clock: FrozenClock
) -> None:
    with capture_service(quick(settings), database_url=database_url, engine=engine, clock=clock) as capture:
        with connect(capture.url, timeout=60) as slow:
            slow.sendall(
                HEADERS + b"Authorization: Bearer " + capture.key.encode() + b"\r\nContent-Length: 100\r\n\r\n{"
            )
            assert capture.post({"number": "1"}).status_code == 202
            answer = received(slow)
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"connection: close" in answer.lower()
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == "body_too_slow"


def test_a_connection_that_is_kept_open_between_requests_is_not_slow(capture: Capture) -> None:
    with connect(capture.url) as kept:
        for _ in range(3):
            kept.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert kept.recv(65_536).startswith(b"HTTP/1.1 200")
    assert metric(capture.url, "leads_capture_connections_closed_total") == 0


def test_one_connection_too_many_is_told_so_in_the_one_error_shape(
    settings: Settings, database_url: str, engine: sa.Engine, clock: FrozenClock
) -> None:
    limited = quick(settings, max_connections=3, headers_seconds=60)
    with capture_service(limited, database_url=database_url, engine=engine, clock=clock) as capture:
        held = [connect(capture.url) for _ in range(3)]
        for connection in held:
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert connection.recv(65_536).startswith(b"HTTP/1.1 200")
        with connect(capture.url) as extra:
            extra.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            head, _, body = received(extra).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 503 ")
        assert b"retry-after: 1" in head.lower()
        assert json.loads(body)["error"]["code"] == "queue_full"
        for connection in held:
            connection.close()
        wait_until(lambda: post(capture.url, capture.key, "1").status_code == 202)


def test_what_is_no_http_is_answered_400_and_nothing_of_it_is_logged(
    database_url: str, engine: sa.Engine, clock: FrozenClock, tmp_path: Path
) -> None:
    secret = b"Zaphod-Beeblebrox"
    key = make_key(engine, clock)
    yaml = LEADS_YAML + "capture: {headers_seconds: 1}\n"
    with service(tmp_path, database_url, yaml=yaml) as running:
        for sent in (
            secret + b"\r\n\r\n",
            b"GET /" + secret + b" HTTP/1.1\r\n" + secret + b"\r\n\r\n",
            b"POST /v1/leads HTTP/1.1\r\nContent-Length: " + secret + b"\r\n\r\n",
            b"POST /v1/leads HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz" + secret + b"\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + secret,
        ):
            with connect(running.url) as connection:
                connection.sendall(sent)
                assert received(connection).startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 401 "))
        with connect(running.url) as asks_for_a_websocket:
            asks_for_a_websocket.sendall(
                b"GET /v1/leads HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
            )
            assert asks_for_a_websocket.recv(65_536).startswith(b"HTTP/1.1 405 ")
        assert post(running.url, key, "1").status_code == 202
        assert running.end() == 0
    assert running.errors == ""


@pytest.fixture
def tamed() -> Iterator[None]:
    """Logging as the service has it, and as it was before once the test is over."""
    before = [(logger, logger.handlers, logger.propagate, logger.level) for logger in map(logging.getLogger, TAMED)]
    for logger, *_others in before:
        logger.setLevel(logging.CRITICAL)  # as another server of this process may have left it
    tame_logs()
    yield
    for logger, handlers, propagate, level in before:
        logger.handlers, logger.propagate = handlers, propagate
        logger.setLevel(level)


@pytest.mark.parametrize("name", ["uvicorn.error", "asyncio"])
def test_of_what_breaks_in_the_server_the_class_is_logged_and_not_the_words(
    name: str, tamed: None, capsys: pytest.CaptureFixture[str]
) -> None:
    error = ValueError("Zaphod-Beeblebrox")
    with structlog.testing.capture_logs() as logs:
        logging.getLogger(name).error("%s in ASGI application", "Zaphod-Beeblebrox", exc_info=error)
        logging.getLogger(name).warning("Zaphod-Beeblebrox")
    assert [(line["event"], line["error_class"]) for line in logs] == [("http server failed", "ValueError")]
    assert "Zaphod" not in str(logs)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("in_two", [False, True], ids=["at once", "body behind the headers"])
@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_a_request_that_would_rather_speak_http_2_is_read_with_its_body_as_http_1(
    capture: Capture, engine: sa.Engine, chunked: bool, in_two: bool
) -> None:
    """Java's client asks for that with every request over plain HTTP, as does ``curl --http2``."""
    wish = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
    head = HEADERS + b"Authorization: Bearer " + capture.key.encode() + b"\r\n"
    with connect(capture.url) as connection:
        for number in range(3):
            lead = b'{"email":"ada%d@example.org"}' % number
            if chunked:
                rest = b"Transfer-Encoding: chunked\r\n\r\n", b"%x\r\n%b\r\n0\r\n\r\n" % (len(lead), lead)
            else:
                rest = b"Content-Length: %d\r\n\r\n" % len(lead), lead
            parts = [head + wish + rest[0], rest[1]] if in_two else [head + wish + rest[0] + rest[1]]
            for part in parts:
                connection.sendall(part)
                time.sleep(0.05)
            assert connection.recv(65_536).startswith(b"HTTP/1.1 202 ")
        last = b'{"email":"bob%d@example.org"}'
        connection.sendall(
            b"".join(head + wish + b"Content-Length: %d\r\n\r\n" % len(last % n) + last % n for n in (1, 2))
        )
        answers = connection.recv(65_536)
        while answers.count(b"HTTP/1.1 202 ") < 2:
            answers += connection.recv(65_536)
    with engine.connect() as reading:
        stored = reading.execute(sa.text("select payload ->> 'email' from buffer order by 1")).scalars().all()
    assert stored == [f"{name}@example.org" for name in ("ada0", "ada1", "ada2", "bob1", "bob2")]
