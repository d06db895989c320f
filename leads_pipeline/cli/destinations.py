"""``leads destinations``: where contacts are delivered, and whether the mapping fits what is there."""

import sys
from datetime import timedelta
from typing import TYPE_CHECKING

import click

from leads_pipeline.cli._audit import ACTOR
from leads_pipeline.cli._lines import echo_lines
from leads_pipeline.cli._sandbox_keys import lend_sandbox_keys
from leads_pipeline.clock import SystemClock
from leads_pipeline.config import Settings, load_settings
from leads_pipeline.errors import NotFound
from leads_pipeline.telemetry import get_logger

if TYPE_CHECKING:
    from leads_pipeline.steps.checked_mappings import CheckedMapping
    from leads_pipeline.storage.destination_schemas import WithheldCount
    from leads_pipeline.storage.mapping_overrides import MappingOverride

log = get_logger(__name__)

# How often a long command says how far it is.
_BETWEEN_WORDS = timedelta(seconds=5)
_CANCELLED_AT_ONCE = 10_000


@click.group()
def destinations() -> None:
    """Where contacts are delivered: what there is, and whether the mapping fits."""


@destinations.command(name="list")
@click.pass_obj
def list_destinations(config_file: str | None) -> None:
    """Show the destinations of leads.yaml, whose they are, and which are still being filled."""
    from leads_pipeline.steps.destination_backfill import doors_of
    from leads_pipeline.storage.destination_doors import unfilled_doors
    from leads_pipeline.storage.left_over import left_over
    from leads_pipeline.storage.open import open_database

    settings = load_settings(config_file)
    if not settings.destinations:
        click.echo("no destinations")
    with open_database(settings).connect() as connection:
        filling = unfilled_doors(connection)
        left = left_over(connection, doors_of(settings))
    for name, destination in settings.destinations.items():
        tenants = [
            f"{tenant} (is being filled)" if (tenant, name) in filling else tenant
            for tenant, its in settings.tenants.items()
            if name in its.destinations
        ]
        click.echo(
            f"{name}  {destination.vendor}, account {destination.account}, of {', '.join(tenants) or 'no tenant'}"
        )
    for item in left:
        click.echo(
            f"{item.destination}  not a destination of {item.tenant} in leads.yaml: {item.contacts:,} contacts and "
            f"{item.removals:,} removals wait until it is one again, or for `leads destinations cancel`"
        )


@destinations.command()
@click.argument("name")
@click.option("--tenant", required=True, help="Whose contacts.")
@ACTOR
@click.pass_obj
def cancel(config_file: str | None, name: str, tenant: str, actor: str) -> None:
    """Want a tenant's contacts no more at a destination that leads.yaml does not give it.

    Removals stay: the records may still be there.
    """
    from leads_pipeline.steps.destination_backfill import doors_of
    from leads_pipeline.storage.left_over import cancel_left_over
    from leads_pipeline.storage.open import open_database

    settings = load_settings(config_file)
    if (tenant, name) in doors_of(settings):
        raise NotFound(f"{name} is a destination of {tenant} in leads.yaml: take it out there first")
    engine, cancelled = open_database(settings), 0
    while True:
        with engine.begin() as connection:
            some = cancel_left_over(connection, tenant, name, most=_CANCELLED_AT_ONCE, now=SystemClock().now())
        cancelled += some
        if not some:
            break
    log.info("left_over_cancelled", tenant=tenant, destination=name, contacts=cancelled, actor=actor)
    click.echo(f"{cancelled:,} contacts are wanted there no more")


@destinations.command()
@click.argument("name", required=False)
@click.pass_obj
def check(config_file: str | None, name: str | None) -> None:
    """Ask a destination, or all, for its fields and hold the mapping against them.

    Ends with 1 if something must be mended, or if a destination does not tell.
    """
    from leads_pipeline.steps.checked_mappings import check_mappings
    from leads_pipeline.storage.destination_schemas import withheld_counts
    from leads_pipeline.storage.mapping_overrides import current_overrides
    from leads_pipeline.storage.open import open_database

    settings = load_settings(config_file)
    names = _chosen(settings, name)
    lend_sandbox_keys(settings)
    engine = open_database(settings)
    checked = check_mappings(
        engine,
        settings=settings,
        clock=SystemClock(),
        runner_id="leads destinations check",
        destinations=names,
        max_age=timedelta(0),
        despite_breaker=True,
    )
    with engine.connect() as connection:
        withheld = withheld_counts(connection, names)
        changed = {item: current_overrides(connection, item) for item in names}
    for item in checked:
        echo_lines(_lines(item, [count for count in withheld if count.destination == item.destination]))
        echo_lines(map(_override_line, changed[item.destination]))
    if any(item.faults or item.problem for item in checked):
        sys.exit(1)


@destinations.command()
@click.argument("name")
@click.pass_obj
def backfill(config_file: str | None, name: str) -> None:
    """Want every contact at a destination that has none of it yet; deliveries send them, in the batch lane.

    A destination that leads.yaml names since lately is filled by itself: this does it at once, and from the first
    contact on. What is there, or waits to be, stays as it is.
    """
    from leads_pipeline.steps.destination_backfill import fill_destinations
    from leads_pipeline.storage.open import open_database

    settings = load_settings(config_file)
    again, engine, wanted = _chosen(settings, name), open_database(settings), 0
    while True:
        filled = fill_destinations(engine, settings=settings, clock=SystemClock(), budget=_BETWEEN_WORDS, again=again)
        again, wanted = [], wanted + filled.wanted
        if filled.done:
            break
        if not filled.contacts:
            click.echo("another process fills it")
            break
        click.echo(f"{wanted:,} contacts so far")
    click.echo(f"{wanted:,} contacts wait to be sent")


@destinations.command(name="withdraw-mapping")
@click.argument("name")
@click.argument("property_name", metavar="PROPERTY")
@ACTOR
@click.pass_obj
def withdraw_mapping(config_file: str | None, name: str, property_name: str, actor: str) -> None:
    """Map a property as leads.yaml says again, after `leads dead-letters fix --mapping`."""
    from leads_pipeline.storage.mapping_overrides import withdraw_override
    from leads_pipeline.storage.open import open_database

    settings = load_settings(config_file)
    [destination] = _chosen(settings, name)
    with open_database(settings).begin() as connection:
        withdrawn = withdraw_override(connection, destination, property_name, actor=actor, now=SystemClock().now())
    click.echo(f"{property_name}  {'is mapped as leads.yaml says' if withdrawn else 'nobody changed it'}")


def _override_line(override: "MappingOverride") -> str:
    what = "left out" if not override.rule else f"from {override.rule['source'] or 'a constant'}"
    why = f": {override.reason}" if override.reason else ""
    return f"  {override.property}  {what}, by {override.actor}, {override.made_at:%Y-%m-%d %H:%M} UTC{why}"


def _chosen(settings: Settings, name: str | None) -> list[str]:
    if name is not None and name not in settings.destinations:
        known = ", ".join(settings.destinations) or "none"
        raise NotFound(f"leads.yaml has no destination {name}; it has: {known}")
    return list(settings.destinations) if name is None else [name]


def _lines(checked: "CheckedMapping", withheld: "list[WithheldCount]") -> list[str]:
    from leads_pipeline.storage.destination_schemas import LONG_AGO

    if checked.told_at is None:
        return [
            f"{checked.destination}: it has not told its fields, so the mapping is not checked",
            f"  problem  {checked.problem}",
        ]
    told = f"told its fields {checked.told_at:%Y-%m-%d %H:%M} UTC"
    if checked.told_at == LONG_AGO:
        told = "told its fields before it refused us, and not since"
    if checked.is_open:
        told = "takes any property, so there is nothing to hold the mapping against"
    fits = "the mapping fits" if not checked.faults else "to be mended:"
    lines = [f"{checked.destination}: {told}" if checked.is_open else f"{checked.destination}: {told}; {fits}"]
    if checked.problem:
        lines.append(f"  problem  {checked.problem}")
    for fault in checked.faults:
        stops = "; nothing can be delivered until then" if fault.blocks else ""
        lines.append(f"  {fault.name}  {fault.fault.replace('_', ' ')}: {fault.advice}{stops}")
    lines += [f"  {item.contacts:,} contacts are there without {item.name} ({item.fault})" for item in withheld]
    if checked.wanted_again:
        lines.append(f"  {checked.wanted_again:,} contacts wait to be sent again with what was mended")
    return lines
