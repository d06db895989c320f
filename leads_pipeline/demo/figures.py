"""What a demo did, from the database's rows and from the sandbox's own counts, and whether the two agree."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from leads_pipeline.config import Settings
from leads_pipeline.errors import LeadsError
from leads_pipeline.matching.evaluation import pairwise
from leads_pipeline.storage.conservation import conservation, missing_leads


class FiguresDisagree(LeadsError):
    """The sandbox saw something other than what the database says was delivered."""


@dataclass(frozen=True, slots=True)
class SandboxView:
    """What the sandbox CRM says that it saw."""

    requests: int
    http_429: int
    records: int
    contacts: int
    duplicates: int
    max_requests_in_any_window: int
    limit: int


@dataclass(frozen=True, slots=True)
class ProviderView:
    """What the sandbox provider of verification says that it saw."""

    calls: int
    billed: int
    billed_twice: int
    over_limit: int


_COUNTS = """
select (select coalesce(sum(captured), 0) from capture_batches) as captured,
       (select coalesce(sum(duplicates), 0) from capture_batches) as duplicates_posted,
       (select count(*) from raw_leads) as raw,
       (select count(distinct lead_id) from validated_leads) as validated,
       (select count(*) from golden_contacts) as contacts,
       (select count(*) from outbox where operation = 'upsert' and delivered_version is not null) as in_crm,
       (select coalesce(sum(delivered), 0) from crm_sync_batches where operation = 'upsert') as records,
       (select count(*) from crm_sync_batches) as requests,
       (select count(*) from crm_sync_batches where http_status = 429) as http_429
"""

# Of every look-up that triage wanted: who answered, and whether anybody had to be asked for it.
_VERIFICATION = """
select count(*) as wanted,
       count(*) filter (where kind = 'mx') as mx,
       count(*) filter (where kind = 'mailbox') as mailboxes,
       count(*) filter (where verdict = 'valid') as valid,
       count(*) filter (where verdict = 'risky') as risky,
       count(*) filter (where verdict = 'invalid') as invalid,
       count(*) filter (where verdict = 'unknown') as unknown,
       (select count(*) from validated_leads where email is not null) as addresses,
       (select coalesce(sum(lookups), 0) from verification_calls) as asked,
       (select coalesce(sum(cost_micros), 0) / 1e6 from verifications) as borne,
       (select coalesce(sum(lookups), 0) from verification_spend) as billed,
       (select coalesce(sum(cost_micros), 0) / 1e6 from verification_spend) as cost,
       (select count(*) from verification_calls) as calls,
       (select count(*) from verification_requests) as waiting
from verifications
"""

# From the moment the door took the lead to the CRM's answer for the first version of the contact that includes it.
_LATENCY = """
select percentile_cont(array[0.5, 0.95, 0.99]) within group (order by extract(epoch from acknowledged - received_at))
from (
    select r.received_at,
           (select min(a.settled_at) from sync_attempts a
            where a.contact_id = d.contact_id and a.verdict = 'delivered' and a.version >= d.golden_version
           ) as acknowledged
    from deduped_leads d join raw_leads r using (lead_id)
) per_lead
where acknowledged is not null
"""


def collect(
    connection: sa.Connection,
    *,
    settings: Settings,
    sandbox: SandboxView,
    provider: ProviderView,
    truth_of: Mapping[str, str],
    seconds: Mapping[str, float],
) -> dict[str, Any]:
    """The figures of ``leads demo --json``.

    Raises:
        FiguresDisagree: naming each count on which the database and the sandbox part.
    """
    counts = connection.execute(sa.text(_COUNTS)).one()
    destinations = {name: tenant.destinations for name, tenant in settings.tenants.items()}
    accounts = conservation(connection, destinations=destinations)
    states: dict[str, int] = {}
    for account in accounts:
        for state, leads in account.states.items():
            states[str(state)] = states.get(str(state), 0) + leads
    latency = connection.execute(sa.text(_LATENCY)).scalar() or [None, None, None]
    figures = {
        "captured": counts.captured,
        "duplicates_posted": counts.duplicates_posted,
        "raw": counts.raw,
        "validated": counts.validated,
        "contacts": counts.contacts,
        **states,
        "conserved": all(account.conserved for account in accounts),
        "matching": _matching(connection, truth_of),
        "verification": _verification(connection, provider),
        "crm": {
            "requests": sandbox.requests,
            "http_429": sandbox.http_429,
            "records": sandbox.records,
            "max_requests_in_any_10s": sandbox.max_requests_in_any_window,
            "limit": sandbox.limit,
        },
        "latency_seconds": {
            name: None if value is None else round(float(value), 2)
            for name, value in zip(("p50", "p95", "p99"), latency, strict=True)
        },
        "seconds": {name: round(value, 2) for name, value in seconds.items()},
    }
    _compare(counts, sandbox)
    if not figures["conserved"]:
        missing = missing_leads(connection, destinations=destinations, limit=5)
        raise FiguresDisagree(
            f"the law of conservation does not hold: {counts.captured} captured, {sum(states.values())} in a state; "
            + "; ".join(f"lead {item.lead_id} lacks its row in {item.trail}" for item in missing)
        )
    return figures


def busiest_lead(connection: sa.Connection) -> str | None:
    """The newest lead of the contact with the most leads."""
    found = connection.execute(
        sa.text(
            "select max(lead_id::text) from deduped_leads where contact_id = "
            "(select contact_id from golden_contacts order by lead_count desc, contact_id limit 1)"
        )
    ).scalar()
    return found and str(found)


def _matching(connection: sa.Connection, truth_of: Mapping[str, str]) -> dict[str, float] | None:
    if not truth_of:
        return None
    found = {
        str(row.lead_id): str(row.contact_id)
        for row in connection.execute(sa.text("select lead_id, contact_id from deduped_leads"))
    }
    # Leads that were rejected belong to no contact, and nobody asked matching about them.
    score = pairwise({lead_id: person for lead_id, person in truth_of.items() if lead_id in found}, found)
    return {
        "precision": round(score.precision, 4),
        "recall": round(score.recall, 4),
        "f1": round(score.f1, 4),
    }


def _verification(connection: sa.Connection, provider: ProviderView) -> dict[str, Any]:
    row = connection.execute(sa.text(_VERIFICATION)).one()
    if provider.billed_twice or provider.billed != row.billed or provider.calls != row.calls:
        raise FiguresDisagree(
            "the database and the sandbox provider do not agree: "
            f"it saw {provider.calls} calls and billed {provider.billed} look-ups, {provider.billed_twice} of them "
            f"twice; the database recorded {row.calls} calls and {row.billed} look-ups"
        )
    if row.borne != row.cost:
        raise FiguresDisagree(f"the leads bear {row.borne:.3f} for their look-ups, the ledger says {row.cost:.3f}")
    return {
        "lookups": row.wanted,
        "mx": row.mx,
        "mailboxes": row.mailboxes,
        "still_waiting": row.waiting,
        **{name: getattr(row, name) for name in ("valid", "risky", "invalid", "unknown")},
        "paid": int(row.billed),
        "calls": row.calls,
        "over_limit": provider.over_limit,
        "cost": round(float(row.cost), 2),
        "free": int(row.asked) - int(row.billed),
        "spared_by_triage": row.addresses - row.mailboxes,
        "spared_by_sharing": row.mailboxes - int(row.asked),
    }


def _compare(counts: Any, sandbox: SandboxView) -> None:
    partings = []
    if sandbox.contacts != counts.in_crm:
        partings.append(
            f"contacts: the sandbox holds {sandbox.contacts}, the outbox says {counts.in_crm} are delivered"
        )
    if sandbox.duplicates:
        partings.append(f"duplicates: the sandbox holds {sandbox.duplicates} contacts that share an e-mail or a key")
    if sandbox.records != counts.records:
        partings.append(
            f"records: the sandbox wrote {sandbox.records}, the database recorded {counts.records} delivered"
        )
    if sandbox.requests != counts.requests:
        partings.append(f"requests: the sandbox saw {sandbox.requests}, the database recorded {counts.requests}")
    if sandbox.http_429 != counts.http_429:
        partings.append(f"429s: the sandbox gave {sandbox.http_429}, the database recorded {counts.http_429}")
    if partings:
        raise FiguresDisagree("the database and the sandbox CRM do not agree:\n  " + "\n  ".join(partings))
