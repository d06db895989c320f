"""The vendors that can be played. Add one here, beside its package."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from leads_pipeline.config import SecretRef
from leads_pipeline.crm.sandbox.hubspot import options as hubspot
from leads_pipeline.crm.sandbox.hubspot.vendor import PlayedHubSpot
from leads_pipeline.crm.sandbox.options import SandboxOptions
from leads_pipeline.crm.sandbox.salesforce import options as salesforce
from leads_pipeline.crm.sandbox.salesforce.vendor import PlayedSalesforce
from leads_pipeline.crm.sandbox.vendor import PlayedVendor
from leads_pipeline.crm.sandbox.zoho import options as zoho
from leads_pipeline.crm.sandbox.zoho.vendor import PlayedZoho


@dataclass(frozen=True, slots=True)
class SandboxVendor:
    """What the frame must know of a vendor before it plays it.

    ``account_for`` takes the vendor's settings of leads.yaml and says which account they expect: its fields, not its
    limits. ``secrets_of`` says which secrets a client with those settings shows; the sandbox demands the first.
    """

    options: type[SandboxOptions]
    play: Callable[[Any], PlayedVendor]
    account_for: Callable[[Any], SandboxOptions]
    secrets_of: Callable[[Any], tuple[SecretRef, ...]]


# By the vendor's name in leads.yaml.
VENDORS: Mapping[str, SandboxVendor] = {
    "hubspot": SandboxVendor(hubspot.HubSpotOptions, PlayedHubSpot, hubspot.account_for, hubspot.secrets_of),
    "salesforce": SandboxVendor(
        salesforce.SalesforceOptions, PlayedSalesforce, salesforce.account_for, salesforce.secrets_of
    ),
    "zoho": SandboxVendor(zoho.ZohoOptions, PlayedZoho, zoho.account_for, zoho.secrets_of),
}
