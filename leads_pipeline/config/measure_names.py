"""The names of what the pipeline measures of itself, and what each is measured by: the words of rules and promises.

``watching.measures`` takes them; a test holds the two lists to each other. Add a name here, how it is measured there.
"""

# By name, of what each is measured: one value for each tenant, lane … that has anything to tell.
MEASURE_NAMES: dict[str, tuple[str, ...]] = {
    "queue_depth": ("tenant", "lane", "stage"),
    "oldest_seconds": ("tenant", "lane", "stage"),
    "rate_per_minute": ("tenant", "lane", "stage"),
    "latency_p50_seconds": ("tenant", "lane", "stage"),
    "latency_p95_seconds": ("tenant", "lane", "stage"),
    "latency_p99_seconds": ("tenant", "lane", "stage"),
    "verification_attempts": ("destination",),
    "verification_success_rate": ("destination",),
    "lookups_stopped": ("destination",),
    "dedupe_conflict_rate": ("tenant",),
    "review_rate": ("tenant",),
    "rejection_rate": ("tenant", "source"),
    "delivery_failure_rate": ("tenant", "destination"),
    "throttled_rate": ("destination",),
    "breaker_open": ("destination",),
    "parked": ("destination",),
    "dead_letters_open": ("tenant", "destination"),
    "bounce_rate": ("tenant",),
    "opportunity_rate": ("tenant",),
    "buffer_fullness": (),
    "free_disk_bytes": (),
}

# Of these a measurement that names nobody says zero: it counted, and found nothing. Of the others it says nothing.
ZERO_IF_UNNAMED = frozenset(
    {"queue_depth", "oldest_seconds", "lookups_stopped", "breaker_open", "parked", "dead_letters_open"}
)

# Shares of something: none is above 1.
SHARES = frozenset(name for name in MEASURE_NAMES if name.endswith("_rate")) | {
    "lookups_stopped",
    "breaker_open",
    "parked",
}
