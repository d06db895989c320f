"""A closed gate holds what would be sent about contacts, and nothing that takes something away from the CRM."""

from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from leads_pipeline.clock import FrozenClock
from leads_pipeline.crm.sandbox.running import SandboxServer
from leads_pipeline.domain.stage import ALL_LANES, Lane
from leads_pipeline.steps.crm_sync_batches import plan_sync
from leads_pipeline.storage.outbox_demand import erase
from leads_pipeline.storage.quality_gates import Decided, Decision, Ruling, decide, rule
from leads_pipeline.storage.slos import Key
from leads_pipeline_tests.crm.delivering import add_contacts, merge_away, row_of, settings_for, states, sync
from leads_pipeline_tests.crm.test_last_look import _Befallen
from leads_pipeline_tests.crm.test_suppressions import GRANTED, WITHDRAWN, _say

DUPLICATES = "duplicate_contacts"


def close(engine: sa.Engine, clock: FrozenClock, tenant: str = "acme", lane: str = "") -> None:
    key = Key(DUPLICATES, tenant, lane)
    with engine.begin() as connection:
        broken = Decision(key, Decided.CLOSE, "broken")
        decide(
            connection, [broken], kept=[key], stale_after=timedelta(minutes=30), now=clock.now(), written_at=clock.now()
        )


def due(engine: sa.Engine, clock: FrozenClock, settings: Any) -> int:
    plan = plan_sync(engine, settings=settings, lanes=ALL_LANES, limit=100, now=clock.now())
    return sum(plan.by_destination.values())


def test_a_closed_gate_holds_its_tenant_and_no_other(
    engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer
) -> None:
    held, others = add_contacts(engine, 3), add_contacts(engine, 2, tenant="globex")
    settings = settings_for(sandbox.base_url)
    close(engine, clock)

    assert due(engine, clock, settings) == 2
    report = sync(engine, settings, clock)

    assert report.delivered == 2
    assert (states(engine, held), states(engine, others)) == ({"waiting"}, {"delivered"})
    assert due(engine, clock, settings) == 0, "nobody starts a run for what is held"


def test_what_was_held_goes_once_the_gate_is_open_or_its_time_is_over(
    engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer
) -> None:
    held = add_contacts(engine, 3)
    settings = settings_for(sandbox.base_url)
    close(engine, clock)
    sync(engine, settings, clock)
    assert states(engine, held) == {"waiting"}

    clock.advance(1_801)

    assert sync(engine, settings, clock).delivered == 3


def test_a_gate_of_one_lane_holds_that_lane(engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer) -> None:
    held = add_contacts(engine, 2, lane=Lane.BATCH)
    others = add_contacts(engine, 2, lane=Lane.REAL_TIME)
    settings = settings_for(sandbox.base_url)
    close(engine, clock, lane="batch")

    sync(engine, settings, clock)

    assert (states(engine, held), states(engine, others)) == ({"waiting"}, {"delivered"})


def test_an_operator_opens_a_gate_that_a_verdict_closed(
    engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer
) -> None:
    add_contacts(engine, 2)
    settings = settings_for(sandbox.base_url)
    close(engine, clock)
    with engine.begin() as connection:
        until = clock.now() + timedelta(hours=1)
        rule(connection, Key(DUPLICATES), Ruling.OPEN, actor="ann", reason="seen", until=until, now=clock.now())

    assert sync(engine, settings, clock).delivered == 2


def test_archives_go_on_at_a_closed_gate(engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer) -> None:
    [gone, stays] = add_contacts(engine, 2)
    settings = settings_for(sandbox.base_url)
    sync(engine, settings, clock)
    merge_away(engine, gone)
    close(engine, clock)

    assert due(engine, clock, settings) == 1
    sync(engine, settings, clock)

    assert [record["properties"]["email"] for record in sandbox.contacts()] == [stays.email]


def test_erasures_go_on_at_a_closed_gate(engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer) -> None:
    [gone, _stays] = add_contacts(engine, 2)
    settings = settings_for(sandbox.base_url)
    sync(engine, settings, clock)
    with engine.begin() as connection:
        erase(connection, [gone.contact_id], tenant="acme", now=clock.now())
    close(engine, clock)

    assert due(engine, clock, settings) == 1
    sync(engine, settings, clock)

    assert row_of(engine, gone)["state"] == "delivered"
    assert len(list(sandbox.contacts())) == 1


def test_a_withdrawal_of_consent_goes_on_at_a_closed_gate(
    engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer
) -> None:
    [withdrawn, _other] = add_contacts(engine, 2, consent=GRANTED)
    settings = settings_for(sandbox.base_url)
    sync(engine, settings, clock)
    held = add_contacts(engine, 2, consent=GRANTED)
    _say(engine, withdrawn, WITHDRAWN, version=2)
    close(engine, clock)

    assert due(engine, clock, settings) == 1
    sync(engine, settings, clock)

    assert row_of(engine, withdrawn)["state"] == "suppressed"
    assert states(engine, held) == {"waiting"}
    assert due(engine, clock, settings) == 0


@pytest.mark.parametrize("tenant", ["acme", ""])
def test_a_gate_that_is_closed_between_claim_and_request_holds_what_was_claimed(
    engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer, tenant: str
) -> None:
    contacts = add_contacts(engine, 3)
    settings = settings_for(sandbox.base_url)
    client = _Befallen(settings, lambda: close(engine, clock, tenant))

    report = sync(engine, settings, clock, clients={"hubspot": client})

    assert (report.delivered, list(sandbox.contacts())) == (0, [])
    assert states(engine, contacts) == {"waiting"}
    assert row_of(engine, contacts[0])["attempts"] == 0
    clock.advance(1_801)
    assert sync(engine, settings, clock).delivered == 3
