"""What Dagster shows of a delivery: numbers that it plots over time, and tables of why and until when.

Counts, codes and times; never a contact's values.
"""

from collections.abc import Iterable, Mapping
from dataclasses import fields
from datetime import datetime
from typing import Any

from leads_pipeline.crm.parking import Parked
from leads_pipeline.crm.report import DestinationReport
from leads_pipeline.defs.metadata import markdown_table
from leads_pipeline.domain.quota_budget import Budget, BudgetPlan
from leads_pipeline.domain.stage import Lane
from leads_pipeline.steps.crm_sync_batches import SyncReport

# Reasons of refusals that are shown, the most frequent first; `leads dead-letters list` has them all.
REASONS_SHOWN = 20


def report_metadata(report: SyncReport) -> dict[str, Any]:
    """The report's numbers by name, and its tables, those that have a row."""
    metadata: dict[str, Any] = {
        item.name: value for item in fields(report) if isinstance(value := getattr(report, item.name), int | float)
    }
    metadata["calls_per_record"] = round(report.calls_per_record, 4)
    metadata |= {f"{name} left, as it says": left for name, left in report.quota_remaining.items()}
    metadata |= {f"requests {lane}": count for lane, count in report.requests_by_lane.items()}
    budgets = {name: plan for name, plan in report.budgets.items() if plan.budget is not None}
    metadata |= {f"{name} left today": plan.budget.left for name, plan in budgets.items() if plan.budget is not None}
    tables = {
        "destinations": _destinations(report.destinations),
        "refused": _refusals(report.destinations),
        "lanes": _lanes(report.requests_by_lane),
        "quota of the day": _budgets(budgets),
        "parked": parked_rows(report.parked),
    }
    return metadata | {name: markdown_table(header, rows) for name, (header, rows) in tables.items() if rows}


# A table's header and its rows.
_Table = tuple[tuple[str, ...], list[tuple[object, ...]]]


def parked_rows(parked: Mapping[str, Parked]) -> _Table:
    """What is parked, until when, why, and what to do."""
    header = ("what", "until", "why", "what to do")
    return header, [(name, _instant(item.until), item.reason, item.advice) for name, item in parked.items()]


def _destinations(found: Mapping[str, DestinationReport]) -> _Table:
    header = (
        "destination", "delivered", "unchanged", "suppressed", "retried", "dead", "requests", "calls ÷ records", "429s",
        "breaker",
    )  # fmt: skip
    return header, [
        (
            name,
            *(_number(n) for n in (item.delivered, item.unchanged, item.suppressed, item.retried, item.dead)),
            _number(item.requests),
            f"{item.calls_per_record:.3f}" if item.records else "",
            _number(item.throttled),
            item.breaker,
        )
        for name, item in found.items()
    ]


def _refusals(found: Mapping[str, DestinationReport]) -> _Table:
    counted = [(count, name, refusal) for name, item in found.items() for refusal, count in item.refusals.items()]
    counted.sort(key=lambda one: (-one[0], one[1], one[2].verdict, one[2].code))
    return ("destination", "class", "code", "contacts", "what follows"), [
        (name, refusal.verdict, refusal.code, _number(count), "dead letter" if refusal.dead else "tried again")
        for count, name, refusal in counted[:REASONS_SHOWN]
    ]


def _lanes(requests: Mapping[str, int]) -> _Table:
    total = sum(requests.values())
    return ("lane", "requests", "share"), [
        (lane, _number(requests[lane]), f"{requests[lane] / total:.0%}") for lane in Lane if requests.get(lane)
    ]


def _budgets(plans: Mapping[str, BudgetPlan]) -> _Table:
    header = ("destination", "left", "of", *(f"for {lane}" for lane in Lane), "used by others", "until")
    return header, [_budget(name, plan, plan.budget) for name, plan in plans.items() if plan.budget is not None]


def _budget(name: str, plan: BudgetPlan, budget: Budget) -> tuple[object, ...]:
    until = _instant(budget.resets_at) if budget.resets_at is not None else "24 h after each request"
    numbers: Iterable[int] = (budget.left, budget.limit, *(plan.allowances[lane] for lane in Lane), budget.foreign)
    return (name, *(_number(number) for number in numbers), until)


def _number(value: int) -> str:
    return f"{value:,}"


def _instant(instant: datetime) -> str:
    return f"{instant:%Y-%m-%d %H:%M:%S} UTC"
