"""The law of conservation, from rows alone."""

from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from leads_pipeline.clock import FrozenClock
from leads_pipeline.domain.stage import LeadState
from leads_pipeline.storage.conservation import Conservation, conservation, missing_leads
from leads_pipeline_tests.defs.rows import Flow

DESTINATIONS = {"acme": ("hubspot",), "globex": ("hubspot",)}

# Every table in which the loss of any single row loses a lead, or an account of one.
GUARDED = (
    "buffer",
    "capture_batches",
    "contacts",
    "dead_letters",
    "deduped_leads",
    "golden_contacts",
    "lead_dispositions",
    "lead_fetches",
    "outbox",
    "pending",
    "raw_leads",
    "rejected_leads",
    "validated_leads",
)


@pytest.fixture
def connection(engine: sa.Engine) -> Iterator[sa.Connection]:
    with engine.connect() as connection:
        yield connection


@pytest.fixture
def flow(connection: sa.Connection, clock: FrozenClock) -> Flow:
    return Flow(connection, clock.now())


def account(connection: sa.Connection, tenant: str = "acme") -> Conservation:
    [found] = [item for item in conservation(connection, destinations=DESTINATIONS) if item.tenant == tenant]
    return found


def trails(connection: sa.Connection) -> list[str]:
    return [lead.trail for lead in missing_leads(connection, destinations=DESTINATIONS)]


def test_a_lead_at_every_place_of_the_flow_is_in_the_state_of_that_place(connection, flow):
    flow.one_of_each()
    found = account(connection)
    assert found.states == {
        LeadState.PENDING: 6,
        LeadState.DELIVERED: 1,
        LeadState.MERGED: 1,
        LeadState.REJECTED: 1,
        LeadState.DEAD: 1,
        LeadState.SUPPRESSED: 1,
        LeadState.DISCARDED: 1,
        LeadState.ERASED: 1,
    }
    assert found.captured == 13
    assert found.conserved


@pytest.mark.parametrize("table", GUARDED)
def test_the_loss_of_any_row_breaks_conservation(connection, flow, table):
    leads = flow.one_of_each()
    rows = set(connection.execute(sa.text(f"select ctid::text from {table}")).scalars())
    if table == "raw_leads":  # a disposition outlives the lead's own rows
        of_discarded = sa.text("select ctid::text from raw_leads where lead_id = :lead")
        rows -= set(connection.execute(of_discarded, {"lead": leads["discarded"]}).scalars())
    assert rows
    for row in rows:
        savepoint = connection.begin_nested()
        deleted = connection.execute(sa.text(f"delete from {table} where ctid = cast(:row as tid)"), {"row": row})
        assert deleted.rowcount == 1
        assert not account(connection).conserved, f"the loss of row {row} of {table} went unseen"
        savepoint.rollback()
    assert account(connection).conserved


def test_a_lead_that_nobody_captured_breaks_conservation(connection, flow):
    flow.one_of_each()
    flow.insert("capture_batches", captured=-1)
    assert account(connection).unaccounted == -1
    assert not account(connection).conserved


def test_a_lost_lead_is_named_with_the_row_that_it_lacks(connection, flow):
    leads = flow.one_of_each()
    connection.execute(sa.text("delete from deduped_leads where lead_id = :lead"), {"lead": leads["merged"]})
    [missing] = missing_leads(connection, destinations=DESTINATIONS)
    assert (missing.tenant, missing.lead_id, missing.trail) == ("acme", leads["merged"], "deduped_leads")


def test_a_lead_that_only_its_ingest_key_remembers_is_missing(connection, flow):
    lead = flow.buffered()
    flow.insert("ingest_keys", lead_id=lead)
    connection.execute(sa.text("delete from buffer"))
    assert trails(connection) == ["raw_leads"]


def test_one_tenants_loss_is_not_anothers(connection, flow, clock):
    flow.one_of_each()
    Flow(connection, clock.now(), tenant="globex").one_of_each()
    connection.execute(sa.text("delete from raw_leads where tenant = 'globex'"))
    assert account(connection).conserved
    assert not account(connection, "globex").conserved


def test_a_lead_is_pending_until_every_required_destination_has_its_version(connection, clock):
    flow = Flow(connection, clock.now(), destinations=("hubspot", "esp"))
    lead = flow.golden()
    both = {"acme": ("hubspot", "esp")}
    connection.execute(
        sa.text("update outbox set state = 'delivered', delivered_version = 1 where destination = 'hubspot'")
    )
    [found] = conservation(connection, destinations=both)
    assert found.states[LeadState.PENDING] == 1
    connection.execute(sa.text("update outbox set state = 'delivered', delivered_version = 1"))
    [found] = conservation(connection, destinations=both)
    assert found.states[LeadState.DELIVERED] == 1
    assert lead is not None


def test_a_delivered_version_from_before_the_lead_does_not_deliver_it(connection, flow):
    founder = flow.delivered()
    late = flow.merged(founder)
    connection.execute(sa.text("update deduped_leads set golden_version = 2 where lead_id = :lead"), {"lead": late})
    connection.execute(sa.text("update golden_contacts set version = 2"))
    connection.execute(sa.text("update outbox set state = 'waiting', wanted_version = 2"))
    found = account(connection)
    assert (found.states[LeadState.DELIVERED], found.states[LeadState.PENDING]) == (1, 1)
    assert found.conserved


def test_leads_of_a_contact_that_was_merged_away_are_pending_until_the_survivor_takes_them_in(connection, flow):
    survivor, moved = flow.delivered(), flow.delivered()
    old, new = flow.contact_of(moved), flow.contact_of(survivor)
    connection.execute(
        sa.text("update contacts set merged_into = :new where contact_id = :old"), {"old": old, "new": new}
    )
    connection.execute(
        sa.text("update deduped_leads set contact_id = :new, golden_version = null where contact_id = :old"),
        {"old": old, "new": new},
    )
    flow.waits("golden_contacts", new)
    found = account(connection)
    assert (found.states[LeadState.DELIVERED], found.states[LeadState.PENDING]) == (1, 1)
    assert found.conserved


def test_leads_left_with_a_contact_that_was_merged_away_are_missing(connection, flow):
    survivor, left = flow.delivered(), flow.delivered()
    connection.execute(
        sa.text("update contacts set merged_into = :new where contact_id = :old"),
        {"old": flow.contact_of(left), "new": flow.contact_of(survivor)},
    )
    assert trails(connection) == ["contacts"]


def test_a_living_contact_whose_delivery_was_cancelled_has_missing_leads(connection, flow):
    flow.golden(state="cancelled")
    assert trails(connection) == ["outbox"]


def test_the_newest_verdict_on_a_lead_counts(connection, flow):
    lead = flow.rejected()
    flow.insert("validated_leads", lead_id=lead, revision=2, flags=[])
    flow.waits("deduped_leads", lead, revision=2)
    assert account(connection).states[LeadState.PENDING] == 1
    connection.execute(sa.text("delete from pending"))
    flow.insert("rejected_leads", lead_id=lead, revision=3, reasons=[])
    assert account(connection).states[LeadState.REJECTED] == 1
    assert account(connection).conserved


def test_a_correction_that_identity_never_took_in_is_missing(connection, flow):
    lead = flow.delivered()
    flow.insert("validated_leads", lead_id=lead, revision=2, flags=[])
    assert trails(connection) == ["deduped_leads"]


def test_a_tenant_without_destinations_has_its_leads_delivered_by_their_golden_contact(connection, clock):
    flow = Flow(connection, clock.now(), tenant="initech", destinations=())
    flow.golden()
    [found] = conservation(connection, destinations={"initech": ()})
    assert found.states[LeadState.DELIVERED] == 1
    assert found.conserved
