"""What scripts of other sites may do, and the headers that every answer carries."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from leads_pipeline.clock import FrozenClock
from leads_pipeline.config import parse_settings
from leads_pipeline_tests.capture.running import Capture, capture_service

SITE = "https://www.example.com"
SETTINGS = f"""
version: 1
tenants:
  acme:
    sources:
      website: {{lane: real_time, cors_origins: ["{SITE}"]}}
      server: {{lane: batch}}
"""


@pytest.fixture
def capture(tmp_path: Path, database_url: str, engine: sa.Engine, clock: FrozenClock) -> Iterator[Capture]:
    settings = parse_settings(SETTINGS, path=tmp_path / "leads.yaml")
    with capture_service(settings, database_url=database_url, engine=engine, clock=clock) as running:
        yield running


@pytest.mark.parametrize("path", ["/v1/leads", "/v1/leads/batch", "/v1/in/acme/website"])
def test_a_browser_that_asks_first_is_told_that_its_site_may_post(capture: Capture, path: str) -> None:
    asked = {"Origin": SITE, "Access-Control-Request-Method": "POST", "Authorization": ""}

    answer = capture.client.options(path, headers=asked)

    assert answer.status_code == 204
    assert answer.headers["access-control-allow-origin"] == SITE
    assert answer.headers["access-control-allow-methods"] == "POST"
    assert "idempotency-key" in answer.headers["access-control-allow-headers"]
    assert answer.headers["vary"] == "Origin"


def test_a_site_that_no_source_knows_is_refused_before_it_posts(capture: Capture) -> None:
    answer = capture.client.options("/v1/leads", headers={"Origin": "https://other.example.net"})

    assert answer.status_code == 403
    assert "access-control-allow-origin" not in answer.headers


def test_a_known_site_may_read_answers_and_refusals(capture: Capture) -> None:
    stored = capture.post({"email": "ada@example.org"}, Origin=SITE)
    refused = capture.post([], Origin=SITE)

    assert (stored.status_code, refused.status_code) == (202, 422)
    for answer in (stored, refused):
        assert answer.headers["access-control-allow-origin"] == SITE
        assert "retry-after" in answer.headers["access-control-expose-headers"]


def test_a_site_that_is_not_the_sources_may_not_post_with_its_key(capture: Capture, engine: sa.Engine) -> None:
    answer = capture.post({"email": "ada@example.org"}, Origin="https://other.example.net")

    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "origin_not_allowed")
    with engine.connect() as connection:
        assert connection.execute(sa.text("select count(*) from buffer")).scalar_one() == 0


def test_every_answer_forbids_sniffing_framing_and_keeping(capture: Capture) -> None:
    for answer in (capture.post({"email": "a@example.org"}), capture.post({}), capture.client.get("/nowhere")):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert "server" not in answer.headers


def test_a_site_is_known_however_leads_yaml_writes_it(tmp_path: Path) -> None:
    written = '["https://WWW.Example.com:443", "http://example.com:80", "https://example.com:8443", "*"]'
    settings = parse_settings(SETTINGS.replace(f'["{SITE}"]', written), path=tmp_path / "leads.yaml")
    source = settings.source("acme", "website")
    assert source is not None
    assert source.cors_origins == (SITE, "http://example.com", "https://example.com:8443", "*")
