"""``leads buffer``: what waits between the door and the pipeline."""

import json
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from leads_pipeline.cli.status import plain_table, span
from leads_pipeline.clock import SystemClock
from leads_pipeline.config import Settings, load_settings
from leads_pipeline.errors import NotFound

if TYPE_CHECKING:
    import sqlalchemy as sa
    from rich.table import Table

    from leads_pipeline.buffer.bounds import Reading
    from leads_pipeline.buffer.port import BufferDepth

_WINDOWS = (timedelta(minutes=1), timedelta(minutes=15))


@click.group()
def buffer() -> None:
    """What waits between the door and the pipeline, and how near its bounds are."""


@buffer.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of tables.")
@click.pass_obj
def status(config_file: str | None, as_json: bool) -> None:
    """Show what waits and how fast it comes in, per tenant and lane, and how near the buffer's bounds are."""
    from leads_pipeline.storage.open import open_database

    settings = load_settings(config_file)
    engine = open_database(settings)
    try:
        found = _collect(engine, settings)
    finally:
        engine.dispose()
    if as_json:
        click.echo(json.dumps(found, indent=2, default=str))
    else:
        _print(found, settings)


@buffer.command("put-back")
@click.option("--tenant", required=True, help="Whose leads.")
@click.pass_obj
def put_back(config_file: str | None, tenant: str) -> None:
    """Redis: let leads that were set aside wait again.

    A lead is set aside when a step breaks on it; mend what broke first.
    """
    from leads_pipeline.steps.redis_upkeep import put_back as put_back_leads

    click.echo(f"{put_back_leads(load_settings(config_file), tenant=tenant):,} leads wait again")


@buffer.command("write-off")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def write_off(config_file: str | None, yes: bool) -> None:
    """Redis: accept that leads were lost in it.

    So the conservation check can hold again. The log says how many they are.
    """
    from leads_pipeline.steps.redis_upkeep import write_off as write_off_loss
    from leads_pipeline.storage.open import open_database

    settings = load_settings(config_file)
    if settings.buffer.redis is None:
        raise NotFound(f"{settings.path} names no buffer.redis")
    if not yes:
        click.confirm("Leads that vanished from Redis will count as never captured. Go on?", abort=True)
    engine = open_database(settings)
    try:
        written_off = write_off_loss(engine, settings)
    finally:
        engine.dispose()
    for (tenant, lane), leads in written_off.items():
        click.echo(f"{tenant}, {lane}: {leads:,} leads written off")
    if not written_off:
        click.echo("nothing was missing")


def _collect(engine: "sa.Engine", settings: Settings) -> dict[str, Any]:
    from leads_pipeline.buffer.bounds import gauge_for
    from leads_pipeline.buffer.opening import buffers_to_drain
    from leads_pipeline.buffer.postgresql import PostgresBuffer
    from leads_pipeline.domain.orders import ActionKind
    from leads_pipeline.storage.capture_rates import capture_rates
    from leads_pipeline.storage.orders import orders_in_force

    clock = SystemClock()
    depths: dict[str, list[BufferDepth]] = {}
    with engine.connect() as connection:
        for each in buffers_to_drain(settings, engine):
            try:
                kind = "postgresql" if isinstance(each, PostgresBuffer) else "redis"
                depths[kind] = each.depths(connection)
            finally:
                each.close()
        now = clock.now()
        # What comes into Redis is counted there, without a time.
        captured = None if settings.buffer.kind == "redis" else capture_rates(connection, windows=_WINDOWS, now=now)
        orders = orders_in_force(connection, now=now).in_force
    rates = None if captured is None else {(rate.tenant, rate.lane): rate.per_minute for rate in captured}
    gauge = gauge_for(settings, database_url=engine.url.render_as_string(hide_password=False), clock=clock)
    reading = gauge.measured(depths[settings.buffer.kind])
    return {
        "at": now,
        "buffer": settings.buffer.kind,
        "level": reading.level,
        "refused_lanes": sorted(reading.level.refused),
        # The door obeys these as well as its bounds.
        "batch_refused_by": [
            {"rule": order.policy, "tenant": order.tenant, "until": order.ends_at}
            for order in orders
            if order.action is ActionKind.REFUSE_BATCH
        ],
        "bounds": _bounds(reading, settings, now),
        "lanes": _lanes(depths[settings.buffer.kind], rates, now),
        "still_to_drain": {
            kind: _lanes(rest, None, now) for kind, rest in depths.items() if kind != settings.buffer.kind
        },
    }


def _bounds(reading: "Reading", settings: Settings, now: datetime) -> dict[str, dict[str, Any]]:
    bounds = settings.buffer.bounds
    oldest = max((_age(depth, now) for depth in reading.depths), default=0.0)
    return {
        "leads": {"now": reading.waiting, "bound": bounds.max_leads, "fill": round(reading.fill.leads, 4)},
        "oldest_seconds": {
            "now": oldest,
            "bound": bounds.max_age_hours * 3_600,
            "fill": round(reading.fill.age, 4),
        },
        "free_disk_bytes": {
            "now": reading.free_disk_bytes,
            "bound": bounds.min_free_disk_bytes,
            "fill": round(reading.fill.disk, 4),
        },
    }


def _lanes(
    depths: "list[BufferDepth]", rates: dict[tuple[str, Any], tuple[float, ...]] | None, now: datetime
) -> list[dict[str, Any]]:
    """One item a tenant and lane; ``captured_per_minute`` is null where it is not known."""
    from leads_pipeline.domain.stage import Lane

    waiting = {(depth.tenant, depth.lane): depth for depth in depths}
    order = list(Lane)
    lanes = []
    for place in sorted({*waiting, *(rates or {})}, key=lambda place: (place[0], order.index(place[1]))):
        depth = waiting.get(place)
        last, longer = (rates or {}).get(place, (0.0, 0.0))
        lanes.append(
            {
                "tenant": place[0],
                "lane": place[1],
                "waiting": depth.waiting if depth else 0,
                "oldest_seconds": _age(depth, now) if depth else 0.0,
                "captured_per_minute": None if rates is None else {"1_min": round(last, 1), "15_min": round(longer, 1)},
            }
        )
    return lanes


def _age(depth: "BufferDepth", now: datetime) -> float:
    return round(max(0.0, (now - depth.oldest_received_at).total_seconds()), 1)


def _print(found: dict[str, Any], settings: Settings) -> None:
    from rich.console import Console

    console = Console()
    console.print(f"[bold]Buffer[/] in {found['buffer']} at {found['at']:%Y-%m-%d %H:%M:%S} UTC", highlight=False)
    console.print(f"{_verdict(found)}\n", highlight=False)
    if found["lanes"]:
        console.print(_waiting(found["lanes"], "Waiting"))
    else:
        console.print("Nothing waits, and nothing came in the last 15 minutes.\n")
    console.print(_limits(found["bounds"]))
    for kind, lanes in found["still_to_drain"].items():
        if lanes:
            console.print(_waiting(lanes, f"Still in {kind}, which takes no new leads; it is emptied first"))
        elif settings.buffer.redis is not None:
            console.print(f"Nothing is left in {kind}, which takes no new leads.")


def _verdict(found: dict[str, Any]) -> str:
    from leads_pipeline.domain.buffer_bounds import Level

    if found["refused_lanes"]:
        return f"[red]It refuses leads of these lanes: {', '.join(found['refused_lanes'])}.[/]"
    if found["batch_refused_by"]:
        by = ", ".join(
            f"the rule {item['rule']}{' for ' + item['tenant'] if item['tenant'] else ''}"
            for item in found["batch_refused_by"]
        )
        return f"[yellow]It takes leads of every lane but batch, which is refused by {by}.[/]"
    if found["level"] is Level.SLOW:
        return "[yellow]It takes leads of every lane; imports are slowed down.[/]"
    return "It takes leads of every lane."


def _waiting(lanes: list[dict[str, Any]], title: str) -> "Table":
    has_rates = lanes[0]["captured_per_minute"] is not None
    numbers = ("Waiting", "Oldest", "New/min, last 1", "last 15 min") if has_rates else ("Waiting", "Oldest")
    table = plain_table(title, "Tenant", "Lane", *numbers, numbers=numbers)
    for lane in lanes:
        table.add_row(lane["tenant"], lane["lane"], *_numbers([lane]))
    if len(lanes) > 1:
        table.add_section()
        table.add_row("all", "", *_numbers(lanes))
    return table


def _numbers(lanes: list[dict[str, Any]]) -> list[str]:
    waiting = sum(lane["waiting"] for lane in lanes)
    cells = [f"{waiting:,}", span(max(lane["oldest_seconds"] for lane in lanes)) if waiting else ""]
    rates = [lane["captured_per_minute"] for lane in lanes if lane["captured_per_minute"] is not None]
    return [*cells, *(f"{sum(rate[window] for rate in rates):,.1f}" for window in ("1_min", "15_min") if rates)]


def _limits(bounds: dict[str, dict[str, Any]]) -> "Table":
    from leads_pipeline.domain.buffer_bounds import BATCH_REFUSED_FROM, IMPORTS_SLOW_FROM

    table = plain_table("Bounds", "", "Now", "Bound", "Full to", numbers=("Now", "Bound", "Full to"))
    leads, age, disk = bounds["leads"], bounds["oldest_seconds"], bounds["free_disk_bytes"]
    free = "not watched" if disk["now"] is None else f"{disk['now'] / 1e9:,.1f} GB"
    rows = (
        ("Leads that wait", f"{leads['now']:,}", f"{leads['bound']:,}", leads["fill"]),
        ("Age of the oldest", span(age["now"]), span(age["bound"]), age["fill"]),
        ("Free disk", free, f"{disk['bound'] / 1e9:,.1f} GB", disk["fill"]),
    )
    for name, now, bound, fill in rows:
        colour = "red" if fill >= BATCH_REFUSED_FROM else "yellow" if fill >= IMPORTS_SLOW_FROM else ""
        table.add_row(name, now, bound, f"[{colour}]{fill:.0%}[/]" if colour else f"{fill:.0%}")
    return table
