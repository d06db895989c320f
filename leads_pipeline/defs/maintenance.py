"""What must be done once a day so that the product can run for years: partitions ahead, old bookkeeping gone.

And once an hour, where leads.yaml wants it: contacts whose verdict has expired are asked for again.

Keep out: anything that a person must decide, and Dagster's own tables (``defs.run_retention``).
"""

from collections.abc import Callable
from datetime import timedelta

import dagster as dg
import sqlalchemy as sa

from leads_pipeline.defs.runs import BACKGROUND, SERIAL_TAG, has_unfinished_run, unless_under_way
from leads_pipeline.defs.shield import LOST_CONNECTION, shielded
from leads_pipeline.domain.ids import uuid7
from leads_pipeline.flows import FlowContext, reverify
from leads_pipeline.storage import latency, slos
from leads_pipeline.storage.alerts import prune_alerts
from leads_pipeline.storage.gate_history import prune_gate_history
from leads_pipeline.storage.ingest import purge_ingest_keys
from leads_pipeline.storage.mx_cache import prune_mx_cache
from leads_pipeline.storage.partitions import ensure_partitions
from leads_pipeline.storage.policies import prune_actions
from leads_pipeline.storage.source_fields import forget_unused_fields
from leads_pipeline.storage.unserved_lookups import give_up
from leads_pipeline.storage.velocity import prune_velocity
from leads_pipeline.storage.verdicts import Stamp, prune_cache
from leads_pipeline.storage.verification_calls import prune_calls

# A sender can invent names, and only so many are remembered: those of long ago make room.
UNUSED_FIELDS_KEPT = timedelta(days=90)

# Longer than a year, so that a bill can be compared with last year's; what was spent is kept for good.
CALLS_KEPT = timedelta(days=400)
# An expired verdict is of use only to re-verification: what its budget has not paid for by then waits for a next lead.
EXPIRED_VERDICTS_KEPT = timedelta(days=30)

# What rules did and people were told, so that a year can be compared with the last one.
WATCHED_KEPT = timedelta(days=400)

GIVEN_UP_AT_ONCE = 5_000
PRUNED_AT_ONCE = 5_000


@dg.op(retry_policy=LOST_CONNECTION, description="Creates the monthly partitions that the next leads need.")
def make_partitions(context: dg.OpExecutionContext, flow: dg.ResourceParam[FlowContext]) -> None:
    with shielded("maintenance makes partitions"), flow.engine.begin() as connection:
        made = ensure_partitions(connection, now=flow.clock.now())
    context.add_output_metadata({"made": len(made)})


@dg.op(retry_policy=LOST_CONNECTION, description="Forgets posts that are older than retention.ingest_keys_days.")
def prune_ingest_keys(context: dg.OpExecutionContext, flow: dg.ResourceParam[FlowContext]) -> None:
    until = flow.clock.now() - timedelta(days=flow.settings.retention.ingest_keys_days)
    with shielded("maintenance prunes ingest_keys"):
        pruned = _until_nothing_is_left(flow, lambda connection: purge_ingest_keys(connection, received_before=until))
    context.add_output_metadata({"pruned": pruned})


def _until_nothing_is_left(flow: FlowContext, prune: Callable[[sa.Connection], int]) -> int:
    """Prune part by part, each in a transaction of its own. Returns how much."""
    pruned = 0
    while True:
        with flow.engine.begin() as connection:
            found = prune(connection)
        if not found:
            return pruned
        pruned += found


@dg.op(retry_policy=LOST_CONNECTION, description="Forgets fields of sources that nothing uses and that no longer come.")
def prune_source_fields(context: dg.OpExecutionContext, flow: dg.ResourceParam[FlowContext]) -> None:
    with shielded("maintenance prunes source_fields"), flow.engine.begin() as connection:
        pruned = forget_unused_fields(connection, last_seen_before=flow.clock.now() - UNUSED_FIELDS_KEPT)
    context.add_output_metadata({"pruned": pruned})


@dg.op(
    retry_policy=LOST_CONNECTION,
    description="Forgets expired verdicts, what DNS once said, old counts of velocity, and calls of 400 days ago.",
)
def prune_verification(context: dg.OpExecutionContext, flow: dg.ResourceParam[FlowContext]) -> None:
    now, settings = flow.clock.now(), flow.settings
    # A lead that waited in the buffer is counted at the time at which it came.
    counted = timedelta(minutes=settings.verification.risk.window_minutes)
    counted += timedelta(hours=settings.buffer.bounds.max_age_hours)
    given_up = now - timedelta(hours=settings.verification.give_up_after_hours)
    stamp = Stamp(uuid7(now), context.run_id, now)
    prunings: dict[str, Callable[[sa.Connection], int]] = {
        "verification_requests": lambda connection: (
            give_up(connection, requested_before=given_up, limit=GIVEN_UP_AT_ONCE, stamp=stamp).verdicts
        ),
        "verdict_cache": lambda connection: prune_cache(connection, expired_before=now - EXPIRED_VERDICTS_KEPT),
        "mx_cache": lambda connection: prune_mx_cache(connection, now=now),
        "velocity_counts": lambda connection: prune_velocity(connection, before=now - counted),
        "verification_calls": lambda connection: prune_calls(connection, sent_before=now - CALLS_KEPT),
    }
    with shielded("maintenance prunes what verification remembers"):
        pruned = {name: _until_nothing_is_left(flow, prune) for name, prune in prunings.items()}
    context.add_output_metadata(pruned)


@dg.op(
    retry_policy=LOST_CONNECTION,
    description="Adds latencies up, forgets those of five weeks ago, and what was promised, done and told long ago.",
)
def prune_watching(context: dg.OpExecutionContext, flow: dg.ResourceParam[FlowContext]) -> None:
    now, retention = flow.clock.now(), flow.settings.retention
    long_ago = now - WATCHED_KEPT
    history_kept = now - timedelta(days=retention.slo_history_days)
    prunings: dict[str, Callable[[sa.Connection], int]] = {
        "latency_histograms": lambda connection: latency.prune(connection, before=now - latency.HOURS_KEPT),
        "slo_history_thinned": lambda connection: slos.thin_history(connection, now=now),
        "slo_history": lambda connection: slos.forget_history(connection, before=history_kept),
        "policy_actions": lambda connection: prune_actions(connection, ended_before=long_ago),
        "gate_history": lambda connection: prune_gate_history(connection, ended_before=long_ago),
        "alerts": lambda connection: prune_alerts(connection, closed_before=long_ago, limit=PRUNED_AT_ONCE),
    }
    with shielded("maintenance prunes what was watched"):
        # Where nobody watches, nobody else does it.
        folded = latency.fold(flow.engine, now=now)
        pruned = {name: _until_nothing_is_left(flow, prune) for name, prune in prunings.items()}
    context.add_output_metadata({"latencies_folded": folded, **pruned})


@dg.job(
    description="Daily upkeep: partitions ahead, expired bookkeeping gone.",
    tags={SERIAL_TAG: "maintenance", "dagster/priority": "-20", **BACKGROUND},
)
def maintenance() -> None:
    make_partitions()
    prune_ingest_keys()
    prune_source_fields()
    prune_verification()
    prune_watching()


maintenance_daily = dg.ScheduleDefinition(
    name="maintenance_daily",
    job=maintenance,
    cron_schedule="30 3 * * *",
    execution_fn=unless_under_way(maintenance.name),
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Upkeep, once a night.",
)


@dg.op(
    retry_policy=LOST_CONNECTION,
    description="Asks again for contacts' addresses and numbers of which the verdict has expired, inside the budgets.",
)
def ask_for_expired_verdicts(context: dg.OpExecutionContext, flow: dg.ResourceParam[FlowContext]) -> None:
    with shielded("reverification asks again for what has expired"):
        counts = reverify(flow, runner_id=context.run_id)
    context.add_output_metadata(dict(counts))


@dg.job(
    description="Where verification.cache.reverify says when_expired: look-ups of contacts whose verdict has expired.",
    tags={SERIAL_TAG: "reverification", "dagster/priority": "-20", **BACKGROUND},
)
def reverification() -> None:
    ask_for_expired_verdicts()


@dg.schedule(
    job=reverification,
    cron_schedule="40 * * * *",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Re-verification, every hour, if leads.yaml wants it.",
)
def reverification_hourly(
    context: dg.ScheduleEvaluationContext, flow: dg.ResourceParam[FlowContext]
) -> dg.RunRequest | dg.SkipReason:
    if flow.settings.verification.cache.reverify != "when_expired":
        return dg.SkipReason("verification.cache.reverify is on_next_lead: a contact's next lead asks again")
    if has_unfinished_run(context.instance, reverification.name, now=flow.clock.now()):
        return dg.SkipReason("the last run is still under way")
    return dg.RunRequest()
