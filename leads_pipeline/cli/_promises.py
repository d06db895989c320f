"""What ``leads slo`` shows: every promise with its verdict, every gate, as rows for tables and for JSON."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from leads_pipeline.cli.status import plain_table
from leads_pipeline.config import Settings

if TYPE_CHECKING:
    from leads_pipeline.storage.quality_gates import Gate, Gates
    from leads_pipeline.storage.slos import Standing


def collect(settings: Settings, *, now: datetime, tenant: str | None) -> dict[str, Any]:
    """All that is known of promises, gates, holds and freshness."""
    from leads_pipeline.storage.freshness import newest
    from leads_pipeline.storage.open import open_database
    from leads_pipeline.storage.quality_gates import gate_rules, judged_gates, read_gates
    from leads_pipeline.storage.quality_holds import find_holds
    from leads_pipeline.storage.slos import read_verdicts

    engine = open_database(settings)
    try:
        with engine.connect() as connection:
            verdicts = read_verdicts(connection)
            stored = read_gates(connection)
            holds = find_holds(connection, tenant=tenant)
            places = newest(connection)
    finally:
        engine.dispose()
    gates = judged_gates(stored, gate_rules(settings), now=now)
    return {
        "at": now,
        "promises": [
            row for row in _rows(settings, verdicts, gates, now=now) if tenant is None or row["tenant"] in ("", tenant)
        ],
        "gates": [_gate(item, gates, now) for item in stored],
        "quality_holds": [
            {"hold": hold.hold_id, "tenant": hold.group.tenant, "source": hold.group.source, "day": hold.group.day,
             "leads": hold.waiting, "rules": list(hold.rules)}
            for hold in holds
        ],
        "freshness": [
            {"place": item.place, "newest": item.at, "seconds": (now - item.at).total_seconds() if item.at else None}
            for item in places
        ],
    }  # fmt: skip


def _rows(settings: Settings, verdicts: Sequence["Standing"], gates: "Gates", *, now: datetime) -> list[dict[str, Any]]:
    """A row for each promise and tenant, also where nothing was evaluated yet."""
    from leads_pipeline.storage.quality_gates import tenants_of
    from leads_pipeline.storage.slos import Key

    stale_after = timedelta(seconds=settings.slos.stale_seconds)
    by_key = {item.key: item for item in verdicts}
    rows = []
    for name, promise in settings.slos.promises.items():
        for tenant in tenants_of(settings, together=promise.together, only=promise.tenant):
            found = by_key.get(Key(name, tenant, promise.lane))
            row: dict[str, Any] = {"slo": name, "promise": promise.words, "tenant": tenant, "lane": promise.lane}
            if found is None:
                row |= {"verdict": "no_data", "stale": True, "severity": None, "evaluated_at": None}
            else:
                row |= {
                    "verdict": str(found.verdict),
                    "severity": str(found.severity) if found.severity else None,
                    "stale": found.is_stale(now, after=stale_after),
                    "value": found.value,
                    "good": found.good,
                    "bad": found.bad,
                    "budget_left": found.budget_left,
                    "burn_rate": found.burn_rate,
                    "windows": found.burn_rates,
                    "since": found.since,
                    "evaluated_at": found.evaluated_at,
                }
            lanes = promise.lanes or ("real_time", "near_real_time", "batch")
            closes = promise.action == "close_gate"
            held = closes and any(gates.holding(tenant, lane) == name for lane in lanes)
            row["gate"] = ("closed" if held else "open") if closes else None
            rows.append(row)
    return rows


def _gate(item: "Gate", gates: "Gates", now: datetime) -> dict[str, Any]:
    ruling = item.ruling_at(now)
    closed_by_verdict = item.closed_at(now)
    return {
        "gate": item.key.slo,
        "tenant": item.key.tenant,
        "lane": item.key.lane,
        "state": str(ruling) if ruling else "closed" if closed_by_verdict or item.key in gates.closed else "open",
        "verdict_closes_until": item.until if closed_by_verdict else None,
        "reason": item.reason,
        "decided_at": item.decided_at,
        "ruling": str(ruling) if ruling else None,
        "ruled_by": item.ruled_by if ruling else None,
        "ruled_for": item.ruled_for if ruling else None,
        "ruled_until": item.ruled_until if ruling else None,
    }


def gates_table(found: Sequence[Mapping[str, Any]]) -> Any:
    """Gates, what decides about each, and until when."""
    from rich.markup import escape

    table = plain_table("Gates", "Gate", "Tenant", "Lane", "State", "By", "Until (UTC)", "Why")
    for item in found:
        until = item["ruled_until"] or item["verdict_closes_until"]
        style = "red" if item["state"] == "closed" else "green"
        table.add_row(
            item["gate"],
            escape(item["tenant"] or "all"),
            item["lane"] or "all",
            f"[{style}]{item['state']}[/{style}]",
            escape(item["ruled_by"] or "verdict"),
            f"{until:%Y-%m-%d %H:%M}" if until else "",
            escape(item["ruled_for"] or item["reason"] or ""),
        )
    return table


def print_table(table: Any) -> None:
    """Print a table as wide as the terminal."""
    from rich.console import Console

    Console(highlight=False).print(table)
