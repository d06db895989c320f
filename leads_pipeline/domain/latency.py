"""How long leads took, counted in buckets that grow with the time: small to keep, and merged by adding.

A bucket is named by its place among ``EDGES`` and holds what took longer than the edge before it and no longer than its
own. The edges are part of what is stored: never change one, nor put one between two others. Common promises (1, 5, 10,
30 and 60 s, 5, 15 and 30 minutes, hours, days) are edges, so that they are judged exactly; another threshold is judged
by the nearest edge, which is never more than 5 % away. Keep out: rows and clocks.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from math import inf
from uuid import UUID

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)

# Each 10 % above the one before or less. Below a tenth of a second, the first edge, nothing is told apart.
_STEPS = (*range(100, 200, 10), *range(200, 500, 20), *range(500, 1000, 50))
_DECADES = range(-1, 7)  # up to 10,000,000 s, 115 days
_HOUR, _DAY = 3_600, 86_400
_PROMISES = (45, 75, 450, 2_700, 2 * _HOUR, 4 * _HOUR, 8 * _HOUR, 12 * _HOUR, _DAY, 2 * _DAY, 3 * _DAY, 7 * _DAY)

EDGES: tuple[float, ...] = tuple(
    sorted({*(step * 10**decade / 100 for decade in _DECADES for step in _STEPS), *map(float, _PROMISES)})
)
# What took longer than the last edge.
LAST_BUCKET = len(EDGES)


class Station(StrEnum):
    """Where a lead's time since its capture is taken, in the order in which it comes by."""

    RAW_LEADS = "raw_leads"
    VALIDATED_LEADS = "validated_leads"
    VERIFIED = "verified"  # its look-ups have ended, it needed none, or it was let on without
    DEDUPED_LEADS = "deduped_leads"
    GOLDEN_CONTACTS = "golden_contacts"
    DELIVERED = "delivered"  # at one destination


def seconds_since_capture(lead_id: UUID, now: datetime) -> float:
    """How old a lead is, by the millisecond that its id was made in; never less than nothing."""
    return max(0.0, ((now - _EPOCH) // _MILLISECOND - (lead_id.int >> 80)) / 1000)


def bucket_of(seconds: float) -> int:
    """The bucket of a time."""
    return bisect_left(EDGES, seconds)


def tally(took: Iterable[tuple[str, float]]) -> dict[str, Counter[int]]:
    """How many leads of each lane fall into each bucket, given each lead's lane and seconds."""
    counts: dict[str, Counter[int]] = {}
    for lane, seconds in took:
        counts.setdefault(lane, Counter())[bucket_of(seconds)] += 1
    return counts


def merged(histograms: Iterable[Mapping[int, int]]) -> Counter[int]:
    """Several histograms as one."""
    total: Counter[int] = Counter()
    for counts in histograms:
        total.update(counts)
    return total


def last_bucket_within(seconds: float) -> int:
    """The last bucket that counts as within a threshold: that of the nearest edge. Exact if the threshold is an edge.

    Raises:
        ValueError: the threshold is not positive.
    """
    if seconds <= 0:
        raise ValueError(f"a threshold of {seconds} s: it must be positive")
    above = bisect_left(EDGES, seconds)
    if above == LAST_BUCKET:
        return LAST_BUCKET - 1
    if above == 0 or EDGES[above] * EDGES[above - 1] <= seconds * seconds:
        return above
    return above - 1


def within(counts: Mapping[int, int], seconds: float) -> int:
    """How many of these leads took no longer than a threshold."""
    last = last_bucket_within(seconds)
    return sum(count for bucket, count in counts.items() if bucket <= last)


def share_within(counts: Mapping[int, int], seconds: float) -> float | None:
    """The share of leads that took no longer than a threshold; none if there are no leads."""
    total = sum(counts.values())
    return within(counts, seconds) / total if total else None


def quantile(counts: Mapping[int, int], share: float) -> float | None:
    """The seconds within which this share of the leads came through; none if there are no leads.

    Within the bucket that holds it, at most 10 % wide, leads are taken to be spread evenly, as Prometheus does. In the
    last bucket its lower edge is answered: it was at least that.
    """
    total = sum(counts.values())
    if not total:
        return None
    rank, before = share * total, 0
    for bucket in sorted(counts):
        if before + counts[bucket] >= rank and counts[bucket]:
            low, high = bounds(bucket)
            return low if high == inf else low + (high - low) * max(0.0, rank - before) / counts[bucket]
        before += counts[bucket]
    return bounds(max(counts))[0]


def bounds(bucket: int) -> tuple[float, float]:
    """The seconds between which a bucket's leads took; the last one has no end."""
    return (EDGES[bucket - 1] if bucket else 0.0, EDGES[bucket] if bucket < LAST_BUCKET else inf)
