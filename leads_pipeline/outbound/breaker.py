"""When a vendor that fails is left alone: one circuit breaker per account, its state shared by all processes.

Closed until ``failures`` in a row; then open: nothing is sent for a pause. When it has passed, one caller of all
processes may probe (libraries let all that wait through at once: measured). A probe that succeeds closes it, one that
fails doubles the pause; what was sent before it opened and fails later does not. A probe whose caller died is given to
another after the pause.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol

import sqlalchemy as sa


class BreakerPolicy(Protocol):
    """What ``config.BreakerSettings`` says."""

    @property
    def failures(self) -> int: ...
    @property
    def pause_seconds(self) -> float: ...
    @property
    def max_pause_seconds(self) -> float: ...


class BreakerState(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    PROBING = "probing"


@dataclass(frozen=True, slots=True)
class Breaker:
    """One breaker as it stands. ``next_probe_at``: before it nothing is sent, ``None`` while closed."""

    name: str
    state: BreakerState
    failures: int
    reason: str | None
    opened_at: datetime | None
    next_probe_at: datetime | None


_PROBE = sa.text(
    """
    update circuit_breakers
    set state = 'probing', next_probe_at = cast(:now as timestamptz) + cast(:pause as interval), updated_at = :now
    where name = :name and state <> 'closed' and next_probe_at <= :now
    returning name
    """
)
_READ = sa.text(
    "select name, state, failures, reason, opened_at, next_probe_at from circuit_breakers "
    "where cast(:name as text) is null or name = :name order by name"
)
_CLOSE = sa.text(
    """
    update circuit_breakers
    set state = 'closed', failures = 0, reason = null, opened_at = null, next_probe_at = null, updated_at = :now
    where name = :name and (state <> 'closed' or failures > 0)
    """
)
_FAIL = sa.text(
    """
    insert into circuit_breakers as b (name, state, failures, reason, opened_at, next_probe_at, updated_at)
    values (
        :name, case when :most <= 1 then 'open' else 'closed' end, 1, :reason,
        case when :most <= 1 then cast(:now as timestamptz) end,
        case when :most <= 1 then cast(:now as timestamptz) + cast(:pause as interval) end, :now
    )
    on conflict (name) do update set
        failures = b.failures + case when b.state = 'open' then 0 else 1 end,
        reason = excluded.reason,
        state = case when b.state <> 'closed' or b.failures + 1 >= :most then 'open' else 'closed' end,
        opened_at = case
            when b.state <> 'closed' then b.opened_at
            when b.failures + 1 >= :most then cast(:now as timestamptz) end,
        next_probe_at = case
            when b.state = 'open' then b.next_probe_at
            when b.state = 'probing' or b.failures + 1 >= :most
            then cast(:now as timestamptz) + least(
                cast(:pause as interval) * power(2, least(greatest(b.failures + 1 - :most, 0), 30)),
                cast(:max_pause as interval)
            ) end,
        updated_at = :now
    returning state
    """
)


def may_send(connection: sa.Connection, name: str, *, policy: BreakerPolicy, now: datetime) -> bool:
    """Whether a request may go out. While the breaker is open, one caller is told so when a probe is due."""
    found = read_breakers(connection, name)
    if not found or found[0].state is BreakerState.CLOSED:
        return True
    values = {"name": name, "now": now, "pause": timedelta(seconds=policy.pause_seconds)}
    return connection.execute(_PROBE, values).rowcount == 1


def succeeded(connection: sa.Connection, name: str, *, now: datetime) -> None:
    """The vendor answered: close the breaker."""
    connection.execute(_CLOSE, {"name": name, "now": now})


def failed(connection: sa.Connection, name: str, *, reason: str, policy: BreakerPolicy, now: datetime) -> BreakerState:
    """The vendor failed; says what the breaker is now. ``reason`` is a code of ours."""
    values = {
        "name": name,
        "most": policy.failures,
        "reason": reason,
        "now": now,
        "pause": timedelta(seconds=policy.pause_seconds),
        "max_pause": timedelta(seconds=policy.max_pause_seconds),
    }
    return BreakerState(connection.execute(_FAIL, values).scalar_one())


def read_breakers(connection: sa.Connection, name: str | None = None) -> list[Breaker]:
    """One breaker, or all."""
    return [
        Breaker(**{**row, "state": BreakerState(row["state"])})
        for row in connection.execute(_READ, {"name": name}).mappings()
    ]
