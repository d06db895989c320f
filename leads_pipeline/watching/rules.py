"""A rule of leads.yaml as its states, its measure and its order go by it: what applying and trying rules share."""

from datetime import timedelta
from typing import Any

from leads_pipeline.config import ACTION_SCOPES, ZERO_IF_UNNAMED, PolicySettings, Settings
from leads_pipeline.domain.policies import Rule
from leads_pipeline.domain.policy_targets import Selection, labels_of
from leads_pipeline.storage.policies import NewAction


def measures_asked(settings: Settings) -> tuple[str, ...]:
    """The measures that the rules of leads.yaml need."""
    return tuple(sorted({rule.when.measure for rule in settings.policies.values() if rule.enabled}))


def rule_of(settings: PolicySettings) -> Rule:
    """A rule as its states go by it."""
    return Rule(
        is_above=settings.when.above is not None,
        limit=settings.when.limit,
        well=settings.well,
        hold=timedelta(seconds=settings.for_seconds),
        recover=timedelta(seconds=settings.recover_seconds),
        cool_down=timedelta(seconds=settings.cool_down_seconds),
        at_most=timedelta(seconds=settings.at_most_seconds),
    )


def selection_of(settings: PolicySettings) -> Selection:
    """What a rule looks at."""
    when = settings.when
    filters = {
        name: frozenset(allowed)
        for name in ("tenant", "lane", "stage", "destination", "source")
        if (allowed := getattr(when, name))
    }
    return Selection(
        measure=when.measure,
        filters=filters,
        per=settings.targets_by,
        combine=when.combine or ("highest" if when.above is not None else "lowest"),
        zero_if_unnamed=when.measure in ZERO_IF_UNNAMED,
    )


def order_of(name: str, settings: PolicySettings, target: str, *, runner_id: str) -> NewAction:
    """What a rule orders at a target: about what ``then`` names, else the target, else the only one it looks at."""
    labels, when, then = labels_of(target), settings.when, settings.then
    about: dict[str, str | None] = {}
    for label in ("tenant", "lane", "destination"):
        only = getattr(when, label)
        found = getattr(then, label) or labels.get(label) or (only[0] if len(only) == 1 else None)
        about[label] = found if label in ACTION_SCOPES[then.action] else None
    parameters: dict[str, Any] = dict(then.parameters())
    if settings.dry_run:
        parameters["dry_run"] = True
    return NewAction(
        name, target, then.action, about["tenant"], about["lane"], about["destination"], runner_id, parameters
    )


def is_known(settings: Settings, rule: PolicySettings, target: str) -> bool:
    """Whether leads.yaml still has what a target is about, and the rule still tells its targets apart like this."""
    labels = labels_of(target)
    if not labels.keys() <= set(rule.targets_by) or (rule.targets_by and not labels):
        return False
    known = {
        "tenant": settings.tenants.keys(),
        "destination": {*settings.destinations, *settings.verification.providers},
        "source": {name for tenant in settings.tenants.values() for name in tenant.sources},
    }
    return all(name not in known or value in known[name] for name, value in labels.items())
