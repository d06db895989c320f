"""Outcomes over HTTP: who may tell, what is taken, that nothing counts twice, and what the door may not do."""

import json
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import psycopg
import pytest
import sqlalchemy as sa

from leads_pipeline.config import Settings
from leads_pipeline.config.sources import KeyRate
from leads_pipeline.domain.ids import uuid7
from leads_pipeline.domain.outcomes import FIELDS, OutcomeKind
from leads_pipeline.storage import schema
from leads_pipeline.storage.api_keys import create_lookup_key, create_outcomes_key, revoke_api_key
from leads_pipeline.storage.roles import CAPTURE_ROLE
from leads_pipeline_tests.capture.running import Capture, capture_service, with_capture
from leads_pipeline_tests.conftest import NOW
from leads_pipeline_tests.steps.rows import rows_of

PATH = "/v1/outcomes"
DOCS = Path(__file__).resolve().parents[2] / "docs/outcomes.md"
LEAD = "0198c1a5-7a3b-7f00-8000-000000000001"
BOUNCE = {"kind": "hard_bounce", "lead_id": LEAD, "event_id": "esp-1", "occurred_at": "2026-01-15T10:00:00+01:00"}


@dataclass
class Teller:
    """Somebody with a key of scope outcomes."""

    capture: Capture
    key: str

    def tell(self, outcomes: Any) -> httpx.Response:
        return self.capture.client.post(PATH, json=outcomes, headers={"Authorization": f"Bearer {self.key}"})

    def faults(self, **changes: object) -> list[str]:
        given = {name: value for name, value in {**BOUNCE, **changes}.items() if value is not None}
        answer = self.tell(given)
        assert answer.status_code == 422, answer.text
        assert answer.json()["error"]["code"] == "invalid_outcome"
        return [fault["field"] for fault in answer.json()["error"]["fields"]]


def outcomes_key(engine: sa.Engine, *, tenant: str = "acme") -> str:
    with engine.begin() as connection:
        return create_outcomes_key(connection, tenant=tenant, now=NOW).text


@pytest.fixture
def teller(capture: Capture, engine: sa.Engine) -> Teller:
    return Teller(capture, outcomes_key(engine))


def test_an_outcome_is_a_row_by_the_time_it_is_answered(teller: Teller, engine: sa.Engine) -> None:
    answer = teller.tell(BOUNCE)
    assert (answer.status_code, answer.json()) == (202, {"status": "accepted"})
    [row] = rows_of(engine, schema.outcomes)
    assert (row["tenant"], row["kind"], row["lead_id"], row["contact_id"]) == ("acme", "hard_bounce", UUID(LEAD), None)
    assert (row["occurred_at"], row["received_at"]) == (NOW.replace(hour=9), NOW)
    assert teller.key.split("_")[1] == row["key_id"]


def test_what_is_told_again_counts_once_and_stays_as_it_was_told_first(teller: Teller, engine: sa.Engine) -> None:
    assert teller.tell(BOUNCE).status_code == 202
    again = teller.tell({**BOUNCE, "lead_id": str(uuid7(NOW))})
    assert (again.status_code, again.json()) == (200, {"status": "duplicate"})
    [row] = rows_of(engine, schema.outcomes)
    assert row["lead_id"] == UUID(LEAD)


def test_a_deal_under_one_id_may_be_an_opportunity_and_then_won(teller: Teller, engine: sa.Engine) -> None:
    deal = {"contact_id": LEAD, "event_id": "deal-7", "amount": 1200.5}
    assert [teller.tell({**deal, "kind": kind}).status_code for kind in ("opportunity", "won", "won")] == [
        202,
        202,
        200,
    ]
    assert {(row["kind"], row["amount"]) for row in rows_of(engine, schema.outcomes)} == {
        ("opportunity", Decimal("1200.5")), ("won", Decimal("1200.5")),
    }  # fmt: skip


def test_two_tenants_may_use_one_event_id(teller: Teller, engine: sa.Engine) -> None:
    other = Teller(teller.capture, outcomes_key(engine, tenant="globex"))
    assert [who.tell(BOUNCE).status_code for who in (teller, other)] == [202, 202]
    assert {row["tenant"] for row in rows_of(engine, schema.outcomes)} == {"acme", "globex"}


def test_a_list_has_one_result_each_and_a_bad_one_does_not_spoil_its_neighbours(
    teller: Teller, engine: sa.Engine
) -> None:
    second = {**BOUNCE, "event_id": "esp-2", "kind": "complaint"}
    answer = teller.tell([BOUNCE, {**BOUNCE, "kind": "opened"}, "no object", BOUNCE, second])
    assert answer.status_code == 202
    told = answer.json()
    assert [item["status"] for item in told["results"]] == [
        "accepted", "refused", "refused", "duplicate", "accepted",
    ]  # fmt: skip
    assert (told["accepted"], told["duplicate"], told["refused"]) == (2, 1, 2)
    assert told["results"][1]["error"]["field"] == "kind"
    assert told["results"][2]["error"]["code"] == "not_an_object"
    assert len(rows_of(engine, schema.outcomes)) == 2
    assert teller.tell([]).json() == {"accepted": 0, "duplicate": 0, "refused": 0, "results": []}


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"kind": "opened"}, ["kind"]),
        ({"kind": None, "event_id": None}, ["kind", "event_id"]),
        ({"lead_id": "ada@example.org"}, ["lead_id"]),
        ({"lead_id": f"{{{LEAD}}}"}, ["lead_id"]),
        ({"lead_id": None}, ["lead_id"]),
        ({"contact_id": LEAD}, ["lead_id"]),
        ({"event_id": "x" * 256}, ["event_id"]),
        ({"event_id": "a\nb"}, ["event_id"]),
        ({"occurred_at": "2026-01-15T10:00:00"}, ["occurred_at"]),
        ({"occurred_at": "2026-01-15T12:11:00Z"}, ["occurred_at"]),
        ({"occurred_at": "1999-12-31T00:00:00Z"}, ["occurred_at"]),
        ({"occurred_at": 1768471200}, ["occurred_at"]),
        ({"amount": 1}, ["amount"]),
        ({"kind": "won", "amount": -1}, ["amount"]),
        ({"kind": "won", "amount": "1e3"}, ["amount"]),
        ({"kind": "won", "amount": True}, ["amount"]),
        ({"kind": "won", "amount": 1e300}, ["amount"]),
        ({"email": "ada@example.org"}, [""]),
    ],
)
def test_what_is_no_outcome_is_refused_with_every_field_at_fault(
    teller: Teller, engine: sa.Engine, changes: dict[str, object], named: list[str]
) -> None:
    assert teller.faults(**changes) == named
    assert rows_of(engine, schema.outcomes) == []


def test_every_kind_is_taken_and_a_time_that_is_not_told_is_when_it_came(teller: Teller, engine: sa.Engine) -> None:
    told = [{"kind": kind, "lead_id": LEAD, "event_id": "e"} for kind in OutcomeKind]
    assert teller.tell(told).json()["accepted"] == len(OutcomeKind)
    assert {row["occurred_at"] for row in rows_of(engine, schema.outcomes)} == {NOW}


def test_only_a_key_of_scope_outcomes_may_tell_and_it_may_do_nothing_else(teller: Teller, engine: sa.Engine) -> None:
    with engine.begin() as connection:
        lookup = create_lookup_key(connection, tenant="acme", now=NOW).text
    for key, refused in (
        (teller.capture.key, (403, "wrong_scope")),
        (lookup, (403, "wrong_scope")),
        ("lp_x_y", (401, "bad_key")),
        ("no-key", (401, "bad_key")),
    ):
        answer = Teller(teller.capture, key).tell(BOUNCE)
        assert (answer.status_code, answer.json()["error"]["code"]) == refused
    held = {"Authorization": f"Bearer {teller.key}"}
    posting = teller.capture.client.post("/v1/leads", json={"email": "a@example.org"}, headers=held)
    asking = teller.capture.client.post("/v1/contacts/lookup", json={"lead_id": LEAD}, headers=held)
    assert [(answer.status_code, answer.json()["error"]["code"]) for answer in (posting, asking)] == [
        (403, "wrong_scope"), (403, "wrong_scope"),
    ]  # fmt: skip
    in_address = teller.capture.client.post(f"{PATH}?key={teller.key}", json=BOUNCE, headers={"Authorization": ""})
    assert in_address.status_code == 401
    assert rows_of(engine, schema.outcomes) == []


def test_a_key_that_was_revoked_tells_nothing_more(teller: Teller, engine: sa.Engine) -> None:
    assert teller.tell(BOUNCE).status_code == 202
    with engine.begin() as connection:
        revoke_api_key(connection, teller.key, now=NOW)
    teller.capture.clock.advance(3)
    assert teller.tell({**BOUNCE, "event_id": "esp-2"}).status_code == 401


def test_a_key_that_tells_too_often_is_told_to_wait(
    settings: Settings, database_url: str, engine: sa.Engine, clock: Any
) -> None:
    slow = with_capture(settings, rate=KeyRate(requests=1, seconds=60, burst=0))
    with capture_service(slow, database_url=database_url, engine=engine, clock=clock) as capture:
        teller = Teller(capture, outcomes_key(engine))
        assert teller.tell(BOUNCE).status_code == 202
        refused = teller.tell({**BOUNCE, "event_id": "esp-2"})
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "60")
        clock.advance(60)
        assert teller.tell({**BOUNCE, "event_id": "esp-2"}).status_code == 202


def test_a_page_of_another_site_is_not_let_tell(teller: Teller) -> None:
    asked = teller.capture.client.options(PATH, headers={"Origin": "https://www.example.com"})
    told = teller.capture.client.post(
        PATH, json=BOUNCE, headers={"Authorization": f"Bearer {teller.key}", "Origin": "https://www.example.com"}
    )
    assert asked.status_code == 405
    for answer in (asked, told):
        assert "access-control-allow-origin" not in answer.headers


def test_the_door_tells_with_no_more_than_its_own_role_and_reads_none_of_it(
    settings: Settings, database_url: str, engine: sa.Engine, clock: Any
) -> None:
    login = as_capture_role(database_url)
    with capture_service(settings, database_url=login, engine=engine, clock=clock) as capture:
        teller = Teller(capture, outcomes_key(engine))
        assert [teller.tell(BOUNCE).status_code for _time in range(2)] == [202, 200]
        assert teller.tell([BOUNCE, {**BOUNCE, "event_id": "esp-2"}]).json()["accepted"] == 1
    with psycopg.connect(login) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute("select lead_id from outcomes")


def as_capture_role(database_url: str) -> str:
    """The URL of a session that takes the role of the door."""
    return f"{database_url}{'&' if '?' in database_url else '?'}options=-crole%3D{CAPTURE_ROLE}%20-csearch_path%3Dleads"


def test_a_connection_that_was_cut_meanwhile_is_made_anew(teller: Teller, engine: sa.Engine) -> None:
    assert teller.tell(BOUNCE).status_code == 202
    with engine.begin() as connection:
        cut = connection.execute(
            sa.text(
                "select count(pg_terminate_backend(pid)) from pg_stat_activity "
                "where datname = current_database() and application_name = 'leads_capture outcomes'"
            )
        ).scalar_one()
    assert cut == 1
    assert teller.tell({**BOUNCE, "event_id": "esp-2"}).status_code == 202
    assert len(rows_of(engine, schema.outcomes)) == 2


def test_the_capture_service_counts_outcomes_by_their_route(teller: Teller) -> None:
    teller.tell(BOUNCE)
    teller.tell({})
    text = teller.capture.client.get("/metrics").text
    assert 'leads_capture_requests_total{code="",route="/v1/outcomes",status="2xx"} 1.0' in text
    assert 'leads_capture_requests_total{code="invalid_outcome",route="/v1/outcomes",status="4xx"} 1.0' in text


def test_what_the_docs_post_is_taken(teller: Teller, engine: sa.Engine) -> None:
    bodies = re.findall(r"-d '([^']+)'", DOCS.read_text(encoding="utf-8"))
    answers = [teller.tell(json.loads(body)) for body in bodies]
    assert [answer.status_code for answer in answers] == [202, 202]
    assert answers[1].json()["accepted"] == 2
    assert len(rows_of(engine, schema.outcomes)) == 3


def test_the_docs_name_every_kind_and_every_field() -> None:
    text = DOCS.read_text(encoding="utf-8")
    assert [name for name in (*OutcomeKind, *FIELDS) if f"`{name}`" not in text] == []


def test_two_posts_of_the_same_outcomes_at_once_store_each_once(teller: Teller, engine: sa.Engine) -> None:
    told = [{**BOUNCE, "event_id": f"esp-{number}"} for number in range(300)]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(teller.tell, [told, told[::-1], told[100:], told[:200]]))
    assert {answer.status_code for answer in answers} == {202}
    assert sum(answer.json()["accepted"] for answer in answers) == 300
    assert len(rows_of(engine, schema.outcomes)) == 300
    assert all(row["received_at"] - NOW < timedelta(seconds=1) for row in rows_of(engine, schema.outcomes))
