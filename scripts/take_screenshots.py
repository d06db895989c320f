"""Take the pictures of Dagster's UI in docs/images from the running product.

    python scripts/take_screenshots.py [--into docs/images]

Starts the product with a database of its own, posts invented leads, waits until they are at the sandbox CRM, and opens
the real UI in headless Chromium (Debian's ``chromium``). Everything is on 127.0.0.1 and ends with the script.
"""

import argparse
import base64
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from leads_pipeline_tests.browser.chromium import Page, chromium  # noqa: E402 - found by the line above
from leads_pipeline_tests.browser.cockpit import Cockpit, cockpit, person  # noqa: E402

# file: path in the UI, a word that stands on the page once it is complete, width, height
PAGES = {
    "dagster-lineage.png": (
        "/assets/crm_sync_batches?view=lineage&lineageScope=upstream&lineageDepth=9",
        "raw_leads",
        1600,
        700,
    ),
    "dagster-checks.png": ("/assets/crm_sync_batches?view=checks&checkDetail=conservation", "Plots", 1400, 2100),
    "dagster-numbers.png": ("/assets/raw_leads?view=events", "leads_per_second", 1400, 900),
    "dagster-automation.png": ("/automation", "leads_waiting", 1400, 900),
}


def fill(running: Cockpit) -> None:
    """Several micro-batches of different sizes, so that plots have points, and the checks."""
    posted = 0
    for size in (5, 40):
        before = running.ended("near_real_time")
        running.post([person(posted + number) for number in range(size)])
        posted += size
        running.wait_until(lambda before=before: running.ended("near_real_time") > before)
    running.wait_until(lambda: running.count("select count(*) from leads.outbox where state = 'delivered'") > 0)
    running.wait_until(lambda: running.ended("delivery") > 0)
    running.launch("slo_checks")


def take(page: Page, url: str, word: str, width: int, height: int) -> bytes:
    """A picture of a page once it shows a word."""
    page.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
    page.call("Page.navigate", url=url)  # the UI may add to the address, so it is not waited for
    page.wait_for(f"document.body.innerText.includes({word!r})", seconds=120)
    time.sleep(4)  # charts and the graph's layout are drawn after their words
    return base64.b64decode(page.call("Page.captureScreenshot", format="png")["data"])


def main() -> None:
    """Start, fill, take, stop."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--into", type=Path, default=ROOT / "docs" / "images", help="the directory of the pictures")
    parser.add_argument("--analytics", action="store_true", help="with the location of the dbt models")
    arguments = parser.parse_args()
    arguments.into.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix="screenshots-") as directory,
        cockpit(Path(directory), analytics=arguments.analytics) as running,
    ):
        fill(running)
        profile = Path(directory) / "profile"
        profile.mkdir()
        with chromium(profile) as browser:
            page = browser.tab()
            for name, (path, word, width, height) in PAGES.items():
                (arguments.into / name).write_bytes(take(page, running.url + path, word, width, height))
                print(f"wrote {name}", flush=True)


if __name__ == "__main__":
    main()
