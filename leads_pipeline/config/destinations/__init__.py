"""The accounts that contacts are delivered to: the settings of each vendor, told apart by ``vendor``.

Add a vendor as a module beside ``hubspot`` and name its settings in ``Destination``.
"""

from leads_pipeline.config.destinations.base import (
    DELIVERABLE_FIELDS,
    DestinationSettings,
    GateSettings,
    MappedField,
    PropertySettings,
    RuleSettings,
)
from leads_pipeline.config.destinations.hubspot import HUBSPOT_MAPPING, HubSpotSettings

__all__ = [
    "DELIVERABLE_FIELDS", "HUBSPOT_MAPPING", "Destination", "DestinationSettings", "GateSettings", "HubSpotSettings",
    "MappedField", "PropertySettings", "RuleSettings",
]  # fmt: skip

# With a second vendor: Annotated[HubSpotSettings | …, Field(discriminator="vendor")].
Destination = HubSpotSettings
