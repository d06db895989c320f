"""What a sandbox saw: counts and exact maxima, never an address or a contact."""

from collections import Counter, deque

_HISTORY_SECONDS = 120


class Observations:
    """Counts since the start or the last reset. They live in memory."""

    def __init__(self) -> None:
        self.requests = 0
        self.accepted = 0
        self.unauthorized = 0
        self.unanswered = 0
        self.in_flight = 0
        self.max_in_flight = 0
        self.statuses: Counter[int] = Counter()
        self.endpoints: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self._seconds: deque[tuple[int, int, int]] = deque(maxlen=_HISTORY_SECONDS)

    def arrived(self, endpoint: str, *, tick: float) -> None:
        """A request came in, whatever becomes of it."""
        self.requests += 1
        self.endpoints[endpoint] += 1
        self._in_this_second(tick, arrived=1)

    def begun(self) -> None:
        """A request is looked at; ``ended`` follows when its answer is made, or never will be."""
        self.in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self.in_flight)

    def ended(self) -> None:
        """A request is over."""
        self.in_flight -= 1

    def admitted(self, *, tick: float) -> None:
        """The token and the limits let it pass."""
        self.accepted += 1
        self._in_this_second(tick, admitted=1)

    def answered(self, status: int | None) -> None:
        """An answer goes out, or with ``None``: a fault sees to it that none does."""
        if status is None:
            self.unanswered += 1
        else:
            self.statuses[status] += 1

    def per_second(self, *, tick: float, seconds: int = 60) -> list[tuple[int, int]]:
        """(arrived, admitted) for each of the last ``seconds``, oldest first."""
        newest = int(tick)
        known = {second: (arrived, admitted) for second, arrived, admitted in self._seconds}
        return [known.get(second, (0, 0)) for second in range(newest - seconds + 1, newest + 1)]

    def shown(self) -> dict[str, object]:
        """The counts by kind, as every report has them."""
        return {
            "unanswered": self.unanswered,
            "statuses": {str(status): count for status, count in sorted(self.statuses.items())},
            "endpoints": dict(sorted(self.endpoints.items())),
            "faults": dict(sorted(self.faults.items())),
        }

    def _in_this_second(self, tick: float, *, arrived: int = 0, admitted: int = 0) -> None:
        second = int(tick)
        if self._seconds and self._seconds[-1][0] == second:
            _, before, passed = self._seconds.pop()
            self._seconds.append((second, before + arrived, passed + admitted))
        else:
            self._seconds.append((second, arrived, admitted))
