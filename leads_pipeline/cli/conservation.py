"""``leads conservation``: whether every captured lead is in exactly one state, by tenant and day."""

import json
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

import click

from leads_pipeline.clock import SystemClock
from leads_pipeline.config import Settings, load_settings
from leads_pipeline.domain.stage import LeadState

if TYPE_CHECKING:
    import sqlalchemy as sa
    from rich.console import Console

    from leads_pipeline.storage.conservation import Conservation, Days, MissingLead

# Enough to begin a search with; --limit asks for more.
MISSING_SHOWN = 20
# Days on the screen; those on which the law does not hold are shown however old they are.
DAYS_SHOWN = 14
_ALWAYS = (LeadState.PENDING, LeadState.DELIVERED, LeadState.MERGED, LeadState.REJECTED)


@click.command()
@click.option("--tenant", help="Only this tenant's leads.")
@click.option("--day", type=click.DateTime(["%Y-%m-%d"]), help="Only leads that were captured on this day (UTC).")
@click.option("--since", type=click.DateTime(["%Y-%m-%d"]), help="Only leads captured on this day or later.")
@click.option(
    "--limit", type=click.IntRange(1, 100_000), default=MISSING_SHOWN, show_default=True, help="Missing leads."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of tables.")
@click.pass_obj
def conservation(
    config_file: str | None,
    tenant: str | None,
    day: datetime | None,
    since: datetime | None,
    limit: int,
    as_json: bool,
) -> None:
    """Hold the books to the law of conservation, and name the leads that are missing.

    Of some days it costs what those days have; without --day or --since every lead is read once, and what waits in
    Redis is counted with it. Of days before the newest fourteen those are shown on which the law does not hold; --json
    has all. Ends with exit code 1 if a lead is in no state.

    \b
    leads conservation --since 2026-03-01
    leads conservation --tenant acme --day 2026-03-01 --json
    """
    from leads_pipeline.storage.open import open_database

    if day is not None and since is not None:
        raise click.UsageError("name --day or --since, not both")
    settings = load_settings(config_file)
    if tenant is not None and tenant not in settings.tenants:
        raise click.UsageError(f"{settings.path} has no tenant {tenant!r}; it has: {', '.join(settings.tenants)}")
    engine = open_database(settings)
    try:
        found = _account(engine, settings, days=_days(tenant, day, since), tenant=tenant, limit=limit)
    finally:
        engine.dispose()
    if as_json:
        click.echo(json.dumps(found, indent=2, default=str))
    else:
        _print(found)
    if not found["conserved"]:
        click.get_current_context().exit(1)


def _days(tenant: str | None, day: datetime | None, since: datetime | None) -> "Days | None":
    from leads_pipeline.storage.conservation import Days

    if day is not None:
        return Days(day.date(), day.date(), tenant)
    # A clock that is ahead of ours may have captured leads of tomorrow.
    return Days(since.date(), date.max.replace(year=9000), tenant) if since is not None else None


def _account(
    engine: "sa.Engine", settings: Settings, *, days: "Days | None", tenant: str | None, limit: int
) -> dict[str, Any]:
    from leads_pipeline.buffer.account import Account, take_account
    from leads_pipeline.storage.conservation import by_tenant, daily_conservation, missing_leads

    destinations = {name: item.destinations for name, item in settings.tenants.items()}
    if days is None:
        account = take_account(engine, settings=settings)
    else:
        with engine.connect() as connection:
            by_day = daily_conservation(connection, destinations=destinations, days=days)
        account = Account(tuple(by_tenant(by_day)), (), tuple(by_day))
    tenants = [item for item in account.tenants if tenant in (None, item.tenant)]
    by_days = [item for item in account.days if tenant in (None, item.tenant)]
    missing: list[MissingLead] = []
    if any(item.missing for item in tenants):
        with engine.connect() as connection:
            missing = missing_leads(connection, destinations=destinations, limit=limit, days=days)
    return {
        "at": SystemClock().now().astimezone(UTC),
        "conserved": not account.faults and all(item.conserved for item in (*tenants, *by_days)),
        "faults": list(account.faults),
        "tenants": [_row(item) for item in tenants],
        "days": [_row(item) for item in by_days],
        "missing_leads": [
            {"tenant": lead.tenant, "day": lead.day, "lead_id": lead.lead_id, "lacks": lead.trail}
            for lead in missing
            if tenant in (None, lead.tenant)
        ],
    }


def _row(item: "Conservation") -> dict[str, Any]:
    return {
        **({"day": item.day} if item.day else {}),
        "tenant": item.tenant,
        "captured": item.captured,
        **{str(state): leads for state, leads in item.states.items()},
        "missing": item.missing,
        "unaccounted": item.unaccounted,
        "conserved": item.conserved,
    }


def _print(found: dict[str, Any]) -> None:
    from rich.console import Console

    from leads_pipeline.cli.status import plain_table

    console = Console()
    if not found["tenants"]:
        console.print("No leads.")
    rows = found["days"] or found["tenants"]
    states = [str(state) for state in LeadState if state in _ALWAYS or any(row[str(state)] for row in rows)]
    # What says nothing more than another column is left out, so that the table fits a screen.
    wrong = [name for name in ("Missing", "Unaccounted") if any(row[name.lower()] for row in rows)]
    if all(row["unaccounted"] == row["missing"] for row in rows):
        wrong = wrong[:1]
    numbers = ("Captured", *states, *wrong)
    whose: tuple[str, ...] = ("Tenant",)
    titles = ("Days", "Tenants")
    if len(found["tenants"]) == 1:
        whose, titles = (), (f"Days of {found['tenants'][0]['tenant']}", "Together")
    days = _shown(found["days"])
    if older := len(found["days"]) - len(days):
        console.print(f"{older:,} older rows of days on which the law holds are left out; --json has them.")
    for title, items, first in zip(titles, (days, found["tenants"]), (("Day",), ()), strict=True):
        if not items:
            continue
        table = plain_table(title, *first, *whose, *numbers, "Holds", numbers=numbers)
        for item in items:
            counts = (f"{item[name.lower()]:,}" for name in numbers)
            day = (str(item["day"]),) if first else ()
            tenant = (str(item["tenant"]),) if whose else ()
            table.add_row(*day, *tenant, *counts, "yes" if item["conserved"] else "[red]NO[/]")
        console.print(table)
    if found["missing_leads"]:
        table = plain_table("Missing leads: `leads journey ID` shows what is left of one", "Day", "Lead", "Lacks")
        for lead in found["missing_leads"]:
            table.add_row(str(lead["day"]), str(lead["lead_id"]), lead["lacks"])
        console.print(table)
    _print_verdict(console, found)


def _shown(days: list[dict[str, Any]]) -> list[dict[str, Any]]:
    newest = sorted({row["day"] for row in days})[-DAYS_SHOWN:]
    return [row for row in days if row["day"] in newest or not row["conserved"]]


def _print_verdict(console: "Console", found: dict[str, Any]) -> None:
    lost = sum(item["unaccounted"] - item["missing"] for item in found["tenants"])
    if lost > 0:
        console.print(f"[red]{lost:,} leads were captured and no row knows them any more.[/]", highlight=False)
    if found["tenants"] and found["conserved"]:
        console.print("[green]The law holds[/]: every lead is in exactly one state.")
    for fault in found["faults"]:
        console.print(f"[red]{fault}[/]", highlight=False)
