"""The HTTP door: routes, authentication, answers. What a lead may be is ``domain.posted_lead``'s, why one is refused
``refusals``', and the way into the database ``writer``'s. Keep this module free of heavy imports: the door starts in a
second and fits into small containers.
"""

import asyncio
import hashlib
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from leads_pipeline.buffer.port import EncodedLead, NewLead, Posted, PostResult, content_key, named_key
from leads_pipeline.buffer.postgresql import AsyncPostgresBuffer
from leads_pipeline.buffer.reconnecting import ReconnectingConnection
from leads_pipeline.capture.bodies import JSON_TYPES, NDJSON_TYPES, media_type, read_body, split_array, split_ndjson
from leads_pipeline.capture.key_ring import KeyHolder, KeyRing
from leads_pipeline.capture.refusals import Code, Refused, refused_for
from leads_pipeline.capture.writer import GroupCommit, QueueFull
from leads_pipeline.clock import Clock
from leads_pipeline.config import Settings
from leads_pipeline.domain.ids import uuid7
from leads_pipeline.domain.posted_lead import PostedLead, Unreadable, decode_lead
from leads_pipeline.domain.stage import Lane
from leads_pipeline.errors import DatabaseError, DatabaseUnavailable
from leads_pipeline.telemetry import get_logger

MAX_USER_AGENT = 500
# Reading a lead takes some 30 µs: after so many the others, who post one lead, get their turn.
LEADS_AT_A_STRETCH = 200

_RESULT_REFUSALS = {PostResult.KEY_REUSED: Code.KEY_REUSED, PostResult.UNSTORABLE: Code.UNSTORABLE}
_STATUS_OF_NOT_ROUTED = {404: Code.NOT_FOUND, 405: Code.METHOD_NOT_ALLOWED}


@dataclass(frozen=True, slots=True)
class _Sender:
    """Who posts, and what every lead of the request shares."""

    holder: KeyHolder
    lane: Lane
    idempotency_key: str | None
    context: dict[str, Any]


class Door:
    """What the routes share. Keys are read over a connection of their own, so that no commit keeps them waiting."""

    def __init__(self, settings: Settings, *, database_url: str, clock: Clock) -> None:
        self.settings = settings
        self.clock = clock
        self._reader = ReconnectingConnection(database_url, application_name="leads_capture keys")
        self.keys = KeyRing(self._reader, clock=clock)
        self.commits = GroupCommit(
            AsyncPostgresBuffer(database_url, application_name="leads_capture writer"),
            clock=clock,
            max_queued=settings.capture.max_queued_leads,
        )

    async def check_database(self) -> None:
        """Raises ``DatabaseUnavailable`` unless the tables can be read."""
        await self._reader.fetch("select from ingest_keys limit 1")

    async def close(self) -> None:
        """Finish what was accepted and close the connections."""
        await self.commits.close()
        await self._reader.close()


def create_app(settings: Settings, *, database_url: str, clock: Clock) -> Starlette:
    """The capture service as an ASGI application; it connects when its lifespan begins."""
    door = Door(settings, database_url=database_url, clock=clock)

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        door.commits.start()
        try:
            yield
        finally:
            await door.close()

    async def post_lead(request: Request) -> Response:
        return await _post_lead(door, request)

    async def post_batch(request: Request) -> Response:
        return await _post_batch(door, request)

    async def readyz(request: Request) -> Response:
        return await _readyz(door, request)

    return Starlette(
        routes=[
            Route("/v1/leads", _answered(post_lead), methods=["POST"]),
            Route("/v1/leads/batch", _answered(post_batch), methods=["POST"]),
            Route("/healthz", _healthz, methods=["GET"]),
            Route("/readyz", _answered(readyz), methods=["GET"]),
        ],
        exception_handlers={HTTPException: _not_routed},
        lifespan=lifespan,
    )


# --- routes ----------------------------------------------------------------------------------------------------------


async def _healthz(_request: Request) -> Response:
    return _json(200, {"status": "alive"})


async def _readyz(door: Door, _request: Request) -> Response:
    await door.check_database()
    queue = {"queued_leads": door.commits.queued, "max_queued_leads": door.settings.capture.max_queued_leads}
    if not door.commits.has_room(1):
        raise QueueFull
    return _json(200, {"status": "ready", **queue})


async def _post_lead(door: Door, request: Request) -> Response:
    request_id = _request_id(request)
    sender = await _sender(door, request)
    if isinstance(sender, Refused):
        return _refuse(sender, request_id)
    kind = media_type(request, JSON_TYPES)
    if isinstance(kind, Refused):
        return _refuse(kind, request_id)
    if not door.commits.has_room(1):
        return _refuse(Refused(Code.QUEUE_FULL), request_id)
    body = await read_body(request, limit=door.settings.capture.max_body_bytes)
    if isinstance(body, Refused):
        return _refuse(body, request_id)
    lead = decode_lead(body)
    if isinstance(lead, Unreadable):
        return _refuse(refused_for(lead), request_id)
    [posted] = await door.commits.submit([_encode(door, sender, lead, index=None)])
    code = _RESULT_REFUSALS.get(posted.result)
    if code is not None:
        return _refuse(Refused(code), request_id)
    status = 202 if posted.result is PostResult.ACCEPTED else 200
    return _json(status, {"lead_id": str(posted.lead_id), "status": posted.result})


async def _post_batch(door: Door, request: Request) -> Response:
    request_id = _request_id(request)
    sender = await _sender(door, request)
    if isinstance(sender, Refused):
        return _refuse(sender, request_id)
    kind = media_type(request, JSON_TYPES | NDJSON_TYPES)
    if isinstance(kind, Refused):
        return _refuse(kind, request_id)
    if not door.commits.has_room(1):
        return _refuse(Refused(Code.QUEUE_FULL), request_id)
    limits = door.settings.capture
    body = await read_body(request, limit=limits.max_batch_body_bytes)
    if isinstance(body, Refused):
        return _refuse(body, request_id)
    items = split_ndjson(body) if kind in NDJSON_TYPES else split_array(body)
    if isinstance(items, Refused):
        return _refuse(items, request_id)
    if len(items) > limits.max_batch_leads:
        return _refuse(Refused(Code.TOO_MANY_LEADS), request_id)
    return _json(202, await _store_batch(door, sender, items, request_id=request_id))


async def _store_batch(door: Door, sender: _Sender, items: Sequence[bytes], *, request_id: str) -> dict[str, Any]:
    results: list[dict[str, Any]] = [{} for _item in items]
    encoded: list[EncodedLead] = []
    places: list[int] = []
    for index, item in enumerate(items):
        if index % LEADS_AT_A_STRETCH == 0:
            await asyncio.sleep(0)
        # A lead in a batch is held to the same size as one that comes alone.
        too_large = len(item) > door.settings.capture.max_body_bytes
        lead = Refused(Code.BODY_TOO_LARGE) if too_large else decode_lead(item)
        if isinstance(lead, Unreadable):
            lead = refused_for(lead)
        if isinstance(lead, Refused):
            results[index] = _refused_item(index, lead, request_id)
        else:
            encoded.append(_encode(door, sender, lead, index=index))
            places.append(index)
    for index, posted in zip(places, await door.commits.submit(encoded), strict=True):
        results[index] = _stored_item(index, posted, request_id)
    tally = Counter(item["status"] for item in results)
    return {status: tally[status] for status in ("accepted", "duplicate", "refused")} | {"results": results}


def _stored_item(index: int, posted: Posted, request_id: str) -> dict[str, Any]:
    code = _RESULT_REFUSALS.get(posted.result)
    if code is not None:
        return _refused_item(index, Refused(code), request_id)
    return {"index": index, "status": posted.result.value, "lead_id": str(posted.lead_id)}


def _refused_item(index: int, refused: Refused, request_id: str) -> dict[str, Any]:
    error = {"status": refused.refusal.status, **refused.error(request_id)}
    return {"index": index, "status": "refused", "error": error}


# --- who posts -------------------------------------------------------------------------------------------------------


async def _sender(door: Door, request: Request) -> _Sender | Refused:
    """Everything about a request that its headers decide, before a byte of its body is read."""
    presented = _presented_key(request)
    holder = await door.keys.holder_of(presented) if presented else None
    if holder is None:
        return Refused(Code.BAD_KEY, headers=(("WWW-Authenticate", 'Bearer realm="leads"'),))
    named = request.query_params.get("source") or request.headers.get("x-leads-source") or holder.source
    source = door.settings.source(holder.tenant, named)
    if source is None:
        return Refused(Code.UNKNOWN_SOURCE)
    if named != holder.source:
        return Refused(Code.SOURCE_MISMATCH)
    key = request.headers.get("idempotency-key")
    if key is not None and not (1 <= len(key) <= 255 and key.isascii() and key.isprintable()):
        return Refused(Code.INVALID_IDEMPOTENCY_KEY)
    return _Sender(holder, Lane(source.lane), key, _context(request, key))


def _presented_key(request: Request) -> str:
    scheme, _, credentials = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return credentials.strip()
    return request.headers.get("x-api-key", "").strip()


def _context(request: Request, key: str | None) -> dict[str, Any]:
    context: dict[str, Any] = {"content_type": request.headers.get("content-type", "")[:100]}
    if request.client is not None:
        context["ip"] = request.client.host
    agent = request.headers.get("user-agent")
    if agent:
        context["user_agent"] = agent[:MAX_USER_AGENT]
    if key is not None:
        context["idempotency_key_sha256"] = hashlib.sha256(key.encode()).hexdigest()
    return context


def _encode(door: Door, sender: _Sender, lead: PostedLead, *, index: int | None) -> EncodedLead:
    now = door.clock.now()
    key = sender.idempotency_key
    key_hex, body_hex = content_key(lead) if key is None else named_key(key, lead, index=index)
    return NewLead(
        lead_id=uuid7(now),
        tenant=sender.holder.tenant,
        source=sender.holder.source,
        lane=sender.lane,
        received_at=now,
        key_hex=key_hex,
        body_hex=body_hex,
        payload=lead.payload,
        consent=lead.consent,
        context=sender.context,
    ).encoded()


# --- answers ---------------------------------------------------------------------------------------------------------


def _answered(route: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    """Turn what a route raises into the one error shape. Nothing of the exception's text reaches the sender."""

    async def answer(request: Request) -> Response:
        try:
            return await route(request)
        except QueueFull:
            code = Code.QUEUE_FULL
        except DatabaseUnavailable:
            code = Code.DATABASE_UNAVAILABLE
        except ClientDisconnect:
            return Response(status_code=400)  # nobody is there to read it
        except Exception as error:  # noqa: BLE001 - a door: log the class and answer
            code = Code.INTERNAL_ERROR
            get_logger(__name__).error(
                "request failed",
                request_id=_request_id(request),
                path=request.url.path,
                error_class=type(error).__name__,
                database=isinstance(error, DatabaseError),
            )
        return _refuse(Refused(code), _request_id(request))

    return answer


async def _not_routed(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    headers = (getattr(error, "headers", None) or {}).items()
    return _refuse(
        Refused(_STATUS_OF_NOT_ROUTED.get(status, Code.INTERNAL_ERROR), headers=tuple(headers)), _request_id(request)
    )


def _request_id(request: Request) -> str:
    if not hasattr(request.state, "request_id"):
        request.state.request_id = secrets.token_hex(8)
    request_id: str = request.state.request_id
    return request_id


def _refuse(refused: Refused, request_id: str) -> Response:
    headers = {"X-Request-Id": request_id, **dict(refused.headers)}
    if refused.refusal.retry_after_seconds is not None:
        headers["Retry-After"] = str(refused.refusal.retry_after_seconds)
    return _json(refused.refusal.status, {"error": refused.error(request_id)}, headers=headers)


def _json(status: int, content: dict[str, Any], *, headers: dict[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(content), status_code=status, headers=headers, media_type="application/json")
