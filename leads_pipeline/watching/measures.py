"""What the pipeline measures of itself, by name: the vocabulary of rules and promises, and how it is taken.

``MEASURES`` says what each is; docs/measurements.md is written from it. Add a measure here and in
``config.measure_names``, and its question in ``watching.readings``. Keep out: what follows from a value.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from leads_pipeline.clock import Clock
from leads_pipeline.config import Settings
from leads_pipeline.storage.database import is_unavailable, unavailable, with_statement_limit
from leads_pipeline.telemetry import get_logger
from leads_pipeline.watching import readings
from leads_pipeline.watching.readings import Measured, Reader, Reading

# A question that takes longer is no use to who asks every 30 seconds, nor are several slow ones after each other: what
# watches stops waiting after 12 seconds, and would know nothing.
STATEMENT_SECONDS = 5.0
ALL_SECONDS = 10.0
OUT_OF_TIME = "OutOfTime"
# They read a window of leads: asked last, they cannot take the time of those by which one acts.
_HEAVY = (readings.validation, readings.bounces, readings.opportunities)
_TOO_LONG = "57014"

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class MeasureKind:
    """One measure: what it means, its unit, what each of its values is about, and the question that answers it."""

    description: str
    unit: str  # leads, seconds, share …
    labels: tuple[str, ...]
    reading: Reading
    over: str = "now"  # the time that it is about, in words


@dataclass(frozen=True, slots=True)
class Measures:
    """What was measured. A measure that could not be taken is in ``failed`` with the class of its error."""

    taken_at: datetime
    by_name: Mapping[str, tuple[Measured, ...]]
    failed: Mapping[str, str]

    def of(self, name: str) -> tuple[Measured, ...] | None:
        """The values of a measure, none if it had nothing to tell; ``None``: it was not taken."""
        return self.by_name.get(name)


_FLOW = ("tenant", "lane", "stage")
_5_MINUTES, _15_MINUTES, _HOUR, _WEEK = "the last 5 minutes", "the last 15 minutes", "the last hour", "the last 7 days"
_ENOUGH = f"Told from {readings.LEAST_EVENTS} on"

MEASURES: dict[str, MeasureKind] = {
    "queue_depth": MeasureKind(
        "What waits in front of a stage; of `crm_sync_batches` contacts, else leads.", "leads", _FLOW, readings.queues
    ),
    "oldest_seconds": MeasureKind(
        "How long the oldest has waited in front of a stage.", "seconds", _FLOW, readings.queues
    ),
    "rate_per_minute": MeasureKind(
        "Leads that came to a station for the first time. At `raw_leads` 0 is told as well: of each lane into which a "
        "source of the tenant may send, and from which nothing came.",
        "leads per minute", _FLOW, readings.rates, _5_MINUTES,
    ),
    "latency_p50_seconds": MeasureKind(
        "The time from capture within which half of the leads came to a station.",
        "seconds", _FLOW, readings.latencies, _15_MINUTES,
    ),
    "latency_p95_seconds": MeasureKind(
        "The same for 95 % of the leads.", "seconds", _FLOW, readings.latencies, _15_MINUTES
    ),
    "latency_p99_seconds": MeasureKind(
        "The same for 99 % of the leads.", "seconds", _FLOW, readings.latencies, _15_MINUTES
    ),
    "verification_attempts": MeasureKind(
        "Calls of a provider of look-ups.", "calls", ("destination",), readings.lookups, _15_MINUTES
    ),
    "verification_success_rate": MeasureKind(
        f"Of a provider's calls that are over, those that it answered. {_ENOUGH} calls.",
        "share", ("destination",), readings.lookups, _15_MINUTES,
    ),
    "lookups_stopped": MeasureKind(
        "1 while a provider cannot be asked: its key is missing, its budget is spent, its breaker is open, or it asked "
        "for a pause.",
        "0 or 1", ("destination",), readings.providers,
    ),
    "dedupe_conflict_rate": MeasureKind(
        f"Reviews for contradicting evidence, of the new leads that were told apart. {_ENOUGH} leads.",
        "share", ("tenant",), readings.identity, _HOUR,
    ),
    "review_rate": MeasureKind(
        f"Reviews of any cause, of the new leads that were told apart. {_ENOUGH} leads.",
        "share", ("tenant",), readings.identity, _HOUR,
    ),
    "rejection_rate": MeasureKind(
        f"Of a source's leads at their first judgement, those that were rejected. {_ENOUGH} leads.",
        "share", ("tenant", "source"), readings.validation, _HOUR,
    ),
    "delivery_failure_rate": MeasureKind(
        f"Of the records that a destination judged, those that it did not take; what it did not look at, because it "
        f"was down, at its limit or refused our credentials, does not count. {_ENOUGH} records.",
        "share", ("tenant", "destination"), readings.attempts, _15_MINUTES,
    ),
    "throttled_rate": MeasureKind(
        f"Of the requests that a destination answered, those that it refused for its limit. {_ENOUGH} requests.",
        "share", ("destination",), readings.requests, _15_MINUTES,
    ),
    "breaker_open": MeasureKind(
        "1 while a destination's circuit breaker is not closed.", "0 or 1", ("destination",), readings.breakers
    ),
    "parked": MeasureKind(
        "1 while nothing is sent to a destination: it fails, refuses us, its mapping lets nobody through, or its quota "
        "is spent.",
        "0 or 1", ("destination",), readings.parking,
    ),
    "dead_letters_open": MeasureKind(
        "Dead letters that wait for a person.", "letters", ("tenant", "destination"), readings.letters
    ),
    "bounce_rate": MeasureKind(
        f"Of the leads that came and belong to a contact, those that bounced for good. {_ENOUGH} leads, where anything "
        "was told of mail in 30 days.",
        "share", ("tenant",), readings.bounces, _WEEK,
    ),
    "opportunity_rate": MeasureKind(
        f"Of the leads that came and belong to a contact, those that became an opportunity. {_ENOUGH} leads, where "
        "anything was told of deals in 30 days.",
        "share", ("tenant",), readings.opportunities, _WEEK,
    ),
    "buffer_fullness": MeasureKind(
        "How near the buffer is to the nearest of its bounds: leads, age, disk; 1 is at it.", "share", (),
        readings.buffer,
    ),
    "free_disk_bytes": MeasureKind(
        "What is free on the database's disk, where it is this machine's or `buffer.bounds.disk_path` names it.",
        "bytes", (), readings.disk,
    ),
}  # fmt: skip


def take_measures(
    engine: sa.Engine,
    *,
    settings: Settings,
    clock: Clock,
    names: Collection[str] | None = None,
    statement_seconds: float = STATEMENT_SECONDS,
    all_seconds: float = ALL_SECONDS,
) -> Measures:
    """Take the measures that are named, or all.

    Each question is a transaction of its own, whose statements end after ``statement_seconds``, as does an answer of
    Redis: one that fails or is slow leaves its measures out, and no others. After ``all_seconds`` all of it has ended.

    Raises:
        DatabaseUnavailable: the database cannot be reached; then nothing can be measured.
    """
    asked = [name for name in MEASURES if names is None or name in names]
    ends = clock.monotonic() + all_seconds

    def seconds() -> float:
        return min(statement_seconds, ends - clock.monotonic())

    reader = Reader(with_statement_limit(engine, seconds), settings, clock, clock.now(), seconds)
    found: dict[str, list[Measured]] = {name: [] for name in asked}
    failed: dict[str, str] = {}
    for reading in sorted(dict.fromkeys(MEASURES[name].reading for name in asked), key=lambda item: item in _HEAVY):
        answers = [name for name in asked if MEASURES[name].reading is reading]
        if clock.monotonic() >= ends:
            log.warning("not_measured", measures=answers, error_type=OUT_OF_TIME)
            failed |= dict.fromkeys(answers, OUT_OF_TIME)
            continue
        try:
            values = [item for item in reading(reader) if item.name in found]
        except Exception as error:
            if _is_away(error):
                raise unavailable(error, "measures are taken") from error
            log.warning("not_measured", measures=answers, error_type=type(error).__name__)
            failed |= dict.fromkeys(answers, type(error).__name__)
            continue
        for item in values:
            found[item.name].append(item)
    taken = {name: tuple(values) for name, values in found.items() if name not in failed}
    return Measures(reader.now, taken, failed)


def _is_away(error: Exception) -> bool:
    """Whether the database itself is the trouble, and not a statement that took too long."""
    if not isinstance(error, sa.exc.DBAPIError):
        return False
    return getattr(error.orig, "sqlstate", None) != _TOO_LONG and is_unavailable(error)
