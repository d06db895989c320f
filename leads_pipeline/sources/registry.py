"""The kinds of sources, by the name that leads.yaml gives them."""

from collections.abc import Mapping

from leads_pipeline.sources.form_posts import FormPosts
from leads_pipeline.sources.google_ads import GoogleAdsLeads
from leads_pipeline.sources.hubspot import HubSpotEvents
from leads_pipeline.sources.json_posts import JsonPosts
from leads_pipeline.sources.meta import MetaLeads
from leads_pipeline.sources.port import SourceKind
from leads_pipeline.sources.standard_webhooks import StandardWebhooks
from leads_pipeline.sources.typeform import TypeformResponses
from leads_pipeline.sources.wordpress import ContactForm7, GravityForms, WpForms

_KINDS: tuple[SourceKind, ...] = (
    JsonPosts(),
    FormPosts(),
    HubSpotEvents(),
    MetaLeads(),
    GoogleAdsLeads(),
    TypeformResponses(),
    StandardWebhooks(),
    ContactForm7(),
    GravityForms(),
    WpForms(),
)

KINDS: Mapping[str, SourceKind] = {kind.name: kind for kind in _KINDS}
