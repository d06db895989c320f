"""A browser, a capture service as a process, and a site of somebody else's whose pages use leads.js."""

import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import sqlalchemy as sa

from leads_pipeline.clock import SystemClock
from leads_pipeline.config import CONFIG_VARIABLE, DATABASE_URL_VARIABLE
from leads_pipeline_tests.browser.chromium import Chromium, chromium, executable
from leads_pipeline_tests.capture.running import make_key
from leads_pipeline_tests.capture.test_process import Process

YAML = """
version: 1
tenants:
  acme:
    country: US
    sources:
      website: {{lane: real_time, cors_origins: ["{origin}"]}}
      slow: {{cors_origins: ["{origin}"], rate: {{requests: 1, seconds: 6, burst: 0}}}}
      checked: {{kind: form, cors_origins: ["{origin}"], verify_in_request: {{lookups: []}}}}
      contact: {{kind: form, cors_origins: ["{origin}"], redirects: ["{origin}/thanks"]}}
    destinations: [hubspot]
destinations:
  hubspot: {{vendor: hubspot, account: sandbox, base_url: "http://127.0.0.1:9", token: {{env: LEADS_HUBSPOT_TOKEN}}}}
"""

PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>A site</title><link rel="icon" href="data:,">
<script src="{capture}/leads.js" data-key="{key}" async></script>
<form data-leads method="post" action="{action}">
<label>E-mail <input id="email" name="email" type="email"></label>
<label>Name <input id="full_name" name="full_name"></label>
<label><input id="agree" type="checkbox" name="consent_email" data-consent-channel="email"
  data-consent-version="2026-01"> You may write to me.</label>
<button>Send</button><p id="status" data-leads-status role="status" data-stored="Thank you!"></p></form>
"""


@pytest.fixture
def browser(one_browser: Chromium) -> Iterator[Chromium]:
    """The browser; a tab that a failed test left open is let go."""
    yield one_browser
    for page in list(one_browser.pages):
        page.let_go()


@pytest.fixture(scope="session")
def one_browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    """One browser for all tests: what it keeps is kept by origin, and each test has ports of its own."""
    if executable() is None:
        pytest.skip("no Chromium on this machine: apt-get install chromium")
    with chromium(tmp_path_factory.mktemp("profile")) as running:
        yield running


@dataclass
class Site:
    """A web server that is not ours. ``pages`` are what it serves, by path without the query."""

    url: str
    pages: dict[str, str]


@pytest.fixture
def site() -> Iterator[Site]:
    with serving_site() as running:
        yield running


@contextmanager
def serving_site() -> Iterator[Site]:
    """A site on a port of its own, which is an origin of its own."""
    pages: dict[str, str] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            page = pages.get(self.path.partition("?")[0])
            body = (page or "nothing here").encode()
            self.send_response(200 if page is not None else 404)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield Site(f"http://127.0.0.1:{server.server_address[1]}", pages)
        finally:
            server.shutdown()
            thread.join()


@dataclass
class Door:
    """A capture service as a process, and a page of a site that posts to it."""

    process: Process
    site: Site
    engine: sa.Engine

    def page(self, *, source: str = "website", path: str = "/") -> str:
        """The address of a page of the site, with a form that posts as this source."""
        key = make_key(self.engine, SystemClock(), source=source)
        action = f"{self.process.url}/v1/in/acme/{source}?key={key}"
        self.site.pages[path] = PAGE.format(capture=self.process.url, key=key, action=action)
        return f"{self.site.url}{path}"

    def emails(self) -> list[str]:
        """The address of each lead that is stored, sorted."""
        with self.engine.connect() as connection:
            return sorted(row[0] for row in connection.execute(sa.text("select payload ->> 'email' from buffer")))

    def payloads(self) -> list[dict[str, object]]:
        with self.engine.connect() as connection:
            return [dict(row[0]) for row in connection.execute(sa.text("select payload from buffer"))]


@pytest.fixture
def door(database_url: str, engine: sa.Engine, site: Site, tmp_path: Path) -> Iterator[Door]:
    process = process_with(YAML.format(origin=site.url), database_url=database_url, directory=tmp_path)
    process.start()
    yield Door(process, site, engine)
    if process.running is not None:
        process.end(signal.SIGKILL)


def process_with(yaml: str, *, database_url: str, directory: Path) -> Process:
    """``leads capture serve`` with this configuration, on a free port; not yet started."""
    config = directory / "leads.yaml"
    config.write_text(yaml, encoding="utf-8")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    return Process({**os.environ, CONFIG_VARIABLE: str(config), DATABASE_URL_VARIABLE: database_url}, port)
