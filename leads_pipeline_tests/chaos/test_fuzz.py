"""Every door is sent what nobody should send: it answers, in its own words, and its neighbours' leads come through.

A few hundred requests here, always the same; ``LEADS_FUZZ_EXAMPLES`` asks for more, and for new ones (``make chaos``).
"""

import json
import os
import re
import secrets
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

import psutil
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from leads_pipeline.clock import SystemClock
from leads_pipeline.config import CONFIG_VARIABLE, DATABASE_URL_VARIABLE
from leads_pipeline.storage.database import engine_for
from leads_pipeline.storage.embedded import EmbeddedServer
from leads_pipeline_tests.capture.running import make_key
from leads_pipeline_tests.capture.test_source_posts import (
    CREATION,
    GOOGLE,
    HUBSPOT_URL,
    KEYED,
    META,
    PARTNER,
    SOURCES_YAML,
    TYPEFORM,
)
from leads_pipeline_tests.chaos.senders import Senders
from leads_pipeline_tests.chaos.target import Child
from leads_pipeline_tests.chaos.wild_requests import (
    MEDIA_TYPES,
    POISON,
    POSTS,
    Request,
    bodies,
    changed,
    json_bodies,
    requests,
    text_of,
)
from leads_pipeline_tests.conftest import _maintenance
from leads_pipeline_tests.ports import free_port
from leads_pipeline_tests.sources.signing import (
    SECRET,
    STANDARD_SECRET,
    hubspot_headers,
    meta_headers,
    recorded,
    standard_headers,
    typeform_headers,
)

pytestmark = [pytest.mark.chaos, pytest.mark.slow, pytest.mark.timeout(1800)]

EXAMPLES = int(os.environ.get("LEADS_FUZZ_EXAMPLES", "100"))
ANSWER_SECONDS = 20.0
# Of a request that contradicts itself nothing is due; what comes comes at once.
GRACE_SECONDS = 0.1
MOST_GROWTH_BYTES = 150 * 1024 * 1024
SIGNED = {"crm": [CREATION], "ads": META, "search": GOOGLE, "survey": TYPEFORM, "partner": PARTNER}
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3}) ")

fuzzed = settings(
    max_examples=EXAMPLES,
    derandomize="LEADS_FUZZ_EXAMPLES" not in os.environ,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


@dataclass(frozen=True)
class Door:
    """A running service with a source of every kind, and the keys of those that need one, by address."""

    port: int
    keys: dict[str, str]
    engine: sa.Engine
    process: psutil.Process

    def ask(self, request: Request) -> list[int]:
        """The statuses that came back: at least one if the request was framed."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=ANSWER_SECONDS) as wire:
            wire.settimeout(ANSWER_SECONDS if request.is_framed else GRACE_SECONDS)
            answer = _exchange(wire, request.raw)
        statuses = [int(found) for found in _STATUS.findall(answer)]
        assert statuses or not request.is_framed, "no answer"
        assert self.process.is_running()
        return statuses

    def post(self, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
        lines = [f"POST {path} HTTP/1.1", "Host: fuzz", "Connection: close", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        with socket.create_connection(("127.0.0.1", self.port), timeout=ANSWER_SECONDS) as wire:
            answer = _exchange(wire, "\r\n".join(lines).encode() + b"\r\n\r\n" + body)
        head, _, content = answer.partition(b"\r\n\r\n")
        found = _STATUS.match(head)
        assert found is not None, "no answer"
        return int(found[1]), content


def _exchange(wire: socket.socket, raw: bytes) -> bytes:
    """Send it all, and read until the door closes; a door that has heard enough may close in mid-request."""
    parts: list[bytes] = []
    try:
        wire.sendall(raw)
        while part := wire.recv(65_536):
            parts.append(part)
    except (ConnectionError, TimeoutError):
        pass
    return b"".join(parts)


@pytest.fixture(scope="module")
def door(server: EmbeddedServer, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    """One service for all requests, so that what one of them leaves behind shows at the next. Neighbours post to it."""
    directory, name, port = tmp_path_factory.mktemp("fuzz"), f"fuzz_{secrets.token_hex(4)}", free_port()
    with _maintenance(server) as connection:
        connection.execute(f"create database {name} template {template} strategy file_copy")
    url = server.url().rpartition("/")[0] + f"/{name}"
    config = directory / "leads.yaml"
    rate = "capture: {rate: {requests: 1000000, seconds: 1}, body_seconds: 2, headers_seconds: 2}\n"
    config.write_text(SOURCES_YAML + rate)
    engine = engine_for(url)
    keys = {f"/v1/in/acme/{source}": make_key(engine, SystemClock(), source=source) for source in KEYED}
    keys |= dict.fromkeys(POSTS, keys["/v1/in/acme/website"])
    environment = {
        **os.environ,
        CONFIG_VARIABLE: str(config),
        DATABASE_URL_VARIABLE: url,
        "TEST_VENDOR_SECRET": SECRET,
        "TEST_STANDARD_SECRET": STANDARD_SECRET,
        "TEST_VERIFY_TOKEN": "my token",
        "TEST_RECORDED_SECRET": recorded("hubspot_v3")["secret"],
    }
    command = [sys.executable, "-m", "leads_pipeline", "capture", "serve", "--port", str(port)]
    service = Child(command, environment, directory / "capture.log", b"capture listens on")
    service.start()
    assert service.running is not None
    neighbours = Senders(port, keys[POSTS[0]], senders=3, batchers=1, batch_leads=5, pause_seconds=0.01)
    neighbours.impatience = 0.0
    neighbours.start()
    process = psutil.Process(service.running.pid)
    yield Door(port, keys, engine, process)
    neighbours.finish(seconds=30)
    assert service.running.poll() is None, "the service ended by itself"
    service.kill()
    with engine.connect() as connection:
        found = connection.execute(sa.text("select payload ->> 'number', lead_id from buffer where payload ? 'number'"))
        stored = {int(number): lead_id.bytes for number, lead_id in found}
    engine.dispose()
    with _maintenance(server) as connection:
        connection.execute(f"drop database if exists {name} with (force)")
    assert neighbours.ledger.wrong == []
    assert len(neighbours.ledger.acknowledged) == neighbours.ledger.posted > 0
    assert {number: stored.get(number) for number in neighbours.ledger.acknowledged} == neighbours.ledger.acknowledged
    assert neighbours.ledger.refused == 0, f"a neighbour was refused: {neighbours.ledger.answers}"
    log = service.log.read_text()
    assert "Traceback" not in log
    assert "request failed" not in log
    assert "group commit failed" not in log


def test_no_request_makes_any_door_fail(door: Door) -> None:
    paths = tuple(door.keys)
    before = door.process.memory_info().rss
    seen: set[int] = set()

    @fuzzed
    @given(request=requests(paths=paths, keys=door.keys))
    def ask(request: Request) -> None:
        statuses = door.ask(request)
        assert [status for status in statuses if status >= 500] == []
        seen.update(statuses)

    ask()
    assert len(seen) >= 6, f"the requests are not wild enough: {sorted(seen)}"
    assert door.process.memory_info().rss - before < MOST_GROWTH_BYTES


def test_no_body_makes_a_source_that_takes_keys_fail(door: Door) -> None:
    @fuzzed
    @given(path=st.sampled_from(tuple(door.keys)), body=bodies, media_type=st.sampled_from(MEDIA_TYPES))
    def post(path: str, body: bytes, media_type: str) -> None:
        headers = {"Authorization": f"Bearer {door.keys[path]}", "Content-Type": media_type}
        status, answer = door.post(path, body, headers)
        assert status < 500, answer

    post()


def test_every_known_poison_is_answered_at_every_address(door: Door) -> None:
    answered: set[int] = set()
    for path, key in door.keys.items():
        for body in POISON:
            for media_type in MEDIA_TYPES[:4]:
                headers = {"Authorization": f"Bearer {key}", "Content-Type": media_type}
                status, answer = door.post(path, body, headers)
                assert status < 500, (path, media_type, body[:50], answer)
                answered.add(status)
    assert answered >= {200, 202, 400, 415, 422}


@pytest.mark.parametrize("source", list(SIGNED))
def test_no_signed_message_makes_its_source_fail(door: Door, source: str) -> None:
    seen: set[int] = set()

    @fuzzed
    @given(message=changed(SIGNED[source]) | st.none(), raw=json_bodies)
    def post(message: Any, raw: bytes) -> None:
        body = raw if message is None else text_of(message)
        status, answer = door.post(f"/v1/in/acme/{source}", body, _signed(source, body))
        assert status < 500, answer
        seen.add(status)

    post()
    assert 200 in seen, "no message was believed"


@fuzzed
@given(broken=st.lists(bodies.map(lambda body: body.replace(b"\n", b" ")), max_size=4), place=st.integers(0, 4))
def _ask_ndjson(door: Door, broken: list[bytes], place: int) -> None:
    number = secrets.token_hex(8)
    lines = [*broken[:place], b'{"neighbour": "%s"}' % number.encode(), *broken[place:]]
    headers = {"Authorization": f"Bearer {door.keys[POSTS[1]]}", "Content-Type": "application/x-ndjson"}
    status, answer = door.post(POSTS[1], b"\n".join(lines), headers)
    assert status == 202, answer
    assert json.loads(answer)["accepted"] >= 1
    with door.engine.connect() as connection:
        stored = "select count(*) from buffer where payload ->> 'neighbour' = :number"
        assert connection.execute(sa.text(stored), {"number": number}).scalar_one() == 1


def test_a_broken_line_of_a_batch_does_not_spoil_its_neighbours(door: Door) -> None:
    partial(_ask_ndjson, door)()


def _signed(source: str, body: bytes) -> dict[str, str]:
    now = datetime.now(UTC)
    signed = {
        "crm": partial(hubspot_headers, url=HUBSPOT_URL, at=now),
        "ads": meta_headers,
        "search": lambda _body: {},  # its key is in the message
        "survey": typeform_headers,
        "partner": partial(standard_headers, at=now, event_id=secrets.token_hex(8)),
    }
    return {"Content-Type": "application/json", **signed[source](body)}


def test_a_connection_goes_on_behind_whatever_was_refused_on_it(door: Door) -> None:
    """Requests in one go on one connection: those that are refused before their body was read leave nothing of it."""
    path, key = POSTS[0], door.keys[POSTS[0]]

    def request(body: bytes, *, key: str = key, kind: str = "application/json", close: bool = False) -> bytes:
        lines = [f"POST {path} HTTP/1.1", "Host: fuzz", f"Authorization: Bearer {key}", f"Content-Type: {kind}"]
        lines += [f"Content-Length: {len(body)}", *(["Connection: close"] if close else [])]
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + body

    tag = secrets.token_hex(8)
    inner = request(b'{"smuggled": "%s"}' % tag.encode())
    sent = [
        request(b'{"n": 1, "tag": "%s"}' % tag.encode()),
        request(inner, key="lp_wrong"),
        request(inner, kind="text/plain"),
        request(b"x" * 300_000, key="lp_wrong"),
        request(b'{"n": 2, "tag": "%s"}' % tag.encode(), close=True),
    ]
    with socket.create_connection(("127.0.0.1", door.port), timeout=ANSWER_SECONDS) as wire:
        answer = _exchange(wire, b"".join(sent))
    assert [int(found) for found in _STATUS.findall(answer)] == [202, 401, 415, 401, 202]
    with door.engine.connect() as connection:
        found = connection.execute(
            sa.text("select payload from buffer where payload::text like :tag"), {"tag": f"%{tag}%"}
        )
        assert sorted(payload["n"] for payload in found.scalars()) == [1, 2]


def test_the_challenge_of_a_vendor_is_answered_as_text_whatever_it_says(door: Door) -> None:
    asked = "hub.mode=subscribe&hub.verify_token=my+token&hub.challenge="
    for challenge in (
        "1",
        "%0d%0aSet-Cookie:%20a=b%0d%0a%0d%0a",
        "%00",
        "%ff%fe",
        "<script>",
        "%F0%9F%98%80",
        "x" * 5_000,
        "",
    ):
        request = f"GET /v1/in/acme/ads?{asked}{challenge} HTTP/1.1\r\nHost: fuzz\r\nConnection: close\r\n\r\n".encode()
        with socket.create_connection(("127.0.0.1", door.port), timeout=ANSWER_SECONDS) as wire:
            head, _, _body = _exchange(wire, request).partition(b"\r\n\r\n")
        assert int(_STATUS.findall(head)[0]) < 500, challenge
        assert b"set-cookie" not in head.lower()
        assert b"text/html" not in head
