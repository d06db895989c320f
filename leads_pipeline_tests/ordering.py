"""Orders in force, as a rule would have given them."""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from leads_pipeline.domain.ids import uuid7
from leads_pipeline.storage.policies import NewAction, begin_action


def order(
    engine: sa.Engine,
    action: str,
    *,
    now: datetime,
    tenant: str | None = None,
    lane: str | None = None,
    destination: str | None = None,
    minutes: float = 60,
    **parameters: Any,
) -> UUID:
    """Have something ordered for so many minutes."""
    action_id = uuid7(now)
    told = NewAction("a_rule", str(action_id), action, tenant, lane, destination, "test", parameters, {})
    with engine.begin() as connection:
        begin_action(connection, told, action_id=action_id, now=now, ends_at=now + timedelta(minutes=minutes))
    return action_id


def end_orders(engine: sa.Engine, *, now: datetime) -> None:
    """Have nothing ordered any more."""
    with engine.begin() as connection:
        connection.execute(sa.text("update policy_actions set ended_at = :now where ended_at is null"), {"now": now})
