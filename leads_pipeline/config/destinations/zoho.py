"""What an organisation at Zoho CRM has besides what every destination has."""

from typing import Annotated, ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from leads_pipeline.config.base import SecretRef, WebAddress
from leads_pipeline.config.destinations.base import DestinationSettings, MappedField, Price, PropertySettings
from leads_pipeline.config.limits import EndpointClassLimits, RequestLimits, UnitName, WindowLimit

# Requests that write more than ten records: Zoho lets only ten of them run at once, whatever the edition.
MANY_RECORDS = "many_records"

# Zoho's own names, in the module Leads, for the canonical fields of a golden contact.
ZOHO_MAPPING: dict[str, str | PropertySettings] = {
    "email": "Email",
    "phone": "Phone",
    "first_name": "First_Name",
    "last_name": "Last_Name",
    "company": "Company",
    "job_title": "Designation",
    "address": "Street",
    "city": "City",
    "state": "State",
    "postcode": "Zip_Code",
    "country": "Country",
}

# A write costs a credit for each ten records, any other request one.
_RECORDS_PER_CREDIT = 10
# A write of more is one of the few that run at once.
_MANY = 10

# Accounts server, API server.
_DATA_CENTRES = {
    "com": ("https://accounts.zoho.com", "https://www.zohoapis.com"),
    "eu": ("https://accounts.zoho.eu", "https://www.zohoapis.eu"),
    "in": ("https://accounts.zoho.in", "https://www.zohoapis.in"),
    "com.au": ("https://accounts.zoho.com.au", "https://www.zohoapis.com.au"),
    "jp": ("https://accounts.zoho.jp", "https://www.zohoapis.jp"),
    "ca": ("https://accounts.zohocloud.ca", "https://www.zohoapis.ca"),
}

# The free edition's. Other editions: docs/destinations.md.
_LIMITS = RequestLimits(
    windows=(WindowLimit(credits=5_000, seconds=86_400),),
    daily=None,
    shared_in_flight=5,
    endpoint_classes={MANY_RECORDS: EndpointClassLimits(shared_in_flight=10)},
)


def price_of(records: int) -> Price:
    """What Zoho charges for a write of so many records."""
    return Price(MANY_RECORDS if records > _MANY else "api", -(-records // _RECORDS_PER_CREDIT))


class ZohoSettings(DestinationSettings):
    """An organisation at Zoho CRM."""

    hands_records_on: ClassVar[bool] = True
    charged: ClassVar[tuple[UnitName, ...]] = ("requests", "credits", "records")
    classes: ClassVar[tuple[str, ...]] = (MANY_RECORDS,)
    vendor: Literal["zoho"] = Field(description="Whose API it speaks.")
    data_centre: Literal["com", "eu", "in", "com.au", "jp", "ca"] = Field(
        "com", description="Where the organisation is: the end of its accounts server's name."
    )
    base_url: WebAddress | None = Field(
        None,
        description="The API's address, if not the one that the token's answer names (`api_domain`). An http address "
        "of this machine is served by `leads dev`: the sandbox.",
    )
    accounts_url: WebAddress | None = Field(
        None, description="The accounts server, if not the data centre's; at a sandbox, `base_url`."
    )
    api_version: Annotated[str, Field(pattern=r"^v\d{1,3}(\.\d{1,2})?$")] = Field("v8", description="As in /crm/v8/….")
    module: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$")] = Field(
        "Leads", description="API name of the module that contacts are records of."
    )
    client_id: Annotated[str, Field(min_length=1)] = Field(description="Of the self client in Zoho's API console.")
    client_secret: SecretRef
    refresh_token: SecretRef
    key_property: str = Field("Lead_Key", description="The module's unique field that holds our contact id.")
    if_unknown: dict[str, Annotated[str, Field(min_length=1)]] = Field(
        default_factory=dict,
        description="What a field says in a new record of a contact that has no value for it. Zoho demands a "
        "Last_Name, and most organisations a Company of Leads; contacts without them become dead letters.",
    )
    batch_size: Annotated[int, Field(gt=0, le=100)] = Field(100, description="Records in one request.")
    limits: RequestLimits = Field(_LIMITS, description="Unset: those of the free edition.")
    mapping: dict[MappedField, str | PropertySettings] = Field(
        default_factory=lambda: {**ZOHO_MAPPING},
        description="Golden contact's field, or consent.PURPOSE.CHANNEL → the module's field, by its API name; "
        "`field: property` is short for {to: property}. Unset: Zoho's own fields of Leads.",
    )

    @field_validator("limits", mode="before")
    @classmethod
    def _what_is_not_stated_is_the_edition_s(cls, value: object) -> object:
        """Zoho has no day's quota of requests, and no window of requests."""
        return {**_LIMITS.model_dump(exclude_unset=True), **value} if isinstance(value, dict) else value

    def address(self) -> str | None:
        """See ``DestinationSettings.address``."""
        return self.base_url

    def api_url(self) -> str:
        """Where requests are sent to, unless the token's answer says otherwise."""
        return self.base_url or _DATA_CENTRES[self.data_centre][1]

    def token_url(self) -> str:
        """The token endpoint."""
        accounts = self.accounts_url
        if accounts is None:
            at_a_sandbox = self.base_url is not None and urlsplit(self.base_url).scheme == "http"
            accounts = self.base_url if at_a_sandbox else _DATA_CENTRES[self.data_centre][0]
        return f"{(accounts or '').rstrip('/')}/oauth/v2/token"

    def price(self, records: int) -> Price:
        """See ``DestinationSettings.price``."""
        return price_of(records)

    def key(self) -> str:
        """See ``DestinationSettings.key``."""
        return self.key_property
