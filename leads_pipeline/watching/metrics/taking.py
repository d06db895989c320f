"""All metrics, taken part by part: one that fails or is slow is left out and named, and takes no other with it.

What was taken is told for some seconds to whoever asks, so that several Prometheus servers cost as much as one. A part
that failed is left alone for a while, so that a slow one does not make every scrape slow; an end is put to all of them
together before Prometheus would lose patience: no statement gets more time than is left.
"""

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import sqlalchemy as sa
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily, Metric

from leads_pipeline import __version__
from leads_pipeline.clock import Clock
from leads_pipeline.config import Settings
from leads_pipeline.errors import DatabaseUnavailable
from leads_pipeline.exposition import as_text
from leads_pipeline.storage.database import is_unavailable, with_statement_limit
from leads_pipeline.telemetry import get_logger
from leads_pipeline.watching.metrics import delivery, flow, measured, promises, verification
from leads_pipeline.watching.metrics.vocabulary import Family, Kind, Part, Sample, Scrape, as_metrics

PARTS: tuple[Part, ...] = (*promises.PARTS, *flow.PARTS, *delivery.PARTS, *verification.PARTS, *measured.PARTS)

# For so long an answer is given again.
KEPT_SECONDS = 5.0
# One statement of a part; and all parts together: Prometheus' own patience is 10 s. A server that does not answer a
# connection costs the rest, once: the other parts are not tried.
STATEMENT_SECONDS, ALL_SECONDS, CONNECT_SECONDS = 3.0, 7.0, 2
# For so long a part that failed is left alone.
REST_SECONDS = 60.0

PART_OK = Family("leads_metrics_part_ok", Kind.GAUGE, "1 if these metrics were read, 0 if they are missing.", ("part",))
PART_SECONDS = Family("leads_metrics_part_seconds", Kind.GAUGE, "How long reading them took.", ("part",))
TAKEN_AT = Family("leads_metrics_taken_timestamp_seconds", Kind.GAUGE, "When all of this was read.")
BUILD = Family("leads_build_info", Kind.GAUGE, "The version that tells this.", ("version",))
OWN: tuple[Family, ...] = (PART_OK, PART_SECONDS, TAKEN_AT, BUILD)
FAMILIES: tuple[Family, ...] = (*(family for part in PARTS for family in part.families), *OWN)


def with_short_statements(settings: Settings) -> Settings:
    """The settings with which a database is opened for metrics: no statement of theirs is in anybody's way."""
    short = {
        "statement_seconds": STATEMENT_SECONDS,
        "lock_seconds": STATEMENT_SECONDS,
        "idle_transaction_seconds": ALL_SECONDS,
    }
    return settings.model_copy(update={"database": settings.database.model_copy(update=short)})


@dataclass
class PipelineMetrics:
    """The metrics of one database. Threads may share it: one of them reads, the others wait for what it read."""

    engine: sa.Engine
    settings: Settings
    clock: Clock
    parts: Sequence[Part] = PARTS
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _text: bytes = b""
    _until: float = float("-inf")
    _rests: dict[str, float] = field(default_factory=dict)
    _kept: dict[str, tuple[float, list[Metric]]] = field(default_factory=dict)
    _highest: dict[tuple[str, tuple[str, ...]], float] = field(default_factory=dict)
    _day: datetime | None = None
    missing: tuple[str, ...] = ()  # names of the parts that were not read last

    def text(self) -> bytes:
        """Everything in Prometheus' text format, at most ``KEPT_SECONDS`` old."""
        with self._lock:
            if self.clock.monotonic() >= self._until:
                self._text = as_text(self)
                self._until = self.clock.monotonic() + KEPT_SECONDS
            return self._text

    def collect(self) -> Iterable[Metric]:
        """Read every part that is not resting."""
        now = self.clock.now()
        day = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        ends = self.clock.monotonic() + ALL_SECONDS

        def seconds_left() -> float:
            return ends - self.clock.monotonic()

        engine = with_statement_limit(self.engine, lambda: min(STATEMENT_SECONDS, seconds_left()))
        scrape = Scrape(engine, self.settings, self.clock, now, day, seconds_left)
        if day != self._day:
            self._day = day
            self._highest.clear()
        fine = GaugeMetricFamily(PART_OK.name, PART_OK.text, labels=PART_OK.labels)
        took = GaugeMetricFamily(PART_SECONDS.name, PART_SECONDS.text, labels=PART_SECONDS.labels)
        metrics: list[Metric] = []
        missing: list[str] = []
        for part in self.parts:
            at = self.clock.monotonic()
            read = self._read(part, scrape) if seconds_left() > 0 and self._rests.get(part.name, at) <= at else None
            fine.add_metric([part.name], float(read is not None))
            took.add_metric([part.name], self.clock.monotonic() - at)
            metrics += read or []
            if read is None:
                missing.append(part.name)
        self.missing = tuple(missing)
        yield from metrics
        yield fine
        yield took
        yield GaugeMetricFamily(TAKEN_AT.name, TAKEN_AT.text, now.timestamp())
        yield InfoMetricFamily(BUILD.name.removesuffix("_info"), BUILD.text, {"version": __version__})

    def _read(self, part: Part, scrape: Scrape) -> list[Metric] | None:
        until, kept = self._kept.get(part.name, (float("-inf"), []))
        if self.clock.monotonic() < until:
            return kept
        try:
            read = as_metrics(part.families, self._never_less(part, part.read(scrape)))
        except Exception as error:  # noqa: BLE001 - whatever fails in one part must not take the others with it
            at = self.clock.monotonic()
            if _is_gone(error):  # the others would wait for it as long
                gone_until = at + KEPT_SECONDS
                self._rests = {item.name: max(gone_until, self._rests.get(item.name, at)) for item in self.parts}
            else:
                self._rests[part.name] = at + REST_SECONDS
            get_logger(__name__).warning("metrics_part_failed", part=part.name, error=type(error).__name__)
            return None
        self._kept[part.name] = (self.clock.monotonic() + part.kept_seconds, read)
        return read

    def _never_less(self, part: Part, samples: Iterable[Sample]) -> Iterable[Sample]:
        """Counters never go back within a day: Prometheus would take it for a restart and count all of it again."""
        counters = {family.name for family in part.families if family.kind is Kind.COUNTER}
        for name, labels, value in samples:
            if name in counters and isinstance(value, float | int):
                value = self._highest[name, labels] = max(value, self._highest.get((name, labels), value))  # noqa: PLW2901
            yield name, labels, value


def _is_gone(error: Exception) -> bool:
    """Whether there was no server to answer: it may be back any moment, and was not troubled."""
    told: BaseException = error.__cause__ or error if isinstance(error, DatabaseUnavailable) else error
    original = getattr(told, "orig", None) or told
    return getattr(original, "sqlstate", None) is None and is_unavailable(told)
