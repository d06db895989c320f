"""``GET /metrics``: what the service counts and measures, as Prometheus reads it.

With several worker processes a scrape reaches any one of them and is answered for all: the counters lie in memory that
the workers share (``counts``), so their sums are right and never go back, also when a worker was restarted. Gauges of
the workers (queue, bytes, connections) are added up; each worker refreshes its own ten times a second. The buffer is
measured by every worker for itself (``admission``); what stands here is the answering worker's last measurement.

Labels are tenants and lanes of leads.yaml, routes and refusal codes: their number is bounded, and none is personal.
Counters begin at zero when the service is started.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)

from leads_pipeline import __version__
from leads_pipeline.capture.call import Answer, Call
from leads_pipeline.capture.counts import COMMIT_LEADS, COMMIT_SECONDS, ROUTES, STATUS_CLASSES, Closed, Gauge
from leads_pipeline.capture.refusals import REFUSALS, Code
from leads_pipeline.domain.buffer_bounds import Level
from leads_pipeline.domain.stage import Lane
from leads_pipeline.errors import Unavailability
from leads_pipeline.exposition import CONTENT_TYPE, as_text, cumulative

if TYPE_CHECKING:
    from leads_pipeline.capture.door import Door

# A worker whose last sign of life is older is not counted as serving.
ALIVE_SECONDS = 5.0


async def metrics(door: "Door", call: Call) -> Answer:  # noqa: ARG001 - every route's signature
    """Everything, as text."""
    refresh(door)
    return Answer(200, as_text(_Door(door)), ((b"content-type", CONTENT_TYPE.encode()),))


def refresh(door: "Door", *, connections: int | None = None) -> None:
    """Write down how this worker stands now."""
    counts = door.counts
    counts.set(Gauge.QUEUED, door.commits.queued)
    counts.set(Gauge.BODY_BYTES, door.budget.used)
    why = door.commits.safe_mode
    counts.set(Gauge.SAFE_MODE, 0 if why is None else 1 + list(Unavailability).index(why))
    counts.set(Gauge.ALIVE_AT, int(door.clock.monotonic() * 1_000))
    if connections is not None:
        counts.set(Gauge.CONNECTIONS, connections)


class _Door:
    """The collector: asked once a scrape, so that a request is not charged for it."""

    def __init__(self, door: "Door") -> None:
        self._door = door
        self._shared = door.counts.shared
        self._layout = door.counts.shared.layout

    def collect(self) -> Iterator[Metric]:
        yield InfoMetricFamily("leads_build", "The version that serves.", {"version": __version__})
        yield from self._workers()
        yield from self._requests()
        yield from self._commits()
        yield from self._buffer()

    def _workers(self) -> Iterator[Metric]:
        now = self._door.clock.monotonic() * 1_000
        gauges = self._layout.gauges
        alive = [at for at in self._shared.each(gauges[Gauge.ALIVE_AT]) if at and now - at < ALIVE_SECONDS * 1_000]
        yield GaugeMetricFamily("leads_capture_workers", "Worker processes that serve.", len(alive))
        yield GaugeMetricFamily("leads_capture_connections", "Open connections.", self._gauge(Gauge.CONNECTIONS))
        yield GaugeMetricFamily(
            "leads_capture_queue_length", "Leads that no commit has taken up yet.", self._gauge(Gauge.QUEUED)
        )
        yield GaugeMetricFamily(
            "leads_capture_body_bytes", "Bytes of requests under way.", self._gauge(Gauge.BODY_BYTES)
        )
        safe_mode = GaugeMetricFamily(
            "leads_capture_safe_mode",
            "Workers that refuse every lead because of what the store said, by reason.",
            labels=["reason"],
        )
        modes = self._shared.each(gauges[Gauge.SAFE_MODE])
        for place, reason in enumerate(Unavailability, start=1):
            safe_mode.add_metric([reason], modes.count(place))
        yield safe_mode

    def _requests(self) -> Iterator[Metric]:
        requests = CounterMetricFamily(
            "leads_capture_requests",
            "Answered requests, by route, class of the status, and refusal code if refused.",
            labels=["route", "status", "code"],
        )
        for route in ROUTES:
            for status in STATUS_CLASSES:
                if count := self._count(self._layout.requests[route, status]):
                    requests.add_metric([route, status, ""], count)
            for code in Code:
                if count := self._count(self._layout.requests[route, code]):
                    requests.add_metric([route, f"{REFUSALS[code].status // 100}xx", code], count)
        yield requests
        closed = CounterMetricFamily(
            "leads_capture_connections_closed", "Connections that were closed or refused, by reason.", labels=["reason"]
        )
        for why in Closed:
            closed.add_metric([why], self._count(self._layout.closed[why]))
        yield closed

    def _commits(self) -> Iterator[Metric]:
        leads = CounterMetricFamily(
            "leads_capture_leads",
            "What became of the leads that were posted: accepted, duplicate, key_reused or unstorable.",
            labels=["tenant", "lane", "result"],
        )
        for (tenant, lane, result), place in self._layout.leads.items():
            leads.add_metric([tenant, lane, result], self._count(place))
        yield leads
        sums = self._layout.commit_sums
        yield _histogram(
            "leads_capture_commit_seconds",
            "Duration of a group commit.",
            COMMIT_SECONDS,
            [self._count(place) for place in self._layout.commit_seconds.values()],
            total=self._count(sums["microseconds"]) / 1e6,
        )
        yield _histogram(
            "leads_capture_commit_leads",
            "Leads in a group commit.",
            COMMIT_LEADS,
            [self._count(place) for place in self._layout.commit_leads.values()],
            total=self._count(sums["leads"]),
        )

    def _buffer(self) -> Iterator[Metric]:
        level = self._door.admission.level
        yield GaugeMetricFamily(
            "leads_buffer_level",
            "How full the buffer is: " + ", ".join(f"{item.severity} {item}" for item in Level) + ".",
            level.severity,
        )
        is_open = GaugeMetricFamily("leads_buffer_lane_open", "1 if leads of the lane are taken.", labels=["lane"])
        for lane in Lane:
            is_open.add_metric([lane], int(self._door.admission.is_open(lane)))
        yield is_open
        reading = self._door.admission.reading
        if reading is None:
            return
        now = self._door.clock.now()
        waiting = GaugeMetricFamily("leads_buffer_waiting", "Leads that wait.", labels=["tenant", "lane"])
        age = GaugeMetricFamily(
            "leads_buffer_oldest_age_seconds", "Age of the oldest lead that waits.", labels=["tenant", "lane"]
        )
        found = {(depth.tenant, depth.lane): depth for depth in reading.depths}
        for tenant, lane in {(t, lane): None for t in self._door.settings.tenants for lane in Lane} | dict.fromkeys(
            found
        ):
            depth = found.get((tenant, lane))
            waiting.add_metric([tenant, lane], depth.waiting if depth else 0)
            seconds = (now - depth.oldest_received_at).total_seconds() if depth else 0.0
            age.add_metric([tenant, lane], max(0.0, seconds))
        yield waiting
        yield age
        fill = GaugeMetricFamily("leads_buffer_fill", "How near a bound is; 1 is at it.", labels=["bound"])
        for bound, share in (("leads", reading.fill.leads), ("age", reading.fill.age), ("disk", reading.fill.disk)):
            fill.add_metric([bound], share)
        yield fill
        yield GaugeMetricFamily(
            "leads_buffer_measured_timestamp_seconds", "When that was measured.", reading.at.timestamp()
        )
        if reading.free_disk_bytes is not None:
            yield GaugeMetricFamily(
                "leads_buffer_disk_free_bytes", "Free space on the disk that is watched.", reading.free_disk_bytes
            )

    def _count(self, place: int) -> int:
        return self._shared.total(place)

    def _gauge(self, gauge: Gauge) -> int:
        return self._count(self._layout.gauges[gauge])


def _histogram(
    name: str, text: str, bounds: tuple[float, ...], counts: list[int], *, total: float
) -> HistogramMetricFamily:
    return HistogramMetricFamily(name, text, buckets=cumulative(bounds, counts), sum_value=total)
