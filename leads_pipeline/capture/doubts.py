"""Deliveries that did not prove who sent them, in the log: a vendor whose secret was changed must be seen there.

Anybody can send such requests, as many as they like: of each source and doubt one a minute is logged, with how many
came since the last one. ``/metrics`` counts all of them.
"""

from leads_pipeline.clock import Clock
from leads_pipeline.sources.port import Doubt
from leads_pipeline.telemetry import get_logger

QUIET_SECONDS = 60.0

_log = get_logger(__name__)


class Doubts:
    """What this process has said and not yet said."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._quiet_until: dict[tuple[str, str, Doubt], float] = {}
        self._unsaid: dict[tuple[str, str, Doubt], int] = {}

    def note(self, tenant: str, source: str, doubt: Doubt) -> None:
        """A delivery to one of leads.yaml's sources was not verified."""
        about = (tenant, source, doubt)
        times = self._unsaid.get(about, 0) + 1
        now = self._clock.monotonic()
        if now < self._quiet_until.get(about, now):
            self._unsaid[about] = times
            return
        self._quiet_until[about] = now + QUIET_SECONDS
        self._unsaid.pop(about, None)
        _log.warning("delivery was not verified", tenant=tenant, source=source, doubt=doubt, times=times)
