"""``leads status``: one screen of queues, ages, states and limits."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from leads_pipeline.cli._sandbox_keys import lend_sandbox_keys
from leads_pipeline.clock import SystemClock
from leads_pipeline.config import Settings, load_settings
from leads_pipeline.domain.stage import Lane, LeadState
from leads_pipeline.errors import DatabaseUnavailable

if TYPE_CHECKING:
    from rich.table import Table

    from leads_pipeline.domain.quota_budget import BudgetPlan

# Rules of rejected leads; `leads rejected list --by-rule` has all of them.
RULES_SHOWN = 5


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of tables.")
@click.pass_obj
def status(config_file: str | None, as_json: bool) -> None:
    """Show what waits where and for how long, what became of every lead, and what the CRMs' limits leave."""
    from leads_pipeline.storage.open import open_database

    settings = load_settings(config_file)
    lend_sandbox_keys(settings)
    now = SystemClock().now()
    engine = open_database(settings)
    try:
        found = _collect(engine, settings, now)
    finally:
        engine.dispose()
    if as_json:
        click.echo(json.dumps(found, indent=2, default=str))
    else:
        _print(found, settings, now)


def _collect(engine: Any, settings: Settings, now: datetime) -> dict[str, Any]:
    from leads_pipeline.buffer.account import Account, take_account
    from leads_pipeline.buffer.queues import redis_depths, with_buffered
    from leads_pipeline.cli.verification import verification_line
    from leads_pipeline.crm.overview import mapping_faults, quota_plans
    from leads_pipeline.crm.parking import parked_now
    from leads_pipeline.steps.destination_backfill import doors_of
    from leads_pipeline.storage import status as numbers
    from leads_pipeline.storage.bulk_jobs import open_jobs
    from leads_pipeline.storage.conservation import conservation
    from leads_pipeline.storage.left_over import left_over
    from leads_pipeline.storage.measurements import queues
    from leads_pipeline.storage.reindexing import stale_indexes
    from leads_pipeline.storage.rejected import counts_by_rule

    try:
        account, buffered = take_account(engine, settings=settings), redis_depths(settings)
    except DatabaseUnavailable as error:  # Redis: the rest is shown
        destinations = {name: tenant.destinations for name, tenant in settings.tenants.items()}
        with engine.connect() as connection:
            tenants = conservation(connection, destinations=destinations)
        account, buffered = Account(tuple(tenants), (str(error),)), []
    verification = verification_line(engine, settings)
    faults = mapping_faults(engine, settings=settings)
    quotas = quota_plans(engine, settings=settings, now=now)
    parked = parked_now(engine, settings=settings, now=now).named()
    with engine.connect() as connection:
        stale = stale_indexes(connection)
        return {
            "at": now,
            "queues": [
                {
                    "stage": queue.stage,
                    "tenant": queue.tenant,
                    "lane": queue.lane,
                    "waiting": queue.waiting,
                    "oldest_seconds": round(queue.oldest_seconds(now), 1),
                }
                for queue in with_buffered(queues(connection), buffered)
            ],
            "tenants": [
                {
                    "tenant": tenant.tenant,
                    "captured": tenant.captured,
                    **{str(state): leads for state, leads in tenant.states.items()},
                    "conserved": tenant.conserved,
                }
                for tenant in account.tenants
            ],
            "faults": list(account.faults),
            "verification": verification,
            "stale_indexes": [asdict(index) for index in stale],
            "rejected_by_rule": [asdict(count) for count in counts_by_rule(connection, limit=RULES_SHOWN)],
            "deliveries": [
                {"destination": item.destination, "state": item.state, "contacts": item.contacts}
                for item in numbers.deliveries(connection)
            ],
            "bulk_jobs": [asdict(item) for item in open_jobs(connection)],
            "accounts": [
                {
                    "account": use.account,
                    "endpoint_class": use.endpoint_class,
                    "paused_until": use.paused_until if use.paused_until and use.paused_until > now else None,
                }
                for use in numbers.accounts(connection)
            ],
            "mapping_faults": [
                {"destination": name, "property": item.name, "fault": item.fault, "advice": item.advice}
                for name, found in faults.items()
                for item in found
            ],
            "quotas": [_quota(account, plan) for account, plan in quotas.items()],
            "left_over": [asdict(item) for item in left_over(connection, doors_of(settings))],
            "parked": [
                {"what": name, "reason": item.reason, "until": item.until, "advice": item.advice}
                for name, item in parked.items()
            ],
            "requests_last_day": [
                {"account": account, "requests": requests, "throttled": throttled}
                for account, requests, throttled in numbers.requests_since(connection, now - timedelta(days=1))
            ],
        }


def _quota(account: str, plan: "BudgetPlan") -> dict[str, Any]:
    budget = plan.budget
    if budget is None:
        return {"account": account, "left": None, "scale": plan.scale}
    return {
        "account": account,
        "left": budget.left,
        "limit": budget.limit,
        "used": budget.used,
        "used_by_others": budget.foreign,
        "left_for": {str(lane): left for lane, left in plan.allowances.items()},
        "resets_at": budget.resets_at,
        "scale": plan.scale,
    }


def _print(found: dict[str, Any], settings: Settings, now: datetime) -> None:
    from rich.console import Console

    from leads_pipeline.storage.reindexing import StaleIndex

    console = Console()
    console.print(f"[bold]leads_pipeline[/] at {now:%Y-%m-%d %H:%M:%S} UTC, {settings.path}\n", highlight=False)
    console.print(_waiting(found["queues"], settings) if found["queues"] else "Nothing waits.\n")
    if found["tenants"]:
        console.print(_leads(found["tenants"]))
    for fault in found["faults"]:
        console.print(f"[red]{fault}[/]", highlight=False)
    for index in found["stale_indexes"]:
        console.print(f"[yellow]{StaleIndex(**index)}[/]", highlight=False)
    if found["rejected_by_rule"]:
        console.print(_rejected(found["rejected_by_rule"]))
    if (line := _verification(found["verification"])) is not None:
        console.print(line, highlight=False)
    if found["deliveries"]:
        console.print(_contacts(found["deliveries"]))
    if settings.destinations:
        console.print(_limits(found, settings))
    for line in _destination_lines(found, now):
        console.print(line, highlight=False)


def _destination_lines(found: dict[str, Any], now: datetime) -> Iterator[str]:
    """What is not as usual at a destination, each with what to do where somebody can."""
    for job in found["bulk_jobs"]:
        age = span((now - job["oldest"]).total_seconds())
        yield f"{job['destination']} works on {job['records']:,} contacts in bulk jobs: {job['jobs']}, for {age}"
    for item in found["parked"]:
        until = f"{item['until']:%Y-%m-%d %H:%M:%S} UTC"
        yield f"[yellow]{item['what']} is parked until {until} ({item['reason']})[/]: {item['advice']}"
    for item in found["left_over"]:
        yield (
            f"[yellow]{item['destination']} is no destination of {item['tenant']} in leads.yaml[/]: "
            f"{item['contacts']:,} contacts and {item['removals']:,} removals wait for it"
        )
    for item in found["mapping_faults"]:
        name, fault = f"{item['destination']}.{item['property']}", item["fault"].replace("_", " ")
        yield f"[yellow]{name} {fault}[/]: {item['advice']}"


def plain_table(title: str, *columns: str, numbers: tuple[str, ...] = ()) -> "Table":
    """An empty table as every command prints it; the columns in ``numbers`` are set to the right."""
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, justify="right" if column in numbers else "left")
    return table


def _waiting(queues: list[dict[str, Any]], settings: Settings) -> "Table":
    table = plain_table("Waiting", "Stage", "Tenant", "Lane", "Waiting", "Oldest", numbers=("Waiting", "Oldest"))
    for queue in queues:
        allowed = settings.slos.max_pending_seconds.get(queue["lane"])
        age = span(queue["oldest_seconds"])
        if allowed is not None and queue["oldest_seconds"] > allowed:
            age = f"[red]{age}, allowed {span(allowed)}[/]"
        table.add_row(queue["stage"], queue["tenant"], queue["lane"], f"{queue['waiting']:,}", age)
    return table


def _leads(tenants: list[dict[str, Any]]) -> "Table":
    always = (LeadState.PENDING, LeadState.DELIVERED, LeadState.MERGED, LeadState.REJECTED)
    states = [str(state) for state in LeadState if state in always or any(tenant[state] for tenant in tenants)]
    table = plain_table("Leads", "Tenant", "Captured", *states, "Conserved", numbers=("Captured", *states))
    for tenant in tenants:
        counts = (f"{tenant[name]:,}" for name in ("captured", *states))
        table.add_row(tenant["tenant"], *counts, "yes" if tenant["conserved"] else "[red]NO[/]")
    return table


def _rejected(rules: list[dict[str, Any]]) -> "Table":
    table = plain_table("Rejected leads, by rule", "Rule", "Field", "Value class", "Leads", numbers=("Leads",))
    for item in rules:
        table.add_row(item["rule"], item["field"], item["value_class"], f"{item['leads']:,}")
    return table


def _verification(found: dict[str, Any]) -> str | None:
    """One line, if there is anything to say."""
    parts = []
    if found["waiting"]:
        parts.append(f"{found['waiting']:,} look-ups wait, the oldest for {span(found['oldest_seconds'])}")
    parts += [f"[yellow]{tier} is treated as {lower}[/]" for tier, lower in found["switched_down"].items()]
    if found["trouble"]:
        parts.append(f"[red]in trouble: {', '.join(found['trouble'])}[/]")
    return f"[bold]Verification[/]: {'; '.join(parts)}. `leads verification status` says more.\n" if parts else None


def _contacts(deliveries: list[dict[str, Any]]) -> "Table":
    table = plain_table("Contacts at destinations", "Destination", "State", "Contacts", numbers=("Contacts",))
    for item in deliveries:
        table.add_row(item["destination"], item["state"], f"{item['contacts']:,}")
    return table


def _limits(found: dict[str, Any], settings: Settings) -> "Table":
    table = plain_table(
        "CRM accounts, last 24 h",
        "Account",
        "Requests",
        "429s",
        "Limit",
        "Left",
        "For batch",
        "Until",
        "Paused until",
        numbers=("Requests", "429s", "Left", "For batch"),
    )
    requests = {item["account"]: item for item in found["requests_last_day"]}
    quotas = {item["account"]: item for item in found["quotas"]}
    paused = {use["account"]: use["paused_until"] for use in found["accounts"] if use["paused_until"]}
    accounts = {destination.account: destination.limits for destination in settings.destinations.values()}
    for account, limits in accounts.items():
        used = requests.get(account, {"requests": 0, "throttled": 0})
        allowed = ", ".join(f"{window.most} {window.unit} / {window.seconds} s" for window in limits.windows)
        if limits.daily:
            allowed += f", {limits.daily.requests:,} / day"
        quota = quotas[account]
        left, for_batch, resets = "", "", ""
        if quota["left"] is not None:
            left, for_batch = f"{quota['left']:,}", f"{quota['left_for'][str(Lane.BATCH)]:,}"
            resets = f"{quota['resets_at']:%Y-%m-%d %H:%M} UTC" if quota["resets_at"] else "24 h after each"
        until = f"{paused[account]:%Y-%m-%d %H:%M:%S} UTC" if account in paused else ""
        counts = (f"{used['requests']:,}", f"{used['throttled']:,}")
        table.add_row(account, *counts, allowed, left, for_batch, resets, until)
    return table


def span(seconds: float) -> str:
    """Seconds for people: 0.4 s, 12 s, 3 min, 5.2 h, 2.1 d."""
    for size, unit in ((86_400, "d"), (3_600, "h")):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    if seconds >= 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
