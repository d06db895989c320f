"""What the capture service counts: plain integers in memory that all its worker processes share.

Every worker adds to a slot of its own, so that nothing is locked, and any worker can add up all slots: a scrape that
reaches one worker sees what all have counted up to that instant, and no counter goes back when the next scrape reaches
another. The supervisor holds the memory, so that a worker that died leaves its counts to its successor. Adding costs a
look-up and an increment; the text for Prometheus is made by ``metrics`` when it is asked for.

Add a series to ``_Layout``. Keep out: anything whose number of values leads.yaml and this module do not bound, and
anything about a person.
"""

import mmap
from bisect import bisect_left
from collections.abc import Hashable, Iterable, Sequence
from datetime import datetime
from enum import StrEnum
from typing import TypeVar

from leads_pipeline.buffer.port import AsyncLeadBuffer, EncodedLead, Posted, PostResult
from leads_pipeline.capture.refusals import Code
from leads_pipeline.clock import Clock
from leads_pipeline.config import Settings
from leads_pipeline.domain.stage import Lane

ROUTES = (
    "/v1/leads",
    "/v1/leads/batch",
    "/v1/in",
    "/v1/contacts/lookup",
    "/v1/outcomes",
    "/readyz",
    "/metrics",
    "other",
)
STATUS_CLASSES = ("2xx", "3xx", "4xx", "5xx")
# Upper bounds of the histograms; the last bucket has none.
COMMIT_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
COMMIT_LEADS = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1_000.0)
_CELL_BYTES = 8

_Key = TypeVar("_Key", bound=Hashable)


class Closed(StrEnum):
    """Why a connection was closed or refused before a request was read."""

    SLOW_HEADERS = "slow_headers"
    TOO_MANY = "too_many"


class Gauge(StrEnum):
    """What stands at a value; each worker writes its own some times a second."""

    QUEUED = "queued"
    BODY_BYTES = "body_bytes"
    CONNECTIONS = "connections"
    SAFE_MODE = "safe_mode"  # 0, or 1 + the place of the reason in ``Unavailability``
    ALIVE_AT = "alive_at"  # milliseconds of the machine's monotonic clock


class _Layout:
    """Where each series stands in a slot. It follows from leads.yaml alone, so it is the same in every worker."""

    def __init__(self, settings: Settings) -> None:
        self.size = 0
        outcomes = [*STATUS_CLASSES, *(code.value for code in Code)]
        self.requests = self._place((route, outcome) for route in ROUTES for outcome in outcomes)
        self.leads = self._place(
            (tenant, lane, result) for tenant in settings.tenants for lane in Lane for result in PostResult
        )
        self.closed = self._place(Closed)
        self.gauges = self._place(Gauge)
        self.commit_seconds = self._place(range(len(COMMIT_SECONDS) + 1))
        self.commit_leads = self._place(range(len(COMMIT_LEADS) + 1))
        self.commit_sums = self._place(("microseconds", "leads"))

    def _place(self, keys: Iterable[_Key]) -> dict[_Key, int]:
        places = {key: self.size + offset for offset, key in enumerate(keys)}
        self.size += len(places)
        return places


class SharedCounts:
    """The memory of all slots. Made before the workers are forked, which then share it."""

    def __init__(self, settings: Settings, *, slots: int) -> None:
        self.layout = _Layout(settings)
        self.slots = slots
        self._cells = memoryview(mmap.mmap(-1, self.layout.size * _CELL_BYTES * slots)).cast("q")

    def slot(self, number: int) -> memoryview:
        """The cells of one worker."""
        size = self.layout.size
        return self._cells[number * size : (number + 1) * size]

    def total(self, place: int) -> int:
        """What all workers have counted, living and dead."""
        return sum(self._cells[place :: self.layout.size])

    def each(self, place: int) -> list[int]:
        """One cell of every worker."""
        return list(self._cells[place :: self.layout.size])

    def clear_gauges(self, number: int) -> None:
        """A worker is gone, and with it what waited in it."""
        cells = self.slot(number)
        for place in self.layout.gauges.values():
            cells[place] = 0


class Counts:
    """What one worker counts."""

    def __init__(self, shared: SharedCounts, *, slot: int = 0) -> None:
        self.shared = shared
        layout = shared.layout
        self._cells = shared.slot(slot)
        self._requests = layout.requests
        self._leads = layout.leads
        self._closed = layout.closed
        self._gauges = layout.gauges
        self._seconds_at = min(layout.commit_seconds.values())
        self._sizes_at = min(layout.commit_leads.values())
        self._sums = layout.commit_sums

    def answered(self, path: str, status: int, code: str | None) -> None:
        """A request was answered; ``code`` is the refusal's, if it was refused."""
        outcome = code or STATUS_CLASSES[status // 100 - 2]
        place = self._requests.get((path, outcome))
        if place is None:
            route = "/v1/in" if path.startswith("/v1/in/") else "other"
            place = self._requests[route, outcome]
        self._cells[place] += 1

    def committed(self, leads: int, *, seconds: float) -> None:
        """A commit of so many leads took so long."""
        cells, sums = self._cells, self._sums
        cells[self._seconds_at + bisect_left(COMMIT_SECONDS, seconds)] += 1
        cells[self._sizes_at + bisect_left(COMMIT_LEADS, leads)] += 1
        cells[sums["microseconds"]] += int(seconds * 1e6)
        cells[sums["leads"]] += leads

    def posted(self, tenant: str, lane: Lane, result: PostResult) -> None:
        """What became of a lead; a tenant that leads.yaml does not name is not counted."""
        place = self._leads.get((tenant, lane, result))
        if place is not None:
            self._cells[place] += 1

    def closed(self, why: Closed) -> None:
        """A connection was closed or refused."""
        self._cells[self._closed[why]] += 1

    def set(self, gauge: Gauge, value: int) -> None:
        """What stands at a value now."""
        self._cells[self._gauges[gauge]] = value


class CountedBuffer:
    """A buffer whose commits are counted."""

    def __init__(self, buffer: AsyncLeadBuffer, counts: Counts, *, clock: Clock) -> None:
        self._buffer = buffer
        self._counts = counts
        self._clock = clock

    async def append(self, leads: Sequence[EncodedLead], *, now: datetime) -> list[Posted]:
        began = self._clock.monotonic()
        results = await self._buffer.append(leads, now=now)
        counts = self._counts
        counts.committed(len(leads), seconds=self._clock.monotonic() - began)
        for lead, posted in zip(leads, results, strict=True):
            counts.posted(lead.tenant, lead.lane, posted.result)
        return results

    async def check(self) -> None:
        await self._buffer.check()

    async def close(self) -> None:
        await self._buffer.close()
