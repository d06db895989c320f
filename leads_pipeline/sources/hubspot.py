"""Kind ``hubspot``: HubSpot's webhooks of a private or public app, with signature version 3.

HubSpot says that something happened to a contact and not who it is: the contact is read afterwards, by ``reference``.
It sends again, up to ten times in 24 hours, what is answered with 4xx or 5xx or not within five seconds: what is signed
and cannot be read is therefore refused and stays with it.
"""

import base64
import re
from collections.abc import Collection, Mapping
from datetime import timedelta
from types import MappingProxyType
from typing import Any

from leads_pipeline.sources.bases import SignedKind
from leads_pipeline.sources.bodies import MALFORMED, NOT_JSON, is_scalar, json_of, reference_of, text_of
from leads_pipeline.sources.port import (
    FETCHED,
    Delivery,
    Doubt,
    Fault,
    Post,
    Secrets,
    SourceOptions,
    Unreadable,
    fetched_part,
    flattened,
    same_secret,
)
from leads_pipeline.sources.signatures import hmac_sha256, is_near

# HubSpot's own name of a property of a contact → our canonical field.
_CONTACT_FIELDS = {
    "email": "email",
    "phone": "phone",
    "mobilephone": "phone",
    "firstname": "first_name",
    "lastname": "last_name",
    "company": "company",
    "jobtitle": "job_title",
    "date_of_birth": "date_of_birth",
    "address": "address",
    "city": "city",
    "state": "state",
    "zip": "postcode",
    "country": "country",
    "message": "message",
}
# What the contact must be asked for; HubSpot answers only the properties that are named.
CONTACT_PROPERTIES: tuple[str, ...] = tuple(_CONTACT_FIELDS)

# The escapes that HubSpot undoes in the query before it signs; all others stay as they are.
_ESCAPES = re.compile("%(?:3A|2F|3F|40|21|24|27|28|29|2A|2C|3B)", re.IGNORECASE)
# Events after which there is no contact to be asked for.
_LAST_EVENTS = frozenset({"contact.deletion", "contact.privacyDeletion"})
# What makes two deliveries the same event: all that does not change from attempt to attempt.
_IDENTITY = ("portalId", "subscriptionId", "eventId", "objectId", "occurredAt")


class HubSpotEvents(SignedKind):
    """One post an event; a request holds up to a hundred."""

    name = "hubspot"
    usual: Mapping[str, str] = MappingProxyType(
        {f"properties.{name}": field for name, field in _CONTACT_FIELDS.items()} | {"objectId": "external_id"}
    )
    usual_names = False

    def verify(self, delivery: Delivery, secrets: Secrets) -> Doubt | None:
        signature = delivery.headers.get("x-hubspot-signature-v3")
        timestamp = delivery.headers.get("x-hubspot-request-timestamp")
        if not signature or not timestamp:
            return Doubt.NO_SIGNATURE
        signed = (
            f"{delivery.method}{signed_address(delivery.url)}".encode("utf-8", "surrogatepass")
            + delivery.body
            + timestamp.encode("utf-8", "surrogatepass")
        )
        expected = base64.b64encode(hmac_sha256(secrets.signing, signed)).decode("ascii")
        if not secrets.signing or not same_secret(expected, signature):
            return Doubt.BAD_SIGNATURE
        if not is_near(timestamp, delivery.received_at, unit=timedelta(milliseconds=1)):
            return Doubt.TOO_OLD
        return None

    def read(self, delivery: Delivery, options: SourceOptions) -> list[Post] | Unreadable:
        events = json_of(delivery.body)
        if events is NOT_JSON:
            return MALFORMED
        if not isinstance(events, list) or not all(isinstance(event, dict) for event in events):
            return Unreadable(Fault.WRONG_SHAPE, "HubSpot sends a list of events")
        return [_post(event) for event in events]

    def fields(self, payload: Mapping[str, Any]) -> dict[str, Any]:
        """The event's own fields; what it says of the contact, and what the contact is, under ``properties.``."""
        found = flattened({name: value for name, value in payload.items() if name != FETCHED})
        changed = text_of(payload.get("propertyName"))
        value = payload.get("propertyValue")
        if changed is not None and is_scalar(value):
            found[f"properties.{changed}"] = value
        return found | flattened(fetched_part(payload))  # read later than the event was sent: it is the newer


def is_echo(payload: Mapping[str, Any], key_properties: Collection[str]) -> bool:
    """Whether an event that was asked for tells of a contact that a delivery of ours made.

    Such a contact has our id in one of ``key_properties`` (``destinations.….key_property``) from its first moment on.
    """
    if payload.get("subscriptionType") != "contact.creation":
        return False
    properties = fetched_part(payload).get("properties")
    return isinstance(properties, Mapping) and any(text_of(properties.get(name)) for name in key_properties)


def keys_of(payload: Mapping[str, Any], key_properties: Collection[str]) -> list[str]:
    """Our ids that the contact of an event has; none if it did not come from us."""
    properties = fetched_part(payload).get("properties")
    if not isinstance(properties, Mapping):
        return []
    return [key for name in key_properties if (key := text_of(properties.get(name)))]


def changed_property(payload: Mapping[str, Any]) -> tuple[str, str] | None:
    """The property of which an event tells that it changed, and its value now; ``None`` if it tells of none."""
    name = text_of(payload.get("propertyName"))
    if payload.get("subscriptionType") != "contact.propertyChange" or name is None:
        return None
    properties = fetched_part(payload).get("properties")
    asked = properties.get(name) if isinstance(properties, Mapping) else None
    return name, text_of(asked) or text_of(payload.get("propertyValue")) or ""


def signed_address(url: str) -> str:
    """The address as HubSpot signs it: some escapes of the query undone, without what follows ``#``."""
    path, mark, query = url.partition("#")[0].partition("?")
    return path + mark + _ESCAPES.sub(lambda escape: chr(int(escape.group()[1:], 16)), query)


def _post(event: dict[str, Any]) -> Post:
    parts = [text_of(event.get(name)) or "" for name in _IDENTITY]
    event_id = "/".join(parts) if text_of(event.get("eventId")) else None
    return Post(event, event_id=event_id, reference=_contact_of(event))


def _contact_of(event: Mapping[str, Any]) -> str | None:
    """The id of the contact that an event is about, if there still is one."""
    kind = event.get("subscriptionType")
    if not isinstance(kind, str) or not kind.startswith("contact.") or kind in _LAST_EVENTS:
        return None
    return reference_of(event.get("objectId"))
