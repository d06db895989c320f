"""How long an account is left alone after a 429, which of Zoho's tells neither that nor which limit was reached.

It may be the number of requests at once, over in a second, or the day's credits. So pauses double from 1 s to 30 s, and
when that was not enough the credits are taken to be spent. Keep out: the limits that we keep to (``outbound.limiter``).
"""

import threading

FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 30.0
# 1, 2, 4, 8, 16, 30, 30: a minute and a half.
PAUSES = 7


class Backoff:
    """The 429s in a row that one client saw. Safe to share between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._in_a_row = 0

    def passed(self) -> None:
        """An answer that is no 429."""
        with self._lock:
            self._in_a_row = 0

    def refused(self) -> float | None:
        """One more 429: the pause after it, in seconds; ``None``: until credits come back."""
        with self._lock:
            self._in_a_row += 1
            if self._in_a_row > PAUSES:
                self._in_a_row = 0
                return None
            return min(FIRST_PAUSE_SECONDS * 2.0 ** (self._in_a_row - 1), LONGEST_PAUSE_SECONDS)
