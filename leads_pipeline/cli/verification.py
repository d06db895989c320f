"""``leads verification``: what is looked up, what it costs, what stands in its way."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from leads_pipeline.cli._audit import ACTOR, WORDS
from leads_pipeline.cli._sandbox_keys import lend_sandbox_keys
from leads_pipeline.cli._spans import span_option
from leads_pipeline.cli.status import plain_table, span
from leads_pipeline.clock import SystemClock
from leads_pipeline.config import Settings, load_settings
from leads_pipeline.errors import LeadsError, NotFound

if TYPE_CHECKING:
    import sqlalchemy as sa
    from rich.table import Table

    from leads_pipeline.verification.overview import Overview, ProviderStanding

_DAY = timedelta(days=1)
_AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of tables.")


@click.group()
def verification() -> None:
    """What is looked up about leads, what it costs, and what stands in its way."""


@verification.command()
@_AS_JSON
@click.pass_obj
def status(config_file: str | None, as_json: bool) -> None:
    """Show tiers, queues and providers.

    What each tier looks up and how much of it was verified in time, what waits and for how long, which providers can be
    asked.
    """
    settings = load_settings(config_file)
    lend_sandbox_keys(settings)
    with _engine(settings) as engine:
        found = _status(engine, settings)
    if as_json:
        click.echo(json.dumps(found, indent=2, default=str))
    else:
        _print_status(found, settings)


@verification.command()
@click.option("--provider", metavar="NAME", help="Only this one.")
@_AS_JSON
@click.pass_obj
def budget(config_file: str | None, provider: str | None, as_json: bool) -> None:
    """Show what was spent and what is left.

    Per provider, with the look-ups that it still pays for in each tier. Amounts are in the account's currency, days and
    months in its time zone.
    """
    settings = load_settings(config_file)
    lend_sandbox_keys(settings)
    _need_providers(settings, provider)
    with _engine(settings) as engine:
        found = _budget(engine, settings, provider)
    if as_json:
        click.echo(json.dumps(found, indent=2, default=str))
    else:
        _print_budget(found)


@verification.command()
@click.argument("tier")
@click.option("--to", "down_to", required=True, metavar="TIER", help="The less thorough tier to treat it as.")
@click.option("--for", "lasting", callback=span_option, metavar="SPAN", help="For so long: 30m, 2h, 1d.")
@click.option("--until", type=click.DateTime(), metavar="TIME", help="Until then (UTC).")
@click.option("--reason", required=True, type=WORDS, help="Why; it is kept. No personal data.")
@ACTOR
@click.pass_obj
def switch(
    config_file: str | None,
    *,
    tier: str,
    down_to: str,
    lasting: timedelta | None,
    until: datetime | None,
    reason: str,
    actor: str,
) -> None:
    """Switch a tier down, for a time or until it is resumed.

    Its new leads are treated as those of the lower tier; what waits already and the lower tier does not look up is let
    go, and its leads go on. What was sent to a provider is finished.
    """
    from leads_pipeline.storage.verification_switches import switch_down

    if lasting is not None and until is not None:
        raise click.UsageError("--for and --until say the same thing: use one of them")
    settings, now = load_settings(config_file), SystemClock().now()
    ends = now + lasting if lasting is not None else until.replace(tzinfo=UTC) if until is not None else None
    tiers = settings.verification.tiers
    with _engine(settings) as engine, engine.begin() as connection:
        made = switch_down(
            connection, tier, down_to=down_to, tiers=tiers, actor=actor, reason=reason, until=ends, now=now
        )
    until_words = f"until {made.until:%Y-%m-%d %H:%M} UTC" if made.until else "until it is resumed"
    click.echo(f"{tier} is treated as {down_to} {until_words}; `leads verification resume {tier}` ends that")


@verification.command()
@click.argument("tier")
@ACTOR
@click.pass_obj
def resume(config_file: str | None, tier: str, actor: str) -> None:
    """End the switch of a tier. Leads that went on meanwhile are not looked up again."""
    from leads_pipeline.storage.verification_switches import require_tier, switch_back

    settings = load_settings(config_file)
    lend_sandbox_keys(settings)
    require_tier(tier, settings.verification.tiers)
    with _engine(settings) as engine, engine.begin() as connection:
        switch_back(connection, tier, actor=actor, now=SystemClock().now())
    click.echo(f"{tier} is itself again")


@contextmanager
def _engine(settings: Settings) -> "Iterator[sa.Engine]":
    from leads_pipeline.storage.open import open_database

    engine = open_database(settings)
    try:
        yield engine
    finally:
        engine.dispose()


def _need_providers(settings: Settings, name: str | None = None) -> None:
    """Refuse what makes no sense without a provider, or without this one."""
    known = settings.verification.providers
    if not known:
        raise LeadsError(
            "leads.yaml names no providers under verification.providers, so nothing is paid for; "
            "docs/verification.md shows how one is named, `leads config check` tells whether it is understood"
        )
    if name is not None and name not in known:
        raise NotFound(f"there is no provider {name!r} in leads.yaml; defined: {', '.join(known)}")


def verification_line(engine: "sa.Engine", settings: Settings) -> dict[str, Any]:
    """What ``leads status`` shows of it: how much waits, what is switched down, which providers are in trouble."""
    from leads_pipeline.verification.overview import take_overview

    clock = SystemClock()
    overview = take_overview(engine, settings=settings, clock=clock)
    now = clock.now()
    return {
        "waiting": sum(queue.waiting for queue in overview.waiting),
        "oldest_seconds": max((_age(queue.oldest_since, now) for queue in overview.waiting), default=0.0),
        "switched_down": {tier.tier: tier.treated_as for tier in overview.tiers if tier.tier != tier.treated_as},
        "trouble": overview.advice(now=now),
    }


def _status(engine: "sa.Engine", settings: Settings) -> dict[str, Any]:
    from leads_pipeline.storage.verification_measurements import verdicts_since
    from leads_pipeline.verification.overview import take_overview

    clock = SystemClock()
    overview, now = take_overview(engine, settings=settings, clock=clock), clock.now()
    with engine.connect() as connection:
        verdicts = verdicts_since(connection, now - _DAY)
    advice = overview.advice(now=now)
    return {
        "at": now,
        "tiers": _tiers(overview),
        "waiting": [
            {
                "tier": queue.tier,
                "kind": queue.kind,
                "waiting": queue.waiting,
                "oldest_seconds": _age(queue.oldest_since, now),
                "past_patience": queue.past_patience,
            }
            for queue in overview.waiting
        ],
        "providers": [
            {
                "provider": item.name,
                "kind": item.kind,
                "place": item.place,
                "breaker": item.state,
                "trouble": item.trouble.reason if item.trouble else None,
                "asked_again_at": item.trouble.until if item.trouble else None,
                "advice": advice.get(item.name),
            }
            for item in overview.providers
        ],
        "verdicts_last_day": sum(item.leads for item in verdicts),
        "known_already_last_day": sum(item.known for item in verdicts),
    }


def _tiers(overview: "Overview") -> list[dict[str, Any]]:
    return [
        {
            "tier": tier.tier,
            "treated_as": tier.treated_as,
            "looks_up": list(tier.lookups),
            "patience_seconds": tier.patience_seconds,
            "lookups": tier.record.lookups,
            "share_in_time": round(tier.record.share, 4) if tier.record.lookups else None,
            "slo_seconds": tier.slo_seconds,
            "slo_share": tier.slo_share,
            "switch": {
                "to": tier.switch.down_to,
                "since": tier.switch.since,
                "until": tier.switch.until,
                "actor": tier.switch.actor,
                "reason": tier.switch.reason,
            }
            if tier.switch
            else None,
        }
        for tier in overview.tiers
    ]


def _budget(engine: "sa.Engine", settings: Settings, only: str | None) -> dict[str, Any]:
    from leads_pipeline.verification.overview import kept_shares, provider_standings

    clock = SystemClock()
    standings = provider_standings(engine, settings=settings.verification, clock=clock)
    now = clock.now()
    return {
        "at": now,
        "kept_from": dict(kept_shares(settings.verification)),
        "providers": [_account(item, now) for item in standings if only in (None, item.name)],
    }


def _account(item: "ProviderStanding", now: datetime) -> dict[str, Any]:
    from leads_pipeline.storage.verification_calls import MICROS
    from leads_pipeline.verification.overview import advice

    limits = item.settings.budget
    return {
        "provider": item.name,
        "kind": item.kind,
        "place": item.place,
        "cost_per_lookup": item.settings.cost_per_lookup,
        "time_zone": limits.time_zone,
        "spent_today": item.spend.micros_today / MICROS,
        "spent_this_month": item.spend.micros_month / MICROS,
        "per_day": limits.per_day,
        "per_month": limits.per_month,
        "left_today": None if item.day_left is None else item.day_left / MICROS,
        "left_this_month": None if item.month_left is None else item.month_left / MICROS,
        "lookups_left_by_tier": dict(item.pays_for),
        "calls_today": item.spend.calls_today,
        "lookups_today": item.spend.lookups_today,
        "calls_pending": item.unanswered.pending,
        "calls_lost": item.unanswered.lost,
        "advice": advice(item, now=now),
    }


def _age(since: datetime, now: datetime) -> float:
    return round(max(0.0, (now - since).total_seconds()), 1)


def _print_status(found: dict[str, Any], settings: Settings) -> None:
    from rich.console import Console

    console = Console(highlight=False)
    console.print(f"[bold]Verification[/] at {found['at']:%Y-%m-%d %H:%M:%S} UTC\n")
    console.print(_tiers_table(found["tiers"], settings))
    if not any(tier["looks_up"] for tier in found["tiers"]):
        console.print(
            "Nothing is looked up: verification.mx is off, and leads.yaml names no provider that a tier could ask.\n"
            "docs/verification.md shows both; `leads config check` tells whether they are understood.\n"
        )
    for tier in found["tiers"]:
        if tier["switch"]:
            console.print(_switch_line(tier), markup=False)
    if found["waiting"]:
        console.print(_waiting_table(found["waiting"]))
    else:
        console.print("No look-up waits.\n")
    if found["providers"]:
        console.print(_providers_table(found["providers"], found["at"]))
    total, known = found["verdicts_last_day"], found["known_already_last_day"]
    if total:
        console.print(f"Of {total:,} verdicts of the last 24 h, {known:,} ({known / total:.0%}) were known already.")
    for provider in found["providers"]:
        if provider["advice"] and provider["place"] is not None:
            console.print(provider["advice"], style="yellow", markup=False)


def _tiers_table(tiers: list[dict[str, Any]], settings: Settings) -> "Table":
    hours = settings.slos.verification_window_hours
    in_time = f"In time, {hours} h"
    table = plain_table(
        "Tiers", "Tier", "Looks up", "Patience", in_time, "Promised", numbers=("Patience", in_time, "Promised")
    )
    for tier in tiers:
        lookups = ", ".join(tier["looks_up"]) or "nothing"
        if tier["treated_as"] != tier["tier"]:
            lookups += f" (as {tier['treated_as']})"
        share = "" if tier["share_in_time"] is None else f"{tier['share_in_time']:.1%} of {tier['lookups']:,}"
        if tier["share_in_time"] is not None and tier["share_in_time"] < tier["slo_share"]:
            share = f"[red]{share}[/]"
        waits = bool(tier["looks_up"]) and tier["patience_seconds"] > 0
        patience = span(tier["patience_seconds"]) if waits else "none"
        promised = f"{tier['slo_share']:.1%} in {span(tier['slo_seconds'])}" if tier["looks_up"] else ""
        table.add_row(tier["tier"], lookups, patience, share, promised)
    return table


def _switch_line(tier: dict[str, Any]) -> str:
    made = tier["switch"]
    until = f"until {made['until']:%Y-%m-%d %H:%M} UTC" if made["until"] else "until it is resumed"
    return (
        f"Since {made['since']:%Y-%m-%d %H:%M} UTC {tier['tier']} is treated as {made['to']}, {until}, by "
        f"{made['actor']}: {made['reason']}. `leads verification resume {tier['tier']}` ends it.\n"
    )


def _waiting_table(waiting: list[dict[str, Any]]) -> "Table":
    numbers = ("Waiting", "Oldest", "Past patience")
    table = plain_table("Waiting", "Tier", "Look-up", *numbers, numbers=numbers)
    for queue in waiting:
        row = (f"{queue['waiting']:,}", span(queue["oldest_seconds"]), f"{queue['past_patience']:,}")
        table.add_row(queue["tier"], queue["kind"], *row)
    return table


def _providers_table(providers: list[dict[str, Any]], now: datetime) -> "Table":
    table = plain_table("Providers", "Provider", "Look-up", "Asked", "Breaker", "Now")
    for item in providers:
        place = "never: no order names it" if item["place"] is None else f"as no. {item['place']}"
        again = item["asked_again_at"]
        state = "can be asked" if item["trouble"] is None else f"[red]{item['trouble'].replace('_', ' ')}[/]"
        if again is not None:
            state += f", again in {span(max(0.0, (again - now).total_seconds()))}"
        table.add_row(item["provider"], item["kind"], place, item["breaker"], state)
    return table


def _print_budget(found: dict[str, Any]) -> None:
    from rich.console import Console

    console = Console(highlight=False)
    console.print(f"[bold]Budgets[/] at {found['at']:%Y-%m-%d %H:%M:%S} UTC, in each account's currency\n")
    console.print(_money_table(found["providers"]))
    console.print(_use_table(found["providers"]))
    for tier, share in found["kept_from"].items():
        console.print(f"{share:.0%} of every budget is kept from {tier}: it is for the tiers before it.")
    for item in found["providers"]:
        if item["calls_lost"]:
            console.print(
                f"{item['provider']}: {item['calls_lost']:,} call(s) were never answered. They count as paid, and "
                "nobody is asked for the same twice; compare with the vendor's bill.",
                markup=False,
            )
        if item["advice"] and item["place"] is not None:
            console.print(item["advice"], style="yellow", markup=False)


def _money_table(providers: list[dict[str, Any]]) -> "Table":
    numbers = ("Spent", "Limit", "Left")
    table = plain_table("Money", "Provider", "In this", *numbers, numbers=numbers)
    for item in providers:
        for name, spent, limit, left in (
            ("day", item["spent_today"], item["per_day"], item["left_today"]),
            ("month", item["spent_this_month"], item["per_month"], item["left_this_month"]),
        ):
            shown = (_amount(spent), "none" if limit is None else _amount(limit), "" if left is None else _amount(left))
            zone = "" if item["time_zone"] == "UTC" else f" ({item['time_zone']})"
            table.add_row(item["provider"] if name == "day" else "", f"{name}{zone}", *shown)
    return table


def _use_table(providers: list[dict[str, Any]]) -> "Table":
    numbers = ("Each costs", "Calls today", "Look-ups today", "Unanswered")
    table = plain_table("Use", "Provider", *numbers, "Still pays for", numbers=numbers)
    for item in providers:
        left = (f"{tier}: {count:,}" for tier, count in item["lookups_left_by_tier"].items() if count is not None)
        unanswered = item["calls_pending"] + item["calls_lost"]
        row = (f"{item['calls_today']:,}", f"{item['lookups_today']:,}", f"{unanswered:,}")
        table.add_row(item["provider"], _amount(item["cost_per_lookup"]), *row, ", ".join(left) or "any number")
    return table


def _amount(amount: float) -> str:
    from leads_pipeline.storage.verification_calls import micros
    from leads_pipeline.verification.overview import money

    return money(micros(amount))
