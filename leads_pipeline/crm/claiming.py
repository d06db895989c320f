"""Which contacts of one destination go in its next request.

Looked up again and again while a run lasts, so that what comes in the meantime takes its turn at once. Archives go
first, because a contact that was merged away may hold its survivor's e-mail; then the lane whose turn it is, its
tenants in turns. What is left of a request's room is given to the other lanes: it would go empty. Nothing waits for an
erasure, and vendors take them one by one: a few have every second turn.

Not for threads to share without a lock. Keep out: whether a request may go (``run``), and the queries (``storage``).
"""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from leads_pipeline.clock import Clock
from leads_pipeline.config import DeliverySettings
from leads_pipeline.domain.lane_shares import LaneShare, LaneShares
from leads_pipeline.domain.sending_gate import GateRule
from leads_pipeline.domain.stage import Lane, Operation
from leads_pipeline.storage.claim_owners import release_dead_claims
from leads_pipeline.storage.outbox_queues import one_per_address, pick, removals_due, waiting_queues, withdrawals_due

# What waits is looked up again after so long, or later, so that looking takes a twentieth of the time at most: each
# tenant's lane is a look of its own (measured: 22 µs).
LOOK_SECONDS = 1.0
_TIMES_THE_LOOK = 20

# So many contacts are erased in a turn: a real-time contact that comes meanwhile waits for their requests.
_ERASURES = 5


# Whether the contacts of a tenant's lane may be sent now; those that are to be taken away always may.
QueueGate = Callable[[str, Lane], bool]


def every_queue(_tenant: str, _lane: Lane) -> bool:
    """A gate that lets everything pass."""
    return True


@dataclass(frozen=True, slots=True)
class Turn:
    """Whose request is next. ``removals``: the rows of a request that takes records away.

    ``makes_room``: what may be sent after it must not be sent before it is done.
    """

    lane: Lane
    removals: tuple[int, ...] = ()
    makes_room: bool = False


class Claims:
    """The queues of one destination, and whose turn it is."""

    def __init__(
        self,
        engine: sa.Engine,
        destination: str,
        *,
        lanes: Sequence[Lane],
        tenants: Collection[str],
        size: int,
        settings: DeliverySettings,
        clock: Clock,
        passes: QueueGate = every_queue,
        rule: GateRule | None = None,
    ) -> None:
        """``tenants``: those that deliver there. ``size``: rows in a request. ``passes``: whose queues may go now.

        ``rule``: what consent the destination asks for. Who has withdrawn it is let through where a queue may not go.
        """
        self._engine = engine
        self._destination = destination
        self._lanes = tuple(lanes)
        self._tenants = frozenset(tenants)
        self._size = size
        self._clock = clock
        self._passes = passes
        self._rule = rule
        self._shares = lane_shares(settings)
        self._look_at: float | None = None
        self._oldest: dict[Lane, dict[str, datetime]] = {}
        self._archives: list[tuple[int, Lane]] = []
        self._erasures: list[tuple[int, Lane]] = []
        self._erased_last = True  # what is to be sent has the first turn
        self._without: frozenset[Lane] = frozenset()
        self._last: dict[Lane, str] = {}

    def next(self, *, without: Collection[Lane] = ()) -> Turn | None:
        """Whose turn it is, of the lanes that are not ``without``; ``None``: nothing waits."""
        now = self._clock.monotonic()
        self._without = frozenset(without)
        fresh = self._look_at is None or now >= self._look_at
        if fresh:
            self._look()
        turn = self._choose(without)
        if turn is None and not fresh:
            self._look()
            turn = self._choose(without)
        return turn

    def pick(self, connection: sa.Connection, turn: Turn, *, now: datetime) -> list[int]:
        """The rows of the turn's request, locked for the transaction; none if others have been quicker.

        None either if a record is to be taken away that was not when the turn was chosen: one of the rows may be the
        survivor of a merge, which the CRM refuses for as long as the other record holds its address.
        """
        if turn.removals:
            if turn.makes_room:
                self._archives = []
            else:
                self._erasures, self._erased_last = [], True
            return list(turn.removals)
        self._erased_last = False
        waiting = self._ages(now)
        picked: dict[int, str] = {}
        if turn.lane in waiting and self._shares.takes_fresh(turn.lane, waiting[turn.lane]):
            self._fill(connection, picked, turn.lane, fresh=True, now=now)
        for lane in (turn.lane, *(lane for lane in self._lanes if lane is not turn.lane)):
            self._fill(connection, picked, lane, fresh=False, now=now)
        chosen = list(picked)[: self._size]
        # After the rows were read: whatever they are for was committed with the removals that go first.
        self._archives = self._due(connection, Operation.ARCHIVE, now=now)
        if any(lane not in self._without for _outbox_id, lane in self._archives):
            return []
        if chosen and turn.lane in waiting:
            self._shares.charge(turn.lane, waiting)
        if len({picked[outbox_id] for outbox_id in chosen}) > 1:
            chosen = one_per_address(connection, chosen)
        return chosen

    def _look(self) -> None:
        now, began_at = self._clock.now(), self._clock.monotonic()
        what = self._served(now)
        with self._engine.begin() as connection:
            release_dead_claims(connection, now=now)
            queues = waiting_queues(connection, **what)
            self._archives = self._due(connection, Operation.ARCHIVE, now=now)
            passing = [queue for queue in queues if self._passes(queue.tenant, queue.lane)]
            held = [(queue.tenant, queue.lane) for queue in queues if queue not in passing]
            self._erasures = [
                *self._withdrawals(connection, held, now=now),
                *self._due(connection, Operation.ERASE, now=now),
            ]
        ended_at = self._clock.monotonic()
        self._look_at = ended_at + max(LOOK_SECONDS, _TIMES_THE_LOOK * (ended_at - began_at))
        self._oldest = {lane: {} for lane in self._lanes}
        for queue in passing:
            self._oldest[queue.lane][queue.tenant] = queue.oldest_due

    def _withdrawals(
        self, connection: sa.Connection, held: Sequence[tuple[str, Lane]], *, now: datetime
    ) -> list[tuple[int, Lane]]:
        if self._rule is None or not held:
            return []
        return withdrawals_due(
            connection, held, destination=self._destination, rule=self._rule, most=min(self._size, _ERASURES), now=now
        )

    def _served(self, now: datetime) -> dict[str, Any]:
        return {"destination": self._destination, "lanes": self._lanes, "tenants": self._tenants, "now": now}

    def _due(self, connection: sa.Connection, operation: Operation, *, now: datetime) -> list[tuple[int, Lane]]:
        most = min(self._size, _ERASURES) if operation is Operation.ERASE else self._size
        return removals_due(connection, operation=operation, most=most, **self._served(now))

    def _choose(self, without: Collection[Lane]) -> Turn | None:
        archives = _removing(self._archives, without, makes_room=True)
        if archives is not None:
            return archives
        erasures = _removing(self._erasures, without, makes_room=False)
        waiting = {lane: age for lane, age in self._ages(self._clock.now()).items() if lane not in without}
        if erasures is not None and not (waiting and self._erased_last):
            return erasures
        return Turn(self._shares.choose(waiting)) if waiting else None

    def _ages(self, now: datetime) -> dict[Lane, timedelta]:
        return {lane: now - min(tenants.values()) for lane, tenants in self._oldest.items() if tenants}

    def _fill(
        self, connection: sa.Connection, picked: dict[int, str], lane: Lane, *, fresh: bool, now: datetime
    ) -> None:
        """Add rows of ``lane`` until the request is full, the same number of each tenant as far as they have them."""
        queues = self._oldest.get(lane, {})
        room = self._size - len(picked)
        tenants = self._in_turn(lane)[:room]
        shares = {tenant: room // len(tenants) + (place < room % len(tenants)) for place, tenant in enumerate(tenants)}
        while shares:
            found = pick(connection, destination=self._destination, lane=lane, shares=shares, fresh=fresh, now=now)
            picked.update(found)
            counts = Counter(tenant for _outbox_id, tenant in found)
            if found:
                self._last[lane] = found[-1][1]
            full = [tenant for tenant, share in shares.items() if counts[tenant] >= share]
            if not fresh:
                for tenant in shares.keys() - set(full):
                    queues.pop(tenant, None)
            left = self._size - len(picked)
            shares = {tenant: shares[tenant] + -(-left // len(full)) for tenant in full} if left > 0 else {}
            if fresh:
                return

    def _in_turn(self, lane: Lane) -> list[str]:
        """The lane's tenants, the one after the last that was served first."""
        tenants = sorted(self._oldest.get(lane, {}))
        last = self._last.get(lane)
        if last is None:
            return tenants
        return [name for name in tenants if name > last] + [name for name in tenants if name <= last]


def _removing(rows: Sequence[tuple[int, Lane]], without: Collection[Lane], *, makes_room: bool) -> Turn | None:
    """The turn of what is to be taken away, without these lanes; ``None`` if that is nothing."""
    served = [(outbox_id, lane) for outbox_id, lane in rows if lane not in without]
    if not served:
        return None
    most_urgent = min((lane for _outbox_id, lane in served), key=list(Lane).index)
    return Turn(most_urgent, tuple(outbox_id for outbox_id, _lane in served), makes_room)


def lane_shares(settings: DeliverySettings) -> LaneShares:
    """The lanes' parts as leads.yaml has them."""
    parts: Mapping[Lane, LaneShare] = {
        Lane(name): LaneShare(item.weight, item.floor, timedelta(seconds=item.ageing_seconds))
        for name, item in settings.lanes.items()
    }
    return LaneShares(parts, fresh_share=settings.fresh_share, backlog=timedelta(seconds=settings.backlog_seconds))
