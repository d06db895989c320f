"""What leads.yaml says about survivorship: by which rules a golden contact keeps a lead's value and not another's.

What a rule does stands in ``domain.survivorship``; a test compares the names and the defaults.
"""

from typing import Literal

from pydantic import Field, ValidationInfo, field_validator

from leads_pipeline.config.base import Model

SurvivorshipRule = Literal[
    "better_quality", "most_recent_verified", "most_recent", "oldest", "source_priority", "most_frequent",
    "most_complete", "longest",
]  # fmt: skip
Rules = tuple[SurvivorshipRule, ...]

# Rules that tell only the values of these groups apart. Elsewhere they would decide nothing, and whoever wrote them
# would believe that they do.
_ONLY_OF: dict[str, frozenset[str]] = {
    "better_quality": frozenset({"email", "phone", "name", "date_of_birth", "address"}),
    "most_recent_verified": frozenset({"email", "phone"}),
    "most_complete": frozenset({"name", "address"}),
}
_RECEIVED: Rules = ("most_recent", "source_priority", "most_frequent", "longest")
_LASTING: Rules = ("better_quality", "most_frequent", "most_recent", "source_priority", "longest")
_VERIFIED: Rules = ("better_quality", "most_recent_verified", *_RECEIVED)


class SurvivorshipSettings(Model):
    """In each group the first rule that tells two values apart decides. A lead that says nothing never wins."""

    email: Rules = Field(_VERIFIED, description="Of the e-mail address.")
    phone: Rules = Field(_VERIFIED, description="Of the phone number.")
    name: Rules = Field(_LASTING, description="Of first and last name, which stay together.")
    company: Rules = Field(_RECEIVED, description="Of the company.")
    job_title: Rules = Field(_RECEIVED, description="Of the job title.")
    date_of_birth: Rules = Field(_LASTING, description="Of the date of birth.")
    address: Rules = Field(
        ("better_quality", *_RECEIVED),
        description="Of address, city, state, postcode and country, which stay together.",
    )

    @field_validator("*", mode="after")
    @classmethod
    def _each_rule_can_decide(cls, value: Rules, info: ValidationInfo) -> Rules:
        group = str(info.field_name)
        allowed = [rule for rule in _all_rules() if group in _ONLY_OF.get(rule, {group})]
        if not value:
            raise ValueError(f"no rule; allowed: a list out of {', '.join(allowed)}")
        for rule in value:
            if rule not in allowed:
                raise ValueError(f"{rule} tells no two values of {group} apart; allowed: {', '.join(allowed)}")
            if value.count(rule) > 1:
                raise ValueError(f"{rule} stands here twice; allowed: each rule once")
        if {"most_recent", "oldest"} <= set(value):
            later = max("most_recent", "oldest", key=value.index)
            raise ValueError(f"{later} is left nothing to decide by the other; allowed: one of most_recent, oldest")
        return value

    def rules(self, of_tenant: "SurvivorshipSettings | None" = None) -> dict[str, Rules]:
        """The rules of every group. A group that the tenant names has the tenant's."""
        own = of_tenant.model_fields_set if of_tenant is not None else frozenset[str]()
        return {group: getattr(of_tenant if group in own else self, group) for group in type(self).model_fields}


def _all_rules() -> tuple[str, ...]:
    rules: tuple[str, ...] = SurvivorshipRule.__args__  # type: ignore[attr-defined]
    return rules
