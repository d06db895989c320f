"""Kind ``json``: any JSON object, sent with an API key: a script, a partner, a form of one's own."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from leads_pipeline.domain.lead import FIELD_NAMES
from leads_pipeline.domain.posted_lead import MAX_CONSENT_STATEMENTS, statements_of
from leads_pipeline.sources.bases import KeyedKind
from leads_pipeline.sources.bodies import MALFORMED, NOT_JSON, json_of
from leads_pipeline.sources.port import Delivery, Fault, Post, SourceOptions, Unreadable, flattened


class JsonPosts(KeyedKind):
    """One lead a request, in our own field names unless a mapping says otherwise."""

    name = "json"
    from_browser = True
    usual: Mapping[str, str] = MappingProxyType({name: name for name in FIELD_NAMES})
    usual_names = False

    def read(self, delivery: Delivery, options: SourceOptions) -> list[Post] | Unreadable:
        payload = json_of(delivery.body)
        if payload is NOT_JSON:
            return MALFORMED
        if not isinstance(payload, dict):
            return Unreadable(Fault.WRONG_SHAPE, "a lead must be a JSON object")
        statements = statements_of(payload.pop("consent", None))
        if len(statements) > MAX_CONSENT_STATEMENTS:
            return Unreadable(Fault.WRONG_SHAPE, f"a lead has at most {MAX_CONSENT_STATEMENTS} consent statements")
        return [Post(payload, consent=tuple(statements))]

    def fields(self, payload: Mapping[str, Any]) -> dict[str, Any]:
        return flattened(payload)
