"""What each promise has come to, now and over time: ``slo_verdicts`` and ``slo_history``.

An evaluation writes all of it in one transaction, under one lock, so that of two at once the later reading stands.
What stands there from after the moment of writing came of a clock that ran ahead: it is replaced, never waited for. A
promise that could not be evaluated keeps its row, which grows stale. Keep out: how a verdict is found
(``domain.burn_rate``) and the gates that it closes (``quality_gates``).
"""

import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from leads_pipeline.domain.burn_rate import Judgement, SloVerdict
from leads_pipeline.domain.severity import Severity

_LOCK_PURPOSE = 0x510
LOCK_SECONDS = 2.0

# Every row is kept for so long, for the plots of today and yesterday. Afterwards what is left of an hour is each change
# of the verdict, so that a breach of ten minutes is still one of ten minutes, its worst row and its last.
ALL_KEPT = timedelta(days=2)
# A promise is evaluated twice a minute; a plot needs no more than this, but for what changes.
HISTORY_EVERY = timedelta(seconds=55)
THINNED_AT_ONCE = 20_000


@dataclass(frozen=True, slots=True)
class Key:
    """What a verdict is about. An empty tenant or lane: all of them."""

    slo: str
    tenant: str = ""
    lane: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """What an evaluation found of one promise, for one tenant."""

    key: Key
    judgement: Judgement


@dataclass(frozen=True, slots=True)
class Standing:
    """A verdict as it is stored. ``burn_rates``: of each alert, with its windows and what it begins at."""

    key: Key
    verdict: SloVerdict
    severity: Severity | None
    good: int
    bad: int
    value: float | None
    budget_left: float | None
    since: datetime
    evaluated_at: datetime
    burn_rates: list[dict[str, Any]] = field(default_factory=list)

    @property
    def burn_rate(self) -> float | None:
        """The worst burn rate of the long windows that are telling."""
        return max((item["burn"] for item in self.burn_rates if item["telling"]), default=None)

    def is_stale(self, now: datetime, *, after: timedelta) -> bool:
        """Whether it was last renewed so long ago, or so far ahead, that it says nothing of now."""
        return abs(now - self.evaluated_at) > after


_READ = sa.text(
    """
    select slo, tenant, lane, verdict, severity, good, bad, value, budget_left, burn_rates, since, evaluated_at
    from slo_verdicts order by slo, tenant, lane
    """
)

# A reading that is older than what stands here came second: it is dropped, unless that is of a time not come yet.
_WRITE = sa.text(
    """
    insert into slo_verdicts as v
        (slo, tenant, lane, verdict, severity, good, bad, value, budget_left, burn_rates, since, evaluated_at)
    select slo, tenant, lane, verdict, severity, good, bad, value, budget_left, burn_rates, :now, :now
    from jsonb_to_recordset(cast(:rows as jsonb)) as t(
        slo text, tenant text, lane text, verdict text, severity text, good bigint, bad bigint, value double precision,
        budget_left double precision, burn_rates jsonb
    )
    order by slo, tenant, lane
    on conflict (slo, tenant, lane) do update set
        verdict = excluded.verdict, severity = excluded.severity, good = excluded.good, bad = excluded.bad,
        value = excluded.value, budget_left = excluded.budget_left, burn_rates = excluded.burn_rates,
        since = case when v.verdict = excluded.verdict then least(v.since, excluded.since) else excluded.since end,
        evaluated_at = excluded.evaluated_at
    where v.evaluated_at <= excluded.evaluated_at or v.evaluated_at > :written_at
    """
)

# By the key from its end: one row of each promise is looked at.
_REMEMBER = sa.text(
    """
    insert into slo_history
        (slo, tenant, lane, evaluated_at, verdict, good, bad, value, budget_left, burn_rate)
    select t.slo, t.tenant, t.lane, :now, t.verdict, t.good, t.bad, t.value, t.budget_left, t.burn_rate
    from jsonb_to_recordset(cast(:rows as jsonb)) as t(
        slo text, tenant text, lane text, verdict text, good bigint, bad bigint, value double precision,
        budget_left double precision, burn_rate double precision
    )
    left join lateral (
        select h.evaluated_at, h.verdict from slo_history h
        where h.slo = t.slo and h.tenant = t.tenant and h.lane = t.lane
        order by h.evaluated_at desc limit 1
    ) last on true
    where last.evaluated_at is null or last.evaluated_at <= :before
        or (last.verdict <> t.verdict and last.evaluated_at < :now)
    on conflict do nothing
    """
)

_FORGET_AHEAD = sa.text("delete from slo_history where evaluated_at > :written_at")

_DROP = sa.text(
    """
    delete from slo_verdicts v
    where (evaluated_at < :stale_before or evaluated_at > :written_at) and not exists (
        select from jsonb_to_recordset(cast(:kept as jsonb)) as k(slo text, tenant text, lane text)
        where k.slo = v.slo and k.tenant = v.tenant and k.lane = v.lane
    )
    """
)

# An hour is thinned once: nothing is found again in what is left of it. What goes has the verdict of the row before.
_THIN = sa.text(
    """
    delete from slo_history where ctid in (
        select h.ctid from slo_history h
        cross join lateral (
            select prior.verdict from slo_history prior
            where prior.slo = h.slo and prior.tenant = h.tenant and prior.lane = h.lane
                and prior.evaluated_at < h.evaluated_at
            order by prior.evaluated_at desc limit 1
        ) last
        cross join lateral (
            select max(other.evaluated_at) as ends,
                bool_or(
                    (coalesce(other.burn_rate, 0), -coalesce(other.budget_left, 1), other.bad, other.evaluated_at)
                    > (coalesce(h.burn_rate, 0), -coalesce(h.budget_left, 1), h.bad, h.evaluated_at)
                ) as has_worse
            from slo_history other
            where other.slo = h.slo and other.tenant = h.tenant and other.lane = h.lane
                and other.evaluated_at >= date_bin('1 hour', h.evaluated_at, 'epoch')
                and other.evaluated_at < date_bin('1 hour', h.evaluated_at, 'epoch') + interval '1 hour'
        ) of_hour
        where h.evaluated_at < :before and last.verdict = h.verdict and of_hour.ends > h.evaluated_at
            and of_hour.has_worse
        limit :limit
    )
    """
)
_FORGET = sa.text(
    """
    delete from slo_history where ctid in (
        select ctid from slo_history where evaluated_at < :before limit :limit
    )
    """
)


def read_verdicts(connection: sa.Connection) -> list[Standing]:
    """Every verdict, by promise, tenant and lane."""
    return [
        Standing(
            Key(row.slo, row.tenant, row.lane),
            SloVerdict(row.verdict),
            Severity(row.severity) if row.severity else None,
            row.good,
            row.bad,
            row.value,
            row.budget_left,
            row.since,
            row.evaluated_at,
            list(row.burn_rates),
        )
        for row in connection.execute(_READ)
    ]


def alone(connection: sa.Connection) -> None:
    """Wait until no other evaluation is writing, but not for one that hangs; until the transaction ends, none will be.

    Raises:
        sqlalchemy.exc.OperationalError: another one was, for ``LOCK_SECONDS``.
    """
    connection.execute(sa.text(f"set local lock_timeout = {round(1000 * LOCK_SECONDS)}"))
    statement = sa.text("select pg_advisory_xact_lock(cast(:purpose as integer), 0)")
    connection.execute(statement, {"purpose": _LOCK_PURPOSE})


def write_verdicts(
    connection: sa.Connection, findings: Iterable[Finding], *, promised: Collection[Key], stale_after: timedelta,
    now: datetime, written_at: datetime,
) -> None:  # fmt: skip
    """Write what was found, and note it for plots; drop what is no longer ``promised`` once nobody judges it either.

    While machines with an older and a newer leads.yaml run side by side, none drops what the other promises. ``now``:
    as of when it was found; ``written_at``: the time by now, of later than which no row may be.
    """
    rows = [_row(finding) for finding in findings]
    connection.execute(_FORGET_AHEAD, {"written_at": written_at})
    if rows:
        text = json.dumps(rows)
        connection.execute(_WRITE, {"rows": text, "now": now, "written_at": written_at})
        connection.execute(_REMEMBER, {"rows": text, "now": now, "before": now - HISTORY_EVERY})
    kept = [{"slo": key.slo, "tenant": key.tenant, "lane": key.lane} for key in promised]
    values = {"kept": json.dumps(kept), "stale_before": now - stale_after, "written_at": written_at}
    connection.execute(_DROP, values)


def thin_history(connection: sa.Connection, *, now: datetime) -> int:
    """Thin out what is older than ``ALL_KEPT``, as is said there; at most a part goes. Says how many went."""
    before = (now - ALL_KEPT).replace(minute=0, second=0, microsecond=0)
    return connection.execute(_THIN, {"before": before, "limit": THINNED_AT_ONCE}).rowcount


def forget_history(connection: sa.Connection, *, before: datetime) -> int:
    """Delete what is older; at most a part. Says how many rows went."""
    return connection.execute(_FORGET, {"before": before, "limit": THINNED_AT_ONCE}).rowcount


def _row(finding: Finding) -> dict[str, Any]:
    key, found = finding.key, finding.judgement
    return {
        "slo": key.slo,
        "tenant": key.tenant,
        "lane": key.lane,
        "verdict": found.verdict,
        "severity": found.severity,
        "good": found.events.good,
        "bad": found.events.bad,
        "value": found.value,
        "budget_left": found.budget_left,
        "burn_rate": found.burn_rate,
        "burn_rates": [
            {
                "window_seconds": burn.alert.long.total_seconds(),
                "short_seconds": burn.alert.short.total_seconds(),
                "burn": round(burn.long, 3),
                "short_burn": round(burn.short, 3),
                "threshold": burn.alert.burn,
                "severity": burn.alert.severity,
                "events": burn.events,
                "telling": burn.telling,
                "burning": burn.burning,
            }
            for burn in found.burns
        ],
    }
