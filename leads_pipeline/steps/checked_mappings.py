"""Each destination's mapping, held against what the destination says that it has.

A destination is asked when nobody has asked it for an hour, when it refused what it was thought to take, or when a
person wants to know. What it would refuse is then left out of what is sent and named; once it is mended, the contacts
that are there without it are wanted again. Keep out: the rules themselves (``domain.mapping``).
"""

import threading
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa

from leads_pipeline.clock import Clock
from leads_pipeline.config import Settings
from leads_pipeline.crm.asking import PlainCourier
from leads_pipeline.crm.clients import BUILDERS
from leads_pipeline.crm.health import Health
from leads_pipeline.crm.mapping import SCHEMA_KEPT, marks_of, with_schema
from leads_pipeline.crm.parking import limiter_of
from leads_pipeline.crm.port import CrmClient
from leads_pipeline.domain.destination_schema import DestinationSchema
from leads_pipeline.domain.mapping import MappingFault
from leads_pipeline.errors import AccountParked, ConfigError, CrmError
from leads_pipeline.outbound.gate import Gate
from leads_pipeline.storage.access_tokens import TokenTable
from leads_pipeline.storage.destination_schemas import (
    StoredSchema,
    lock_schema,
    read_schema,
    want_withheld,
    write_schema,
)
from leads_pipeline.storage.refused_properties import lift_refused
from leads_pipeline.telemetry import get_logger

log = get_logger(__name__)

# Whoever waits for the answer waits with a delivery behind it: it goes on with what is known.
_PATIENCE_SECONDS = 30


@dataclass(frozen=True, slots=True)
class CheckedMapping:
    """What is known of one destination's mapping.

    ``told_at``: when the destination told its fields; ``None``: never, and nothing is checked. ``problem``: why it did
    not tell now, with what to do. ``wanted_again``: contacts that lacked what was mended since. ``is_open``: it takes
    any property.
    """

    destination: str
    told_at: datetime | None
    faults: tuple[MappingFault, ...] = ()
    problem: str | None = None
    wanted_again: int = 0
    is_open: bool = False


def check_mappings(
    engine: sa.Engine,
    *,
    settings: Settings,
    clock: Clock,
    runner_id: str,
    destinations: Collection[str] | None = None,
    max_age: timedelta = SCHEMA_KEPT,
    clients: Mapping[str, CrmClient] | None = None,
    despite_breaker: bool = False,
) -> list[CheckedMapping]:
    """Check the mappings of ``destinations``, or of all; ask those of which nothing younger than ``max_age`` is known.

    A destination that does not tell is checked by what it told before. One that fails, by its breaker, is not asked,
    unless a person wants to know: ``despite_breaker``; nor one whose token is missing.
    """
    names = [name for name in settings.destinations if destinations is None or name in destinations]
    return [
        _check(
            engine,
            name,
            settings=settings,
            clock=clock,
            runner_id=runner_id,
            max_age=max_age,
            client=None if clients is None else clients[name],
            despite_breaker=despite_breaker,
        )
        for name in names
    ]


def _check(
    engine: sa.Engine,
    name: str,
    *,
    settings: Settings,
    clock: Clock,
    runner_id: str,
    max_age: timedelta,
    client: CrmClient | None,
    despite_breaker: bool,
) -> CheckedMapping:
    destination = settings.destinations[name]
    with engine.connect() as connection:
        stored = read_schema(connection, name)
    now = clock.now()
    schema = None if stored is None else stored.schema
    told_at = None if stored is None else stored.fetched_at
    problem = None
    if stored is None or now - stored.fetched_at >= max_age:
        told = _ask(
            engine,
            name,
            settings=settings,
            clock=clock,
            runner_id=runner_id,
            client=client,
            despite_breaker=despite_breaker,
        )
        if isinstance(told, str):
            problem = told
            log.warning("destination_schema_not_told", destination=name)
        else:
            schema, told_at = told, now
    with engine.begin() as connection:
        lock_schema(connection, name)
        # A person who has it checked has mended what was refused, or wants to see it refused again.
        lifted = lift_refused(connection, name) if despite_breaker else []
        mapping = with_schema(connection, name, destination, schema)
        if schema is None or told_at is None:
            wanted = want_withheld(connection, name, lifted, now=now) if lifted else 0
            return CheckedMapping(name, None, tuple(mapping.faults()), problem, wanted)
        marks = marks_of(mapping.rules, schema)
        changed = [item for item, mark in marks.items() if stored is not None and stored.marks.get(item) != mark]
        if changed and lift_refused(connection, name, changed):
            mapping = with_schema(connection, name, destination, schema)
        faults = tuple(mapping.faults())
        wanted = want_withheld(connection, name, [*changed, *lifted], now=now) if changed or lifted else 0
        write_schema(connection, name, StoredSchema(schema, faults, marks, told_at))
    if faults and (stored is None or stored.faults != faults):
        log.warning("mapping_faults_found", destination=name, faults=[f"{item.name}: {item.fault}" for item in faults])
    return CheckedMapping(name, told_at, faults, problem, wanted, schema.is_open)


def _ask(
    engine: sa.Engine,
    name: str,
    *,
    settings: Settings,
    clock: Clock,
    runner_id: str,
    client: CrmClient | None,
    despite_breaker: bool,
) -> DestinationSchema | str:
    """The destination's fields, or why it does not tell them."""
    destination = settings.destinations[name]
    limiter = limiter_of(engine, name, settings=settings, forecast=None)
    deadline = clock.monotonic() + min(_PATIENCE_SECONDS, settings.pipeline.run_seconds)
    gate = Gate(limiter, clock=clock, deadline=deadline, stopping=threading.Event())
    try:
        asked = BUILDERS[destination.vendor](destination, TokenTable(engine)) if client is None else client
    except ConfigError as error:
        return str(error)
    courier = PlainCourier(
        engine,
        asked,
        destination=name,
        settings=destination,
        gate=gate,
        clock=clock,
        runner_id=runner_id,
        health=Health(engine, name, policy=settings.delivery.breaker, clock=clock),
        despite_breaker=despite_breaker,
    )
    try:
        return asked.describe(courier=courier)
    except AccountParked as parked:
        return f"its account is parked until {parked.until:%Y-%m-%d %H:%M} UTC ({parked.reason}): ask again then"
    except CrmError as error:
        return str(error)
    finally:
        if client is None:
            asked.close()
