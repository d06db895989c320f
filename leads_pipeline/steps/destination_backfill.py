"""Contacts that were there before a destination: wanted there as well, page by page, in the batch lane.

Begun by whoever plans deliveries once leads.yaml names a destination for a tenant that did not have it. Killed
anywhere, it goes on with the page after the last one that was committed. Keep out: contacts that come or change
meanwhile, which the golden step wants wherever leads.yaml says.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta

import sqlalchemy as sa

from leads_pipeline.clock import Clock
from leads_pipeline.config import Settings
from leads_pipeline.storage.destination_doors import Door, fill_again, fill_page, know_doors
from leads_pipeline.telemetry import get_logger

log = get_logger(__name__)

# Contacts in one transaction: long enough that commits do not count, short enough that nobody waits for its locks.
PAGE = 1_000


@dataclass(frozen=True, slots=True)
class Backfill:
    """What was done: contacts that were looked at, deliveries that are wanted now. ``done``: nothing is left."""

    contacts: int
    wanted: int
    done: bool


def fill_destinations(
    engine: sa.Engine,
    *,
    settings: Settings,
    clock: Clock,
    budget: timedelta,
    again: Collection[str] = (),
    page: int = PAGE,
) -> Backfill:
    """Want the contacts of each tenant at each of its destinations; stops after the page in which ``budget`` ends.

    What is in the outbox already stays as it is, so that filling ``again`` these destinations, from the first contact
    on, is harmless.
    """
    doors = doors_of(settings)
    with engine.begin() as connection:
        to_fill = know_doors(connection, doors)
        if again:
            fill_again(connection, [door for door in doors if door[1] in again])
    contacts = wanted = 0
    deadline = clock.monotonic() + budget.total_seconds()
    done = not (to_fill or again)
    while not done:
        with engine.begin() as connection:
            filled = fill_page(connection, doors, limit=page, now=clock.now())
        if filled is None:
            break
        contacts, wanted, done = contacts + filled.contacts, wanted + filled.wanted, filled.done
        if clock.monotonic() >= deadline:
            break
    if wanted:
        log.info("destinations_filled", contacts=contacts, wanted=wanted, done=done)
    return Backfill(contacts, wanted, done)


def doors_of(settings: Settings) -> set[Door]:
    """Every tenant with each of its destinations."""
    return {(name, destination) for name, tenant in settings.tenants.items() for destination in tenant.destinations}
