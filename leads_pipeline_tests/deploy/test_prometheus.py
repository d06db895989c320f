"""deploy/prometheus: rules that Prometheus takes, that fire when they should, on metrics that there are."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from leads_pipeline.config.objectives import DEFAULTS
from leads_pipeline_tests.deploy.programs import promtool  # noqa: F401 - a fixture
from leads_pipeline_tests.deploy.told import metrics_in, names_told

ROOT = Path(__file__).resolve().parents[2]
HERE = ROOT / "deploy/prometheus"

PLAYBOOKS = {path.stem for path in (ROOT / "docs/playbooks").glob("*.md")} - {"README"}


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, cwd=HERE / "rules")
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def rules(name: str) -> list[dict[str, Any]]:
    groups = yaml.safe_load((HERE / "rules" / name).read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def alerts() -> list[dict[str, Any]]:
    return rules("alerts.yaml")


def test_prometheus_takes_the_configuration_and_all_rules(promtool):  # noqa: F811
    assert "SUCCESS" in run(promtool, "check", "config", "../prometheus.yml")
    assert "SUCCESS" in run(promtool, "check", "rules", "--lint-fatal", "recording.yaml", "alerts.yaml")


def test_the_alerts_fire_when_they_should_and_not_when_they_should_not(promtool):  # noqa: F811
    assert "SUCCESS" in run(promtool, "test", "rules", "tests.yaml")


@pytest.mark.parametrize("name", ["recording.yaml", "alerts.yaml"])
def test_every_rule_is_about_metrics_that_are_told(name):
    recorded = {rule["record"] for rule in rules("recording.yaml")}
    asked = {metric for rule in rules(name) for metric in metrics_in(rule["expr"])}

    assert asked - names_told() - recorded == set()


def test_recorded_rules_are_all_used():
    used = "".join(rule["expr"] for rule in alerts())
    assert [rule["record"] for rule in rules("recording.yaml") if rule["record"] not in used] == []


@pytest.mark.parametrize("slo", ["real_time_in_crm", "verified_in_time", "delivered_in_a_day"])
def test_limits_and_objectives_are_those_that_are_promised_by_default(slo):
    promised = DEFAULTS[slo]
    own = [rule for rule in rules("recording.yaml") if rule["labels"]["slo"] == slo]
    late = [rule["expr"] for rule in own if "leads_late" in rule["record"]]

    assert len(late) == 6
    assert {re.search(r'le="([^"]+)"', expr)[1] for expr in late} == {str(float(promised["within_seconds"]))}
    assert {re.search(r'stage="([^"]+)"', expr)[1] for expr in late} == {promised["stage"]}
    lanes = {lane for expr in late for told in re.findall(r'lane=~?"([^"]+)"', expr) for lane in told.split("|")}
    assert lanes == set(promised.get("lanes", ()))
    assert [rule["expr"] for rule in own if "objective" in rule["record"]] == [f"vector({promised['objective']})"]


def test_every_alert_says_how_bad_it_is_what_is_so_and_which_playbook_to_open():
    for rule in alerts():
        assert rule["labels"]["severity"] in ("page", "ticket", "none"), rule["alert"]
        assert rule["annotations"]["summary"], rule["alert"]
        assert playbooks(rule), rule["alert"]
        assert playbooks(rule) <= PLAYBOOKS, rule["alert"]


def playbooks(rule: dict[str, Any]) -> set[str]:
    """The pages that an alert may link to."""
    url = rule["annotations"]["runbook_url"]
    assert url.startswith("{{ $externalLabels.leads_docs }}/playbooks/")
    assert url.endswith(".md")
    page = url.removeprefix("{{ $externalLabels.leads_docs }}/playbooks/").removesuffix(".md")
    return set(re.findall(r"(?:^|\}\})([a-z-]+)", page))
