"""A local server that answers as Meta's Graph API and HubSpot's contacts do when they are asked for a lead."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

TOKEN = "vendor-token"

# What Meta says of an id that is gone, and of one that the token may not see.
META_NO_SUCH_OBJECT = {
    "error": {
        "message": "Unsupported get request. Object with ID '1' does not exist, cannot be loaded due to missing "
        "permissions, or does not support this operation.",
        "type": "GraphMethodException",
        "code": 100,
        "error_subcode": 33,
    }
}


@dataclass(frozen=True)
class Asked:
    """One request."""

    path: str
    query: dict[str, list[str]]
    authorization: str | None


@dataclass
class Vendor:
    """What the server knows and was asked. ``script`` answers come before anything else, one a request."""

    base_url: str = ""
    meta: dict[str, dict[str, str | list[str]]] = field(default_factory=dict)
    hubspot: dict[str, dict[str, str | None]] = field(default_factory=dict)
    script: list[tuple[int, dict[str, str], Any]] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    token: str = TOKEN
    before_answer: Any = None  # called with no argument while the request is open

    def answer(self, asked: Asked) -> tuple[int, dict[str, str], Any]:
        self.asked.append(asked)
        if self.before_answer is not None:
            self.before_answer()
        if self.script:
            return self.script.pop(0)
        if asked.path.startswith("/crm/v3/objects/contacts/"):
            return self._hubspot(asked)
        return self._meta(asked)

    def _meta(self, asked: Asked) -> tuple[int, dict[str, str], Any]:
        if asked.authorization != f"Bearer {self.token}":
            error = {"message": "Invalid OAuth access token.", "type": "OAuthException", "code": 190}
            return 400, {}, {"error": error}
        reference = asked.path.removeprefix("/")
        if reference not in self.meta:
            return 400, {}, META_NO_SUCH_OBJECT
        answers = [
            {"name": name, "values": value if isinstance(value, list) else [value]}
            for name, value in self.meta[reference].items()
        ]
        return 200, {}, {"id": reference, "created_time": "2026-01-15T11:59:00+0000", "field_data": answers}

    def _hubspot(self, asked: Asked) -> tuple[int, dict[str, str], Any]:
        if asked.authorization != f"Bearer {self.token}":
            return 401, {}, {"status": "error", "category": "INVALID_AUTHENTICATION"}
        reference = asked.path.rpartition("/")[2]
        if reference not in self.hubspot:
            return 404, {}, {"status": "error", "category": "OBJECT_NOT_FOUND"}
        wanted = asked.query["properties"][0].split(",")
        known = self.hubspot[reference]
        return 200, {}, {"id": reference, "archived": False, "properties": {name: known.get(name) for name in wanted}}


@contextmanager
def running_vendor() -> Iterator[Vendor]:
    """The server on a free port; stopped at the end."""
    vendor = Vendor()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            status, headers, body = vendor.answer(
                Asked(parts.path, parse_qs(parts.query), self.headers.get("Authorization"))
            )
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            for name, value in {"Content-Type": "application/json", **headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    vendor.base_url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield vendor
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
