"""The way out to one account: a thread waits here for its grant, and reports back what came of it.

Waits by the clock that it is given and gives up at a deadline, so that a run ends when it should. Keep out: the limits
themselves; see ``limiter``.
"""

import threading
from dataclasses import dataclass
from datetime import timedelta

from leads_pipeline.clock import Clock
from leads_pipeline.domain.delivery import QuotaReading
from leads_pipeline.errors import AccountParked
from leads_pipeline.outbound.limiter import ANY_REQUEST, Ask, Grant, Limiter, Seen, WaitReason

# Why a thread is turned away when the run is ending.
STOPPING = "stopping"

# How long a request to stop may go unnoticed.
_NAP_SECONDS = 0.5


@dataclass(slots=True)
class Entry:
    """A grant, and the monotonic second at which it was stamped, or a little before: never after.

    ``has_left``: when its request left is written down, so that a late answer says nothing of when it arrived.
    """

    grant: Grant
    stamped_at: float
    has_left: bool = False


class GrantTaken(Exception):
    """Others were quicker, the grant is far away now: whoever claimed for it gives back. For no handler of errors."""


class Gate:
    """Shared by the threads that deliver to one destination."""

    def __init__(self, limiter: Limiter, *, clock: Clock, deadline: float, stopping: threading.Event) -> None:
        self._limiter = limiter
        self._clock = clock
        self._deadline = deadline
        self._stopping = stopping
        # One thread of the process asks at a time: the others would only be told to wait as well.
        self._turn = threading.Lock()
        self.waited_seconds = 0.0

    def enter(self, ask: Ask = ANY_REQUEST, *, patience: float | None = None) -> Entry:
        """Wait for a grant.

        Raises:
            AccountParked: the wait would go past the deadline, or the run is stopping.
            GrantTaken: it would be longer than ``patience`` seconds, counted from now.
        """
        with self._turn:
            gives_up = None if patience is None else self._clock.monotonic() + patience
            while True:
                if self._stopping.is_set():
                    raise AccountParked("the run is stopping", until=self._clock.now(), reason=STOPPING)
                asked_at = self._clock.monotonic()
                answer = self._limiter.acquire(ask)
                if isinstance(answer, Grant):
                    # The wait for the limiter's row came before the stamp.
                    return Entry(answer, asked_at + answer.waited_seconds)
                # Not since it asked: the wait for the limiter's row may have taken what was left.
                if self._clock.monotonic() + answer.seconds > self._deadline:
                    until = self._clock.now() + timedelta(seconds=answer.seconds)
                    if answer.reason is WaitReason.DAILY and answer.resets_at is not None:
                        until = answer.resets_at
                    raise AccountParked(
                        f"account {self._limiter.account}: no request before {until.isoformat()} ({answer.reason})",
                        until=until,
                        reason=answer.reason,
                    )
                if gives_up is not None and self._clock.monotonic() + answer.seconds > gives_up:
                    raise GrantTaken
                self._sleep(answer.seconds)

    def leaving(self, entry: Entry) -> None:
        """Tell the limiter if the request leaves only now, later than its margin covers.

        For vendors that may take long to answer what they received at once: when the answer comes then says nothing.
        """
        entry.has_left = not self._is_late(entry) or self._limiter.arrived(entry.grant)

    def answered(
        self,
        entry: Entry,
        *,
        pause_seconds: float | None = None,
        until_midnight: bool = False,
        throttled: bool = False,
        readings: tuple[QuotaReading, ...] = (),
    ) -> None:
        """Tell the limiter that the answer came, or that none will, and what it says of the account.

        ``pause_seconds`` asks everyone to stop asking, ``until_midnight`` until the quota's reset. Call it for each
        entry that was sent: where requests under way are limited, it makes room for the next.
        """
        seen = Seen(
            late=not entry.has_left and self._is_late(entry),
            throttled=throttled,
            pause_seconds=pause_seconds,
            until_reset=until_midnight,
            readings=readings,
        )
        self._limiter.answered(entry.grant, seen)

    def turn_back(self, entry: Entry) -> None:
        """Give a grant back for which nothing was sent."""
        self._limiter.give_back(entry.grant)

    def _is_late(self, entry: Entry) -> bool:
        return self._clock.monotonic() - entry.stamped_at > self._limiter.margin_seconds

    def _sleep(self, seconds: float) -> None:
        self.waited_seconds += seconds
        while seconds > 0 and not self._stopping.is_set():
            nap = min(seconds, _NAP_SECONDS)
            self._clock.sleep(nap)
            seconds -= nap
