"""What a Salesforce org has besides what every destination has."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, field_validator, model_validator

from leads_pipeline.config.base import Model, SecretRef, WebAddress
from leads_pipeline.config.destinations.base import DestinationSettings, PropertySettings
from leads_pipeline.config.limits import RequestLimits, WindowLimit

_OF_BOTH: dict[str, str | PropertySettings] = {
    "email": "Email",
    "phone": "Phone",
    "first_name": "FirstName",
    "last_name": "LastName",
    "job_title": "Title",
}
_ADDRESS = {"address": "Street", "city": "City", "state": "State", "postcode": "PostalCode", "country": "Country"}
# Salesforce's own names for the canonical fields of a golden contact. A contact's company is an account of its own.
SALESFORCE_MAPPINGS: dict[str, dict[str, str | PropertySettings]] = {
    "Lead": {**_OF_BOTH, "company": "Company", **_ADDRESS},
    "Contact": {**_OF_BOTH, **{field: f"Mailing{name}" for field, name in _ADDRESS.items()}},
}
# A request that runs for 20 seconds takes one of 25 places of the org; batches of 200 stay far below.
_MOST_RECORDS = 200
# Upserts of a collection came with it.
_OLDEST_VERSION = 46.0
# Where users sign in; a client gets its token from its org.
_SIGN_IN_HOSTS = frozenset({"login.salesforce.com", "test.salesforce.com"})


class JwtSettings(Model):
    """A connected app that signs in as a user, with a certificate instead of a secret."""

    user: Annotated[str, Field(min_length=1)] = Field(description="The user's name in Salesforce.")
    private_key: SecretRef = Field(description="PEM of the key whose certificate the connected app has.")
    audience: WebAddress = Field(
        "https://login.salesforce.com", description="https://test.salesforce.com for an org's sandboxes."
    )


def _of_an_org(value: str) -> str:
    parts = urlsplit(value)
    if parts.path not in ("", "/") or parts.query or parts.fragment or "@" in parts.netloc:
        raise ValueError("it is the org's host and nothing more; allowed: https://acme.my.salesforce.com")
    return value


class BulkSettings(Model):
    """When many contacts are due, they go as one job of Bulk API 2.0."""

    above: Annotated[int, Field(ge=1)] | None = Field(
        2000, description="More due contacts than that go as a job; null: never."
    )
    # Salesforce works on a job in batches of so many; a larger one would only hold more contacts up.
    most: Annotated[int, Field(ge=1, le=10_000)] = Field(10_000, description="Contacts in one job.")
    poll_seconds: Annotated[float, Field(gt=0, le=3600)] = Field(10, description="How often a job is asked about.")
    deadline_seconds: Annotated[int, Field(ge=60, le=604_800)] = Field(
        21_600, description="A job that takes longer is aborted, and its contacts are sent again."
    )

    @model_validator(mode="after")
    def _asks_before_the_deadline(self) -> Self:
        if self.poll_seconds >= self.deadline_seconds:
            raise ValueError("poll_seconds must be less than deadline_seconds: a job is asked about before it is over")
        return self


class SalesforceSettings(DestinationSettings):
    """A Salesforce org."""

    hands_records_on: ClassVar[bool] = True
    vendor: Literal["salesforce"] = Field(description="Whose API it speaks.")
    base_url: Annotated[WebAddress, AfterValidator(_of_an_org)] = Field(
        description="The org's own address, https://MYDOMAIN.my.salesforce.com. An http address of this machine is "
        "served by `leads dev`: the sandbox."
    )
    api_version: Annotated[str, Field(pattern=r"^v\d{1,3}\.\d$")] = Field(
        "v66.0", description="As in the paths of the API."
    )
    object_type: Literal["Lead", "Contact"] = Field("Lead", description="What a golden contact is there.")
    client_id: Annotated[str, Field(min_length=1)] = Field(description="The connected app's consumer key.")
    client_secret: SecretRef | None = Field(None, description="Its consumer secret: client credentials. Or `jwt`.")
    jwt: JwtSettings | None = Field(None, description="Signing in as a user, by JWT bearer assertions.")
    key_property: str = Field(
        "Lead_Key__c", description="The object's unique external id (text of 36) that holds our contact id."
    )
    batch_size: Annotated[int, Field(gt=0, le=_MOST_RECORDS)] = Field(
        _MOST_RECORDS, description="Records in one request."
    )
    limits: RequestLimits = RequestLimits(windows=(WindowLimit(requests=100_000, seconds=86_400),), daily=None)
    placeholders: dict[str, Annotated[str, Field(min_length=1)]] = Field(
        default_factory=lambda: {"LastName": "[not provided]", "Company": "[not provided]"},
        description="What a new record has in a field that Salesforce demands and that the contact lacks.",
    )
    bulk: BulkSettings = Field(BulkSettings(), description="Bulk API 2.0.")

    @model_validator(mode="before")
    @classmethod
    def _mapping_of_the_object(cls, values: Any) -> Any:
        """Unless leads.yaml has a mapping, it is that of the object."""
        if not isinstance(values, Mapping) or "mapping" in values:
            return values
        kind = values.get("object_type", "Lead")
        return {**values, "mapping": dict(SALESFORCE_MAPPINGS.get(kind, {}))} if isinstance(kind, str) else values

    @model_validator(mode="after")
    def _signs_in_in_one_way(self) -> Self:
        if (self.client_secret is None) == (self.jwt is None):
            raise ValueError("give client_secret (client credentials) or jwt (a user's assertion), and not both")
        if self.jwt is None and urlsplit(self.base_url).hostname in _SIGN_IN_HOSTS:
            raise ValueError(
                "base_url gives a client_secret no token; allowed: the org's own, https://MYDOMAIN.my.salesforce.com"
            )
        return self

    @field_validator("api_version")
    @classmethod
    def _has_the_calls(cls, value: str) -> str:
        if float(value.removeprefix("v")) < _OLDEST_VERSION:
            raise ValueError(f"it lacks upserts of many records; allowed: v{_OLDEST_VERSION} and later, such as v66.0")
        return value

    def address(self) -> str:
        """See ``DestinationSettings.address``."""
        return self.base_url

    def key(self) -> str:
        """See ``DestinationSettings.key``."""
        return self.key_property

    def secrets(self) -> dict[str, SecretRef]:
        """See ``DestinationSettings.secrets``."""
        own = super().secrets()
        return own if self.jwt is None else {**own, "jwt.private_key": self.jwt.private_key}
