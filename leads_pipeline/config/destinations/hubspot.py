"""What a HubSpot account has besides what every destination has."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from leads_pipeline.config.base import SecretRef, WebAddress
from leads_pipeline.config.destinations.base import DestinationSettings, MappedField, PropertySettings

# HubSpot's own property names for the canonical fields of a golden contact.
HUBSPOT_MAPPING: dict[str, str | PropertySettings] = {
    "email": "email",
    "phone": "phone",
    "first_name": "firstname",
    "last_name": "lastname",
    "company": "company",
    "job_title": "jobtitle",
    "address": "address",
    "city": "city",
    "state": "state",
    "postcode": "zip",
    "country": "country",
}


class HubSpotSettings(DestinationSettings):
    """A HubSpot account."""

    hands_records_on: ClassVar[bool] = True
    vendor: Literal["hubspot"] = Field(description="Whose API it speaks.")
    base_url: WebAddress = Field(
        "https://api.hubapi.com", description="An http address of this machine is served by `leads dev`: the sandbox."
    )
    api_prefix: Annotated[str, Field(pattern=r"^/")] = Field("/crm/v3/objects", description="Before /contacts/….")
    token: SecretRef
    key_property: str = Field("lead_key", description="The CRM's unique property that holds our contact id.")
    batch_size: Annotated[int, Field(gt=0, le=100)] = Field(100, description="Records in one request.")
    mapping: dict[MappedField, str | PropertySettings] = Field(
        default_factory=lambda: {**HUBSPOT_MAPPING},
        description="Golden contact's field, or consent.PURPOSE.CHANNEL → the CRM's property; "
        "`field: property` is short for {to: property}.",
    )

    def address(self) -> str:
        """See ``DestinationSettings.address``."""
        return self.base_url

    def key(self) -> str:
        """See ``DestinationSettings.key``."""
        return self.key_property
