"""Dagster's real UI over the running product, in a real Chromium."""

from collections.abc import Iterator

import pytest

from leads_pipeline.domain.stage import Stage
from leads_pipeline_tests.browser.chromium import Chromium, Page
from leads_pipeline_tests.browser.cockpit import Cockpit, cockpit, person

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, one_browser: Chromium) -> Iterator[Cockpit]:
    """A product that has brought a lead to the CRM and has run its checks."""
    assert one_browser
    with cockpit(tmp_path_factory.mktemp("cockpit"), analytics=False) as product:
        product.post([person(1), person(2)])
        product.wait_until(lambda: product.count("select count(*) from leads.outbox where state = 'delivered'") == 2)
        product.launch("slo_checks")
        yield product


def opened(browser: Chromium, url: str) -> Page:
    """A tab on its way to an address, to which the UI may add."""
    page = browser.tab()
    page.call("Page.navigate", url=url)
    return page


def test_the_lineage_shows_every_stage_and_nothing_is_loaded_from_elsewhere(
    running: Cockpit, browser: Chromium
) -> None:
    page = opened(browser, f"{running.url}/assets/crm_sync_batches?view=lineage&lineageScope=upstream&lineageDepth=9")
    for stage in Stage:
        page.wait_for(f"document.body.innerText.includes('{stage}')")
    elsewhere = [r["url"] for r in page.requests if not r["url"].startswith((running.url, "data:", "blob:"))]
    assert elsewhere == []


def test_the_checks_page_shows_the_promises_and_their_verdicts(running: Cockpit, browser: Chromium) -> None:
    page = opened(browser, f"{running.url}/assets/crm_sync_batches?view=checks")
    for check in ("conservation", "delivery_success", "runs_succeed"):
        page.wait_for(f"document.body.innerText.includes('{check}')")
    page.wait_for("document.body.innerText.includes('Passed')")
