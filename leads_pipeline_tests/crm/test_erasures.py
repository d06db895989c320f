"""An erasure wins over everything that waits, is under way, or is wanted later, and leaves nothing of the person."""

import pytest
import sqlalchemy as sa

from leads_pipeline.clock import FrozenClock
from leads_pipeline.crm.clients import build_clients
from leads_pipeline.crm.sandbox.running import SandboxServer
from leads_pipeline.domain.stage import Lane
from leads_pipeline.storage import outbox_demand
from leads_pipeline.storage.outbox_demand import Demand
from leads_pipeline_tests.conftest import NOW
from leads_pipeline_tests.crm.delivering import (
    Contact,
    add_contacts,
    change,
    merge_away,
    row_of,
    settings_for,
    sync,
)


def _erase(engine: sa.Engine, *contacts: Contact, golden: bool = True) -> tuple[int, int]:
    """What erasing a person will do: the contact goes, and the outbox is told in the same commit."""
    ids = [contact.contact_id for contact in contacts]
    with engine.begin() as connection:
        if golden:
            connection.execute(sa.text("delete from golden_contacts where contact_id = any(:ids)"), {"ids": ids})
        return outbox_demand.erase(connection, ids, tenant="acme", now=NOW)


def _everything(sandbox: SandboxServer) -> list[dict]:
    return [*sandbox.contacts(), *sandbox.contacts(archived=True)]


def test_who_was_delivered_is_gone_for_good_and_their_neighbours_stay(
    engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer
) -> None:
    erased, other = add_contacts(engine, 2)
    settings = settings_for(sandbox.base_url)
    sync(engine, settings, clock)
    assert _erase(engine, erased) == (1, 0)
    assert sync(engine, settings, clock).delivered == 1
    assert [item["properties"]["lead_key"] for item in _everything(sandbox)] == [str(other.contact_id)]
    row = row_of(engine, erased)
    assert (row["operation"], row["state"], row["crm_record_id"], row["snapshot"]) == ("erase", "delivered", None, {})
    assert _erase(engine, erased) == (0, 0)  # a repetition asks for nothing


def test_who_was_never_sent_is_cancelled_without_a_request(
    engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer
) -> None:
    [contact] = add_contacts(engine)
    assert _erase(engine, contact) == (0, 1)
    assert sync(engine, settings_for(sandbox.base_url), clock).requests == 0
    assert row_of(engine, contact)["state"] == "cancelled"


@pytest.mark.parametrize("first", ["waits", "is merged away", "was archived", "is suppressed", "got lost", "is dead"])
def test_it_wins_over_whatever_the_contact_was_doing(
    first: str, engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer
) -> None:
    [contact] = add_contacts(engine)
    settings = settings_for(sandbox.base_url)
    if first == "got lost":
        sandbox.set_faults([{"kind": "written_then_reset", "count": 1}])
    sync(engine, settings, clock)
    match first:
        case "waits":
            change(engine, contact, first_name="Augusta")
        case "is merged away":
            merge_away(engine, contact)
        case "was archived":
            merge_away(engine, contact)
            sync(engine, settings, clock)
        case "is suppressed" | "is dead":
            state = first.removeprefix("is ")
            with engine.begin() as connection:
                connection.execute(sa.text("update outbox set state = :state"), {"state": state})
    assert len(_everything(sandbox)) == 1
    assert _erase(engine, contact) == (1, 0)
    assert sync(engine, settings, clock).delivered == 1
    assert _everything(sandbox) == []


def test_nothing_that_is_wanted_later_brings_the_person_back(
    engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer
) -> None:
    [contact] = add_contacts(engine)
    settings = settings_for(sandbox.base_url)
    sync(engine, settings, clock)
    _erase(engine, contact, golden=False)
    for _ in range(2):
        with engine.begin() as connection:
            wanted = [Demand(contact.contact_id, "hubspot", 9, Lane.REAL_TIME)]
            outbox_demand.demand(connection, wanted, tenant="acme", now=NOW)
            outbox_demand.fill_in(connection, wanted, tenant="acme", now=NOW)
            outbox_demand.withdraw(connection, {contact.contact_id: None}, tenant="acme", now=NOW)
        assert row_of(engine, contact)["operation"] == "erase"
        sync(engine, settings, clock)
        assert _everything(sandbox) == []


def test_what_is_under_way_meanwhile_is_erased_after_it(
    engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer
) -> None:
    [contact] = add_contacts(engine)
    settings = settings_for(sandbox.base_url)
    client = build_clients(settings)["hubspot"]
    erased: list[tuple[int, int]] = []

    class ErasedMeanwhile:
        send, close, traits = client.send, client.close, client.traits

        def deliver(self, records, *, courier):
            if not erased:
                erased.append(_erase(engine, contact))
            return client.deliver(records, courier=courier)

    sync(engine, settings, clock, clients={"hubspot": ErasedMeanwhile()})
    client.close()
    assert erased == [(1, 0)]
    row = row_of(engine, contact)
    assert (row["operation"], row["state"]) == ("erase", "delivered")  # by the same run, once the upsert was settled
    assert _everything(sandbox) == []


def test_dead_letters_keep_nothing_of_the_person(engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer) -> None:
    [contact] = add_contacts(engine, email="ada-not-an-address")
    assert sync(engine, settings_for(sandbox.base_url), clock).dead == 1
    _erase(engine, contact)
    with engine.connect() as connection:
        [letter] = connection.execute(sa.text("select l::text as kept, resolution from dead_letters l")).all()
    assert "ada" not in letter.kept
    assert letter.resolution == "superseded"
