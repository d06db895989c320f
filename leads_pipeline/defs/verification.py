"""The asset ``verifications``: what validated leads still wait for is looked up, beside the hot chain.

``validated_leads`` itself looks up for a moment in each run, and leads go on when their patience ends: nothing below
waits for this asset. Keep out: when it runs (``defs.sensors``) and its checks (``defs.verification_checks``).
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import dagster as dg
from pydantic import Field

from leads_pipeline import flows
from leads_pipeline.defs.metadata import markdown_table, table_metadata
from leads_pipeline.defs.runs import note_progress
from leads_pipeline.defs.shield import LOST_CONNECTION, shielded
from leads_pipeline.domain.stage import Stage
from leads_pipeline.flows import FlowContext
from leads_pipeline.outbound.breaker import BreakerState
from leads_pipeline.steps.verifications import VerificationReport
from leads_pipeline.storage.verification_calls import MICROS
from leads_pipeline.storage.verification_measurements import CallCount, VerdictCount, calls_since, verdicts_since
from leads_pipeline.verification.overview import Overview, ProviderStanding, money, take_overview

VERIFICATIONS = "verifications"


class VerificationConfig(dg.Config):
    """How long a run looks up."""

    seconds: float | None = Field(default=None, gt=0, description="At most so long; unset: pipeline.run_seconds.")


@dg.asset(
    name=VERIFICATIONS,
    group_name="intake",
    deps=[str(Stage.VALIDATED_LEADS)],
    kinds={"python", "postgres", "http"},
    owners=["team:leads"],
    tags={"personal_data": "no"},
    metadata=table_metadata(VERIFICATIONS),
    retry_policy=LOST_CONNECTION,
)
def verifications(
    context: dg.AssetExecutionContext, config: VerificationConfig, flow: dg.ResourceParam[FlowContext]
) -> dg.MaterializeResult[None]:
    """What DNS and providers say of leads' addresses and numbers, inside their limits and budgets. A row is never
    rewritten: a later verdict is a further row.
    """
    seconds = config.seconds or flow.settings.pipeline.run_seconds
    with shielded("verifications looks up what is due"):
        began, run_id = flow.clock.now(), context.run.run_id
        report = flows.verify(flow, runner_id=run_id, seconds=seconds)
        overview = take_overview(flow.engine, settings=flow.settings, clock=flow.clock)
        with flow.engine.connect() as connection:
            providers = list(flow.settings.verification.providers)
            calls = calls_since(connection, providers, began, runner_id=run_id)
            verdicts = verdicts_since(connection, began, runner_id=run_id)
            lately = verdicts_since(connection, flow.clock.now() - timedelta(hours=1))
    # A provider that fails sets the time of the next question itself; the sensor need not slow down as well.
    if report.lookups or report.calls or report.leads:
        note_progress(context.instance, run_id)
    metadata = _metadata(report, overview, calls, verdicts, now=flow.clock.now())
    # What was known when a lead was validated is no look-up of this run; it shows what the cache is worth.
    metadata["verdicts_last_hour"] = sum(item.leads for item in lately)
    metadata["known_already_last_hour"] = sum(item.known for item in lately)
    return dg.MaterializeResult(metadata=metadata)


def _metadata(
    report: VerificationReport,
    overview: Overview,
    calls: list[CallCount],
    verdicts: list[VerdictCount],
    *,
    now: datetime,
) -> dict[str, Any]:
    waiting = overview.waiting
    oldest = max(((now - queue.oldest_since).total_seconds() for queue in waiting), default=0.0)
    return {
        "lookups": report.lookups,
        "calls": report.calls,
        "leads_settled": report.leads,
        # One look-up serves all who wait for its subject; a dead domain's mailboxes, and what DNS knew, need none.
        "lookups_saved": max(0, report.leads - report.lookups - report.counts["answers_lost"]),
        "leads_released": report.released,
        "contacts_upgraded": report.upgraded,
        "waiting": sum(queue.waiting for queue in waiting),
        "oldest_wait_seconds": round(max(0.0, oldest), 3),
        "breakers_open": sum(provider.state is not BreakerState.CLOSED for provider in overview.providers),
        **{f"share_in_time_{tier.tier}": tier.record.share for tier in overview.tiers if tier.record.lookups},
        **{f"spent_today_{item.name}": item.spend.micros_today / MICROS for item in overview.providers},
        **{f"spent_this_month_{item.name}": item.spend.micros_month / MICROS for item in overview.providers},
        **_tables(report, overview, calls, verdicts, now=now),
    }


def _tables(
    report: VerificationReport,
    overview: Overview,
    calls: list[CallCount],
    verdicts: list[VerdictCount],
    *,
    now: datetime,
) -> dict[str, dg.MarkdownMetadataValue]:
    """Those that have a row."""
    advice, waiting = overview.advice(now=now), overview.waiting
    tables: dict[str, tuple[Sequence[str], list[tuple[object, ...]]]] = {
        "counts": (("", "count"), sorted((name, count) for name, count in report.counts.items() if count)),
        "calls_by_outcome": (
            ("provider", "outcome", "calls", "look-ups"),
            [(item.provider, item.outcome or "no answer yet", item.calls, item.lookups) for item in calls],
        ),
        "verdicts": (
            ("look-up", "said by", "verdict", "leads"),
            [(item.kind, item.provider, item.verdict, item.leads) for item in verdicts],
        ),
        "providers": (
            ("provider", "look-up", "spent today", "this month", "left today", "left this month", "breaker"),
            [_account(item) for item in overview.providers],
        ),
        "backlog": (
            ("tier", "look-up", "waiting", "oldest, s", "past patience"),
            [
                (queue.tier, queue.kind, queue.waiting, (now - queue.oldest_since).total_seconds(), queue.past_patience)
                for queue in waiting
            ],
        ),
        "stopped": (("look-up", "why nobody was asked"), list(report.stopped.items())),
        "what_helps": (("provider", "what is wrong, and what helps"), list(advice.items())),
    }
    return {name: markdown_table(header, rows) for name, (header, rows) in tables.items() if rows}


def _account(item: ProviderStanding) -> tuple[object, ...]:
    return (
        item.name,
        item.kind,
        money(item.spend.micros_today),
        money(item.spend.micros_month),
        "no limit" if item.day_left is None else money(item.day_left),
        "no limit" if item.month_left is None else money(item.month_left),
        item.state,
    )
