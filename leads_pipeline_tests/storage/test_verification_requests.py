"""The queue of look-ups: what a claim takes, what it costs, and whose a claim is."""

import json
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa

from leads_pipeline.domain.ids import uuid7
from leads_pipeline.domain.verification import LookupKind, subject_hash
from leads_pipeline.storage import schema
from leads_pipeline.storage import verification_requests as queue
from leads_pipeline.storage.verification_requests import Subject
from leads_pipeline_tests.conftest import NOW
from leads_pipeline_tests.steps.rows import TENANT, rows_of
from leads_pipeline_tests.steps.verifying import waiting

SECOND = timedelta(seconds=1)
LEASE = timedelta(minutes=1)
MAILBOX = LookupKind.MAILBOX


def claim(
    engine: sa.Engine,
    *,
    limits: dict[int, int] | None = None,
    at: timedelta = timedelta(),
    batch_id: UUID | None = None,
) -> list[Subject]:
    with engine.begin() as connection:
        return queue.claim_subjects(
            connection, MAILBOX, limits=limits or {0: 100, 1: 100}, now=NOW + at, lease=LEASE,
            batch_id=batch_id or uuid7(NOW), runner_id="test",
        )  # fmt: skip


def texts(subjects: list[Subject]) -> list[str]:
    return [subject.text for subject in subjects]


def test_a_claim_takes_the_urgent_the_tenants_in_turn_and_the_oldest(engine: sa.Engine) -> None:
    waiting(engine, ["low@a.example"], tier="minimal", urgency=1, at=NOW - 9 * SECOND)
    waiting(engine, ["second@a.example"], at=NOW - 2 * SECOND)
    waiting(engine, ["first@a.example"], at=NOW - 3 * SECOND)
    waiting(engine, ["other@b.example"], tenant="globex", at=NOW - SECOND)
    waiting(engine, ["future@a.example"], at=NOW + SECOND)
    assert texts(claim(engine, limits={0: 3, 1: 3})) == ["first@a.example", "other@b.example", "second@a.example"]
    assert texts(claim(engine)) == ["low@a.example"]
    assert claim(engine) == []


def test_a_claim_takes_of_each_tier_as_many_as_it_is_told(engine: sa.Engine) -> None:
    waiting(engine, [f"p{n}@a.example" for n in range(4)])
    waiting(engine, [f"low{n}@a.example" for n in range(4)], tier="minimal", urgency=1)
    assert [subject.tier for subject in claim(engine, limits={0: 9, 1: 6})] == ["full"] * 4 + ["minimal"] * 2
    assert claim(engine, limits={0: 9}) == []  # the budget does not pay for the lesser tier any more


def test_a_claim_is_a_lease_and_then_anothers(engine: sa.Engine) -> None:
    waiting(engine, ["p@a.example"])
    (first,) = claim(engine)
    assert (first.attempts, first.call_id, first.requests) == (1, None, 1)
    assert claim(engine, at=LEASE - SECOND) == []
    (second,) = claim(engine, at=LEASE)
    assert second.attempts == 2


def test_a_subject_in_a_call_is_nobody_elses_and_its_call_is_known_to_whoever_comes_after(engine: sa.Engine) -> None:
    """Also by a request that came later, is due earlier and has no call: it would be asked for, and paid, twice."""
    batch_id, call_id = uuid7(NOW), uuid7(NOW)
    waiting(engine, ["p@a.example"])
    subjects = claim(engine, batch_id=batch_id)
    with engine.begin() as connection:
        named = queue.name_call(
            connection, subjects, call_id=call_id, lease_until=NOW + LEASE, batch_id=batch_id, runner_id="test"
        )
    assert named == {(TENANT, subjects[0].hash)}
    waiting(engine, ["P@a.example"], at=NOW + SECOND)
    assert claim(engine, at=2 * SECOND) == []
    (found,) = claim(engine, at=LEASE)
    assert (found.call_id, found.requests, found.attempts) == (call_id, 2, 2)


def test_who_has_lost_a_claim_names_no_call_and_postpones_nothing(engine: sa.Engine) -> None:
    mine, theirs = uuid7(NOW), uuid7(NOW)
    waiting(engine, ["p@a.example"])
    subjects = claim(engine, batch_id=mine)
    claim(engine, batch_id=theirs, at=LEASE)
    with engine.begin() as connection:
        named = queue.name_call(
            connection, subjects, call_id=uuid7(NOW), lease_until=NOW + LEASE, batch_id=mine, runner_id="test"
        )
        queue.postpone(connection, subjects, batch_id=mine, until=NOW, reason="broken")
        queue.wait_for_answer(connection, subjects, batch_id=mine, until=NOW)
    assert named == set()
    (row,) = rows_of(engine, schema.verification_requests)
    assert (row["due_at"], row["attempts"], row["last_reason"], row["call_id"]) == (NOW + 2 * LEASE, 2, None, None)


def test_what_was_not_asked_for_keeps_its_place_and_its_attempts(engine: sa.Engine) -> None:
    waiting(engine, ["first@a.example"], at=NOW - 2 * SECOND)
    waiting(engine, ["second@a.example"], at=NOW - SECOND)
    batch_id = uuid7(NOW)
    subjects = claim(engine, limits={0: 1}, batch_id=batch_id)
    with engine.begin() as connection:
        queue.postpone(connection, subjects, batch_id=batch_id, until=None, reason="not_asked", counts=False)
    again = claim(engine)
    assert texts(again) == ["first@a.example", "second@a.example"]
    assert [subject.attempts for subject in again] == [1, 1]


def test_only_answers_that_may_be_fetched_now_are_claimed_once(engine: sa.Engine) -> None:
    batch_id, call_id = uuid7(NOW), uuid7(NOW)
    waiting(engine, ["p@a.example", "q@a.example"])
    subjects = claim(engine, batch_id=batch_id)
    with engine.begin() as connection:
        queue.name_call(
            connection, subjects, call_id=call_id, lease_until=NOW + LEASE, batch_id=batch_id, runner_id="test"
        )
        queue.wait_for_answer(connection, subjects, batch_id=batch_id, until=NOW + 5 * SECOND)

    def answers(at: timedelta) -> list[Subject]:
        with engine.begin() as connection:
            return queue.claim_answers(
                connection, MAILBOX, call_id, now=NOW + at, lease=LEASE, batch_id=uuid7(NOW), runner_id="test"
            )

    assert answers(4 * SECOND) == []
    found = answers(5 * SECOND)
    assert sorted(texts(found)) == ["p@a.example", "q@a.example"]
    assert {(subject.tier, subject.urgency, subject.call_id) for subject in found} == {("full", 0, call_id)}
    assert answers(6 * SECOND) == []


def test_what_waits_is_counted_by_tier(engine: sa.Engine) -> None:
    waiting(engine, ["one@a.example", "two@a.example"], at=NOW - timedelta(minutes=2))
    waiting(engine, ["three@a.example"], tier="minimal", urgency=1)
    with engine.connect() as connection:
        found = queue.waiting_lookups(connection, now=NOW)
    assert [(item.tier, item.waiting, item.past_patience) for item in found] == [("full", 2, 2), ("minimal", 1, 0)]


# -- what a claim costs

MANY = 250_000


@pytest.fixture
def crowded(engine: sa.Engine) -> sa.Engine:
    """A quarter of a million wait in one tenant, as many are postponed before them; two hundred wait in another."""
    waiting(engine, ["p@many.example"], tier="minimal", urgency=1, at=NOW - timedelta(hours=1))
    waiting(engine, [f"few{n}@b.example" for n in range(200)], tenant="globex", at=NOW - SECOND)
    with engine.begin() as connection:
        connection.execute(
            sa.text(
                """
                insert into verification_requests (
                    lead_id, revision, kind, tenant, lane, tier, urgency, subject_hash, blocked, requested_at,
                    patience_until, due_at, attempts, batch_id, runner_id
                )
                select cast(left(cast(lead_id as text), 24) || lpad(to_hex(n), 12, '0') as uuid), 1, kind, tenant,
                    lane, tier, urgency, n, false, requested_at, patience_until,
                    case when n % 2 = 0 then requested_at else cast(:later as timestamptz) end, 0, batch_id, runner_id
                from verification_requests, generate_series(1, :count) as n
                where tenant = :tenant
                """
            ),
            {"count": 2 * MANY, "tenant": TENANT, "later": NOW + timedelta(hours=1)},
        )
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text("vacuum analyze verification_requests"))
    return engine


def rows_read(plan: dict[str, Any]) -> int:
    """Rows that scans of the queue met, taken or passed over."""
    met = 0
    if plan.get("Relation Name") == "verification_requests":
        met = int((plan["Actual Rows"] + plan.get("Rows Removed by Filter", 0)) * plan["Actual Loops"])
    return met + sum(rows_read(child) for child in plan.get("Plans", ()))


def explained(connection: sa.Connection, statement: sa.TextClause, values: dict[str, Any]) -> int:
    answer: Any = connection.execute(sa.text(f"explain (analyze, format json) {statement.text}"), values).scalar_one()
    (found,) = answer if isinstance(answer, list) else json.loads(answer)
    return rows_read(found["Plan"])


def test_a_claim_costs_what_it_takes_whatever_waits(crowded: sa.Engine) -> None:
    values = {"kind": "mailbox", "urgencies": [0, 1, 2], "limit": 100, "now": NOW}
    with crowded.connect() as connection:
        assert explained(connection, queue._CANDIDATES, values) <= 450
        assert explained(connection, queue._ANYTHING_DUE, values) <= 20
        nothing_due = {**values, "urgencies": [2]}
        assert explained(connection, queue._CANDIDATES, nothing_due) <= 20
        assert explained(connection, queue._ANYTHING_DUE, nothing_due) <= 20
        # Everything is postponed or claimed: none of it is walked over.
        earlier = {**values, "now": NOW - timedelta(days=1)}
        assert explained(connection, queue._CANDIDATES, earlier) <= 20
        assert explained(connection, queue._ANYTHING_DUE, earlier) <= 20
        taken = [{"tenant": TENANT, "subject_hash": n} for n in range(100)]
        lease = {
            "kind": "mailbox", "rows": json.dumps(taken), "lease_until": NOW, "batch_id": uuid7(NOW),
            "runner_id": "test",
        }  # fmt: skip
        assert explained(connection, queue._TAKE, lease) <= 400  # each is locked in its turn, then changed
        connection.rollback()


def test_equal_subjects_have_one_hash_per_tenant_and_kind() -> None:
    hashes = {
        subject_hash(tenant, kind, text)
        for tenant in ("acme", "globex")
        for kind in (LookupKind.MAILBOX, LookupKind.PHONE)
        for text in ("a@b.example", "A@B.example", "c@b.example")
    }
    assert len(hashes) == 8
