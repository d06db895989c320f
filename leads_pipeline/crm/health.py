"""Whether a destination answers: its circuit breaker, which all processes share.

No answer and errors of the CRM's own open it after some in a row, refused credentials or set-up at once; then one
caller of all processes probes it with one batch. Keep out: limits, which say when to ask and not whether.
"""

from dataclasses import dataclass
from datetime import timedelta

import sqlalchemy as sa

from leads_pipeline.clock import Clock
from leads_pipeline.crm.parking import Parked, auth_reason, breaker_name, parked_by
from leads_pipeline.crm.port import CrmResponse
from leads_pipeline.domain.retry import AUTH_PAUSE
from leads_pipeline.outbound import breaker
from leads_pipeline.outbound.breaker import BreakerPolicy, BreakerState

# Why a breaker opened.
NO_ANSWER = "no_answer"
SERVER_ERROR = "server_error"


@dataclass(frozen=True, slots=True)
class _AtOnce:
    """Nothing of a destination can pass until a person acts; whether they have is asked once a minute."""

    failures: int = 1
    pause_seconds: float = AUTH_PAUSE.total_seconds()
    max_pause_seconds: float = AUTH_PAUSE.total_seconds()


class Health:
    """One destination's breaker. Safe to share between threads; ``closed`` is as this process last saw it."""

    def __init__(self, engine: sa.Engine, destination: str, *, policy: BreakerPolicy, clock: Clock) -> None:
        self._engine = engine
        self._name = breaker_name(destination)
        self._policy = policy
        self._clock = clock
        self.closed = True

    def may_send(self) -> Parked | None:
        """Why nothing may be sent, if so. If ``closed`` is false afterwards, the caller has the one probe."""
        now = self._clock.now()
        with self._engine.begin() as connection:
            allowed = breaker.may_send(connection, self._name, policy=self._policy, now=now)
            found = breaker.read_breakers(connection, self._name)
        self.closed = not found or found[0].state is BreakerState.CLOSED
        return None if allowed else self._parked(found[0])

    def refuses(self) -> Parked | None:
        """Why nothing may be asked until the breaker's pause ends, if so. Takes no probe, which is for a batch."""
        with self._engine.connect() as connection:
            found = breaker.read_breakers(connection, self._name)
        if not found or found[0].state is BreakerState.CLOSED:
            return None
        parked = self._parked(found[0])
        return parked if parked.until > self._clock.now() else None

    def stands(self) -> str:
        """The breaker as it stands, for people: ``closed``, or ``open (no_answer)``."""
        with self._engine.connect() as connection:
            found = breaker.read_breakers(connection, self._name)
        if not found or found[0].state is BreakerState.CLOSED:
            return str(BreakerState.CLOSED)
        return f"{found[0].state} ({found[0].reason})"

    def after(self, *, refused: bool, last: CrmResponse | None, code: str | None = None) -> Parked | None:
        """Note how a batch ended: what its last request was answered, and whether the destination refuses us.

        ``code``: with which it does, where it says so.

        Says why the destination must be left alone from now on, if so.
        """
        reason = auth_reason(code) if refused else _failure(last)
        if last is None and not refused:
            return None  # nothing was asked
        now = self._clock.now()
        with self._engine.begin() as connection:
            if reason is None:
                breaker.succeeded(connection, self._name, now=now)
            else:
                policy = _AtOnce() if refused else self._policy
                breaker.failed(connection, self._name, reason=reason, policy=policy, now=now)
            found = breaker.read_breakers(connection, self._name)
        self.closed = not found or found[0].state is BreakerState.CLOSED
        return None if self.closed else self._parked(found[0])

    def give_up(self, reason: str) -> Parked:
        """Leave the destination alone for a minute, in all processes, whatever it would answer."""
        now = self._clock.now()
        with self._engine.begin() as connection:
            breaker.failed(connection, self._name, reason=reason, policy=_AtOnce(), now=now)
            found = breaker.read_breakers(connection, self._name)
        self.closed = False
        return self._parked(found[0])

    def failed(self, response: CrmResponse) -> None:
        """Note that a request about no record got no answer, or an error of the CRM's own, if so.

        What it was answered else closes nothing: whether contacts are taken is for a batch to say.
        """
        if (reason := _failure(response)) is not None:
            with self._engine.begin() as connection:
                breaker.failed(connection, self._name, reason=reason, policy=self._policy, now=self._clock.now())

    def _parked(self, found: breaker.Breaker) -> Parked:
        pause = timedelta(seconds=self._policy.pause_seconds)
        return parked_by(found.reason or NO_ANSWER, found.next_probe_at or self._clock.now() + pause)


def _failure(response: CrmResponse | None) -> str | None:
    if response is None:
        return None
    if response.status is None:
        return NO_ANSWER
    return SERVER_ERROR if response.status >= 500 else None
