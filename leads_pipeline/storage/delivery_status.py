"""What status shows of an account's quota, and what is needed to divide it: how many requests each lane will take.

Add what the books and the outbox say of deliveries as a whole. Keep out: the limiter's decision (``outbound``).
"""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa

from leads_pipeline.clock import Clock
from leads_pipeline.domain.quota_budget import FORECAST_SECONDS, Forecast
from leads_pipeline.domain.stage import ALL_LANES, Lane

# More rows of a lane than these are not counted: they are ten thousand full requests, a tenth of a large day's quota.
_MOST_ROWS = 1_000_000
_WEEK = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class QuotaUse:
    """What an account's limiter remembers of its day: ours, other applications', and the limit that the vendor states.

    ``day`` is a date and a time zone. ``scale`` is the share of the short windows that was used when a refusal last
    made it less.
    """

    account: str
    endpoint_class: str
    day: str
    used: int
    foreign: int
    stated: int | None
    in_flight: int
    scale: float
    paused_until: datetime | None


_QUOTA_USE = sa.text(
    """
    select account, endpoint_class, daily ->> 'day' as day, (daily ->> 'used')::integer as used,
        coalesce((daily ->> 'foreign')::integer, 0) as foreign, (daily ->> 'stated')::integer as stated,
        (
            select count(*) from jsonb_each(in_flight) as i
            where (i.value ->> 0)::bigint > extract(epoch from clock_timestamp()) * 1000
        ) as in_flight,
        scale, paused_until
    from rate_limits
    where daily ? 'day'
    order by account, endpoint_class
    """
)

# Rows that are due only later are counted as well: their time comes within the day, or they are few. In the order of
# the index of what is open: where a lane is empty, the planner read ten million rows of the others to learn it.
_WAITING = sa.text(
    """
    select lane.lane, count(*) as waiting
    from jsonb_array_elements_text(cast(:lanes as jsonb)) as lane(lane)
    cross join jsonb_array_elements_text(cast(:destinations as jsonb)) as destination(destination)
    cross join lateral (
        select 1 from outbox
        where outbox.destination = destination.destination and outbox.lane = lane.lane
            and outbox.state in ('waiting', 'in_flight')
        order by outbox.tenant, outbox.due_at
        limit :most
    ) as row_of_it
    group by lane.lane
    """
)
_FILL = sa.text(
    """
    select lane, sum(records)::float / count(*) as records
    from crm_sync_batches
    where account = :account and lane is not null and records > 0 and sent_at >= :since and sent_at < :now
    group by lane
    """
)
_USUAL = sa.text(
    """
    select lane, count(*) as requests
    from crm_sync_batches
    where account = :account and lane is not null and sent_at >= :since and sent_at < :until
    group by lane
    """
)


def quota_use(connection: sa.Connection) -> list[QuotaUse]:
    """The accounts that have a day's quota, by name."""
    return [QuotaUse(**row) for row in connection.execute(_QUOTA_USE).mappings()]


def request_forecast(
    connection: sa.Connection,
    *,
    account: str,
    destinations: Sequence[str],
    batch_size: int,
    now: datetime,
    until: datetime,
) -> dict[Lane, int]:
    """How many requests each lane will take of an account before ``until``.

    What waits, in requests as full as those of the last day, and what was sent in the same hours a week ago. Reads the
    books of a day and of those hours, so it is not for each request: see ``RequestForecast``.
    """
    names = {"lanes": _json(ALL_LANES), "destinations": _json(destinations), "most": _MOST_ROWS}
    waiting = {row.lane: row.waiting for row in connection.execute(_WAITING, names)}
    day = {"account": account, "now": now, "since": now - timedelta(days=1)}
    fill = {row.lane: row.records for row in connection.execute(_FILL, day)}
    hours = {"account": account, "since": now - _WEEK, "until": until - _WEEK}
    usual = {row.lane: row.requests for row in connection.execute(_USUAL, hours)}
    return {
        lane: math.ceil(waiting.get(lane, 0) / max(1.0, fill.get(lane, batch_size))) + usual.get(lane, 0)
        for lane in ALL_LANES
    }


class RequestForecast:
    """The forecast of one account, asked for anew once a minute. Safe to share between threads: two may both ask."""

    def __init__(
        self,
        engine: sa.Engine,
        *,
        account: str,
        destinations: Sequence[str],
        batch_size: int,
        clock: Clock,
        resets_at: Callable[[datetime], datetime],
    ) -> None:
        """``resets_at`` says when the quota of an instant is whole again."""
        self._engine = engine
        self._account = account
        self._destinations = tuple(destinations)
        self._batch_size = batch_size
        self._clock = clock
        self._resets_at = resets_at
        self._known: tuple[float, Forecast] | None = None

    def __call__(self) -> Forecast:
        asked_at = self._clock.monotonic()
        if self._known is not None and asked_at - self._known[0] < FORECAST_SECONDS:
            return self._known[1]
        now = self._clock.now()
        with self._engine.connect() as connection:
            forecast = request_forecast(
                connection,
                account=self._account,
                destinations=self._destinations,
                batch_size=self._batch_size,
                now=now,
                until=self._resets_at(now),
            )
        self._known = (asked_at, forecast)
        return forecast


def _json(names: Sequence[str]) -> str:
    return json.dumps([str(name) for name in names])
