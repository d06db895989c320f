"""A vendor of one answer on 127.0.0.1, which keeps what it was sent."""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Sent:
    """One request as it arrived."""

    method: str
    path: str  # with its query
    headers: dict[str, str]  # names in lower case
    content: bytes


@dataclass
class Listener:
    """What is answered, and what came."""

    url: str = ""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    content: bytes = b"{}"
    answer_with: Callable[[BaseHTTPRequestHandler], None] | None = None  # instead of the above
    sent: list[Sent] = field(default_factory=list)

    def answers(self, status: int, body: Any) -> None:
        """Answer with a JSON body from now on."""
        self.status, self.content = status, json.dumps(body).encode()


def hang_up(handler: BaseHTTPRequestHandler) -> None:
    """Break the connection instead of answering."""
    handler.close_connection = True
    handler.connection.shutdown(socket.SHUT_RDWR)


@contextmanager
def listening() -> Iterator[Listener]:
    """Listen on a port of its own choice; threads die with the server."""
    listener = Listener()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            listener.sent.append(Sent(self.command, self.path, headers, content))
            if listener.answer_with is not None:
                listener.answer_with(self)
                return
            self.send_response(listener.status)
            for name, value in {"Content-Length": str(len(listener.content)), **listener.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(listener.content)

        do_GET = do_POST = do_PUT = _answer  # noqa: N815 - the names are the server's

        def log_message(self, *_args: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.handle_error = lambda request, client_address: None  # type: ignore[method-assign] - a test may hang up
    listener.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield listener
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
