"""One HTTP request and its answer, directly on ASGI.

The door's answers are few and small, and its requests many: a request object that parses cookies and forms would cost
more than the lead. Pages that are rarely asked for stand on Starlette, in ``pages``.
"""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Coroutine, Mapping, MutableMapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar
from urllib.parse import parse_qsl

import msgspec

from leads_pipeline.capture.cors import SECURITY_HEADERS
from leads_pipeline.capture.refusals import Code, Refused

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Headers = tuple[tuple[bytes, bytes], ...]

T = TypeVar("T")

_JSON = (b"content-type", b"application/json")
_encode = msgspec.json.Encoder().encode


class SenderGone(Exception):
    """The sender closed the connection before the request was whole: nobody is there to be answered."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a request is answered. ``headers`` come after those that every answer carries."""

    status: int
    body: bytes = b""
    headers: Headers = (_JSON,)


class Budget:
    """Bytes of bodies under way in this process, so that no number of large requests can exhaust its memory."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.used = 0

    def take(self, size: int) -> bool:
        """Count these bytes, unless they would not fit beside others."""
        if self.used and self.used + size > self._limit:
            return False
        self.used += size
        return True

    def give_back(self, size: int) -> None:
        """The request that took them is answered."""
        self.used -= size


class Deadlines:
    """Cuts off bodies that do not come in time: one look round for all of them, because a timer for each request cost
    as much as an eighth of a lead.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._reading: dict[asyncio.Task[Any], float] = {}  # in the order of their ends
        self._cut: set[asyncio.Task[Any]] = set()
        self._watch: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to look round, in the running loop."""
        self._watch = asyncio.create_task(self._look_round(), name="deadlines of bodies")

    def stop(self) -> None:
        """Bodies under way have no deadline any more."""
        if self._watch is not None:
            self._watch.cancel()

    async def keep(self, reading: Coroutine[Any, Any, T]) -> T:
        """Await what reads a body.

        Raises:
            TimeoutError: it took too long.
        """
        task = asyncio.current_task()
        assert task is not None
        self._reading[task] = asyncio.get_running_loop().time() + self._seconds
        try:
            return await reading
        except asyncio.CancelledError:
            if task not in self._cut:
                raise
            task.uncancel()
            raise TimeoutError from None
        finally:
            self._reading.pop(task, None)
            self._cut.discard(task)

    async def _look_round(self) -> None:
        while True:
            await asyncio.sleep(min(self._seconds / 10, 1.0))
            now = asyncio.get_running_loop().time()
            for task in [task for task, ends_at in self._reading.items() if ends_at <= now]:
                del self._reading[task]
                self._cut.add(task)
                task.cancel()


class Call:
    """One request. ``held`` are the bytes that it took from the budget."""

    __slots__ = ("__dict__", "_budget", "_deadlines", "_receive", "headers", "held", "refused", "scope")

    def __init__(self, scope: Scope, receive: Receive, *, budget: Budget, deadlines: Deadlines) -> None:
        self.scope = scope
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        self._receive = receive
        self._budget = budget
        self._deadlines = deadlines
        self.held = 0
        self.refused: Code | None = None  # what it was refused with; for the counts

    @property
    def method(self) -> str:
        method: str = self.scope["method"]
        return method

    @property
    def path(self) -> str:
        path: str = self.scope["path"]
        return path

    @cached_property
    def request_id(self) -> str:
        """Names the request in an answer and in the log."""
        return secrets.token_hex(8)

    @cached_property
    def query(self) -> Mapping[str, str]:
        raw = self.scope["query_string"]
        return dict(parse_qsl(raw.decode("latin-1"), keep_blank_values=True)) if raw else {}

    @property
    def client_ip(self) -> str | None:
        """The sender's address; behind a proxy of ours what it forwards (uvicorn reads that)."""
        client = self.scope.get("client")
        return client[0] if client else None

    @property
    def key_in_headers(self) -> str:
        """The API key that the request carries as ``Authorization: Bearer …`` or ``X-API-Key``; empty if none."""
        authorization = self.headers.get(b"authorization")
        if authorization is not None:
            scheme, _, credentials = authorization.decode("latin-1").partition(" ")
            if scheme.lower() == "bearer":
                return credentials.strip()
        return (self.header(b"x-api-key") or "").strip()

    def header(self, name: bytes) -> str | None:
        value = self.headers.get(name)
        return None if value is None else value.decode("latin-1")

    async def body(self, *, limit: int) -> bytes | Refused:
        """The body. Too large, too slow, or too much beside others: reading stops there, whatever is announced.

        Raises:
            SenderGone: the connection was closed.
        """
        announced = self.headers.get(b"content-length", b"")
        if announced.isdigit() and int(announced) > limit:
            return Refused(Code.BODY_TOO_LARGE)
        try:
            return await self._deadlines.keep(self._read(limit))
        except TimeoutError:
            return Refused(Code.BODY_TOO_SLOW, headers=(("Connection", "close"),))

    async def _read(self, limit: int) -> bytes | Refused:
        parts: list[bytes] = []
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise SenderGone
            part: bytes = message.get("body", b"")
            if part:
                if self.held + len(part) > limit:
                    return Refused(Code.BODY_TOO_LARGE)
                if not self._budget.take(len(part)):
                    return Refused(Code.QUEUE_FULL)
                self.held += len(part)
                parts.append(part)
            if not message.get("more_body", False):
                return parts[0] if len(parts) == 1 else b"".join(parts)

    def release(self) -> None:
        """Give the body's bytes back."""
        if self.held:
            self._budget.give_back(self.held)
            self.held = 0


def as_json(status: int, content: Any) -> Answer:
    """An answer with a JSON body."""
    return Answer(status, _encode(content))


def refusal(refused: Refused, call: Call) -> Answer:
    """The one error shape."""
    call.refused = refused.code
    headers: list[tuple[bytes, bytes]] = [_JSON, (b"x-request-id", call.request_id.encode())]
    headers += [(name.encode("latin-1"), value.encode("latin-1")) for name, value in refused.headers]
    wait = refused.retry_after_seconds
    if wait is not None:
        headers.append((b"retry-after", str(wait).encode()))
    return Answer(refused.refusal.status, _encode({"error": refused.error(call.request_id)}), tuple(headers))


async def send_answer(answer: Answer, send: Send, *, extra: Headers = (), with_body: bool = True) -> None:
    """Send it. An answer to HEAD has the length of its body and no body."""
    length = (b"content-length", str(len(answer.body)).encode())
    headers = [*answer.headers, length, *SECURITY_HEADERS, *extra]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body if with_body else b""})
