"""Leads on their way: what waits where and for how long, what came and was rejected, how long leads took."""

from collections.abc import Iterator, Mapping
from datetime import timedelta

from leads_pipeline.domain.ids import first_uuid7_at
from leads_pipeline.domain.latency import EDGES, LAST_BUCKET, bounds, last_bucket_within
from leads_pipeline.domain.outcomes import OutcomeKind
from leads_pipeline.domain.stage import ALL_LANES, Stage
from leads_pipeline.storage import day_counts
from leads_pipeline.storage.latency import read_latencies
from leads_pipeline.storage.measurements import queues
from leads_pipeline.watching.metrics.vocabulary import Buckets, Family, Kind, Part, Sample, Scrape

# Edges of our own buckets, so that nothing is guessed: few, because each is a time series for every tenant and lane.
LATENCY_BOUNDS: tuple[float, ...] = (
    0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0, 1800.0, 3600.0, 14400.0, 43200.0, 86400.0, 259200.0,
)  # fmt: skip
# What a clock of another machine has ahead of ours is told now, not at the next scrape.
_AHEAD = timedelta(minutes=1)
_LAST = [last_bucket_within(bound) for bound in LATENCY_BOUNDS]

_QUEUE_LEADS = Family(
    "leads_queue_leads",
    Kind.GAUGE,
    "What waits in PostgreSQL in front of a stage: leads; contacts in front of golden_contacts and crm_sync_batches.",
    ("tenant", "lane", "stage"),
    ("queue_depth",),
)
_QUEUE_AGE = Family(
    "leads_queue_oldest_seconds",
    Kind.GAUGE,
    "How long the oldest of them has waited there.",
    ("tenant", "lane", "stage"),
    ("oldest_seconds",),
)
_CAPTURED = Family(
    "leads_captured_total", Kind.COUNTER, "Leads that were stored at a door.", ("tenant", "source", "lane")
)
_REJECTED = Family(
    "leads_rejected_total",
    Kind.COUNTER,
    "Leads whose first verdict of validation was a rejection.",
    ("tenant", "source"),
    ("rejection_rate",),
)
_OUTCOMES = Family(
    "leads_outcomes_total",
    Kind.COUNTER,
    "What senders of mail and CRMs told of leads: bounces, complaints, opportunities.",
    ("tenant", "kind"),
    ("bounce_rate", "opportunity_rate"),
)
_LATENCY = Family(
    "leads_latency_seconds",
    Kind.HISTOGRAM,
    "Time from capture until a lead left a stage; of delivered, until a destination had it. The sum is an estimate "
    "from finer buckets.",
    ("tenant", "lane", "stage", "destination"),
    ("latency_p50_seconds", "latency_p95_seconds", "latency_p99_seconds", "rate_per_minute"),
)


def _queues(scrape: Scrape) -> Iterator[Sample]:
    with scrape.engine.connect() as connection:
        found = queues(connection)
    # Zeros where nothing waits, so that a graph falls to 0 and does not just end. Not of what may wait in Redis: nobody
    # looks there.
    stages = [stage for stage in Stage if stage is not Stage.RAW_LEADS or scrape.settings.buffer.redis is None]
    waiting = {
        (tenant, str(lane), str(stage)): (0.0, 0.0)
        for tenant in scrape.settings.tenants
        for lane in ALL_LANES
        for stage in stages
    }
    for queue in found:
        waiting[queue.tenant, str(queue.lane), str(queue.stage)] = (queue.waiting, queue.oldest_seconds(scrape.now))
    for labels, (leads, oldest_seconds) in waiting.items():
        yield _QUEUE_LEADS.name, labels, leads
        yield _QUEUE_AGE.name, labels, oldest_seconds


def _counts(scrape: Scrape) -> Iterator[Sample]:
    first_id = str(first_uuid7_at(scrape.day))
    with scrape.engine.connect() as connection:
        captured = day_counts.captured_by_source(connection, scrape.day, first_id=first_id)
        rejected = day_counts.rejected_by_source(connection, scrape.day)
        outcomes = day_counts.outcomes_by_kind(connection, first_id=first_id)
    # Zeros for what has not happened yet: a counter that appears with its first event hides it from increase().
    zeros: day_counts.Counts = {
        (name, source, str(settings.lane)): 0.0
        for name, tenant in scrape.settings.tenants.items()
        for source, settings in tenant.sources.items()
    }
    for labels, leads in {**zeros, **captured}.items():
        yield _CAPTURED.name, labels, leads
    none_rejected: day_counts.Counts = {(tenant, source): 0.0 for tenant, source, _lane in zeros}
    for labels, leads in {**none_rejected, **rejected}.items():
        yield _REJECTED.name, labels, leads
    no_outcomes: day_counts.Counts = {
        (tenant, str(kind)): 0.0 for tenant in scrape.settings.tenants for kind in OutcomeKind
    }
    for labels, told in {**no_outcomes, **outcomes}.items():
        yield _OUTCOMES.name, labels, told


def _latency(scrape: Scrape) -> Iterator[Sample]:
    with scrape.engine.connect() as connection:
        found = read_latencies(connection, since=scrape.day, until=scrape.now + _AHEAD)
    for item in found:
        yield _LATENCY.name, (item.tenant, item.lane, str(item.station), item.destination), coarse(item.counts)


def coarse(counts: Mapping[int, int]) -> Buckets:
    """Our fine buckets as the few that are exported; each lead counts to the sum with its bucket's middle."""
    within = [sum(leads for bucket, leads in counts.items() if bucket <= last) for last in (*_LAST, LAST_BUCKET)]
    own = tuple(float(more - less) for less, more in zip([0, *within], within, strict=False))
    return Buckets(LATENCY_BOUNDS, own, sum(leads * _middle(bucket) for bucket, leads in counts.items()))


def _middle(bucket: int) -> float:
    low, high = bounds(bucket)
    return low if bucket == LAST_BUCKET else (low + high) / 2


assert set(LATENCY_BOUNDS) <= set(EDGES)

PARTS = (
    Part("queues", (_QUEUE_LEADS, _QUEUE_AGE), _queues),
    Part("counts", (_CAPTURED, _REJECTED, _OUTCOMES), _counts),
    Part("latency", (_LATENCY,), _latency),
)
