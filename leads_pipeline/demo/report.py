"""The tables that a demo prints."""

from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

_STATE_WORDS = {
    "delivered": "in the CRM: founded its contact",
    "merged": "in the CRM: joined a contact",
    "rejected": "unusable: kept, with the reasons",
    "pending": "on the way",
    "dead": "the CRM refuses it: a dead letter",
    "suppressed": "must not be sent",
    "discarded": "taken out by an operator",
    "erased": "deleted on request",
}


def print_figures(console: Console, figures: dict[str, Any]) -> None:
    """Where the leads are, who they are, what the CRM saw, and how long it took."""
    leads = _table("Leads")
    leads.add_row("captured through the door", _number(figures["captured"]), "acknowledged after the commit")
    leads.add_row("re-posts recognised", _number(figures["duplicates_posted"]), "answered with the first lead's id")
    for state, words in _STATE_WORDS.items():
        if figures[state] or state in ("delivered", "merged", "rejected", "pending"):
            leads.add_row(f"  {state}", _number(figures[state]), words)
    law = "holds: the states add up" if figures["conserved"] else "BROKEN"
    leads.add_row("conservation", "", law)
    console.print(leads)

    verification = figures["verification"]
    checked = _table("Verification")
    checked.add_row("look-ups wanted", _number(verification["lookups"]), "domains by DNS, mailboxes by a provider")
    for standing in ("valid", "risky", "invalid", "unknown"):
        checked.add_row(f"  {standing}", _number(verification[standing]), "")
    checked.add_row(
        "paid for", _number(verification["paid"]), f"{verification['calls']} calls, {verification['cost']:.2f} dollars"
    )
    checked.add_row("spared by triage", _number(verification["spared_by_triage"]), "mailboxes not worth their price")
    checked.add_row("spared by sharing", _number(verification["spared_by_sharing"]), "one call for several leads")
    checked.add_row("not billed", _number(verification["free"]), "the provider could not tell")
    console.print(checked)

    identity = _table("Identity")
    identity.add_row(
        "golden contacts", _number(figures["contacts"]), f"from {_number(figures['validated'])} valid leads"
    )
    if figures["matching"]:
        matching = figures["matching"]
        identity.add_row("precision", f"{matching['precision']:.3f}", "right among pairs put together")
        identity.add_row("recall", f"{matching['recall']:.3f}", "found among pairs that belong")
        identity.add_row("F1", f"{matching['f1']:.3f}", "pairwise, valid leads, known truth")
    console.print(identity)

    crm = figures["crm"]
    seen = _table("Sandbox CRM, by its own count")
    seen.add_row("requests", _number(crm["requests"]), f"{_number(crm['records'])} records written")
    seen.add_row("most in any 10 s", _number(crm["max_requests_in_any_10s"]), f"{crm['limit']} allowed")
    seen.add_row("refused with 429", _number(crm["http_429"]), "")
    console.print(seen)

    times = _table("Time")
    latency = figures["latency_seconds"]
    for name in ("p50", "p95", "p99"):
        if latency[name] is not None:
            times.add_row(f"door to CRM, {name}", f"{latency[name]:.1f} s", "per lead" if name == "p50" else "")
    for stage, seconds in figures["seconds"].items():
        times.add_row(stage, f"{seconds:.1f} s", "")
    console.print(times)


def _table(title: str) -> Table:
    table = Table(
        title=title, title_justify="left", title_style="bold", box=box.SIMPLE, show_header=False, pad_edge=False
    )
    table.add_column(min_width=26)
    table.add_column(justify="right", min_width=10)
    table.add_column(style="dim")
    return table


def _number(value: int) -> str:
    return f"{value:,}"
