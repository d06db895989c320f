"""An address that changes hands among contacts ends in the one CRM record whose contact holds it."""

from datetime import timedelta
from uuid import UUID

import sqlalchemy as sa

from leads_pipeline.clock import FrozenClock
from leads_pipeline.config import Settings
from leads_pipeline.crm.sandbox.running import SandboxServer
from leads_pipeline.steps.golden_contacts import refresh_golden_contacts
from leads_pipeline_tests.conftest import NOW
from leads_pipeline_tests.crm.delivering import settings_for, sync
from leads_pipeline_tests.steps.rows import chunk, contact, member, merge

INFO = "info@firm.com"


def settle(engine: sa.Engine, settings: Settings, clock: FrozenClock) -> None:
    """Refresh what waits and deliver it, until nothing is left to be tried again."""
    while refresh_golden_contacts(engine, chunk(now=clock.now()), settings=settings).taken:
        pass
    for _ in range(4):
        sync(engine, settings, clock, jitter=lambda: 0.0)
        clock.advance(30)
    with engine.connect() as connection:
        assert set(connection.execute(sa.text("select state from outbox")).scalars()) == {"delivered"}


def at_the_crm(sandbox: SandboxServer) -> dict[UUID, tuple[str, str | None]]:
    return {
        UUID(stored["properties"]["lead_key"]): (
            stored["properties"]["firstname"],
            stored["properties"].get("email") or None,
        )
        for stored in sandbox.contacts()
    }


def test_the_crm_follows_the_holder(engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer) -> None:
    settings = settings_for(sandbox.base_url)
    older, newer, another = (contact(engine, at=NOW - timedelta(days=days)) for days in (2, 1, 3))
    member(engine, newer, email=INFO, first_name="Newer", last_name="Smith")
    settle(engine, settings, clock)
    assert at_the_crm(sandbox) == {newer: ("Newer", INFO)}

    member(engine, older, email=INFO, first_name="Older", last_name="Jones")
    settle(engine, settings, clock)
    assert at_the_crm(sandbox) == {older: ("Older", INFO), newer: ("Newer", None)}

    late = NOW + timedelta(days=1)
    member(engine, another, email="own@firm.com", first_name="Another", last_name="Jones", received_at=late)
    clock.advance(86_400)
    merge(engine, older, into=another)
    settle(engine, settings, clock)
    assert at_the_crm(sandbox) == {another: ("Another", "own@firm.com"), newer: ("Newer", INFO)}
