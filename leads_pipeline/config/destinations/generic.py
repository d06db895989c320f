"""What the destinations share that are no vendor's CRM: a webhook, a table, files.

They have no names of their own for what a contact is, so a field is sent under ours unless leads.yaml says otherwise;
and no limits but those that their owner states.
"""

from pydantic import Field, field_validator

from leads_pipeline.config.destinations.base import DestinationSettings, MappedField, PropertySettings
from leads_pipeline.config.limits import RequestLimits

# Who the person is and how they are reached; anything more is sent only where leads.yaml maps it.
OWN_MAPPING: dict[str, str | PropertySettings] = {
    name: name
    for name in (
        "email", "phone", "first_name", "last_name", "company", "job_title", "address", "city", "state", "postcode",
        "country",
    )
}  # fmt: skip


class GenericSettings(DestinationSettings):
    """A destination of which nobody but its owner knows what it takes."""

    limits: RequestLimits = Field(
        RequestLimits(windows=(), daily=None), description="Without windows or daily there is no such limit."
    )
    mapping: dict[MappedField, str | PropertySettings] = Field(
        default_factory=lambda: {**OWN_MAPPING},
        description="Golden contact's field, or consent.PURPOSE.CHANNEL → the name there; "
        "`field: name` is short for {to: name}.",
    )

    @field_validator("limits", mode="before")
    @classmethod
    def _what_is_not_stated_is_no_limit(cls, value: object) -> object:
        return {"windows": (), "daily": None, **value} if isinstance(value, dict) else value
