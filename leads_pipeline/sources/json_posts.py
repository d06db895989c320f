"""Kind ``json``: any JSON object, sent with an API key: a script, a partner, a form of one's own."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import msgspec

from leads_pipeline.domain.lead import FIELD_NAMES
from leads_pipeline.domain.posted_lead import statements_of
from leads_pipeline.sources.port import Delivery, Doubt, Fault, Post, Secrets, SourceOptions, Unreadable, flattened


class JsonPosts:
    """One lead a request, in our own field names unless a mapping says otherwise."""

    name = "json"
    signed = False
    from_browser = True
    answers_browsers = False
    media_types = frozenset({"application/json"})
    usual: Mapping[str, str] = MappingProxyType({name: name for name in FIELD_NAMES})
    usual_names = False

    def challenge(self, delivery: Delivery, secrets: Secrets) -> str | Doubt | None:
        return None

    def verify(self, delivery: Delivery, secrets: Secrets) -> Doubt | None:
        return None

    def read(self, delivery: Delivery, options: SourceOptions) -> list[Post] | Unreadable:
        try:
            payload = msgspec.json.decode(delivery.body)
        except (ValueError, RecursionError):
            return Unreadable(Fault.MALFORMED_JSON, "the body is not valid JSON in UTF-8")
        if not isinstance(payload, dict):
            return Unreadable(Fault.WRONG_SHAPE, "a lead must be a JSON object")
        statements = statements_of(payload.pop("consent", None))
        return [Post(payload, consent=tuple(statements))]

    def fields(self, payload: Mapping[str, Any]) -> dict[str, Any]:
        return flattened(payload)
