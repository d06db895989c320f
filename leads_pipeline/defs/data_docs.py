"""Great Expectations' data docs: one page per group that was examined, an index, and nothing that is fetched.

Its pages load styles, scripts and pictures from six hosts and carry a fingerprint of the rows. Both are taken out, a
small style sheet is put in, and a policy in the page forbids the browser to load anything. The pages hold rules,
counts and shares; results are asked for without values, and errors are left out because they may quote one.
"""

import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from html import escape
from pathlib import Path
from typing import Any

from leads_pipeline.domain.expectations import Group
from leads_pipeline.telemetry import get_logger

log = get_logger(__name__)

# The batch job runs every hour: two days of it.
RUNS_KEPT = 48

_INDEX = "index.html"

# Everything that makes a browser fetch or run something, and the footer that advertises.
_FETCHING = re.compile(
    r"<script\b.*?</script\s*>|<link\b[^>]*>|<img\b[^>]*>|<footer\b.*?</footer\s*>|<base\b[^>]*>"
    r"|url\([^)]*\)|@import[^;]*;",
    re.DOTALL | re.IGNORECASE,
)
# A link to a page that is not written, and what there is none of here.
_DEAD = re.compile(r'<a href="[^"]*/expectations/[^"]*"\s*>(.*?)</a>|<br>\s*Data asset: None', re.DOTALL)
# What only works with the scripts, and what tells of the machinery rather than of the leads.
_IDLE = re.compile(r'\s(?:onclick|data-toggle|data-search|data-sortable|data-icon-size)="[^"]*"', re.IGNORECASE)
_FINGERPRINT = re.compile(r"\b[0-9a-f]{32}\b")

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
_STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.45 system-ui, sans-serif; margin: 0 auto; max-width: 70rem; padding: 1rem; }
h1 { font-size: 1.4rem; } h4, h5, h6 { margin: .4rem 0; font-size: 1.05rem; }
table { border-collapse: collapse; width: 100%; margin: .4rem 0 1rem; }
td, th { border-bottom: 1px solid #8884; padding: .3rem .6rem; text-align: left; vertical-align: top; }
ol, .nav { list-style: none; padding: 0; margin: 0; }
.sticky, .breadcrumb-item + .breadcrumb-item, .collapse, [aria-controls] { display: none; }
.ge-section { margin-bottom: .5rem !important; padding: 0 !important; }
.alert { border-left: 4px solid #8888; padding: .3rem .8rem; background: #8881; }
.badge { background: #8883; border-radius: 4px; padding: 0 .3rem; font-family: ui-monospace, monospace; }
.text-danger, .broken { color: #b3261e; } .text-success, .met { color: #1b7a3d; }
@media (prefers-color-scheme: dark) {
  .text-danger, .broken { color: #ff8a80; } .text-success, .met { color: #7bd88f; }
}
.fa-times::before { content: "✗"; } .fa-check-circle::before { content: "✓"; }
.fa-exclamation-triangle::before { content: "!"; } .fas { font-style: normal; font-weight: 700; }
"""
_HEAD = (
    f'<meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
    f'<meta name="referrer" content="no-referrer"><style>{_STYLE}</style>'
)


@dataclass(frozen=True, slots=True)
class Page:
    """One group's report: Great Expectations' result, and what it comes to. ``broken``: names of rules."""

    group: Group
    report: Any
    rows: int
    rules: int
    broken: tuple[str, ...]

    @property
    def name(self) -> str:
        """Its file. Names of tenants and sources are made of letters, digits, ``_`` and ``-``."""
        return f"{self.group.tenant}.{self.group.source}.{self.group.day}.html"


def write_data_docs(directory: Path, pages: Sequence[Page], *, run_id: str, now: datetime) -> Path | None:
    """Write a run's pages below ``directory`` and return their index; the newest ``RUNS_KEPT`` runs stay.

    Returns ``None`` where there is nothing to show or the disk does not take it: that must not hold up any lead.
    """
    if not pages:
        return None
    target = directory / f"{now:%Y%m%dT%H%M%S%f}-{run_id}"
    try:
        target.mkdir(parents=True, exist_ok=True)
        for page in pages:
            (target / page.name).write_text(_page(page), encoding="utf-8")
        (target / _INDEX).write_text(_index(pages, run_id=run_id, now=now), encoding="utf-8")
        runs = sorted(path for path in directory.iterdir() if path.is_dir())
        for old in runs[:-RUNS_KEPT]:
            shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        log.error("data_docs_not_written", why=type(error).__name__, errno=error.errno)  # noqa: TRY400 - no traceback where rows may be quoted
        return None
    return target / _INDEX


def _page(page: Page) -> str:
    from great_expectations.render.renderer.page_renderer import ValidationResultsPageRenderer  # noqa: PLC0415 - heavy
    from great_expectations.render.view.view import DefaultJinjaPageView  # noqa: PLC0415 - heavy

    for result in page.report.results:
        if (observed := result.result.get("observed_value")) is not None:
            result.result["observed_value"] = float(observed)  # the renderer takes numpy's numbers for no numbers
        if _raised(result.exception_info):
            result.exception_info = {
                "raised_exception": True,
                "exception_message": "withheld: it may quote a value",
                "exception_traceback": "",
            }
    # Great Expectations leaves these two untyped.
    renderer: Any = ValidationResultsPageRenderer(run_info_at_end=False)
    view: Any = DefaultJinjaPageView()
    return self_contained(view.render(renderer.render(page.report)), title=str(page.group))


def _raised(exception_info: Mapping[str, Any] | None) -> bool:
    """Whether an expectation failed to come to a result; it tells so itself, or for each metric that it needed."""
    if not exception_info:
        return False
    if "raised_exception" in exception_info:
        return bool(exception_info["raised_exception"])
    return any(isinstance(item, Mapping) and _raised(item) for item in exception_info.values())


def self_contained(html: str, *, title: str) -> str:
    """A page of Great Expectations without anything that a browser would fetch, and without the rows' fingerprint."""
    text = _FINGERPRINT.sub("", _IDLE.sub("", _FETCHING.sub("", html)))
    text = _DEAD.sub(lambda found: found[1] or "", text)
    text = re.sub(r"<title>.*?</title>", "", text, flags=re.DOTALL)
    text = re.sub(r"<nav\b.*?</nav>", "", text, count=1, flags=re.DOTALL)
    text = text.replace("<head>", f"<head>{_HEAD}<title>{escape(title)}</title>", 1)
    return text.replace(
        "<body>", f'<body><p><a href="{_INDEX}">All groups of this run</a></p><h1>{escape(title)}</h1>', 1
    )


def _index(pages: Sequence[Page], *, run_id: str, now: datetime) -> str:
    rows = "".join(
        f'<tr><td><a href="{escape(page.name)}">{escape(page.group.tenant)}/{escape(page.group.source)}</a></td>'
        f"<td>{page.group.day}</td><td>{page.rows:,}</td><td>{page.rules}</td>"
        f'<td class="{"broken" if page.broken else "met"}">{", ".join(page.broken) or "none"}</td></tr>'
        for page in sorted(pages, key=lambda item: (not item.broken, item.group))
    )
    return (
        f'<!DOCTYPE html><html lang="en"><head>{_HEAD}<title>Validated leads</title></head><body>'
        f"<h1>Validated leads about to be matched</h1><p>Examined {now:%Y-%m-%d %H:%M} UTC in run {escape(run_id)}.</p>"
        "<table><thead><tr><th>source</th><th>received on (UTC)</th><th>rows</th><th>rules</th><th>broken rules</th>"
        f"</tr></thead><tbody>{rows}</tbody></table></body></html>\n"
    )
