"""A lane or destination that a rule has paused holds what would be sent about contacts, and nothing that takes away."""

from typing import Any

import pytest
import sqlalchemy as sa

from leads_pipeline.clock import FrozenClock
from leads_pipeline.crm.sandbox.running import SandboxServer
from leads_pipeline.domain.stage import ALL_LANES, Lane
from leads_pipeline.steps.crm_sync_batches import plan_sync
from leads_pipeline.storage.outbox_demand import erase
from leads_pipeline_tests.crm.delivering import add_contacts, merge_away, row_of, settings_for, states, sync
from leads_pipeline_tests.crm.test_last_look import _Befallen
from leads_pipeline_tests.crm.test_suppressions import GRANTED, WITHDRAWN, _say
from leads_pipeline_tests.ordering import end_orders, order


def pause(engine: sa.Engine, clock: FrozenClock) -> None:
    order(engine, "pause_destination", now=clock.now(), tenant="acme", destination="hubspot", minutes=10)


def due(engine: sa.Engine, clock: FrozenClock, settings: Any) -> int:
    plan = plan_sync(engine, settings=settings, lanes=ALL_LANES, limit=100, now=clock.now())
    return sum(plan.by_destination.values())


def test_a_paused_destination_holds_its_tenant_and_no_other_until_the_order_ends(
    engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer
) -> None:
    held, others = add_contacts(engine, 3), add_contacts(engine, 2, tenant="globex")
    settings = settings_for(sandbox.base_url)
    pause(engine, clock)

    assert due(engine, clock, settings) == 2
    sync(engine, settings, clock)
    assert (states(engine, held), states(engine, others)) == ({"waiting"}, {"delivered"})
    assert due(engine, clock, settings) == 0, "nobody starts a run for what is held"

    clock.advance(601)  # nobody renewed it
    assert sync(engine, settings, clock).delivered == 3


def test_a_paused_lane_is_resumed(engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer) -> None:
    held = add_contacts(engine, 2, lane=Lane.BATCH)
    others = add_contacts(engine, 2, lane=Lane.REAL_TIME)
    settings = settings_for(sandbox.base_url)
    order(engine, "pause_lane", now=clock.now(), lane="batch")

    sync(engine, settings, clock)
    assert (states(engine, held), states(engine, others)) == ({"waiting"}, {"delivered"})

    end_orders(engine, now=clock.now())
    assert sync(engine, settings, clock).delivered == 2


def test_archives_erasures_and_withdrawals_go_all_the_same(
    engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer
) -> None:
    merged, erased, withdrawn, _other = add_contacts(engine, 4, consent=GRANTED)
    settings = settings_for(sandbox.base_url)
    sync(engine, settings, clock)
    pause(engine, clock)
    merge_away(engine, merged)
    with engine.begin() as connection:
        erase(connection, [erased.contact_id], tenant="acme", now=clock.now())
    _say(engine, withdrawn, WITHDRAWN, version=2)
    held = add_contacts(engine, 2, consent=GRANTED)

    assert due(engine, clock, settings) > 0
    sync(engine, settings, clock)

    assert row_of(engine, erased)["state"] == "delivered"
    assert row_of(engine, withdrawn)["state"] == "suppressed"
    assert len(list(sandbox.contacts())) == 2
    assert states(engine, held) == {"waiting"}
    assert due(engine, clock, settings) == 0


@pytest.mark.parametrize("ordered", ["pause_lane", "pause_destination"])
def test_what_was_claimed_before_the_order_is_held_too(
    engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer, ordered: str
) -> None:
    contacts = add_contacts(engine, 3)
    settings = settings_for(sandbox.base_url)
    client = _Befallen(settings, lambda: order(engine, ordered, now=clock.now()))

    report = sync(engine, settings, clock, clients={"hubspot": client})

    assert (report.delivered, list(sandbox.contacts())) == (0, [])
    assert states(engine, contacts) == {"waiting"}
    assert row_of(engine, contacts[0])["attempts"] == 0
