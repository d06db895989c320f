"""What leads took: written by chunks, folded by the minute and the hour, read at any time without loss or double."""

from collections import Counter
from datetime import datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from leads_pipeline.domain.latency import Station, bucket_of
from leads_pipeline.storage import latency
from leads_pipeline.storage.latency import HOURS_KEPT, Latency, Took, fold, prune, read_events, read_latencies
from leads_pipeline_tests.conftest import NOW

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
RAW = Station.RAW_LEADS


def measure(
    engine: sa.Engine,
    *seconds: float,
    at: datetime = NOW,
    tenant: str = "acme",
    lane: str = "real_time",
    station: Station = RAW,
    destination: str = "",
) -> None:
    with engine.begin() as connection:
        took = Took(tenant, station, [(lane, one) for one in seconds], destination)
        latency.measure_latency(connection, took, now=at)


def read(
    engine: sa.Engine, *, since: datetime = NOW - HOUR, until: datetime = NOW + HOUR, **asked: Any
) -> list[Latency]:
    with engine.connect() as connection:
        return read_latencies(connection, since=since, until=until, **asked)


def rows(engine: sa.Engine, table: str) -> list[Any]:
    with engine.connect() as connection:
        return list(connection.execute(sa.text(f"select * from {table}")))


def spans(engine: sa.Engine) -> set[tuple[datetime, int, int]]:
    return {(row.began_at, row.span_seconds, row.leads) for row in rows(engine, "latency_histograms")}


def test_a_chunk_writes_one_row_however_many_leads_and_lanes_it_has(engine: sa.Engine):
    with engine.begin() as connection:
        leads = [(lane, float(n)) for lane in ("real_time", "batch") for n in range(250)]
        latency.measure_latency(connection, Took("acme", RAW, leads), now=NOW)
    [row] = rows(engine, "latency_measurements")
    assert {lane: sum(counts.values()) for lane, counts in row.counts.items()} == {"real_time": 250, "batch": 250}


def test_a_chunk_without_leads_writes_nothing(engine: sa.Engine):
    measure(engine)
    assert rows(engine, "latency_measurements") == []


def test_what_is_measured_is_undone_with_the_chunk(engine: sa.Engine):
    with engine.connect() as connection:
        latency.measure_latency(connection, Took("acme", RAW, [("batch", 1.0)]), now=NOW)
        connection.rollback()
    assert read(engine) == []


def test_what_is_not_folded_yet_is_read_all_the_same(engine: sa.Engine):
    measure(engine, 3, 3, 70)
    before = read(engine)
    assert fold(engine, now=NOW + MINUTE) == 1
    assert rows(engine, "latency_measurements") == []
    measure(engine, 3, at=NOW + MINUTE)
    [now] = read(engine)
    assert before == [Latency("acme", "real_time", RAW, "", {bucket_of(3): 2, bucket_of(70): 1})]
    assert now.counts == {bucket_of(3): 3, bucket_of(70): 1}


def test_minutes_of_long_ago_become_hours_and_none_is_lost(engine: sa.Engine):
    hour = NOW.replace(minute=0)
    for minute in (0, 1, 59):
        measure(engine, 10, 10, at=hour + minute * MINUTE)
    measure(engine, 10, at=hour + HOUR)
    fold(engine, now=hour + HOUR)
    assert len(rows(engine, "latency_histograms")) == 4
    fold(engine, now=hour + timedelta(days=2) + HOUR)
    assert spans(engine) == {(hour, 3600, 6), (hour + HOUR, 60, 1)}
    # A chunk of then that was folded late joins its hour.
    measure(engine, 10, at=hour)
    measure(engine, 10, at=hour + MINUTE)
    fold(engine, now=hour + timedelta(days=2) + HOUR)
    assert (hour, 3600, 8) in {
        (row.began_at, row.span_seconds, row.leads) for row in rows(engine, "latency_histograms")
    }


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("measure"), st.integers(0, 6_000), st.sampled_from([1.0, 61.0])),
            st.tuples(st.just("fold"), st.integers(0, 6_000), st.just(0.0)),
        ),
        max_size=12,
    )
)
def test_whenever_it_is_folded_the_sum_stays(engine: sa.Engine, steps: list[tuple[str, int, float]]):
    with engine.begin() as connection:
        connection.execute(sa.text("truncate latency_measurements, latency_histograms"))
    expected: Counter[int] = Counter()
    for what, minutes, seconds in steps:
        at = NOW + minutes * MINUTE
        if what == "measure":
            measure(engine, seconds, at=at)
            expected[bucket_of(seconds)] += 1
        else:
            fold(engine, now=at)
        found = read(engine, since=NOW, until=NOW + timedelta(days=10))
        assert (found[0].counts if found else Counter()) == expected


def test_a_fold_that_dies_half_way_has_done_nothing(engine: sa.Engine):
    measure(engine, 1, 2, 3)

    def dies(connection: sa.Connection, _cursor: Any, statement: str, *_: Any) -> None:
        if "insert into latency_histograms" in statement:
            raise KeyboardInterrupt

    sa.event.listen(engine, "after_cursor_execute", dies)
    with pytest.raises(KeyboardInterrupt):
        fold(engine, now=NOW)
    sa.event.remove(engine, "after_cursor_execute", dies)
    assert sum(read(engine)[0].counts.values()) == 3
    assert fold(engine, now=NOW) == 1
    assert sum(read(engine)[0].counts.values()) == 3


def test_one_folds_at_a_time(engine: sa.Engine):
    measure(engine, 1)
    with engine.begin() as other:
        assert latency._alone(other)
        assert fold(engine, now=NOW) == 0
    assert fold(engine, now=NOW) == 1


def test_many_rows_are_folded_part_by_part(engine: sa.Engine, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(latency, "FOLDED_AT_ONCE", 2)
    for _ in range(5):
        measure(engine, 1)
    assert fold(engine, now=NOW) == 5
    assert read(engine)[0].leads == 5


def test_histograms_are_read_by_any_of_their_labels(engine: sa.Engine):
    measure(engine, 1)
    measure(engine, 1, tenant="globex", lane="batch")
    measure(engine, 1, station=Station.DELIVERED, destination="hubspot")
    fold(engine, now=NOW)
    measure(engine, 1, station=Station.DELIVERED, destination="erp")
    assert len(read(engine)) == 4
    assert [item.tenant for item in read(engine, tenant="globex")] == ["globex"]
    assert [item.lane for item in read(engine, lane="batch")] == ["batch"]
    assert [item.destination for item in read(engine, station=Station.DELIVERED)] == ["erp", "hubspot"]
    assert [item.destination for item in read(engine, destination="hubspot")] == ["hubspot"]


def test_a_time_ends_where_it_ends(engine: sa.Engine):
    measure(engine, 1, at=NOW - 10 * MINUTE)
    measure(engine, 2, at=NOW)
    assert [item.counts for item in read(engine, since=NOW - 5 * MINUTE)] == [{bucket_of(2): 1}]
    assert [item.counts for item in read(engine, until=NOW)] == [{bucket_of(1): 1}]


@pytest.mark.parametrize("folded", [True, False])
def test_events_of_several_windows_are_told_in_one_question(engine: sa.Engine, folded: bool):
    measure(engine, 59, 60, 61, at=NOW - 2 * MINUTE)
    measure(engine, 300, at=NOW - 3 * HOUR)
    if folded:
        fold(engine, now=NOW)
    with engine.connect() as connection:
        short, long = read_events(connection, station=RAW, seconds=60, windows=[5 * MINUTE, 6 * HOUR], now=NOW)
    assert (short.window, short.leads, short.in_time) == (5 * MINUTE, 3, 2)
    assert (long.window, long.leads, long.in_time) == (6 * HOUR, 4, 2)


def test_histograms_are_pruned_after_their_time(engine: sa.Engine):
    measure(engine, 1, at=NOW - HOURS_KEPT - HOUR)
    measure(engine, 1)
    fold(engine, now=NOW)
    with engine.begin() as connection:
        assert prune(connection, before=NOW - HOURS_KEPT) == 1
    assert [row.began_at for row in rows(engine, "latency_histograms")] == [NOW]


def test_the_last_hour_is_found_by_an_index(engine: sa.Engine):
    with engine.begin() as connection:
        connection.execute(
            sa.text(
                """
                insert into latency_histograms
                select 't' || t, 'real_time', 'raw_leads', '', cast(:now as timestamptz) - h * interval '1 hour', b,
                    3600, 1
                from generate_series(1, 5) t, generate_series(1, 800) h, generate_series(1, 5) b
                """
            ),
            {"now": NOW},
        )
        connection.execute(sa.text("analyze latency_histograms"))
        for which in ("", "and stage = 'raw_leads'"):
            explain = sa.text(f"explain {latency._ALL.format(which=which)}")
            plan = "\n".join(connection.execute(explain, {"since": NOW - HOUR, "until": NOW}).scalars())
            assert "Seq Scan on latency_histograms" not in plan, plan
            assert "ix_latency_histograms" in plan, plan
