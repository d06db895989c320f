"""``POST /v1/leads`` and ``POST /v1/leads/batch``: leads in our own form, under an API key."""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from leads_pipeline.buffer.port import EncodedLead, Posted, PostResult
from leads_pipeline.capture.bodies import JSON_TYPES, NDJSON_TYPES, media_type, split_array, split_ndjson
from leads_pipeline.capture.call import Answer, Call, as_json, refusal
from leads_pipeline.capture.door import Door, Sender
from leads_pipeline.capture.refusals import Code, Refused, refused_for
from leads_pipeline.domain.posted_lead import PostedLead, Unreadable, decode_lead
from leads_pipeline.sources.port import Quarantine

# Reading a lead takes some 30 µs: after so many the others, who post one lead, get their turn.
LEADS_AT_A_STRETCH = 200

RESULT_REFUSALS = {PostResult.KEY_REUSED: Code.KEY_REUSED, PostResult.UNSTORABLE: Code.UNSTORABLE}


async def post_lead(door: Door, call: Call) -> Answer:
    """One lead. 202 when it is durable, 200 with the first lead's id when the same post came before."""
    sender = await door.key_holder(call)
    if isinstance(sender, Refused):
        return refusal(sender, call)
    kind = media_type(call.headers, JSON_TYPES)
    if isinstance(kind, Refused):
        return refusal(kind, call)
    limits = door.settings.capture
    body = await call.body(limit=limits.max_body_bytes)
    if isinstance(body, Refused):
        return refusal(body, call)
    lead = decode_lead(body)
    if isinstance(lead, Unreadable):
        return refusal(refused_for(lead), call)
    context = _robot_context(sender, lead)
    verified = None
    if door.in_request is not None and sender.way.settings.verify_in_request is not None:
        # A robot is told what everybody is: the answer must not give away that it was found out.
        verified = await door.in_request.verify(sender.way, lead.payload)
        if verified is not None:
            context = {**(context or sender.context), **verified.context}
    encoded = door.encode(sender, lead, context=context)
    if isinstance(encoded, Refused):
        return refusal(encoded, call)
    posted = await door.commits.submit_one(encoded)
    return stored(posted, call, verification=None if verified is None else verified.answer)


def _robot_context(sender: Sender, lead: PostedLead) -> dict[str, Any] | None:
    """For a form that leads.js posts here: whether a robot filled the field that people do not see."""
    if not sender.way.kind.answers_browsers:
        return None
    trap = lead.payload.get(sender.way.settings.honeypot)
    is_filled = bool(trap.strip()) if isinstance(trap, str) else trap is not None
    return {**sender.context, "quarantine": Quarantine.ROBOT} if is_filled else None


def stored(posted: Posted, call: Call, *, verification: Mapping[str, Any] | None = None) -> Answer:
    """What the sender of one lead is answered. ``verification``: what is known of its address, where a source asks."""
    code = RESULT_REFUSALS.get(posted.result)
    if code is not None:
        return refusal(Refused(code), call)
    status = 202 if posted.result is PostResult.ACCEPTED else 200
    content: dict[str, Any] = {"lead_id": str(posted.lead_id), "status": posted.result}
    if verification is not None:
        content["verification"] = verification
    return as_json(status, content)


async def post_batch(door: Door, call: Call) -> Answer:
    """Many leads: 202 with one result each."""
    sender = await door.key_holder(call)
    if isinstance(sender, Refused):
        return refusal(sender, call)
    kind = media_type(call.headers, JSON_TYPES | NDJSON_TYPES)
    if isinstance(kind, Refused):
        return refusal(kind, call)
    limits = door.settings.capture
    body = await call.body(limit=limits.max_batch_body_bytes)
    if isinstance(body, Refused):
        return refusal(body, call)
    split = split_ndjson if kind in NDJSON_TYPES else split_array
    items = split(body, most=limits.max_batch_leads)
    if isinstance(items, Refused):
        return refusal(items, call)
    return as_json(202, await _store_batch(door, sender, items, request_id=call.request_id))


async def _store_batch(door: Door, sender: Sender, items: Sequence[bytes], *, request_id: str) -> dict[str, Any]:
    results: list[dict[str, Any]] = [{} for _item in items]
    encoded: list[EncodedLead] = []
    places: list[int] = []
    for index, item in enumerate(items):
        if index % LEADS_AT_A_STRETCH == 0:
            await asyncio.sleep(0)
        lead = _read_item(door, sender, item, index=index)
        if isinstance(lead, Refused):
            results[index] = _refused_item(index, lead, request_id)
        else:
            encoded.append(lead)
            places.append(index)
    for index, posted in zip(places, await door.commits.submit(encoded), strict=True):
        results[index] = _stored_item(index, posted, request_id)
    tally = Counter(item["status"] for item in results)
    return {status: tally[status] for status in ("accepted", "duplicate", "refused")} | {"results": results}


def _read_item(door: Door, sender: Sender, item: bytes, *, index: int) -> EncodedLead | Refused:
    # A lead in a batch is held to the same size as one that comes alone.
    if len(item) > door.settings.capture.max_body_bytes:
        return Refused(Code.BODY_TOO_LARGE)
    lead = decode_lead(item)
    if isinstance(lead, Unreadable):
        return refused_for(lead)
    return door.encode(sender, lead, index=index)


def _stored_item(index: int, posted: Posted, request_id: str) -> dict[str, Any]:
    code = RESULT_REFUSALS.get(posted.result)
    if code is not None:
        return _refused_item(index, Refused(code), request_id)
    return {"index": index, "status": posted.result.value, "lead_id": str(posted.lead_id)}


def _refused_item(index: int, refused: Refused, request_id: str) -> dict[str, Any]:
    error = {"status": refused.refusal.status, **refused.error(request_id)}
    return {"index": index, "status": "refused", "error": error}
