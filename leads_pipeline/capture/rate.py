"""How often one sender may post: a leaky bucket as a meter (GCRA), in this process's memory.

It protects the door, not a quota: what it lets through is bounded by the group commit anyway. So it may forget
everything when the process ends, and several processes each take their share of the limit.
"""

from leads_pipeline.config import KeyRate

# Senders are keys in force and signed sources: few. A table that grew beyond this is emptied of those at rest.
_MOST_SENDERS = 10_000


class RateLimiter:
    """``share`` processes divide each limit among them."""

    def __init__(self, *, share: int = 1) -> None:
        self._share = share
        self._free_at: dict[str, float] = {}

    def wait_seconds(self, sender: str, rate: KeyRate, *, now: float) -> float:
        """0 if the sender may post now, and then it counts; else how long to wait. ``now`` is monotonic, in seconds."""
        spacing = rate.seconds * self._share / rate.requests
        tolerance = spacing * (rate.burst / self._share + 1)
        free_at = max(self._free_at.get(sender, now), now)
        if free_at - now + spacing > tolerance + 1e-9:
            return free_at + spacing - tolerance - now
        if len(self._free_at) >= _MOST_SENDERS:
            self._free_at = {name: at for name, at in self._free_at.items() if at > now}
        self._free_at[sender] = free_at + spacing
        return 0.0
