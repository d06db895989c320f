"""The way of every request to a vendor that is played.

What a request changes, it changes under the account's lock and in one step of the event loop; only latency and hanging
are awaited, outside of it.
"""

from collections.abc import Awaitable, Callable
from threading import RLock
from typing import Protocol

from starlette.requests import Request
from starlette.responses import Response

from leads_pipeline.sandbox.answers import Answer
from leads_pipeline.sandbox.faults import UNANSWERED, FaultInjector, FaultRule
from leads_pipeline.sandbox.network import misbehave
from leads_pipeline.sandbox.observations import Observations

MAX_BODY_BYTES = 16 * 1024 * 1024


class Played(Protocol):
    """What every played account has. Whoever reads or changes anything in it holds ``lock``."""

    lock: RLock

    @property
    def faults(self) -> FaultInjector: ...

    @property
    def observations(self) -> Observations: ...

    def reset(self) -> None:
        """Begin anew."""
        ...


# The request and its body (``None``: too large) to the answer, and the fault that befell the request.
Passage = Callable[[Request, bytes | None], tuple[FaultRule | None, Answer]]


def guarded(played: Played, passage: Passage) -> Callable[[Request], Awaitable[Response]]:
    """What the web server calls for a request that ``passage`` answers."""

    async def passed(request: Request) -> Response:
        body = await _body(request)
        with played.lock:
            seen = played.observations
            seen.begun()
            try:
                rule, answer = passage(request, body)
            except BaseException:
                seen.ended()
                raise
            seen.answered(None if rule is not None and rule.kind in UNANSWERED else answer.status)
        try:
            if rule is not None:
                await misbehave(rule, request)
        finally:
            with played.lock:
                seen.ended()
        return answer.response()

    return passed


async def _body(request: Request) -> bytes | None:
    """The body, or ``None`` if it is larger than any server would take; the rest of it is read and dropped."""
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size <= MAX_BODY_BYTES:
            parts.append(part)
    return b"".join(parts) if size <= MAX_BODY_BYTES else None
