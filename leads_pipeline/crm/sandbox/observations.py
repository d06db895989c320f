"""What the sandbox saw: counts and exact maxima, never a contact's content."""

from collections import Counter, deque

from leads_pipeline.crm.sandbox.limits import SlidingWindow

_HISTORY_SECONDS = 120


class Observations:
    """Counts since the start or the last reset. They live in memory; contacts may outlive them."""

    def __init__(self, window_seconds: float) -> None:
        self.requests = 0
        self.accepted = 0
        self.unauthorized = 0
        self.unanswered = 0
        self.records_created = 0
        self.records_updated = 0
        self.statuses: Counter[int] = Counter()
        self.endpoints: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.arrivals = SlidingWindow(window_seconds)
        self._seconds: deque[tuple[int, int, int]] = deque(maxlen=_HISTORY_SECONDS)

    def arrived(self, endpoint: str, *, tick: float) -> None:
        """A request came in, whatever becomes of it."""
        self.requests += 1
        self.endpoints[endpoint] += 1
        self.arrivals.add(tick)
        self._in_this_second(tick, arrived=1)

    def admitted(self, *, tick: float) -> None:
        """The token and the limits let it pass."""
        self.accepted += 1
        self._in_this_second(tick, admitted=1)

    def answered(self, status: int | None) -> None:
        """An answer went out, or with ``None``: a fault saw to it that none did."""
        if status is None:
            self.unanswered += 1
        else:
            self.statuses[status] += 1

    def per_second(self, *, tick: float, seconds: int = 60) -> list[tuple[int, int]]:
        """(arrived, admitted) for each of the last ``seconds``, oldest first."""
        newest = int(tick)
        known = {second: (arrived, admitted) for second, arrived, admitted in self._seconds}
        return [known.get(second, (0, 0)) for second in range(newest - seconds + 1, newest + 1)]

    def _in_this_second(self, tick: float, *, arrived: int = 0, admitted: int = 0) -> None:
        second = int(tick)
        if self._seconds and self._seconds[-1][0] == second:
            _, before, passed = self._seconds.pop()
            self._seconds.append((second, before + arrived, passed + admitted))
        else:
            self._seconds.append((second, arrived, admitted))
