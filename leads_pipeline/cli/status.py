"""``leads status``: one screen of queues, ages, promises, alerts, states and limits."""

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
    from collections.abc import Sequence

    from rich.table import Table

    from leads_pipeline.domain.quota_budget import BudgetPlan
    from leads_pipeline.storage.conservation import Conservation

# Rules of rejected leads; `leads rejected list --by-rule` has all of them.
RULES_SHOWN = 5


@click.command()
@click.option(
    "--full", is_flag=True, help="Read every lead and contact: what became of all of them, and Redis' ledger."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of tables.")
@click.pass_obj
def status(config_file: str | None, full: bool, as_json: bool) -> None:
    """Show what is wrong, what waits where and for how long, what became of leads, and what the CRMs' limits leave.

    Of leads those that came since yesterday (UTC) are counted; with --full all, and the contacts at each destination.

    \b
    leads status --full
    """
    from leads_pipeline.storage.open import open_database

    settings = load_settings(config_file)
    lend_sandbox_keys(settings)
    now = SystemClock().now()
    engine = open_database(settings)
    try:
        found = _collect(engine, settings, now, full=full)
    finally:
        engine.dispose()
    if as_json:
        click.echo(json.dumps(found, indent=2, default=str))
    else:
        _print(found, settings, now)


def _collect(engine: Any, settings: Settings, now: datetime, *, full: bool) -> dict[str, Any]:
    from leads_pipeline.buffer.queues import redis_depths, with_buffered
    from leads_pipeline.cli._watching import watched
    from leads_pipeline.cli.verification import verification_line
    from leads_pipeline.crm.overview import mapping_faults, quota_plans
    from leads_pipeline.crm.parking import parked_now
    from leads_pipeline.steps.destination_backfill import doors_of
    from leads_pipeline.storage import status as numbers
    from leads_pipeline.storage.bulk_jobs import open_jobs
    from leads_pipeline.storage.left_over import left_over
    from leads_pipeline.storage.measurements import queues
    from leads_pipeline.storage.reindexing import stale_indexes
    from leads_pipeline.storage.rejected import counts_by_rule

    tenants, faults_found = _accounts(engine, settings, now, full=full)
    try:
        buffered = redis_depths(settings)
    except DatabaseUnavailable as error:  # Redis: the rest is shown
        buffered, faults_found = [], tuple(dict.fromkeys((*faults_found, str(error))))
    verification = verification_line(engine, settings)
    faults = mapping_faults(engine, settings=settings)
    quotas = quota_plans(engine, settings=settings, now=now)
    parked = parked_now(engine, settings=settings, now=now).named()
    with engine.connect() as connection:
        stale = stale_indexes(connection)
        return {
            "at": now,
            "full": full,
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
                for tenant in tenants or ()
            ],
            "conserved": None if tenants is None else not faults_found and all(item.conserved for item in tenants),
            "faults": list(faults_found),
            **watched(engine, settings, now=now),
            "verification": verification,
            "stale_indexes": [asdict(index) for index in stale],
            "rejected_by_rule": [
                asdict(count) for count in (counts_by_rule(connection, limit=RULES_SHOWN) if full else ())
            ],
            "deliveries": [
                {"destination": item.destination, "state": item.state, "contacts": item.contacts}
                for item in (numbers.deliveries(connection) if full else ())
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


def _accounts(
    engine: Any, settings: Settings, now: datetime, *, full: bool
) -> "tuple[Sequence[Conservation] | None, tuple[str, ...]]":
    """The tenants' accounts, of all leads or of the last days, and what is wrong with Redis' ledger."""
    from leads_pipeline.buffer.account import take_account
    from leads_pipeline.cli._watching import lately
    from leads_pipeline.storage.conservation import conservation

    if not full:
        return lately(engine, settings, now=now), ()
    try:
        account = take_account(engine, settings=settings)
    except DatabaseUnavailable as error:
        destinations = {name: tenant.destinations for name, tenant in settings.tenants.items()}
        with engine.connect() as connection:
            return conservation(connection, destinations=destinations), (str(error),)
    return account.tenants, account.faults


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

    from leads_pipeline.cli._watching import trouble_lines

    console = Console()
    console.print(f"[bold]leads_pipeline[/] at {now:%Y-%m-%d %H:%M:%S} UTC, {settings.path}\n", highlight=False)
    for line in trouble_lines(found, now):
        console.print(line, highlight=False)
    for part in (*_tables(found, settings), *_lines(found)):
        console.print(part, highlight=False)
    if settings.destinations:
        console.print(_limits(found, settings))
    for line in _destination_lines(found, now):
        console.print(line, highlight=False)


def _tables(found: dict[str, Any], settings: Settings) -> "Iterator[Table | str]":
    yield _waiting(found, settings) if found["queues"] else "Nothing waits.\n"
    if found["latencies_p95"]:
        yield _latencies(found["latencies_p95"])
    if found["tenants"]:
        yield _leads(found["tenants"], full=found["full"])
    if found["rejected_by_rule"]:
        yield _rejected(found["rejected_by_rule"])
    if found["deliveries"]:
        yield _contacts(found["deliveries"])


def _lines(found: dict[str, Any]) -> Iterator[str]:
    """What is said of leads and of the pipeline as a whole."""
    from leads_pipeline.cli._watching import footing_lines
    from leads_pipeline.storage.reindexing import StaleIndex

    if found["conserved"] is None:
        yield "More leads came since yesterday than are counted on the way: `leads conservation` does."
    elif not found["conserved"]:
        yield "[red]The law of conservation does not hold[/]: `leads conservation` names the days and the leads."
    for fault in found["faults"]:
        yield f"[red]{fault}[/]"
    for index in found["stale_indexes"]:
        yield f"[yellow]{StaleIndex(**index)}[/]"
    if (line := _verification(found["verification"])) is not None:
        yield line
    yield from footing_lines(found)


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

    # Two blanks between columns: on 80 columns a heading of the leads' states is not broken in the middle of its word.
    table = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )
    for column in columns:
        table.add_column(column, justify="right" if column in numbers else "left", overflow="fold")
    return table


def _waiting(found: dict[str, Any], settings: Settings) -> "Table":
    from leads_pipeline.cli._watching import rate_of

    numbers = ("Waiting", "Oldest", "Done/min")
    table = plain_table("Waiting", "Stage", "Tenant", "Lane", *numbers, numbers=numbers)
    for queue in found["queues"]:
        allowed = settings.slos.max_pending_seconds.get(queue["lane"])
        age = span(queue["oldest_seconds"])
        if allowed is not None and queue["oldest_seconds"] > allowed:
            age = f"[red]{age}, allowed {span(allowed)}[/]"
        rate = rate_of(found, queue)
        done = "" if rate is None else f"{rate:,.1f}"
        table.add_row(queue["stage"], queue["tenant"], queue["lane"], f"{queue['waiting']:,}", age, done)
    return table


def _latencies(latencies: list[dict[str, Any]]) -> "Table":
    """95 % of the leads that came by in the last quarter of an hour took no longer since their capture."""
    from leads_pipeline.domain.latency import Station

    shown = [station for station in Station if any(item["stage"] == station for item in latencies)]
    titles = [station.value.removesuffix("_leads").removesuffix("_contacts") for station in shown]
    table = plain_table("P95 from capture, last 15 min", "Tenant", "Lane", *titles, numbers=tuple(titles))
    seconds = {(item["tenant"], item["lane"], item["stage"]): item["value"] for item in latencies}
    for tenant, lane in dict.fromkeys((item["tenant"], item["lane"]) for item in latencies):
        cells = ((seconds.get((tenant, lane, station))) for station in shown)
        table.add_row(tenant, lane, *("" if value is None else span(value) for value in cells))
    return table


def _leads(tenants: list[dict[str, Any]], *, full: bool) -> "Table":
    always = (LeadState.PENDING, LeadState.DELIVERED, LeadState.MERGED, LeadState.REJECTED)
    states = [str(state) for state in LeadState if state in always or any(tenant[state] for tenant in tenants)]
    table = plain_table(
        "Leads" if full else "Leads since yesterday",
        "Tenant",
        "Captured",
        *states,
        "Conserved",
        numbers=("Captured", *states),
    )
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
    paused = {use["account"]: use["paused_until"] for use in found["accounts"] if use["paused_until"]}
    table = plain_table(
        "CRM accounts, last 24 h",
        "Account",
        "Requests",
        "429s",
        "Limit",
        "Left",
        "For batch",
        "Until",
        *(("Paused until",) if paused else ()),
        numbers=("Requests", "429s", "Left", "For batch"),
    )
    requests = {item["account"]: item for item in found["requests_last_day"]}
    quotas = {item["account"]: item for item in found["quotas"]}
    accounts = {destination.account: destination.limits for destination in settings.destinations.values()}
    for account, limits in accounts.items():
        used = requests.get(account, {"requests": 0, "throttled": 0})
        allowed = ", ".join(f"{window.most:,} {window.unit} / {window.seconds} s" for window in limits.windows)
        if limits.daily:
            allowed += f", {limits.daily.requests:,} / day"
        quota = quotas[account]
        left, for_batch, resets = "", "", ""
        if quota["left"] is not None:
            left, for_batch = f"{quota['left']:,}", f"{quota['left_for'][str(Lane.BATCH)]:,}"
            resets = f"{quota['resets_at']:%Y-%m-%d %H:%M} UTC" if quota["resets_at"] else "24 h after each"
        until = (f"{paused[account]:%Y-%m-%d %H:%M:%S} UTC" if account in paused else "",) if paused else ()
        counts = (f"{used['requests']:,}", f"{used['throttled']:,}")
        table.add_row(account, *counts, allowed, left, for_batch, resets, *until)
    return table


def span(seconds: float) -> str:
    """Seconds for people: 0.4 s, 12 s, 3 min, 5.2 h, 2.1 d."""
    for size, unit in ((86_400, "d"), (3_600, "h")):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    if seconds >= 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
