"""uvicorn's HTTP protocol with two limits that it lacks, on the time that headers take and an answer for too many, and
with the bodies of requests that would rather speak another protocol.

A sender that opens connections and dribbles headers would hold them for ever: uvicorn's only timer is for idle ones.
There is no timer here either, as one for each request costs as much as an eighth of a lead: the server looks round once
a second (``close_slow``). Bodies have their deadline in ``call``.
"""

import asyncio
import logging
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from leads_pipeline.capture.call import Call, Receive, Scope, Send, refusal, send_answer
from leads_pipeline.capture.counts import Closed, Counts
from leads_pipeline.capture.refusals import Code, Refused
from leads_pipeline.telemetry import get_logger

if TYPE_CHECKING:
    from uvicorn.config import Config
    from uvicorn.server import ServerState

    from leads_pipeline.capture.door import Door


# The loggers whose words may be a lead's: an exception's text quotes what it choked on.
TAMED = ("uvicorn", "asyncio", "uvicorn.error")
# How long a service that ends waits for the first request of a connection that it has taken.
FIRST_REQUEST_SECONDS = 0.5


class CaptureProtocol(HttpToolsProtocol):
    """One connection. ``headers_since`` is since when it owes a request's headers; ``None``: it owes none."""

    def __init__(
        self,
        config: "Config",
        server_state: "ServerState",
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config=config, server_state=server_state, app_state=app_state, _loop=_loop)
        self.access_log = False  # whoever listens: an address of a look-up's may stand in a URL
        self._door: Door = config.app.door  # type: ignore[union-attr]
        self.headers_since: float | None = None
        self._is_last_request = False
        self._fed = b""  # what the parser was given last
        self._again: bytes | None = None  # a request that asked for another protocol, and what came behind it

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.headers_since = self.loop.time()
        if len(self.connections) > self._door.settings.capture.max_connections:
            self._door.counts.closed(Closed.TOO_MANY)
            self.app = self._refuse

    def data_received(self, data: bytes) -> None:
        waiting: bytes | None = data
        while waiting is not None:
            self._fed, self._again = waiting, None
            super().data_received(waiting)
            waiting = self._again
        self._fed = b""
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            self.headers_since = None
            if self._is_last_request:
                cycle.keep_alive = False
        elif self.headers_since is None:
            # A new request has begun, or something came that belongs to none: uvicorn has cancelled its own timer.
            self.headers_since = self.loop.time()

    def on_headers_complete(self) -> None:
        if not self._asks_for_another_protocol():
            super().on_headers_complete()

    def on_message_complete(self) -> None:
        if not self._asks_for_another_protocol():
            super().on_message_complete()

    def _asks_for_another_protocol(self) -> bool:
        """As Java's client and ``curl --http2`` do with every request, and mean: if you can."""
        return self.parser.should_upgrade() and self.parser.get_method() != b"CONNECT"

    def _unsupported_upgrade_warning(self) -> None:
        """Read such a request once more without that wish: the parser takes its body for the other protocol's."""
        error = sys.exception()
        if not self._asks_for_another_protocol() or not isinstance(error, httptools.HttpParserUpgrade):
            return
        version = self.parser.get_http_version().encode()
        lines = [self.parser.get_method() + b" " + self.url + b" HTTP/" + version]
        lines += [name + b": " + value for name, value in self.headers if name != b"upgrade"]
        self._again = b"\r\n".join(lines) + b"\r\n\r\n" + self._fed[error.args[0] :]
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)

    def shutdown(self) -> None:
        """The service ends. A connection that was just opened has its request on the way: it is answered first."""
        if self._was_asked():
            super().shutdown()
            return
        self._is_last_request = True
        self.loop.call_later(FIRST_REQUEST_SECONDS, self._close_unless_asked)

    def _close_unless_asked(self) -> None:
        if not self._was_asked() and not self.transport.is_closing():
            self.transport.close()

    def _was_asked(self) -> bool:
        return self.cycle is not None

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        call = Call(scope, receive, budget=self._door.budget, deadlines=self._door.deadlines)
        answer = refusal(Refused(Code.QUEUE_FULL, headers=(("Connection", "close"),)), call)
        self._door.counts.answered(call.path, answer.status, call.refused)
        await send_answer(answer, send, with_body=call.method != "HEAD")


def close_slow(connections: Iterable[object], *, headers_seconds: float, counts: Counts) -> None:
    """Close the connections that have owed a request's headers for longer than ``headers_seconds``."""
    since = asyncio.get_running_loop().time() - headers_seconds
    for connection in list(connections):
        if not isinstance(connection, CaptureProtocol) or connection.headers_since is None:
            continue
        if connection.headers_since < since:
            counts.closed(Closed.SLOW_HEADERS)
            connection.transport.close()


class _AsEvents(logging.Handler):
    """The server's complaints as events of ours: the class of an exception, never its words. What senders do wrong on
    the wire is no event: a robot would fill the disk with it.
    """

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        if error is not None:
            get_logger(__name__).error("http server failed", error_class=type(error).__name__)


def tame_logs() -> None:
    """Let nothing that uvicorn or asyncio logs reach standard error as it stands."""
    for name in TAMED:
        logger = logging.getLogger(name)
        logger.handlers = [_AsEvents()]
        logger.propagate = False
        logger.setLevel(logging.WARNING)
