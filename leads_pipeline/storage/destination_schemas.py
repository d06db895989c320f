"""The fields that a destination has, as it last told, and what could not be sent of contacts for them.

Kept so that a delivery need not ask, and goes on by what is known while the destination does not tell.
"""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from leads_pipeline.domain.destination_schema import DestinationSchema, FieldSchema, FieldType
from leads_pipeline.domain.mapping import Fault, MappingFault
from leads_pipeline.storage.refused_properties import refused_at
from leads_pipeline.storage.schema import destination_schemas, outbox

# By the transactions that wrote the rows: two may do so at one instant of a clock.
_EDITION = sa.text(
    """
    select concat(
        (select xmin from destination_schemas where destination = :destination), ' ',
        (select sum(cast(cast(xmin as text) as bigint)) from mapping_overrides
            where destination = :destination and withdrawn_at is null), ' ',
        (select sum(cast(cast(xmin as text) as bigint)) from refused_properties where destination = :destination)
    )
    """
)
_WANT_AGAIN = sa.text(
    """
    update outbox set state = 'waiting', lane = 'batch', waiting_since = :now, due_at = :now, attempts = 0,
        failures = '{}', updated_at = :now
    where outbox_id = any(:ids) and state = 'delivered'
    """
)
# Of a schema that is in doubt: what it was told is from before.
LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class StoredSchema:
    """What a destination told, when, and what of the mapping did not fit then.

    ``marks`` stand for how each property was mapped and what the destination said of it; one that differs from today's
    tells that something of the property has changed.
    """

    schema: DestinationSchema
    faults: tuple[MappingFault, ...]
    marks: Mapping[str, str]
    fetched_at: datetime


@dataclass(frozen=True, slots=True)
class WithheldCount:
    """How many contacts are at a destination without a property, and why."""

    destination: str
    name: str
    fault: str
    contacts: int


def read_schema(connection: sa.Connection, destination: str) -> StoredSchema | None:
    """What is known of a destination, however old it is."""
    statement = sa.select(destination_schemas).where(destination_schemas.c.destination == destination)
    row = connection.execute(statement).one_or_none()
    if row is None:
        return None
    fields = [_field(item) for item in row.schema["fields"]]
    faults = tuple(MappingFault(**{**item, "fault": Fault(item["fault"])}) for item in row.faults)
    return StoredSchema(
        DestinationSchema({item.name: item for item in fields}, is_open=row.schema.get("is_open", False)),
        faults,
        row.schema["marks"],
        row.fetched_at,
    )


def faulty_destinations(connection: sa.Connection, destinations: Sequence[str]) -> list[str]:
    """Those of which a fault of the mapping was found, when it was last held against what they told."""
    statement = sa.select(destination_schemas.c.destination).where(
        destination_schemas.c.destination.in_(destinations),
        sa.func.jsonb_array_length(destination_schemas.c.faults) > 0,
    )
    return sorted(connection.execute(statement).scalars())


def write_schema(connection: sa.Connection, destination: str, stored: StoredSchema) -> None:
    """Keep what a destination told; it replaces what it told before."""
    document = {
        "fields": [_as_json(item) for _name, item in sorted(stored.schema.fields.items())],
        "marks": dict(stored.marks),
        "is_open": stored.schema.is_open,
    }
    values = {
        "fetched_at": stored.fetched_at,
        "schema": document,
        "faults": [asdict(fault) for fault in stored.faults],
    }
    statement = sa.dialects.postgresql.insert(destination_schemas).values(destination=destination, **values)
    connection.execute(statement.on_conflict_do_update(index_elements=["destination"], set_=values))


def doubt_schema(connection: sa.Connection, destination: str) -> None:
    """Have the destination asked again before the next delivery: it refused what its schema allows."""
    connection.execute(
        destination_schemas.update().where(destination_schemas.c.destination == destination).values(fetched_at=LONG_AGO)
    )


def lock_schema(connection: sa.Connection, destination: str) -> None:
    """Let nobody settle contacts without a property until the caller's transaction has said what is mended."""
    statement = sa.select(destination_schemas.c.destination).where(destination_schemas.c.destination == destination)
    connection.execute(statement.with_for_update())


def marks_now(connection: sa.Connection, destination: str) -> dict[str, str]:
    """A mark for how each property is mapped, and what the destination says of it, or refused; as last checked.

    Nobody checks it anew before the caller's transaction ends.
    """
    statement = (
        sa.select(destination_schemas.c.schema["marks"])
        .where(destination_schemas.c.destination == destination)
        .with_for_update(read=True)
    )
    marks: dict[str, str] = connection.execute(statement).scalar_one_or_none() or {}
    return marks_with(marks, refused_at(connection, destination))


def marks_with(marks: Mapping[str, str], refused: Iterable[str]) -> dict[str, str]:
    """The marks with those of the properties that were refused, which change when that ends."""
    return {**marks, **{name: f"{marks.get(name)} refused" for name in refused}}


def mapping_edition(connection: sa.Connection, destination: str) -> str:
    """Differs whenever a destination was asked for its fields, refused one, or a person changed its mapping."""
    return str(connection.execute(_EDITION, {"destination": destination}).scalar_one())


def want_again(connection: sa.Connection, outbox_ids: Collection[int], *, now: datetime) -> None:
    """Let contacts be sent again that were delivered just now, without what was mended meanwhile."""
    connection.execute(_WANT_AGAIN, {"ids": list(outbox_ids), "now": now})


def note_withheld(connection: sa.Connection, withheld: Mapping[int, Mapping[str, str]], *, token: str) -> None:
    """Write down which properties of claimed rows are left out of what is sent, and why."""
    rows = [{"outbox_id": outbox_id, "withheld": dict(faults)} for outbox_id, faults in withheld.items() if faults]
    if rows:
        connection.execute(
            sa.text(
                "update outbox o set withheld = t.withheld "
                "from jsonb_to_recordset(cast(:rows as jsonb)) as t(outbox_id bigint, withheld jsonb) "
                "where o.outbox_id = t.outbox_id and o.claimed_by = :token"
            ),
            {"rows": json.dumps(rows), "token": token},
        )


def want_withheld(connection: sa.Connection, destination: str, names: Collection[str], *, now: datetime) -> int:
    """Let the contacts be sent again that are there without one of these properties; returns how many.

    In the batch lane: what was mended for all of them at once must not push aside what just came in.
    """
    rows = connection.execute(
        sa.text(
            """
            with mine as materialized (
                select outbox_id from outbox
                where destination = :destination and operation = 'upsert' and state = 'delivered'
                    and withheld is not null and withheld ?| cast(:names as text[])
                order by outbox_id
                for update
            )
            update outbox o set
                state = 'waiting', lane = 'batch', waiting_since = :now, due_at = :now, attempts = 0, failures = '{}',
                updated_at = :now
            from mine where o.outbox_id = mine.outbox_id
            """
        ),
        {"destination": destination, "names": sorted(names), "now": now},
    )
    return int(rows.rowcount)


def withheld_counts(connection: sa.Connection, destinations: Sequence[str]) -> list[WithheldCount]:
    """What contacts are at these destinations without, the most first."""
    pair = sa.func.jsonb_each_text(outbox.c.withheld).table_valued("key", "value")
    contacts = sa.func.count().label("contacts")
    statement = (
        sa.select(outbox.c.destination, pair.c.key.label("name"), pair.c.value.label("fault"), contacts)
        .select_from(outbox.join(pair, sa.true()))
        .where(outbox.c.withheld.is_not(None), outbox.c.destination.in_(destinations))
        .group_by(outbox.c.destination, pair.c.key, pair.c.value)
        .order_by(contacts.desc(), outbox.c.destination, pair.c.key)
    )
    return [WithheldCount(**row) for row in connection.execute(statement).mappings()]


def _as_json(field: FieldSchema) -> dict[str, Any]:
    options = None if field.options is None else sorted(field.options)
    return {**asdict(field), "options": options}


def _field(document: Mapping[str, Any]) -> FieldSchema:
    options = document["options"]
    return FieldSchema(
        **{
            **document,
            "type": FieldType(document["type"]),
            "options": None if options is None else frozenset(options),
        }
    )
