"""The accounts that contacts are delivered to: the settings of each vendor, told apart by ``vendor``.

Add a vendor as a module beside ``hubspot`` and name its settings in ``Destination``.
"""

from typing import Annotated, get_args

from pydantic import Field

from leads_pipeline.config.destinations.base import (
    DELIVERABLE_FIELDS,
    DestinationSettings,
    GateSettings,
    MappedField,
    PropertySettings,
    RuleSettings,
)
from leads_pipeline.config.destinations.file import FILE_FIELDS, FileSettings
from leads_pipeline.config.destinations.generic import OWN_MAPPING
from leads_pipeline.config.destinations.hubspot import HUBSPOT_MAPPING, HubSpotSettings
from leads_pipeline.config.destinations.salesforce import SALESFORCE_MAPPINGS, SalesforceSettings
from leads_pipeline.config.destinations.sql import SqlSettings
from leads_pipeline.config.destinations.webhook import WebhookSettings
from leads_pipeline.config.destinations.zoho import MANY_RECORDS, ZOHO_MAPPING, ZohoSettings

__all__ = [
    "DELIVERABLE_FIELDS", "FILE_FIELDS", "HUBSPOT_MAPPING", "MANY_RECORDS", "OWN_MAPPING", "SALESFORCE_MAPPINGS",
    "VENDORS", "ZOHO_MAPPING",
    "Destination", "DestinationSettings",
    "FileSettings", "GateSettings", "HubSpotSettings", "MappedField", "PropertySettings", "RuleSettings",
    "SalesforceSettings", "SqlSettings",
    "WebhookSettings", "ZohoSettings",
]  # fmt: skip

Destination = Annotated[
    HubSpotSettings | WebhookSettings | SqlSettings | FileSettings | ZohoSettings | SalesforceSettings,
    Field(discriminator="vendor"),
]

# What `vendor` may say.
VENDORS = tuple(get_args(kind.model_fields["vendor"].annotation)[0] for kind in get_args(get_args(Destination)[0]))
