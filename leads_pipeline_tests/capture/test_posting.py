"""What a sender of one lead, or of many, gets and what is then in the database."""

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import httpx
import pytest
import sqlalchemy as sa

from leads_pipeline.clock import FrozenClock
from leads_pipeline.config import Settings
from leads_pipeline.domain.ids import instant_of
from leads_pipeline_tests.capture.running import (
    Capture,
    blocked_writers,
    commits_held_up,
    make_key,
    wait_until,
)
from leads_pipeline_tests.conftest import NOW

ADA = {"email": "ada@example.org", "first_name": "Ada", "shoe_size": 38, "nested": {"a": [1, "x"]}}
NDJSON = {"Content-Type": "application/x-ndjson"}


def rows(engine: sa.Engine, table: str = "buffer") -> list[sa.Row]:  # type: ignore[type-arg]
    with engine.connect() as connection:
        return list(connection.execute(sa.text(f"select * from {table}")))


def counts(engine: sa.Engine) -> tuple[int, int]:
    with engine.connect() as connection:
        statement = "select coalesce(sum(captured), 0), coalesce(sum(duplicates), 0) from capture_batches"
        captured, duplicates = connection.execute(sa.text(statement)).one()
    return captured, duplicates


def test_a_lead_is_in_the_buffer_when_its_sender_is_answered(capture: Capture, engine: sa.Engine) -> None:
    answer = capture.post({**ADA, "consent": {"granted": True, "channel": "email"}}, **{"User-Agent": "a form"})
    assert answer.status_code == 202
    assert answer.json()["status"] == "accepted"
    [row] = rows(engine)
    assert str(row.lead_id) == answer.json()["lead_id"]
    assert instant_of(row.lead_id) == NOW == row.received_at
    assert (row.tenant, row.source, row.lane) == ("acme", "website", "real_time")
    assert row.payload == ADA
    assert row.consent == [{"granted": True, "channel": "email"}]
    assert row.context == {"sender_ip": "127.0.0.1", "sender_agent": "a form", "content_type": "application/json"}
    assert counts(engine) == (1, 0)


def test_the_address_and_the_browser_are_a_persons_where_a_page_posts(capture: Capture, engine: sa.Engine) -> None:
    capture.post(ADA, **{"User-Agent": "Firefox", "Origin": "https://www.example.com"})
    [row] = rows(engine)
    assert row.context == {"ip": "127.0.0.1", "user_agent": "Firefox", "content_type": "application/json"}


def test_a_repost_without_a_key_is_recognised_by_its_content(capture: Capture, engine: sa.Engine) -> None:
    first = capture.post(ADA)
    again = capture.post_raw(json.dumps(dict(reversed(ADA.items())), indent=3).encode())
    assert (again.status_code, again.json()["status"]) == (200, "duplicate")
    assert again.json()["lead_id"] == first.json()["lead_id"]
    assert len(rows(engine)) == 1
    assert counts(engine) == (1, 1)


def test_a_repost_with_its_key_is_recognised_and_another_body_under_it_refused(
    capture: Capture, engine: sa.Engine
) -> None:
    key = {"Idempotency-Key": "form-1"}
    first = capture.post(ADA, **key)
    again = capture.post(ADA, **key)
    other = capture.post({**ADA, "first_name": "Eve"}, **key)
    assert [first.status_code, again.status_code, other.status_code] == [202, 200, 409]
    assert again.json()["lead_id"] == first.json()["lead_id"]
    assert other.json()["error"]["code"] == "key_reused"
    assert capture.post(ADA, **{"Idempotency-Key": "form-2"}).status_code == 202
    assert len(rows(engine)) == 2
    assert counts(engine) == (2, 1)
    [context] = {row.context["idempotency_key_sha256"] for row in rows(engine)} & {
        hashlib.sha256(b"form-1").hexdigest()
    }
    assert "form-1" not in context


def test_the_same_post_from_two_sources_is_two_leads(capture: Capture, engine: sa.Engine, clock: FrozenClock) -> None:
    other = make_key(engine, clock, tenant="globex")
    clock.advance(1)
    assert capture.post(ADA).status_code == 202
    assert capture.post(ADA, Authorization=f"Bearer {other}").status_code == 202
    assert {row.tenant for row in rows(engine)} == {"acme", "globex"}


def test_a_key_may_come_as_x_api_key(capture: Capture) -> None:
    answer = capture.client.post("/v1/leads", json=ADA, headers={"Authorization": "", "X-API-Key": capture.key})
    assert answer.status_code == 202


def test_null_means_not_sent(capture: Capture, engine: sa.Engine) -> None:
    assert capture.post({"email": "ada@example.org", "phone": None, "consent": None}).status_code == 202
    assert rows(engine)[0].payload == {"email": "ada@example.org"}


def test_numbers_are_kept_for_fields_that_look_like_numbers(capture: Capture, engine: sa.Engine) -> None:
    assert capture.post({"phone": 43123456789, "postcode": 1010, "big": 10**30}).status_code == 202
    assert rows(engine)[0].payload == {"phone": 43123456789, "postcode": 1010, "big": 10**30}


POISON = [
    b'{"email": "a\\u0000b@example.org"}',
    b'{"email": "x", "odd\\u0000key": 1}',
    b'{"first_name": "\\ud800"}',
    b'{"first_name": "\\udc00 alone"}',
    b'{"score": 1e400}',
    b'{"score": -1e400}',
    b'{"score": ' + b"9" * 5_000 + b"}",
    b'{"deep": ' + b"[" * 20_000 + b"]" * 20_000 + b"}",
    b'{"deep": ' + b'{"a":' * 40 + b"1" + b"}" * 40 + b"}",
    b'{"email": ["a@example.org"]}',
    b'{"email": true}',
    b'"a lead"',
    b"[]",
    b"null",
    b"17",
    b"{}",
]


@pytest.mark.parametrize("poison", POISON, ids=lambda text: text[:24].decode())
def test_a_poison_row_is_refused_by_itself_and_its_neighbours_are_accepted(
    capture: Capture, engine: sa.Engine, poison: bytes
) -> None:
    alone = capture.post_raw(poison)
    assert alone.status_code == 422, alone.text
    before, after = b'{"email": "before@example.org"}', b'{"email": "after@example.org"}'
    array = capture.post_raw(b"[" + b",".join([before, poison, after]) + b"]", "/v1/leads/batch")
    lines = capture.post_raw(b"\n".join([before, poison, after]), "/v1/leads/batch", **NDJSON)
    assert array.status_code == lines.status_code == 202, array.text
    assert [item["status"] for item in array.json()["results"]] == ["accepted", "refused", "accepted"]
    assert [item["status"] for item in lines.json()["results"]] == ["duplicate", "refused", "duplicate"]
    for item in (array.json()["results"][1], lines.json()["results"][1]):
        assert item["index"] == 1
        assert item["error"]["code"] == alone.json()["error"]["code"]
        assert item["error"]["status"] == 422
    assert sorted(row.payload["email"] for row in rows(engine)) == ["after@example.org", "before@example.org"]


def test_a_line_that_is_not_json_is_refused_by_itself(capture: Capture) -> None:
    body = b'{"email": "a@example.org"}\n\n{"email": \n\xff\xfe\n{"email": "b@example.org"}\r\n'
    answer = capture.post_raw(body, "/v1/leads/batch", **NDJSON).json()
    assert [item["status"] for item in answer["results"]] == ["accepted", "refused", "refused", "accepted"]
    assert answer["results"][1]["error"]["code"] == "malformed_json"
    assert answer["results"][1]["error"]["status"] == 400
    assert (answer["accepted"], answer["duplicate"], answer["refused"]) == (2, 0, 2)


def test_every_wrong_field_of_a_lead_is_named(capture: Capture) -> None:
    error = capture.post({"email": ["x"], "phone": {"n": 1}, "city": "Graz", "company": False}).json()["error"]
    assert [fault["field"] for fault in error["fields"]] == ["email", "phone", "company"]
    assert error["field"] == "email"
    assert error["fields"][1]["message"] == "must be a string or a number, not an object"


def test_equal_leads_in_one_batch_are_one_lead(capture: Capture, engine: sa.Engine) -> None:
    results = capture.post_batch([ADA, {"email": "b@example.org"}, ADA])
    assert [item["status"] for item in results] == ["accepted", "accepted", "duplicate"]
    assert results[0]["lead_id"] == results[2]["lead_id"]
    assert counts(engine) == (2, 1)


def test_a_batch_under_a_key_is_recognised_item_by_item(capture: Capture, engine: sa.Engine) -> None:
    key = {"Idempotency-Key": "export-7"}
    first = capture.post([ADA, ADA], "/v1/leads/batch", **key).json()["results"]
    again = capture.post([ADA, {"email": "other@example.org"}], "/v1/leads/batch", **key).json()["results"]
    assert [item["status"] for item in first] == ["accepted", "accepted"]
    assert [item["status"] for item in again] == ["duplicate", "refused"]
    assert again[1]["error"]["code"] == "key_reused"
    assert len(rows(engine)) == 2


def test_a_batch_larger_than_a_group_commit_is_stored_whole(capture: Capture, engine: sa.Engine) -> None:
    results = capture.post_batch([{"email": f"lead{number}@example.org"} for number in range(2_500)])
    assert {item["status"] for item in results} == {"accepted"}
    assert len({UUID(item["lead_id"]) for item in results}) == 2_500
    assert len(rows(engine)) == 2_500
    assert counts(engine) == (2_500, 0)


def test_an_empty_batch_is_answered(capture: Capture) -> None:
    assert capture.post_batch([]) == []


def test_posts_that_arrive_together_share_commits(capture: Capture, engine: sa.Engine) -> None:
    def post(number: int) -> httpx.Response:
        return capture.post({"email": f"lead{number}@example.org"})

    def queued() -> int:
        return int(capture.client.get("/readyz").json()["queued_leads"])

    with ThreadPoolExecutor(24) as pool:
        with commits_held_up(engine):
            first = pool.submit(post, 0)
            wait_until(lambda: blocked_writers(engine) == 1)
            others = [pool.submit(post, number) for number in range(1, 24)]
            wait_until(lambda: queued() == 23)
        assert {sent.result().status_code for sent in (first, *others)} == {202}
    assert counts(engine) == (24, 0)
    assert sorted(row.captured for row in rows(engine, "capture_batches")) == [1, 23]


def test_the_service_says_that_it_lives_and_is_ready(capture: Capture, settings: Settings) -> None:
    assert capture.client.get("/healthz").json() == {"status": "alive"}
    ready = capture.client.get("/readyz")
    assert ready.status_code == 200
    assert ready.json() == {
        "status": "ready",
        "queued_leads": 0,
        "max_queued_leads": settings.capture.max_queued_leads,
        "buffer_level": "normal",
        "refused_lanes": [],
    }
