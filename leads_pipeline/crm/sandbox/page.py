"""The sandbox's face: one server-rendered page that renews itself. No resource comes from anywhere else."""

from datetime import datetime
from html import escape
from typing import Any

from leads_pipeline.crm.sandbox.vendor import ShownContact

_STYLE = """
:root{--ink:#1d2733;--soft:#66727f;--line:#e3e8ee;--paper:#f6f8fa;--card:#fff;--accent:#e8613c;--good:#1f9d63;--bad:#c93a3a}
@media (prefers-color-scheme:dark){:root{--ink:#e8edf2;--soft:#94a1ae;--line:#2a3440;--paper:#12181f;--card:#1a222b}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:15px/1.5 system-ui,-apple-system,"Segoe UI",sans-serif}
main{max-width:1080px;margin:0 auto;padding:2rem 1.25rem 3rem}
header{display:flex;align-items:baseline;gap:.75rem;flex-wrap:wrap;margin-bottom:1.25rem}
h1{font-size:1.5rem;margin:0;letter-spacing:-.01em}
h1 b{color:var(--accent)}
h2{font-size:.8rem;margin:0 0 .6rem;text-transform:uppercase;letter-spacing:.06em;color:var(--soft)}
.badge{font-size:.75rem;padding:.1rem .55rem;border-radius:99px;border:1px solid var(--line);color:var(--soft)}
.badge.bad{color:#fff;background:var(--bad);border-color:var(--bad)}
time{margin-left:auto;color:var(--soft);font-size:.85rem}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:.75rem;margin-bottom:.75rem}
.tile,.card{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:.85rem 1rem}
.tile strong{display:block;font-size:1.7rem;line-height:1.2;font-variant-numeric:tabular-nums;letter-spacing:-.02em}
.tile span{color:var(--soft);font-size:.85rem}
.tile.good strong{color:var(--good)}
.tile.bad strong{color:var(--bad)}
.card{margin-bottom:.75rem;overflow-x:auto}
.pair{display:grid;grid-template-columns:repeat(auto-fit,minmax(320px,1fr));gap:.75rem}
.gauge{height:10px;border-radius:5px;background:var(--line);overflow:hidden;margin:.35rem 0}
.gauge i{display:block;height:100%;background:var(--good)}
.gauge i.full{background:var(--accent)}
svg{display:block;width:100%;height:74px}
svg .in{fill:var(--line)}
svg .ok{fill:var(--good)}
table{border-collapse:collapse;width:100%;font-size:.88rem}
th,td{text-align:left;padding:.32rem .6rem .32rem 0;border-bottom:1px solid var(--line);white-space:nowrap}
th{color:var(--soft);font-weight:500}
tr:last-child td{border-bottom:0}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}
tr.gone td{color:var(--soft);text-decoration:line-through}
.soft{color:var(--soft)}
code{font:.85em ui-monospace,SFMono-Regular,Menlo,monospace}
"""
# Only <main> is replaced, so that the page neither flickers nor scrolls away; without scripts the whole page reloads.
_SCRIPT = """
setInterval(async()=>{try{const r=await fetch(location.href,{cache:"no-store"});if(!r.ok)return;
const d=new DOMParser().parseFromString(await r.text(),"text/html");
document.querySelector("main").replaceWith(d.querySelector("main"));document.title=d.title}catch(e){}},2000);
"""


def render_page(
    report: dict[str, Any],
    *,
    contacts: list[ShownContact],
    history: list[tuple[int, int]],
    faults: list[dict[str, Any]],
    now: datetime,
) -> str:
    """The page. Everything that came from outside is escaped."""
    badge = f'<span class="badge bad">{len(faults)} fault rules</span>' if faults else ""
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<noscript><meta http-equiv="refresh" content="2"></noscript>
<title>Sandbox CRM · {report["contacts"]:,} contacts</title><style>{_STYLE}</style></head>
<body><main>
<header><h1>Sandbox <b>CRM</b></h1><span class="badge">{escape(str(report["vendor"]))}</span>{badge}
<time datetime="{now.isoformat()}">{now:%H:%M:%S} UTC</time></header>
<section class="tiles">{_tiles(report)}</section>
<section class="card"><h2>Requests, last 60 seconds</h2>{_chart(history)}</section>
<section class="pair"><div class="card"><h2>Limits</h2>{_gauges(report)}</div>
<div class="card"><h2>Requests by endpoint</h2>{_counts(report["endpoints"], "No request yet.")}</div></section>
<section class="pair"><div class="card"><h2>Answers by status</h2>{_counts(report["statuses"], "No answer yet.")}</div>
<div class="card"><h2>Faults</h2>{_faults(faults)}</div></section>
<section class="card"><h2>Latest contacts</h2>{_contacts(contacts)}</section>
<p class="soft">Numbers as JSON: <code>/_sandbox/report</code> · contacts: <code>/_sandbox/contacts</code> ·
make it fail: <code>leads sandbox faults set http_500 --rate 0.1</code></p>
</main><script>{_SCRIPT}</script></body></html>
"""


def _tiles(report: dict[str, Any]) -> str:
    throttled, doubled = report["http_429"], report["duplicates"]
    tiles = (
        ("contacts", report["contacts"], ""),
        ("records written", report["records_written"], ""),
        ("requests", report["requests"], ""),
        ("refused with 429", throttled, "bad" if throttled else "good"),
        ("duplicates", doubled, "bad" if doubled else "good"),
        ("archived", report["archived"], ""),
    )
    return "".join(
        f'<div class="tile {tone}"><strong>{value:,}</strong><span>{label}</span></div>' for label, value, tone in tiles
    )


def _chart(history: list[tuple[int, int]]) -> str:
    top = max([1, *(arrived for arrived, _ in history)])
    bars = []
    for place, (arrived, admitted) in enumerate(history):
        for css, count in (("in", arrived), ("ok", admitted)):
            height = 64 * count / top
            if count:
                bars.append(
                    f'<rect class="{css}" x="{place * 10 + 1}" y="{70 - height:.1f}" '
                    f'width="8" height="{height:.1f}" rx="1.5"/>'
                )
    label = f"busiest second: {top if bars else 0} requests"
    return (
        f'<svg viewBox="0 0 600 72" preserveAspectRatio="none" role="img" aria-label="{label}">'
        f'<rect class="in" x="0" y="70" width="600" height="1"/>{"".join(bars)}</svg>'
        f'<span class="soft">{label}; grey ones were refused</span>'
    )


def _gauges(report: dict[str, Any]) -> str:
    windows = "".join(
        _gauge(f"Most in any {window['seconds']:g} s", window["max_accepted"], window["limit"])
        for window in report["windows"]
    )
    return windows + _gauge("Today", report["accepted_today"], report["daily_limit"])


def _gauge(label: str, value: int, limit: int | None) -> str:
    if limit is None:
        return f"<p>{label}: <strong>{value:,}</strong> <span class='soft'>no limit</span></p>"
    share = min(100.0, 100 * value / limit)
    tone = "full" if value >= limit else ""
    return (
        f"<div>{label}: <strong>{value:,}</strong> <span class='soft'>of {limit:,}</span>"
        f'<div class="gauge"><i class="{tone}" style="width:{share:.1f}%"></i></div></div>'
    )


def _counts(counts: dict[str, int], nothing: str) -> str:
    if not counts:
        return f'<p class="soft">{nothing}</p>'
    rows = "".join(f'<tr><td>{escape(name)}</td><td class="n">{count:,}</td></tr>' for name, count in counts.items())
    return f"<table>{rows}</table>"


def _faults(faults: list[dict[str, Any]]) -> str:
    if not faults:
        return '<p class="soft">Everything goes well.</p>'
    rows = ""
    for rule in faults:
        details = ", ".join(f"{name} {value}" for name, value in rule.items() if name not in ("kind", "fired"))
        rows += (
            f"<tr><td>{escape(str(rule['kind']))}</td><td class='soft'>{escape(details)}</td>"
            f"<td class='n'>{rule['fired']:,} ×</td></tr>"
        )
    return f"<table>{rows}</table>"


def _contacts(contacts: list[ShownContact]) -> str:
    if not contacts:
        return '<p class="soft">No contact yet. Post a lead, and it appears here.</p>'
    rows = ""
    for contact in contacts:
        cells = (
            contact.crm_record_id, contact.name, contact.email, contact.phone, contact.company,
            contact.written_at[11:19],
        )  # fmt: skip
        gone = ' class="gone"' if contact.archived else ""
        row = "".join(f"<td>{escape(cell or '–')}</td>" for cell in cells)
        rows += f"<tr{gone}>{row}</tr>"
    head = "<tr><th>Id</th><th>Name</th><th>E-mail</th><th>Phone</th><th>Company</th><th>Written</th></tr>"
    return f"<table>{head}{rows}</table>"
