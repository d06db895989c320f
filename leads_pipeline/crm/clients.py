"""The clients of the configured destinations. Add a vendor here, beside its package."""

from collections.abc import Callable, Mapping
from typing import Any

import sqlalchemy as sa

from leads_pipeline.config import Settings
from leads_pipeline.crm.files import client as files
from leads_pipeline.crm.hubspot import client as hubspot
from leads_pipeline.crm.port import CrmClient
from leads_pipeline.crm.salesforce import client as salesforce
from leads_pipeline.crm.sql_table import client as sql_table
from leads_pipeline.crm.webhook import client as webhook
from leads_pipeline.crm.zoho import client as zoho
from leads_pipeline.errors import ConfigError
from leads_pipeline.outbound.access_tokens import MemoryTokens, TokenStore
from leads_pipeline.storage.access_tokens import TokenTable

# By the vendor's name in leads.yaml; each takes that vendor's settings, and where access tokens lie.
BUILDERS: Mapping[str, Callable[[Any, TokenStore], CrmClient]] = {
    "hubspot": hubspot.build,
    "webhook": webhook.build,
    "sql": sql_table.build,
    "file": files.build,
    "zoho": zoho.build,
    "salesforce": salesforce.build,
}


def build_each(settings: Settings, engine: sa.Engine | None = None) -> dict[str, CrmClient | ConfigError]:
    """A client per destination, or why it cannot be built. The caller closes them.

    ``engine``: of the database in which all processes share their access tokens; ``None``: this process shares none.
    """
    tokens = MemoryTokens() if engine is None else TokenTable(engine)
    built: dict[str, CrmClient | ConfigError] = {}
    for name, destination in settings.destinations.items():
        try:
            built[name] = BUILDERS[destination.vendor](destination, tokens)
        except ConfigError as error:
            built[name] = error
    return built


def build_clients(settings: Settings, engine: sa.Engine | None = None) -> dict[str, CrmClient]:
    """As ``build_each``, of which none may fail.

    Raises:
        ConfigError: a token's environment variable is not set.
    """
    clients: dict[str, CrmClient] = {}
    for name, built in build_each(settings, engine).items():
        if isinstance(built, ConfigError):
            raise built
        clients[name] = built
    return clients
