"""Promises that are at risk or broken, and promises that nobody has judged for too long."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from leads_pipeline.config.objectives import SHARES, ObjectiveSettings, span_in_words
from leads_pipeline.domain.alert_message import span
from leads_pipeline.domain.alerting import Health, Observation, Trouble
from leads_pipeline.domain.burn_rate import SloVerdict, budget_in_words
from leads_pipeline.domain.severity import Severity
from leads_pipeline.storage.quality_gates import promised_keys
from leads_pipeline.storage.slo_events import measuring_began
from leads_pipeline.storage.slos import Key, Standing, read_verdicts
from leads_pipeline.storage.watch_looks import Watched, read_looks
from leads_pipeline.watching.alert_sources.watch import Watch

# What a promise opens that names no page of its own.
DEFAULT_PLAYBOOK = "leads-late"
STALE_KEY = "staleness:promises"
_MOST_NAMED = 5


def look_at_promises(watch: Watch) -> Sequence[Observation]:
    """One observation for each promise, tenant and lane. A verdict that is too old says nothing."""
    promises, promised, found = watch.settings.slos.promises, set(promised_keys(watch.settings)), []
    with watch.engine.connect() as connection:
        standing = [item for item in read_verdicts(connection) if item.key in promised]
    for item in standing:
        key = f"promise:{item.key.slo}:{item.key.tenant}:{item.key.lane}"
        if item.verdict is SloVerdict.NO_DATA or _is_stale(item.evaluated_at, watch):
            found.append(Observation(key, Health.UNKNOWN))
        else:
            found.append(Observation.of(key, _trouble(item, promises[item.key.slo], now=watch.now)))
    return found


def look_at_staleness(watch: Watch) -> Sequence[Observation]:
    """Whether promises are judged, and still are. Asked by who does not depend on what judges them."""
    waiting = _waiting_since(watch)
    overdue = {key: since for key, since in waiting.items() if _is_stale(since, watch)}
    if not overdue:
        return [Observation(STALE_KEY, Health.WELL if waiting else Health.UNKNOWN)]
    oldest = min(overdue.values())
    named = sorted({f"{key.slo} ({key.tenant})" if key.tenant else key.slo for key in overdue})
    more = f" and {len(named) - _MOST_NAMED} more" if len(named) > _MOST_NAMED else ""
    facts = (
        ("not judged", ", ".join(named[:_MOST_NAMED]) + more),
        ("since", f"{oldest:%Y-%m-%d %H:%M} UTC, for {span(watch.now - oldest)}"),
        ("until then", "what they say is old: nothing is known of what they are about"),
    )
    title = f"{len(overdue)} of {len(waiting)} promises are not judged"
    # All of them: what watches has stopped, and nobody else will tell.
    severity = Severity.PAGE if len(overdue) == len(waiting) else Severity.TICKET
    return [Observation.of(STALE_KEY, Trouble(severity, title, facts, "stuck-run", "leads slo list"))]


def _waiting_since(watch: Watch) -> dict[Key, datetime]:
    """Since when each promise waits for its next verdict: since its last one, or since it could have had its first.

    One that leads.yaml has lately, and that nobody has had the time to look at, is not in it.
    """
    with watch.engine.connect() as connection:
        never = {look.name: look.failing_since for look in read_looks(connection) if look.kind is Watched.PROMISE}
        judged = {item.key: item.evaluated_at for item in read_verdicts(connection)}
        began_at = None if never or judged else measuring_began(connection)  # nobody has ever looked
    since = {key: judged.get(key) or never.get(key.slo) or began_at for key in promised_keys(watch.settings)}
    return {key: at for key, at in since.items() if at is not None}


def _is_stale(evaluated_at: datetime, watch: Watch) -> bool:
    return abs(watch.now - evaluated_at) > timedelta(minutes=watch.settings.alerts.stale_minutes)


def _trouble(item: Standing, promise: ObjectiveSettings, *, now: datetime) -> Trouble | None:
    if item.verdict is SloVerdict.KEPT:
        return None
    tenant = item.key.tenant
    whose = f" for {tenant}" if tenant and promise.tenant is None else ""
    at_risk = item.verdict is SloVerdict.BURNING
    title = f"{'At risk' if at_risk else 'Not kept'}{whose}: {promise.words}"
    return Trouble(
        item.severity or Severity.TICKET,
        title,
        tuple(_facts(item, promise, now=now)),
        promise.playbook or DEFAULT_PLAYBOOK,
        f"leads slo show {item.key.slo}",
        tenant or None,
    )


def _facts(item: Standing, promise: ObjectiveSettings, *, now: datetime) -> list[tuple[str, str]]:
    facts = []
    is_share = promise.measure in SHARES
    if item.value is not None:
        facts.append(("now", f"{100 * item.value:.4g} %" if is_share else f"{item.value:,.6g}"))
    if item.good or item.bad:
        facts.append(("counted", f"{item.bad:,} bad of {item.good + item.bad:,}"))
    if item.budget_left is not None:
        facts.append(("error budget", budget_in_words(item.budget_left)))
    burning = [rate for rate in item.burn_rates if rate.get("burning")]
    if burning:
        worst = max(burning, key=lambda rate: rate["burn"] / rate["threshold"])
        over = span_in_words(float(worst["window_seconds"]))
        facts.append(("spent", f"{worst['burn']:.1f} times faster than allowed, over the last {over}"))
    facts.append(("so judged since", f"{item.since:%Y-%m-%d %H:%M} UTC ({span(now - item.since)})"))
    return facts
