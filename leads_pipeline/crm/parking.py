"""What must not be asked for now, and why: whole destinations, and lanes for which no quota is left."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache

import sqlalchemy as sa

from leads_pipeline.clock import Clock
from leads_pipeline.config import DestinationSettings, RequestLimits, Settings
from leads_pipeline.crm.mapping import blocked_destinations
from leads_pipeline.domain.delivery import ONE_REQUEST, Unit
from leads_pipeline.domain.quota_budget import Forecast
from leads_pipeline.domain.stage import ALL_LANES, Lane
from leads_pipeline.outbound.breaker import BreakerState, read_breakers
from leads_pipeline.outbound.decision import next_midnight
from leads_pipeline.outbound.limiter import Ask, Grant, Limiter, Wait, WaitReason
from leads_pipeline.outbound.windows import DAY_SECONDS
from leads_pipeline.storage.delivery_status import RequestForecast, request_forecast

# Why a destination is left alone that refuses our credentials or our set-up.
AUTH = "auth"
# What a breaker remembers beside a destination's name: verification's have their provider's.
_BREAKER = "crm:"


# How much longer than its time-out a request counts as under way if nobody reports its end.
_AFTER_TIME_OUT = timedelta(seconds=10)
# Why a destination is left alone whose mapping lets no contact through.
MAPPING = "mapping"
# Why one is left alone whose client cannot be built, and one at which this product itself fails.
SET_UP = "set_up"
FAILURE = "failure"

_ADVICE = {
    AUTH: "it refuses our credentials or set-up: put that right; it is asked again once a minute",
    MAPPING: "no contact can be sent as it is mapped: `leads destinations check` says why, and then lifts this",
    SET_UP: "a token or a setting of it is missing (crm_destination_not_set_up in the log): set it and start again",
    FAILURE: "this product fails at it (crm_destination_failed in the log says where); it is tried once a minute",
    "no_answer": "it does not answer; one batch tries it when the pause is over. Nothing is lost, no attempt is spent",
    "server_error": "it answers with errors of its own; one batch tries it when the pause is over. No attempt is spent",
    WaitReason.DAILY: "the quota is spent: it goes on at the reset by itself, or sooner with a higher limits.daily",
    WaitReason.RESERVE: "what is left is kept for more urgent lanes (limits.reserve, forecast); it goes on by itself",
    WaitReason.PAUSED: "the vendor asked for a pause, as its limit was reached; it goes on by itself",
    WaitReason.WINDOW: "the run ended before the next request was allowed; the next run goes on",
    WaitReason.BUSY: "other processes held the account's row for too long; the next run goes on",
    WaitReason.IN_FLIGHT: "as many requests are under way as limits.shared_in_flight allows; it goes on by itself",
}


@dataclass(frozen=True, slots=True)
class Parked:
    """Why something is left alone.

    auth, mapping, set_up, failure, no_answer, server_error, daily, reserve, paused, in_flight, or window (no time
    left). ``code``: of auth, with which the destination refuses us, where it gives one.
    """

    reason: str
    until: datetime
    code: str | None = None

    @property
    def advice(self) -> str:
        """What it means, and what to do."""
        advice = _ADVICE.get(self.reason, "it goes on by itself")
        return advice if self.code is None else f"{self.code}: {advice} (docs/destinations.md)"

    @property
    def needs_somebody(self) -> bool:
        """Whether it lasts until a person acts."""
        return self.reason in (AUTH, MAPPING, SET_UP, FAILURE)


@dataclass(frozen=True, slots=True)
class Parking:
    """All that is parked: destinations as a whole, and single lanes of the others."""

    destinations: Mapping[str, Parked] = field(default_factory=dict)
    lanes: Mapping[tuple[str, Lane], Parked] = field(default_factory=dict)

    def named(self) -> dict[str, Parked]:
        """By name, for people: ``hubspot``, or ``hubspot batch``."""
        return {**self.destinations, **{f"{name} {lane}": item for (name, lane), item in self.lanes.items()}}

    def lanes_of(self, destination: str) -> frozenset[Lane]:
        """The lanes of a destination that are parked."""
        if destination in self.destinations:
            return frozenset(ALL_LANES)
        return frozenset(lane for name, lane in self.lanes if name == destination)


def price_of_full(destination: DestinationSettings, *, lane: Lane, records: int | None = None) -> Ask:
    """What a full request uses up, asked before its contacts are claimed: what must not be sent is not held up."""
    price = destination.price(destination.batch_size if records is None else records)
    cost = {**ONE_REQUEST, Unit.CREDITS: price.credits} if price.credits else ONE_REQUEST
    return Ask(price.endpoint_class, cost, lane)


def auth_reason(code: str | None) -> str:
    """What a breaker remembers of a destination that refuses us."""
    return AUTH if code is None else f"{AUTH} {code}"


def parked_by(reason: str, until: datetime) -> Parked:
    """Why a breaker has a destination left alone, by what it remembers."""
    name, _, code = reason.partition(" ")
    return Parked(name, until, code or None)


def breaker_name(destination: str) -> str:
    """Under which name a destination's breaker is kept."""
    return _BREAKER + destination


class Forecasts:
    """How many requests each lane will take of each account, for whoever plans again and again: asked once a minute."""

    def __init__(self, engine: sa.Engine, *, settings: Settings, clock: Clock) -> None:
        self._engine = engine
        self._settings = settings
        self._clock = clock
        self._known: dict[str, RequestForecast] = {}

    def of(self, name: str) -> RequestForecast:
        """The forecast of a destination's account."""
        return self._known.setdefault(name, self._anew(name))

    def _anew(self, name: str) -> RequestForecast:
        destination: DestinationSettings = self._settings.destinations[name]
        return RequestForecast(
            self._engine,
            account=destination.account,
            destinations=destinations_of(self._settings, destination.account),
            batch_size=destination.batch_size,
            clock=self._clock,
            resets_at=lambda now: resets_at(destination.limits, now),
        )


def parked_now(engine: sa.Engine, *, settings: Settings, now: datetime, forecasts: Forecasts | None = None) -> Parking:
    """Destinations that fail, refuse us or can take nobody; of the others, what cannot be asked for within one run.

    Whoever starts deliveries asks this first: a run that finds everything parked would be started again and again.
    ``forecasts``: those that are known; without them the outbox is counted.
    """
    with engine.connect() as connection:
        broken = {item.name: item for item in read_breakers(connection) if item.state is not BreakerState.CLOSED}
        blocked = blocked_destinations(connection, settings.destinations)
    destinations: dict[str, Parked] = {}
    lanes: dict[tuple[str, Lane], Parked] = {}
    for name in settings.destinations:
        found = broken.get(breaker_name(name))
        if found is not None and found.next_probe_at is not None and found.next_probe_at > now:
            destinations[name] = parked_by(found.reason or AUTH, found.next_probe_at)
            continue
        if name in blocked and blocked[name] > now:
            destinations[name] = Parked(MAPPING, blocked[name])
            continue
        anew = forecast_at(engine, name, settings=settings, now=now)
        forecast = anew if forecasts is None else forecasts.of(name)
        limiter = limiter_of(engine, name, settings=settings, forecast=forecast)
        refused: dict[Lane, Parked] = {}
        for lane in reversed(ALL_LANES):  # what the least urgent may have, all may
            answer = limiter.peek(price_of_full(settings.destinations[name], lane=lane))
            # What is kept for others is not waited for by a run, however soon it is worth asking again.
            if isinstance(answer, Grant) or (
                answer.reason is not WaitReason.RESERVE and answer.seconds <= settings.pipeline.run_seconds
            ):
                break
            refused[lane] = Parked(answer.reason, until(answer, now=now))
        if len(refused) == len(ALL_LANES):
            destinations[name] = refused[ALL_LANES[0]]
        else:
            lanes |= {(name, lane): item for lane, item in refused.items()}
    return Parking(destinations, lanes)


def open_doors(settings: Settings, *, parked: Parking, lanes: Sequence[Lane]) -> list[tuple[str, str, Lane]]:
    """Every tenant with each of its destinations and the ``lanes`` that may be asked for now."""
    return [
        (tenant, destination, lane)
        for tenant, tenant_settings in settings.tenants.items()
        for destination in tenant_settings.destinations
        for lane in lanes
        if lane not in parked.lanes_of(destination)
    ]


def until(wait: Wait, *, now: datetime) -> datetime:
    """When it is worth asking again."""
    if wait.reason is WaitReason.DAILY and wait.resets_at is not None:
        return wait.resets_at
    return now + timedelta(seconds=wait.seconds)


def limiter_of(engine: sa.Engine, name: str, *, settings: Settings, forecast: Callable[[], Forecast] | None) -> Limiter:
    """The limiter of a destination's account."""
    destination = settings.destinations[name]
    return Limiter(
        engine,
        account=destination.account,
        limits=destination.limits,
        forecast=forecast if _has_budget(destination.limits) else None,
        expires_after=timedelta(seconds=destination.timeout_seconds) + _AFTER_TIME_OUT,
    )


def destinations_of(settings: Settings, account: str) -> list[str]:
    """The destinations that spend the quota of ``account``."""
    return [name for name, destination in settings.destinations.items() if destination.account == account]


def resets_at(limits: RequestLimits, now: datetime) -> datetime:
    """When the quota of ``now`` is whole again: at the account's midnight, or 24 hours on."""
    return next_midnight(now, limits.daily) if limits.daily is not None else now + timedelta(days=1)


def _has_budget(limits: RequestLimits) -> bool:
    return limits.daily is not None or any(window.seconds >= DAY_SECONDS for window in limits.windows)


def forecast_at(engine: sa.Engine, name: str, *, settings: Settings, now: datetime) -> Callable[[], Forecast]:
    """How many requests each lane will take of a destination's account; asked of the database at the first call."""
    destination: DestinationSettings = settings.destinations[name]

    @cache
    def forecast() -> Forecast:
        with engine.connect() as connection:
            return request_forecast(
                connection,
                account=destination.account,
                destinations=destinations_of(settings, destination.account),
                batch_size=destination.batch_size,
                now=now,
                until=resets_at(destination.limits, now),
            )

    return forecast
