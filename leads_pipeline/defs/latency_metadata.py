"""How long leads took to a station within the last hour, as Dagster plots it beside every materialisation."""

from datetime import timedelta
from typing import Any

from leads_pipeline.domain.latency import Station, merged, quantile
from leads_pipeline.domain.stage import Lane
from leads_pipeline.flows import FlowContext
from leads_pipeline.storage.latency import read_latencies

WINDOW = timedelta(hours=1)
_SHARES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}


def latency_metadata(flow: FlowContext, station: Station) -> dict[str, Any]:
    """Seconds from capture to ``station``, of all leads and of the real-time lane; nothing if none came."""
    now = flow.clock.now()
    with flow.engine.connect() as connection:
        found = read_latencies(connection, since=now - WINDOW, until=now + timedelta(minutes=1), station=station)
    histograms = {
        "": merged(item.counts for item in found),
        "real_time_": merged(item.counts for item in found if item.lane == Lane.REAL_TIME),
    }
    return {
        f"{of}{name}_seconds_last_hour": round(seconds, 3)
        for of, counts in histograms.items()
        for name, share in _SHARES.items()
        if (seconds := quantile(counts, share)) is not None
    }
