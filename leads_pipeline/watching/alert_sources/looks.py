"""The looks themselves: parts of ``watch``, rules and sources of alerts that keep failing, and rules that are blind.

One look that fails is no news: the next one follows within half a minute.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from leads_pipeline.config import Settings
from leads_pipeline.domain.alert_message import span
from leads_pipeline.domain.alerting import Health, Observation, Trouble
from leads_pipeline.domain.severity import Severity
from leads_pipeline.storage.watch_looks import Look, Watched, read_looks
from leads_pipeline.watching.alert_sources.watch import Watch
from leads_pipeline.watching.rules import measures_asked

# Six looks; an order that nobody renewed has ended by then, too.
FAILING_FOR = timedelta(minutes=3)
_MOST_NAMED = 5

_TITLES: Mapping[Watched, str] = {
    Watched.PART: "The pipeline cannot look at itself",
    Watched.RULE: "Rules fail",
    Watched.MEASURE: "Rules are blind, as their measures cannot be taken",
    Watched.SOURCE: "Alerts cannot be raised or closed",
}
_UNTIL_THEN: Mapping[Watched, str] = {
    Watched.PART: "latencies are not added up, promises not judged, rules not applied, or alerts not raised",
    Watched.RULE: "what they have ordered ends within three minutes, and they order nothing",
    Watched.MEASURE: "they begin nothing, and what they have ordered lasts for its longest time",
    Watched.SOURCE: "what is open of these stays as it is",
}


def look_at_looks(watch: Watch) -> Sequence[Observation]:
    """One observation for the parts of a look, one for the rules, for their measures, for the sources of alerts."""
    stale = timedelta(minutes=watch.settings.alerts.stale_minutes)
    with watch.engine.connect() as connection:
        looks = [look for look in read_looks(connection) if watch.now - look.looked_at <= stale]
    return [
        _seen(kind, [look for look in looks if look.kind is kind and _is_configured(look, watch.settings)], watch.now)
        for kind in _TITLES
    ]


def _is_configured(look: Look, settings: Settings) -> bool:
    if look.kind is Watched.RULE:
        return look.name in settings.policies and settings.policies[look.name].enabled
    return look.kind is not Watched.MEASURE or look.name in measures_asked(settings)


def _seen(kind: Watched, looks: Sequence[Look], now: datetime) -> Observation:
    key = f"look:{kind}s"
    failing = [look for look in looks if look.failing_since is not None]
    lasting = [look for look in failing if now - (look.failing_since or now) >= FAILING_FOR]
    if not lasting:
        return Observation(key, Health.UNKNOWN if failing or not looks else Health.WELL)
    told = lasting[:_MOST_NAMED]
    more = f" and {len(lasting) - len(told)} more" if len(lasting) > len(told) else ""
    facts = [(look.name, f"{look.failure}, for {span(now - (look.failing_since or now))}") for look in told]
    facts.append(("until it is mended", _UNTIL_THEN[kind]))
    title = f"{_TITLES[kind]}: {', '.join(look.name for look in told)}{more}"
    return Observation.of(key, Trouble(Severity.TICKET, title, tuple(facts), "stuck-run", "leads watch --once"))
