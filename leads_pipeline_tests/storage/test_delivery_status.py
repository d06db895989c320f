"""What is needed to divide an account's quota, and what status shows of it."""

from datetime import datetime, timedelta

import sqlalchemy as sa

from leads_pipeline.clock import FrozenClock
from leads_pipeline.config import DailyLimit, RequestLimits
from leads_pipeline.domain.delivery import QuotaReading, Unit
from leads_pipeline.domain.ids import uuid7
from leads_pipeline.domain.stage import Lane
from leads_pipeline.outbound.limiter import Grant, Limiter, Seen
from leads_pipeline.storage.delivery_status import _WAITING, RequestForecast, quota_use, request_forecast
from leads_pipeline.storage.schema import crm_sync_batches
from leads_pipeline_tests.conftest import NOW
from leads_pipeline_tests.crm.delivering import add_contacts

MIDNIGHT = NOW + timedelta(hours=12)
WEEK = timedelta(days=7)


def _sent(engine: sa.Engine, lane: Lane | None, records: int, *, at: datetime, account: str = "sandbox") -> None:
    with engine.begin() as connection:
        connection.execute(
            crm_sync_batches.insert().values(
                batch_id=uuid7(at), tenant=None, destination="hubspot", account=account, endpoint="/x",
                operation="upsert", records=records, runner_id="r", sent_at=at, lane=lane,
            )
        )  # fmt: skip


def _forecast(engine: sa.Engine) -> dict[Lane, int]:
    with engine.connect() as connection:
        return request_forecast(
            connection, account="sandbox", destinations=["hubspot", "other"], batch_size=100, now=NOW, until=MIDNIGHT
        )


def test_what_waits_is_counted_in_full_batches_where_nothing_was_sent_yet(engine: sa.Engine) -> None:
    add_contacts(engine, 101, lane=Lane.BATCH)
    add_contacts(engine, 1, lane=Lane.REAL_TIME, due_at=NOW + timedelta(hours=1))
    add_contacts(engine, 1, lane=Lane.REAL_TIME, destination="elsewhere")
    assert _forecast(engine) == {Lane.REAL_TIME: 1, Lane.NEAR_REAL_TIME: 0, Lane.BATCH: 2}


def test_requests_are_taken_to_be_as_full_as_those_of_the_last_day(engine: sa.Engine) -> None:
    add_contacts(engine, 10, lane=Lane.REAL_TIME)
    for records in (1, 3, 2):
        _sent(engine, Lane.REAL_TIME, records, at=NOW - timedelta(hours=1))
    _sent(engine, Lane.REAL_TIME, 100, at=NOW - timedelta(hours=1), account="another")
    _sent(engine, Lane.REAL_TIME, 100, at=NOW - timedelta(hours=25))
    _sent(engine, None, 100, at=NOW - timedelta(hours=1))
    assert _forecast(engine)[Lane.REAL_TIME] == 5


def test_what_was_sent_in_the_same_hours_a_week_ago_is_expected_again(engine: sa.Engine) -> None:
    for hours in (1, 2, 11):
        _sent(engine, Lane.REAL_TIME, 3, at=NOW - WEEK + timedelta(hours=hours))
    _sent(engine, Lane.REAL_TIME, 3, at=NOW - WEEK - timedelta(minutes=1))
    _sent(engine, Lane.REAL_TIME, 3, at=MIDNIGHT - WEEK)
    assert _forecast(engine) == {Lane.REAL_TIME: 3, Lane.NEAR_REAL_TIME: 0, Lane.BATCH: 0}


def test_a_forecast_is_made_once_a_minute(engine: sa.Engine, clock: FrozenClock) -> None:
    asked = []

    def resets_at(now: datetime) -> datetime:
        asked.append(now)
        return MIDNIGHT

    forecast = RequestForecast(
        engine, account="sandbox", destinations=["hubspot"], batch_size=100, clock=clock, resets_at=resets_at
    )
    assert forecast()[Lane.BATCH] == 0
    add_contacts(engine, 1, lane=Lane.BATCH)
    clock.advance(59)
    assert forecast()[Lane.BATCH] == 0
    clock.advance(1)
    assert forecast()[Lane.BATCH] == 1
    assert asked == [NOW, NOW + timedelta(minutes=1)]


def test_what_is_used_of_a_day_is_told_by_account(engine: sa.Engine, clock: FrozenClock) -> None:
    limits = RequestLimits(daily=DailyLimit(requests=100, time_zone="Europe/Vienna"), shared_in_flight=3)
    # Under way for years, because the clock stands where no day ends, and the database's goes on.
    limiter = Limiter(engine, account="sandbox", limits=limits, clock=clock, expires_after=timedelta(days=36_500))
    first, second = limiter.acquire(), limiter.acquire()
    assert isinstance(first, Grant)
    assert isinstance(second, Grant)
    limiter.answered(first, Seen(readings=(QuotaReading(Unit.REQUESTS, None, 90, 80),)))
    Limiter(engine, account="without a day", limits=RequestLimits(daily=None)).acquire()
    with engine.connect() as connection:
        [use] = quota_use(connection)
    assert (use.account, use.used, use.foreign, use.stated, use.in_flight) == ("sandbox", 2, 9, 90, 1)
    assert use.day == "2026-01-15 Europe/Vienna"
    assert (use.scale, use.paused_until) == (1, None)


def test_a_lane_that_is_empty_is_found_empty_without_reading_the_others(engine: sa.Engine) -> None:
    add_contacts(engine, 3000)
    given = {"destinations": '["hubspot"]', "lanes": '["real_time", "batch"]', "most": 1000}
    with engine.connect() as connection:
        connection.execute(sa.text("analyze outbox"))
        plan = "\n".join(connection.execute(sa.text(f"explain {_WAITING.text}"), given).scalars())
    assert "using ix_outbox_due" in plan
    assert "Seq Scan on outbox" not in plan
