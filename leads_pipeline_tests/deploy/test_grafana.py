"""deploy/grafana: dashboards as they are written by the script, on metrics that there are."""

import json
import re
import runpy
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from leads_pipeline_tests.deploy.programs import promtool  # noqa: F401 - a fixture
from leads_pipeline_tests.deploy.told import metrics_in, names_told

ROOT = Path(__file__).resolve().parents[2]
HERE = ROOT / "deploy/grafana"
script = runpy.run_path(str(ROOT / "scripts/write_dashboards.py"))
NAMES = sorted(script["DASHBOARDS"])


def expressions(name: str) -> list[str]:
    return [target["expr"] for panel in script["dashboard"](name)["panels"] for target in panel["targets"]]


def test_the_dashboards_are_up_to_date_and_there_are_no_others():
    assert sorted(path.stem for path in (HERE / "dashboards").glob("*.json")) == NAMES
    for name in NAMES:
        written = (HERE / f"dashboards/{name}.json").read_text(encoding="utf-8")
        assert written == script["as_file"](name), "run: python scripts/write_dashboards.py"


@pytest.mark.parametrize("name", NAMES)
def test_every_panel_asks_for_metrics_that_are_told(name):
    rules = yaml.safe_load((ROOT / "deploy/prometheus/rules/recording.yaml").read_text(encoding="utf-8"))
    recorded = {rule["record"] for group in rules["groups"] for rule in group["rules"]}

    for expression in expressions(name):
        asked = metrics_in(expression)
        assert asked, expression
        assert asked <= names_told() | recorded, expression


def test_prometheus_can_read_every_query(promtool, tmp_path):  # noqa: F811
    asked = [expression for name in NAMES for expression in expressions(name)]
    plain = [re.sub(r"\$__rate_interval", "5m", expression) for expression in asked]
    rules = [{"record": f"panel:{place}", "expr": expression} for place, expression in enumerate(plain)]
    path = tmp_path / "queries.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}), encoding="utf-8")
    done = subprocess.run(
        [promtool, "check", "rules", "--lint=none", str(path)], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", NAMES)
def test_panels_lie_side_by_side_and_each_has_its_own_number(name):
    def cells(panel: dict[str, Any]) -> set[tuple[int, int]]:
        at = panel["gridPos"]
        return {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}

    panels = json.loads((HERE / f"dashboards/{name}.json").read_text(encoding="utf-8"))["panels"]
    covered = [cell for panel in panels for cell in cells(panel)]
    assert len(covered) == len(set(covered))
    assert all(x < 24 for x, _y in covered)
    assert len({panel["id"] for panel in panels}) == len(panels)


def test_grafana_finds_the_dashboards_where_compose_puts_them_and_its_source():
    [provider] = yaml.safe_load((HERE / "provisioning/dashboards/leads.yaml").read_text(encoding="utf-8"))["providers"]
    [source] = yaml.safe_load((HERE / "provisioning/datasources/prometheus.yaml").read_text("utf-8"))["datasources"]
    compose = yaml.safe_load((ROOT / "deploy/compose.yaml").read_text(encoding="utf-8"))

    assert f"./grafana/dashboards:{provider['options']['path']}:ro" in compose["services"]["grafana"]["volumes"]
    assert source["url"].removeprefix("http://").partition(":")[0] in compose["services"]
