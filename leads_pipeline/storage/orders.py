"""Orders that are in force, for those who obey them: one small read by the index of open actions.

Whoever works for long asks an ``OrdersWatch``, which reads at most once a second: never once a lead. Keep out: writing
them (``policies``).
"""

import threading
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from leads_pipeline.clock import Clock
from leads_pipeline.domain.orders import NO_ORDERS, ActionKind, Order, Orders
from leads_pipeline.domain.stage import Lane
from leads_pipeline.telemetry import get_logger

log = get_logger(__name__)

READ_SECONDS = 1.0

_IN_FORCE = sa.text(
    """
    select action_id, policy, action, ends_at, tenant, lane, destination, parameters from policy_actions
    where ended_at is null and ends_at > :now and not parameters ? 'dry_run'
    order by began_at, action_id
    """
)

# What the door is ordered to refuse: all that its role may read of orders, for a driver without SQLAlchemy.
REFUSALS_IN_FORCE = """
    select action_id, policy, ends_at, tenant from policy_actions
    where ended_at is null and ends_at > %(now)s and action = 'refuse_batch' and not parameters ? 'dry_run'
"""

_KNOWN = frozenset(ActionKind)


def orders_in_force(connection: sa.Connection, *, now: datetime) -> Orders:
    """What rules have ordered, as of ``now``."""
    return Orders(
        tuple(
            Order(
                action_id=row.action_id,
                policy=row.policy,
                action=ActionKind(row.action),
                ends_at=row.ends_at,
                tenant=row.tenant,
                lane=None if row.lane is None else Lane(row.lane),
                destination=row.destination,
                parameters=row.parameters,
            )
            for row in connection.execute(_IN_FORCE, {"now": now})
            if row.action in _KNOWN  # one of a newer version's is nothing that this one could obey
        )
    )


def refusals(rows: Iterable[Sequence[Any]]) -> Orders:
    """The rows of ``REFUSALS_IN_FORCE`` as orders."""
    return Orders(
        tuple(
            Order(action_id, policy, ActionKind.REFUSE_BATCH, ends_at, tenant)
            for action_id, policy, ends_at, tenant in rows
        )
    )


class OrdersWatch:
    """The orders in force, read anew once a second at most; threads may share it.

    While they cannot be read those that are known stand, each until its own end: an order ends also if nobody can say
    so.
    """

    def __init__(self, engine: sa.Engine, *, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock
        self._lock = threading.Lock()
        self._read_at: float | None = None
        self._orders = NO_ORDERS

    def now(self) -> Orders:
        """What is ordered now."""
        with self._lock:
            at = self._clock.monotonic()
            if self._read_at is None or at - self._read_at >= READ_SECONDS:
                self._read_at = at
                self._read()
            return self._orders.at(self._clock.now())

    def _read(self) -> None:
        try:
            with self._engine.connect() as connection:
                self._orders = orders_in_force(connection, now=self._clock.now())
        except sa.exc.SQLAlchemyError as error:
            log.warning("orders_unreadable", error_type=type(error).__name__)
