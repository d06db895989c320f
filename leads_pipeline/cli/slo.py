"""``leads slo``: what is promised, what came of it, and the gates that a broken promise closes."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import click

from leads_pipeline.cli._promises import collect, gates_table, print_table
from leads_pipeline.cli.slo_gate import gate
from leads_pipeline.cli.status import plain_table, span
from leads_pipeline.clock import SystemClock
from leads_pipeline.config import ObjectiveSettings, Settings, load_settings
from leads_pipeline.domain.burn_rate import budget_in_words
from leads_pipeline.errors import NotFound

_BREACHED = ("burning", "broken")
_COLORS = {"kept": "green", "burning": "yellow", "broken": "red", "no_data": "bright_black"}
_AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
_CHECK = click.option(
    "--check", is_flag=True, help="Exit with 1 if a promise burns or is broken, with 3 if one is stale."
)


@click.group()
def slo() -> None:
    """What is promised, what came of it, and the gates that a broken promise closes."""


@slo.command(name="list")
@click.option("--tenant", help="Only this tenant's, and those of all.")
@_CHECK
@_AS_JSON
@click.pass_obj
def list_promises(config_file: str | None, tenant: str | None, check: bool, as_json: bool) -> None:
    """Show every promise with its verdict, what is held for its quality, and how fresh each room is.

    Example: leads slo list --check || leads alerts list
    """
    settings, now = load_settings(config_file), SystemClock().now()
    found = collect(settings, now=now, tenant=tenant)
    if as_json:
        click.echo(json.dumps(found, indent=2, default=str))
    else:
        _print_list(found, settings)
    if check:
        _exit(found["promises"])


@slo.command()
@click.argument("name")
@_CHECK
@_AS_JSON
@click.pass_obj
def show(config_file: str | None, name: str, check: bool, as_json: bool) -> None:
    """Show one promise: its words, its windows and how fast they burn, its budget, gate and playbook.

    Example: leads slo show real_time_in_crm
    """
    settings, now = load_settings(config_file), SystemClock().now()
    promise = settings.slos.promises.get(name)
    if promise is None:
        raise NotFound(f"leads.yaml promises no {name!r}; promised: {', '.join(sorted(settings.slos.promises))}")
    found = collect(settings, now=now, tenant=None)
    rows = [row for row in found["promises"] if row["slo"] == name]
    if as_json:
        click.echo(json.dumps({"slo": name, "promise": promise.words, **_says(promise), "verdicts": rows}, indent=2,
                              default=str))  # fmt: skip
    else:
        _print_one(name, promise, rows, found["gates"], now)
    if check:
        _exit(rows)


@slo.command()
@click.option("--quick", is_flag=True, help="Without what reads whole tables: conservation, rejections, bounces.")
@click.pass_obj
def evaluate(config_file: str | None, quick: bool) -> None:
    """Judge every promise now, as Dagster does every five minutes. Exits with 1 if one burns or is broken.

    Example: leads slo evaluate --quick
    """
    from leads_pipeline.steps.evaluated_slos import evaluate_slos
    from leads_pipeline.storage.database_clock import DatabaseClock
    from leads_pipeline.storage.open import open_database

    settings = load_settings(config_file)
    engine = open_database(settings)
    try:
        clock = DatabaseClock(engine)  # this machine's may be ahead, and its verdict stand in the way of others
        report = evaluate_slos(engine, settings=settings, clock=clock, runner_id="leads slo", slow=not quick)
    finally:
        engine.dispose()
    for finding in report.findings:
        verdict = str(finding.judgement.verdict)
        whose = finding.key.tenant or "all"
        click.echo(f"{click.style(f'{verdict:<8}', fg=_COLORS[verdict])} {finding.key.slo:<22} {whose}")
    for name, why in report.failed.items():
        click.echo(f"{click.style('failed  ', fg='red')} {name:<22} {why}; its last verdict stands")
    if report.breached:
        raise click.exceptions.Exit(1)


def _says(promise: ObjectiveSettings) -> dict[str, Any]:
    return {
        "objective": promise.objective if promise.has_budget else None,
        "window_hours": promise.window_hours if promise.has_budget else None,
        "severity": promise.severity,
        "action": promise.action,
        "playbook": promise.playbook,
    }


def _exit(rows: Sequence[Mapping[str, Any]]) -> None:
    if any(row["verdict"] in _BREACHED for row in rows):
        raise click.exceptions.Exit(1)
    if any(row["stale"] for row in rows):
        raise click.exceptions.Exit(3)


def _print_list(found: Mapping[str, Any], settings: Settings) -> None:
    from rich.markup import escape

    table = plain_table(
        "Promises", "Promise", "Tenant", "Verdict", "Value", "Budget left", "Burn", "Since", "Gate",
        numbers=("Value", "Budget left", "Burn"),
    )  # fmt: skip
    for row in found["promises"]:
        promise = settings.slos.promises[row["slo"]]
        verdict = row["verdict"] + (f", {row['severity']}" if row["severity"] else "")
        style = _COLORS[row["verdict"]]
        stale = " [red](stale)[/red]" if row["stale"] else ""
        since = f"{row['since']:%m-%d %H:%M}" if row.get("since") else ""
        table.add_row(
            row["slo"],
            escape(row["tenant"] or "all"),
            f"[{style}]{verdict}[/{style}]{stale}",
            _value(row, promise),
            _budget(row.get("budget_left")) if promise.has_budget else "none",
            f"{row['burn_rate']:.1f}×" if row.get("burn_rate") is not None else "",
            since,
            row["gate"] or "",
        )
    print_table(table)
    quality = plain_table("Held for its quality", "Hold", "Source", "Day", "Leads", "Rules", numbers=("Hold", "Leads"))
    for hold in found["quality_holds"]:
        source = escape(f"{hold['tenant']}/{hold['source']}")
        quality.add_row(str(hold["hold"]), source, str(hold["day"]), f"{hold['leads']:,}", ", ".join(hold["rules"]))
    if found["quality_holds"]:
        print_table(quality)
        click.echo("`leads quality list` shows what can be done about what is held")
    fresh = plain_table("Freshness", "Place", "Newest", "Age", numbers=("Age",))
    for item in found["freshness"]:
        at = f"{item['newest']:%Y-%m-%d %H:%M:%S}" if item["newest"] else "never"
        fresh.add_row(item["place"], at, span(item["seconds"]) if item["seconds"] is not None else "")
    print_table(fresh)
    closed = [item for item in found["gates"] if item["state"] == "closed" or item["ruling"]]
    if closed:
        print_table(gates_table(closed))
    if any(row["verdict"] in _BREACHED for row in found["promises"]):
        click.echo("`leads slo show NAME` shows the windows and names the playbook")


def _print_one(
    name: str, promise: ObjectiveSettings, rows: Sequence[Mapping[str, Any]], gates: Sequence[Mapping[str, Any]],
    now: datetime,
) -> None:  # fmt: skip
    click.echo(f"{name}: {promise.words}")
    closes = "closes the gate of deliveries" if promise.action == "close_gate" else "holds nothing back"
    click.echo(f"  at most a {promise.severity}; when broken, it {closes}")
    click.echo(f"  playbook: {f'docs/playbooks/{promise.playbook}.md' if promise.playbook else 'none'}")
    for row in rows:
        whose = row["tenant"] or "all tenants"
        verdict = click.style(row["verdict"], fg=_COLORS[row["verdict"]])
        if row["evaluated_at"] is None:
            click.echo(f"{whose}: never evaluated; `leads slo evaluate` does")
            continue
        severity = f" ({row['severity']})" if row["severity"] else ""
        age = span(max(0.0, (now - row["evaluated_at"]).total_seconds()))
        stale = ", STALE" if row["stale"] else ""
        click.echo(f"{whose}: {verdict}{severity} since {row['since']:%Y-%m-%d %H:%M} UTC, evaluated {age} ago{stale}")
        if row["verdict"] == "no_data":
            click.echo("  nothing to judge")
            continue
        click.echo(f"  good {row['good']:,}, bad {row['bad']:,}, value {_value(row, promise) or 'none'}", nl=False)
        left = "" if row["budget_left"] is None else f", budget {budget_in_words(row['budget_left'])}"
        click.echo(left if promise.has_budget else ", no budget")
        for window in row["windows"]:
            mark = "burns" if window["burning"] else "too few events to tell" if not window["telling"] else "holds"
            click.echo(
                f"  {span(window['window_seconds'])} {window['burn']:.1f}×, {span(window['short_seconds'])} "
                f"{window['short_burn']:.1f}×, {window['severity']} from {window['threshold']:g}×: {mark}"
            )
        if row["gate"]:
            click.echo(f"  gate: {row['gate']}")
    own = [item for item in gates if item["gate"] == name and item["ruling"]]
    for item in own:
        whose = item["tenant"] or "every tenant"
        click.echo(
            f"gate of {whose} ruled {item['ruling']} by {item['ruled_by']} until {item['ruled_until']:%Y-%m-%d %H:%M} "
            f"UTC: {item['ruled_for']}"
        )


def _value(row: Mapping[str, Any], promise: ObjectiveSettings) -> str:
    value = row.get("value")
    if value is None:
        return ""
    return _percent(value, places=2) if promise.has_budget else f"{value:g}"


def _percent(value: float, places: int = 0) -> str:
    return f"{100 * value:.{places}f} %"


def _budget(left: float | None) -> str:
    """Short, for a column; how much too fast it burns stands beside it."""
    if left is None:
        return ""
    return _percent(left) if left > 0 else "spent"


slo.add_command(gate)
