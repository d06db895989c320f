"""What ``leads status`` shows of the pipeline's own watching: promises, gates, orders, alerts, latencies, the buffer.

``watched`` reads few and small tables and the measures, each by itself; what could not be measured is named. The lines
and tables are made of what ``--json`` prints.
"""

from collections.abc import Iterator
from datetime import datetime, time, timedelta
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from leads_pipeline.clock import SystemClock
from leads_pipeline.config import Settings
from leads_pipeline.domain.stage import Stage

if TYPE_CHECKING:
    from leads_pipeline.storage.conservation import Conservation

# The screen is for now; an account that takes longer is for `leads conservation`.
CONSERVATION_SECONDS = 5.0
ALERTS_SHOWN = 10
_MEASURES = ("rate_per_minute", "latency_p95_seconds", "buffer_fullness", "free_disk_bytes")
# The station that a lead comes to when it has left the queue in front of a stage.
_LEAVES_FOR = {str(Stage.CRM_SYNC_BATCHES): "delivered", "verifications": "verified"}


def watched(engine: sa.Engine, settings: Settings, *, now: datetime) -> dict[str, Any]:
    """Everything but the queues and the leads."""
    from leads_pipeline.domain.burn_rate import SloVerdict
    from leads_pipeline.storage.alert_notices import unsent
    from leads_pipeline.storage.alerts import list_alerts
    from leads_pipeline.storage.orders import orders_in_force
    from leads_pipeline.storage.quality_gates import gate_rules, read_gates
    from leads_pipeline.storage.quality_gates import judged_gates as judged
    from leads_pipeline.storage.slos import read_verdicts
    from leads_pipeline.watching.alert_sources.channels import NOBODY_SENDS_AFTER
    from leads_pipeline.watching.measures import take_measures

    measures = take_measures(engine, settings=settings, clock=SystemClock(), names=_MEASURES)
    with engine.connect() as connection:
        verdicts = read_verdicts(connection)
        gates = read_gates(connection)
        orders = orders_in_force(connection, now=now).in_force
        alerts = list_alerts(connection, tenant=None, closed=False, limit=1_000)
        queues = unsent(connection)
    found = judged(gates, gate_rules(settings), now=now)
    reasons = {gate.key: gate for gate in gates}
    not_kept = [item for item in verdicts if item.verdict in (SloVerdict.BURNING, SloVerdict.BROKEN)]
    judged_at = max((item.evaluated_at for item in verdicts), default=None)
    too_old = timedelta(minutes=settings.alerts.stale_minutes)
    return {
        "promises": {
            "judged": len(verdicts), "judged_at": judged_at,
            "stale": judged_at is not None and now - judged_at > too_old,
        },
        "promises_not_kept": [
            {"slo": item.key.slo, "tenant": item.key.tenant or None, "lane": item.key.lane or None,
             "verdict": item.verdict, "severity": item.severity, "value": item.value,
             "budget_left": item.budget_left, "since": item.since}
            for item in not_kept
        ],
        "closed_gates": [
            {"gate": key.slo, "tenant": key.tenant or None, "lane": key.lane or None,
             "reason": gate.reason if (gate := reasons.get(key)) else "nobody has judged it for too long",
             "until": gate.until if gate else None, "ruled_by": None}
            for key in found.closed if key not in found.opened
        ] + [
            {"gate": key.slo, "tenant": key.tenant or None, "lane": key.lane or None,
             "reason": reasons[key].ruled_for, "until": reasons[key].ruled_until, "ruled_by": reasons[key].ruled_by}
            for key in found.shut
        ],
        "gates_held_open": [
            {"gate": key.slo, "tenant": key.tenant or None, "lane": key.lane or None,
             "ruled_by": reasons[key].ruled_by, "until": reasons[key].ruled_until}
            for key in found.opened
        ],
        "orders": [
            {"policy": item.policy, "action": item.action, "tenant": item.tenant, "lane": item.lane,
             "destination": item.destination, "parameters": dict(item.parameters), "ends_at": item.ends_at}
            for item in orders
        ],
        "alerts": [
            {"alert_id": item.alert_id, "severity": item.severity, "title": item.title, "tenant": item.tenant,
             "opened_at": item.opened_at, "playbook": item.playbook}
            for item in alerts
        ],
        "unsent_alerts": [
            {"channel": item.channel, "messages": item.waiting, "since": item.since, "tried": not item.untried}
            for item in queues if now - item.since >= NOBODY_SENDS_AFTER
        ],
        "rates": _values(measures.of("rate_per_minute")),
        "latencies_p95": _values(measures.of("latency_p95_seconds")),
        "buffer": {
            "fullness": _single(measures.of("buffer_fullness")),
            "free_disk_bytes": _single(measures.of("free_disk_bytes")),
        },
        "not_measured": dict(measures.failed),
    }  # fmt: skip


def _values(found: Any) -> list[dict[str, Any]]:
    return [
        {"tenant": item.tenant, "lane": item.lane, "stage": item.stage, "value": round(item.value, 3)}
        for item in found or ()
    ]


def _single(found: Any) -> float | None:
    return found[0].value if found else None


def lately(engine: sa.Engine, settings: Settings, *, now: datetime) -> "list[Conservation] | None":
    """The accounts of leads that were captured since yesterday; ``None``: there are too many to count on the way."""
    from leads_pipeline.storage.conservation import Days, by_tenant, daily_conservation

    destinations = {name: tenant.destinations for name, tenant in settings.tenants.items()}
    with engine.connect() as connection:
        connection.execute(sa.text(f"set local statement_timeout = {int(CONSERVATION_SECONDS * 1_000)}"))
        try:
            days = Days(_yesterday(now).date(), now.date() + timedelta(days=1))
            return by_tenant(daily_conservation(connection, destinations=destinations, days=days))
        except sa.exc.OperationalError as error:
            if getattr(error.orig, "sqlstate", None) != "57014":  # canceled for the time that it took
                raise
            return None


def _yesterday(now: datetime) -> datetime:
    return datetime.combine(now.date(), time(), now.tzinfo) - timedelta(days=1)


def rate_of(found: dict[str, Any], queue: dict[str, Any]) -> float | None:
    """Leads per minute that left the queue, over the last minutes."""
    stage = str(queue["stage"])
    place = (queue["tenant"], str(queue["lane"]), _LEAVES_FOR.get(stage, stage))
    rates = {(item["tenant"], item["lane"], str(item["stage"])): item["value"] for item in found["rates"]}
    return rates.get(place)


def trouble_lines(found: dict[str, Any], now: datetime) -> Iterator[str]:
    """What is not as it should be, and what was done about it, the worst first; or that there is nothing of it."""
    lines = list(_trouble(found, now))
    yield from lines
    if not lines and found["promises"]["judged"]:
        yield "[green]Nothing is wrong that is known[/]: no alert, broken promise, closed gate or order of a rule."


def _trouble(found: dict[str, Any], now: datetime) -> Iterator[str]:
    from leads_pipeline.domain.burn_rate import budget_in_words

    if found["promises"]["stale"]:
        yield (
            f"[red]nobody has looked for {_age(found['promises']['judged_at'], now)}[/]: promises, rules, alerts are "
            "of then. Does Dagster's daemon run, or `leads watch`? docs/playbooks/stuck-run.md"
        )
    for item in found["alerts"][:ALERTS_SHOWN]:
        colour = "red" if item["severity"] == "page" else "yellow"
        playbook = f"; docs/playbooks/{item['playbook']}.md" if item["playbook"] else ""
        yield f"[{colour}]alert, {item['severity']}[/]: {item['title']}, since {_age(item['opened_at'], now)}{playbook}"
    if (more := len(found["alerts"]) - ALERTS_SHOWN) > 0:
        yield f"and {more} more: `leads alerts list`"
    for item in found["unsent_alerts"]:
        why = "the channel does not take them" if item["tried"] else "nobody has tried to send them"
        yield (
            f"[red]{item['messages']} messages about alerts wait for {item['channel']}[/] since "
            f"{_age(item['since'], now)}: {why}; docs/playbooks/alerts-not-sent.md"
        )
    for item in found["promises_not_kept"]:
        left = "" if item["budget_left"] is None else f", its budget {budget_in_words(item['budget_left'])}"
        yield f"[red]promise {item['slo']}{_about(item)} is {item['verdict']}[/] since {_age(item['since'], now)}{left}"
    for item in found["closed_gates"]:
        by = f" by {item['ruled_by']}" if item["ruled_by"] else ""
        until = f" until {item['until']:%Y-%m-%d %H:%M:%S} UTC" if item["until"] else ""
        yield f"[red]gate {item['gate']}{_about(item)} is closed{by}[/]{until}: {item['reason']}"
    for item in found["gates_held_open"]:
        yield (
            f"[yellow]gate {item['gate']}{_about(item)} is held open by {item['ruled_by']}[/] "
            f"until {item['until']:%Y-%m-%d %H:%M:%S} UTC"
        )
    for item in found["orders"]:
        at = f" at {item['destination']}" if item["destination"] else ""
        yield (
            f"[yellow]rule {item['policy']} ordered {item['action']}{_about(item)}{at}[/] until "
            f"{item['ends_at']:%H:%M:%S} UTC, or for as long as its cause lasts"
        )


def footing_lines(found: dict[str, Any]) -> Iterator[str]:
    """The buffer, the promises as a whole, and what could not be measured."""
    fullness, disk = found["buffer"]["fullness"], found["buffer"]["free_disk_bytes"]
    if fullness is not None:
        free = "" if disk is None else f", {disk / 1e9:,.1f} GB of its disk are free"
        colour = "red" if fullness >= 0.9 else "yellow" if fullness >= 0.7 else "green"
        yield f"[bold]Buffer[/]: [{colour}]{fullness:.1%}[/] of its nearest bound{free}."
    promises = found["promises"]
    if promises["judged"]:
        kept = promises["judged"] - len(found["promises_not_kept"])
        yield f"[bold]Promises[/]: {kept} of {promises['judged']} not broken; `leads slo list` says more."
    else:
        yield "[bold]Promises[/]: none was judged yet; `leads watch` and Dagster's sensor do."
    if found["not_measured"]:
        yield f"[yellow]not measured now: {', '.join(found['not_measured'])}[/]"


def _about(item: dict[str, Any]) -> str:
    named = [str(value) for value in (item["tenant"], item["lane"]) if value]
    return f" of {', '.join(named)}" if named else ""


def _age(since: datetime, now: datetime) -> str:
    from leads_pipeline.cli.status import span

    return span(max(0.0, (now - since).total_seconds()))
