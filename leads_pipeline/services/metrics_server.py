"""``GET /metrics`` for Prometheus: a small server of its own, because the pipeline's numbers are nobody's request."""

import socket
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from leads_pipeline.errors import LeadsError
from leads_pipeline.exposition import CONTENT_TYPE
from leads_pipeline.telemetry import get_logger
from leads_pipeline.watching.metrics.taking import PipelineMetrics

# Requests under way; one beyond them is let go. A scrape that waits for another's costs a thread, nothing else.
_MOST_AT_ONCE = 16
_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>leads_pipeline: metrics</title>
<h1>leads_pipeline: metrics</h1><p><a href="/metrics">/metrics</a> is for Prometheus: the pipeline's queues, latencies,
deliveries, promises, rules and alerts, read from its database. What each means: docs/metrics.md.</p></html>
"""


class MetricsServer(ThreadingHTTPServer):
    """Serves until ``shutdown``. ``url`` is where it listens."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, metrics: PipelineMetrics, *, host: str, port: int) -> None:
        self.metrics = metrics
        self._free = threading.BoundedSemaphore(_MOST_AT_ONCE)
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            super().__init__((host, port), _Handler)
        except OSError as error:
            raise LeadsError(
                f"cannot serve metrics on {host}:{port}: {error.strerror}; choose another with --host or --port"
            ) from error

    @property
    def url(self) -> str:
        """Where it listens."""
        host, port = str(self.server_address[0]), self.server_address[1]
        return f"http://{f'[{host}]' if ':' in host else host}:{port}"

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no news, and a traceback on the terminal is no log."""
        get_logger(__name__).info("metrics_request_failed")


class _Handler(BaseHTTPRequestHandler):
    timeout = 10  # a client that sends nothing does not keep a thread for longer
    protocol_version = "HTTP/1.1"
    server_version = "leads_pipeline"
    sys_version = ""
    server: MetricsServer

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/metrics":
            self._answer(HTTPStatus.OK, CONTENT_TYPE, self.server.metrics.text())
        elif path == "/":
            self._answer(HTTPStatus.OK, "text/html; charset=utf-8", _PAGE.encode())
        elif path == "/healthz":
            self._answer(HTTPStatus.OK, "text/plain; charset=utf-8", b"ok\n")
        else:
            self._answer(HTTPStatus.NOT_FOUND, "text/plain; charset=utf-8", b"there is /metrics, /healthz and /\n")

    do_HEAD = do_GET  # noqa: N815 - the base class's name

    def _answer(self, status: HTTPStatus, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Nothing: a scrape a quarter of a minute is no news."""
