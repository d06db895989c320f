"""Another application that uses the same account, played without a network: it asks evenly, on the sandbox's clock."""

from collections.abc import Iterator

# After a longer gap it is taken to have paused: catching up on a night would hold up the next answer.
_LONGEST_GAP_SECONDS = 600.0


class OtherApplication:
    """Asks ``per_second`` times from ``began`` on; 0: never."""

    def __init__(self, per_second: float, *, began: float) -> None:
        self._per_second = per_second
        self._asked = 0
        self._began = began

    def due(self, tick: float) -> Iterator[float]:
        """The ticks until ``tick`` at which it asked, each told once."""
        if self._per_second <= 0:
            return
        first = int((tick - _LONGEST_GAP_SECONDS - self._began) * self._per_second)
        self._asked = max(self._asked, first)
        while (at := self._began + (self._asked + 1) / self._per_second) <= tick:
            self._asked += 1
            yield at
