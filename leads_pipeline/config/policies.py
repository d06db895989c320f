"""What leads.yaml says about rules that act: when, for how long, until when, and what then.

The rules that are shipped stand in ``default_policies``. Keep out: how a rule goes from state to state
(``domain.policies``) and what an action does (whoever asks ``domain.orders``).
"""

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from leads_pipeline.config.base import LaneName, Model, Name
from leads_pipeline.config.measure_names import MEASURE_NAMES

ActionName = Literal[
    "shed_enrichment",
    "lower_tier",
    "resize_chunks",
    "slow_imports",
    "refuse_batch",
    "pause_lane",
    "pause_destination",
    "scale_workers",
]
StageName = Literal["raw_leads", "validated_leads", "deduped_leads", "golden_contacts", "crm_sync_batches"]
LabelName = Literal["tenant", "lane", "stage", "destination", "source"]
Seconds = Annotated[float, Field(ge=0, le=86_400)]

# What an action may be about; a rule has one state for each of these that its measure tells apart.
ACTION_SCOPES: dict[str, tuple[LabelName, ...]] = {
    "shed_enrichment": ("tenant", "lane"),
    "lower_tier": ("tenant",),
    "resize_chunks": ("tenant", "lane"),
    "slow_imports": ("tenant",),
    "refuse_batch": ("tenant",),
    "pause_lane": ("tenant", "lane"),
    "pause_destination": ("tenant", "destination"),
    "scale_workers": (),
}
# What an action must be told, and what it may be.
_NEEDS: dict[str, tuple[str, ...]] = {
    "resize_chunks": ("factor",),
    "slow_imports": ("speed",),
    "scale_workers": ("workers",),
}
_TAKES: dict[str, tuple[str, ...]] = {**_NEEDS, "lower_tier": ("tier", "to")}
_PARAMETERS = ("tier", "to", "factor", "speed", "workers")


class WhenSettings(Model):
    """A condition on one measure. A filter that is empty lets everything pass."""

    measure: str = Field(description="What is measured; docs/policies.md lists the names.")
    above: float | None = Field(None, description="It holds while the value is greater than this.")
    below: float | None = Field(None, description="It holds while the value is smaller than this.")
    combine: Literal["highest", "lowest", "sum"] | None = Field(
        None, description="Of several values of one target; the worst if unset: highest for above, lowest for below."
    )
    per: tuple[LabelName, ...] | None = Field(
        None, description="Of what there is a target each; what the action is about if unset, [] for one of all."
    )
    tenant: tuple[Name, ...] = Field((), description="Only these tenants.")
    lane: tuple[LaneName, ...] = Field((), description="Only these lanes.")
    stage: tuple[StageName, ...] = Field((), description="Only what waits at the doors of these stages.")
    destination: tuple[Name, ...] = Field((), description="Only these destinations, or providers of verification.")
    source: tuple[Name, ...] = Field((), description="Only these sources.")

    @field_validator("measure")
    @classmethod
    def _is_measured(cls, value: str) -> str:
        if value not in MEASURE_NAMES:
            raise ValueError(f"there is no such measure; allowed: {', '.join(sorted(MEASURE_NAMES))}")
        return value

    @model_validator(mode="after")
    def _is_a_condition(self) -> Self:
        if (self.above is None) == (self.below is None):
            raise ValueError("needs a limit; allowed: one of above and below")
        labels = MEASURE_NAMES[self.measure]
        told = ", ".join(labels) or "nothing: there is one value of all"
        for name in ("tenant", "lane", "stage", "destination", "source"):
            if getattr(self, name) and name not in labels:
                raise ValueError(f"{name}: {self.measure} is not measured by it; allowed: {told}")
        for name in self.per or ():
            if name not in labels:
                raise ValueError(f"per = {name!r}: {self.measure} is not measured by it; allowed: {told}")
        return self

    @property
    def limit(self) -> float:
        """Where the condition begins to hold."""
        limit = self.above if self.above is not None else self.below
        assert limit is not None, "a condition has one of the two"
        return limit


class UntilSettings(Model):
    """Where the value is well again: on the healthy side of the limit, so that noise around it changes nothing."""

    above: float | None = Field(None, description="Well again while the value is greater than this.")
    below: float | None = Field(None, description="Well again while the value is smaller than this.")


class ThenSettings(Model):
    """What is done. Without tenant, lane or destination: about whatever the condition holds of."""

    action: ActionName = Field(description="What; docs/policies.md says what each does and how it ends.")
    tenant: Name | None = Field(None, description="About this tenant, whatever the condition holds of.")
    lane: LaneName | None = Field(None, description="About this lane.")
    destination: Name | None = Field(None, description="About this destination.")
    tier: Name | None = Field(None, description="lower_tier: which; the most thorough if unset.")
    to: Name | None = Field(None, description="lower_tier: to which; the next if unset.")
    factor: Annotated[float, Field(gt=0, le=20)] | None = Field(
        None, description="resize_chunks: times pipeline.chunk_size; more than 1 widens, less shrinks."
    )
    speed: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        None, description="slow_imports: the share of their speed that imports keep."
    )
    workers: Annotated[int, Field(gt=1, le=1_000)] | None = Field(
        None, description="scale_workers: how many the scale signal asks for; 1 while no rule does."
    )

    @model_validator(mode="after")
    def _is_told_enough(self) -> Self:
        for name in _NEEDS.get(self.action, ()):
            if getattr(self, name) is None:
                raise ValueError(f"{self.action} needs {name}")
        takes = _TAKES.get(self.action, ())
        for name in _PARAMETERS:
            if getattr(self, name) is not None and name not in takes:
                raise ValueError(f"{self.action} has no {name}; allowed: {', '.join(takes) or 'action alone'}")
        scope = ACTION_SCOPES[self.action]
        for name in ("tenant", "lane", "destination"):
            if getattr(self, name) is not None and name not in scope:
                about = ", ".join(scope) or "nothing: it is about the whole pipeline"
                raise ValueError(f"{self.action} cannot be about one {name}; allowed: {about}")
        return self

    def parameters(self) -> dict[str, str | float | int]:
        """What the action is told, without what it is about."""
        return {name: value for name in _PARAMETERS if (value := getattr(self, name)) is not None}


class PolicySettings(Model):
    """A rule: a condition that has held for a time, and what is done until it has not held for a time."""

    description: str = Field("", description="For people, shown with the rule.")
    when: WhenSettings = Field(description="The condition.")
    for_seconds: Seconds = Field(60, description="The condition must hold for so long without a break.")
    until: UntilSettings = Field(
        UntilSettings(), description="When the value is well again; if unset, at the limit of when."
    )
    recover_seconds: Seconds = Field(60, description="The value must be well for so long; then the action ends.")
    cool_down_seconds: Seconds = Field(300, description="After an action the rule does nothing for so long.")
    at_most_seconds: Annotated[float, Field(gt=0, le=86_400)] = Field(
        3_600, description="An action ends after so long whatever is measured; after the cool-down it may begin again."
    )
    then: ThenSettings = Field(description="The action.")
    enabled: bool = Field(True, description="false: the rule is not looked at, and what it did ends.")
    dry_run: bool = Field(False, description="true: what it would do is recorded, and nobody obeys.")

    @model_validator(mode="after")
    def _recovers_on_the_healthy_side(self) -> Self:
        when, until = self.when, self.until
        if when.above is not None:
            if until.above is not None or (until.below is not None and until.below > when.above):
                raise ValueError(f"until: well is on the other side of when; allowed: below, at most {when.above:g}")
        elif until.below is not None or (until.above is not None and until.above < when.limit):
            raise ValueError(f"until: well is on the other side of when; allowed: above, at least {when.limit:g}")
        return self

    @model_validator(mode="after")
    def _orders_about_no_more_than_it_looks_at(self) -> Self:
        """One order for several would name none of them, and so be about everybody."""
        for name in ACTION_SCOPES[self.then.action]:
            named = getattr(self.when, name)
            told_apart = name in self.targets_by or getattr(self.then, name, None) is not None
            if len(named) > 1 and not told_apart:
                raise ValueError(
                    f"when.{name} names {len(named)}, and the action would be about every {name}; allowed: {name} "
                    f"among when.per, or then.{name}"
                )
        return self

    @property
    def well(self) -> float:
        """Beyond which value, away from the limit, all is well again."""
        if self.until.below is not None:
            return self.until.below
        return self.until.above if self.until.above is not None else self.when.limit

    @property
    def targets_by(self) -> tuple[LabelName, ...]:
        """Of what the rule has a state each."""
        labels = MEASURE_NAMES[self.when.measure]
        if self.when.per is not None:
            return self.when.per
        return tuple(name for name in ACTION_SCOPES[self.then.action] if name in labels)
