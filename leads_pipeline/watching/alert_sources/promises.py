"""Promises that are at risk or broken, and promises that nobody has judged for too long."""

from collections.abc import Sequence
from datetime import datetime, timedelta

import sqlalchemy as sa

from leads_pipeline.config import Settings
from leads_pipeline.config.objectives import ObjectiveSettings, span_in_words
from leads_pipeline.domain.alert_message import span
from leads_pipeline.domain.alerting import Health, Observation, Trouble
from leads_pipeline.domain.burn_rate import budget_in_words
from leads_pipeline.domain.severity import Severity
from leads_pipeline.storage.schema import slo_verdicts
from leads_pipeline.watching.alert_sources.watch import Watch

# What a promise opens that names no page of its own.
DEFAULT_PLAYBOOK = "leads-late"
STALE_KEY = "staleness:promises"
_MOST_NAMED = 5


def look_at_promises(watch: Watch) -> Sequence[Observation]:
    """One observation for each promise, tenant and lane. A verdict that is too old says nothing."""
    promises, found = watch.settings.slos.promises, []
    for row in _verdicts(watch):
        key = f"promise:{row.slo}:{row.tenant}:{row.lane}"
        if row.verdict == "no_data" or _is_stale(row.evaluated_at, watch):
            found.append(Observation(key, Health.UNKNOWN))
        else:
            found.append(Observation.of(key, _trouble(row, promises[row.slo], now=watch.now)))
    return found


def look_at_staleness(watch: Watch) -> Sequence[Observation]:
    """Whether promises are still judged. Asked by who does not depend on what judges them."""
    rows = _verdicts(watch)
    stale = [row for row in rows if _is_stale(row.evaluated_at, watch)]
    if not rows:
        return [Observation(STALE_KEY, Health.UNKNOWN)]
    if not stale:
        return [Observation(STALE_KEY, Health.WELL)]
    oldest = min(row.evaluated_at for row in stale)
    named = sorted({f"{row.slo} ({row.tenant})" if row.tenant else str(row.slo) for row in stale})
    more = f" and {len(named) - _MOST_NAMED} more" if len(named) > _MOST_NAMED else ""
    facts = (
        ("not judged", ", ".join(named[:_MOST_NAMED]) + more),
        ("last judged", f"{oldest:%Y-%m-%d %H:%M} UTC, {span(watch.now - oldest)} ago"),
        ("until then", "what they say is old: nothing is known of what they are about"),
    )
    title = f"{len(stale)} of {len(rows)} promises are not judged any more"
    # All of them: what watches has stopped, and nobody else will tell.
    severity = Severity.PAGE if len(stale) == len(rows) else Severity.TICKET
    return [Observation.of(STALE_KEY, Trouble(severity, title, facts, "stuck-run", "leads slo list"))]


def _verdicts(watch: Watch) -> list[sa.Row[tuple[object, ...]]]:
    """Of what leads.yaml names now; what it does not is not there any more."""
    settings = watch.settings
    with watch.engine.connect() as connection:
        rows = connection.execute(sa.select(slo_verdicts).order_by(slo_verdicts.c.slo, slo_verdicts.c.tenant)).all()
    return [row for row in rows if row.slo in settings.slos.promises and _is_configured(row.tenant, settings)]


def _is_configured(tenant: str, settings: Settings) -> bool:
    return not tenant or tenant in settings.tenants


def _is_stale(evaluated_at: datetime, watch: Watch) -> bool:
    return watch.now - evaluated_at > timedelta(minutes=watch.settings.alerts.stale_minutes)


def _trouble(row: sa.Row[tuple[object, ...]], promise: ObjectiveSettings, *, now: datetime) -> Trouble | None:
    if row.verdict == "kept":
        return None
    whose = f" for {row.tenant}" if row.tenant and promise.tenant is None else ""
    at_risk = row.verdict == "burning"
    title = f"{'At risk' if at_risk else 'Not kept'}{whose}: {promise.words}"
    return Trouble(
        Severity(row.severity) if row.severity else Severity.TICKET,
        title,
        tuple(_facts(row, promise, now=now)),
        promise.playbook or DEFAULT_PLAYBOOK,
        f"leads slo show {row.slo}",
        row.tenant or None,
    )


def _facts(row: sa.Row[tuple[object, ...]], promise: ObjectiveSettings, *, now: datetime) -> list[tuple[str, str]]:
    facts = []
    is_share = promise.measure in ("latency", "rejections")
    if row.value is not None:
        facts.append(("now", f"{100 * row.value:.4g} %" if is_share else f"{row.value:,.6g}"))
    if row.good or row.bad:
        facts.append(("counted", f"{row.bad:,} bad of {row.good + row.bad:,}"))
    if row.budget_left is not None:
        facts.append(("error budget", budget_in_words(row.budget_left)))
    burning = [rate for rate in row.burn_rates or () if rate.get("burning")]
    if burning:
        worst = max(burning, key=lambda rate: rate["burn"] / rate["threshold"])
        over = span_in_words(float(worst["window_seconds"]))
        facts.append(("spent", f"{worst['burn']:.1f} times faster than allowed, over the last {over}"))
    facts.append(("so judged since", f"{row.since:%Y-%m-%d %H:%M} UTC ({span(now - row.since)})"))
    return facts
