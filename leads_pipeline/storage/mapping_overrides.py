"""What persons changed about the mapping that leads.yaml states, property by property; history is kept."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from leads_pipeline.domain.ids import uuid7
from leads_pipeline.storage.schema import mapping_overrides


@dataclass(frozen=True, slots=True)
class MappingOverride:
    """Another rule for one property; an empty ``rule`` leaves the property out."""

    property: str
    rule: Mapping[str, Any]
    actor: str
    reason: str | None
    made_at: datetime


def current_overrides(connection: sa.Connection, destination: str) -> list[MappingOverride]:
    """What holds now for a destination."""
    columns = [mapping_overrides.c[name] for name in MappingOverride.__dataclass_fields__]
    statement = (
        sa.select(*columns)
        .where(mapping_overrides.c.destination == destination, mapping_overrides.c.withdrawn_at.is_(None))
        .order_by(mapping_overrides.c.property)
    )
    return [MappingOverride(**row) for row in connection.execute(statement).mappings()]


def write_override(connection: sa.Connection, destination: str, override: MappingOverride) -> None:
    """Have this rule hold for its property; one that held before is withdrawn."""
    withdraw_override(connection, destination, override.property, actor=override.actor, now=override.made_at)
    connection.execute(
        mapping_overrides.insert().values(
            override_id=uuid7(override.made_at),
            destination=destination,
            property=override.property,
            rule=dict(override.rule),
            actor=override.actor,
            reason=override.reason,
            made_at=override.made_at,
        )
    )


def withdraw_override(connection: sa.Connection, destination: str, name: str, *, actor: str, now: datetime) -> bool:
    """Let the property be mapped as leads.yaml says again; ``False`` if it is."""
    updated = connection.execute(
        mapping_overrides.update()
        .where(
            mapping_overrides.c.destination == destination,
            mapping_overrides.c.property == name,
            mapping_overrides.c.withdrawn_at.is_(None),
        )
        .values(withdrawn_at=now, withdrawn_by=actor)
    )
    return updated.rowcount == 1
