"""The buffer's bounds at the door: who is refused while it is full, and that it opens again."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import datetime

import pytest
import sqlalchemy as sa
import structlog.testing

from leads_pipeline.buffer import bounds
from leads_pipeline.buffer.opening import open_lead_buffer
from leads_pipeline.buffer.port import BufferDepth
from leads_pipeline.capture.admission import Admission
from leads_pipeline.clock import FrozenClock
from leads_pipeline.config import BufferSettings, Settings
from leads_pipeline.domain.stage import Lane
from leads_pipeline.errors import DatabaseUnavailable
from leads_pipeline_tests.buffer.test_bounds import gauge, new_leads, put, take, waiting, with_bounds
from leads_pipeline_tests.capture.processes import metric
from leads_pipeline_tests.capture.running import Capture, capture_service, make_key, wait_until
from leads_pipeline_tests.ordering import order

SOURCES = {"website": Lane.REAL_TIME, "webinar": Lane.NEAR_REAL_TIME, "import": Lane.BATCH}


@pytest.fixture
def small(
    settings: Settings, database_url: str, engine: sa.Engine, clock: FrozenClock, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Capture]:
    """A service whose buffer holds a thousand leads at most, and which looks round often."""
    monkeypatch.setattr(bounds, "MIN_PAUSE_SECONDS", 0.05)
    bounded = with_bounds(settings, max_leads=1_000, min_free_disk_bytes=0)
    with capture_service(bounded, database_url=database_url, engine=engine, clock=clock) as capture:
        yield capture


@pytest.fixture
def keys(engine: sa.Engine, clock: FrozenClock) -> dict[str, str]:
    return {source: make_key(engine, clock, source=source) for source in SOURCES}


def answers(capture: Capture, keys: dict[str, str]) -> dict[str, int]:
    """What each source is answered now."""
    return {
        source: capture.post({"number": source}, Authorization=f"Bearer {key}").status_code
        for source, key in keys.items()
    }


def level(capture: Capture) -> float:
    return metric(capture.url, "leads_buffer_level")


def test_the_batch_lane_is_refused_first_and_the_real_time_lane_last_and_all_open_again(
    small: Capture, keys: dict[str, str], engine: sa.Engine, clock: FrozenClock
) -> None:
    assert set(answers(small, keys).values()) == {202}
    for leads, severity, refused in (
        (800, 1, set()),
        (110, 2, {"import"}),
        (70, 3, {"import", "webinar"}),
        (30, 4, {"import", "webinar", "website"}),
    ):
        put(engine, clock, leads)
        wait_until(lambda severity=severity: level(small) == severity)  # type: ignore[misc]
        found = answers(small, keys)
        assert {source for source, status in found.items() if status == 503} == refused
        assert {status for source, status in found.items() if source not in refused} <= {200}
    for lane in Lane:
        assert metric(small.url, "leads_buffer_lane_open", lane=lane) == 0
    take(engine, 600)
    wait_until(lambda: level(small) == 0)
    assert set(answers(small, keys).values()) <= {200, 202}


def test_a_refusal_says_that_the_buffer_is_full_and_when_to_come_again(
    small: Capture, keys: dict[str, str], engine: sa.Engine, clock: FrozenClock
) -> None:
    put(engine, clock, 920)
    wait_until(lambda: level(small) == 2)
    refused = small.post({"number": "1"}, Authorization=f"Bearer {keys['import']}")
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "30")
    assert refused.json()["error"]["code"] == "buffer_full"
    assert metric(small.url, "leads_capture_requests_total", code="buffer_full", route="/v1/leads") == 1


def test_a_buffer_in_redis_closes_the_door_as_well(
    settings: Settings,
    database_url: str,
    redis_url: str,
    engine: sa.Engine,
    clock: FrozenClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TEST_REDIS_URL", redis_url)
    chosen = BufferSettings.model_validate(
        {
            "kind": "redis",
            "redis": {"url": {"env": "TEST_REDIS_URL"}},
            "bounds": {"max_leads": 100, "min_free_disk_bytes": 0},
        }
    )
    in_redis = settings.model_copy(update={"buffer": chosen})
    with capture_service(in_redis, database_url=database_url, engine=engine, clock=clock) as capture:
        batch = {"Authorization": f"Bearer {make_key(engine, clock, source='import')}"}
        with closing(open_lead_buffer(in_redis, engine)) as buffer:
            buffer.append(new_leads(clock, 92, lane=Lane.REAL_TIME), now=clock.now())
        wait_until(lambda: level(capture) == 2)
        assert metric(capture.url, "leads_buffer_waiting", tenant="acme", lane="real_time") == 92
        assert capture.post({"number": "1"}).status_code == 202
        assert capture.post({"number": "2"}, **batch).json()["error"]["code"] == "buffer_full"


def test_a_database_that_cannot_be_asked_keeps_the_level_and_is_complained_about_once(
    clock: FrozenClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounds, "MIN_PAUSE_SECONDS", 0.001)

    async def measure() -> list[bool]:
        asked = 0
        came_to = {place: asyncio.Event() for place in range(1, 20)}

        async def depths() -> Sequence[BufferDepth]:
            nonlocal asked
            asked += 1
            came_to[asked].set()
            if asked in (2, 3, 4):
                raise DatabaseUnavailable("gone")
            return waiting(95 if asked == 1 else 10, clock=clock)

        admission = Admission(depths, gauge(clock), clock=clock)
        found = [admission.is_open(Lane.BATCH)]
        admission.start()
        for question in (2, 4, 6):  # after the first answer, after three failures, after the second answer
            await came_to[question].wait()
            found.append(admission.is_open(Lane.BATCH))
        await admission.close()
        return found

    with structlog.testing.capture_logs() as logs:
        assert asyncio.run(measure()) == [True, False, False, True]
    assert [line["event"] for line in logs] == [
        "buffer changed its level",
        "buffer could not be measured",
        "buffer is measured again",
        "buffer changed its level",
    ]


def test_the_batch_lane_is_refused_while_a_rule_has_ordered_that_and_opens_when_the_order_ends(
    small: Capture, keys: dict[str, str], engine: sa.Engine, clock: FrozenClock
) -> None:
    order(engine, "refuse_batch", now=clock.now(), minutes=3)
    order(engine, "refuse_batch", now=clock.now(), tenant="globex", minutes=60)

    until_orders_are_taken_in(engine)
    assert answers(small, keys) == {"website": 202, "webinar": 202, "import": 503}
    refused = small.post({"number": 1}, Authorization=f"Bearer {keys['import']}")
    clock.advance(181)  # nobody renewed it, and nobody ended it

    assert refused.json()["error"]["code"] == "buffer_full"
    assert int(refused.headers["Retry-After"]) > 0
    assert answers(small, keys)["import"] == 202


def until_orders_are_taken_in(engine: sa.Engine) -> None:
    """Wait until the service reads its orders again after it has read them: by then it has taken in the first.

    The first statement of a connection may show twice, as it is prepared before it is executed.
    """
    with engine.connect() as connection:
        last: datetime = connection.execute(sa.text("select clock_timestamp()")).scalar_one()
    for _statement in range(3):
        wait_until(lambda since=last: orders_were_read(engine, since))  # type: ignore[misc]
        last = orders_read_at(engine) or last


def orders_were_read(engine: sa.Engine, since: datetime) -> bool:
    at = orders_read_at(engine)
    return at is not None and at > since


def orders_read_at(engine: sa.Engine) -> datetime | None:
    """When the service last began to read its orders."""
    statement = """
        select max(query_start) from pg_stat_activity
        where datname = current_database() and application_name = 'leads_capture orders'
    """
    with engine.connect() as connection:
        found: datetime | None = connection.execute(sa.text(statement)).scalar_one()
    return found


def test_orders_that_cannot_be_read_close_nothing(
    small: Capture, keys: dict[str, str], engine: sa.Engine, clock: FrozenClock
) -> None:
    with engine.begin() as connection:
        connection.execute(sa.text("alter table policy_actions rename to policy_actions_away"))

    assert set(answers(small, keys).values()) == {202}
