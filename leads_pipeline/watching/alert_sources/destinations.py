"""Destinations that refuse us, do not answer, take nobody as they are mapped, or have no quota left."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import pairwise

from leads_pipeline.crm.mapping import blocked_destinations
from leads_pipeline.crm.parking import AUTH, FAILURE, MAPPING, SET_UP, breaker_name, parked_by, parked_now
from leads_pipeline.domain.alert_message import span
from leads_pipeline.domain.alerting import Health, Observation, Trouble
from leads_pipeline.domain.policy_targets import Sample
from leads_pipeline.domain.severity import Severity
from leads_pipeline.outbound.breaker import Breaker, BreakerState, read_breakers
from leads_pipeline.outbound.limiter import WaitReason
from leads_pipeline.storage.measure_history import kept_of
from leads_pipeline.storage.recent_counts import Refused, refused_since
from leads_pipeline.watching.alert_sources.watch import Watch

_TITLES = {
    AUTH: "refuses our credentials or our set-up: nothing is delivered to it",
    SET_UP: "is not set up where the pipeline runs: nothing is delivered to it",
    FAILURE: "cannot be delivered to: this product itself fails at it",
}
_NO_QUOTA = {
    str(WaitReason.DAILY): "has no quota left until it is reset",
    str(WaitReason.PAUSED): "asked us for a pause, as its rate limit was reached",
}


# One that fails, is tried, works for a moment and fails again is never down for long, and hardly anything gets through:
# an outage, too, if it was down so often within the hour, and for a quarter of it.
_UNSTEADY = timedelta(hours=1)
_TIMES, _SHARE = 3, 0.25


def look_at_destinations(watch: Watch) -> Sequence[Observation]:
    """One observation a destination for whether it takes anything, and one for its quota."""
    settings, now = watch.settings, watch.now
    outage = timedelta(minutes=settings.alerts.outage_minutes)
    with watch.engine.connect() as connection:
        breakers = {item.name: item for item in read_breakers(connection)}
        blocked = blocked_destinations(connection, settings.destinations)
        # Further back than it takes, so that the pauses between requests cannot hide how long it lasts.
        throttled = {
            item.destination: item for item in refused_since(connection, now - 2 * outage - timedelta(minutes=1))
        }
        minutes = kept_of(connection, "breaker_open", since=now - _UNSTEADY)
    parked = parked_now(watch.engine, settings=settings, now=now).destinations
    found = []
    for name in settings.destinations:
        breaker = breakers.get(breaker_name(name))
        broken = breaker is not None and breaker.state is not BreakerState.CLOSED
        if breaker is not None and broken:
            seen = _broken(name, breaker, outage=outage, now=now)
        else:
            seen = Observation.of(_key(name), _mapping(name) if name in blocked else None)
        if seen.health is not Health.TROUBLE and (unsteady := _unsteady(name, minutes)) is not None:
            seen = Observation.of(_key(name), unsteady)
        found.append(seen)
        limited = parked.get(name)
        if broken:  # nothing is asked of it, so nothing is known of its quota
            found.append(Observation(_quota_key(name), Health.UNKNOWN))
        elif limited is not None and limited.reason in _NO_QUOTA:
            found.append(_quota(name, limited.reason, limited.until, watch))
        elif name in throttled:
            found.append(_throttled(throttled[name], outage=outage, now=now))
        else:
            found.append(Observation(_quota_key(name), Health.WELL))
    return found


def _key(name: str) -> str:
    return f"destination:{name}"


def _quota_key(name: str) -> str:
    return f"destination:{name}:quota"


def _broken(name: str, breaker: Breaker, *, outage: timedelta, now: datetime) -> Observation:
    parked = parked_by(breaker.reason or AUTH, breaker.next_probe_at or now)
    since = breaker.opened_at or now
    facts = [("reason", parked.reason.replace("_", " ")), ("left alone for", span(now - since))]
    if parked.code is not None:
        facts.append(("the destination's code", parked.code))
    if breaker.next_probe_at is not None:
        facts.append(("tried again at", f"{breaker.next_probe_at:%H:%M:%S} UTC, by one batch"))
    command = f"leads destinations check {name}"
    if parked.needs_somebody:
        title = f"{name} {_TITLES.get(parked.reason, _TITLES[FAILURE])}"
        return Observation.of(_key(name), Trouble(Severity.PAGE, title, tuple(facts), "crm-auth-broken", command))
    if now - since < outage:  # it may be over before anybody has read of it
        return Observation(_key(name), Health.UNKNOWN)
    title = f"{name} does not answer, or with errors of its own: nothing is delivered to it"
    return Observation.of(_key(name), Trouble(Severity.PAGE, title, tuple(facts), "deliveries-late", "leads status"))


def _unsteady(name: str, minutes: Sequence[Sequence[Sample]]) -> Trouble | None:
    """One that was down again and again. ``minutes``: what was measured of the breakers, the oldest first."""
    down = [sample.value > 0 for samples in minutes for sample in samples if sample.labels.get("destination") == name]
    times = sum(now and not before for before, now in pairwise([False, *down]))
    if times < _TIMES or sum(down) < _SHARE * len(down):
        return None
    facts = (
        ("within the last hour", f"left alone {times} times, for {sum(down)} of {len(down)} minutes"),
        ("in between", "it answers for a moment, and fails again"),
    )
    title = f"{name} fails again and again: little is delivered to it"
    return Trouble(Severity.PAGE, title, facts, "deliveries-late", f"leads destinations check {name}")


def _mapping(name: str) -> Trouble:
    return Trouble(
        Severity.PAGE,
        f"{name} takes no contact as it is mapped: nothing is delivered to it",
        (("reason", str(MAPPING)), ("what does not fit", f"`leads destinations check {name}` lists it")),
        "crm-auth-broken",
        f"leads destinations check {name}",
    )


def _quota(name: str, reason: str, until: datetime, watch: Watch) -> Observation:
    if until - watch.now < timedelta(minutes=watch.settings.alerts.outage_minutes):
        return Observation(_quota_key(name), Health.UNKNOWN)
    facts = (("reason", reason), ("goes on at", f"{until:%Y-%m-%d %H:%M} UTC, by itself"))
    title = f"{name} {_NO_QUOTA[reason]}: contacts wait"
    return Observation.of(_quota_key(name), Trouble(Severity.TICKET, title, facts, "crm-rate-limit", "leads status"))


def _throttled(refused: Refused, *, outage: timedelta, now: datetime) -> Observation:
    """Pauses of seconds, one after the other, and nothing is taken between them: none of them is long by itself."""
    name, lasting = refused.destination, now - refused.since
    if lasting < outage:
        return Observation(_quota_key(name), Health.UNKNOWN)
    facts = (
        ("refused for its limit", f"each of the last {refused.requests:,} requests, for {span(lasting)} or longer"),
        ("meanwhile", "it is asked again after each pause that it wants; no attempt of a contact is spent"),
    )
    title = f"{name} refuses every request for its rate limit: contacts wait"
    return Observation.of(_quota_key(name), Trouble(Severity.TICKET, title, facts, "crm-rate-limit", "leads status"))
