"""Keeping to so many rows a second: arithmetic only, the waiting is the caller's."""


class RowRate:
    """A pace of ``per_second`` rows, on average from its beginning on; what was not used is not saved up.

    Times are seconds on one clock that does not go back.
    """

    def __init__(self, per_second: float, *, began: float) -> None:
        self._per_second = per_second
        self._free_at = began

    def wait_seconds(self, rows: int, *, now: float) -> float:
        """How long to wait before ``rows`` more rows go out; they are then counted as gone."""
        begins = max(self._free_at, now)
        self._free_at = begins + rows / self._per_second
        return begins - now

    def group_rows(self, most: int) -> int:
        """How many rows to send at once: a second's worth, so that a slow pace is an even one; ``most`` at most."""
        return max(1, min(most, int(self._per_second)))
