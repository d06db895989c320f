"""Every request that came, exactly: when, whereto, from whom, and what it got.

What a limiter did is judged by this log and not by what the sandbox or the limiter say of themselves. It holds no more
than ``CAPACITY`` requests, 16 bytes for each; the oldest leave first and are counted.
"""

from array import array
from collections.abc import Iterator
from dataclasses import dataclass

CAPACITY = 1_000_000


@dataclass(frozen=True, slots=True)
class Arrival:
    """One request. ``seconds`` since the log began; ``status`` is ``None`` where no answer went out.

    ``application``: 0 for a token that is not known. ``accepted``: the token and the limits let it pass.
    """

    number: int
    seconds: float
    endpoint: str
    application: int
    status: int | None
    accepted: bool


@dataclass(frozen=True, slots=True)
class Fullest:
    """The most that any window of so many seconds held, of all requests and of the accepted ones."""

    seconds: float
    requests: int
    accepted: int


class Arrivals:
    """The log. Numbers count from 1 and are never given again."""

    def __init__(self, *, began: float, capacity: int = CAPACITY) -> None:
        self.dropped = 0
        self._began = began
        self._capacity = capacity
        self._names: list[str] = []
        self._ticks = array("d")
        self._endpoints = array("B")
        self._applications = array("B")
        self._statuses = array("H")
        self._accepted = array("B")

    def __len__(self) -> int:
        return len(self._ticks)

    def add(self, *, tick: float, endpoint: str, application: int, status: int | None, accepted: bool) -> None:
        """Log one; ``tick`` is not before the last one's."""
        if endpoint not in self._names:
            self._names.append(endpoint)
        if len(self._ticks) >= self._capacity:
            self._drop_oldest()
        self._ticks.append(tick)
        self._endpoints.append(self._names.index(endpoint))
        self._applications.append(application)
        self._statuses.append(status or 0)
        self._accepted.append(accepted)

    def page(self, *, after: int, limit: int) -> list[Arrival]:
        """Those with numbers above ``after``, oldest first."""
        first = max(0, after - self.dropped)
        return [self._at(place) for place in range(first, min(first + limit, len(self)))]

    def fullest(self, seconds: float, *, application: int | None = None, endpoint: str | None = None) -> Fullest:
        """Exact: a request that is ``seconds`` old has left the window, and the fullest one ends at an arrival."""
        chosen = [place for place in range(len(self)) if self._is_of(place, application, endpoint)]
        accepted = [place for place in chosen if self._accepted[place]]
        return Fullest(seconds, self._most(chosen, seconds), self._most(accepted, seconds))

    def _most(self, places: list[int], seconds: float) -> int:
        most, oldest = 0, self._at_places(places)
        leaving = next(oldest, 0.0)
        held = 0
        for tick in self._at_places(places):
            held += 1
            while tick - leaving >= seconds:
                held -= 1
                leaving = next(oldest)
            most = max(most, held)
        return most

    def _at_places(self, places: list[int]) -> Iterator[float]:
        return (self._ticks[place] for place in places)

    def _is_of(self, place: int, application: int | None, endpoint: str | None) -> bool:
        return (application is None or self._applications[place] == application) and (
            endpoint is None or self._names[self._endpoints[place]] == endpoint
        )

    def _at(self, place: int) -> Arrival:
        return Arrival(
            number=self.dropped + place + 1,
            seconds=self._ticks[place] - self._began,
            endpoint=self._names[self._endpoints[place]],
            application=self._applications[place],
            status=self._statuses[place] or None,
            accepted=bool(self._accepted[place]),
        )

    def _drop_oldest(self) -> None:
        # A tenth at once: taking away the first of an array moves all others.
        gone = max(1, self._capacity // 10)
        for column in (self._ticks, self._endpoints, self._applications, self._statuses, self._accepted):
            del column[:gone]
        self.dropped += gone
