"""leads.js on pages of a site of its own: whatever happens to the network, the tab or the service, each lead arrives
once."""

import json
import signal
from itertools import pairwise

import pytest
import sqlalchemy as sa

from leads_pipeline.clock import SystemClock
from leads_pipeline_tests.browser.chromium import Chromium, Page
from leads_pipeline_tests.browser.conftest import PAGE, Door, serving_site
from leads_pipeline_tests.capture.running import make_key, wait_until
from leads_pipeline_tests.capture.test_refusals import _database_gone

QUEUE = (
    "Object.entries(localStorage).filter(([name]) => name.startsWith('leads.js:')).map(([, text]) => JSON.parse(text))"
)
WAITING = f"{QUEUE}.filter((item) => item.body).length"


def opened(browser: Chromium, url: str) -> Page:
    """A tab on a page whose leads.js runs, and which notes what leads.js says."""
    page = browser.tab(url)
    page.wait_for("window.leads")
    page.run(
        "window.said = []; for (const status of ['stored', 'waiting', 'refused'])"
        " document.addEventListener('leads:' + status, ({detail, target}) =>"
        " said.push([status, detail, target.nodeName]))"
    )
    return page


def submit(page: Page, email: str) -> None:
    page.fill(email=email)
    page.run("document.querySelector('form').requestSubmit()")


def posts(page: Page) -> list[dict]:
    """The leads that the page posted, in order."""
    return [request for request in page.requests if request["method"] == "POST" and "/v1/leads" in request["url"]]


def test_a_form_is_posted_with_its_fields_its_page_and_its_consent(browser: Chromium, door: Door):
    page = opened(browser, door.page() + "?utm_source=news&utm_campaign=spring&other=1#top")
    page.run("document.getElementById('agree').checked = true")
    submit(page, "ada@example.org")

    page.wait_for("said.some(([status]) => status === 'stored')")
    (stored,) = page.run("said")
    assert stored[0] == "stored"
    assert stored[2] == "FORM"
    with door.engine.connect() as connection:
        row = connection.execute(sa.text("select lead_id, payload, consent, context from buffer")).one()
    assert stored[1]["lead_id"] == str(row.lead_id)
    assert row.payload == {
        "email": "ada@example.org",
        "landing_page": f"{door.site.url}/?utm_source=news&utm_campaign=spring&other=1",
        "utm_source": "news",
        "campaign": "spring",
    }
    (consent,) = row.consent
    assert consent.pop("occurred_at").startswith("20")
    assert consent == {"granted": True, "channel": "email", "text_version": "2026-01"}
    assert page.run("document.getElementById('status').textContent") == "Thank you!"
    assert page.run("document.getElementById('email').value") == ""
    assert page.run("localStorage.length") == 0
    assert page.complaints == []
    page.close()


def test_a_page_can_ask_whether_another_address_was_meant(browser: Chromium, door: Door):
    page = opened(browser, door.page(source="checked"))
    submit(page, "ada@gmial.com")

    page.wait_for("said.some(([status]) => status === 'stored')")
    (stored,) = page.run("said")
    assert stored[1]["verification"] == {"email": {"standing": "unverified", "reasons": [], "suggestion": "gmail.com"}}
    assert door.emails() == ["ada@gmial.com"]
    page.close()


def test_a_box_that_is_not_ticked_states_nothing_and_a_script_may_send_what_it_likes(browser: Chromium, door: Door):
    page = opened(browser, door.page())
    submit(page, "ada@example.org")
    answer = page.run("leads.send({email: 'bob@example.org', utm_source: 'own', plan: {seats: 3}})")

    assert answer["status"] == "stored"
    with door.engine.connect() as connection:
        rows = connection.execute(sa.text("select payload, consent from buffer order by payload ->> 'email'")).all()
    assert [list(row.consent) for row in rows] == [[], []]
    assert rows[1].payload["plan"] == {"seats": 3}
    assert rows[1].payload["utm_source"] == "own"
    page.close()


@pytest.mark.chaos
def test_every_lead_of_a_page_arrives_once_while_the_service_is_killed_and_started(browser: Chromium, door: Door):
    page = opened(browser, door.page())
    wanted = [f"lead{number:02}@example.org" for number in range(40)]
    for email in wanted:
        page.run(f"void leads.send({{email: {json.dumps(email)}}})")
    for stored in (4, 12, 20):
        wait_until(lambda stored=stored: len(door.emails()) >= stored)
        assert door.process.end(signal.SIGKILL) == -signal.SIGKILL
        door.process.start()

    page.wait_for("said.filter(([status]) => status === 'stored').length === 40", seconds=120)
    assert door.emails() == wanted
    assert page.run("localStorage.length") == 0
    page.close()


def test_a_lead_of_a_closed_tab_is_sent_at_the_next_visit(browser: Chromium, door: Door):
    url = door.page()
    page = opened(browser, url)
    door.process.end(signal.SIGKILL)
    submit(page, "ada@example.org")
    page.wait_for("said.some(([status]) => status === 'waiting')")
    assert "Not sent yet" in page.run("document.getElementById('status').textContent")
    page.close()
    assert door.emails() == []

    door.process.start()
    again = opened(browser, url)
    again.wait_for(f"{WAITING} === 0")
    assert door.emails() == ["ada@example.org"]
    again.close()


def test_a_lead_that_was_being_sent_when_its_tab_was_closed_arrives(browser: Chromium, door: Door):
    page = opened(browser, door.page())
    page.run("leads.send({email: 'first@example.org'})")
    with door.engine.connect() as holder:
        holder.execute(sa.text("lock table buffer in access exclusive mode"))
        page.run("void leads.send({email: 'second@example.org'}); void leads.send({email: 'third@example.org'})")
        wait_until(lambda: bool(page.run("1")) and len(posts(page)) >= 2)
        page.close()
        holder.rollback()
    wait_until(lambda: door.emails() == ["first@example.org", "second@example.org", "third@example.org"])


def test_an_offline_spell_ends_with_the_lead_delivered(browser: Chromium, door: Door):
    page = opened(browser, door.page())
    page.offline(True)
    submit(page, "ada@example.org")
    page.wait_for("said.some(([status]) => status === 'waiting')")
    assert page.run(WAITING) == 1
    page.offline(False)
    page.wait_for("said.some(([status]) => status === 'stored')")
    assert door.emails() == ["ada@example.org"]
    page.close()


def test_a_sender_that_is_told_to_wait_waits_so_long(browser: Chromium, door: Door):
    page = opened(browser, door.page(source="slow"))
    page.run(
        "window.answers = []; const real = fetch; window.fetch = async (...all) => { const sent = performance.now();"
        " const answer = await real(...all);"
        " answers.push([sent, answer.status, +answer.headers.get('Retry-After'), performance.now()]); return answer; }"
    )
    page.run("Promise.all(['a', 'b'].map((name) => leads.send({email: name + '@example.org'})))")

    answers = page.run("answers")
    statuses = [status for _sent, status, _wait, _at in answers]
    assert statuses == [202, 429, 202]
    told_at, wait = answers[1][3], answers[1][2]
    assert wait >= 1
    assert answers[2][0] - told_at >= wait * 1000 - 1
    assert door.emails() == ["a@example.org", "b@example.org"]
    page.close()


def test_what_the_server_asked_to_wait_for_outlives_the_page(browser: Chromium, door: Door):
    url = door.page(source="slow")
    page = opened(browser, url)
    page.run("leads.send({email: 'a@example.org'})")
    page.run("void leads.send({email: 'b@example.org'})")
    page.wait_for("said.some(([status]) => status === 'waiting')")
    due = page.run(f"{QUEUE}[0].due")
    page.go(url + "?again")
    page.wait_for(f"{WAITING} === 0")
    assert page.run("Date.now()") >= due
    assert door.emails() == ["a@example.org", "b@example.org"]
    page.close()


def test_a_database_that_is_away_is_waited_for(browser: Chromium, door: Door):
    """Its 503 asks for two seconds."""
    page = opened(browser, door.page())
    page.run("leads.send({email: 'ada@example.org'})")
    with _database_gone(door.engine):
        page.run(f"addEventListener('leads:waiting', () => {{ window.left = {QUEUE}[0].due - Date.now() }}); 1")
        page.run("void leads.send({email: 'bob@example.org'})")
        page.wait_for("window.left !== undefined")
        assert 1_000 < page.run("left") <= 2_000
    page.wait_for("said.filter(([status]) => status === 'stored').length === 2")
    assert door.emails() == ["ada@example.org", "bob@example.org"]
    page.close()


def answered_by(page: Page, response: str) -> None:
    """Something between the page and the door answers everything with this."""
    page.run(f"window.fetch = async () => {response}; 1")


@pytest.mark.parametrize("answer", ["new Response('<h1>Log in to this Wi-Fi</h1>')", "new Response('{}')"])
def test_an_answer_that_names_no_lead_is_no_receipt(browser: Chromium, door: Door, answer: str):
    url = door.page()
    page = opened(browser, url)
    answered_by(page, answer)
    page.run("void leads.send({email: 'ada@example.org'})")
    page.wait_for("said.some(([status]) => status === 'waiting')")
    page.go(url + "?again")
    page.wait_for(f"{WAITING} === 0")
    assert door.emails() == ["ada@example.org"]
    page.close()


def test_a_proxy_may_say_when_to_come_back_as_a_date(browser: Chromium, door: Door):
    page = opened(browser, door.page())
    date = "new Date(Date.now() + 90_000).toUTCString()"
    answered_by(page, f"new Response('', {{status: 503, headers: {{'Retry-After': {date}}}}})")
    page.run("void leads.send({email: 'ada@example.org'})")
    page.wait_for("said.some(([status]) => status === 'waiting')")
    assert 60_000 < page.run(f"{QUEUE}[0].due - Date.now()") <= 90_000
    page.run("localStorage.clear()")
    page.close()


def test_a_status_that_passes_keeps_the_lead(browser: Chromium, door: Door):
    page = opened(browser, door.page())
    page.run("localStorage.clear()")  # a page that was just closed may have kept a lead that must wait
    statuses = [408, 425, 429, 500, 502, 503, 504]
    page.run(f"window.statuses = {statuses}; 1")
    answered_by(page, "statuses.length ? new Response('', {status: statuses.shift()}) : new Promise(() => {})")
    page.run("void leads.send({email: 'ada@example.org'})")
    # Going online ends the backoff, which has a random length and may also end by itself.
    page.wait_for(f"(dispatchEvent(new Event('online')), said.length === {len(statuses)})")
    assert {status for status, *_ in page.run("said")} == {"waiting"}
    # The next try, which is not answered, may have begun.
    (kept,) = page.run(QUEUE)
    assert kept["body"]
    assert kept["tries"] - len(statuses) in (0, 1)
    page.run("localStorage.clear()")
    page.close()


def test_a_refused_lead_is_reported_and_not_sent_again(browser: Chromium, door: Door):
    page = opened(browser, door.page())
    answer = page.run("leads.send({email: ['two', 'addresses']})")

    assert (answer["status"], answer["code"]) == ("refused", "wrong_type")
    assert answer["fields"][0]["field"] == "email"
    assert page.run(WAITING) == 0
    (kept,) = page.run(QUEUE)
    assert kept["refused"]["code"] == "wrong_type"
    assert "addresses" not in json.dumps(kept)
    page.run("leads.send({email: 'ada@example.org'})")
    assert len(posts(page)) == 2
    assert [status for status, *_ in page.run("said")] == ["refused", "stored"]
    page.close()


def test_a_refused_form_keeps_what_was_typed_and_shows_why(browser: Chromium, door: Door):
    url = door.page()
    with door.engine.begin() as connection:
        connection.execute(sa.text("update api_keys set revoked_at = now()"))
    page = opened(browser, url)
    submit(page, "ada@example.org")
    page.wait_for("said.length")
    assert page.run("said[0][1].code") == "bad_key"
    assert page.run("document.getElementById('status').textContent").startswith("Send an API key in force")
    assert page.run("document.getElementById('email').value") == "ada@example.org"
    page.close()


def test_two_tabs_share_the_work_and_double_nothing(browser: Chromium, door: Door):
    url = door.page()
    one, two = opened(browser, url), opened(browser, url)
    door.process.end(signal.SIGKILL)
    for name, page in (("one", one), ("two", two)):
        page.run(f"window.sent = [1, 2, 3, 4, 5].map((n) => leads.send({{email: `{name}${{n}}@example.org`}})); 1")
    door.process.start()

    for page in (one, two):  # each is told of its own leads, whichever tab sent them
        assert [answer["status"] for answer in page.run("Promise.all(sent)")] == ["stored"] * 5
    assert len(door.emails()) == len(set(door.emails())) == 10
    with door.engine.connect() as connection:
        assert connection.execute(sa.text("select sum(captured) from capture_batches")).scalar_one() == 10
    sent = [request["headers"]["Idempotency-Key"] for page in (one, two) for request in posts(page)]
    assert len(set(sent)) == 10
    one.close()
    two.close()


def test_a_second_click_while_the_first_is_under_way_is_one_lead(browser: Chromium, door: Door):
    page = opened(browser, door.page())
    page.offline(True)
    submit(page, "ada@example.org")
    submit(page, "ada@example.org")
    submit(page, "bob@example.org")
    page.offline(False)
    page.wait_for("said.filter(([status]) => status === 'stored').length === 2")
    assert door.emails() == ["ada@example.org", "bob@example.org"]
    page.close()


def test_what_was_typed_while_another_lead_waited_stays_in_the_form(browser: Chromium, door: Door):
    page = opened(browser, door.page())
    page.offline(True)
    submit(page, "ada@example.org")
    page.wait_for("said.some(([status]) => status === 'waiting')")
    page.fill(email="bob@example.org")
    page.offline(False)
    page.wait_for("said.some(([status]) => status === 'stored')")
    assert page.run("document.getElementById('email').value") == "bob@example.org"
    page.close()


def test_a_browser_that_blocks_storage_still_sends(browser: Chromium, door: Door):
    page = browser.tab()
    page.call(
        "Page.addScriptToEvaluateOnNewDocument",
        source="Object.defineProperty(window, 'localStorage', {get() { throw new DOMException(''); }})",
    )
    page.go(door.page())
    page.wait_for("window.leads")
    page.offline(True)
    page.run("window.sent = leads.send({email: 'ada@example.org'}); leads.send({email: 'bob@example.org'}); 1")
    page.offline(False)
    assert page.run("sent")["status"] == "stored"
    wait_until(lambda: door.emails() == ["ada@example.org", "bob@example.org"])
    page.close()


def test_a_lead_of_more_than_a_week_ago_is_forgotten(browser: Chromium, door: Door):
    url = door.page()
    page = opened(browser, url)
    page.run(
        "const script = document.querySelector('script'), {host} = new URL(script.src), {key} = script.dataset;"
        " for (const [id, days] of [['old', 8], ['young', 6]]) localStorage[`leads.js:${host}:${id}`] ="
        " JSON.stringify({id, key, tries: 0, due: 0, at: Date.now() - days * 864e5,"
        " body: JSON.stringify({email: id + '@example.org'})})"
    )
    page.go(url + "?again")
    page.wait_for("localStorage.length === 0")
    assert door.emails() == ["young@example.org"]
    page.close()


def test_no_more_than_a_hundred_leads_wait_in_a_browser(browser: Chromium, door: Door):
    page = opened(browser, door.page())
    page.offline(True)
    page.run("for (let n = 0; n < 100; n++) leads.send({email: n + '@example.org'}); 1")
    answer = page.run("leads.send({email: 'one-too-many@example.org'})")
    assert (answer["status"], answer["code"]) == ("refused", "queue_full")
    assert page.run(WAITING) == 100
    page.run("localStorage.clear()")
    page.close()


def test_a_site_that_is_not_allowed_cannot_post(browser: Chromium, door: Door):
    key = make_key(door.engine, SystemClock())
    with serving_site() as other:
        other.pages["/"] = PAGE.format(capture=door.process.url, key=key, action="")
        page = opened(browser, other.url + "/")
        page.run("void leads.send({email: 'ada@example.org'})")
        page.wait_for("said.some(([status]) => status === 'waiting')")
        assert any("CORS" in complaint for complaint in page.complaints)
        assert door.emails() == []
        page.run("localStorage.clear()")
        page.close()


def test_leads_are_sent_one_after_the_other_with_a_pause_between(browser: Chromium, door: Door):
    page = opened(browser, door.page())
    page.run(
        "window.under = 0; window.most = 0; window.starts = []; const real = fetch; window.fetch = async (...all) => {"
        " starts.push(performance.now()); most = Math.max(most, ++under);"
        " try { return await real(...all); } finally { under--; } }"
    )
    page.run("Promise.all([1, 2, 3, 4].map((n) => leads.send({email: n + '@example.org'})))")
    starts = page.run("starts")
    assert page.run("most") == 1
    assert min(later - earlier for earlier, later in pairwise(starts)) >= 199
    page.close()


def test_a_page_without_scripts_posts_its_form_as_any_other(browser: Chromium, door: Door):
    door.site.pages["/thanks"] = "<!doctype html><title>Thanks</title><link rel=icon href=data:,><p>Thanks"
    page = browser.tab()
    page.call("Emulation.setScriptExecutionDisabled", value=True)
    page.call("Page.navigate", url=door.page(source="contact"))
    page.type_into("#email", "ada@example.org")
    page.click("button")
    wait_until(lambda: door.emails() == ["ada@example.org"])
    wait_until(lambda: page.address() == f"{door.site.url}/thanks")
    page.close()
