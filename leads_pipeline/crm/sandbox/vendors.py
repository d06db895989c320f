"""The vendors that can be played. Add one here, beside its package."""

from collections.abc import Callable, Mapping

from leads_pipeline.crm.sandbox.hubspot.vendor import PlayedHubSpot
from leads_pipeline.crm.sandbox.options import SandboxOptions
from leads_pipeline.crm.sandbox.vendor import PlayedVendor

# By the vendor's name in leads.yaml.
VENDORS: Mapping[str, Callable[[SandboxOptions], PlayedVendor]] = {
    "hubspot": PlayedHubSpot,
}
