"""``/v1/in/{tenant}/{source}``: each source's own address, for senders that come as they are: forms and webhooks.

The order is always the same: who sends is proved on the bytes as they came; then they are read; what cannot be read is
kept raw and set aside, because most of these senders do not send again.
"""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from leads_pipeline.buffer.port import EncodedLead, PostResult
from leads_pipeline.capture.call import Answer, Call, as_json, refusal
from leads_pipeline.capture.door import Door, Sender, WayIn
from leads_pipeline.capture.lead_posts import RESULT_REFUSALS, stored
from leads_pipeline.capture.refusals import Code, Refused
from leads_pipeline.domain.posted_lead import PostedLead, storage_fault
from leads_pipeline.sources.port import (
    Delivery,
    Doubt,
    Fault,
    Post,
    Quarantine,
    Secrets,
    SourceOptions,
    Unreadable,
    kept_raw,
)

PREFIX = "/v1/in/"

_REFUSED_FAULTS = {Fault.MALFORMED_JSON: Code.MALFORMED_JSON, Fault.WRONG_SHAPE: Code.WRONG_SHAPE}
_PLAIN = (b"content-type", b"text/plain; charset=utf-8")
_THANKS = b"<!doctype html><meta charset=utf-8><title>Thank you</title><p>Thank you. We have received your message."


async def source_post(door: Door, call: Call) -> Answer:
    """What a vendor or a form sends to its source's own address."""
    tenant, _, source = call.path.removeprefix(PREFIX).partition("/")
    way = door.ways.get((tenant, source))
    if way is None:
        return refusal(Refused(Code.NOT_FOUND), call)
    if way.secrets is None:
        return refusal(Refused(Code.SOURCE_NOT_READY), call)
    if call.method in ("GET", "HEAD"):
        return _challenged(door, call, way, way.secrets)
    if call.method != "POST":
        return refusal(Refused(Code.METHOD_NOT_ALLOWED, headers=(("Allow", "POST"),)), call)
    return await _take(door, call, way, way.secrets)


def _challenged(door: Door, call: Call, way: WayIn, secrets: Secrets) -> Answer:
    answer = way.kind.challenge(_delivery(door, call, way, b""), secrets)
    if isinstance(answer, Doubt):
        return refusal(Refused(Code.BAD_SIGNATURE), call)
    if answer is None:
        return refusal(Refused(Code.METHOD_NOT_ALLOWED, headers=(("Allow", "POST"),)), call)
    return Answer(200, answer.encode(), (_PLAIN,))


async def _take(door: Door, call: Call, way: WayIn, secrets: Secrets) -> Answer:
    # Whoever must prove itself by the body is not counted against the source's rate before it has: a flood of forged
    # requests would else shut the vendor out.
    sender = None if way.kind.signed else await door.key_holder(call, named=way)
    if isinstance(sender, Refused):
        return refusal(sender, call)
    encoding = call.header(b"content-encoding")
    if not _takes(way, call) or (encoding is not None and encoding.lower() != "identity"):
        return refusal(Refused(Code.UNSUPPORTED_MEDIA_TYPE), call)
    limits = door.settings.capture
    body = await call.body(limit=limits.max_body_bytes)
    if isinstance(body, Refused):
        return refusal(body, call)
    delivery = _delivery(door, call, way, body)
    if sender is None:
        doubt = way.kind.verify(delivery, secrets)
        if doubt is not None:
            door.doubts.note(way.tenant, way.source, doubt)
            return refusal(Refused(Code.BAD_SIGNATURE), call)
        sender = door.admit(call, way, sender_id=f"{way.tenant}/{way.source}")
        if isinstance(sender, Refused):
            return refusal(sender, call)
    posts = way.kind.read(delivery, SourceOptions(honeypot=way.settings.honeypot))
    if isinstance(posts, Unreadable):
        return refusal(Refused(_REFUSED_FAULTS[posts.fault]), call)
    return await _store(door, call, sender, posts)


async def _store(door: Door, call: Call, sender: Sender, posts: list[Post]) -> Answer:
    encoded: list[EncodedLead] = []
    alone = len(posts) == 1
    as_page = sender.way.kind.answers_browsers and "text/html" in (call.header(b"accept") or "")
    verified = None
    # A robot is told what everybody is: the answer must not give away that it was found out.
    readable = alone and posts[0].quarantine in (None, Quarantine.ROBOT)
    if readable and not as_page and door.in_request is not None:
        verified = await door.in_request.verify(sender.way, posts[0].payload)
    found = {} if verified is None else verified.context
    for place, post in enumerate(posts):
        # Under a sender's own key each place of a request of several is its own post.
        lead = _encoded(door, sender, post, index=None if alone else place, found=found)
        if isinstance(lead, Refused):
            return refusal(lead, call)  # nothing was stored yet: the sender keeps the whole request
        encoded.append(lead)
    results = await door.commits.submit(encoded)
    for posted in results:
        if posted.result in RESULT_REFUSALS:  # the others are stored: sent again, they are known
            return refusal(Refused(RESULT_REFUSALS[posted.result]), call)
    if sender.way.kind.signed or not alone:
        tally = Counter(posted.result for posted in results)
        return as_json(200, {str(result): tally[result] for result in (PostResult.ACCEPTED, PostResult.DUPLICATE)})
    if as_page:
        return _page_after(posts[0], sender.way)
    return stored(results[0], call, verification=None if verified is None else verified.answer)


def _encoded(
    door: Door, sender: Sender, post: Post, *, index: int | None, found: Mapping[str, Any]
) -> EncodedLead | Refused:
    said: dict[str, Any] = post.payload if not post.consent else {**post.payload, "consent": list(post.consent)}
    if storage_fault(said) is not None:
        raw = kept_raw(json.dumps(said).encode())  # escaped: what PostgreSQL could not store, as ASCII
        # Still the same event: sent again, it is known.
        post = replace(raw, event_id=post.event_id, context=post.context, redirect=post.redirect)
    context: dict[str, Any] = {**sender.context, **post.context, **found}
    if post.quarantine is not None:
        context["quarantine"] = post.quarantine
    if post.reference is not None:
        context["reference"] = post.reference
    lead = PostedLead(post.payload, list(post.consent))
    return door.encode(sender, lead, index=index, event_id=post.event_id, context=context)


def _page_after(post: Post, way: WayIn) -> Answer:
    """Where a browser goes after it posted a form: only to pages of leads.yaml, or anybody could send it away."""
    allowed = way.settings.redirects
    if not allowed:
        return Answer(200, _THANKS, ((b"content-type", b"text/html; charset=utf-8"),))
    page = post.redirect if post.redirect in allowed else allowed[0]
    return Answer(303, b"", ((b"location", page.encode("ascii", "ignore")),))


def _takes(way: WayIn, call: Call) -> bool:
    kind, _, _parameters = (call.header(b"content-type") or "").partition(";")
    return kind.strip().lower() in way.kind.media_types


def _delivery(door: Door, call: Call, way: WayIn, body: bytes) -> Delivery:
    raw_query = call.scope["query_string"].decode("latin-1")
    address = (way.settings.public_url or call.path).partition("?")[0]  # a key in it comes with the query
    return Delivery(
        method=call.method,
        url=f"{address}?{raw_query}" if raw_query else address,
        headers={name.decode("latin-1"): value.decode("latin-1") for name, value in call.headers.items()},
        query=call.query,
        body=body,
        received_at=door.clock.now(),
    )
