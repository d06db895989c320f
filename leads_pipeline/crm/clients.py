"""The clients of the configured destinations. Add a vendor here, beside its module."""

from leads_pipeline.config import HubSpotSettings, Settings
from leads_pipeline.crm.hubspot import HubSpot
from leads_pipeline.crm.port import CrmClient
from leads_pipeline.outbound.transport import Transport


def build_clients(settings: Settings) -> dict[str, CrmClient]:
    """A client per destination. The caller closes them.

    Raises:
        ConfigError: a token's environment variable is not set.
    """
    return {name: _build(destination) for name, destination in settings.destinations.items()}


def _build(destination: HubSpotSettings) -> CrmClient:
    transport = Transport(
        destination.base_url,
        token=destination.token.resolve(),
        timeout_seconds=destination.timeout_seconds,
        connections=destination.limits.in_flight,
    )
    return HubSpot(transport, api_prefix=destination.api_prefix, key_property=destination.key_property)
