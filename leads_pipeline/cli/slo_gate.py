"""``leads slo gate``: what holds deliveries back, and an operator's word above it."""

import json
import re
from datetime import timedelta
from typing import Any

import click

from leads_pipeline.cli._audit import ACTOR, WORDS
from leads_pipeline.cli._promises import collect, gates_table, print_table
from leads_pipeline.cli._selection import Option, options
from leads_pipeline.clock import SystemClock
from leads_pipeline.config import load_settings

_SPANS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}
_AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")


def _span(_context: click.Context, _option: click.Parameter, value: str) -> timedelta:
    found = re.fullmatch(r"(\d{1,4})([mhd])", value)
    if found is None or int(found[1]) == 0:
        raise click.BadParameter(f"{value!r} is no span of time; allowed: minutes, hours or days, as 30m, 2h or 1d")
    return int(found[1]) * _SPANS[found[2]]


@click.group()
def gate() -> None:
    """The gates in front of deliveries: what is closed and why; open or close one for a while."""


@gate.command(name="list")
@_AS_JSON
@click.pass_obj
def list_gates(config_file: str | None, as_json: bool) -> None:
    """Show every gate that a verdict or an operator decided about.

    Example: leads slo gate list
    """
    settings, now = load_settings(config_file), SystemClock().now()
    found = collect(settings, now=now, tenant=None)["gates"]
    if as_json:
        click.echo(json.dumps(found, indent=2, default=str))
        return
    if not found:
        click.echo("no gate was ever closed, and none is ruled: everything may be sent")
        return
    print_table(gates_table(found))


_RULING: tuple[Option, ...] = (
    click.argument("name"),
    click.option("--tenant", help="Only this tenant's; without it all tenants'."),
    click.option("--lane", type=click.Choice(["real_time", "near_real_time", "batch"]), help="Only this lane's."),
    ACTOR,
)
_LASTING: tuple[Option, ...] = (
    click.option("--for", "lasting", default="2h", show_default=True, callback=_span, metavar="SPAN",
                 help="How long it lasts, 7 days at most: 30m, 2h, 1d."),
    click.option("--reason", required=True, type=WORDS, help="Why; it is kept. No personal data."),
)  # fmt: skip


@gate.command(name="open")
@options((*_RULING, *_LASTING))
@click.pass_obj
def open_gate(config_file: str | None, /, **given: Any) -> None:
    """Let deliveries pass for a while, whatever the verdict says.

    Example: leads slo gate open duplicate_contacts --tenant acme --for 2h --actor ann --reason "seen, harmless"
    """
    _rule(config_file, "open", **given)


@gate.command(name="close")
@options((*_RULING, *_LASTING))
@click.pass_obj
def close_gate(config_file: str | None, /, **given: Any) -> None:
    """Hold deliveries back for a while, whatever the verdict says. Archives, erasures and withdrawals go on.

    Example: leads slo gate close duplicate_contacts --tenant acme --for 30m --actor ann --reason "bad import"
    """
    _rule(config_file, "closed", **given)


@gate.command()
@options(_RULING)
@click.pass_obj
def reset(config_file: str | None, name: str, tenant: str | None, lane: str | None, actor: str) -> None:
    """End a ruling: the verdict decides again.

    Example: leads slo gate reset duplicate_contacts --tenant acme --actor ann
    """
    from leads_pipeline.steps.gate_rulings import end_ruling, gate_key
    from leads_pipeline.storage.open import open_database

    settings = load_settings(config_file)
    key = gate_key(settings, name, tenant=tenant, lane=lane)
    engine = open_database(settings)
    try:
        end_ruling(engine, key, actor=actor, now=SystemClock().now())
    finally:
        engine.dispose()
    click.echo(f"{name}: the ruling has ended, the verdict decides")


def _rule(
    config_file: str | None, how: str, *, name: str, tenant: str | None, lane: str | None, lasting: timedelta,
    actor: str, reason: str,
) -> None:  # fmt: skip
    from leads_pipeline.steps.gate_rulings import gate_key, rule_gate
    from leads_pipeline.storage.open import open_database
    from leads_pipeline.storage.quality_gates import Ruling

    settings, now = load_settings(config_file), SystemClock().now()
    key = gate_key(settings, name, tenant=tenant, lane=lane)
    engine = open_database(settings)
    try:
        until = rule_gate(engine, key, Ruling(how), actor=actor, reason=reason, lasting=lasting, now=now)
    finally:
        engine.dispose()
    whose = tenant or "every tenant"
    click.echo(f"{name} is {how} for {whose}{f', lane {lane}' if lane else ''} until {until:%Y-%m-%d %H:%M} UTC")
