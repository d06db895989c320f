"""Rules that can never act, never recover, or that do more than was meant: what `leads config check` warns of."""

from collections.abc import Iterator

from leads_pipeline.config import ACTION_SCOPES, MEASURE_NAMES, SHARES, PolicySettings, Settings
from leads_pipeline.config.default_policies import DEFAULT_POLICIES

# Measures whose "destination" is a provider of look-ups.
_OF_PROVIDERS = ("verification_", "lookups_")


def doubtful_policies(settings: Settings) -> Iterator[tuple[str, str]]:
    """Where each doubtful rule stands, and what it lacks. Rules that are not enabled are nobody's doubt."""
    for name, rule in settings.policies.items():
        if not rule.enabled:
            continue
        where = f"policies.{name}"
        for key, lacks in (*_never_begins(settings, rule), *_never_recovers(rule), *_does_much(rule)):
            yield f"{where}.{key}", lacks
        # What is shipped is for everybody: that there are no look-ups to shed is no mistake of whoever reads this.
        if name not in DEFAULT_POLICIES:
            for key, lacks in _does_nothing(settings, rule):
                yield f"{where}.{key}", lacks


def _never_begins(settings: Settings, rule: PolicySettings) -> Iterator[tuple[str, str]]:
    when = rule.when
    known = {
        "tenant": set(settings.tenants),
        "destination": {*settings.destinations, *settings.verification.providers},
        "source": {name for tenant in settings.tenants.values() for name in tenant.sources},
    }
    for key, names in known.items():
        for name in getattr(when, key):
            if name not in names:
                told = ", ".join(sorted(names)) or "none"
                yield f"when.{key}", f"there is no {name!r}: the rule never acts for it; known: {told}"
    for key, names in (("tenant", known["tenant"]), ("destination", set(settings.destinations))):
        name = getattr(rule.then, key)
        if name is not None and name not in names:
            told = ", ".join(sorted(names)) or "none"
            yield f"then.{key}", f"there is no {name!r}: nobody obeys; known: {told}"
    if when.measure in SHARES and when.combine != "sum" and when.above is not None and when.above >= 1:
        yield "when.above", f"{when.measure} is a share of 1 at most: the rule never acts"
    if when.below is not None and when.below <= 0:
        yield "when.below", f"{when.measure} is never below 0: the rule never acts"
    is_about_providers = when.measure.startswith(_OF_PROVIDERS) and (
        "destination" in rule.targets_by or when.destination
    )
    if rule.then.action == "pause_destination" and is_about_providers and rule.then.destination is None:
        yield "then.action", f"{when.measure} is about providers of look-ups: nobody obeys; then.destination names one"
    if rule.then.action == "lower_tier" and len(settings.verification.tiers) == 1:
        yield "then.action", "verification has one tier: there is none to lower it to"


def _never_recovers(rule: PolicySettings) -> Iterator[tuple[str, str]]:
    when = rule.when
    if when.above is not None and rule.well <= 0:
        key = "until.below" if rule.until.below is not None else "when.above"
        yield key, f"{when.measure} is never below {rule.well:g}: each action lasts at_most_seconds"
    if when.below is not None and when.measure in SHARES and when.combine != "sum" and rule.well >= 1:
        key = "until.above" if rule.until.above is not None else "when.below"
        yield key, f"{when.measure} is a share of 1 at most: each action lasts at_most_seconds"
    if rule.recover_seconds >= rule.at_most_seconds:
        yield "recover_seconds", "not less than at_most_seconds: each action lasts that long"
    if rule.well == when.limit and when.measure not in SHARES:
        yield "until", "well begins where the condition ends: noise around the limit has nothing to cross"


def _does_much(rule: PolicySettings) -> Iterator[tuple[str, str]]:
    then, when = rule.then, rule.when
    scope = set(ACTION_SCOPES[then.action]) - {"tenant"}
    measured = set(MEASURE_NAMES[when.measure]) if when.per is None else set(when.per)
    if then.action not in ("pause_lane", "pause_destination"):
        return
    for key in sorted(scope):
        if getattr(then, key) is None and key not in measured and len(getattr(when, key)) != 1:
            yield "then", f"{then.action} is about every {key}; name one with then.{key} if that is not meant"
    if then.action == "pause_lane" and then.lane == "real_time":
        yield "then.lane", "real-time leads stay where they are for as long as it acts"


def _does_nothing(settings: Settings, rule: PolicySettings) -> Iterator[tuple[str, str]]:
    verification = settings.verification
    looks_up = any(map(verification.can_look_up, ("mx", "mailbox", "phone")))
    if rule.then.action in ("shed_enrichment", "lower_tier") and not looks_up:
        yield "then.action", "nobody is asked for look-ups: there is nothing to leave out"
    if rule.when.measure.startswith(_OF_PROVIDERS) and not verification.providers:
        yield "when.measure", "verification.providers names nobody: there is nothing to measure"
