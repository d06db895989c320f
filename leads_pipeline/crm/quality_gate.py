"""The quality gates in front of deliveries: whose contacts wait, and what goes on at a closed gate.

A gate holds what would be sent about a contact. Archives, erasures and withdrawals of consent take something away from
the CRM: they go on, and are looked for at closed gates too. Keep out: what closes a gate (``storage.quality_gates``).
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from leads_pipeline.clock import Clock
from leads_pipeline.config import Settings
from leads_pipeline.domain.sending_gate import GateRule
from leads_pipeline.domain.stage import Lane, Operation
from leads_pipeline.storage.outbox_queues import removals_due, withdrawals_due
from leads_pipeline.storage.quality_gates import Gates, gate_rules, gates_now

READ_SECONDS = 1.0

_Door = tuple[str, str, Lane]


class GateWatch:
    """Which gates are closed, read anew once a second at most; threads may share it."""

    def __init__(self, engine: sa.Engine, *, settings: Settings, clock: Clock) -> None:
        self._engine = engine
        self._rules = gate_rules(settings)
        self._clock = clock
        self._lock = threading.Lock()
        self._read_at: float | None = None
        self._gates = Gates()

    def passes(self, tenant: str, lane: Lane) -> bool:
        """Whether the contacts of a tenant's lane may be sent, as of a second ago."""
        with self._lock:
            at = self._clock.monotonic()
            if self._read_at is None or at - self._read_at >= READ_SECONDS:
                with self._engine.connect() as connection:
                    self._gates = self.read(connection, now=self._clock.now())
                self._read_at = at
            return self._gates.passes(tenant, lane)

    def read(self, connection: sa.Connection, *, now: datetime) -> Gates:
        """Which gates are closed now, in the caller's transaction."""
        return gates_now(connection, self._rules, now=now)


@dataclass(frozen=True, slots=True)
class Doors:
    """The doors of deliveries: where contacts may be sent, and where a gate holds them back."""

    opened: list[_Door]
    held: list[_Door]


def split_doors(connection: sa.Connection, doors: Sequence[_Door], *, settings: Settings, now: datetime) -> Doors:
    """Which of these doors are held by a gate."""
    gates = gates_now(connection, gate_rules(settings), now=now)
    held = [door for door in doors if not gates.passes(door[0], door[2])]
    return Doors([door for door in doors if door not in held], held) if held else Doors(list(doors), [])


def anything_goes_on(
    connection: sa.Connection, held: Sequence[_Door], *, settings: Settings, now: datetime
) -> set[str]:
    """The destinations to which something is due at a held door that no gate holds back."""
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
