"""The first step: out of the buffer, with consent, to the door of validation."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from leads_pipeline.buffer.postgresql import PostgresBuffer
from leads_pipeline.domain.consent import ParsedConsent, parse_consent
from leads_pipeline.domain.stage import ALL_LANES, ChunkReport, Lane, Stage
from leads_pipeline.steps.raw_leads import move_raw_leads, tenants_waiting
from leads_pipeline.storage.pending import claim
from leads_pipeline_tests.buffer.contract import chunk_of, new_lead
from leads_pipeline_tests.conftest import NOW

LATER = NOW + timedelta(minutes=1)


def rows(engine: sa.Engine, table: str) -> list[Any]:
    with engine.connect() as connection:
        return list(connection.execute(sa.text(f"select * from {table}")))


def post(engine: sa.Engine, *payloads: dict[str, Any], consent: list[Any] | None = None) -> None:
    PostgresBuffer(engine).append([new_lead(payload, consent=consent) for payload in payloads], now=NOW)


def test_a_lead_leaves_the_buffer_for_its_room_and_waits_at_the_next_door(engine: sa.Engine) -> None:
    lead = new_lead({"email": "ada@example.org", "odd": {"a": [1]}}, lane=Lane.NEAR_REAL_TIME)
    PostgresBuffer(engine).append([lead], now=NOW)
    chunk = chunk_of(now=LATER)
    assert move_raw_leads(engine, chunk) == ChunkReport(1, 1, {"consent_events": 0, "consent_malformed": 0})
    assert rows(engine, "buffer") == []
    [raw] = rows(engine, "raw_leads")
    assert (raw.lead_id, raw.tenant, raw.source, raw.capture_lane) == (
        lead.lead_id,
        "acme",
        "website",
        "near_real_time",
    )
    assert (raw.payload, raw.context, raw.received_at) == (lead.payload, lead.context, NOW)
    assert (raw.batch_id, raw.runner_id, raw.moved_at) == (chunk.batch_id, "test-runner", LATER)
    with engine.begin() as connection:
        [waiting] = claim(connection, Stage.VALIDATED_LEADS, chunk)
    assert (waiting.subject_id, waiting.lane, waiting.revision, waiting.since) == (lead.lead_id, lead.lane, 1, LATER)


def test_an_empty_buffer_is_reported_as_nothing_taken(engine: sa.Engine) -> None:
    assert move_raw_leads(engine, chunk_of()) == ChunkReport(0, 0, {})


def test_a_chunk_takes_no_more_than_its_limit(engine: sa.Engine) -> None:
    post(engine, *({"n": number} for number in range(25)))
    taken = [move_raw_leads(engine, chunk_of(limit=10)).taken for _ in range(4)]
    assert taken == [10, 10, 5, 0]


def test_the_tenants_of_the_buffer_are_those_that_wait(engine: sa.Engine) -> None:
    post(engine, {"n": 1})
    with engine.connect() as connection:
        assert tenants_waiting(connection, lanes=ALL_LANES, now=NOW) == ["acme"]
        assert tenants_waiting(connection, lanes=[Lane.BATCH], now=NOW) == []


def test_consent_becomes_events_with_the_evidence_of_who_sent_it(engine: sa.Engine) -> None:
    statements = [
        {"granted": True, "channel": "email", "legal_basis": "consent", "text_version": "v3"},
        {"granted": "no", "channel": "phone", "occurred_at": "2026-01-10T09:30:00+01:00"},
        True,
    ]
    post(engine, {"email": "a"}, consent=statements)
    assert move_raw_leads(engine, chunk_of()).counts == {"consent_events": 3, "consent_malformed": 0}
    events = sorted(rows(engine, "consent_events"), key=lambda event: event.position)
    assert [(event.position, event.granted, event.purpose, event.channel) for event in events] == [
        (1, True, "marketing", "email"),
        (2, False, "marketing", "phone"),
        (3, True, "marketing", "any"),
    ]
    assert (events[0].legal_basis, events[0].text_version) == ("consent", "v3")
    assert {(event.ip, event.user_agent, event.tenant) for event in events} == {("192.0.2.1", "test", "acme")}
    assert [event.occurred_at for event in events] == [NOW, datetime(2026, 1, 10, 8, 30, tzinfo=UTC), NOW]


def test_consent_dated_ahead_is_set_back_to_when_it_came(engine: sa.Engine) -> None:
    post(engine, {"email": "a"}, consent=[{"granted": True, "occurred_at": "2099-01-01"}])
    move_raw_leads(engine, chunk_of())
    assert rows(engine, "consent_events")[0].occurred_at == NOW


@pytest.mark.parametrize(
    "statement",
    [
        {"granted": "perhaps"},
        {"purpose": "marketing"},
        {"granted": True, "channel": "pigeon"},
        {"granted": True, "channel": ["email"]},
        {"granted": True, "purpose": {"of": "life"}},
        {"granted": True, "occurred_at": "yesterday"},
        {"granted": True, "occurred_at": "9999-12-31T23:59:59-14:00"},
        {"granted": True, "occurred_at": 1760000000},
        "sure, why not",
        17,
        [],
        None,
    ],
)
def test_a_statement_that_cannot_be_read_is_kept_as_it_came_and_nothing_is_invented(
    engine: sa.Engine, statement: Any
) -> None:
    post(engine, {"email": "a"}, consent=[statement, {"granted": True}])
    assert move_raw_leads(engine, chunk_of()).counts == {"consent_events": 1, "consent_malformed": 1}
    [event] = rows(engine, "consent_events")
    assert (event.position, event.granted) == (2, True)
    assert rows(engine, "raw_leads")[0].payload == {"email": "a", "consent_malformed": [statement]}


_WORKER = """
import sys
from leads_pipeline.steps.raw_leads import move_raw_leads
from leads_pipeline.storage.database import engine_for
from leads_pipeline_tests.buffer.contract import chunk_of
move_raw_leads(engine_for(sys.argv[1], application_name="doomed worker"), chunk_of())
"""


@pytest.mark.chaos
def test_a_worker_killed_between_claim_and_settle_loses_and_doubles_nothing(
    engine: sa.Engine, database_url: str
) -> None:
    post(engine, *({"n": number} for number in range(50)), consent=[{"granted": True}])
    with engine.connect() as holder:
        # The worker has claimed and copied the leads when it comes to this table, and waits there for its death.
        holder.execute(sa.text("lock table consent_events in access exclusive mode"))
        worker = subprocess.Popen([sys.executable, "-c", _WORKER, database_url])
        wait_until(lambda: _is_blocked(engine))
        os.kill(worker.pid, signal.SIGKILL)
        assert worker.wait(timeout=30) == -signal.SIGKILL
        holder.rollback()
    wait_until(lambda: not _sessions(engine))
    assert len(rows(engine, "buffer")) == 50
    assert rows(engine, "raw_leads") == rows(engine, "pending") == []
    assert move_raw_leads(engine, chunk_of()).taken == 50
    assert rows(engine, "buffer") == []
    assert len(rows(engine, "raw_leads")) == len(rows(engine, "pending")) == len(rows(engine, "consent_events")) == 50


def _sessions(engine: sa.Engine, *, blocked: bool = False) -> int:
    statement = (
        "select count(*) from pg_stat_activity where datname = current_database() "
        "and application_name = 'doomed worker'" + (" and wait_event_type = 'Lock'" if blocked else "")
    )
    with engine.connect() as connection:
        return int(connection.execute(sa.text(statement)).scalar_one())


def _is_blocked(engine: sa.Engine) -> bool:
    return _sessions(engine, blocked=True) == 1


def wait_until(condition: Callable[[], bool]) -> None:
    pause = threading.Event()
    for _ in range(3_000):
        if condition():
            return
        pause.wait(0.02)
    raise AssertionError("waited 60 s in vain")


def test_consent_that_the_parser_breaks_on_is_kept_as_it_came_and_holds_nobody_up(engine: sa.Engine) -> None:
    def parser(statements: Sequence[Any], **more: Any) -> ParsedConsent:
        if statements == ["poison"]:
            raise OverflowError
        return parse_consent(statements, **more)

    post(engine, {"n": 1}, consent=["poison"])
    post(engine, {"n": 2}, consent=[True])

    report = move_raw_leads(engine, chunk_of(), parser=parser)

    assert report == ChunkReport(2, 2, {"consent_events": 1, "consent_malformed": 1})
    kept = {raw.payload["n"]: raw.payload.get("consent_malformed") for raw in rows(engine, "raw_leads")}
    assert kept == {1: ["poison"], 2: None}
