"""Every SLO is an asset check: one cheap question to the database, judged by ``slos`` in leads.yaml.

They run after the asset in a run that includes them, and every five minutes by themselves, so that a pipeline that has
stopped fails them. Add a check beside the asset that it is about, its measurement in ``storage.measurements``, and a
line in docs/dagster.md. Keep out: checks that need a heavy import (``defs.expectations``).
"""

from collections.abc import Iterable
from datetime import date, timedelta

import dagster as dg

from leads_pipeline.buffer.account import take_account
from leads_pipeline.buffer.queues import intake_queues
from leads_pipeline.config import Settings
from leads_pipeline.defs.metadata import markdown_table, queues_table
from leads_pipeline.defs.shield import LOST_CONNECTION, shielded
from leads_pipeline.domain.schema_drift import drift_of
from leads_pipeline.domain.stage import LeadState, Stage
from leads_pipeline.flows import FlowContext
from leads_pipeline.storage import measurements
from leads_pipeline.storage.conservation import Conservation, MissingLead, missing_leads
from leads_pipeline.storage.reindexing import stale_indexes
from leads_pipeline.storage.source_fields import known_fields

# The first missing leads by id: enough to begin a search with `leads journey`.
MISSING_SHOWN = 20
DAYS_SHOWN = timedelta(days=7)
MOST_DAYS_SHOWN = 100
# The first changed fields; `leads sources fields` shows a source's all.
DRIFT_SHOWN = 50


def required_destinations(settings: Settings) -> dict[str, tuple[str, ...]]:
    """Where each tenant's contacts must be delivered."""
    return {name: tenant.destinations for name, tenant in settings.tenants.items()}


@dg.asset_check(
    asset=str(Stage.CRM_SYNC_BATCHES),
    name="conservation",
    description="Every captured lead is in exactly one state, and the states add up to what was captured, per tenant "
    "and day.",
    retry_policy=LOST_CONNECTION,
)
def conservation(flow: dg.ResourceParam[FlowContext]) -> dg.AssetCheckResult:
    destinations = required_destinations(flow.settings)
    with shielded("conservation adds up the states"):
        account = take_account(flow.engine, settings=flow.settings)
        tenants = account.tenants
        missing: list[MissingLead] = []
        if any(tenant.missing for tenant in tenants):
            with flow.engine.connect() as connection:
                missing = missing_leads(connection, destinations=destinations, limit=MISSING_SHOWN)
    return dg.AssetCheckResult(
        passed=account.conserved,
        description="; ".join(account.faults) or None,
        metadata={
            "captured": sum(tenant.captured for tenant in tenants),
            **{str(state): sum(tenant.states[state] for tenant in tenants) for state in LeadState},
            "missing": sum(tenant.missing for tenant in tenants),
            "unaccounted": sum(abs(tenant.unaccounted) for tenant in tenants),
            "days_not_conserved": sum(not day.conserved for day in account.days),
            "by_tenant": _accounts_table(tenants),
            "by_day": _days_table(account.days, today=flow.clock.now().date()),
            **({"missing_leads": _missing_table(missing)} if missing else {}),
        },
    )


def _accounts_table(tenants: Iterable[Conservation]) -> dg.MarkdownMetadataValue:
    return markdown_table(
        ("tenant", "captured", *LeadState, "missing", "unaccounted"),
        (
            (item.tenant, item.captured, *(item.states[state] for state in LeadState), item.missing, item.unaccounted)
            for item in tenants
        ),
    )


def _days_table(days: Iterable[Conservation], *, today: date) -> dg.MarkdownMetadataValue:
    """The last days, and any other that does not add up; `leads conservation` has all."""
    shown = [day for day in days if not day.conserved or (day.day and day.day > today - DAYS_SHOWN)]
    shown.sort(key=lambda day: (day.conserved, -(day.day or date.min).toordinal(), day.tenant))
    return markdown_table(
        ("day", "tenant", "captured", *LeadState, "missing", "unaccounted", "conserved"),
        (
            (day.day, day.tenant, day.captured, *(day.states[state] for state in LeadState), day.missing,
             day.unaccounted, "yes" if day.conserved else "NO")
            for day in shown[:MOST_DAYS_SHOWN]
        ),
    )  # fmt: skip


def _missing_table(missing: Iterable[MissingLead]) -> dg.MarkdownMetadataValue:
    return markdown_table(
        ("tenant", "day", "lead id", "lacks"), ((lead.tenant, lead.day, lead.lead_id, lead.trail) for lead in missing)
    )


def _oldest_pending(stage: Stage) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=str(stage),
        name="oldest_pending",
        description=f"Nothing waits in front of {stage} for longer than slos.max_pending_seconds allows its lane.",
        retry_policy=LOST_CONNECTION,
    )
    def oldest_pending(flow: dg.ResourceParam[FlowContext]) -> dg.AssetCheckResult:
        now = flow.clock.now()
        limits = flow.settings.slos.max_pending_seconds
        with shielded(f"oldest_pending looks in front of {stage}"), flow.engine.connect() as connection:
            queues = (
                intake_queues(connection, settings=flow.settings)
                if stage is Stage.RAW_LEADS
                else measurements.queues(connection, [stage])
            )
        late = [queue for queue in queues if queue.oldest_seconds(now) > limits.get(queue.lane.value, float("inf"))]
        return dg.AssetCheckResult(
            passed=not late,
            metadata={
                "waiting": sum(queue.waiting for queue in queues),
                "oldest_seconds": max((queue.oldest_seconds(now) for queue in queues), default=0.0),
                "queues_too_old": len(late),
                "queues": queues_table(queues, now=now),
            },
        )

    return oldest_pending


@dg.asset_check(
    asset=str(Stage.VALIDATED_LEADS),
    name="rejection_rate",
    description="No source has more of its leads rejected than slos.max_rejection_rate within the window.",
    retry_policy=LOST_CONNECTION,
)
def rejection_rate(flow: dg.ResourceParam[FlowContext]) -> dg.AssetCheckResult:
    slos = flow.settings.slos
    since = flow.clock.now() - timedelta(hours=slos.rejection_window_hours)
    with shielded("rejection_rate counts verdicts"), flow.engine.connect() as connection:
        sources = measurements.judged_since(connection, since)
    telling = [source for source in sources if source.leads >= slos.min_sample]
    leads, rejected = sum(source.leads for source in sources), sum(source.rejected for source in sources)
    return dg.AssetCheckResult(
        passed=all(source.rejection_rate <= slos.max_rejection_rate for source in telling),
        metadata={
            "leads": leads,
            "rejected": rejected,
            "rejection_rate": rejected / leads if leads else 0.0,
            "worst_rejection_rate": max((source.rejection_rate for source in telling), default=0.0),
            "sources": markdown_table(
                ("tenant", "source", "leads", "rejected", "rate, %"),
                ((s.tenant, s.source, s.leads, s.rejected, 100 * s.rejection_rate) for s in sources),
            ),
        },
    )


@dg.asset_check(
    asset=str(Stage.VALIDATED_LEADS),
    name="schema_drift",
    description="No source sends new fields that nothing uses, and none has stopped sending a field that is used.",
    retry_policy=LOST_CONNECTION,
)
def schema_drift(flow: dg.ResourceParam[FlowContext]) -> dg.AssetCheckResult:
    """Only ever a warning: the leads are as good as what came, and somebody should look at the mapping."""
    slos = flow.settings.slos
    window = timedelta(hours=slos.drift_window_hours)
    with shielded("schema_drift compares fields"), flow.engine.connect() as connection:
        fields = known_fields(connection)
    drift = drift_of(fields, now=flow.clock.now(), window=window, min_posts=slos.min_sample)
    changes = [
        *((item.field, f"came without it: {item.posts_since}") for item in drift.vanished),
        *((field, "new, used for nothing") for field in drift.unknown),
    ]
    return dg.AssetCheckResult(
        passed=not changes,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={
            "unknown_fields": len(drift.unknown),
            "vanished_fields": len(drift.vanished),
            "fields": markdown_table(
                ("tenant", "source", "field", "used for", "change", "first seen", "last seen"),
                (
                    (
                        field.tenant,
                        field.source,
                        field.field,
                        field.used_for or "",
                        change,
                        f"{field.first_seen_at:%Y-%m-%d %H:%M}",
                        f"{field.last_seen_at:%Y-%m-%d %H:%M}",
                    )
                    for field, change in changes[:DRIFT_SHOWN]
                ),
            ),
        },
    )


@dg.asset_check(
    asset=str(Stage.GOLDEN_CONTACTS),
    name="duplicate_emails",
    description="No two golden contacts of a tenant hold the same e-mail address; others may await it. Nothing is "
    "delivered while two hold it.",
    blocking=True,
    retry_policy=LOST_CONNECTION,
)
def duplicate_emails(flow: dg.ResourceParam[FlowContext]) -> dg.AssetCheckResult:
    with shielded("duplicate_emails looks at golden contacts"), flow.engine.connect() as connection:
        found = measurements.duplicate_emails(connection)
    return dg.AssetCheckResult(
        passed=not found,
        metadata={
            "duplicate_emails": sum(tenant.emails for tenant in found),
            "contacts_involved": sum(tenant.contacts for tenant in found),
            "tenants": markdown_table(
                ("tenant", "e-mails", "contacts"), ((t.tenant, t.emails, t.contacts) for t in found)
            ),
        },
    )


@dg.asset_check(
    asset=str(Stage.DEDUPED_LEADS),
    name="record_keys",
    description="Every tenant's known leads are found by the keys that this release makes.",
    retry_policy=LOST_CONNECTION,
)
def record_keys(flow: dg.ResourceParam[FlowContext]) -> dg.AssetCheckResult:
    """Only ever a warning: chunks are resolved, but people who were known before the upgrade may be founded again."""
    with shielded("record_keys looks at versions"), flow.engine.connect() as connection:
        stale = stale_indexes(connection)
    return dg.AssetCheckResult(
        passed=not stale,
        severity=dg.AssetCheckSeverity.WARN,
        description="; ".join(map(str, stale)) or None,
        metadata={
            "stale_records": sum(item.records for item in stale),
            "tenants": markdown_table(
                ("tenant", "version of keys", "records"), ((item.tenant, item.version, item.records) for item in stale)
            ),
        },
    )


@dg.asset_check(
    asset=str(Stage.CRM_SYNC_BATCHES),
    name="delivery_success",
    description="Of the contacts whose delivery ended within the window, slos.min_delivery_success reached the CRM.",
    retry_policy=LOST_CONNECTION,
)
def delivery_success(flow: dg.ResourceParam[FlowContext]) -> dg.AssetCheckResult:
    slos = flow.settings.slos
    since = flow.clock.now() - timedelta(hours=slos.delivery_window_hours)
    with shielded("delivery_success counts how deliveries ended"), flow.engine.connect() as connection:
        routes = measurements.settled_since(connection, since)
    telling = [route for route in routes if route.delivered + route.dead >= slos.min_sample]
    delivered, dead = sum(route.delivered for route in routes), sum(route.dead for route in routes)
    return dg.AssetCheckResult(
        passed=all(route.success_rate >= slos.min_delivery_success for route in telling),
        metadata={
            "delivered": delivered,
            "dead": dead,
            "success_rate": delivered / (delivered + dead) if delivered + dead else 1.0,
            "worst_success_rate": min((route.success_rate for route in telling), default=1.0),
            "routes": markdown_table(
                ("tenant", "destination", "delivered", "dead", "success, %"),
                ((r.tenant, r.destination, r.delivered, r.dead, 100 * r.success_rate) for r in routes),
            ),
        },
    )


OLDEST_PENDING: tuple[dg.AssetChecksDefinition, ...] = tuple(_oldest_pending(stage) for stage in Stage)

SLO_CHECKS: tuple[dg.AssetChecksDefinition, ...] = (
    conservation,
    *OLDEST_PENDING,
    rejection_rate,
    schema_drift,
    record_keys,
    duplicate_emails,
    delivery_success,
)
