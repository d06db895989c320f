"""A vendor whose sliding windows two applications share, in simulated time: ours, through the limiter, and another."""

import heapq
import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from leads_pipeline.config import RequestLimits, WindowLimit
from leads_pipeline.domain.delivery import QuotaReading, Unit
from leads_pipeline.outbound.answers import after_answer
from leads_pipeline.outbound.limiter import MARGIN, Grant, LimiterState, Seen, Wait, decide

BEGIN = datetime(2026, 1, 15, 12, tzinfo=UTC)


LIMITS = RequestLimits(
    windows=(WindowLimit(requests=100, seconds=2), WindowLimit(requests=300, seconds=10)), daily=None
)


@dataclass
class Outcome:
    """What the vendor saw of each application, and the most of both in any window. ``others``: accepted of them.

    ``hurried``: how often a caller of ours was told to come back within a millisecond.
    """

    accepted: int = 0
    refused: int = 0
    others: int = 0
    others_refused: int = 0
    hurried: int = 0
    most: dict[int, int] = field(default_factory=dict)


@dataclass
class SharedQuota:
    """The simulation. ``others``: the seconds at which the other application asks. ``told``: windows with a header.

    ``way`` and ``answer``: the least and most seconds that a request of ours and its answer take. Each of the callers
    asks again at once.
    """

    others: Sequence[float] = ()
    limits: RequestLimits = LIMITS
    seconds: float = 60.0
    callers: int = 8
    told: tuple[int, ...] = (2, 10)
    seed: int = 1
    way: tuple[float, float] = (0.001, 0.02)
    answer: tuple[float, float] = (0.002, 0.025)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self._windows = {window.seconds: window.most for window in self.limits.windows}
        self._state = LimiterState()
        self._accepted: deque[float] = deque()
        self._events: list[tuple[float, int, Callable[[float], None]]] = []
        self._order = 0
        self.outcome = Outcome()

    def run(self) -> Outcome:
        """Play all of it."""
        for instant in self.others:
            self._at(instant, self._other_asks)
        for caller in range(self.callers):
            self._at(0.001 * caller, self._ask)
        while self._events and self._events[0][0] <= self.seconds:
            now, _order, happen = heapq.heappop(self._events)
            while self._accepted and self._accepted[0] <= now - max(self._windows):
                self._accepted.popleft()
            happen(now)
        return self.outcome

    def _at(self, when: float, happen: Callable[[float], None]) -> None:
        self._order += 1
        heapq.heappush(self._events, (when, self._order, happen))

    def _ask(self, now: float) -> None:
        answer, state = decide(self._state, now=_instant(now), limits=self.limits)
        if isinstance(answer, Wait):
            self.outcome.hurried += answer.seconds <= 0.001
            self._at(now + answer.seconds, self._ask)
            return
        self._state = state
        self._at(now + self._random.uniform(*self.way), lambda at: self._arrives(at, answer))

    def _other_asks(self, now: float) -> None:
        taken = self._take(now)
        if now >= 0:
            self.outcome.others += taken
            self.outcome.others_refused += not taken

    def _arrives(self, now: float, grant: Grant) -> None:
        taken = self._take(now)
        self.outcome.accepted += taken
        self.outcome.refused += not taken
        readings = tuple(
            QuotaReading(
                Unit.REQUESTS, seconds, self._windows[seconds], self._windows[seconds] - self._used(seconds, now)
            )
            for seconds in self.told
        )
        self._at(now + self._random.uniform(*self.answer), lambda at: self._answered(at, grant, not taken, readings))

    def _answered(self, now: float, grant: Grant, refused: bool, readings: tuple[QuotaReading, ...]) -> None:
        late = now - (grant.stamp / 1000 - BEGIN.timestamp()) > MARGIN.total_seconds()
        seen = Seen(late=late, throttled=refused, readings=readings)
        self._state = after_answer(self._state, grant, seen, now=_instant(now), limits=self.limits)
        self._at(now + self._random.uniform(0.001, 0.005), self._ask)

    def _take(self, now: float) -> bool:
        free = all(self._used(seconds, now) < most for seconds, most in self._windows.items())
        if free:
            self._accepted.append(now)
        for seconds in self._windows:
            self.outcome.most[seconds] = max(self.outcome.most.get(seconds, 0), self._used(seconds, now))
        return free

    def _used(self, seconds: int, now: float) -> int:
        return sum(item > now - seconds for item in self._accepted)


def _instant(seconds: float) -> datetime:
    return BEGIN + timedelta(seconds=seconds)
