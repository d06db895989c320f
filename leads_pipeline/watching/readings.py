"""The questions behind the measures: each is asked once and answers one or several of them.

A reading gets an engine whose statements end after a few seconds, and uses a connection of its own, so that one that
fails or is slow leaves the others alone. Add a reading here and its measures in ``watching.measures``. A rate is told
only of enough events (``LEAST_EVENTS``): of one contact that fails, nothing follows.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa

from leads_pipeline.buffer.bounds import disk_to_watch, free_disk_bytes, gauge_for
from leads_pipeline.buffer.postgresql import PostgresBuffer
from leads_pipeline.buffer.queues import redis_depths, with_buffered
from leads_pipeline.clock import Clock
from leads_pipeline.config import Settings
from leads_pipeline.crm.parking import breaker_name, parked_now
from leads_pipeline.domain.latency import Station, merged, quantile
from leads_pipeline.outbound.breaker import BreakerState, read_breakers
from leads_pipeline.storage import measurements, recent_counts
from leads_pipeline.storage.latency import read_latencies
from leads_pipeline.storage.outcomes import OutcomeRate, bounce_rates, opportunity_rates
from leads_pipeline.storage.verification_measurements import calls_since
from leads_pipeline.verification.overview import provider_standings
from leads_pipeline.verification.port import Outcome

RATE_WINDOW = timedelta(minutes=5)
LATENCY_WINDOW = timedelta(minutes=15)
TRIED_WINDOW = timedelta(minutes=15)
JUDGED_WINDOW = timedelta(hours=1)
OUTCOME_WINDOW = timedelta(days=7)
# Fewer say nothing of a rate.
LEAST_EVENTS = 20

QUANTILES = {"latency_p50_seconds": 0.5, "latency_p95_seconds": 0.95, "latency_p99_seconds": 0.99}
# A window that is full for a moment, or a probe that another process makes, stops nothing.
_PAUSES = frozenset({"daily", "paused"})
_ANSWERS = frozenset({Outcome.ANSWERED, Outcome.POLL})


@dataclass(frozen=True, slots=True)
class Measured:
    """One value of one measure, and what it is about. Providers of look-ups stand in ``destination``."""

    name: str
    value: float
    tenant: str | None = None
    lane: str | None = None
    stage: str | None = None
    destination: str | None = None
    source: str | None = None

    @property
    def labels(self) -> dict[str, str]:
        """What it is about, by label."""
        named = {
            "tenant": self.tenant,
            "lane": self.lane,
            "stage": self.stage,
            "destination": self.destination,
            "source": self.source,
        }
        return {name: value for name, value in named.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Reader:
    """What a reading is given. ``seconds``: for how long anything else than ``engine`` may keep it waiting now."""

    engine: sa.Engine
    settings: Settings
    clock: Clock
    now: datetime
    seconds: Callable[[], float]


Reading = Callable[[Reader], Iterable[Measured]]


def queues(reader: Reader) -> Iterator[Measured]:
    """What waits in front of every stage, in PostgreSQL and in Redis."""
    with reader.engine.connect() as connection:
        found = measurements.queues(connection)
    for queue in with_buffered(found, redis_depths(reader.settings, seconds=reader.seconds())):
        about = {"tenant": queue.tenant, "lane": str(queue.lane), "stage": str(queue.stage)}
        yield Measured("queue_depth", queue.waiting, **about)
        yield Measured("oldest_seconds", queue.oldest_seconds(reader.now), **about)


def rates(reader: Reader) -> Iterator[Measured]:
    """Leads that came to a station, per minute; at the first one also that none came in a lane in which some may."""
    since = reader.now.replace(second=0, microsecond=0) - RATE_WINDOW  # histograms begin with a full minute
    minutes = (reader.now - since) / timedelta(minutes=1)
    came = {place: sum(counts.values()) for place, counts in _histograms(reader, since).items()}
    quiet = {
        (tenant, lane, Station.RAW_LEADS): 0
        for tenant, settings in reader.settings.tenants.items()
        for source in settings.sources.values()
        for lane in source.lanes
    }
    for (tenant, lane, station), leads in (quiet | came).items():
        yield Measured("rate_per_minute", leads / minutes, tenant=tenant, lane=lane, stage=station)


def latencies(reader: Reader) -> Iterator[Measured]:
    """How long leads took to a station."""
    for (tenant, lane, station), counts in _histograms(reader, reader.now - LATENCY_WINDOW).items():
        for name, share in QUANTILES.items():
            seconds = quantile(counts, share)
            if seconds is not None:
                yield Measured(name, seconds, tenant=tenant, lane=lane, stage=station)


def _histograms(reader: Reader, since: datetime) -> dict[tuple[str, str, Station], Mapping[int, int]]:
    """By tenant, lane and station; of deliveries all destinations together."""
    until = reader.now + timedelta(minutes=1)
    with reader.engine.connect() as connection:
        found = read_latencies(connection, since=since, until=until)
    grouped: dict[tuple[str, str, Station], list[Mapping[int, int]]] = {}
    for item in found:
        grouped.setdefault((item.tenant, item.lane, item.station), []).append(item.counts)
    return {place: merged(counts) for place, counts in grouped.items()}


def lookups(reader: Reader) -> Iterator[Measured]:
    """Calls of each provider, and how many of those that are over were answered."""
    providers = list(reader.settings.verification.providers)
    with reader.engine.connect() as connection:
        calls = calls_since(connection, providers, reader.now - TRIED_WINDOW)
    for name in providers:
        own = [item for item in calls if item.provider == name]
        yield Measured("verification_attempts", sum(item.calls for item in own), destination=name)
        over = sum(item.calls for item in own if item.outcome is not None)
        answered = sum(item.calls for item in own if item.outcome in _ANSWERS)
        if over >= LEAST_EVENTS:
            yield Measured("verification_success_rate", answered / over, destination=name)


def providers(reader: Reader) -> Iterator[Measured]:
    """Which providers that are asked for anything cannot be asked now: no key, no budget, an open breaker, a pause."""
    for item in provider_standings(reader.engine, settings=reader.settings.verification, clock=reader.clock):
        if item.place is None:
            continue
        stopped = not item.has_key or item.is_spent or item.state is not BreakerState.CLOSED
        paused = item.trouble is not None and item.trouble.reason in _PAUSES
        yield Measured("lookups_stopped", float(stopped or paused), destination=item.name)


def identity(reader: Reader) -> Iterator[Measured]:
    """Of the leads that were told apart: pairs put before a person, and those that contradict themselves."""
    with reader.engine.connect() as connection:
        found = recent_counts.resolved_since(connection, reader.now - JUDGED_WINDOW)
    for item in found:
        if item.leads >= LEAST_EVENTS:
            yield Measured("review_rate", min(1.0, item.reviews / item.leads), tenant=item.tenant)
            yield Measured("dedupe_conflict_rate", min(1.0, item.refused / item.leads), tenant=item.tenant)


def validation(reader: Reader) -> Iterator[Measured]:
    """Of each source's leads that were judged, how many were rejected."""
    with reader.engine.connect() as connection:
        found = measurements.judged_since(connection, reader.now - JUDGED_WINDOW)
    for item in found:
        if item.leads >= LEAST_EVENTS:
            yield Measured("rejection_rate", item.rejection_rate, tenant=item.tenant, source=item.source)


def attempts(reader: Reader) -> Iterator[Measured]:
    """Of the records that destinations answered, how many they did not take."""
    with reader.engine.connect() as connection:
        found = recent_counts.attempts_since(connection, reader.now - TRIED_WINDOW)
    for item in found:
        if item.settled >= LEAST_EVENTS:
            about = {"tenant": item.tenant, "destination": item.destination}
            yield Measured("delivery_failure_rate", item.failed / item.settled, **about)


def requests(reader: Reader) -> Iterator[Measured]:
    """Of the requests to each destination, how many it refused for its limit."""
    with reader.engine.connect() as connection:
        found = recent_counts.requests_since(connection, reader.now - TRIED_WINDOW)
    for item in found:
        if item.sent >= LEAST_EVENTS:
            yield Measured("throttled_rate", item.throttled / item.sent, destination=item.destination)


def breakers(reader: Reader) -> Iterator[Measured]:
    """Which destinations' breakers are not closed."""
    with reader.engine.connect() as connection:
        state = {item.name: item.state for item in read_breakers(connection)}
    for name in reader.settings.destinations:
        is_open = state.get(breaker_name(name), BreakerState.CLOSED) is not BreakerState.CLOSED
        yield Measured("breaker_open", float(is_open), destination=name)


def parking(reader: Reader) -> Iterator[Measured]:
    """Which destinations are left alone now, whatever for."""
    parked = parked_now(reader.engine, settings=reader.settings, now=reader.now).destinations
    for name in reader.settings.destinations:
        yield Measured("parked", float(name in parked), destination=name)


def letters(reader: Reader) -> Iterator[Measured]:
    """Dead letters that wait for a person."""
    with reader.engine.connect() as connection:
        found = recent_counts.open_letters(connection)
    for item in found:
        yield Measured("dead_letters_open", item.letters, tenant=item.tenant, destination=item.destination)


def bounces(reader: Reader) -> Iterator[Measured]:
    """Of the leads that came lately and have a contact, how many bounced for good."""
    with reader.engine.connect() as connection:
        found = bounce_rates(connection, reader.now - OUTCOME_WINDOW, now=reader.now)
    yield from _outcomes("bounce_rate", found)


def opportunities(reader: Reader) -> Iterator[Measured]:
    """Of the leads that came lately and have a contact, how many became an opportunity."""
    with reader.engine.connect() as connection:
        found = opportunity_rates(connection, reader.now - OUTCOME_WINDOW, now=reader.now)
    yield from _outcomes("opportunity_rate", found)


def _outcomes(name: str, found: Iterable[OutcomeRate]) -> Iterator[Measured]:
    for item in found:
        if item.leads >= LEAST_EVENTS:
            yield Measured(name, item.value, tenant=item.tenant)


def buffer(reader: Reader) -> Iterator[Measured]:
    """How near the buffer is to the nearest of its bounds."""
    gauge = gauge_for(reader.settings, database_url=str(reader.engine.url), clock=reader.clock)
    with reader.engine.connect() as connection:
        depths = PostgresBuffer(reader.engine).depths(connection)
    depths += redis_depths(reader.settings, seconds=reader.seconds())
    yield Measured("buffer_fullness", gauge.measured(depths).fill.worst)


def disk(reader: Reader) -> Iterator[Measured]:
    """What is free for the database, where its disk is this machine's or is named."""
    free = free_disk_bytes(disk_to_watch(reader.settings, database_url=str(reader.engine.url)))
    if free is not None:
        yield Measured("free_disk_bytes", float(free))
