"""What leads.yaml says for the marts: what their figures are multiplied by, which no row of ours tells."""

from decimal import Decimal
from typing import Annotated, Self

from pydantic import Field, model_validator

from leads_pipeline.config.base import Model, Name


class LeadCost(Model):
    """What a lead costs: of a whole tenant, or of one of its sources."""

    tenant: Name = Field(description="Whose leads.")
    source: Name | None = Field(None, description="Of this source alone; it stands above the tenant's own cost.")
    cost: Annotated[Decimal, Field(gt=0, max_digits=12, decimal_places=4, description="Spent per lead.")]
    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$", description="ISO 4217 code, such as USD.")]


class AnalyticsSettings(Model):
    """The marts for analysts."""

    cost_per_lead: tuple[LeadCost, ...] = Field(
        (), description="What leads cost, for marts.loss_avoided. What is not told here is not priced there."
    )

    @model_validator(mode="after")
    def _told_once(self) -> Self:
        told: set[tuple[str, str | None]] = set()
        for place, cost in enumerate(self.cost_per_lead):
            key = (cost.tenant, cost.source)
            if key in told:
                raise ValueError(
                    f"cost_per_lead[{place}] tells the cost of {cost.tenant}/{cost.source or '*'} a second time; "
                    "allowed: once per tenant, and once per source of it"
                )
            told.add(key)
        return self
