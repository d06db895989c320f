"""Contacts as events, and the requests that carry them; docs/destinations.md describes both to receivers. Pure.

An event says what the contact is now, not what changed: whoever keeps the highest version of each contact may get
events late, twice or out of order. Keep out: the signature (``outbound.signing``).
"""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from hashlib import blake2b
from typing import Any

from leads_pipeline.crm.port import CrmRecord, CrmRequest
from leads_pipeline.domain.snapshot import is_empty
from leads_pipeline.domain.stage import Operation
from leads_pipeline.domain.standard_webhooks import ID_HEADER

UPSERTED, REMOVED, ERASED = "contact.upserted", "contact.removed", "contact.erased"
# Of nobody: whether the receiver is there, and takes our signature.
TEST = "test"
# Consent alone, of a contact of whom nothing else may be sent any more.
CONSENT_WITHDRAWN = "contact.consent_withdrawn"

# What the books call the address, which may be nobody's business.
ENDPOINT = "webhook"


def event_of(record: CrmRecord) -> dict[str, Any]:
    """What a receiver is told of one contact."""
    data: dict[str, Any] = {
        "contact_id": str(record.contact_id),
        "tenant": record.tenant,
        "version": record.version,
    }
    if record.operation is Operation.UPSERT:
        data["properties"] = _properties(record)
    return {"id": event_id(record), "type": _type(record), "data": data}


def event_id(record: CrmRecord) -> str:
    """The same for the same version of a contact, whenever and however often it is sent.

    A version is sent anew, under another id, when its mapping was mended: so what is sent is part of the id, as a hash
    that says nothing without the contact's id.
    """
    mark = blake2b(digest_size=6, key=record.contact_id.bytes)
    mark.update(json.dumps([_type(record), _properties(record)], sort_keys=True).encode())
    return f"{record.outbox_id}.{record.version}.{mark.hexdigest()}"


def request_of(part: Sequence[CrmRecord], *, batches: bool) -> CrmRequest:
    """One event, or a list of them where the receiver takes ``batches``; then even a single one is in a list."""
    events = [event_of(record) for record in part]
    message_id = _batch_id(events) if batches else events[0]["id"]
    document: Mapping[str, Any] = {"id": message_id, "events": events} if batches else events[0]
    content = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
    return CrmRequest(
        purpose=str(part[0].operation),
        method="POST",
        path=ENDPOINT,
        records=len(part),
        content=content,
        content_type="application/json",
        headers={ID_HEADER: message_id},
    )


def request_about_nobody(now: datetime, *, batches: bool) -> CrmRequest:
    """A request that says nothing of anybody: an event of type ``test``, or an empty list."""
    message_id = f"test.{int(now.timestamp())}"
    document: Mapping[str, Any] = {"id": message_id, "type": TEST, "data": {}}
    if batches:
        document = {"id": message_id, "events": []}
    return CrmRequest(
        purpose="describe",
        method="POST",
        path=ENDPOINT,
        records=0,
        content=json.dumps(document, separators=(",", ":")).encode(),
        content_type="application/json",
        headers={ID_HEADER: message_id},
    )


def _type(record: CrmRecord) -> str:
    match record.operation:
        case Operation.UPSERT:
            return UPSERTED if record.complete else CONSENT_WITHDRAWN
        case Operation.ARCHIVE:
            return REMOVED
        case Operation.ERASE:
            return ERASED


def _properties(record: CrmRecord) -> dict[str, Any]:
    """By name; ``null`` clears."""
    return {name: None if is_empty(value) else value for name, value in record.properties.items()}


def _batch_id(events: Sequence[Mapping[str, Any]]) -> str:
    """The same for the same events in the same order."""
    ids = "\n".join(event["id"] for event in events)
    return f"batch.{len(events)}.{blake2b(ids.encode(), digest_size=12).hexdigest()}"
