"""The law of conservation where leads may wait in Redis: its own ledger, and the tenants' accounts with it.

The door's counters must be what waits in Redis, what was set aside there, and what left it for PostgreSQL
(``redis_moves``). An entry that vanished by any other way breaks that sum. The two stores are read as if at one
instant: Redis, PostgreSQL, Redis again, until nothing left Redis in between. New leads do not disturb that, because
what has left is counted, not what is there.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import sqlalchemy as sa

from leads_pipeline.buffer.opening import open_redis_buffer
from leads_pipeline.config import Settings
from leads_pipeline.domain.stage import Lane, LeadState
from leads_pipeline.errors import DatabaseUnavailable, NotFound
from leads_pipeline.storage import redis_moves
from leads_pipeline.storage.conservation import Conservation, by_tenant, daily_conservation
from leads_pipeline.storage.database import translated_errors
from leads_pipeline.telemetry import get_logger

if TYPE_CHECKING:
    from leads_pipeline.buffer.redis_entries import Snapshot
    from leads_pipeline.buffer.redis_streams import RedisBuffer

# Between two reads of Redis lie milliseconds, and a worker acknowledges a dozen times a second.
_ATTEMPTS = 100

_Place = tuple[str, Lane]


@dataclass(frozen=True, slots=True)
class Account:
    """Every tenant's account, and what is wrong with Redis' ledger, in sentences.

    ``days``: the same by day, without what is in Redis. A lead that is lost on one day and one that is doubled on
    another are two faults there and none in the sums.
    """

    tenants: tuple[Conservation, ...]
    faults: tuple[str, ...]
    days: tuple[Conservation, ...] = ()

    @property
    def conserved(self) -> bool:
        return not self.faults and all(item.conserved for item in (*self.tenants, *self.days))


def take_account(engine: sa.Engine, *, settings: Settings) -> Account:
    """Add up what became of every captured lead, in PostgreSQL and in Redis if leads.yaml names one.

    Raises:
        DatabaseUnavailable: a store cannot be reached, or never stood still.
    """
    destinations = {name: tenant.destinations for name, tenant in settings.tenants.items()}
    buffer = open_redis_buffer(settings)
    with translated_errors("adding up the states"), engine.connect() as connection:
        # One snapshot for all that is asked of PostgreSQL: the ledger is read first, the states take seconds.
        connection.execution_options(isolation_level="REPEATABLE READ")
        if buffer is None:
            faults = _faults_without_redis(connection)
            days = daily_conservation(connection, destinations=destinations)
            return Account(tuple(by_tenant(days)), faults, tuple(days))
        try:
            for _attempt in range(_ATTEMPTS):
                ledger = _read_ledger(connection, buffer)
                if ledger is not None:
                    days = daily_conservation(connection, destinations=destinations)
                    return Account(ledger.added_to(by_tenant(days)), ledger.faults(), tuple(days))
                connection.rollback()
        finally:
            buffer.close()
    raise DatabaseUnavailable("adding up the states: leads left Redis faster than they could be counted; try again")


def accept_loss(engine: sa.Engine, *, settings: Settings) -> dict[tuple[str, Lane], int]:
    """Make Redis' ledger true again after an operator has looked: what vanished is written off, and the log says so.

    Returns the leads that were written off, by tenant and lane; negative: leads that had no count.

    Raises:
        DatabaseUnavailable: a store cannot be reached, or never stood still.
        NotFound: leads.yaml names no Redis.
    """
    buffer = open_redis_buffer(settings)
    if buffer is None:
        raise NotFound(f"{settings.path} names no buffer.redis")
    try:
        with translated_errors("writing off a loss"), engine.begin() as connection:
            for _attempt in range(_ATTEMPTS):
                ledger = _read_ledger(connection, buffer)
                if ledger is not None:
                    break
            else:
                raise DatabaseUnavailable("writing off a loss: leads leave Redis meanwhile; stop the workers first")
            sources = {(move.tenant, move.lane): move.source for move in redis_moves.moves(connection)}
            sources |= {(tenant, lane): source for tenant, source, lane in ledger.redis.captured}
            written_off = {place: leads for place, leads in ledger.vanished().items() if leads}
            for (tenant, lane), leads in written_off.items():
                buffer.correct_captured(tenant, sources[tenant, lane], lane, -leads)
                get_logger(__name__).error("redis_loss_accepted", tenant=tenant, lane=lane, leads=leads)
            redis_moves.forget_incarnations(connection, but=ledger.redis.incarnation)
    finally:
        buffer.close()
    return written_off


@dataclass(frozen=True, slots=True)
class _Ledger:
    """What Redis and PostgreSQL say of each tenant and lane, at one instant."""

    redis: "Snapshot"
    left: Mapping[_Place, int]  # according to PostgreSQL: moved, or found to be known
    held: Mapping[_Place, int]  # of those, what Redis has not let go of yet
    incarnations: Sequence[str]

    def vanished(self) -> dict[_Place, int]:
        """What is neither in Redis nor left it; negative: what is in one place too many."""
        found = removed(self.redis)
        found.subtract(self.left)
        found.update(self.held)
        return dict(sorted(found.items()))

    def faults(self) -> tuple[str, ...]:
        found: list[str] = []
        if self.incarnations and self.incarnations != [self.redis.incarnation]:
            found.append(
                "the Redis buffer is not the one that it was: it was emptied or replaced, and the leads that waited in "
                "it are gone"
            )
        for (tenant, lane), leads in self.vanished().items():
            if leads > 0:
                found.append(f"{leads} leads of {tenant}, lane {lane}, vanished from Redis")
            elif leads < 0:
                found.append(f"{-leads} leads of {tenant}, lane {lane}, are not in the count that Redis keeps")
        return tuple(found)

    def added_to(self, tenants: Sequence[Conservation]) -> tuple[Conservation, ...]:
        """The accounts with what is in Redis: it was captured, and waits or was set aside."""
        accounts = {item.tenant: item for item in tenants}
        captured = _by_tenant(captured_by_place(self.redis))
        captured.subtract(_by_tenant(self.left))
        waiting = _by_tenant(self.redis.waiting)
        waiting.subtract(_by_tenant(self.held))
        aside = _by_tenant(self.redis.aside)
        for tenant in sorted({*captured, *waiting, *aside} - accounts.keys()):
            accounts[tenant] = Conservation(tenant, captured=0, states=dict.fromkeys(LeadState, 0), missing=0)
        return tuple(
            replace(
                item,
                captured=item.captured + captured[name],
                states=item.states
                | {
                    LeadState.PENDING: item.states[LeadState.PENDING] + waiting[name],
                    LeadState.DEAD: item.states[LeadState.DEAD] + aside[name],
                },
            )
            for name, item in sorted(accounts.items())
        )


def captured_by_place(snapshot: "Snapshot") -> Counter[_Place]:
    """What the door counted, by tenant and lane."""
    found: Counter[_Place] = Counter()
    for (tenant, _source, lane), leads in snapshot.captured.items():
        found[tenant, lane] += leads
    return found


def removed(snapshot: "Snapshot") -> Counter[_Place]:
    """What was captured and is not in Redis any more."""
    found = captured_by_place(snapshot)
    found.subtract(snapshot.waiting)
    found.subtract(snapshot.aside)
    return found


def _read_ledger(connection: sa.Connection, buffer: "RedisBuffer") -> _Ledger | None:
    """The ledger, or ``None`` if leads left Redis while it was read."""
    before = buffer.snapshot()
    left: Counter[_Place] = Counter()
    for move in redis_moves.moves(connection):
        left[move.tenant, move.lane] += move.moved + move.duplicates
    settled = redis_moves.unacknowledged(connection)
    incarnations = redis_moves.incarnations(connection)
    held: Counter[_Place] = Counter()
    if settled:
        held.update((tenant, lane) for tenant, lane, lead_id in buffer.taken_lead_ids() if lead_id in settled)
    after = buffer.snapshot()
    if removed(before) != removed(after) or before.incarnation != after.incarnation:
        return None
    return _Ledger(after, left, held, incarnations)


def _faults_without_redis(connection: sa.Connection) -> tuple[str, ...]:
    """Whether leads were left in a Redis that leads.yaml names no more; known is what its last chunk saw."""
    return tuple(
        f"{move.captured - move.moved - move.duplicates} leads of {move.tenant}, source {move.source}, lane "
        f"{move.lane}, waited in Redis when it was last read, and leads.yaml names no buffer.redis any more"
        for move in redis_moves.moves(connection)
        if move.captured > move.moved + move.duplicates
    )


def _by_tenant(places: Mapping[_Place, int]) -> Counter[str]:
    found: Counter[str] = Counter()
    for (tenant, _lane), leads in places.items():
        found[tenant] += leads
    return found
