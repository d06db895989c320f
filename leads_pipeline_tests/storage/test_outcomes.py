"""Outcomes, matched to leads and contacts, and the rates that follow from them."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from uuid import UUID

import pytest
import sqlalchemy as sa

from leads_pipeline.domain.ids import uuid7
from leads_pipeline.domain.outcomes import Outcome, OutcomeKind
from leads_pipeline.storage import schema
from leads_pipeline.storage.outcomes import (
    OutcomeCount,
    OutcomeRate,
    bounce_rates,
    opportunity_rates,
    outcome_counts,
    outcomes_by_source,
)
from leads_pipeline_tests.conftest import NOW
from leads_pipeline_tests.steps.rows import contact, member, merge

DAY = timedelta(days=1)


@pytest.fixture
def connection(engine: sa.Engine) -> Iterator[sa.Connection]:
    with engine.connect() as connection:
        yield connection


def told(
    engine: sa.Engine,
    kind: OutcomeKind,
    *,
    lead_id: UUID | None = None,
    contact_id: UUID | None = None,
    tenant: str = "acme",
    at: datetime = NOW,
    amount: int | None = None,
) -> None:
    """What the door writes."""
    outcome_id = uuid7(NOW)
    event = Outcome(kind, lead_id, contact_id, str(outcome_id), at, None)
    with engine.begin() as connection:
        connection.execute(
            sa.insert(schema.outcomes).values(
                outcome_id=outcome_id, tenant=tenant, kind=kind, lead_id=lead_id, contact_id=contact_id,
                key_sha256=event.key_sha256, amount=amount, key_id="k", occurred_at=at, received_at=NOW,
            )
        )  # fmt: skip


def person(engine: sa.Engine, email: str, *, source: str = "website", at: datetime = NOW) -> tuple[UUID, UUID]:
    """A contact with one lead, which also has its raw row."""
    contact_id = contact(engine, at=at)
    lead_id = member(engine, contact_id, email=email, source=source, received_at=at)
    with engine.begin() as connection:
        connection.execute(
            sa.insert(schema.raw_leads).values(
                lead_id=lead_id, tenant="acme", source=source, capture_lane="real_time", received_at=at, payload={},
                context={}, batch_id=uuid7(at), runner_id="test", moved_at=at,
            )
        )  # fmt: skip
    return contact_id, lead_id


def test_outcomes_are_counted_by_kind_and_those_of_nobody_are_unmatched(
    engine: sa.Engine, connection: sa.Connection
) -> None:
    contact_id, lead_id = person(engine, "a@example.org")
    told(engine, OutcomeKind.HARD_BOUNCE, lead_id=lead_id)
    told(engine, OutcomeKind.HARD_BOUNCE, lead_id=uuid7(NOW))
    told(engine, OutcomeKind.HARD_BOUNCE, lead_id=lead_id, tenant="globex")  # another tenant's lead is nobody's
    told(engine, OutcomeKind.WON, contact_id=contact_id, amount=100)
    told(engine, OutcomeKind.WON, contact_id=uuid7(NOW), amount=50)
    told(engine, OutcomeKind.LOST, lead_id=lead_id, at=NOW - 2 * DAY)
    assert outcome_counts(connection, NOW - DAY) == [
        OutcomeCount("acme", OutcomeKind.HARD_BOUNCE, 2, 1, None),
        OutcomeCount("acme", OutcomeKind.WON, 2, 1, 150.0),
        OutcomeCount("globex", OutcomeKind.HARD_BOUNCE, 1, 1, None),
    ]
    assert [item.tenant for item in outcome_counts(connection, NOW - DAY, tenant="globex")] == ["globex"]


def test_a_rate_is_of_the_leads_that_came_since_then_each_counted_once(
    engine: sa.Engine, connection: sa.Connection
) -> None:
    people = [person(engine, f"p{number}@example.org") for number in range(4)]
    old_contact, _old_lead = person(engine, "old@example.org", at=NOW - 3 * DAY)
    told(engine, OutcomeKind.HARD_BOUNCE, lead_id=people[0][1])
    told(engine, OutcomeKind.HARD_BOUNCE, contact_id=people[0][0])
    told(engine, OutcomeKind.SOFT_BOUNCE, lead_id=people[1][1])
    told(engine, OutcomeKind.HARD_BOUNCE, contact_id=old_contact)
    told(engine, OutcomeKind.OPPORTUNITY, contact_id=people[2][0])
    told(engine, OutcomeKind.WON, contact_id=people[2][0])
    told(engine, OutcomeKind.LOST, lead_id=people[3][1])
    assert bounce_rates(connection, NOW - DAY, now=NOW) == [OutcomeRate("acme", 4, 1)]
    assert bounce_rates(connection, NOW - DAY, now=NOW)[0].value == 0.25
    assert opportunity_rates(connection, NOW - DAY, now=NOW) == [OutcomeRate("acme", 4, 2)]
    assert bounce_rates(connection, NOW - 5 * DAY, now=NOW) == [OutcomeRate("acme", 5, 2)]
    assert bounce_rates(connection, NOW + DAY, now=NOW) == []


def test_what_is_told_of_a_contact_that_was_merged_away_is_told_of_its_survivor(
    engine: sa.Engine, connection: sa.Connection
) -> None:
    survivor, first = person(engine, "a@example.org")
    loser, second = person(engine, "b@example.org", source="webinar")
    merge(engine, loser, into=survivor)
    told(engine, OutcomeKind.COMPLAINT, contact_id=loser)
    assert outcome_counts(connection, NOW - DAY) == [OutcomeCount("acme", OutcomeKind.COMPLAINT, 1, 0, None)]
    assert {item.source: item.by_kind for item in outcomes_by_source(connection, NOW - DAY)} == {
        "webinar": {OutcomeKind.COMPLAINT: 1}, "website": {OutcomeKind.COMPLAINT: 1},
    }  # fmt: skip
    assert first != second


def test_sources_show_their_leads_also_without_any_outcome(engine: sa.Engine, connection: sa.Connection) -> None:
    _contact, lead_id = person(engine, "a@example.org", source="webinar")
    person(engine, "b@example.org", source="webinar")
    person(engine, "c@example.org")
    told(engine, OutcomeKind.HARD_BOUNCE, lead_id=lead_id)
    told(engine, OutcomeKind.HARD_BOUNCE, lead_id=lead_id)
    told(engine, OutcomeKind.SOFT_BOUNCE, lead_id=lead_id)
    assert [(item.source, item.leads, item.by_kind) for item in outcomes_by_source(connection, NOW - DAY)] == [
        ("webinar", 2, {OutcomeKind.HARD_BOUNCE: 1, OutcomeKind.SOFT_BOUNCE: 1}),
        ("website", 1, {}),
    ]
