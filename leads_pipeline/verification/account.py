"""One provider's account as the step uses it: may it be asked now, for whom, and what an answer does to it.

What it remembers stands in the database, for all processes: the limiter's row, the breaker's, the books. Keep out:
which leads are asked about, and what becomes of them (``steps.verifications``).
"""

import threading
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import sqlalchemy as sa

from leads_pipeline.clock import Clock
from leads_pipeline.config import (
    BreakerSettings,
    DailyLimit,
    ProviderSettings,
    RequestLimits,
    VerificationSettings,
    WindowLimit,
)
from leads_pipeline.domain.ids import uuid7
from leads_pipeline.errors import ConfigError
from leads_pipeline.outbound import breaker
from leads_pipeline.outbound.gate import Entry, Gate
from leads_pipeline.outbound.limiter import Grant, Limiter, WaitReason
from leads_pipeline.storage import verification_calls as books
from leads_pipeline.storage.verification_calls import Call
from leads_pipeline.verification.port import ACCOUNT_WIDE, FAILURES, Outcome, Provider, ProviderAnswer
from leads_pipeline.verification.registry import PROVIDERS

# A key that is refused, or an account without credit, is tried again so often: a person must act first.
REFUSED_PAUSE_SECONDS = 300.0
# Rather than wait for so long, the next provider is asked.
LONGEST_WAIT_SECONDS = 30.0
_ANY_NUMBER = 1_000_000
_LONGEST_MARGIN_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class _AtOnce:
    """A breaker that opens with the first failure and stays open for ``pause_seconds``."""

    failures: int = 1
    pause_seconds: float = REFUSED_PAUSE_SECONDS
    max_pause_seconds: float = REFUSED_PAUSE_SECONDS


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why an account cannot be asked: ``no_key``, ``breaker``, ``budget``, ``busy``, ``daily``, ``paused``, ``window``.

    ``until``: if that is known.
    """

    reason: str
    until: datetime | None = None


class Account:
    """A provider's account. Safe to share between threads."""

    def __init__(
        self,
        name: str,
        settings: VerificationSettings,
        *,
        engine: sa.Engine,
        clock: Clock,
        simulated: bool = False,
    ) -> None:
        """``simulated``: the limiter goes by ``clock`` as well, not by the database's."""
        self.name = name
        self.settings: ProviderSettings = settings.providers[name]
        self.provider: Provider = PROVIDERS[self.settings.vendor]
        self._tiers = settings.tiers
        self._policy: BreakerSettings = settings.breaker
        self._engine = engine
        self._clock = clock
        limits = limits_of(self.provider, self.settings)
        self._limiter = Limiter(
            engine,
            account=f"verification:{name}",
            limits=limits,
            margin=margin_of(limits),
            spread=self.provider.quirks.spread,
            clock=clock if simulated else None,
        )

    @property
    def batch_size(self) -> int:
        return min(self.settings.batch_size or self.provider.quirks.batch_size, self.provider.quirks.batch_size)

    def lookups_within(self, time: timedelta) -> int:
        """How many look-ups the account's windows allow in so long."""
        windows = limits_of(self.provider, self.settings).windows
        calls = min(window.most / window.seconds for window in windows) * time.total_seconds()
        return int(calls * self.batch_size)

    @property
    def lease(self) -> timedelta:
        """How long a claim holds: one request's time-out twice, and a minute for the rest."""
        return timedelta(seconds=2 * self.settings.timeout_seconds + 60)

    @property
    def has_key(self) -> bool:
        """Whether the environment holds the key that leads.yaml names, if it names one."""
        try:
            if self.settings.key is not None:
                self.settings.key.resolve()
        except ConfigError:
            return False
        return True

    def trouble(self, *, now: datetime) -> Trouble | None:
        """Why it cannot be asked now, or ``None``. Takes nothing: a probe that is due is no trouble."""
        if not self.has_key:
            return Trouble("no_key")
        with self._engine.connect() as connection:
            found = breaker.read_breakers(connection, self.name)
            affordable = self.affordable(connection, now=now)
        if found and found[0].next_probe_at is not None and found[0].next_probe_at > now:
            return Trouble("breaker", found[0].next_probe_at)
        if not affordable:
            return Trouble("budget")
        answer = self._limiter.peek()
        if isinstance(answer, Grant):
            return None
        if answer.reason is not WaitReason.DAILY and answer.seconds <= LONGEST_WAIT_SECONDS:
            return None
        return Trouble(answer.reason, now + timedelta(seconds=answer.seconds))

    def affordable(self, connection: sa.Connection, *, now: datetime) -> dict[int, int]:
        """The tiers (as places in leads.yaml) for which the budgets still pay, each with how many look-ups at most."""
        spend = books.spend_of(connection, self.name, self.settings, now=now)
        found: dict[int, int] = {}
        for place, tier in enumerate(self._tiers.values()):
            left = books.affordable(spend, self.settings, kept_back=tier.budget_reserve)
            if left is None or left > 0:
                found[place] = _ANY_NUMBER if left is None else left
        return found

    def room(self, *, now: datetime) -> int:
        """How many calls may be under way. Of an account whose breaker is open it is one, its probe, for one caller."""
        with self._engine.begin() as connection:
            found = breaker.read_breakers(connection, self.name)
            if not found or found[0].state is breaker.BreakerState.CLOSED:
                return self.provider.quirks.in_flight
            return int(breaker.may_send(connection, self.name, policy=self._policy, now=now))

    def gate(self, *, deadline: float, stopping: threading.Event) -> Gate:
        """Where callers wait for the account's windows, until ``deadline`` on the clock's monotonic seconds."""
        return Gate(self._limiter, clock=self._clock, deadline=deadline, stopping=stopping)

    def open_call(
        self, connection: sa.Connection, lookups: int, *, urgency: int, batch_id: UUID, runner_id: str
    ) -> Call | Trouble:
        """Write a call down before it is sent, unless the breaker, the budget or the calls under way forbid it.

        ``urgency``: of the least urgent subject in it.
        """
        now = self._clock.now()
        found = breaker.read_breakers(connection, self.name)
        if found and found[0].state is breaker.BreakerState.OPEN:  # it has opened since the claim
            return Trouble("breaker")
        tier = list(self._tiers.values())[urgency]
        call = Call(
            call_id=uuid7(now),
            provider=self.name,
            kind=str(self.provider.quirks.kind),
            lookups=lookups,
            cost_micros=lookups * books.micros(self.settings.cost_per_lookup),
            sent_at=now,
        )
        written = books.reserve(
            connection,
            call,
            self.settings,
            kept_back=tier.budget_reserve,
            batch_id=batch_id,
            runner_id=runner_id,
            now=now,
        )
        if not written:
            return Trouble("budget")
        # The day's row is locked by now: nobody counts beside us.
        if books.in_flight(connection, self.name, since=now - self.lease) > self.provider.quirks.in_flight:
            return Trouble("busy")
        return call

    def close_call(self, connection: sa.Connection, call: Call, answer: ProviderAnswer, *, lookups: int) -> None:
        """Write an answer into the books, and into the breaker what it says of the account."""
        now = self._clock.now()
        if answer.outcome is Outcome.POLL and answer.poll_reference is not None:
            books.write_poll(connection, call.call_id, reference=answer.poll_reference, http_status=answer.http_status)
            breaker.succeeded(connection, self.name, now=now)
            return
        books.write_answer(
            connection,
            call,
            self.settings,
            outcome=answer.outcome,
            http_status=answer.http_status,
            billed=_billed(answer, lookups),
            now=now,
        )
        if answer.outcome in FAILURES:
            breaker.failed(connection, self.name, reason=answer.outcome, policy=self._policy, now=now)
        elif answer.outcome in ACCOUNT_WIDE - {Outcome.THROTTLED}:
            breaker.failed(connection, self.name, reason=answer.outcome, policy=_AtOnce(), now=now)
        elif answer.outcome is not Outcome.THROTTLED:
            breaker.succeeded(connection, self.name, now=now)

    def answered(self, gate: Gate, entry: Entry, answer: ProviderAnswer) -> None:
        """Tell the limiter what the answer says about the account's windows.

        When it came says nothing: a provider may take a minute to look up what it received at once.
        """
        if answer.outcome is Outcome.THROTTLED:
            pause = self.provider.quirks.block_seconds if answer.retry_after is None else answer.retry_after
            gate.answered(entry, pause_seconds=pause, until_midnight=answer.until_midnight)


def limits_of(provider: Provider, settings: ProviderSettings) -> RequestLimits:
    """The vendor's windows, unless leads.yaml says another number of calls a minute."""
    quirks = provider.quirks
    windows = quirks.windows
    if settings.calls_per_minute is not None:
        windows = (WindowLimit(requests=settings.calls_per_minute, seconds=60),)
    daily = None if quirks.daily is None else DailyLimit(requests=quirks.daily, time_zone=settings.budget.time_zone)
    return RequestLimits(windows=windows, daily=daily, in_flight=min(quirks.in_flight, 64))


def margin_of(limits: RequestLimits) -> timedelta:
    """How much later than its grant a request may reach the vendor without being counted wrongly."""
    shortest = min(window.seconds for window in limits.windows)
    return timedelta(seconds=min(_LONGEST_MARGIN_SECONDS, shortest / 10))


def _billed(answer: ProviderAnswer, lookups: int) -> int:
    """What is taken to be paid: where nobody knows, all of it."""
    if answer.outcome is Outcome.LOST:
        return lookups
    if answer.outcome is not Outcome.ANSWERED:
        return answer.billed or 0
    # Whom the answer leaves out may have been paid for, under another spelling.
    left_out = max(0, lookups - len(answer.verdicts))
    return left_out + (len(answer.verdicts) if answer.billed is None else answer.billed)
