"""Kind ``standard_webhooks``: any sender that follows standardwebhooks.com, with a shared secret.

Such senders send again what is not answered with 2xx: what is signed and cannot be read is refused and stays with them.
Only ``v1`` signatures are read; ``v1a`` (ed25519) belongs to another kind of secret.
"""

from collections.abc import Mapping
from datetime import timedelta
from types import MappingProxyType
from typing import Any

from leads_pipeline.domain.lead import FIELD_NAMES
from leads_pipeline.domain.standard_webhooks import ID_HEADER, SIGNATURE_HEADER, TIMESTAMP_HEADER, key_of, signature
from leads_pipeline.sources.bases import SignedKind
from leads_pipeline.sources.bodies import MALFORMED, NOT_JSON, json_of, text_of
from leads_pipeline.sources.port import (
    Delivery,
    Doubt,
    Fault,
    Post,
    Secrets,
    SourceOptions,
    Unreadable,
    flattened,
    same_secret,
)
from leads_pipeline.sources.signatures import is_near

# While a sender changes its secret it signs with both. More signatures than this nobody needs, and each costs a hash.
_MOST_SIGNATURES = 10


class StandardWebhooks(SignedKind):
    """One post a request: its ``data``."""

    name = "standard_webhooks"
    usual: Mapping[str, str] = MappingProxyType({name: name for name in FIELD_NAMES})

    def verify(self, delivery: Delivery, secrets: Secrets) -> Doubt | None:
        event_id = delivery.headers.get(ID_HEADER)
        timestamp = delivery.headers.get(TIMESTAMP_HEADER)
        signatures = delivery.headers.get(SIGNATURE_HEADER)
        if not event_id or not timestamp or not signatures:
            return Doubt.NO_SIGNATURE
        key = key_of(secrets.signing)
        expected = signature(key, message_id=event_id, timestamp=timestamp, body=delivery.body)
        given = signatures.split(" ", _MOST_SIGNATURES)[:_MOST_SIGNATURES]
        # All are compared, so that the time does not tell which one was right.
        matches = [same_secret(expected, signature) for signature in given]
        if not key or not any(matches):
            return Doubt.BAD_SIGNATURE
        if not is_near(timestamp, delivery.received_at, unit=timedelta(seconds=1)):
            return Doubt.TOO_OLD
        return None

    def read(self, delivery: Delivery, options: SourceOptions) -> list[Post] | Unreadable:
        event = json_of(delivery.body)
        if event is NOT_JSON:
            return MALFORMED
        if not isinstance(event, dict):
            return Unreadable(Fault.WRONG_SHAPE, "an event must be a JSON object")
        return [Post(event, event_id=text_of(delivery.headers.get(ID_HEADER)))]

    def fields(self, payload: Mapping[str, Any]) -> dict[str, Any]:
        """The fields of ``data`` by their own names, beside the event's own, such as ``type``."""
        lead = payload.get("data")
        if not isinstance(lead, Mapping):
            return flattened(payload)
        return flattened({name: value for name, value in payload.items() if name != "data"}) | flattened(lead)
