"""The clients of the configured destinations. Add a vendor here, beside its package."""

from collections.abc import Callable, Mapping
from typing import Any

from leads_pipeline.config import Settings
from leads_pipeline.crm.hubspot import client as hubspot
from leads_pipeline.crm.port import CrmClient

# By the vendor's name in leads.yaml; each takes that vendor's settings.
BUILDERS: Mapping[str, Callable[[Any], CrmClient]] = {
    "hubspot": hubspot.build,
}


def build_clients(settings: Settings) -> dict[str, CrmClient]:
    """A client per destination. The caller closes them.

    Raises:
        ConfigError: a token's environment variable is not set.
    """
    return {name: BUILDERS[destination.vendor](destination) for name, destination in settings.destinations.items()}
