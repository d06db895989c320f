"""Measuring the buffer, and pacing an import by it, against a real one."""

import shutil
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
import structlog.testing

from leads_pipeline.buffer.bounds import (
    LAST_LEVEL_SECONDS,
    BufferGauge,
    BufferPace,
    disk_to_watch,
    pace_for,
    pause_after,
)
from leads_pipeline.buffer.port import BufferDepth, NewLead
from leads_pipeline.buffer.postgresql import PostgresBuffer
from leads_pipeline.clock import FrozenClock
from leads_pipeline.config import BoundsSettings, BufferSettings, Settings
from leads_pipeline.domain.buffer_bounds import Bounds, Level
from leads_pipeline.domain.ids import uuid7
from leads_pipeline.domain.stage import Lane
from leads_pipeline.errors import DatabaseUnavailable
from leads_pipeline.storage.embedded import EmbeddedServer

BOUNDS = Bounds(max_leads=100, max_age=timedelta(hours=10), min_free_disk_bytes=0)


def with_bounds(settings: Settings, **bounds: float) -> Settings:
    return settings.model_copy(update={"buffer": BufferSettings(bounds=BoundsSettings.model_validate(bounds))})


def new_leads(clock: FrozenClock, leads: int, *, tenant: str = "acme", lane: Lane = Lane.BATCH) -> list[NewLead]:
    return [
        NewLead(
            lead_id=(lead_id := uuid7(clock.now())),
            tenant=tenant,
            source="import",
            lane=lane,
            received_at=clock.now(),
            key_hex=lead_id.hex * 2,
            body_hex=lead_id.hex * 2,
            payload={"number": "1"},
            consent=[],
            context={},
        )
        for _ in range(leads)
    ]


def put(engine: sa.Engine, clock: FrozenClock, leads: int, *, tenant: str = "acme", lane: Lane = Lane.BATCH) -> None:
    PostgresBuffer(engine).append(new_leads(clock, leads, tenant=tenant, lane=lane), now=clock.now())


def take(engine: sa.Engine, leads: int) -> None:
    with engine.begin() as connection:
        connection.execute(
            sa.text("delete from buffer where lead_id in (select lead_id from buffer limit :n)"), {"n": leads}
        )


def waiting(leads: int, *, clock: FrozenClock, tenant: str = "acme", hours: float = 0) -> list[BufferDepth]:
    return [BufferDepth(tenant, Lane.BATCH, leads, clock.now() - timedelta(hours=hours))]


def gauge(clock: FrozenClock, *, disk: Path | None = None, bounds: Bounds = BOUNDS) -> BufferGauge:
    return BufferGauge(bounds, tenants={"acme"}, disk=disk, clock=clock)


def test_the_oldest_lead_of_each_tenant_and_lane_is_found_whoever_came_first(engine: sa.Engine, clock: FrozenClock):
    put(engine, clock, 3, tenant="globex", lane=Lane.REAL_TIME)
    clock.advance(60)
    put(engine, clock, 2, tenant="acme", lane=Lane.REAL_TIME)
    clock.advance(60)
    put(engine, clock, 4, tenant="acme", lane=Lane.BATCH)
    clock.advance(60)
    put(engine, clock, 1, tenant="acme", lane=Lane.REAL_TIME)

    with engine.connect() as connection:
        depths = PostgresBuffer(engine).depths(connection)

    start = clock.now() - timedelta(seconds=180)
    assert depths == [
        BufferDepth("acme", Lane.BATCH, 4, start + timedelta(seconds=120)),
        BufferDepth("acme", Lane.REAL_TIME, 3, start + timedelta(seconds=60)),
        BufferDepth("globex", Lane.REAL_TIME, 3, start),
    ]


def test_leads_of_a_tenant_that_is_gone_count_but_do_not_close_the_door_by_their_age(clock: FrozenClock):
    measured = gauge(clock).measured(waiting(50, clock=clock, tenant="gone", hours=1_000))

    assert measured.fill.leads == 0.5
    assert measured.level is Level.NORMAL


def test_a_level_that_cannot_be_renewed_stands_for_a_while_and_is_complained_about_once(clock: FrozenClock):
    watched = gauge(clock)
    watched.measured(waiting(95, clock=clock))
    with structlog.testing.capture_logs() as logs:
        for _ in range(3):
            watched.failed(DatabaseUnavailable("gone"))
    assert [line["event"] for line in logs] == ["buffer could not be measured"]

    clock.advance(LAST_LEVEL_SECONDS)
    assert watched.level is Level.BATCH_REFUSED
    clock.advance(1)
    assert watched.level is Level.NORMAL


def test_a_disk_that_fills_raises_the_level(clock: FrozenClock, tmp_path: Path):
    free = shutil.disk_usage(tmp_path).free
    tight = Bounds(max_leads=100, max_age=timedelta(hours=10), min_free_disk_bytes=free * 2)

    measured = gauge(clock, disk=tmp_path, bounds=tight).measured([])

    assert measured.level is Level.REAL_TIME_REFUSED
    assert measured.fill.disk == pytest.approx(2, rel=0.1)


def test_a_disk_that_is_not_there_is_said_once_and_bounds_nothing(clock: FrozenClock, tmp_path: Path):
    tight = Bounds(max_leads=100, max_age=timedelta(hours=10), min_free_disk_bytes=1)
    watched = gauge(clock, disk=tmp_path / "gone", bounds=tight)
    with structlog.testing.capture_logs() as logs:
        levels = [watched.measured([]).level for _ in range(3)]

    assert levels == [Level.NORMAL] * 3
    assert [line["event"] for line in logs] == ["disk cannot be watched"]
    assert watched.reading is not None
    assert watched.reading.free_disk_bytes is None


def test_the_embedded_servers_disk_is_watched_and_a_remote_servers_is_not(
    settings: Settings, own_state: Path, tmp_path: Path
):
    server = EmbeddedServer(own_state, durable=False)
    here = settings.model_copy(update={"state_dir": str(own_state)})
    url = server.start()

    assert disk_to_watch(here, database_url=url) == server.directory
    assert disk_to_watch(here, database_url="postgresql://db.example.com/leads") is None
    named = with_bounds(here, disk_path=str(tmp_path))  # type: ignore[arg-type]
    assert disk_to_watch(named, database_url="postgresql://db.example.com/leads") == tmp_path


def test_an_import_far_from_the_bound_never_waits(engine: sa.Engine, clock: FrozenClock, settings: Settings):
    pace = pace_for(engine, PostgresBuffer(engine), settings=settings, clock=clock)
    for _ in range(5):
        put(engine, clock, 10)
        clock.advance(1)

        assert pace.wait() == 0.0


def test_near_the_bound_an_import_pauses_in_proportion_to_its_work(clock: FrozenClock):
    depth = waiting(0, clock=clock)
    pace = BufferPace(lambda: depth, gauge(clock), clock=clock)
    pauses = []
    for leads in (70, 75, 80, 85):
        depth = waiting(leads, clock=clock)
        clock.advance(3)
        pauses.append(pace.wait())

    assert pauses == pytest.approx([0.0, 0.0, 1.5, 6.0])


def test_at_the_batch_bound_an_import_says_so_once_and_goes_on_when_there_is_room(
    engine: sa.Engine, clock: FrozenClock, settings: Settings
):
    said: list[str] = []
    put(engine, clock, 95)

    def someone_takes_leads(_seconds: float) -> None:
        if len(waiting_clock.slept) == 3:
            take(engine, 50)

    waiting_clock = FrozenClock(clock.now(), on_sleep=someone_takes_leads)
    pace = pace_for(
        engine,
        PostgresBuffer(engine),
        settings=with_bounds(settings, max_leads=100),
        clock=waiting_clock,
        on_full=said.append,
        on_room=lambda: said.append("room"),
    )

    waited = pace.wait()

    assert waited == pytest.approx(sum(waiting_clock.slept))
    assert 3 <= len(waiting_clock.slept) <= 4
    assert said == [
        "the buffer is full to 95% of its bound (95 leads wait): waiting until the pipeline has made room",
        "room",
    ]


def test_an_import_whose_buffer_cannot_be_measured_goes_on(clock: FrozenClock):
    def gone() -> Sequence[BufferDepth]:
        raise DatabaseUnavailable("gone")

    assert BufferPace(gone, gauge(clock), clock=clock).wait() == 0.0


def test_a_measurement_that_a_frozen_database_held_up_does_not_put_off_the_next_for_long() -> None:
    assert pause_after(0.001) == 1.0
    assert pause_after(0.5) == 10.0
    assert pause_after(60.0, share=4) < LAST_LEVEL_SECONDS
