"""Counting validated leads by rules: which rows are counted, and how many are read for it."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from leads_pipeline.domain.expectations import Group, Tally, row_rules
from leads_pipeline.storage.quality import EARLIER_DAYS, day_bounds, days_before, latest, leads_waiting
from leads_pipeline_tests.conftest import NOW
from leads_pipeline_tests.defs.rows import Flow

RULES = row_rules(tiers=("full",), now=NOW)
TODAY = NOW.date()
IMPORT = Group("acme", "import", TODAY)
WEBSITE = Group("acme", "website", TODAY)


@pytest.fixture
def connection(engine: sa.Engine) -> Iterator[sa.Connection]:
    with engine.begin() as connection:
        yield connection


def batch(connection: sa.Connection, **flow: Any) -> Flow:
    return Flow(connection, NOW, **{"source": "import", "lane": "batch", **flow})


def hot(connection: sa.Connection, *, ago: timedelta = timedelta(), leads: int = 1, **values: Any) -> None:
    flow = Flow(connection, NOW)
    for _ in range(leads):
        flow.validated(**{"received_at": NOW - ago, "validated_at": NOW - ago, **values})


def judged(connection: sa.Connection, *, limit: int = 100, per_day: int = 10) -> dict[Group, tuple[Tally, list[Tally]]]:
    return latest(connection, RULES, now=NOW, window=timedelta(hours=1), limit=limit, per_day=per_day)


def test_only_what_waits_in_the_batch_lane_is_counted(connection):
    flow = batch(connection)
    flow.at_dedupe(email="no address")
    flow.at_dedupe()
    flow.validated(email="has passed")
    Flow(connection, NOW, source="import").at_dedupe(email="hot lane")
    batch(connection, source="partner").at_dedupe(email="other source")
    batch(connection, tenant="globex").at_dedupe(email="other tenant")
    flow.at_dedupe(email="other day", received_at=NOW - timedelta(days=1))
    counts = leads_waiting(connection, IMPORT, RULES, now=NOW)
    assert (counts.rows, counts.broken) == (2, {"email_format": 1})


def test_of_a_lead_the_revision_that_waits_is_counted(connection):
    flow = batch(connection)
    lead = flow.at_dedupe(email="no address")
    flow.insert("validated_leads", lead_id=lead, revision=2, email="a@example.com", email_key="a@example.com", flags=[])
    connection.execute(sa.text("update pending set revision = 2"))
    assert leads_waiting(connection, IMPORT, RULES, now=NOW) == Tally(
        rows=1,
        present={"email": 1, "phone": 0, "last_name": 0, "company": 0, "disposable": 0, "free": 0},
        countries={None: 1},
    )


@pytest.mark.parametrize(("hour", "today"), [(0, True), (23, True), (24, False), (-1, False)])
def test_a_day_begins_and_ends_at_midnight_in_utc(connection, hour, today):
    start, _ = day_bounds(TODAY)
    connection.execute(sa.text("set local time zone 'America/Los_Angeles'"))
    batch(connection).at_dedupe(received_at=start + timedelta(hours=hour))
    assert leads_waiting(connection, IMPORT, RULES, now=NOW).rows == int(today)


def test_history_is_the_same_source_s_earlier_days_that_have_passed(connection):
    flow = batch(connection)
    for days in (0, 1, 1, 2, 28, 29):
        flow.validated(received_at=NOW - timedelta(days=days), country="US", flags=["free_mailbox"], phone="+1")
    flow.at_dedupe(received_at=NOW - timedelta(days=1))
    batch(connection, source="partner").validated(received_at=NOW - timedelta(days=1))
    batch(connection, tenant="globex").validated(received_at=NOW - timedelta(days=1))
    found = days_before(connection, [IMPORT], days=28, now=NOW)
    assert sorted(day.rows for day in found[IMPORT]) == [1, 1, 2]
    assert {day.present["free"] / day.rows for day in found[IMPORT]} == {1.0}
    assert {tuple(day.countries) for day in found[IMPORT]} == {("US",)}


def test_a_day_that_waits_is_no_history_of_the_day_after(connection):
    flow = batch(connection)
    flow.at_dedupe(received_at=NOW - timedelta(days=1))
    flow.at_dedupe()
    yesterday = Group("acme", "import", TODAY - timedelta(days=1))
    assert days_before(connection, [IMPORT, yesterday], days=28, now=NOW) == {IMPORT: [], yesterday: []}


def test_the_hot_chain_s_last_hour_is_held_against_this_time_of_earlier_days(connection):
    hot(connection, leads=3)
    hot(connection, email="no address")
    hot(connection, ago=timedelta(minutes=61), email="an hour ago")
    hot(connection, ago=timedelta(days=1, minutes=1), leads=5)
    hot(connection, ago=timedelta(days=7, hours=3), leads=2)
    hot(connection, ago=timedelta(days=9))
    batch(connection).validated(email="batch")
    [(group, (counts, earlier))] = judged(connection).items()
    assert (group, counts.rows, counts.broken) == (WEBSITE, 4, {"email_format": 1})
    assert [day.rows for day in earlier] == [5, 2]
    assert all(day.broken == {} for day in earlier)


def test_the_newest_leads_are_the_ones_that_are_looked_at(connection):
    hot(connection, ago=timedelta(minutes=30), leads=5, email="older")
    hot(connection, leads=5)
    [(counts, _earlier)] = judged(connection, limit=5).values()
    assert (counts.rows, counts.broken) == (5, {})


def test_what_the_hot_chain_reads_does_not_grow_with_the_table(connection):
    statements: list[tuple[str, Any]] = []
    sa.event.listen(
        connection, "before_cursor_execute", lambda _c, _cur, text, values, *_: statements.append((text, values))
    )
    read = []
    for _ in range(2):
        connection.execute(
            sa.text(
                "insert into validated_leads (tenant, lead_id, revision, source, capture_lane, sync_lane, received_at,"
                " validated_at, attribution, flags, rule_version, batch_id, runner_id)"
                " select 'acme', gen_random_uuid(), 1, 'website', 'real_time', 'real_time', at, at, '{}', '[]', '2',"
                " gen_random_uuid(), 'r' from (select cast(:now as timestamptz) - n * interval '30 seconds' as at"
                " from generate_series(1, 25000) n) t"
            ),
            {"now": NOW},
        )
        connection.execute(sa.text("analyze validated_leads"))
        judged(connection, limit=100, per_day=20)
        text, values = statements[-1]
        plan = connection.exec_driver_sql(f"explain (analyze, format json) {text}", values).scalar_one()[0]["Plan"]
        read.append(sum(rows_read(plan)))
    # Of 25,000 rows, then of 50,000. Beside the limits, each partition is asked for its newest row.
    assert max(read) < 1.25 * (100 + EARLIER_DAYS * 20)


def rows_read(plan: dict[str, Any]) -> Iterator[float]:
    """The rows that the scans of a plan's tables read, those included that they passed over."""
    if plan.get("Relation Name", "").startswith("validated_leads"):
        yield plan["Actual Loops"] * (plan["Actual Rows"] + plan.get("Rows Removed by Filter", 0))
    for below in plan.get("Plans", []):
        yield from rows_read(below)
