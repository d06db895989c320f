"""Prometheus' text format, for whatever of ours serves ``/metrics``: one way to write numbers down.

Keep out: which numbers there are (``capture.metrics``, ``watching.metrics``).
"""

from collections.abc import Iterable, Sequence
from typing import Protocol

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Collects(Protocol):
    """What is asked for its numbers once a scrape."""

    def collect(self) -> Iterable[Metric]: ...


def as_text(source: Collects) -> bytes:
    """All that ``source`` tells now."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Once(source))
    return generate_latest(registry)


def cumulative(bounds: Sequence[float], counts: Sequence[float]) -> list[tuple[str, float]]:
    """A histogram's buckets as Prometheus has them: how many were at most so much, for each bound and for all.

    ``counts`` are those of each bucket by itself; the last is of what is beyond every bound.
    """
    buckets: list[tuple[str, float]] = []
    so_far = 0.0
    for bound, count in zip([*(_shown(bound) for bound in bounds), "+Inf"], counts, strict=True):
        so_far += count
        buckets.append((bound, so_far))
    return buckets


def _shown(bound: float) -> str:
    return str(float(bound))


class _Once(Collector):
    def __init__(self, source: Collects) -> None:
        self._source = source

    def collect(self) -> Iterable[Metric]:
        return self._source.collect()
