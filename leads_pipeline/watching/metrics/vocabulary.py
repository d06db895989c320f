"""What a metric is: its name, what it means, by what it is told apart; and one value of it.

Names follow Prometheus' conventions: a unit at the end, ``_total`` where it only grows. Labels are names from
leads.yaml or of this code: their number is bounded, and none is personal.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

import sqlalchemy as sa
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from leads_pipeline.clock import Clock
from leads_pipeline.config import Settings
from leads_pipeline.exposition import cumulative


class Kind(StrEnum):
    COUNTER = "counter"  # begins anew at midnight, UTC
    GAUGE = "gauge"
    HISTOGRAM = "histogram"  # its counts begin anew at midnight, UTC


@dataclass(frozen=True, slots=True)
class Family:
    """One metric. ``measures``: the names in ``leads.yaml``'s rules that tell the same."""

    name: str
    kind: Kind
    text: str
    labels: tuple[str, ...] = ()
    measures: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Buckets:
    """A histogram's value: how many were in each bucket by itself, the last beyond every bound."""

    bounds: tuple[float, ...]
    counts: tuple[float, ...]
    total: float


# A family's name, the values of its labels in their order, and its value.
Sample = tuple[str, tuple[str, ...], float | Buckets]


@dataclass(frozen=True, slots=True)
class Scrape:
    """What a part is told. ``day`` is when counters began.

    ``engine``'s statements end early, and with the scrape. ``seconds_left``: of the scrape, for what is still to do.
    """

    engine: sa.Engine
    settings: Settings
    clock: Clock
    now: datetime
    day: datetime
    seconds_left: Callable[[], float]


@dataclass(frozen=True, slots=True)
class Part:
    """Metrics that are read together: they are there together, or not at all.

    ``kept_seconds``: for so long what was read is told again; most are read for every answer.
    """

    name: str
    families: tuple[Family, ...]
    read: Callable[[Scrape], Iterable[Sample]]
    kept_seconds: float = 0.0


def as_metrics(families: Iterable[Family], samples: Iterable[Sample]) -> list[Metric]:
    """The families that have a value, as the library writes them down.

    Raises:
        KeyError: a sample of none of the families.
        ValueError: a sample with other labels than its family's.
    """
    known = {family.name: family for family in families}
    found: dict[str, Metric] = {}
    for name, labels, value in samples:
        family = known[name]
        if len(labels) != len(family.labels):
            raise ValueError(f"{name} has the labels {family.labels}, a value came with {len(labels)}")
        metric = found.setdefault(name, _empty(family))
        told = [str(label) for label in labels]
        if isinstance(metric, HistogramMetricFamily):
            assert isinstance(value, Buckets)
            metric.add_metric(told, cumulative(value.bounds, value.counts), value.total)
        elif isinstance(metric, CounterMetricFamily | GaugeMetricFamily):
            assert not isinstance(value, Buckets)
            metric.add_metric(told, value)
    return [found[name] for name in known if name in found]


def _empty(family: Family) -> Metric:
    kinds: Mapping[Kind, type[CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily]] = {
        Kind.COUNTER: CounterMetricFamily,
        Kind.GAUGE: GaugeMetricFamily,
        Kind.HISTOGRAM: HistogramMetricFamily,
    }
    return kinds[family.kind](family.name, family.text, labels=family.labels)
