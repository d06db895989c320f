"""How fast leads come in, from the record that every commit of the door and of an import leaves."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa

from leads_pipeline.domain.stage import Lane


@dataclass(frozen=True, slots=True)
class CaptureRate:
    """New leads a minute, averaged over each window, in the order in which the windows were asked for."""

    tenant: str
    lane: Lane
    per_minute: tuple[float, ...]


# By the index on committed_at: the cost follows the commits within the window.
_CAPTURED = sa.text(
    """
    select tenant, lane, sum(captured)::bigint as captured
    from capture_batches
    where committed_at > :since and committed_at <= :now
    group by tenant, lane
    """
)


def capture_rates(connection: sa.Connection, *, windows: Sequence[timedelta], now: datetime) -> list[CaptureRate]:
    """What came in within each window before ``now``, per tenant and lane; who sent nothing is left out."""
    found: dict[tuple[str, Lane], list[float]] = {}
    for place, window in enumerate(windows):
        for row in connection.execute(_CAPTURED, {"since": now - window, "now": now}):
            rates = found.setdefault((row.tenant, Lane(row.lane)), [0.0] * len(windows))
            rates[place] += row.captured / (window / timedelta(minutes=1))
    order = list(Lane)
    return [
        CaptureRate(tenant, lane, tuple(rates))
        for (tenant, lane), rates in sorted(found.items(), key=lambda item: (item[0][0], order.index(item[0][1])))
    ]
