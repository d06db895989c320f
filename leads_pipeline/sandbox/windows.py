"""A true sliding window over ticks of a clock. An arrival that is exactly ``seconds`` old has left it."""

from collections import deque


class SlidingWindow:
    """Ticks of the last ``seconds``; remembers the most that it ever held at once.

    The fullest window always ends at an arrival, so looking at each arrival gives the exact maximum.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.peak = 0
        self._ticks: deque[float] = deque()

    def held(self, tick: float) -> int:
        """How many ticks are younger than the window at ``tick``."""
        while self._ticks and tick - self._ticks[0] >= self.seconds:
            self._ticks.popleft()
        return len(self._ticks)

    def add(self, tick: float) -> None:
        """Count one."""
        self.peak = max(self.peak, self.held(tick) + 1)
        self._ticks.append(tick)

    def seconds_until_free(self, tick: float) -> float:
        """When the oldest leaves."""
        return self._ticks[0] + self.seconds - tick if self.held(tick) else 0.0
