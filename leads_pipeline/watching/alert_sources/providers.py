"""Providers of look-ups that cannot be asked: no key, no credit, no budget, no answer."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from leads_pipeline.domain.alert_message import span
from leads_pipeline.domain.alerting import Health, Observation, Trouble
from leads_pipeline.domain.severity import Severity
from leads_pipeline.outbound.breaker import BreakerState
from leads_pipeline.verification.overview import ProviderStanding, advice, provider_standings
from leads_pipeline.verification.port import Outcome
from leads_pipeline.watching.alert_sources.watch import Watch

_FOR_A_PERSON = (Outcome.REFUSED, Outcome.OUT_OF_CREDIT)


def look_at_providers(watch: Watch) -> Sequence[Observation]:
    """One observation for each provider that is asked. Somebody is woken once none of a kind is left."""
    settings, now = watch.settings, watch.now
    outage = timedelta(minutes=settings.alerts.outage_minutes)
    asked = [
        each
        for each in provider_standings(watch.engine, settings=settings.verification, clock=watch.clock)
        if each.place is not None
    ]
    stopped = {each.name: why for each in asked if (why := _stopped(each, outage=outage, now=now)) is not None}
    found = []
    for each in asked:
        key = f"provider:{each.name}"
        if each.name in stopped:
            others = [other.name for other in asked if other.kind == each.kind and other.name not in stopped]
            found.append(Observation.of(key, _trouble(each, stopped[each.name], others, now=now)))
        elif each.state is not BreakerState.CLOSED:  # it may be over before anybody has read of it
            found.append(Observation(key, Health.UNKNOWN))
        else:
            found.append(Observation(key, Health.WELL))
    return found


def _stopped(each: ProviderStanding, *, outage: timedelta, now: datetime) -> str | None:
    """Why it cannot be asked, where that does not end by itself within minutes."""
    if not each.has_key:
        return "has no key"
    if each.is_spent:
        return "has spent its budget"
    if each.breaker is None or each.state is BreakerState.CLOSED:
        return None
    if each.breaker.reason in _FOR_A_PERSON:
        return "refuses us" if each.breaker.reason == Outcome.REFUSED else "has no credit left for us"
    lasting = now - (each.breaker.opened_at or now)
    if lasting < outage:
        return None
    return "answers with errors of its own" if each.breaker.reason == Outcome.BROKEN else "does not answer"


def _trouble(each: ProviderStanding, why: str, others: Sequence[str], *, now: datetime) -> Trouble:
    facts = []
    if each.breaker is not None and each.breaker.opened_at is not None:
        facts.append(("not asked for", span(now - each.breaker.opened_at)))
    if (words := advice(each, now=now)) is not None:
        facts.append(("what helps", words))
    facts.append(("asked instead", ", ".join(others) if others else f"nobody: no {each.kind} is looked up"))
    title = f"The provider {each.name} {why}"
    severity = Severity.TICKET if others else Severity.PAGE
    return Trouble(severity, title, tuple(facts), "verification-outage", "leads verification status")
