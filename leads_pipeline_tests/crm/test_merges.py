"""What becomes of a CRM's record when its contact is merged away: what people made is kept, ours is archived."""

import pytest
import sqlalchemy as sa

from leads_pipeline.clock import FrozenClock
from leads_pipeline.crm.sandbox.running import SandboxServer
from leads_pipeline_tests.crm.delivering import (
    add_contacts,
    change,
    merge_away,
    people_did,
    row_of,
    settings_for,
    sync,
)


def _stored(sandbox: SandboxServer) -> dict[str, dict[str, str]]:
    """What the CRM has, by the id of its records."""
    return {item["id"]: item["properties"] for item in sandbox.contacts()}


@pytest.mark.parametrize("then", ["at once", "after a change"])
def test_a_record_that_people_made_loses_our_key_and_nothing_else(
    then: str, engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer
) -> None:
    body = {"inputs": [{"properties": {"email": "ada@example.com", "city": "London"}}]}
    [made] = people_did(sandbox, "batch/create", body)["results"]
    [contact] = add_contacts(engine, email="ada@example.com", company="Engines")
    settings = settings_for(sandbox.base_url)
    sync(engine, settings, clock)
    assert (row_of(engine, contact)["taken_over"], row_of(engine, contact)["crm_record_id"]) == (True, made["id"])
    if then == "after a change":
        change(engine, contact, company="Mills")
        sync(engine, settings, clock)
        assert row_of(engine, contact)["taken_over"] is True
    merge_away(engine, contact)
    assert sync(engine, settings, clock).delivered == 1
    kept = _stored(sandbox)[made["id"]]
    assert (kept["email"], kept["city"]) == ("ada@example.com", "London")
    assert not kept.get("lead_key")


def test_a_record_that_we_made_is_archived(engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer) -> None:
    [contact] = add_contacts(engine)
    settings = settings_for(sandbox.base_url)
    sync(engine, settings, clock)
    assert row_of(engine, contact)["taken_over"] is False
    merge_away(engine, contact)
    sync(engine, settings, clock)
    assert _stored(sandbox) == {}
    assert row_of(engine, contact)["taken_over"] is None


def test_a_record_that_was_written_and_not_confirmed_is_ours(
    engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer
) -> None:
    """A request that was to take one over would have left a note before."""
    [contact] = add_contacts(engine)
    settings = settings_for(sandbox.base_url)
    sandbox.set_faults([{"kind": "written_then_500", "count": 1}])
    sync(engine, settings, clock)
    clock.advance(2)
    assert sync(engine, settings, clock).delivered == 1
    assert row_of(engine, contact)["taken_over"] is False
    merge_away(engine, contact)
    assert sync(engine, settings, clock).delivered == 1
    assert _stored(sandbox) == {}


@pytest.mark.parametrize("again", [False, True], ids=["at once", "after it was found"])
def test_a_record_that_a_lost_request_took_over_is_let_go_and_not_archived(
    again: bool, engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer
) -> None:
    people_did(sandbox, "batch/create", {"inputs": [{"properties": {"email": "ada@example.com", "city": "London"}}]})
    [contact] = add_contacts(engine, email="ada@example.com")
    settings = settings_for(sandbox.base_url)
    sandbox.set_faults([*[{"kind": "slow", "count": 1}] * 2, {"kind": "written_then_reset", "count": 1}])
    assert sync(engine, settings, clock).requests == 3
    assert row_of(engine, contact)["taken_over"] is True
    clock.advance(600)
    if again:
        assert sync(engine, settings, clock).delivered == 1
        assert row_of(engine, contact)["taken_over"] is True
    merge_away(engine, contact)
    assert sync(engine, settings, clock).delivered == 1
    [kept] = _stored(sandbox).values()
    assert (kept["email"], kept["city"], kept.get("lead_key")) == ("ada@example.com", "London", None)


def test_a_record_that_an_older_version_delivered_is_let_go_and_not_archived(
    engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer
) -> None:
    """It kept no note of whether people had made it."""
    [contact] = add_contacts(engine)
    settings = settings_for(sandbox.base_url)
    sync(engine, settings, clock)
    with engine.begin() as connection:
        connection.execute(sa.text("update outbox set taken_over = null"))
    merge_away(engine, contact)
    assert sync(engine, settings, clock).delivered == 1
    [kept] = _stored(sandbox).values()
    assert (kept["email"], kept.get("lead_key")) == (contact.email, None)
