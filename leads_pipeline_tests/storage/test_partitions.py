import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from leads_pipeline.clock import FrozenClock
from leads_pipeline.domain.ids import instant_of, uuid7
from leads_pipeline.storage.partitions import Month, ensure_partitions, missing_partitions
from leads_pipeline.storage.schema import PARTITIONED


def _store(engine: sa.Engine, *instants: datetime) -> list[UUID]:
    """Put one raw lead of each instant into the table."""
    ids = [uuid7(instant) for instant in instants]
    with engine.begin() as connection:
        for lead_id, instant in zip(ids, instants, strict=True):
            connection.execute(
                sa.text(
                    "insert into raw_leads "
                    "values (:id, 'acme', 'website', 'real_time', :at, :none, :none, :id, 'run', :at)"
                ),
                {"id": lead_id, "at": instant, "none": json.dumps({})},
            )
    return ids


def _homes(engine: sa.Engine) -> dict[UUID, str]:
    with engine.connect() as connection:
        rows = connection.exec_driver_sql("select lead_id, tableoid::regclass::text from raw_leads")
        return {row[0]: row[1].removeprefix("leads.") for row in rows}


def test_a_lead_lands_in_the_partition_of_its_month(engine: sa.Engine, clock: FrozenClock) -> None:
    boundary = datetime(2026, 2, 1, tzinfo=UTC)
    ids = _store(engine, clock.now(), boundary - timedelta(milliseconds=1), boundary)
    homes = _homes(engine)
    assert [homes[lead] for lead in ids] == ["raw_leads_y2026m01", "raw_leads_y2026m01", "raw_leads_y2026m02"]


def test_a_lead_of_last_month_has_a_partition_too(engine: sa.Engine, clock: FrozenClock) -> None:
    [lead] = _store(engine, clock.now() - timedelta(days=20))
    assert _homes(engine)[lead] == "raw_leads_y2025m12"


def test_a_lead_of_a_month_nobody_prepared_is_stored_and_moves_when_somebody_does(engine: sa.Engine) -> None:
    june = datetime(2026, 6, 30, 23, 59, tzinfo=UTC)
    lead, neighbour = _store(engine, june, datetime(2026, 11, 1, tzinfo=UTC))
    assert set(_homes(engine).values()) == {"raw_leads_default"}
    with engine.begin() as connection:
        ensure_partitions(connection, now=june)
    assert _homes(engine) == {lead: "raw_leads_y2026m06", neighbour: "raw_leads_default"}


def test_partitions_reach_as_far_ahead_as_asked_and_a_repeat_makes_none(engine: sa.Engine, clock: FrozenClock) -> None:
    with engine.begin() as connection:
        assert ensure_partitions(connection, now=clock.now()) == []
        created = ensure_partitions(connection, now=clock.now(), months_ahead=5)
        assert created == [f"{table}_y2026m{month:02d}" for table in PARTITIONED for month in (5, 6)]
        assert ensure_partitions(connection, now=clock.now(), months_ahead=5) == []


def test_racing_callers_make_each_partition_once(engine: sa.Engine, clock: FrozenClock) -> None:
    next_year = clock.now() + timedelta(days=365)

    def make(_: int) -> list[str]:
        with engine.begin() as connection:
            return ensure_partitions(connection, now=next_year)

    with ThreadPoolExecutor(5) as pool:
        created = list(pool.map(make, range(5)))
    assert sorted(len(names) for names in created) == [0, 0, 0, 0, 5 * len(PARTITIONED)]


def test_a_query_by_id_range_reads_only_its_months(engine: sa.Engine) -> None:
    month = Month(2026, 2)
    with engine.connect() as connection:
        plan = "\n".join(
            connection.exec_driver_sql(
                f"explain select * from raw_leads where lead_id >= '{month.first_id}' "
                f"and lead_id < '{month.plus(1).first_id}'"
            ).scalars()
        )
    assert "raw_leads_y2026m02" in plan
    assert "raw_leads_y2026m01" not in plan


def test_dropping_a_partition_leaves_the_other_months(engine: sa.Engine, clock: FrozenClock) -> None:
    _old, kept = _store(engine, clock.now() - timedelta(days=20), clock.now())
    with engine.begin() as connection:
        connection.exec_driver_sql("drop table leads.raw_leads_y2025m12")
    assert _homes(engine).keys() == {kept}


def test_missing_partitions_are_named_without_being_made(engine: sa.Engine) -> None:
    with engine.connect() as connection:
        for _ in range(2):
            missing = missing_partitions(connection, now=datetime(2026, 4, 30, tzinfo=UTC), months_ahead=1)
            assert [partition.name for partition in missing] == [f"{table}_y2026m05" for table in PARTITIONED]


@given(
    instant=st.datetimes(datetime(2000, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
    offset=st.integers(-30, 30),
)
def test_months_tile_the_time_line(instant: datetime, offset: int) -> None:
    month = Month.of(instant)
    assert month.first_id <= uuid7(instant) < month.plus(1).first_id
    assert month.plus(offset).plus(-offset) == month
    assert instant_of(month.first_id).day == 1


@pytest.mark.parametrize(("start", "months", "expected"), [((2025, 12), 1, (2026, 1)), ((2026, 1), -1, (2025, 12))])
def test_a_year_has_twelve_months(start: tuple[int, int], months: int, expected: tuple[int, int]) -> None:
    assert Month(*start).plus(months) == Month(*expected)
