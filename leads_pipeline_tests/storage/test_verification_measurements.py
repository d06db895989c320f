"""The numbers of verification, and that a history of 200,000 rows does not make them slow."""

from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest
import sqlalchemy as sa

from leads_pipeline.storage import reverification
from leads_pipeline.storage import verification_measurements as measurements
from leads_pipeline.storage.verification_measurements import CallCount, TierRecord, Unanswered, VerdictCount
from leads_pipeline_tests.conftest import NOW
from leads_pipeline_tests.defs.rows import Flow

ROWS = 200_000
DAY = timedelta(days=1)

# A verdict and a call every 40 s: three months of them. A lead of each is known to no contact.
HISTORY = """
insert into verifications (
    verification_id, tenant, lead_id, revision, kind, tier, provider, verdict, reasons, flags, details, requested_at,
    verified_at, batch_id, runner_id
)
select gen_random_uuid(), 'acme', gen_random_uuid(), 1, 'mailbox', 'full', 'bounce', 'valid', '[]', '[]', '{}',
    at - interval '10 s', at, gen_random_uuid(), 'run'
from (select cast(:now as timestamptz) - n * interval '40 s' as at from generate_series(0, :rows - 1) n) t;
insert into verification_calls (
    call_id, provider, kind, lookups, cost_micros, sent_at, answered_at, outcome, batch_id, runner_id
)
select gen_random_uuid(), 'bounce', 'mailbox', 1, 1, at, at, 'answered', gen_random_uuid(), 'run'
from (select cast(:now as timestamptz) - n * interval '40 s' as at from generate_series(0, :rows - 1) n) t;
insert into verdict_cache (
    tenant, kind, subject_hash, provider, verdict, reasons, flags, details, verified_at, expires_at
)
select 'acme', 'mailbox', n, 'bounce', 'valid', '[]', '[]', '{}', at, at + interval '90 d'
from (
    select n, cast(:now as timestamptz) - n * interval '40 s' as at from generate_series(0, :rows - 1) n
) t;
"""


@pytest.fixture
def connection(engine: sa.Engine) -> Iterator[sa.Connection]:
    with engine.connect() as connection:
        yield connection


@pytest.fixture
def flow(connection: sa.Connection) -> Flow:
    return Flow(connection, NOW)


@pytest.fixture
def history(connection: sa.Connection) -> None:
    for statement in HISTORY.split(";\n"):
        if statement.strip():
            connection.execute(sa.text(statement), {"now": NOW, "rows": ROWS})
    for table in ("verifications", "verification_calls", "verdict_cache"):
        connection.execute(sa.text(f"analyze {table}"))


def plan(connection: sa.Connection, statement: sa.TextClause, values: dict[str, object]) -> str:
    return "\n".join(connection.execute(sa.text(f"explain {statement.text}"), values).scalars())


def test_the_window_is_read_by_index(connection: sa.Connection, history: None) -> None:
    found = plan(
        connection,
        measurements._IN_TIME,
        {"tiers": '[{"tier": "full", "seconds": 300}]', "failed": [], "since": NOW - DAY, "now": NOW},
    )
    assert "ix_verifications_verified_at" in found
    assert "Seq Scan on verifications" not in found
    [record] = measurements.verified_in_time(connection, {"full": 300.0}, since=NOW - DAY, now=NOW)
    assert record == TierRecord("full", in_time=DAY.total_seconds() // 40)


def test_calls_and_verdicts_are_read_by_index(connection: sa.Connection, history: None) -> None:
    since = NOW - timedelta(hours=1)
    values = {"providers": ["bounce", "spare"], "since": since, "runner_id": None}
    calls = plan(connection, measurements._CALLS, values)
    assert "ix_verification_calls_provider_sent_at" in calls
    assert "Seq Scan on verification_calls" not in calls
    verdicts = plan(connection, measurements._VERDICTS, {"since": since, "runner_id": "run"})
    assert "ix_verifications_verified_at" in verdicts
    last = {"provider": "bounce", "outcome": "refused", "since": since}
    assert "ix_verification_calls_provider_sent_at" in plan(connection, measurements._LAST_STATUS, last)
    assert "ix_verification_calls_unanswered" in plan(connection, measurements._UNANSWERED, {"lost_before": NOW})
    assert measurements.calls_since(connection, ["bounce"], since) == [CallCount("bounce", "answered", 91, 91)]


def test_expired_verdicts_and_who_holds_them_are_found_by_index(connection: sa.Connection, history: None) -> None:
    expired = plan(connection, reverification._TAKE, {"now": NOW, "kind": "mailbox", "limit": 1_000})
    assert "ix_verdict_cache_expires_at" in expired
    assert "Seq Scan on verdict_cache" not in expired
    rows = '[{"tenant": "acme", "verified_at": "2025-10-01T00:00:00+00:00"}]'
    held = plan(connection, reverification._HELD, {"rows": rows, "kind": "mailbox", "field": "email"})
    assert "ix_verifications_verified_at" in held
    assert "Seq Scan on verifications" not in held


def test_calls_are_counted_by_outcome_and_by_run(connection: sa.Connection, flow: Flow) -> None:
    call = {"provider": "bounce", "kind": "mailbox", "sent_at": NOW}
    flow.insert("verification_calls", **call, outcome="answered", lookups=100, runner_id="mine")
    flow.insert("verification_calls", **call, outcome="answered", lookups=50, runner_id="another")
    flow.insert("verification_calls", **call, lookups=7, runner_id="mine")
    assert measurements.calls_since(connection, ["bounce", "spare"], NOW) == [
        CallCount("bounce", "answered", 2, 150),
        CallCount("bounce", None, 1, 7),
    ]
    mine = measurements.calls_since(connection, ["bounce"], NOW, runner_id="mine")
    assert [(item.outcome, item.calls) for item in mine] == [("answered", 1), (None, 1)]
    assert measurements.calls_since(connection, ["spare"], NOW) == []


def test_verdicts_tell_what_was_known_from_what_was_asked_for(connection: sa.Connection, flow: Flow) -> None:
    verdict = {"kind": "mailbox", "provider": "bounce", "verdict": "valid", "tier": "full"}
    flow.insert("verifications", **verdict, requested_at=NOW - timedelta(seconds=1))
    flow.insert("verifications", **verdict)
    assert measurements.verdicts_since(connection, NOW) == [VerdictCount("mailbox", "bounce", "valid", 2, 1)]


@pytest.mark.parametrize(
    ("sent_at", "values", "expected"),
    [
        (NOW, {}, {"bounce": Unanswered(pending=1)}),
        (NOW - timedelta(seconds=1), {}, {"bounce": Unanswered(lost=1)}),
        (NOW - DAY, {"poll_reference": "17"}, {"bounce": Unanswered(pending=1)}),
        (NOW - DAY, {"answered_at": NOW}, {}),
    ],
)
def test_a_call_without_an_answer_is_under_way_or_lost(
    connection: sa.Connection, flow: Flow, sent_at: datetime, values: dict[str, object], expected: dict[str, Unanswered]
) -> None:
    flow.insert("verification_calls", provider="bounce", sent_at=sent_at, **values)
    assert measurements.unanswered_calls(connection, lost_before=NOW) == expected
