"""The CRM accounts that contacts are delivered to.

Every destination has what ``DestinationSettings`` says; a vendor's own settings stand in a subclass of it, and
``Destination`` is any of them. Keep out: what an account allows (``limits``).
"""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from leads_pipeline.config.base import WEB_ADDRESS, Model, SecretRef
from leads_pipeline.config.limits import RequestLimits

# The golden contact's fields that a CRM may be sent; a test compares them with the domain's.
DELIVERABLE_FIELDS = (
    "email", "phone", "first_name", "last_name", "company", "job_title", "date_of_birth",
    "address", "city", "state", "postcode", "country", "first_source", "last_source", "first_seen_at", "last_seen_at",
    "email_verdict", "phone_verdict", "phone_line_type", "risk_score",
)  # fmt: skip


def _deliverable_field(value: str) -> str:
    if value not in DELIVERABLE_FIELDS:
        raise ValueError(f"not a field of a golden contact; allowed: {', '.join(DELIVERABLE_FIELDS)}")
    return value


GoldenField = Annotated[str, AfterValidator(_deliverable_field)]


class GateSettings(Model):
    """Who may be sent, asked at the last moment. The suppression list (`leads suppressions`) always holds."""

    require: Literal["granted", "not_withdrawn", "nothing"] = Field(
        "not_withdrawn", description="What must be known of consent; `not_withdrawn`: silence passes."
    )
    purpose: Annotated[str, Field(min_length=1)] = Field("marketing", description="Consent to what.")
    channel: Annotated[str, Field(min_length=1)] = Field("email", description="By which way; `any` stands for all.")


class DestinationSettings(Model):
    """What every destination has: one account that contacts are delivered to."""

    vendor: str = Field(description="Whose API it speaks.")
    account: Annotated[str, Field(min_length=1)] = Field(
        description="Whose quota is spent: destinations with the same account share one limit."
    )
    batch_size: Annotated[int, Field(gt=0)] = Field(100, description="Records in one request.")
    limits: RequestLimits = RequestLimits()
    timeout_seconds: Annotated[float, Field(gt=0, le=120)] = Field(30, description="For one request.")
    mapping: dict[GoldenField, str] = Field(
        default_factory=dict, description="Golden contact's field → the CRM's property."
    )
    gate: GateSettings = Field(GateSettings(), description="Who may be sent.")

    def secrets(self) -> dict[str, SecretRef]:
        """Every secret that it refers to, by its key."""
        return {name: value for name, value in self if isinstance(value, SecretRef)}


# HubSpot's own property names for the canonical fields of a golden contact.
HUBSPOT_MAPPING: dict[str, str] = {
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

    vendor: Literal["hubspot"] = Field(description="Whose API it speaks.")
    base_url: Annotated[str, Field(pattern=WEB_ADDRESS)] = Field(
        "https://api.hubapi.com", description="An http address of this machine is served by `leads dev`: the sandbox."
    )
    api_prefix: Annotated[str, Field(pattern=r"^/")] = Field("/crm/v3/objects", description="Before /contacts/….")
    token: SecretRef
    key_property: str = Field("lead_key", description="The CRM's unique property that holds our contact id.")
    batch_size: Annotated[int, Field(gt=0, le=100)] = Field(100, description="Records in one request.")
    mapping: dict[GoldenField, str] = Field(
        default_factory=lambda: dict(HUBSPOT_MAPPING), description="Golden contact's field → the CRM's property."
    )


# A vendor's settings are told by ``vendor``.
Destination = HubSpotSettings
