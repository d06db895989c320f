"""A place where alerts arrive, over real HTTP: it takes them, refuses them, or never answers."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Receiver:
    """``status``: what it answers; ``None``: nothing, ever."""

    port: int
    status: int | None = 200
    messages: list[dict[str, Any]] = field(default_factory=list)
    refused: frozenset[str] = frozenset()  # titles that it never takes
    asked: int = 0
    released: threading.Event = field(default_factory=threading.Event)

    @property
    def address(self) -> str:
        """As apprise writes it. The path stands for a secret."""
        return f"json://127.0.0.1:{self.port}/a-secret-path"

    @property
    def titles(self) -> list[str]:
        return [message["title"] for message in self.messages]


@contextmanager
def receiving(port: int = 0) -> Iterator[Receiver]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            receiver.asked += 1
            if receiver.status is None:
                receiver.released.wait()
                return
            if not self.path.startswith("/a-secret-path"):  # another test's, for whoever had this port before
                self.send_error(404)
                return
            message, status = json.loads(body), receiver.status
            if message["title"] in receiver.refused:
                status = 400
            if status < 300:
                receiver.messages.append(message)
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    receiver = Receiver(server.server_address[1])
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        receiver.released.set()
        server.shutdown()
        server.server_close()
        thread.join()
