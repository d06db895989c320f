"""Golden contacts with their outbox rows, as the golden step leaves them, for tests of delivery."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import sqlalchemy as sa

from leads_pipeline.clock import Clock
from leads_pipeline.config import Settings, parse_settings
from leads_pipeline.crm.sandbox.running import SandboxServer
from leads_pipeline.domain.stage import ALL_LANES, Lane
from leads_pipeline.steps.crm_sync_batches import SyncReport, deliver, plan_sync
from leads_pipeline.storage.schema import golden_contacts, outbox
from leads_pipeline_tests.conftest import NOW

BATCH = UUID(int=1)
TOKEN = "test-token"  # the value that the suite's environment holds

_YAML = """
version: 1
tenants:
  acme: {{sources: {{website: {{}}}}, destinations: [hubspot]}}
  globex: {{sources: {{website: {{}}}}, destinations: [hubspot]}}
destinations:
  hubspot:
    vendor: hubspot
    account: sandbox
    base_url: {base_url}
    token: {{env: LEADS_HUBSPOT_TOKEN}}
    batch_size: {batch_size}
    timeout_seconds: {timeout_seconds}
    limits:
      windows: [{{requests: {requests}, seconds: {seconds}}}]
      daily: {{requests: {daily}, time_zone: UTC}}
      in_flight: {in_flight}
pipeline: {{run_seconds: {run_seconds}}}
retry: {{max_attempts: {max_attempts}}}
"""


def settings_for(base_url: str, **numbers: float) -> Settings:
    """Settings of two tenants that share one account at ``base_url``; the keywords are the numbers of the file."""
    return parse_settings(yaml_for(base_url, **numbers), path=Path("leads.yaml"))


def yaml_for(base_url: str, **numbers: float) -> str:
    """The file that ``settings_for`` reads."""
    defaults: dict[str, float] = {
        "batch_size": 100, "timeout_seconds": 5, "requests": 1000, "seconds": 10, "daily": 250_000,
        "in_flight": 2, "run_seconds": 60, "max_attempts": 60,
    }  # fmt: skip
    assert numbers.keys() <= defaults.keys()
    return _YAML.format(base_url=base_url, **(defaults | numbers))


def sync(engine: sa.Engine, settings: Settings, clock: Clock, **keywords: Any) -> SyncReport:
    """Plan what is due and deliver it."""
    plan = plan_sync(engine, settings=settings, lanes=ALL_LANES, limit=100_000, now=clock.now())
    return deliver(engine, plan, settings=settings, clock=clock, runner_id="test", **keywords)


@dataclass(frozen=True)
class Contact:
    """A contact of these tests."""

    contact_id: UUID
    email: str | None
    outbox_id: int


def add_contacts(
    engine: sa.Engine,
    count: int = 1,
    *,
    tenant: str = "acme",
    lane: Lane = Lane.REAL_TIME,
    destination: str = "hubspot",
    email: str | None = None,
    due_at: datetime = NOW,
    consent: Mapping[str, Any] | None = None,
    **fields: str | None,
) -> list[Contact]:
    """``count`` contacts that wait to be delivered; each has its own e-mail unless ``email`` is given."""
    rows = []
    for _ in range(count):
        contact_id = uuid4()
        rows.append({"contact_id": contact_id, "email": email or f"{contact_id.hex[:12]}@example.com"})
    values = {"first_name": "Ada", "last_name": "Byron", "company": None} | fields
    with engine.begin() as connection:
        connection.execute(
            golden_contacts.insert(),
            [
                {
                    **values,
                    "contact_id": row["contact_id"],
                    "tenant": tenant,
                    "version": 1,
                    "email": row["email"],
                    "email_key": row["email"],
                    "attribution": {},
                    "consent": consent or {},
                    "provenance": {},
                    "lead_count": 1,
                    "first_source": "website",
                    "last_source": "website",
                    "first_seen_at": NOW,
                    "last_seen_at": NOW,
                    "batch_id": BATCH,
                    "runner_id": "test",
                    "updated_at": NOW,
                }
                for row in rows
            ],
        )
        ids = connection.execute(
            sa.text(
                """
                insert into outbox (tenant, contact_id, destination, operation, state, lane, wanted_version,
                    waiting_since, due_at, updated_at)
                select :tenant, c.id, :destination, 'upsert', 'waiting', :lane, 1, :due_at, :due_at, :due_at
                from jsonb_array_elements_text(cast(:ids as jsonb)) with ordinality as t(id, position),
                    lateral (select cast(t.id as uuid) as id) c
                order by position returning outbox_id, contact_id
                """
            ),
            {
                "tenant": tenant,
                "destination": destination,
                "lane": lane,
                "due_at": due_at,
                "ids": json.dumps([str(row["contact_id"]) for row in rows]),
            },
        )
        outbox_ids = {row.contact_id: row.outbox_id for row in ids}
    return [Contact(row["contact_id"], row["email"], outbox_ids[row["contact_id"]]) for row in rows]


def change(engine: sa.Engine, contact: Contact, **fields: str | None) -> None:
    """A new version of a contact, wanted at once."""
    with engine.begin() as connection:
        if "email" in fields:
            fields["email_key"] = fields["email"]
        connection.execute(
            golden_contacts.update()
            .where(golden_contacts.c.contact_id == contact.contact_id)
            .values(version=golden_contacts.c.version + 1, **fields)
        )
        connection.execute(
            sa.text(
                "update outbox set wanted_version = wanted_version + 1, attempts = 0, due_at = :now, "
                "state = case when state = 'in_flight' then state else 'waiting' end where outbox_id = :id"
            ),
            {"id": contact.outbox_id, "now": NOW},
        )


def merge_away(engine: sa.Engine, contact: Contact) -> None:
    """What the golden step does with a delivered contact that was merged into another."""
    with engine.begin() as connection:
        connection.execute(golden_contacts.delete().where(golden_contacts.c.contact_id == contact.contact_id))
        connection.execute(
            sa.text(
                "update outbox set operation = 'archive', state = 'waiting', wanted_version = wanted_version + 1, "
                "due_at = :now where outbox_id = :id"
            ),
            {"id": contact.outbox_id, "now": NOW},
        )


def people_did(sandbox: SandboxServer, verb: str, body: dict[str, Any]) -> dict[str, Any]:
    """What somebody did in the CRM: ``batch/create``, ``batch/update``, ``batch/archive``, ``merge``; its answer."""
    url = f"{sandbox.base_url}/crm/v3/objects/contacts/{verb}"
    answer = httpx.post(url, json=body, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=60)
    answer.raise_for_status()
    return answer.json() if answer.content else {}


def outbox_rows(engine: sa.Engine) -> dict[int, sa.RowMapping]:
    """Every outbox row by its id."""
    with engine.connect() as connection:
        return {row["outbox_id"]: row for row in connection.execute(sa.select(outbox)).mappings()}


def row_of(engine: sa.Engine, contact: Contact) -> sa.RowMapping:
    """The contact's outbox row."""
    return outbox_rows(engine)[contact.outbox_id]


def states(engine: sa.Engine, contacts: Sequence[Contact]) -> set[str]:
    """The states in which the contacts' rows are."""
    rows = outbox_rows(engine)
    return {rows[contact.outbox_id]["state"] for contact in contacts}
