"""Properties that a destination refused although its fields say that it takes them, as for want of a right to write.

They are left out of what is sent until the destination says something else of them, or a person has it checked. Keep
out: what does not fit by what a destination tells (``destination_schemas``).
"""

from collections.abc import Collection, Mapping
from datetime import datetime

import sqlalchemy as sa

from leads_pipeline.storage.schema import refused_properties


def refused_at(connection: sa.Connection, destination: str) -> dict[str, str | None]:
    """What a destination refuses, each with the code that it gave."""
    statement = sa.select(refused_properties.c.property, refused_properties.c.code).where(
        refused_properties.c.destination == destination
    )
    return {row.property: row.code for row in connection.execute(statement)}


def note_refused(
    connection: sa.Connection, destination: str, refused: Mapping[str, str | None], *, now: datetime
) -> None:
    """Write down what a destination has refused."""
    values = [
        {"destination": destination, "property": name, "code": code, "refused_at": now}
        for name, code in sorted(refused.items())
    ]
    statement = sa.dialects.postgresql.insert(refused_properties).on_conflict_do_nothing()
    connection.execute(statement, values)


def lift_refused(connection: sa.Connection, destination: str, names: Collection[str] | None = None) -> list[str]:
    """Have these properties sent again, or all; says which were left out until now."""
    statement = refused_properties.delete().where(refused_properties.c.destination == destination)
    if names is not None:
        statement = statement.where(refused_properties.c.property.in_(names))
    return list(connection.execute(statement.returning(refused_properties.c.property)).scalars())
