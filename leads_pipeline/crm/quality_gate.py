"""What stands in front of deliveries: whose contacts wait, and what goes on all the same.

A quality gate, and a rule that pauses a lane or a destination, hold what would be sent about a contact. Archives,
erasures and withdrawals of consent take something away from the CRM: they go on, and are looked for where the rest is
held too. Keep out: what closes a gate (``storage.quality_gates``), what orders a pause (``domain.policies``).
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

import sqlalchemy as sa

from leads_pipeline.clock import Clock
from leads_pipeline.config import Settings
from leads_pipeline.domain.orders import NO_ORDERS, Orders
from leads_pipeline.domain.sending_gate import GateRule
from leads_pipeline.domain.stage import Lane, Operation
from leads_pipeline.storage.orders import orders_in_force
from leads_pipeline.storage.outbox_queues import removals_due, withdrawals_due
from leads_pipeline.storage.quality_gates import Gates, gate_rules, gates_now

READ_SECONDS = 1.0

_Door = tuple[str, str, Lane]


@dataclass(frozen=True, slots=True)
class Holds:
    """The gates that are closed and the pauses that are ordered."""

    gates: Gates = field(default_factory=Gates)
    orders: Orders = NO_ORDERS

    def passes(self, tenant: str, lane: Lane, destination: str) -> bool:
        """Whether the contacts of a tenant's lane may be sent to a destination."""
        return self.gates.passes(tenant, lane) and not self.orders.pauses(tenant, lane, destination)


class GateWatch:
    """Which gates are closed and what is paused, read anew once a second at most; threads may share it."""

    def __init__(self, engine: sa.Engine, *, settings: Settings, clock: Clock) -> None:
        self._engine = engine
        self._rules = gate_rules(settings)
        self._clock = clock
        self._lock = threading.Lock()
        self._read_at: float | None = None
        self._holds = Holds()

    def passes(self, tenant: str, lane: Lane, destination: str) -> bool:
        """Whether the contacts of a tenant's lane may be sent to a destination, as of a second ago."""
        with self._lock:
            at = self._clock.monotonic()
            if self._read_at is None or at - self._read_at >= READ_SECONDS:
                with self._engine.connect() as connection:
                    self._holds = self.read(connection, now=self._clock.now())
                self._read_at = at
            return self._holds.passes(tenant, lane, destination)

    def read(self, connection: sa.Connection, *, now: datetime) -> Holds:
        """What is held now, in the caller's transaction."""
        return Holds(gates_now(connection, self._rules, now=now), orders_in_force(connection, now=now))


@dataclass(frozen=True, slots=True)
class Doors:
    """The doors of deliveries: where contacts may be sent, and where a gate or a rule holds them back."""

    opened: list[_Door]
    held: list[_Door]


def split_doors(connection: sa.Connection, doors: Sequence[_Door], *, settings: Settings, now: datetime) -> Doors:
    """Which of these doors are held by a gate or a rule."""
    holds = Holds(gates_now(connection, gate_rules(settings), now=now), orders_in_force(connection, now=now))
    held = [(tenant, name, lane) for tenant, name, lane in doors if not holds.passes(tenant, lane, name)]
    return Doors([door for door in doors if door not in held], held) if held else Doors(list(doors), [])


def anything_goes_on(
    connection: sa.Connection, held: Sequence[_Door], *, settings: Settings, now: datetime
) -> set[str]:
    """The destinations to which something is due at a held door that nothing holds back."""
    found = set()
    for destination in dict.fromkeys(name for _tenant, name, _lane in held):
        queues = [(tenant, lane) for tenant, name, lane in held if name == destination]
        tenants, lanes = {tenant for tenant, _lane in queues}, list(dict.fromkeys(lane for _tenant, lane in queues))
        removals = any(
            removals_due(
                connection, destination=destination, lanes=lanes, tenants=tenants, operation=operation, most=1, now=now
            )
            for operation in (Operation.ARCHIVE, Operation.ERASE)
        )
        rule = GateRule(**settings.destinations[destination].gate.model_dump())
        if removals or withdrawals_due(connection, queues, destination=destination, rule=rule, most=1, now=now):
            found.add(destination)
    return found
