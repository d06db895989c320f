"""Rows to begin a test of a step with, written as the step before would have written them."""

import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from leads_pipeline.domain.ids import BatchId, uuid7
from leads_pipeline.domain.stage import ALL_LANES, Chunk, Lane, Stage
from leads_pipeline.domain.triage import UNWEIGHED
from leads_pipeline.domain.validation import ValidLead, validate
from leads_pipeline.storage import schema
from leads_pipeline.storage.leads import RawLead, insert_validated_leads
from leads_pipeline.storage.pending import Waiting, enqueue
from leads_pipeline_tests.conftest import NOW

TENANT = "acme"


def chunk(*, limit: int = 100, tenant: str = TENANT, now: datetime = NOW, runner_id: str = "test") -> Chunk:
    return Chunk(tenant, ALL_LANES, limit, BatchId(uuid7(now)), runner_id, now)


def raw_lead(
    engine: sa.Engine,
    payload: Mapping[str, object],
    *,
    source: str = "website",
    lane: Lane = Lane.NEAR_REAL_TIME,
    received_at: datetime = NOW,
    tenant: str = TENANT,
    context: Mapping[str, object] | None = None,
) -> UUID:
    """A raw lead at the door of ``validated_leads``."""
    lead_id = uuid7(received_at)
    with engine.begin() as connection:
        connection.execute(
            sa.insert(schema.raw_leads).values(
                lead_id=lead_id,
                tenant=tenant,
                source=source,
                capture_lane=lane,
                received_at=received_at,
                payload=dict(payload),
                context=dict(context or {}),
                batch_id=uuid7(received_at),
                runner_id="test",
                moved_at=received_at,
            )
        )
        enqueue(connection, Stage.VALIDATED_LEADS, [Waiting(lead_id, tenant, lane, 1, received_at)])
    return lead_id


def contact(engine: sa.Engine, *, at: datetime = NOW, tenant: str = TENANT) -> UUID:
    """A contact without leads."""
    contact_id = uuid7(at)
    with engine.begin() as connection:
        connection.execute(
            sa.insert(schema.contacts).values(
                contact_id=contact_id, tenant=tenant, founding_lead_id=uuid7(at), created_at=at
            )
        )
    return contact_id


def member(
    engine: sa.Engine,
    contact_id: UUID,
    *,
    source: str = "website",
    lane: Lane = Lane.NEAR_REAL_TIME,
    received_at: datetime = NOW,
    tenant: str = TENANT,
    consent: tuple[dict[str, Any], ...] = (),
    **payload: object,
) -> UUID:
    """A valid lead that belongs to the contact and waits, with its contact, at the door of ``golden_contacts``."""
    lead_id = uuid7(received_at)
    lead = validate(payload, country="US", today=received_at.date())
    assert isinstance(lead, ValidLead), lead
    with engine.begin() as connection:
        insert_validated_leads(
            connection,
            [(RawLead(lead_id, 1, source, lane, received_at, json.dumps(payload)), lead, UNWEIGHED)],
            chunk(tenant=tenant, now=received_at),
        )
        connection.execute(
            sa.insert(schema.deduped_leads).values(
                lead_id=lead_id,
                revision=1,
                tenant=tenant,
                sync_lane=lane,
                contact_id=contact_id,
                decision="rule",
                batch_id=uuid7(received_at),
                runner_id="test",
                deduped_at=received_at,
            )
        )
        for position, statement in enumerate(consent, start=1):
            connection.execute(
                sa.insert(schema.consent_events).values(
                    lead_id=lead_id,
                    position=position,
                    tenant=tenant,
                    batch_id=uuid7(received_at),
                    runner_id="test",
                    **{"purpose": "marketing", "channel": "email", "occurred_at": received_at, **statement},
                )
            )
    ask_for(engine, contact_id, lane=lane, tenant=tenant)
    return lead_id


def ask_for(engine: sa.Engine, *contact_ids: UUID, lane: Lane = Lane.NEAR_REAL_TIME, tenant: str = TENANT) -> None:
    """Put contacts at the door of ``golden_contacts``."""
    with engine.begin() as connection:
        enqueue(
            connection, Stage.GOLDEN_CONTACTS, [Waiting(contact_id, tenant, lane, 1, NOW) for contact_id in contact_ids]
        )


def merge(engine: sa.Engine, loser: UUID, *, into: UUID, tenant: str = TENANT) -> None:
    """What identity resolution writes when it finds that two contacts are one."""
    with engine.begin() as connection:
        connection.execute(
            sa.update(schema.contacts)
            .where(sa.or_(schema.contacts.c.contact_id == loser, schema.contacts.c.merged_into == loser))
            .values(merged_into=into)
        )
        connection.execute(
            sa.update(schema.deduped_leads)
            .where(schema.deduped_leads.c.contact_id == loser)
            .values(contact_id=into, golden_version=None)
        )
    ask_for(engine, into, tenant=tenant)


def delivered(engine: sa.Engine, contact_id: UUID, *, crm_record_id: str = "501") -> None:
    """What delivery writes when the wanted version has arrived."""
    with engine.begin() as connection:
        connection.execute(
            sa.update(schema.outbox)
            .where(schema.outbox.c.contact_id == contact_id)
            .values(
                state="delivered",
                delivered_version=schema.outbox.c.wanted_version,
                crm_record_id=crm_record_id,
                last_verdict="delivered",
                claimed_by=None,
                claimed_until=None,
            )
        )


def claimed(engine: sa.Engine, contact_id: UUID, *, token: str = "token") -> None:
    """What delivery writes when it takes a row to send it."""
    with engine.begin() as connection:
        connection.execute(
            sa.update(schema.outbox)
            .where(schema.outbox.c.contact_id == contact_id)
            .values(state="in_flight", claimed_by=token, claimed_until=NOW + timedelta(minutes=5))
        )


def rows_of(engine: sa.Engine, table: sa.Table, **where: object) -> list[dict[str, Any]]:
    """All rows of a table with these values, by its primary key."""
    with engine.connect() as connection:
        statement = sa.select(table).order_by(*table.primary_key.columns)
        for name, value in where.items():
            statement = statement.where(table.c[name] == value)
        return [dict(row) for row in connection.execute(statement).mappings()]
