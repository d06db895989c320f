"""Write the dashboards of deploy/grafana: what each panel shows, without what Grafana wants beside it.

``python scripts/write_dashboards.py`` writes them; a test fails when they are out of date, or ask for what is not told.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent.parent / "deploy/grafana/dashboards"
SOURCE = {"type": "prometheus", "uid": "${source}"}
WIDTH, HEIGHT = 24, 8
OF_TENANT = 'tenant=~"$tenant"'


@dataclass(frozen=True, slots=True)
class Panel:
    """One plot: a query for each legend. ``unit`` is Grafana's: s, percentunit, short …"""

    title: str
    queries: dict[str, str]
    unit: str = "short"
    text: str = ""
    kind: str = "timeseries"
    width: int = 12
    # (from this value on, colour)
    steps: tuple[tuple[float, str], ...] = ()


def quantile(share: float, labels: str, by: str) -> str:
    """Of latencies over the panel's own interval."""
    rate = f"sum by ({by}, le) (rate(leads_latency_seconds_bucket{{{labels},{OF_TENANT}}}[$__rate_interval]))"
    return f"histogram_quantile({share}, {rate})"


def per_minute(counter: str, by: str, labels: str = OF_TENANT) -> str:
    """How much a counter grows in a minute."""
    return f"60 * sum by ({by}) (rate({counter}{{{labels}}}[$__rate_interval]))"


def per_second(counter: str, by: str) -> str:
    """How much a counter grows in a second."""
    return f"sum by ({by}) (rate({counter}[$__rate_interval]))"


LOOKUP_AGE = "leads_verification_oldest_seconds"
COMMITS = per_second("leads_capture_commit_seconds_bucket", "le")
GOOD_BAD = ((0, "green"), (1, "red"))

DASHBOARDS: dict[str, tuple[str, tuple[Panel, ...]]] = {
    "pipeline": (
        "Leads: the pipeline",
        (
            Panel(
                "Promises that are burning or broken",
                {"{{slo}} {{tenant}} {{lane}} {{verdict}}": 'leads_slo_verdict{verdict=~"burning|broken"} == 1'},
                text="Empty is good. `leads slo list` says what was promised.",
                kind="stat",
            ),
            Panel(
                "Gates closed, rules in force, alerts open",
                {
                    "gates": "sum(leads_quality_gate_closed) or vector(0)",
                    "rules": "sum(leads_policy_actions_in_force) or vector(0)",
                    "alerts": "sum(leads_alerts_open) or vector(0)",
                    "workers wanted": "leads_scale_workers",
                },
                kind="stat",
                steps=((0, "green"), (1, "orange")),
            ),
            Panel("Leads captured, a minute", {"{{lane}}": per_minute("leads_captured_total", "lane")}),
            Panel(
                "From capture to the CRM",
                {
                    "P50 {{lane}}": quantile(0.5, 'stage="delivered"', "lane"),
                    "P95 {{lane}}": quantile(0.95, 'stage="delivered"', "lane"),
                    "P99 {{lane}}": quantile(0.99, 'stage="delivered"', "lane"),
                },
                unit="s",
            ),
            Panel(
                "P95 from capture, by stage, real-time lane",
                {"{{stage}}": quantile(0.95, 'lane="real_time"', "stage")},
                unit="s",
            ),
            Panel(
                "Leads through a stage, a minute",
                {"{{stage}}": per_minute("leads_latency_seconds_count", "stage")},
            ),
            Panel("Waiting", {"{{stage}} {{lane}}": f"sum by (stage, lane) (leads_queue_leads{{{OF_TENANT}}})"}),
            Panel(
                "The oldest waits for",
                {"{{stage}} {{lane}}": f"max by (stage, lane) (leads_queue_oldest_seconds{{{OF_TENANT}}})"},
                unit="s",
            ),
            Panel(
                "Rejected, share of what was captured",
                {
                    "{{tenant}}": f"sum by (tenant) (increase(leads_rejected_total{{{OF_TENANT}}}[1h])) "
                    f"/ (sum by (tenant) (increase(leads_captured_total{{{OF_TENANT}}}[1h])) > 0)"
                },
                unit="percentunit",
            ),
            Panel(
                "What became of leads, a day",
                {"{{tenant}} {{kind}}": f"sum by (tenant, kind) (increase(leads_outcomes_total{{{OF_TENANT}}}[1d]))"},
            ),
        ),
    ),
    "delivery": (
        "Leads: delivery and verification",
        (
            Panel(
                "Contacts delivered, retried, dead; a minute",
                {"{{destination}} {{result}}": per_minute("leads_delivery_records_total", "destination, result", "")},
            ),
            Panel(
                "Requests by answer, a minute",
                {"{{destination}} {{answer}}": per_minute("leads_delivery_requests_total", "destination, answer", "")},
            ),
            Panel(
                "Verdicts of the last five minutes",
                {"{{verdict}}": f"sum by (verdict) (leads_delivery_recent_attempts{{{OF_TENANT}}})"},
            ),
            Panel(
                "Quota left of the day",
                {"{{account}} {{unit}}": "leads_quota_left / leads_quota_limit"},
                unit="percentunit",
            ),
            Panel(
                "Used by other applications",
                {"{{account}} {{unit}}": "leads_quota_used_by_others"},
            ),
            Panel(
                "Left alone, paused",
                {
                    "{{destination}} breaker": "leads_destination_breaker_open",
                    "{{account}} paused for s": "leads_limiter_paused_seconds",
                    "{{account}} share of short limits": "leads_limiter_scale_ratio",
                },
            ),
            Panel(
                "Contacts that wait for somebody",
                {"{{tenant}} {{destination}}": f"leads_dead_contacts{{{OF_TENANT}}}"},
            ),
            Panel("Look-ups that wait", {"{{tier}} {{lookup}}": "leads_verification_waiting"}),
            Panel("The oldest look-up waits for", {"{{tier}} {{lookup}}": LOOKUP_AGE}, unit="s"),
            Panel(
                "Calls to providers, by what came of them",
                {"{{provider}} {{outcome}}": "leads_verification_recent_calls"},
                text="Of the last five minutes.",
            ),
            Panel("Providers that cannot be asked", {"{{provider}}": "leads_provider_stopped"}, steps=GOOD_BAD),
            Panel("Spent this day", {"{{provider}}": 'leads_provider_spent{period="day"}'}),
        ),
    ),
    "promises": (
        "Leads: promises and rules",
        (
            Panel(
                "Error budget left",
                {"{{slo}} {{tenant}} {{lane}}": f"leads_slo_budget_left_ratio{{{OF_TENANT}}}"},
                unit="percentunit",
                steps=((-1, "red"), (0, "orange"), (0.25, "green")),
            ),
            Panel(
                "Burn rate",
                {"{{slo}} {{tenant}} {{window_seconds}} s": f"leads_slo_burn_rate{{{OF_TENANT}}}"},
                text="1 spends the budget exactly within its window; 14.4 a month's in two days.",
            ),
            Panel("As last measured", {"{{slo}} {{tenant}} {{lane}}": f"leads_slo_value{{{OF_TENANT}}}"}),
            Panel(
                "Late, share of an hour, as Prometheus counts it",
                {"{{slo}} {{tenant}}": f"slo_tenant:leads_late:ratio_rate1h{{{OF_TENANT}}}"},
                unit="percentunit",
            ),
            Panel(
                "Rules in force",
                {"{{policy}}: {{action}} {{tenant}} {{lane}} {{destination}}": "leads_policy_actions_in_force"},
            ),
            Panel(
                "How often rules acted, a day",
                {"{{policy}}: {{action}}": "sum by (policy, action) (increase(leads_policy_actions_total[1d]))"},
            ),
            Panel("Gates closed", {"{{gate}} {{tenant}} {{lane}}": f"leads_quality_gate_closed{{{OF_TENANT}}}"}),
            Panel(
                "Leads in no state, contacts that share an address",
                {"{{slo}} {{tenant}}": f'leads_slo_value{{slo=~"conservation|duplicate_contacts",{OF_TENANT}}}'},
                steps=GOOD_BAD,
            ),
            Panel("Workers wanted", {"workers": "leads_scale_workers"}),
            Panel("Alerts open", {"{{source}} {{severity}}": "leads_alerts_open"}),
            Panel("Notices that wait to be sent", {"{{channel}}": "leads_alert_notices_waiting"}),
            Panel(
                "Since promises were evaluated",
                {"seconds": "time() - leads_slo_evaluated_timestamp_seconds"},
                unit="s",
                steps=((0, "green"), (600, "red")),
            ),
            Panel("Metrics that cannot be read", {"{{part}}": "1 - leads_metrics_part_ok"}),
        ),
    ),
    "door": (
        "Leads: the door and the buffer",
        (
            Panel(
                "Requests a second",
                {"{{route}} {{status}} {{code}}": per_second("leads_capture_requests_total", "route, status, code")},
            ),
            Panel(
                "Leads a second, by what became of them",
                {"{{tenant}} {{lane}} {{result}}": per_second("leads_capture_leads_total", "tenant, lane, result")},
            ),
            Panel(
                "A group commit takes",
                {
                    "P50": f"histogram_quantile(0.5, {COMMITS})",
                    "P99": f"histogram_quantile(0.99, {COMMITS})",
                },
                unit="s",
            ),
            Panel("How near a bound is", {"{{bound}}": "max by (bound) (leads_buffer_fill)"}, unit="percentunit"),
            Panel("Waiting in the buffer", {"{{tenant}} {{lane}}": "max by (tenant, lane) (leads_buffer_waiting)"}),
            Panel("Refusing everything", {"{{reason}}": "sum by (reason) (leads_capture_safe_mode)"}),
            Panel("Workers", {"workers": "sum(leads_capture_workers)"}),
            Panel("Connections", {"open": "sum(leads_capture_connections)"}),
            Panel("Free disk", {"free": "min(leads_buffer_disk_free_bytes)"}, unit="bytes"),
        ),
    ),
}  # fmt: skip


def dashboard(name: str) -> dict[str, Any]:
    """One dashboard as Grafana imports it."""
    title, panels = DASHBOARDS[name]
    placed, x, y = [], 0, 0
    for number, panel in enumerate(panels, start=1):
        if x + panel.width > WIDTH:
            x, y = 0, y + HEIGHT
        placed.append(_panel(number, panel, x, y))
        x += panel.width
    return {
        "uid": f"leads-{name}",
        "title": title,
        "tags": ["leads_pipeline"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "timezone": "browser",
        "templating": {"list": [_source(), _tenant()]},
        "links": [{"title": "Leads", "type": "dashboards", "tags": ["leads_pipeline"], "asDropdown": True}],
        "panels": placed,
    }


def _panel(number: int, panel: Panel, x: int, y: int) -> dict[str, Any]:
    steps = [{"value": value if place else None, "color": colour} for place, (value, colour) in enumerate(panel.steps)]
    return {
        "id": number,
        "title": panel.title,
        "description": panel.text,
        "type": panel.kind,
        "datasource": SOURCE,
        "gridPos": {"x": x, "y": y, "w": panel.width, "h": HEIGHT},
        "fieldConfig": {
            "defaults": {
                "unit": panel.unit,
                "thresholds": {"mode": "absolute", "steps": steps or [{"value": None, "color": "green"}]},
                **({"color": {"mode": "thresholds"}} if panel.kind == "stat" else {}),
            },
            "overrides": [],
        },
        "targets": [
            {"refId": chr(ord("A") + place), "datasource": SOURCE, "expr": expression, "legendFormat": legend}
            for place, (legend, expression) in enumerate(panel.queries.items())
        ],
    }


def _source() -> dict[str, Any]:
    return {"name": "source", "label": "Prometheus", "type": "datasource", "query": "prometheus", "current": {}}


def _tenant() -> dict[str, Any]:
    query = "label_values(leads_captured_total, tenant)"
    return {
        "name": "tenant", "label": "Tenant", "type": "query", "datasource": SOURCE,
        "query": {"query": query, "refId": "t"},
        "definition": query, "refresh": 2, "multi": True, "includeAll": True, "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
    }  # fmt: skip


def as_file(name: str) -> str:
    """The file's text."""
    return json.dumps(dashboard(name), indent=1) + "\n"


def main() -> None:
    """Write every dashboard."""
    for name in DASHBOARDS:
        path = HERE / f"{name}.json"
        if not path.exists() or path.read_text(encoding="utf-8") != as_file(name):
            path.write_text(as_file(name), encoding="utf-8")
            print(f"wrote deploy/grafana/dashboards/{name}.json")


if __name__ == "__main__":
    main()
