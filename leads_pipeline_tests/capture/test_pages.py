"""What the door serves to be read: leads.js, the example page, the docs."""

import re

import pytest
import sqlalchemy as sa

from leads_pipeline.clock import FrozenClock
from leads_pipeline.config import Settings, parse_settings
from leads_pipeline_tests.capture.running import Capture, capture_service, make_key, with_capture
from leads_pipeline_tests.conftest import LEADS_YAML

PAGES = ("/example", "/docs")
FILES = ("/leads.js", "/static/example.js", "/static/pages.css", "/static/icon.svg")


def test_the_snippet_is_smaller_than_5_kb_as_it_is_served(capture: Capture):
    answer = capture.client.get("/leads.js", headers={"Accept-Encoding": "identity"})
    assert answer.status_code == 200
    assert len(answer.content) < 5_000
    assert answer.headers["content-type"] == "text/javascript; charset=utf-8"


@pytest.mark.parametrize("path", FILES)
def test_a_file_is_kept_by_browsers_and_asked_for_again_by_its_etag(capture: Capture, path: str):
    first = capture.client.get(path)
    assert "max-age=3600" in first.headers["cache-control"]
    for known in (first.headers["etag"], f'"other", W/{first.headers["etag"]}'):
        again = capture.client.get(path, headers={"If-None-Match": known})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == first.headers["etag"]
    assert capture.client.get(path, headers={"If-None-Match": '"other"'}).status_code == 200


def test_any_site_may_load_the_snippet(capture: Capture):
    answer = capture.client.get("/leads.js", headers={"Origin": "https://www.example.com"})
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["cross-origin-resource-policy"] == "cross-origin"


@pytest.mark.parametrize("path", [*PAGES, *FILES, "/openapi.json", "/healthz"])
def test_everything_that_is_read_has_security_headers_and_answers_head(capture: Capture, path: str):
    answer = capture.client.get(path)
    assert answer.status_code == 200
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    assert "unsafe" not in answer.headers["content-security-policy"]
    assert "referrer-policy" in answer.headers
    assert "cache-control" in answer.headers
    head = capture.client.head(path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(len(answer.content))


@pytest.mark.parametrize("path", PAGES)
def test_a_page_holds_no_inline_script_and_names_nothing_elsewhere(capture: Capture, path: str):
    html = capture.client.get(path, params={"key": capture.key}).text
    assert re.findall(r"<script(?![^>]*\ssrc=)", html) == []
    assert re.findall(r"\son\w+=|\sstyle=", html) == []
    for address in re.findall(r'(?:src|href|action)="([^"]*)"', html):
        assert "//" not in address, address
        local = address.partition("?")[0].partition("#")[0]
        if local and not local.startswith("v1/"):
            assert capture.client.get(f"/{local}").status_code == 200, address


def test_the_example_asks_for_a_key_and_says_whose_it_is(capture: Capture):
    assert "leads keys create" in capture.client.get("/example").text
    page = capture.client.get("/example", params={"key": capture.key}).text
    assert f'data-key="{capture.key}"' in page
    assert "Posts as website of acme." in page
    assert "not in force" in capture.client.get("/example", params={"key": "lp_0_unknown"}).text


def test_what_is_given_as_a_key_cannot_become_part_of_the_page(capture: Capture):
    for key in ('"><script>alert(1)</script>', 'lp_a"onfocus="alert(1)', "lp_$form"):
        page = capture.client.get("/example", params={"key": key}).text
        assert "alert" not in page
        assert 'data-key=""' in page


def test_the_examples_form_posts_to_its_source_where_that_takes_forms(
    database_url: str, engine: sa.Engine, clock: FrozenClock, settings: Settings
):
    with_a_form = LEADS_YAML.replace("webinar: {", "webinar: {kind: form, honeypot: fax, ", 1)
    changed = parse_settings(with_a_form, path=settings.path)
    with capture_service(changed, database_url=database_url, engine=engine, clock=clock) as capture:
        key = make_key(engine, clock, source="webinar")
        page = capture.client.get("/example", params={"key": key}).text
        assert f'action="v1/in/acme/webinar?key={key}"' in page
        assert 'name="fax"' in page


def test_the_example_is_there_unless_it_is_switched_off(
    settings: Settings, database_url: str, engine: sa.Engine, clock: FrozenClock
):
    without = with_capture(settings, example_page=False)
    with capture_service(without, database_url=database_url, engine=engine, clock=clock) as capture:
        assert capture.client.get("/example").json()["error"]["code"] == "not_found"
        assert "example" not in capture.client.get("/docs").text.replace("example.", "")


def test_the_docs_name_every_field_every_refusal_and_every_address(capture: Capture):
    page = capture.client.get("/docs").text
    document = capture.client.get("/openapi.json").json()
    error = document["components"]["schemas"]["Error"]["properties"]["error"]["properties"]
    names = [*document["components"]["schemas"]["Lead"]["properties"], *error["code"]["enum"]]
    assert [name for name in names if f"<code>{name}</code>" not in page] == []
    assert [path for path in document["paths"] if path not in page] == []
    assert f"{capture.url}/v1/leads" in page


def test_a_site_needs_no_permission_to_post_to_its_own_door(
    settings: Settings, database_url: str, engine: sa.Engine, clock: FrozenClock
):
    listed = LEADS_YAML.replace("website: {", "website: {cors_origins: ['https://www.example.com'], ", 1)
    changed = parse_settings(listed, path=settings.path)
    with capture_service(changed, database_url=database_url, engine=engine, clock=clock) as capture:
        assert capture.post({"email": "a@example.org"}, Origin=capture.url).status_code == 202
        assert capture.post({"email": "b@example.org"}, Origin="https://www.example.com").status_code == 202
        refused = capture.post({"email": "c@example.org"}, Origin="https://elsewhere.example")
        assert refused.json()["error"]["code"] == "origin_not_allowed"


def test_a_robot_that_fills_the_hidden_field_of_a_form_with_a_script_is_set_aside(
    settings: Settings, database_url: str, engine: sa.Engine, clock: FrozenClock
):
    changed = parse_settings(LEADS_YAML.replace("website: {", "website: {kind: form, ", 1), path=settings.path)
    with capture_service(changed, database_url=database_url, engine=engine, clock=clock) as capture:
        assert capture.post({"email": "a@example.org", "website_url": "https://spam.example"}).status_code == 202
        assert capture.post({"email": "b@example.org"}).status_code == 202
    with engine.connect() as connection:
        rows = connection.execute(
            sa.text("select payload ->> 'email' as email, context ->> 'quarantine' as quarantine from buffer")
        ).all()
    assert {row.email: row.quarantine for row in rows} == {"a@example.org": "robot", "b@example.org": None}
