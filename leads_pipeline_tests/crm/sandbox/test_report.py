"""What the sandbox says that it saw, and its page."""

from html.parser import HTMLParser
from typing import Any

import httpx
import pytest

from leads_pipeline.clock import FrozenClock
from leads_pipeline.crm.sandbox.client import SandboxClient
from leads_pipeline.crm.sandbox.running import SandboxServer
from leads_pipeline.errors import LeadsError
from leads_pipeline_tests.crm.sandbox.conftest import Api, Started, entry


def test_the_report_adds_up(api: Api, sandbox: SandboxServer):
    api.upsert(entry("k1", trace="1"), entry("k2", trace="2"), entry("k3", trace="3", nope="x"))
    api.upsert(entry("k1", firstname="Ann"))
    contact = api.create(email="ann@example.com")
    api.post("/batch/archive", {"inputs": [{"id": contact}]})
    api.get("/999")

    report = sandbox.report()

    assert report["requests"] == report["accepted"] == sum(report["statuses"].values()) == 5
    assert report["statuses"] == {"200": 1, "201": 1, "204": 1, "207": 1, "404": 1}
    assert report["endpoints"] == {"batch/archive": 1, "batch/upsert": 2, "create": 1, "read": 1}
    assert (report["records_created"], report["records_updated"], report["records_written"]) == (3, 1, 4)
    assert (report["contacts"], report["archived"], report["duplicates"]) == (2, 1, 0)
    assert (report["lead_keys"], report["writes_per_lead_key"]) == (2, {"1": 1, "2": 1})
    assert (report["limit"], report["window_seconds"], report["max_requests_in_any_window"]) == (100, 10.0, 5)


def test_writes_per_lead_key_show_what_was_sent_twice(api: Api, sandbox: SandboxServer):
    api.upsert(entry("k1"), entry("k2"), entry("k3"))
    api.upsert(entry("k2"))
    api.upsert(entry("k2"), entry("k3"))

    assert sandbox.writes_per_lead_key() == {"k1": 1, "k2": 3, "k3": 2}
    assert sandbox.writes_per_lead_key(at_least=2) == {"k2": 3, "k3": 2}


def test_duplicates_are_counted_from_the_rows_and_not_trusted_to_the_constraints(started: Started, tmp_path: Any):
    """A file from elsewhere may hold what the sandbox itself would refuse."""
    import sqlite3

    store = tmp_path / "contacts.sqlite"
    with started(store=store) as (_sandbox, api):
        api.upsert(entry("k1", email="ann@example.com"), entry("k2", email="bob@example.com"), entry("k3"), entry("k4"))
    database = sqlite3.connect(store)
    with database:
        database.execute("update contacts set email = 'ANN@example.com' where lead_key = 'k2'")
        database.execute("update contacts set lead_key = 'k3' where lead_key = 'k4'")
    database.close()

    with started(store=store) as (sandbox, _api):
        assert sandbox.report()["duplicates"] == 2


def test_contacts_are_paged_to_the_end(started: Started):
    with started() as (sandbox, api):
        for start in range(0, 300, 100):
            api.upsert(*(entry(f"k{number}") for number in range(start, start + 100)))
        pages, after = [], "0"
        while after is not None:
            page = api.http.get("/_sandbox/contacts", params={"limit": 100, "after": after}).json()
            pages.append(len(page["contacts"]))
            after = page["after"]

        assert pages == [100, 100, 100]
        assert len({contact["id"] for contact in sandbox.contacts()}) == 300


@pytest.mark.parametrize("query", ["limit=0", "limit=x", "limit=10001", "after=-1", "after=99999999999999999999"])
def test_a_page_that_cannot_be_is_refused(api: Api, query: str):
    assert api.http.get(f"/_sandbox/contacts?{query}").status_code == 400


def test_looking_costs_no_quota(started: Started):
    with started(requests=1) as (sandbox, api):
        for _ in range(5):
            sandbox.report()
            api.http.get("/")

        assert sandbox.report()["requests"] == 0
        assert api.get().status_code == 200


def test_a_reset_forgets_everything(started: Started):
    with started(requests=1) as (sandbox, api):
        api.upsert(entry("k1"))
        sandbox.set_faults([{"kind": "http_500"}])

        sandbox.reset()

        report = sandbox.report()
        assert (report["requests"], report["contacts"], report["accepted_today"]) == (0, 0, 0)
        assert sandbox.faults() == []
        assert api.upsert(entry("k1")).json()["results"][0]["new"] is True


def test_a_sandbox_that_is_not_there_is_named_with_what_to_do():
    with pytest.raises(LeadsError, match="leads sandbox serve"):
        SandboxClient("http://127.0.0.1:9").report()


class _Page(HTMLParser):
    """Text, the tags that were open, and every address that a browser would fetch."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.text: list[str] = []
        self.tags: list[str] = []
        self.fetched: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.fetched += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data: str) -> None:
        self.text.append(data.strip())


def page_of(api: Api) -> tuple[httpx.Response, _Page]:
    response = api.http.get("/")
    return response, _Page(response.text)


def test_the_page_shows_the_numbers_and_the_latest_contacts(started: Started, clock: FrozenClock):
    with started(requests=2) as (sandbox, api):
        api.upsert(*(entry(f"k{number}", email=f"p{number}@example.com") for number in range(20)))
        clock.advance(1)
        api.upsert(entry("k3", firstname="Ann", lastname="Lee", company="Acme"))
        api.get()
        sandbox.set_faults([{"kind": "http_503", "rate": 0.5}])
        response, page = page_of(api)

    assert response.headers["Content-Type"] == "text/html; charset=utf-8"
    shown = dict(zip(page.text[1:], page.text, strict=False))  # each label and the number before it
    assert (shown["contacts"], shown["records written"], shown["requests"]) == ("20", "21", "3")
    assert (shown["refused with 429"], shown["duplicates"]) == ("1", "0")
    assert page.text.index("Ann Lee") < page.text.index("p19@example.com")
    assert "http_503" in page.text
    assert page.tags.count("rect") == 1 + 2 + 2  # the base line, and two seconds with arrived and admitted requests


def test_an_empty_page_says_what_to_do(api: Api):
    _response, page = page_of(api)

    assert "No contact yet. Post a lead, and it appears here." in page.text


def test_the_page_fetches_nothing_and_runs_nothing_that_a_contact_holds(api: Api, sandbox: SandboxServer):
    attack = "<script>alert(1)</script>"
    api.upsert(entry("k1", firstname=attack, company='"><img src=http://evil.example>'))
    sandbox.set_faults([{"kind": "per_record_error", "match": attack}])

    response, page = page_of(api)

    assert page.fetched == []
    assert page.tags.count("script") == 1
    assert "img" not in page.tags
    assert attack in " ".join(page.text)
    assert "default-src 'none'" in response.headers["Content-Security-Policy"]
