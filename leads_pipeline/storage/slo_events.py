"""What happened that a promise is about, by tenant and window: leads that came in time, and those that did not.

What was measured stands in the latency histograms. Of what has not come at all nothing is measured, so that is counted
where it waits: a pipeline that stands still has bad events, not none. What was captured before anything was measured is
nobody's breach: it is left out of both. Keep out: what follows from the counts (``domain.burn_rate``).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa

from leads_pipeline.domain.burn_rate import Events
from leads_pipeline.domain.ids import first_uuid7_at
from leads_pipeline.domain.latency import EDGES, Station, last_bucket_within
from leads_pipeline.storage.latency import read_events

# Counting what waits ends there: a backlog of that size is no better known by its last million.
MOST_COUNTED = 200_000

# By tenant and window.
Counts = dict[tuple[str, timedelta], Events]

# The doors that a lead has to come through until it has come to a station.
_DOORS: Mapping[Station, tuple[str, ...]] = {
    Station.RAW_LEADS: ("buffer",),
    Station.VALIDATED_LEADS: ("buffer", "fetches", "validation"),
    Station.VERIFIED: ("buffer", "fetches", "validation", "look_ups"),
    Station.DEDUPED_LEADS: ("buffer", "fetches", "validation", "dedupe"),
    Station.GOLDEN_CONTACTS: ("buffer", "fetches", "validation", "dedupe", "golden"),
    Station.DELIVERED: ("buffer", "fetches", "validation", "dedupe", "golden", "outbox"),
}

# A lead's id says when it was captured, so that the overdue ones are a range of the key. One that was corrected is
# measured no more, one that is replayed as soon as it comes, which its replay sees to. A contact counts from when it
# came to its door.
_WAITING: Mapping[str, str] = {
    "buffer": "select tenant, lane from buffer where lead_id >= :first and lead_id < :late",
    "fetches": "select tenant, lane from lead_fetches where lead_id >= :first and lead_id < :late",
    "validation": """
        select tenant, lane from pending
        where stage = 'validated_leads' and subject_id >= :first and subject_id < :late and revision = 1
    """,
    # Due means that its look-ups are over: it is late only if that was too late.
    "look_ups": """
        select tenant, lane from pending
        where stage = 'deduped_leads' and subject_id >= :first and subject_id < :late and revision = 1
            and greatest(due_at, since) > least(
                cast(:now as timestamptz),
                to_timestamp(('x' || substr(replace(cast(subject_id as text), '-', ''), 1, 12))::bit(48)::bigint
                    / 1000.0) + make_interval(secs => :seconds)
            )
    """,
    "dedupe": """
        select tenant, lane from pending
        where stage = 'deduped_leads' and subject_id >= :first and subject_id < :late and revision = 1
    """,
    "golden": """
        select tenant, lane from pending
        where stage = 'golden_contacts' and since >= :since and since < :late_since
    """,
    # What is wanted again, of a destination that was added, or of contacts that were held back, is no news.
    "outbox": """
        select tenant, lane from outbox
        where state in ('waiting', 'in_flight') and operation = 'upsert'
            and waiting_since >= :since and waiting_since < :late_since
            and wanted_version > greatest(coalesce(delivered_version, 0), coalesce(news_after_version, 0))
    """,
}

_JUDGED = """
    select tenant, {sums} from (
        select tenant, validated_at as at, true as good from validated_leads where validated_at >= :oldest
            and revision = 1
        union all
        select tenant, rejected_at, false from rejected_leads where rejected_at >= :oldest and revision = 1
    ) verdicts group by tenant
"""

# What was given up is not late, it will not come at all.
_GIVEN_UP = """
    select tenant, lane, {sums} from (
        select tenant, lane, updated_at as at, false as good from outbox
        where state = 'dead' and updated_at >= :oldest and operation = 'upsert'
            and wanted_version > greatest(coalesce(delivered_version, 0), coalesce(news_after_version, 0))
    ) dead group by tenant, lane
"""

_FIRST_MEASURED = sa.text(
    """
    select least(
        (select min(began_at) from latency_histograms where span_seconds = 60),
        (select min(began_at) from latency_histograms where span_seconds = 3600),
        (select date_trunc('minute', min(measured_at)) from latency_measurements),
        (select min(evaluated_at) from slo_history where slo = :slo)
    )
    """
)

# Leads that took longer than anything had been measured for by then.
_FROM_BEFORE = sa.text(
    """
    select h.tenant, h.lane, h.began_at, sum(h.leads)::bigint as leads
    from latency_histograms h
    where h.span_seconds in (60, 3600) and h.stage = :station and h.bucket > :last and h.began_at >= :first
        and h.began_at < :until
        and (cast(:edges as float8[]))[h.bucket] >
            extract(epoch from h.began_at - cast(:first as timestamptz)) + h.span_seconds
    group by h.tenant, h.lane, h.began_at
    """
)


@dataclass(frozen=True, slots=True)
class Asked:
    """Whose events are asked for, and over which windows, all until ``now``. No ``lanes``: all of them."""

    windows: Sequence[timedelta]
    now: datetime
    lanes: Sequence[str] = ()

    def takes(self, lane: str) -> bool:
        return not self.lanes or lane in self.lanes


def measuring_began(connection: sa.Connection, slo: str = "") -> datetime | None:
    """Since when something is measured, or this promise was judged first, if one is named; ``None``: not yet."""
    found: datetime | None = connection.execute(_FIRST_MEASURED, {"slo": slo}).scalar()
    return found


def came_in_time(
    connection: sa.Connection, asked: Asked, *, station: Station, seconds: float, began_at: datetime
) -> Counts:
    """What came to ``station``, in no more than ``seconds`` and in more; what was captured before ``began_at`` is out.

    Of deliveries, those at each destination; what was given up there came too late.
    """
    found: Counts = {}
    for item in read_events(connection, station=station, seconds=seconds, windows=asked.windows, now=asked.now):
        if asked.takes(item.lane):
            _add(found, item.tenant, item.window, Events(item.in_time, item.leads - item.in_time))
    rows = connection.execute(
        _FROM_BEFORE,
        {
            "station": station,
            "last": last_bucket_within(seconds),
            "first": began_at,
            # Whoever took longer than the last edge may have been captured at any time.
            "until": began_at + timedelta(seconds=EDGES[-1]),
            "edges": list(EDGES),
        },
    )
    for row in rows:
        for window in asked.windows:
            if asked.takes(row.lane) and row.began_at >= (asked.now - window).replace(second=0, microsecond=0):
                _add(found, row.tenant, window, Events(0, -row.leads))
    if station is Station.DELIVERED:
        for dead in _summed(connection, _GIVEN_UP, asked):
            for number, window in enumerate(asked.windows):
                if asked.takes(dead["lane"]):
                    _add(found, dead["tenant"], window, Events(0, dead[f"bad{number}"]))
    return found


def overdue(
    connection: sa.Connection, asked: Asked, *, station: Station, seconds: float, began_at: datetime
) -> dict[str, int]:
    """How many leads of each tenant should have come to ``station`` by now and wait somewhere before it.

    Counted up to ``MOST_COUNTED`` at each door, by the order of an index; the longest window bounds how far back.
    """
    late = asked.now - timedelta(seconds=seconds)
    since = max(began_at, asked.now - max(asked.windows))
    if late <= since:
        return {}
    counted = " union all ".join(
        f"(select * from ({_WAITING[door]}) {door} limit :most)"  # noqa: S608 - text of this module
        for door in _DOORS[station]
    )
    statement = sa.text(f"select tenant, lane, count(*) as leads from ({counted}) waiting group by tenant, lane")  # noqa: S608 - text of this module
    values = {
        "first": first_uuid7_at(since),
        "late": first_uuid7_at(late),
        "since": since,
        "late_since": late,
        "now": asked.now,
        "seconds": seconds,
        "most": MOST_COUNTED,
    }
    found: dict[str, int] = {}
    for row in connection.execute(statement, values):
        if asked.takes(row.lane):
            found[row.tenant] = found.get(row.tenant, 0) + row.leads
    return found


def judged(connection: sa.Connection, asked: Asked) -> Counts:
    """Leads that were found valid for the first time, and leads that were rejected."""
    found: Counts = {}
    for row in _summed(connection, _JUDGED, asked):
        for number, window in enumerate(asked.windows):
            _add(found, row["tenant"], window, Events(row[f"good{number}"], row[f"bad{number}"]))
    return found


def _summed(connection: sa.Connection, text: str, asked: Asked) -> list[sa.RowMapping]:
    sums = ", ".join(
        f"count(*) filter (where at >= :since{n} and good) as good{n}, "
        f"count(*) filter (where at >= :since{n} and not good) as bad{n}"
        for n in range(len(asked.windows))
    )
    values = {f"since{n}": asked.now - window for n, window in enumerate(asked.windows)}
    oldest = min(values.values())
    return list(connection.execute(sa.text(text.format(sums=sums)), {**values, "oldest": oldest}).mappings())


def _add(found: Counts, tenant: str, window: timedelta, events: Events) -> None:
    found[tenant, window] = found.get((tenant, window), Events()) + events
