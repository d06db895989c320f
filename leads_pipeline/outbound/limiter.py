"""How often an account may be asked, for all processes together.

One row of ``rate_limits`` per account; its lock is the queue. Under the lock the database's clock is read (processes'
clocks differ), a sliding log per window is checked, and the grant is written. Nothing sleeps while it holds the lock: a
caller is told how long to wait.

A token bucket whose burst is the limit lets through up to twice the limit in one window (measured: 199 of 100), which a
CRM with sliding windows answers with 429s; a log does not. The log is kept in slots of 1/500 of its window, so its cost
depends on neither the limit nor the history.

A window may also be one of the clock's (``by_the_clock``): some vendors count from each full minute. A limiter that is
told to ``spread`` spaces its grants evenly: after a burst, whoever comes next waits for the window's end, and that may
be the lead that matters most.

A request reaches the CRM later than its grant was stamped. ``MARGIN`` covers that for quick answers; a slow one must be
reported as ``late``, which moves its stamp to the answer: the request cannot have come in after that.

Keep out: the decision (``decision``, ``windows``), what answers teach (``answers``, ``foreign_use``), the row
(``limiter_state``).
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import sqlalchemy as sa

from leads_pipeline.clock import Clock
from leads_pipeline.config import RequestLimits
from leads_pipeline.domain.quota_budget import NO_FORECAST, BudgetPlan, Forecast, allowances, tightest
from leads_pipeline.domain.stage import ALL_LANES, Lane
from leads_pipeline.outbound import answers
from leads_pipeline.outbound.decision import budgets, decide
from leads_pipeline.outbound.grants import ANY_REQUEST, EXPIRES_AFTER, MARGIN, Ask, Grant, Seen, Wait, WaitReason
from leads_pipeline.outbound.limiter_state import (
    API,
    SLOTS_PER_WINDOW,
    LimiterState,
    LockedRow,
    held_too_long,
    lock,
    look,
    save,
)
from leads_pipeline.outbound.windows import current_scale
from leads_pipeline.telemetry import get_logger

__all__ = [
    "ANY_REQUEST",
    "MARGIN",
    "SLOTS_PER_WINDOW",
    "Ask",
    "Grant",
    "Limiter",
    "LimiterState",
    "Seen",
    "Wait",
    "WaitReason",
    "decide",
]

log = get_logger(__name__)

# After the row could not be locked for ten seconds.
_BUSY_SECONDS = 1.0
# So often is tried to write when a late request came in: without that its window would end too early for everybody.
_LATE_ATTEMPTS = 3


class Limiter:
    """The limiter of one account. Safe to share between threads; holds no state of its own."""

    def __init__(
        self,
        engine: sa.Engine,
        *,
        account: str,
        limits: RequestLimits,
        endpoint_class: str = API,
        margin: timedelta = MARGIN,
        spread: bool = False,
        clock: Clock | None = None,
        forecast: Callable[[], Forecast] | None = None,
        expires_after: timedelta = EXPIRES_AFTER,
    ) -> None:
        """``endpoint_class``: the name of the row, for an account whose classes share nothing.

        ``clock``: a simulation's, which is then asked instead of the database's. ``forecast``: how many requests each
        lane will need until the quota resets; asked for whenever a lane is, so it should remember. ``expires_after``:
        when a request that nobody reported as answered is no longer taken to be under way: its time-out, and a bit.
        """
        self._engine = engine
        self._key = (account, endpoint_class)
        self._limits = limits
        self._margin = margin
        self._spread = spread
        self._clock = clock
        self._forecast = forecast
        self._expires_after = expires_after
        self.account = account
        self.margin_seconds = margin.total_seconds()

    def acquire(self, ask: Ask = ANY_REQUEST) -> Grant | Wait:
        """Ask for one request. Commits at once: a grant is spent even if its holder dies.

        Raises:
            ConfigError: no window could ever hold the request.
        """
        forecast = self._forecast_for(ask.lane)
        try:
            with self._engine.begin() as connection:
                row = self._lock(connection)
                answer, state = self._decide(row, ask, forecast)
                if isinstance(answer, Wait):
                    return answer
                save(connection, *self._key, before=row.state, now=state)
        except sa.exc.OperationalError as error:
            if held_too_long(error):
                return Wait(_BUSY_SECONDS, WaitReason.BUSY)
            raise
        return answer

    def peek(self, ask: Ask = ANY_REQUEST) -> Grant | Wait:
        """What ``acquire`` would say. Takes no grant and no lock, so it may be wrong a moment later."""
        forecast = self._forecast_for(ask.lane)
        return self._decide(self._look(), ask, forecast)[0]

    def plan(self, forecast: Forecast = NO_FORECAST) -> BudgetPlan:
        """What is left of the day's quota, for whom, and until when; takes nothing."""
        row = self._look()
        found = budgets(row.state, now=row.now, limits=self._limits)
        paused = row.state.paused_until
        scale = current_scale(row.state, now=row.now, limits=self._limits)
        ahead = paused if paused is not None and paused > row.now else None
        if not found:
            return BudgetPlan(None, {}, ahead, scale)
        told = tightest(found)
        shares = [
            allowances(budget, share=self._limits.reserve, forecast=forecast)
            for budget in found
            if budget.unit is told.unit
        ]
        return BudgetPlan(told, {lane: min(share[lane] for share in shares) for lane in ALL_LANES}, ahead, scale)

    def answered(self, grant: Grant, seen: Seen) -> None:
        """Report an answer, or that none came. Needed where it says something, or where requests under way are limited.

        What it says is written in one transaction, and nothing is written, nor locked, if it changes nothing.
        """
        if seen == Seen() and not self._counts_under_way:
            return

        def after(row: LockedRow) -> LimiterState:
            return answers.after_answer(row.state, grant, seen, now=row.now, limits=self._limits)

        if not (seen.late or self._counts_under_way):
            row = self._look()
            if after(row) == row.state:
                return  # as most answers do where nobody else is; others wait for the row
        self._write("answered", after, attempts=_LATE_ATTEMPTS if seen.late else 1)

    def arrived(self, grant: Grant) -> bool:
        """Move the grant's stamp to now: call it when the request left, or was answered, later than the margin.

        ``False``: somebody stands still with the row, and nothing was written.
        """
        return self._write("arrived", lambda row: answers.arrived(row.state, grant, now=row.now, limits=self._limits))

    def give_back(self, grant: Grant) -> None:
        """Undo a grant for which nothing was sent."""
        self._write("give_back", lambda row: answers.given_back(row.state, grant, limits=self._limits))

    def _write(self, doing: str, after: Callable[[LockedRow], LimiterState], *, attempts: int = 1) -> bool:
        """Write what the row is to remember, or do without while somebody stands still with it; says whether.

        The answer that it is about must be settled. What was under way expires by itself, a grant that is not given
        back was one too few, and what the answer said of the quota the next one says.
        """
        for attempt in range(1, attempts + 1):
            try:
                with self._engine.begin() as connection:
                    row = self._lock(connection)
                    save(connection, *self._key, before=row.state, now=after(row))
            except sa.exc.OperationalError as error:
                if not held_too_long(error):
                    raise
                log.warning("limiter_row_held", account=self.account, doing=doing, attempt=attempt)
            else:
                return True
        return False

    @property
    def _counts_under_way(self) -> bool:
        classes = self._limits.endpoint_classes.values()
        return self._limits.shared_in_flight is not None or any(item.shared_in_flight is not None for item in classes)

    def _forecast_for(self, lane: Lane | None) -> Forecast:
        # Not under the row's lock: it asks the database.
        if self._forecast is None or lane is None or lane is ALL_LANES[0]:
            return NO_FORECAST
        return self._forecast()

    def _decide(self, row: LockedRow, ask: Ask, forecast: Forecast) -> tuple[Grant | Wait, LimiterState]:
        answer, state = decide(
            row.state,
            now=row.now,
            limits=self._limits,
            ask=ask,
            forecast=forecast,
            margin=self._margin,
            spread=self._spread,
            expires_after=self._expires_after,
        )
        if isinstance(answer, Grant) and self._clock is None:
            answer = replace(answer, waited_seconds=row.waited_seconds)
        return answer, state

    def _lock(self, connection: sa.Connection) -> LockedRow:
        row = lock(connection, *self._key)
        return row._replace(now=self._clock.now()) if self._clock else row

    def _look(self) -> LockedRow:
        with self._engine.connect() as connection:
            row = look(connection, *self._key)
        return row._replace(now=self._clock.now()) if self._clock else row
