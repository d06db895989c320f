"""The example page from a person's click to the CRM, and what the browser thinks of the pages."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from leads_pipeline.clock import SystemClock
from leads_pipeline.config import parse_settings
from leads_pipeline.crm.sandbox.hubspot.options import HubSpotOptions
from leads_pipeline.crm.sandbox.running import SandboxServer, running_sandbox
from leads_pipeline.flows import FlowContext
from leads_pipeline_tests.browser.chromium import Chromium, Page
from leads_pipeline_tests.browser.conftest import process_with
from leads_pipeline_tests.capture.running import make_key, wait_until
from leads_pipeline_tests.capture.test_process import Process
from leads_pipeline_tests.conftest import LEADS_YAML
from leads_pipeline_tests.test_flows import run_chain

WITH_A_FORM = LEADS_YAML.replace("webinar: {", "webinar: {kind: form, ", 1)


@pytest.fixture
def process(database_url: str, tmp_path: Path) -> Iterator[Process]:
    process = process_with(WITH_A_FORM, database_url=database_url, directory=tmp_path)
    process.start()
    yield process
    if process.running is not None:
        process.end(signal.SIGKILL)


@pytest.fixture
def sandbox() -> Iterator[SandboxServer]:
    with running_sandbox(HubSpotOptions()) as running:
        yield running


def key_of(engine: sa.Engine, source: str = "website") -> str:
    return make_key(engine, SystemClock(), source=source)


def fill_in(page: Page) -> None:
    page.type_into("#full_name", "Ada Byron")
    page.type_into("#email", "ada.byron@analytical-engines.example")
    page.type_into("#company", "Analytical Engines")
    page.type_into("#message", "How many cards does a difference take?")
    page.click("#consent")


def test_a_lead_that_is_typed_into_the_example_page_reaches_the_crm(
    browser: Chromium, process: Process, engine: sa.Engine, sandbox: SandboxServer, tmp_path: Path
):
    page = browser.tab(f"{process.url}/example?key={key_of(engine)}&utm_source=newsletter")
    page.wait_for("window.leads")
    fill_in(page)
    page.click("form.contact button")
    page.wait_for("document.querySelector('#log .stored')")
    assert page.run("document.querySelector('[data-leads-status]').textContent").startswith("Thank you")
    assert page.run("document.getElementById('email').value") == ""
    assert page.run("document.activeElement.textContent") == "Send"  # the focus stayed where it was
    assert page.complaints == []
    page.close()

    settings = parse_settings(WITH_A_FORM.replace("http://127.0.0.1:9", sandbox.base_url), path=tmp_path / "leads.yaml")
    run_chain(FlowContext(engine, settings, SystemClock()))

    (contact,) = sandbox.contacts()
    assert contact["properties"]["email"] == "ada.byron@analytical-engines.example"
    assert (contact["properties"]["firstname"], contact["properties"]["lastname"]) == ("Ada", "Byron")
    with engine.connect() as connection:
        consent = connection.execute(
            sa.text("select granted, channel, text_version, user_agent from consent_events")
        ).one()
        payload = connection.execute(sa.text("select payload from raw_leads")).scalar_one()
    assert (consent.granted, consent.channel, consent.text_version) == (True, "email", "example-1")
    assert "Chrome" in consent.user_agent
    assert payload["utm_source"] == "newsletter"
    assert payload["landing_page"] == f"{process.url}/example"  # not the key, which stands in the page's address


def test_a_key_may_be_typed_into_the_page(browser: Chromium, process: Process, engine: sa.Engine):
    page = browser.tab(f"{process.url}/example")
    page.type_into("#key", key_of(engine))
    page.click("form.key button")
    page.wait_for("window.leads && document.querySelector('form.contact')")
    assert "Posts as website of acme." in page.run("document.body.textContent")
    assert page.complaints == []
    page.close()


def test_the_page_works_without_scripts(browser: Chromium, process: Process, engine: sa.Engine):
    page = browser.tab()
    page.call("Emulation.setScriptExecutionDisabled", value=True)
    page.call("Page.navigate", url=f"{process.url}/example?key={key_of(engine, 'webinar')}")
    fill_in(page)
    page.click("form.contact button")
    wait_until(lambda: "/v1/in/acme/webinar" in page.address())
    with engine.connect() as connection:
        (payload,) = connection.execute(sa.text("select payload from buffer")).scalars().all()
    assert payload["email"] == "ada.byron@analytical-engines.example"
    assert payload["consent_email"] == "on"
    assert page.complaints == []
    page.close()


@pytest.mark.parametrize("path", ["/docs", "/example", "/example?key=lp_0_none"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_page_breaks_its_own_policy_or_is_wider_than_a_phone(
    browser: Chromium, process: Process, path: str, scheme: str
):
    page = browser.tab()
    page.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    page.call("Emulation.setDeviceMetricsOverride", width=360, height=700, deviceScaleFactor=1, mobile=True)
    page.go(process.url + path)
    assert page.run("document.documentElement.scrollWidth") <= 360
    assert page.complaints == []
    page.close()
