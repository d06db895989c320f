"""Walks the table of refusals: each is provoked over HTTP, has the one shape, and stands in the docs as it is."""

import base64
import hmac
import re
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from sqlalchemy.engine import make_url

from leads_pipeline.capture.refusals import REFUSALS, Code
from leads_pipeline.clock import FrozenClock
from leads_pipeline.config import BoundsSettings, BufferSettings, parse_settings
from leads_pipeline.storage.api_keys import create_lookup_key, create_outcomes_key
from leads_pipeline_tests.capture.running import (
    Capture,
    blocked_writers,
    capture_service,
    commits_held_up,
    make_key,
    wait_until,
    with_capture,
)

SECRET = "Zaphod-Beeblebrox"
DOCS = Path(__file__).parents[2] / "docs" / "capture.md"


SOURCES = """
version: 1
tenants:
  acme:
    sources:
      website: {lane: real_time}
      webinar: {cors_origins: ["https://www.example.com"]}
      busy: {rate: {requests: 1, seconds: 60, burst: 1}}
      typeform: {kind: typeform, secret: {env: TYPEFORM_SECRET}}
      meta: {kind: meta, secret: {env: META_SECRET}}
"""


@pytest.fixture
def capture(
    tmp_path: Path, database_url: str, engine: sa.Engine, clock: FrozenClock, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Capture]:
    """A service with narrow limits, sources of other kinds, and one secret of two."""
    monkeypatch.setenv("TYPEFORM_SECRET", "tfsecret")
    monkeypatch.delenv("META_SECRET", raising=False)
    narrow = with_capture(
        parse_settings(SOURCES, path=tmp_path / "leads.yaml"),
        max_body_bytes=4_000,
        max_batch_body_bytes=8_000,
        max_batch_leads=3,
        max_queued_leads=2,
        body_seconds=0.2,
    )
    narrow = narrow.model_copy(update={"buffer": BufferSettings(bounds=BoundsSettings(max_leads=20))})
    with capture_service(narrow, database_url=database_url, engine=engine, clock=clock) as running:
        yield running


def _typeform(capture: Capture, body: bytes, *, secret: bytes = b"tfsecret") -> httpx.Response:
    signature = base64.b64encode(hmac.digest(secret, body, "sha256")).decode()
    return capture.post_raw(body, "/v1/in/acme/typeform", **{"Typeform-Signature": f"sha256={signature}"})


def _from_elsewhere(capture: Capture, engine: sa.Engine) -> httpx.Response:
    key = make_key(engine, capture.clock, source="webinar")
    return capture.post({"email": SECRET}, Authorization=f"Bearer {key}", Origin="https://other.example.net")


def _too_often(capture: Capture, engine: sa.Engine) -> httpx.Response:
    key = {"Authorization": f"Bearer {make_key(engine, capture.clock, source='busy')}"}
    assert [capture.post({"email": SECRET, "n": n}, **key).status_code for n in range(2)] == [202, 202]
    return capture.post({"email": SECRET, "n": 3}, **key)


def _dribbled(capture: Capture) -> httpx.Response:
    """A body of which the rest does not come; read from the socket, as no client library waits with a body."""
    address = httpx.URL(capture.url)
    with socket.create_connection((address.host, address.port or 80), timeout=30) as sender:
        head = f"POST /v1/leads HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {capture.key}\r\n"
        sender.sendall(f"{head}Content-Type: application/json\r\nContent-Length: 100\r\n\r\n".encode())
        sender.sendall(b'{"first_name": "' + SECRET.encode())
        answer = b""
        while part := sender.recv(65_536):  # until the service closes the connection
            answer += part
    head_lines, _, body = answer.partition(b"\r\n\r\n")
    status_line, *lines = head_lines.decode().split("\r\n")
    headers = [line.partition(": ")[::2] for line in lines]
    return httpx.Response(int(status_line.split()[1]), headers=headers, content=body)


def _batch_item(capture: Capture, raw: bytes) -> httpx.Response:
    return capture.post_raw(raw)


def _wrong_key(capture: Capture) -> httpx.Response:
    return capture.post({"email": SECRET}, Authorization=f"Bearer {capture.key[:-1]}?")


def _reused_key(capture: Capture) -> httpx.Response:
    capture.post({"email": "a@example.org"}, **{"Idempotency-Key": "k"})
    return capture.post({"email": SECRET}, **{"Idempotency-Key": "k"})


def _endless_body(capture: Capture) -> httpx.Response:
    def chunks() -> Iterator[bytes]:
        for _ in range(40):
            yield b'{"first_name": "' + SECRET.encode() * 100

    return capture.client.post("/v1/leads", content=chunks(), headers={"Content-Type": "application/json"})


# What PostgreSQL refuses and the door takes is not known today; should there be something, only that lead is refused.
_REFUSE_PAYLOAD = f"""
create function refuse_payload() returns trigger language plpgsql as $$
begin
    if new.payload ->> 'first_name' = '{SECRET}' then raise exception 'cannot be kept' using errcode = '22000'; end if;
    return new;
end $$;
create trigger refuse_payload before insert on buffer for each row execute function refuse_payload();
"""


def _unstorable(capture: Capture, engine: sa.Engine) -> httpx.Response:
    with engine.begin() as connection:
        connection.execute(sa.text(_REFUSE_PAYLOAD))
    leads = [{"email": "a@example.org"}, {"first_name": SECRET}, {"email": "b@example.org"}]
    statuses = [item["status"] for item in capture.post_batch(leads)]
    assert statuses == ["accepted", "refused", "accepted"]
    return capture.post({"first_name": SECRET})


def _broken_schema(capture: Capture, engine: sa.Engine) -> httpx.Response:
    with engine.begin() as connection:
        connection.execute(sa.text("alter table capture_batches rename to gone"))
    return capture.post({"first_name": SECRET})


def _full_queue(capture: Capture, engine: sa.Engine) -> httpx.Response:
    def post(number: int) -> None:
        answers.append(capture.post({"email": f"lead{number}@example.org"}))

    answers: list[httpx.Response] = []
    threads = [threading.Thread(target=post, args=[number]) for number in range(3)]
    with commits_held_up(engine):
        threads[0].start()
        wait_until(lambda: blocked_writers(engine) == 1)
        for thread in threads[1:]:
            thread.start()
        wait_until(lambda: _queued(capture) is None)
        refused = capture.post({"first_name": SECRET})
    for thread in threads:
        thread.join()
    assert [answer.status_code for answer in answers] == [202, 202, 202]
    return refused


def _queued(capture: Capture) -> int | None:
    """How many wait, or ``None`` when the service says that it is full."""
    answer = capture.client.get("/readyz")
    return int(answer.json()["queued_leads"]) if answer.status_code == 200 else None


@contextmanager
def _database_gone(engine: sa.Engine) -> Iterator[None]:
    name = engine.url.database
    maintenance = sa.create_engine(
        make_url(str(engine.url.set(database="postgres").render_as_string(hide_password=False))),
        isolation_level="AUTOCOMMIT",
    )
    with maintenance.connect() as connection:
        connection.execute(sa.text(f"alter database {name} allow_connections false"))
        connection.execute(
            sa.text("select pg_terminate_backend(pid) from pg_stat_activity where datname = :name"), {"name": name}
        )
        yield
        connection.execute(sa.text(f"alter database {name} allow_connections true"))
    maintenance.dispose()


def _database_unavailable(capture: Capture, engine: sa.Engine) -> httpx.Response:
    assert capture.post({"email": "before@example.org"}).status_code == 202
    capture.clock.advance(3)  # past the patience for a reconnect, and past what is remembered of the keys
    with _database_gone(engine):
        assert capture.client.get("/readyz").status_code == 503
        with ThreadPoolExecutor(1) as pool:
            posting = pool.submit(capture.post, {"first_name": SECRET}, **{"Idempotency-Key": "once"})
            # The patience for a reconnect is over when the clock says so.
            wait_until(lambda: (capture.clock.advance(1), posting.done())[1])
            refused = posting.result()
    wait_until(lambda: capture.client.get("/readyz").status_code == 200)
    assert capture.post({"first_name": SECRET}, **{"Idempotency-Key": "once"}).status_code == 202
    return refused


def _full_buffer(capture: Capture, engine: sa.Engine) -> httpx.Response:
    with engine.begin() as connection:  # more than buffer.bounds.max_leads wait
        connection.execute(
            sa.text(
                "insert into buffer select gen_random_uuid(), 'acme', 'website', 'batch', now(), '{}', '[]', '{}' "
                "from generate_series(1, 30)"
            )
        )
    wait_until(lambda: capture.post({"email": "a@example.org"}).status_code == 503)
    return capture.post({"first_name": SECRET})


def _raw(body: bytes) -> Callable[[Capture], httpx.Response]:
    return lambda capture: capture.post_raw(body.replace(b"%", SECRET.encode()))


def _asked(capture: Capture, engine: sa.Engine, question: dict[str, str]) -> httpx.Response:
    with engine.begin() as connection:
        key = create_lookup_key(connection, tenant="acme", now=capture.clock.now()).text
    return capture.post(question, "/v1/contacts/lookup", Authorization=f"Bearer {key}")


def _told(capture: Capture, engine: sa.Engine, outcomes: Any) -> httpx.Response:
    with engine.begin() as connection:
        key = create_outcomes_key(connection, tenant="acme", now=capture.clock.now()).text
    return capture.post(outcomes, "/v1/outcomes", Authorization=f"Bearer {key}")


def _contacts_unreadable(capture: Capture, engine: sa.Engine) -> httpx.Response:
    with engine.begin() as connection:
        connection.execute(sa.text("revoke select on match_records from leads_lookup"))
        connection.execute(sa.text("revoke select (email_key) on match_records from leads_lookup"))
    return _asked(capture, engine, {"email": f"{SECRET}@example.org"})


NEEDS_ENGINE: dict[Code, Callable[[Capture, sa.Engine], httpx.Response]] = {
    Code.UNSTORABLE: _unstorable,
    Code.INTERNAL_ERROR: _broken_schema,
    Code.QUEUE_FULL: _full_queue,
    Code.DATABASE_UNAVAILABLE: _database_unavailable,
    Code.ORIGIN_NOT_ALLOWED: _from_elsewhere,
    Code.TOO_MANY_REQUESTS: _too_often,
    Code.BUFFER_FULL: _full_buffer,
    Code.INVALID_LOOKUP: lambda capture, engine: _asked(capture, engine, {"email": SECRET}),
    Code.INVALID_OUTCOME: lambda capture, engine: _told(capture, engine, {"kind": SECRET}),
    Code.TOO_MANY_OUTCOMES: lambda capture, engine: _told(capture, engine, [SECRET] * 1_001),
    Code.LOOKUP_UNAVAILABLE: _contacts_unreadable,
}
SCENARIOS: dict[Code, Callable[[Capture], httpx.Response]] = {
    Code.MALFORMED_JSON: _raw(b'{"first_name": "%"'),
    Code.NOT_AN_ARRAY: lambda capture: capture.post({"first_name": SECRET}, "/v1/leads/batch"),
    Code.INVALID_IDEMPOTENCY_KEY: lambda capture: capture.post({"email": SECRET}, **{"Idempotency-Key": "x" * 256}),
    Code.UNKNOWN_SOURCE: lambda capture: capture.post({"email": SECRET}, "/v1/leads?source=nowhere"),
    Code.BAD_KEY: _wrong_key,
    Code.WRONG_SCOPE: lambda capture: capture.post({"email": SECRET}, "/v1/contacts/lookup"),
    Code.SOURCE_MISMATCH: lambda capture: capture.post({"email": SECRET}, **{"X-Leads-Source": "webinar"}),
    Code.NOT_FOUND: lambda capture: capture.post({"email": SECRET}, f"/v2/{SECRET}"),
    Code.METHOD_NOT_ALLOWED: lambda capture: capture.client.put("/v1/leads", json={"email": SECRET}),
    Code.KEY_REUSED: _reused_key,
    Code.BODY_TOO_LARGE: lambda capture: capture.post({"first_name": SECRET * 300}),
    Code.TOO_MANY_LEADS: lambda capture: capture.post([{"email": SECRET}] * 4, "/v1/leads/batch"),
    Code.UNSUPPORTED_MEDIA_TYPE: lambda capture: capture.client.post("/v1/leads", data={"email": SECRET}),
    Code.NOT_AN_OBJECT: _raw(b'"%"'),
    Code.EMPTY_LEAD: lambda capture: capture.post({}),
    Code.WRONG_TYPE: _raw(b'{"first_name": ["%"]}'),
    Code.NUL_CHARACTER: _raw(b'{"first_name": "%\\u0000"}'),
    Code.LONE_SURROGATE: _raw(b'{"first_name": "%\\ud83d"}'),
    Code.NUMBER_OUT_OF_RANGE: _raw(b'{"first_name": "%", "n": 1e400}'),
    Code.BAD_SIGNATURE: lambda capture: _typeform(capture, b'{"a": "' + SECRET.encode() + b'"}', secret=b"other"),
    Code.WRONG_SHAPE: lambda capture: _typeform(capture, b'{"a": "' + SECRET.encode() + b'"}'),
    Code.SOURCE_NOT_READY: lambda capture: capture.post({"email": SECRET}, "/v1/in/acme/meta"),
    Code.BODY_TOO_SLOW: _dribbled,
    Code.TOO_DEEP: _raw(b'{"first_name": ' + b"[" * 1_900 + b"]" * 1_900 + b"}"),
}


@pytest.mark.parametrize("code", list(Code))
def test_every_refusal_has_its_status_its_shape_and_its_hint(code: Code, capture: Capture, engine: sa.Engine) -> None:
    answer = NEEDS_ENGINE[code](capture, engine) if code in NEEDS_ENGINE else SCENARIOS[code](capture)
    refusal = REFUSALS[code]
    assert answer.status_code == refusal.status, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert set(answer.json()) == {"error"}
    error: dict[str, Any] = answer.json()["error"]
    assert {"code", "message", "request_id"} <= set(error) <= {"code", "message", "request_id", "field", "fields"}
    assert error["code"] == code
    assert error["message"] == refusal.message
    assert answer.headers["x-request-id"] == error["request_id"]
    hint = 60 if code is Code.TOO_MANY_REQUESTS else refusal.retry_after_seconds
    assert answer.headers.get("retry-after") == (None if hint is None else str(hint))
    assert SECRET not in answer.text
    assert (hint is not None) == (refusal.status >= 500 or refusal.status in (408, 429))


def test_every_refusal_stands_in_the_docs_as_it_is() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\d{3}) \| ([^|]+) \| ([^|]+) \|$", DOCS.read_text(), flags=re.MULTILINE)
    documented = {code: (int(status), message.strip(), hint.strip()) for code, status, message, hint in rows}
    assert documented == {
        str(refusal.code): (
            refusal.status,
            refusal.message,
            f"after {refusal.retry_after_seconds} s" if refusal.retry_after_seconds else "not as it stands",
        )
        for refusal in REFUSALS.values()
    }


def test_a_body_without_an_announced_length_is_cut_off_where_it_gets_too_large(capture: Capture) -> None:
    assert _endless_body(capture).json()["error"]["code"] == "body_too_large"


def test_a_lead_in_a_batch_is_held_to_the_size_of_a_lead(capture: Capture) -> None:
    small, large = {"email": "a@example.org"}, {"message": "x" * 5_000}
    results = capture.post_batch([small, large])
    assert [item["status"] for item in results] == ["accepted", "refused"]
    assert results[1]["error"]["code"] == "body_too_large"


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "application/json; charset=latin-1"},
        {"Content-Type": "application/json", "Content-Encoding": "gzip"},
        {"Content-Type": "text/plain"},
        {"Content-Type": ""},
    ],
)
def test_a_body_that_would_be_misread_is_refused(capture: Capture, headers: dict[str, str]) -> None:
    assert capture.post_raw(b'{"email": "a@example.org"}', **headers).status_code == 415
    assert capture.post_raw(b"{}", **{"Content-Type": "application/json; charset=UTF-8"}).status_code == 422


@pytest.mark.parametrize(
    "body", [b"", b"[", b"[}", b'[{"a": 1}', b'[{"a": 1},]', b'[{"a": 1} "b"', b"[1] 2", b'["\\ud800", "x]', b"[,]"]
)
def test_a_batch_that_is_not_json_as_a_whole_is_refused_as_a_whole(capture: Capture, body: bytes) -> None:
    answer = capture.post_raw(body, "/v1/leads/batch")
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "malformed_json")


def test_a_refused_method_says_which_are_allowed(capture: Capture) -> None:
    assert "POST" in capture.client.get("/v1/leads").headers["allow"]


def test_no_key_is_refused_before_the_body_is_read(capture: Capture) -> None:
    answer = capture.client.post("/v1/leads", content=b"not json", headers={"Authorization": ""})
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")
