"""The law of conservation, day by day."""

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from uuid import UUID

import pytest
import sqlalchemy as sa

from leads_pipeline.buffer.bulk import append_in_bulk
from leads_pipeline.buffer.port import NewLead
from leads_pipeline.buffer.postgresql import PostgresBuffer
from leads_pipeline.domain.ids import uuid7
from leads_pipeline.domain.stage import Lane
from leads_pipeline.storage.conservation import (
    Conservation,
    Days,
    conservation,
    daily_conservation,
    missing_leads,
)
from leads_pipeline_tests.defs.rows import Flow
from leads_pipeline_tests.storage.test_conservation import DESTINATIONS, GUARDED

MONDAY, TUESDAY, WEDNESDAY = date(2026, 1, 12), date(2026, 1, 13), date(2026, 1, 14)
WEEK = Days(MONDAY, WEDNESDAY)
# Rows that belong to no one lead: what the door counted is gone with one, and no id with it.
NAMELESS = {"capture_batches"}


@pytest.fixture
def connection(engine: sa.Engine) -> Iterator[sa.Connection]:
    with engine.connect() as connection:
        yield connection


def noon(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, 12, tzinfo=UTC)


def of_day(connection: sa.Connection, day: date, *, tenant: str = "acme") -> dict[str, UUID]:
    """A lead at every place of the flow, captured on a day and remembered by its key."""
    flow = Flow(connection, noon(day), tenant=tenant)
    leads = flow.one_of_each()
    for lead in leads.values():
        flow.insert("ingest_keys", lead_id=lead)
    return leads


def accounts(connection: sa.Connection, days: Days | None = WEEK) -> dict[tuple[str, date | None], Conservation]:
    found = daily_conservation(connection, destinations=DESTINATIONS, days=days)
    return {(item.tenant, item.day): item for item in found}


def broken(connection: sa.Connection, days: Days | None = WEEK) -> set[tuple[str, date | None]]:
    return {place for place, item in accounts(connection, days).items() if not item.conserved}


def test_every_day_has_an_account_of_its_own_and_together_they_are_the_whole(connection: sa.Connection) -> None:
    for day in (MONDAY, TUESDAY, WEDNESDAY):
        of_day(connection, day)
    of_day(connection, TUESDAY, tenant="globex")
    found = accounts(connection)
    assert list(found) == [("acme", MONDAY), ("acme", TUESDAY), ("acme", WEDNESDAY), ("globex", TUESDAY)]
    assert {item.captured for item in found.values()} == {13}
    assert all(item.conserved for item in found.values())
    assert accounts(connection, None) == found
    whole = {item.tenant: item for item in conservation(connection, destinations=DESTINATIONS)}
    assert (whole["acme"].captured, whole["globex"].captured) == (39, 13)
    assert whole["acme"].states == {state: 3 * leads for state, leads in found["acme", MONDAY].states.items()}


def test_one_day_and_one_tenant_are_answered_alone(connection: sa.Connection) -> None:
    for day in (MONDAY, TUESDAY):
        of_day(connection, day)
        of_day(connection, day, tenant="globex")
    alone = accounts(connection, Days(TUESDAY, TUESDAY, tenant="globex"))
    assert list(alone) == [("globex", TUESDAY)]
    assert alone["globex", TUESDAY] == accounts(connection)["globex", TUESDAY]


@pytest.mark.parametrize("table", GUARDED)
def test_a_row_that_is_deleted_shows_on_its_day_and_with_its_lead_s_id(connection: sa.Connection, table: str) -> None:
    of_day(connection, MONDAY)
    before = {row for (row,) in connection.execute(sa.text(f"select ctid::text from {table}"))}
    leads = of_day(connection, TUESDAY)
    statement = f"select ctid::text as row, t.* from {table} t"
    rows = [row for row in connection.execute(sa.text(statement)).mappings() if row["row"] not in before]
    if table == "raw_leads":  # a disposition outlives the lead's own rows
        rows = [row for row in rows if row["lead_id"] != leads["discarded"]]
    assert rows
    for row in rows:
        savepoint = connection.begin_nested()
        connection.execute(sa.text(f"delete from {table} where ctid = cast(:row as tid)"), {"row": row["row"]})
        for days in (WEEK, Days(TUESDAY, TUESDAY), None):
            assert broken(connection, days) == {("acme", TUESDAY)}, f"the loss of {row} went unseen, or on another day"
            missing = missing_leads(connection, destinations=DESTINATIONS, days=days)
            assert bool(missing) == (table not in NAMELESS)
            assert {lead.day for lead in missing} <= {TUESDAY}
            assert {lead.lead_id for lead in missing} <= set(leads.values())
            if "lead_id" in row:
                assert [lead.lead_id for lead in missing] == [row["lead_id"]]
        savepoint.rollback()
    assert broken(connection) == set()


def test_a_lead_lost_on_one_day_is_not_made_up_for_by_one_too_many_on_another(connection: sa.Connection) -> None:
    of_day(connection, MONDAY)
    Flow(connection, noon(TUESDAY)).captured()
    Flow(connection, noon(WEDNESDAY)).captured(-1)
    [whole] = conservation(connection, destinations=DESTINATIONS)
    assert whole.conserved
    assert {day: accounts(connection)["acme", day].unaccounted for day in (MONDAY, TUESDAY, WEDNESDAY)} == {
        MONDAY: 0, TUESDAY: 1, WEDNESDAY: -1,
    }  # fmt: skip


def new_lead(instant: datetime, key: int) -> NewLead:
    digest = f"{key:064x}"
    return NewLead(
        lead_id=uuid7(instant), tenant="acme", source="website", lane=Lane.BATCH, received_at=instant, key_hex=digest,
        body_hex=digest, payload={"email": "a@example.org"}, consent=[], context={},
    )  # fmt: skip


@pytest.mark.parametrize("in_bulk", [False, True])
def test_a_commit_after_midnight_counts_each_lead_on_the_day_of_its_id(engine: sa.Engine, in_bulk: bool) -> None:
    midnight = datetime(2026, 1, 13, tzinfo=UTC)
    just_before, just_after = midnight - timedelta(milliseconds=1), midnight
    if in_bulk:
        with engine.begin() as connection:
            append_in_bulk(connection, [new_lead(just_before, key) for key in (1, 2)], now=just_after)
        with engine.begin() as connection:
            append_in_bulk(connection, [new_lead(just_after, 3)], now=just_after)
    else:
        leads = [new_lead(just_before, 1), new_lead(just_before, 2), new_lead(just_after, 3)]
        PostgresBuffer(engine).append([*leads, new_lead(just_after, 3)], now=just_after)
    with engine.connect() as connection:
        found = accounts(connection)
        assert {day: item.captured for (_tenant, day), item in found.items()} == {MONDAY: 2, TUESDAY: 1}
        assert all(item.conserved for item in found.values())
        assert accounts(connection, Days(MONDAY, MONDAY)) == {("acme", MONDAY): found["acme", MONDAY]}
        assert accounts(connection, Days(TUESDAY, TUESDAY)) == {("acme", TUESDAY): found["acme", TUESDAY]}


@pytest.mark.parametrize("days", [-3, 400])
def test_a_commit_under_a_clock_that_was_set_counts_each_lead_on_the_day_of_its_id(
    engine: sa.Engine, days: int
) -> None:
    """Ids never go back when a clock does, so they may be of days after the commit's."""
    made = noon(TUESDAY)
    PostgresBuffer(engine).append([new_lead(made, 1), new_lead(made + timedelta(days=days), 2)], now=made)
    PostgresBuffer(engine).append([new_lead(made, 3)], now=made + timedelta(days=days))
    with engine.begin() as connection:
        append_in_bulk(connection, [new_lead(made, 4)], now=made + timedelta(days=days))
    with engine.connect() as connection:
        found = accounts(connection, None)
        assert all(item == accounts(connection, Days(day, day))["acme", day] for (_tenant, day), item in found.items())
    assert {day: item.captured for (_tenant, day), item in found.items()} == {
        TUESDAY: 3,
        TUESDAY + timedelta(days=days): 1,
    }
    assert all(item.conserved for item in found.values())


def test_commits_from_before_days_were_counted_are_judged_by_their_sum_alone(connection: sa.Connection) -> None:
    of_day(connection, MONDAY)
    of_day(connection, TUESDAY)
    connection.execute(sa.text("update capture_batches set captured_by_day = null where committed_at < '2026-01-13'"))
    Flow(connection, noon(MONDAY)).insert("capture_batches", captured=1, captured_by_day=sa.null())
    found = accounts(connection)["acme", MONDAY]
    assert (found.unaccounted, found.exact, found.conserved) == (1, False, True)
    [whole] = conservation(connection, destinations=DESTINATIONS)
    assert not whole.conserved
    assert accounts(connection)["acme", TUESDAY].exact


def test_what_came_through_redis_counts_on_the_days_of_its_ids_whenever_it_was_moved(connection: sa.Connection) -> None:
    flow = Flow(connection, noon(MONDAY))
    flow.captured(-1)
    flow.raw()
    flow.waits("validated_leads", connection.execute(sa.text("select lead_id from raw_leads")).scalar_one())
    flow.captured(-1)
    Flow(connection, noon(WEDNESDAY)).insert(
        "redis_moves", moved=1, moved_by_day={MONDAY.isoformat(): 1}, duplicates=0, captured=1
    )
    connection.execute(sa.text("delete from capture_batches"))
    for days in (WEEK, Days(MONDAY, MONDAY), None):
        found = accounts(connection, days)
        assert {day: item.captured for (_tenant, day), item in found.items()} == {MONDAY: 1}
        assert broken(connection, days) == set()


def test_a_day_reads_its_own_leads_and_not_those_of_other_days(connection: sa.Connection) -> None:
    for _time in range(10):
        of_day(connection, MONDAY)
    of_day(connection, TUESDAY)
    connection.execute(sa.text("analyze"))
    by_lead = ("raw_leads", "validated_leads", "rejected_leads", "buffer", "ingest_keys", "lead_dispositions")
    of_tuesday, of_both = (_rows_read(connection, Days(first, TUESDAY), by_lead) for first in (TUESDAY, MONDAY))
    assert 0 < of_tuesday <= of_both / 5


def _rows_read(connection: sa.Connection, days: Days, tables: Sequence[str]) -> int:
    """Rows that these tables gave out in this transaction, by index or read whole."""
    statement = sa.text(
        "select coalesce(sum(seq_tup_read + coalesce(idx_tup_fetch, 0)), 0)::int from pg_stat_xact_user_tables "
        "where regexp_replace(relname, '_(y2026m01|default)$', '') = any(:tables)"
    )
    before = connection.execute(statement, {"tables": list(tables)}).scalar_one()
    daily_conservation(connection, destinations=DESTINATIONS, days=days)
    return int(connection.execute(statement, {"tables": list(tables)}).scalar_one() - before)
