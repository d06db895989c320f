"""How long leads took: written once per chunk, added up by the minute and later by the hour, read as histograms.

A chunk writes its row in the transaction that moves its leads, so that what is measured is what happened. ``fold``
deletes rows and adds them to the histograms in one transaction; a reader sees both tables in one statement: nothing is
lost or counted twice, whenever somebody dies.

A lead is measured once at each station, when it first comes there, in the lane in which it was captured: not when it is
judged again after that, merged into another contact, or sent to a destination that had it before (see ``storage.news``
and ``outbox.news_after_version``). What was rejected, or a person corrected, is not measured from then on: the time was
theirs.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

import sqlalchemy as sa

from leads_pipeline.domain.delivery import ClaimedRow
from leads_pipeline.domain.latency import Station, last_bucket_within, seconds_since_capture, tally
from leads_pipeline.domain.stage import Chunk
from leads_pipeline.storage.identity import ArrivingLead
from leads_pipeline.storage.news import LANE_OF_CAPTURE, MEASURED_LANE
from leads_pipeline.storage.pending import Waiting

# Rows are chunks: a busy day has tens of thousands. One part is done in a fraction of a second.
FOLDED_AT_ONCE = 2_000
# Minutes are kept for the plots of yesterday and for the short windows of promises; hours after that.
MINUTES_KEPT = timedelta(days=2)
HOURS_KEPT = timedelta(days=35)
PRUNED_AT_ONCE = 10_000

_LOCK_PURPOSE = 0x1EA7


@dataclass(frozen=True, slots=True)
class Took:
    """The lanes and seconds of the leads that one chunk brought to a station."""

    tenant: str
    station: Station
    leads: Iterable[tuple[str, float]]
    destination: str = ""


class Measure(Protocol):
    """How a step says what its leads took. The leads are counted only by who wants to know."""

    def __call__(self, connection: sa.Connection, *took: Took, now: datetime) -> None: ...


@dataclass(frozen=True, slots=True)
class Latency:
    """The histogram of one tenant, lane, station and destination. ``counts``: leads by bucket."""

    tenant: str
    lane: str
    station: Station
    destination: str
    counts: Mapping[int, int]

    @property
    def leads(self) -> int:
        return sum(self.counts.values())


@dataclass(frozen=True, slots=True)
class Events:
    """How many leads came through within a window, and how many of them in time."""

    tenant: str
    lane: str
    destination: str
    window: timedelta
    leads: int
    in_time: int


_WRITE = sa.text(
    """
    insert into latency_measurements (tenant, stage, destination, measured_at, counts)
    select t.tenant, t.stage, t.destination, :now, t.counts
    from jsonb_to_recordset(cast(:rows as jsonb)) as t(tenant text, stage text, destination text, counts jsonb)
    """
)

# Of each contact the leads that its delivered version includes and none did that was delivered before. By the index of
# a contact's leads; the rows of the outbox are locked by whoever settles them.
_FIRST_DELIVERED = sa.text(
    f"""
    select o.tenant, {MEASURED_LANE} as lane, d.lead_id
    from jsonb_to_recordset(cast(:rows as jsonb)) as t(outbox_id bigint, before integer)
    join outbox o on o.outbox_id = t.outbox_id and o.operation = 'upsert'
    cross join lateral (
        select * from deduped_leads where deduped_leads.contact_id = o.contact_id offset 0
    ) d
    where d.first_golden_version <= o.delivered_version
        and d.first_golden_version > greatest(t.before, o.news_after_version)
    """  # noqa: S608 - text of ours
)

_LANES_OF_CAPTURE = sa.text(
    f"select d.lead_id, {LANE_OF_CAPTURE} as lane from unnest(cast(:ids as uuid[])) as d(lead_id)"  # noqa: S608 - ours
)

# Unfolded rows as histograms have them.
_CELLS = """
    select m.tenant, lane.key as lane, m.stage, m.destination, m.measured_at,
        cast(cell.key as integer) as bucket, cast(cell.value as bigint) as leads
    from {rows} m
    cross join lateral jsonb_each(m.counts) lane
    cross join lateral jsonb_each_text(lane.value) cell
"""

_FOLD = sa.text(
    f"""
    with gone as (
        delete from latency_measurements where measurement_id in (
            select measurement_id from latency_measurements order by measurement_id limit :limit
        )
        returning tenant, stage, destination, measured_at, counts
    ),
    cells as ({_CELLS.format(rows="gone")}),
    added as (
        insert into latency_histograms as h (
            tenant, lane, stage, destination, began_at, bucket, span_seconds, leads
        )
        select tenant, lane, stage, destination, date_bin('1 minute', measured_at, 'epoch') as began_at, bucket, 60,
            sum(leads)
        from cells group by tenant, lane, stage, destination, began_at, bucket
        order by tenant, lane, stage, destination, began_at, bucket
        on conflict (tenant, lane, stage, destination, began_at, bucket) do update set
            leads = h.leads + excluded.leads
    )
    select count(*) from gone
    """  # noqa: S608 - text of this module
)

_OLDEST_MINUTE = sa.text(
    """
    select date_bin('1 hour', began_at, 'epoch') from latency_histograms
    where span_seconds = 60 and began_at < date_bin('1 hour', cast(:before as timestamptz), 'epoch')
    order by began_at limit 1
    """
)
# The first minute of an hour has the hour's key: it becomes the hour, and is not among those that go.
_ADD_TO_HOUR = sa.text(
    """
    with gone as (
        delete from latency_histograms
        where span_seconds = 60 and began_at > :hour and began_at < cast(:hour as timestamptz) + interval '1 hour'
        returning tenant, lane, stage, destination, bucket, leads
    )
    insert into latency_histograms as h (tenant, lane, stage, destination, began_at, bucket, span_seconds, leads)
    select tenant, lane, stage, destination, :hour, bucket, 3600, sum(leads)
    from gone group by tenant, lane, stage, destination, bucket
    order by tenant, lane, stage, destination, bucket
    on conflict (tenant, lane, stage, destination, began_at, bucket) do update set
        leads = h.leads + excluded.leads, span_seconds = 3600
    """
)
_CALL_HOUR = sa.text("update latency_histograms set span_seconds = 3600 where span_seconds = 60 and began_at = :hour")

_PRUNE = sa.text(
    """
    delete from latency_histograms where ctid in (
        select ctid from latency_histograms where span_seconds in (60, 3600) and began_at < :before limit :limit
    )
    """
)

# One statement, hence one snapshot: what a fold moves meanwhile is seen here or there.
_ALL = f"""
    select tenant, lane, stage, destination, began_at, bucket, leads from latency_histograms
    where span_seconds in (60, 3600) and began_at >= :since and began_at < :until {{which}}
    union all
    select tenant, lane, stage, destination, date_bin('1 minute', measured_at, 'epoch'), bucket, leads
    from ({_CELLS.format(rows="latency_measurements")}
        where measured_at >= :since and measured_at < :until
    ) unfolded where true {{which}}
"""  # noqa: S608 - text of this module
_FILTERS = {
    "tenant": "and tenant = :tenant",
    "lane": "and lane = :lane",
    "station": "and stage = :station",
    "destination": "and destination = :destination",
}


def measure_latency(connection: sa.Connection, *took: Took, now: datetime) -> None:
    """Write down how long leads took, in the transaction that moves them: one row for each that has any."""
    rows = [
        {"tenant": item.tenant, "stage": item.station, "destination": item.destination, "counts": counts}
        for item in took
        if (counts := tally(item.leads))
    ]
    if rows:
        connection.execute(_WRITE, {"rows": json.dumps(rows), "now": now})


def took_at_dedupe(
    connection: sa.Connection, chunk: Chunk, claimed: Iterable[Waiting], leads: Iterable[ArrivingLead]
) -> tuple[Took, Took]:
    """What the new ones of these leads took until they were verified, and until now.

    A lead's look-ups were over when it was due at the door: they were settled, it had none, or its patience had ended.
    """
    revision_of = {lead.lead_id: lead.revision for lead in leads if lead.known_revision is None}
    lane_of = {item.subject_id: str(item.lane) for item in claimed if revision_of.get(item.subject_id) == 1}
    if again := [lead_id for lead_id, revision in revision_of.items() if revision > 1]:
        rows = connection.execute(_LANES_OF_CAPTURE, {"ids": again})
        lane_of |= {row.lead_id: row.lane for row in rows if row.lane is not None}
    items = [(item, lane_of[item.subject_id]) for item in claimed if item.subject_id in lane_of]
    verified = (
        (lane, seconds_since_capture(item.subject_id, min(item.due_at or item.since, chunk.now)))
        for item, lane in items
    )
    deduped = ((lane, seconds_since_capture(item.subject_id, chunk.now)) for item, lane in items)
    return Took(chunk.tenant, Station.VERIFIED, verified), Took(chunk.tenant, Station.DEDUPED_LEADS, deduped)


def measure_nothing(connection: sa.Connection, *took: Took, now: datetime) -> None:
    """For who wants nothing measured."""


def measure_deliveries(
    connection: sa.Connection,
    measure: Measure,
    delivered: Sequence[ClaimedRow],
    *,
    destination: str,
    now: datetime,
) -> None:
    """Measure the leads that came to ``destination`` first with rows of the outbox that were just delivered.

    ``delivered`` as they were when they were claimed.
    """
    if not delivered or measure is measure_nothing:
        return
    rows = json.dumps([{"outbox_id": row.outbox_id, "before": row.delivered_version or 0} for row in delivered])
    came: dict[str, list[tuple[str, float]]] = {}
    for row in connection.execute(_FIRST_DELIVERED, {"rows": rows}):
        if row.lane is not None:
            came.setdefault(row.tenant, []).append((row.lane, seconds_since_capture(row.lead_id, now)))
    took = [Took(tenant, Station.DELIVERED, leads, destination) for tenant, leads in sorted(came.items())]
    if took:
        measure(connection, *took, now=now)


def fold(engine: sa.Engine, *, now: datetime) -> int:
    """Add what was measured to the histograms, and old minutes up to hours, part by part; says how many rows.

    One folds at a time; who comes meanwhile does nothing. Killed at any point, the next call goes on.
    """
    folded = 0
    while part := _fold_part(engine):
        folded += part
        if part < FOLDED_AT_ONCE:
            break
    while _fold_hour(engine, before=now - MINUTES_KEPT):
        pass
    return folded


def prune(connection: sa.Connection, *, before: datetime) -> int:
    """Delete histograms of before an instant, at most ``PRUNED_AT_ONCE`` rows; says how many."""
    return connection.execute(_PRUNE, {"before": before, "limit": PRUNED_AT_ONCE}).rowcount


def read_latencies(
    connection: sa.Connection,
    *,
    since: datetime,
    until: datetime,
    tenant: str | None = None,
    lane: str | None = None,
    station: Station | None = None,
    destination: str | None = None,
) -> list[Latency]:
    """The histograms of a time, by tenant, lane, station and destination. It begins with a full minute.

    What is older than ``MINUTES_KEPT`` is known by the hour: it counts if its hour begins within the time.
    """
    given = {"tenant": tenant, "lane": lane, "station": station, "destination": destination}
    asked = {name: value for name, value in given.items() if value is not None}
    statement = sa.text(
        f"""
        select tenant, lane, stage, destination, jsonb_object_agg(bucket, leads) as counts
        from (
            select tenant, lane, stage, destination, bucket, sum(leads) as leads
            from ({_source(asked)}) cells group by tenant, lane, stage, destination, bucket
        ) buckets
        group by tenant, lane, stage, destination order by tenant, lane, stage, destination
        """  # noqa: S608 - text of this module
    )
    rows = connection.execute(statement, {"since": _minute(since), "until": until, **asked})
    return [
        Latency(
            row.tenant,
            row.lane,
            Station(row.stage),
            row.destination,
            Counter({int(bucket): int(leads) for bucket, leads in row.counts.items()}),
        )
        for row in rows
    ]


def read_events(
    connection: sa.Connection,
    *,
    station: Station,
    seconds: float,
    windows: Sequence[timedelta],
    now: datetime,
    tenant: str | None = None,
    lane: str | None = None,
    destination: str | None = None,
) -> list[Events]:
    """How many leads came to a station within each window, and how many in no more than ``seconds``.

    By tenant, lane and destination; one without a lead in the longest window is not in the answer. The threshold is
    judged by the nearest edge of ``domain.latency``, exactly if it is one.
    """
    if not windows:
        return []
    given = {"tenant": tenant, "lane": lane, "station": station, "destination": destination}
    asked = {name: value for name, value in given.items() if value is not None}
    sums = ", ".join(
        f"coalesce(sum(leads) filter (where began_at >= :since{n}), 0) as leads{n}, "
        f"coalesce(sum(leads) filter (where began_at >= :since{n} and bucket <= :last), 0) as in_time{n}"
        for n in range(len(windows))
    )
    statement = sa.text(
        f"""
        select tenant, lane, destination, {sums} from ({_source(asked)}) cells
        group by tenant, lane, destination order by tenant, lane, destination
        """  # noqa: S608 - text of this module
    )
    values = {f"since{n}": _minute(now - window) for n, window in enumerate(windows)}
    values |= {"since": min(values.values()), "until": now + timedelta(minutes=1)}
    rows = connection.execute(statement, {**values, **asked, "last": last_bucket_within(seconds)}).mappings()
    return [
        Events(row["tenant"], row["lane"], row["destination"], window, int(row[f"leads{n}"]), int(row[f"in_time{n}"]))
        for row in rows
        for n, window in enumerate(windows)
    ]


def _fold_part(engine: sa.Engine) -> int:
    with engine.begin() as connection:
        if not _alone(connection):
            return 0
        folded: int = connection.execute(_FOLD, {"limit": FOLDED_AT_ONCE}).scalar_one()
        return folded


def _fold_hour(engine: sa.Engine, *, before: datetime) -> bool:
    with engine.begin() as connection:
        if not _alone(connection):
            return False
        hour: datetime | None = connection.execute(_OLDEST_MINUTE, {"before": before}).scalar()
        if hour is None:
            return False
        connection.execute(_ADD_TO_HOUR, {"hour": hour})
        connection.execute(_CALL_HOUR, {"hour": hour})
        return True


def _alone(connection: sa.Connection) -> bool:
    statement = sa.text("select pg_try_advisory_xact_lock(cast(:purpose as integer), 0)")
    alone: bool = connection.execute(statement, {"purpose": _LOCK_PURPOSE}).scalar_one()
    return alone


def _source(asked: Mapping[str, Any]) -> str:
    return _ALL.format(which=" ".join(_FILTERS[name] for name in asked))


def _minute(when: datetime) -> datetime:
    return when.replace(second=0, microsecond=0)
