"""The kinds of sources, by the name that leads.yaml gives them."""

from collections.abc import Mapping

from leads_pipeline.sources.hubspot import HubSpotEvents
from leads_pipeline.sources.json_posts import JsonPosts
from leads_pipeline.sources.meta import MetaLeads
from leads_pipeline.sources.port import SourceKind

_KINDS: tuple[SourceKind, ...] = (JsonPosts(), HubSpotEvents(), MetaLeads())

KINDS: Mapping[str, SourceKind] = {kind.name: kind for kind in _KINDS}
