"""The numbers by which verification is watched: look-ups in time, calls and what came of them, what was known already.

Each function is one statement over a window that an index bounds; the queue of look-ups is read whole, as it is not
history. Add a measurement here and its limit in ``config.SloSettings`` or ``config.TierSettings``. Keep out: verdicts
(``defs.verification_checks``). Nothing here returns personal data.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

# Settled, and nothing was found out: the look-up failed, whoever is at fault. A provider's own "unknown" is an answer.
FAILED_REASONS = ("answer_lost", "dns_failure", "provider_failed", "waited_too_long")


@dataclass(frozen=True, slots=True)
class TierRecord:
    """How the look-ups of a tier went: those asked for in the window, and all that are overdue now."""

    tier: str
    in_time: int = 0
    late: int = 0
    failed: int = 0
    overdue: int = 0

    @property
    def lookups(self) -> int:
        return self.in_time + self.late + self.failed + self.overdue

    @property
    def share(self) -> float:
        """Verified in time, of all; 1 where there was nothing to verify."""
        return self.in_time / self.lookups if self.lookups else 1.0


@dataclass(frozen=True, slots=True)
class CallCount:
    """Calls of a provider with one outcome; ``None``: no answer yet."""

    provider: str
    outcome: str | None
    calls: int
    lookups: int


@dataclass(frozen=True, slots=True)
class VerdictCount:
    """Leads that got a verdict; ``known``: without asking, when they were validated."""

    kind: str
    provider: str
    verdict: str
    leads: int
    known: int


@dataclass(frozen=True, slots=True)
class Unanswered:
    """Calls without an answer: ``pending`` ones are being worked on or may be, ``lost`` ones were left by a worker."""

    pending: int = 0
    lost: int = 0


# What was known at validation was not asked for: it has one time for both. A tier that was switched down is let off.
_IN_TIME = sa.text(
    """
    with slo as (
        select t.tier, make_interval(secs => t.seconds) as allowed
        from jsonb_to_recordset(cast(:tiers as jsonb)) as t(tier text, seconds double precision)
    ), settled as (
        select v.tier, v.verified_at - v.requested_at <= slo.allowed as quick,
            v.verdict = 'unknown' and v.reasons ?| cast(:failed as text[]) as failed
        from verifications v join slo using (tier)
        where v.verified_at >= :since and v.requested_at >= :since and v.requested_at < v.verified_at
            and v.provider <> 'skipped'
    ), overdue as (
        select r.tier, count(*) as overdue
        from verification_requests r join slo using (tier)
        where r.requested_at < :now - slo.allowed
        group by r.tier
    ), counted as (
        select tier, count(*) filter (where quick and not failed) as in_time,
            count(*) filter (where not quick and not failed) as late, count(*) filter (where failed) as failed
        from settled group by tier
    )
    select slo.tier, coalesce(in_time, 0) as in_time, coalesce(late, 0) as late, coalesce(failed, 0) as failed,
        coalesce(overdue, 0) as overdue
    from slo left join counted using (tier) left join overdue using (tier)
    """
)

# By index: provider by provider, from an instant on.
_CALLS = sa.text(
    """
    select c.provider, c.outcome, count(*) as calls, sum(c.lookups)::bigint as lookups
    from unnest(cast(:providers as text[])) as asked(provider)
    join verification_calls c on c.provider = asked.provider and c.sent_at >= :since
    where cast(:runner_id as text) is null or c.runner_id = :runner_id
    group by c.provider, c.outcome
    order by c.provider, c.outcome
    """
)

_VERDICTS = sa.text(
    """
    select kind, provider, verdict, count(*) as leads, count(*) filter (where requested_at = verified_at) as known
    from verifications
    where verified_at >= :since and (cast(:runner_id as text) is null or runner_id = :runner_id)
    group by kind, provider, verdict
    order by kind, provider, verdict
    """
)

_UNANSWERED = sa.text(
    """
    select provider, count(*) filter (where sent_at >= :lost_before or poll_reference is not null) as pending,
        count(*) filter (where sent_at < :lost_before and poll_reference is null) as lost
    from verification_calls where answered_at is null group by provider
    """
)

_LAST_STATUS = sa.text(
    """
    select http_status from verification_calls
    where provider = :provider and outcome = :outcome and sent_at >= :since
    order by sent_at desc limit 1
    """
)


def verified_in_time(
    connection: sa.Connection, slo_seconds: Mapping[str, float], *, since: datetime, now: datetime
) -> list[TierRecord]:
    """How the look-ups of each tier went, in the order of ``slo_seconds``.

    A look-up that waits for longer than its tier's seconds counts however long ago it was asked for: a queue that has
    stopped does not leave the window.
    """
    values = {
        "tiers": json.dumps([{"tier": tier, "seconds": seconds} for tier, seconds in slo_seconds.items()]),
        "failed": list(FAILED_REASONS),
        "since": since,
        "now": now,
    }
    found = {row.tier: TierRecord(**row._mapping) for row in connection.execute(_IN_TIME, values)}
    return [found[tier] for tier in slo_seconds]


def calls_since(
    connection: sa.Connection, providers: list[str], since: datetime, *, runner_id: str | None = None
) -> list[CallCount]:
    """The calls of these providers since an instant, by outcome; only those of a run if it is named."""
    rows = connection.execute(_CALLS, {"providers": providers, "since": since, "runner_id": runner_id})
    return [CallCount(row.provider, row.outcome, row.calls, row.lookups) for row in rows]


def verdicts_since(connection: sa.Connection, since: datetime, *, runner_id: str | None = None) -> list[VerdictCount]:
    """The verdicts since an instant by kind, by who said so and by standing; only those of a run if it is named."""
    rows = connection.execute(_VERDICTS, {"since": since, "runner_id": runner_id})
    return [VerdictCount(row.kind, row.provider, row.verdict, row.leads, row.known) for row in rows]


def unanswered_calls(connection: sa.Connection, *, lost_before: datetime) -> dict[str, Unanswered]:
    """By provider; a call that was sent before ``lost_before`` and is not being worked on is lost."""
    rows = connection.execute(_UNANSWERED, {"lost_before": lost_before})
    return {row.provider: Unanswered(row.pending, row.lost) for row in rows}


def last_status(connection: sa.Connection, provider: str, outcome: str, *, since: datetime) -> int | None:
    """The HTTP status of a provider's latest call with this outcome."""
    values = {"provider": provider, "outcome": outcome, "since": since}
    status: int | None = connection.execute(_LAST_STATUS, values).scalar()
    return status
