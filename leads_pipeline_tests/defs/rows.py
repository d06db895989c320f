"""Rows for tests that look at the flow from outside: a test names only the columns that it is about.

``insert`` fills the rest of a row; ``Flow`` brings a lead to one place of the flow with every row that it rests on.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from leads_pipeline.domain.ids import uuid7
from leads_pipeline.storage.schema import metadata


def insert(connection: sa.Connection, table: str, *, now: datetime, **values: Any) -> None:
    """Insert one row; required columns that the test does not care about get a plain value."""
    columns = metadata.tables[table].columns
    row = {
        column.name: _plain(column, now)
        for column in columns
        if not column.nullable and column.server_default is None and column.identity is None
    }
    row.update(values)
    connection.execute(metadata.tables[table].insert().values(row))


def _plain(column: sa.Column[Any], now: datetime) -> Any:
    if isinstance(column.type, postgresql.UUID):
        return uuid7(now)
    if isinstance(column.type, postgresql.JSONB):
        return {}
    if isinstance(column.type, sa.TIMESTAMP):
        return now
    if isinstance(column.type, sa.Boolean):
        return False
    if isinstance(column.type, sa.LargeBinary):
        return uuid7(now).bytes
    if isinstance(column.type, sa.Integer | sa.Double):
        return 1
    return "any"


@dataclass
class Flow:
    """One tenant's leads, each brought to one place of the flow."""

    connection: sa.Connection
    now: datetime
    tenant: str = "acme"
    source: str = "website"
    lane: str = "real_time"
    destinations: Sequence[str] = ("hubspot",)

    def insert(self, table: str, **values: Any) -> None:
        known = {"tenant": self.tenant, "source": self.source, "received_at": self.now, "sync_lane": self.lane}
        columns = metadata.tables[table].columns
        given = {name: value for name, value in known.items() if name in columns}
        insert(self.connection, table, now=self.now, **{**given, **values})

    def captured(self, leads: int = 1) -> None:
        self.insert("capture_batches", captured=leads)

    def new_lead(self) -> UUID:
        """A lead's id, counted as captured."""
        self.captured()
        return uuid7(self.now)

    def waits(self, stage: str, subject: UUID, **values: Any) -> None:
        self.insert("pending", **{"stage": stage, "subject_id": subject, "lane": self.lane, **values})

    def buffered(self, **values: Any) -> UUID:
        lead = self.new_lead()
        payload = {"email": f"{lead}@example.com"}
        self.insert("buffer", **{"lead_id": lead, "lane": self.lane, "payload": payload, "consent": [], **values})
        return lead

    def raw(self) -> UUID:
        lead = self.new_lead()
        self.insert("raw_leads", lead_id=lead, capture_lane=self.lane)
        return lead

    def at_validation(self) -> UUID:
        lead = self.raw()
        self.waits("validated_leads", lead)
        return lead

    def at_fetch(self, **values: Any) -> UUID:
        lead = self.raw()
        self.insert("lead_fetches", **{"lead_id": lead, "lane": self.lane, **values})
        return lead

    def rejected(self, **values: Any) -> UUID:
        lead = self.raw()
        self.insert("rejected_leads", lead_id=lead, revision=1, reasons=[], **{"rejected_at": self.now, **values})
        return lead

    def validated(self, **values: Any) -> UUID:
        lead = self.raw()
        email = f"{lead}@example.com"
        row = {"email": email, "email_key": email, "flags": [], "validated_at": self.now, "capture_lane": self.lane}
        self.insert("validated_leads", lead_id=lead, revision=1, **{**row, **values})
        return lead

    def at_dedupe(self, **values: Any) -> UUID:
        lead = self.validated(**values)
        self.waits("deduped_leads", lead)
        return lead

    def contact(self, founding_lead: UUID) -> UUID:
        contact = uuid7(self.now)
        self.insert("contacts", contact_id=contact, founding_lead_id=founding_lead)
        return contact

    def deduped(self, *, contact: UUID | None = None, golden_version: int | None = None, **values: Any) -> UUID:
        """A lead of ``contact``, or of a new one that it founds."""
        lead = self.validated(**values)
        contact = contact or self.contact(lead)
        self.insert("deduped_leads", lead_id=lead, revision=1, contact_id=contact, golden_version=golden_version)
        return lead

    def at_golden(self) -> UUID:
        lead = self.deduped()
        self.waits("golden_contacts", self.contact_of(lead))
        return lead

    def golden(self, **outbox: Any) -> UUID:
        """A lead in a golden contact of its own, with one outbox row per destination."""
        lead = self.deduped(golden_version=1)
        contact = self.contact_of(lead)
        email = f"{lead}@example.com"
        self.insert("golden_contacts", contact_id=contact, version=1, email=email, email_key=email)
        for destination in self.destinations:
            self.sync(contact, destination, **outbox)
        return lead

    def sync(self, contact: UUID, destination: str = "hubspot", **values: Any) -> None:
        row = {"state": "waiting", "operation": "upsert", "lane": self.lane, "wanted_version": 1, **values}
        self.insert("outbox", contact_id=contact, destination=destination, **row)

    def delivered(self, **values: Any) -> UUID:
        return self.golden(state="delivered", **{"delivered_version": 1, "delivered_at": self.now, **values})

    def merged(self, into: UUID) -> UUID:
        """A lead that joined the contact of the lead ``into``."""
        return self.deduped(contact=self.contact_of(into), golden_version=1)

    def dead(self, **values: Any) -> UUID:
        lead = self.golden(state="dead", **values)
        contact = self.contact_of(lead)
        for outbox_id in self.connection.execute(
            sa.text("select outbox_id from outbox where contact_id = :contact"), {"contact": contact}
        ).scalars():
            self.insert("dead_letters", contact_id=contact, outbox_id=outbox_id)
        return lead

    def disposed(self, state: str) -> UUID:
        """A lead that an operator took out: a discarded one keeps its raw row, an erased one keeps nothing."""
        lead = self.raw() if state == "discarded" else self.new_lead()
        self.insert("lead_dispositions", lead_id=lead, state=state)
        return lead

    def contact_of(self, lead: UUID) -> UUID:
        statement = sa.text("select contact_id from deduped_leads where lead_id = :lead")
        return self.connection.execute(statement, {"lead": lead}).scalar_one()

    def one_of_each(self) -> dict[str, UUID]:
        """A lead at every place of the flow."""
        founder = self.delivered()
        return {
            "buffered": self.buffered(),
            "at_fetch": self.at_fetch(),
            "at_validation": self.at_validation(),
            "rejected": self.rejected(),
            "at_dedupe": self.at_dedupe(),
            "at_golden": self.at_golden(),
            "waiting": self.golden(),
            "delivered": founder,
            "merged": self.merged(founder),
            "dead": self.dead(),
            "suppressed": self.golden(state="suppressed"),
            "discarded": self.disposed("discarded"),
            "erased": self.disposed("erased"),
        }


def as_text(value: object) -> str:
    """A document as one string, to be searched."""
    return json.dumps(value, default=str)
