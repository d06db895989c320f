"""The HTTP door as an ASGI application: which route answers what, and what becomes of what a route raises.

What a lead may be is ``domain.posted_lead``'s, why one is refused ``refusals``', who sends ``door``'s and ``sources``',
and the way into the database ``writer``'s. Keep heavy imports out: the door starts in a second and fits into small
containers.
"""

from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import replace
from typing import Any

from leads_pipeline.capture.call import Answer, Call, Receive, Scope, Send, SenderGone, as_json, refusal, send_answer
from leads_pipeline.capture.contact_lookup import LOOKUP_PATH, look_up
from leads_pipeline.capture.counts import Counts
from leads_pipeline.capture.door import Door
from leads_pipeline.capture.lead_posts import post_batch, post_lead
from leads_pipeline.capture.metrics import metrics
from leads_pipeline.capture.outcome_posts import OUTCOMES_PATH, post_outcomes
from leads_pipeline.capture.pages import Pages
from leads_pipeline.capture.refusals import Code, Refused
from leads_pipeline.capture.source_posts import PREFIX, source_post
from leads_pipeline.capture.writer import QueueFull
from leads_pipeline.clock import Clock
from leads_pipeline.config import Settings
from leads_pipeline.errors import DatabaseError, DatabaseUnavailable
from leads_pipeline.telemetry import get_logger

Route = Callable[[Door, Call], Awaitable[Answer]]

_POSTS: dict[str, Route] = {"/v1/leads": post_lead, "/v1/leads/batch": post_batch, OUTCOMES_PATH: post_outcomes}
# No site's script may look contacts up or tell outcomes: its key would stand in the page.
_NOT_FOR_PAGES: frozenset[Route] = frozenset({look_up, post_outcomes})
_log = get_logger(__name__)


def create_app(
    settings: Settings,
    *,
    database_url: str,
    clock: Clock,
    counts: Counts | None = None,
    lookup_url: str | None = None,
) -> "CaptureApp":
    """The capture service as an ASGI application; it connects when its lifespan begins.

    ``lookup_url``: the login with which it reads contacts; without one its own takes the role for that.
    """
    return CaptureApp(Door(settings, database_url=database_url, clock=clock, counts=counts, lookup_url=lookup_url))


class CaptureApp:
    """Answers every request in the one shape. Nothing of an exception's text reaches a sender."""

    def __init__(self, door: Door) -> None:
        self.door = door
        self._pages = Pages(door)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._answer(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._live(receive, send)
        else:  # a websocket
            await send({"type": "websocket.close", "code": 1000})

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        call = Call(scope, receive, budget=self.door.budget, deadlines=self.door.deadlines)
        route, allowed = self._route(call)
        if route is None:
            await self._pages(scope, receive, self._counted(send, call), call)
            return
        try:
            if call.method == "OPTIONS" and route not in _NOT_FOR_PAGES:
                answer = self._preflight(call)
            elif allowed and call.method != allowed:
                answer = refusal(Refused(Code.METHOD_NOT_ALLOWED, headers=(("Allow", allowed),)), call)
            else:
                answer = await route(self.door, call)
        except SenderGone:
            return  # nobody is there to read it
        except Exception as error:  # noqa: BLE001 - a door: log the class and answer
            answer = refusal(Refused(self._code_of(error, call)), call)
        finally:
            call.release()
        self.door.counts.answered(call.path, answer.status, call.refused)
        from_site = b"origin" in call.headers and route not in _NOT_FOR_PAGES
        extra = self.door.origins.headers(call.headers) if from_site else ()
        await send_answer(answer, send, extra=extra, with_body=call.method != "HEAD")

    def _route(self, call: Call) -> tuple[Route | None, str]:
        route = _POSTS.get(call.path)
        if route is not None:
            return route, "POST"
        if call.path.startswith(PREFIX):
            return source_post, ""
        if call.path == LOOKUP_PATH and self.door.contacts is not None:
            return look_up, ""
        if call.path == "/metrics" and self.door.settings.capture.metrics:
            return metrics, "GET"
        return (_readyz, "GET") if call.path == "/readyz" else (None, "")

    def _counted(self, send: Send, call: Call) -> Send:
        async def count_and_send(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                self.door.counts.answered(call.path, message["status"], call.refused)
            await send(message)

        return count_and_send

    def _preflight(self, call: Call) -> Answer:
        allowed = self.door.origins.preflight(call.headers)
        if not allowed:
            return refusal(Refused(Code.ORIGIN_NOT_ALLOWED), call)
        return Answer(204, b"", allowed[-3:])  # who may is said on every answer

    def _code_of(self, error: Exception, call: Call) -> Code:
        if isinstance(error, QueueFull):
            return Code.QUEUE_FULL
        if isinstance(error, DatabaseUnavailable):
            return Code.DATABASE_UNAVAILABLE
        _log.error(
            "request failed",
            request_id=call.request_id,
            error_class=type(error).__name__,
            database=isinstance(error, DatabaseError),
        )
        return Code.INTERNAL_ERROR

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        self.door.start()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self.door.close()
        await send({"type": "lifespan.shutdown.complete"})


async def _readyz(door: Door, call: Call) -> Answer:
    """Whether leads can be stored now, and why not. A full buffer is no reason: the next instance has the same one."""
    try:
        await door.check()
    except DatabaseUnavailable as error:
        refused = Refused(Code.DATABASE_UNAVAILABLE)
        body = as_json(503, {"error": refused.error(call.request_id), "safe_mode": error.why}).body
        return replace(refusal(refused, call), body=body)
    queue = {"queued_leads": door.commits.queued, "max_queued_leads": door.settings.capture.max_queued_leads}
    level = door.admission.level
    return as_json(200, {"status": "ready", **queue, "buffer_level": level, "refused_lanes": sorted(level.refused)})
