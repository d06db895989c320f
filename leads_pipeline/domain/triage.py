"""What a lead is worth, what risk it is, and so how deeply it is verified. Pure; every point is explained.

Conditions, points and tiers stand in leads.yaml; the protocols below say what of it is read. Keep out: what a tier
looks up and when, which is ``steps.validated_leads`` and ``steps.verifications``.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from leads_pipeline.domain.field_tests import FieldTest, meets
from leads_pipeline.domain.stage import Lane
from leads_pipeline.domain.validation import ValidLead

_MOST_POINTS = 100
# Flag of validation → factor of risk.
_FLAG_FACTORS = {
    "disposable_mailbox": "disposable_mailbox",
    "role_mailbox": "role_mailbox",
    "email_typo_suspected": "misspelt_mailbox",
}
_ATTRIBUTION = ("lead_source", "campaign", "utm_source", "utm_medium", "landing_page")


class Condition(FieldTest, Protocol):
    """What ``config.Condition`` says; all of it must hold."""

    @property
    def tenant(self) -> tuple[str, ...]: ...
    @property
    def source(self) -> tuple[str, ...]: ...
    @property
    def lane(self) -> Collection[str]: ...
    @property
    def flag(self) -> tuple[str, ...]: ...
    @property
    def without_flag(self) -> tuple[str, ...]: ...
    @property
    def present(self) -> tuple[str, ...]: ...
    @property
    def field(self) -> str | None: ...
    @property
    def value_at_least(self) -> int | None: ...
    @property
    def risk_at_least(self) -> int | None: ...


class ValueRule(Protocol):
    """What ``config.ValueRule`` says."""

    @property
    def points(self) -> int: ...
    @property
    def when(self) -> Condition: ...


class TriageRule(Protocol):
    """What ``config.TriageRule`` says."""

    @property
    def tier(self) -> str: ...
    @property
    def when(self) -> Condition: ...


class RiskPoints(Protocol):
    """What ``config.RiskSettings`` says."""

    @property
    def max_leads_per_ip(self) -> int: ...
    @property
    def max_leads_per_domain(self) -> int: ...


class TriagePolicy(Protocol):
    """What ``config.VerificationSettings`` says of triage."""

    @property
    def value(self) -> Sequence[ValueRule]: ...
    @property
    def triage(self) -> Sequence[TriageRule]: ...
    @property
    def risk(self) -> RiskPoints: ...
    @property
    def last_tier(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Circumstances:
    """How a lead came. ``sent`` are the fields as the source sent them, under the source's names.

    ``leads_from_ip`` and ``leads_of_domain`` count this lead and those shortly before it; 0: not counted.
    """

    tenant: str
    source: str
    lane: Lane
    sent: Mapping[str, Any]
    filled_honeypot: bool = False
    leads_from_ip: int = 0
    leads_of_domain: int = 0


@dataclass(frozen=True, slots=True)
class Factor:
    """What adds to a lead's risk."""

    factor: str
    points: int

    def as_json(self) -> dict[str, str | int]:
        return {"factor": self.factor, "points": self.points}


@dataclass(frozen=True, slots=True)
class Triage:
    """A lead's value and risk, each from 0 to 100, what makes up the risk, and its tier."""

    tier: str
    value: int
    risk: int
    factors: tuple[Factor, ...]


# Of a lead that nobody has weighed.
UNWEIGHED = Triage("none", 0, 0, ())


def triage(lead: ValidLead, came: Circumstances, *, policy: TriagePolicy) -> Triage:
    """Weigh a lead and put it into the tier of the first rule that holds, else into the last tier."""
    factors = tuple(_factors(lead, came, policy.risk))
    risk = _bounded(sum(factor.points for factor in factors))
    value = 0
    if policy.value:
        points = sum(rule.points for rule in policy.value if _holds(rule.when, lead, came, value=0, risk=risk))
        value = _bounded(points)
    for rule in policy.triage:
        if _holds(rule.when, lead, came, value=value, risk=risk):
            return Triage(rule.tier, value, risk, factors)
    return Triage(policy.last_tier, value, risk, factors)


def fields_asked_for(policy: TriagePolicy) -> frozenset[str]:
    """The names of fields that some condition is about."""
    conditions = [rule.when for rule in policy.value] + [rule.when for rule in policy.triage]
    about = frozenset(condition.field for condition in conditions if condition.field is not None)
    return about.union(*(condition.present for condition in conditions))


def _factors(lead: ValidLead, came: Circumstances, points: RiskPoints) -> list[Factor]:
    names = [factor for flag, factor in _FLAG_FACTORS.items() if flag in lead.flags]
    if came.filled_honeypot:
        names.append("honeypot")
    if lead.phone_region is not None and lead.country is not None and lead.phone_region != lead.country:
        names.append("country_mismatch")
    if came.leads_from_ip > points.max_leads_per_ip:
        names.append("velocity_ip")
    if came.leads_of_domain > points.max_leads_per_domain:
        names.append("velocity_domain")
    return [Factor(name, weight) for name in names if (weight := int(getattr(points, name)))]


def _holds(condition: Condition, lead: ValidLead, came: Circumstances, *, value: int, risk: int) -> bool:
    if condition.value_at_least is not None and value < condition.value_at_least:
        return False
    if condition.risk_at_least is not None and risk < condition.risk_at_least:
        return False
    for allowed, actual in (
        (condition.tenant, came.tenant),
        (condition.source, came.source),
        (condition.lane, came.lane),
    ):
        if allowed and actual not in allowed:
            return False
    if condition.flag and not any(flag in lead.flags for flag in condition.flag):
        return False
    if any(flag in lead.flags for flag in condition.without_flag):
        return False
    if any(_said(lead, came, name) is None for name in condition.present):
        return False
    return condition.field is None or meets(_said(lead, came, condition.field), condition)


def _said(lead: ValidLead, came: Circumstances, name: str) -> Any:
    """A field's value: the canonical one as it was validated, else the one that was sent under this name."""
    if name in _ATTRIBUTION:
        found: Any = lead.attribution.get(name)
    else:
        found = getattr(lead, name, None)
    return found if found is not None else came.sent.get(name)


def _bounded(points: int) -> int:
    return min(_MOST_POINTS, max(0, points))
