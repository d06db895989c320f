"""The numbers behind checks, sensor and status."""

from collections.abc import Iterator
from datetime import timedelta

import pytest
import sqlalchemy as sa

from leads_pipeline.clock import FrozenClock
from leads_pipeline.domain.stage import ALL_LANES, Lane, Stage
from leads_pipeline.storage import measurements
from leads_pipeline.storage.measurements import DuplicateEmails, Judged, Settled
from leads_pipeline.storage.validated_sample import EXAMINED_COLUMNS, rows_to_examine
from leads_pipeline_tests.defs.rows import Flow


@pytest.fixture
def connection(engine: sa.Engine) -> Iterator[sa.Connection]:
    with engine.connect() as connection:
        yield connection


@pytest.fixture
def flow(connection: sa.Connection, clock: FrozenClock) -> Flow:
    return Flow(connection, clock.now())


def due(connection, flow, *, lanes=ALL_LANES, tenants=("acme",), destinations=("hubspot",)) -> tuple[Stage, ...]:
    doors = [(tenant, destination, lane) for tenant in tenants for destination in destinations for lane in lanes]
    return measurements.stages_due(connection, tenants=tenants, doors=doors, lanes=lanes, now=flow.now)


def test_every_queue_of_the_flow_shows_with_its_oldest(connection, flow):
    flow.one_of_each()
    old = flow.now - timedelta(minutes=5)
    flow.buffered(received_at=old)
    queues = {queue.stage: queue for queue in measurements.queues(connection)}
    assert list(queues) == list(Stage)
    assert queues[Stage.RAW_LEADS].waiting == 3
    assert queues[Stage.RAW_LEADS].oldest_seconds(flow.now) == 300
    for stage in Stage:
        assert measurements.queues(connection, [stage]) == [queues[stage]]
    assert queues[Stage.CRM_SYNC_BATCHES].waiting == 1


def test_one_stage_s_queues_are_found_without_reading_what_waits_in_front_of_the_others(connection, flow):
    asked = []

    def note(_connection, _cursor, statement, *_more) -> None:
        asked.append(statement)

    sa.event.listen(connection, "before_cursor_execute", note)
    measurements.queues(connection, [Stage.DEDUPED_LEADS])
    assert "outbox" not in asked[0]
    measurements.queues(connection, [Stage.CRM_SYNC_BATCHES])
    assert "from pending" not in asked[1]


def test_a_clock_that_is_behind_the_rows_gives_no_negative_age(connection, flow):
    flow.buffered()
    [queue] = measurements.queues(connection)
    assert queue.oldest_seconds(flow.now - timedelta(seconds=9)) == 0


def test_rejections_are_counted_by_source_within_the_window(connection, flow):
    long_ago = flow.now - timedelta(days=3)
    flow.at_dedupe()
    flow.rejected()
    flow.rejected(rejected_at=long_ago)
    flow.at_dedupe(source="webinar")
    found = measurements.judged_since(connection, flow.now - timedelta(hours=1))
    assert found == [Judged("acme", "webinar", 1, 0), Judged("acme", "website", 2, 1)]
    assert found[1].rejection_rate == 0.5


def test_an_address_in_two_golden_contacts_is_a_duplicate_whatever_its_case(connection, flow):
    connection.execute(sa.text("drop index uq_golden_contacts_tenant_email_key"))
    for email in ("jane@example.com", "Jane@Example.com", "joe@example.com", None, None):
        flow.insert("golden_contacts", email=email, email_key=email)
    flow.insert("golden_contacts", tenant="globex", email="joe@example.com", email_key="joe@example.com")
    assert measurements.duplicate_emails(connection) == [DuplicateEmails("acme", 1, 2)]


def test_contacts_that_await_an_address_are_no_duplicates(connection, flow):
    connection.execute(sa.text("drop index uq_golden_contacts_tenant_email_key"))
    flow.insert("golden_contacts", email="info@example.com", email_key="info@example.com")
    for _ in range(2):
        flow.insert("golden_contacts", email="info@example.com", awaited_email_key="info@example.com")
    assert measurements.duplicate_emails(connection) == []


def test_while_postgresql_keeps_addresses_unique_no_contact_is_read(connection, flow):
    flow.insert("golden_contacts", email="jane@example.com", email_key="jane@example.com")
    connection.execute(sa.text("alter table golden_contacts rename to gone"))
    assert measurements.duplicate_emails(connection) == []


def test_deliveries_that_ended_count_once_and_those_under_way_do_not(connection, flow):
    flow.delivered()
    flow.dead()
    flow.golden()
    flow.delivered(delivered_at=flow.now - timedelta(days=2))
    found = measurements.settled_since(connection, flow.now - timedelta(hours=1))
    assert found == [Settled("acme", "hubspot", 1, 1)]
    assert found[0].success_rate == 0.5


def test_nothing_is_due_in_an_empty_flow(connection, flow):
    assert due(connection, flow) == ()


@pytest.mark.parametrize(
    ("place", "stage"),
    [
        ("buffered", Stage.RAW_LEADS),
        ("at_validation", Stage.VALIDATED_LEADS),
        ("at_dedupe", Stage.DEDUPED_LEADS),
        ("at_golden", Stage.GOLDEN_CONTACTS),
        ("golden", Stage.CRM_SYNC_BATCHES),
    ],
)
def test_each_stage_is_due_when_something_waits_in_front_of_it(connection, flow, place, stage):
    getattr(flow, place)()
    assert due(connection, flow) == (stage,)
    assert due(connection, flow, lanes=(Lane.BATCH,)) == ()
    assert due(connection, flow, tenants=("globex",)) == ()


def test_what_must_not_be_taken_before_a_later_instant_is_not_due(connection, flow):
    later = flow.now + timedelta(seconds=1)
    flow.waits("validated_leads", flow.raw(), due_at=later)
    flow.golden(due_at=later)
    assert due(connection, flow) == ()


def test_what_is_ahead_of_a_clock_that_was_set_back_is_due(connection, flow):
    later = flow.now + timedelta(hours=1)
    flow.waits("validated_leads", flow.raw(), since=later, due_at=later)
    assert due(connection, flow) == (Stage.VALIDATED_LEADS,)


def test_a_lead_that_is_judged_again_is_no_news_of_its_source(connection, flow):
    lead = flow.rejected()
    flow.insert("rejected_leads", lead_id=lead, revision=2, reasons=[])
    flow.insert("validated_leads", lead_id=lead, revision=3, flags=[])
    assert measurements.judged_since(connection, flow.now) == [Judged("acme", "website", 1, 1)]


def test_a_delivery_is_due_again_once_its_claim_has_run_out(connection, flow):
    flow.golden(state="in_flight", claimed_until=flow.now + timedelta(seconds=1))
    assert due(connection, flow) == ()
    connection.execute(sa.text("update outbox set claimed_until = :now"), {"now": flow.now})
    assert due(connection, flow) == (Stage.CRM_SYNC_BATCHES,)


def test_deliveries_to_a_destination_that_takes_nothing_are_not_due(connection, flow):
    flow.golden()
    assert due(connection, flow, destinations=()) == ()


def test_the_sample_is_what_the_batch_lane_holds_at_the_door_of_matching(connection, flow, clock):
    batch = Flow(connection, clock.now(), lane="batch")
    batch.validated()
    batch.at_dedupe()
    flow.at_dedupe()
    [row] = rows_to_examine(connection, limit_per_group=10, now=flow.now)
    assert set(row) == set(EXAMINED_COLUMNS)
    assert row["sync_lane"] == "batch"


def test_of_each_source_and_day_the_sample_has_the_newest_rows_and_no_more(connection, clock):
    batch = Flow(connection, clock.now(), lane="batch")
    for _lead in range(3):
        batch.at_dedupe()
    assert len(rows_to_examine(connection, limit_per_group=2, now=clock.now())) == 2


def test_whether_a_delivery_is_due_is_asked_of_the_index_however_much_waits_in_another_lane(connection, flow):
    rows = """
        insert into outbox (
            tenant, contact_id, destination, operation, state, lane, wanted_version, waiting_since, due_at, updated_at
        )
        select 'acme', gen_random_uuid(), 'hubspot', 'upsert', 'waiting', 'batch', 1, :now, :now, :now
        from generate_series(1, 20000)
    """
    connection.execute(sa.text(rows), {"now": flow.now})
    connection.execute(sa.text("analyze outbox"))
    values = {
        "tenants": ["acme"], "lanes": ["real_time"], "stages": [], "now": flow.now,
        "doors": '[{"tenant": "acme", "destination": "hubspot"}]',
    }  # fmt: skip
    plan = "\n".join(connection.execute(sa.text(f"explain {measurements._DUE.text}"), values).scalars())
    assert "ix_outbox_due on outbox" in plan
    assert "Seq Scan on outbox" not in plan


def test_what_ended_lately_is_counted_without_reading_what_ended_before(connection, flow):
    rows = """
        insert into outbox (
            tenant, contact_id, destination, operation, state, lane, wanted_version, delivered_version, delivered_at,
            waiting_since, due_at, updated_at
        )
        select 'acme', gen_random_uuid(), 'hubspot', 'upsert', 'delivered', 'batch', 1, 1, cast(:then as timestamptz),
            cast(:then as timestamptz), cast(:then as timestamptz), cast(:then as timestamptz)
        from generate_series(1, 20000)
    """
    connection.execute(sa.text(rows), {"then": flow.now - timedelta(days=9)})
    flow.delivered()
    flow.dead()
    connection.execute(sa.text("analyze outbox"))
    since = {"since": flow.now - timedelta(days=1)}
    plan = "\n".join(connection.execute(sa.text(f"explain {measurements._SETTLED.text}"), since).scalars())
    assert "ix_outbox_delivered_at" in plan
    assert "ix_outbox_dead" in plan
    assert "Seq Scan" not in plan
