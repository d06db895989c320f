"""What verification promises, as asset checks: in time per tier, and providers that can be asked.

They run after the asset in a run that includes them, and every five minutes by themselves, so that verification that
has stopped fails them. Their numbers are those of ``leads verification status``.
"""

import dagster as dg

from leads_pipeline.defs.metadata import markdown_table
from leads_pipeline.defs.shield import LOST_CONNECTION, shielded
from leads_pipeline.defs.verification import VERIFICATIONS
from leads_pipeline.flows import FlowContext
from leads_pipeline.outbound.breaker import BreakerState
from leads_pipeline.verification.overview import money, take_overview


@dg.asset_check(
    asset=VERIFICATIONS,
    name="verified_in_time",
    description="Of each tier's look-ups within the window, its slo_share was settled within its slo_seconds.",
    retry_policy=LOST_CONNECTION,
)
def verified_in_time(flow: dg.ResourceParam[FlowContext]) -> dg.AssetCheckResult:
    """What failed counts as not verified, and so does what has waited for longer; a switched-down tier is let off."""
    with shielded("verified_in_time counts look-ups"):
        tiers = take_overview(flow.engine, settings=flow.settings, clock=flow.clock).tiers
    telling = [tier for tier in tiers if tier.record.lookups >= flow.settings.slos.min_sample]
    behind = [tier for tier in telling if tier.record.share < tier.slo_share]
    return dg.AssetCheckResult(
        passed=not behind,
        description="; ".join(
            f"{tier.tier}: {tier.record.share:.1%} within {tier.slo_seconds:.0f} s, promised {tier.slo_share:.1%}"
            for tier in behind
        )
        or None,
        metadata={
            "lookups": sum(tier.record.lookups for tier in tiers),
            "in_time": sum(tier.record.in_time for tier in tiers),
            "overdue": sum(tier.record.overdue for tier in tiers),
            "failed": sum(tier.record.failed for tier in tiers),
            "worst_share": min((tier.record.share for tier in telling), default=1.0),
            "tiers": markdown_table(
                ("tier", "look-ups", "in time", "late", "failed", "overdue", "in time, %", "promised, %", "within, s"),
                (
                    (
                        tier.tier,
                        tier.record.lookups,
                        tier.record.in_time,
                        tier.record.late,
                        tier.record.failed,
                        tier.record.overdue,
                        100 * tier.record.share,
                        100 * tier.slo_share,
                        tier.slo_seconds,
                    )
                    for tier in tiers
                ),
            ),
        },
    )


@dg.asset_check(
    asset=VERIFICATIONS,
    name="verification_budget",
    description="Every provider that is asked has a key, a budget that is not spent and a closed breaker.",
    retry_policy=LOST_CONNECTION,
)
def verification_budget(flow: dg.ResourceParam[FlowContext]) -> dg.AssetCheckResult:
    """Only ever a warning: the next provider is asked, and leads go on when their patience ends."""
    with shielded("verification_budget looks at the providers"):
        overview = take_overview(flow.engine, settings=flow.settings, clock=flow.clock)
    asked = [provider for provider in overview.providers if provider.place is not None]
    broken = [item for item in asked if item.is_spent or not item.has_key or item.state is not BreakerState.CLOSED]
    advice = overview.advice(now=flow.clock.now())
    return dg.AssetCheckResult(
        passed=not broken,
        severity=dg.AssetCheckSeverity.WARN,
        description="; ".join(advice[item.name] for item in broken) or None,
        metadata={
            "providers": len(asked),
            "budgets_spent": sum(item.is_spent for item in asked),
            "breakers_open": sum(item.state is not BreakerState.CLOSED for item in asked),
            "keys_missing": sum(not item.has_key for item in asked),
            "accounts": markdown_table(
                ("provider", "key", "breaker", "left today", "left this month", "calls never answered"),
                (
                    (
                        item.name,
                        "found" if item.has_key else "missing",
                        item.state,
                        "no limit" if item.day_left is None else money(item.day_left),
                        "no limit" if item.month_left is None else money(item.month_left),
                        item.unanswered.lost,
                    )
                    for item in asked
                ),
            ),
        },
    )


VERIFICATION_CHECKS: tuple[dg.AssetChecksDefinition, ...] = (verified_in_time, verification_budget)
