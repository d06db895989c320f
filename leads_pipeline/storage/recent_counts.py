"""Counts of what happened lately, for measures that are rates: deliveries tried, requests sent, reviews opened.

Each statement begins at an instant by an index; ids that are made at the time of their row serve as one. Nothing here
returns personal data. Keep out: what waits now (``storage.measurements``) and how long leads took (``latency``).
"""

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from leads_pipeline.domain.ids import first_uuid7_at
from leads_pipeline.domain.latency import Station


@dataclass(frozen=True, slots=True)
class Attempts:
    """A tenant's records that a destination has judged, and those of them that it did not take."""

    tenant: str
    destination: str
    settled: int
    failed: int


@dataclass(frozen=True, slots=True)
class Requests:
    """Requests to a destination, and those that it refused for its limit."""

    destination: str
    sent: int
    throttled: int


@dataclass(frozen=True, slots=True)
class Refused:
    """A destination that has taken no request since ``since``: all so many were refused for its limit."""

    destination: str
    since: datetime
    requests: int


@dataclass(frozen=True, slots=True)
class OpenLetters:
    """Dead letters of a tenant at a destination that wait for a person."""

    tenant: str
    destination: str
    letters: int


@dataclass(frozen=True, slots=True)
class Resolved:
    """A tenant's leads that were told apart, and the pairs of which the model was not sure.

    ``refused``: of the reviews, those that one part of the evidence speaks for and another against.
    """

    tenant: str
    leads: int
    reviews: int
    refused: int


# What a destination says of itself (no room, not able, no access) says nothing of a record: the limiter and the breaker
# act on that, and a rule that paused it for an outage would hold it up when it is back. The request's id tells when it
# was made.
_ATTEMPTS = sa.text(
    """
    select tenant, destination, count(*) as settled,
        count(*) filter (where verdict <> 'delivered') as failed
    from sync_attempts
    where batch_id >= :first and verdict is not null and verdict not in ('throttled', 'transient', 'auth')
    group by tenant, destination order by tenant, destination
    """
)
_REQUESTS = sa.text(
    """
    select destination, count(*) as sent, count(*) filter (where throttled) as throttled
    from crm_sync_batches where sent_at >= :since and answered_at is not null
    group by destination order by destination
    """
)
_REFUSED = sa.text(
    """
    select destination, min(sent_at) as since, count(*) as requests
    from (
        select destination, sent_at, throttled,
            max(sent_at) filter (where not throttled) over (partition by destination) as taken_at
        from crm_sync_batches where sent_at >= :since and answered_at is not null
    ) answered
    where throttled and (taken_at is null or sent_at > taken_at)
    group by destination order by destination
    """
)
_LETTERS = sa.text(
    """
    select tenant, destination, count(*) as letters from dead_letters
    where resolved_at is null group by tenant, destination order by tenant, destination
    """
)
_RESOLVED = sa.text(
    """
    with leads as (
        select tenant, sum(cast(cell.value as bigint)) as leads
        from latency_measurements m
        cross join lateral jsonb_each(m.counts) lane
        cross join lateral jsonb_each_text(lane.value) cell
        where stage = :station and measured_at >= :since
        group by tenant
        union all
        select tenant, sum(leads) from latency_histograms
        where stage = :station and span_seconds in (60, 3600) and began_at >= :since group by tenant
    ), came as (select tenant, sum(leads) as leads from leads group by tenant
    ), asked as (
        select tenant, count(*) as reviews, count(*) filter (where cause = 'refused') as refused
        from match_reviews where review_id >= :first group by tenant
    )
    select came.tenant, came.leads, coalesce(asked.reviews, 0) as reviews, coalesce(asked.refused, 0) as refused
    from came left join asked using (tenant) order by came.tenant
    """
)


def attempts_since(connection: sa.Connection, since: datetime) -> list[Attempts]:
    """By tenant and destination, of requests that were begun since an instant."""
    rows = connection.execute(_ATTEMPTS, {"first": first_uuid7_at(since)})
    return [Attempts(row.tenant, row.destination, row.settled, row.failed) for row in rows]


def requests_since(connection: sa.Connection, since: datetime) -> list[Requests]:
    """By destination, those that were answered."""
    rows = connection.execute(_REQUESTS, {"since": since})
    return [Requests(row.destination, row.sent, row.throttled) for row in rows]


def refused_since(connection: sa.Connection, since: datetime) -> list[Refused]:
    """By destination whose latest requests were all refused for its limit; looks no further back than ``since``."""
    rows = connection.execute(_REFUSED, {"since": since})
    return [Refused(row.destination, row.since, row.requests) for row in rows]


def open_letters(connection: sa.Connection) -> list[OpenLetters]:
    """By tenant and destination; one that has none is not in the answer."""
    return [OpenLetters(row.tenant, row.destination, row.letters) for row in connection.execute(_LETTERS)]


def resolved_since(connection: sa.Connection, since: datetime) -> list[Resolved]:
    """By tenant, of those that had new leads. A pair that is asked about once more counts when it was first."""
    values = {"since": since, "first": first_uuid7_at(since), "station": Station.DEDUPED_LEADS}
    rows = connection.execute(_RESOLVED, values)
    return [Resolved(row.tenant, int(row.leads), row.reviews, row.refused) for row in rows]
