"""The code location ``analytics``: its manifest, its lineage, its automation."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

from leads_pipeline import analytics
from leads_pipeline.config import CONFIG_VARIABLE, inherited_environment, parse_settings
from leads_pipeline.errors import ConfigError
from leads_pipeline_tests.conftest import LEADS_YAML

MARTS = (
    "capacity_heat_map",
    "contacts_for_analysts",
    "identity_quality",
    "lead_funnel",
    "loss_avoided",
    "rescued_leads",
    "slo_daily",
    "source_quality",
    "stage_hours",
    "sync_health",
)
# What is measured of the flow, beside the assets of the hot chain.
MEASURED = {"latency_histograms", "slo_history"}


@pytest.fixture
def definitions(manifest: Path) -> dg.Definitions:
    return analytics.build_defs(manifest)


def test_the_marts_descend_from_the_assets_of_the_hot_chain(definitions):
    graph = definitions.resolve_asset_graph()
    for mart in MARTS:
        ancestors, unseen = set(), [dg.AssetKey(mart)]
        while unseen:
            parents = graph.get(unseen.pop()).parent_keys
            unseen += parents - ancestors
            ancestors |= parents
        names = {key.to_user_string() for key in ancestors}
        assert names & {"golden_contacts", "deduped_leads", "crm_sync_batches"} | names & MEASURED, mart
    assert graph.get(dg.AssetKey("stg_golden_contacts")).parent_keys == {dg.AssetKey("golden_contacts")}


def test_every_mart_is_named_here(manifest):
    nodes = json.loads(manifest.read_text())["nodes"].values()
    found = {node["name"] for node in nodes if node["resource_type"] == "model" and "marts" in node["tags"]}
    assert found == set(MARTS)


def test_every_mart_is_somebody_s(manifest):
    exposures = json.loads(manifest.read_text())["exposures"].values()
    used = {name.rpartition(".")[2] for exposure in exposures for name in exposure["depends_on"]["nodes"]}
    assert used == set(MARTS)
    assert all(exposure["owner"]["name"] and exposure["description"] for exposure in exposures)


def test_every_model_has_an_owner_a_group_and_a_description(definitions):
    specs = [spec for spec in definitions.resolve_all_asset_specs() if spec.key.to_user_string() in MARTS]
    assert len(specs) == len(MARTS)
    assert {spec.group_name for spec in specs} == {"marts"}
    assert all(list(spec.owners) == ["team:leads"] and spec.description for spec in specs)


def test_the_marts_are_built_every_hour_without_a_click(definitions):
    schedule = definitions.resolve_schedule_def("marts_hourly")
    assert schedule.default_status is dg.DefaultScheduleStatus.RUNNING
    assert schedule.cron_schedule == "20 * * * *"


def test_matching_models_are_trained_in_this_location_and_by_nobody_s_clock_but_yours(definitions):
    graph = definitions.resolve_asset_graph()
    assert graph.get(dg.AssetKey("matching_model")).parent_keys == {dg.AssetKey("deduped_leads")}
    schedule = definitions.resolve_schedule_def("matching_model_weekly")
    assert schedule.default_status is dg.DefaultScheduleStatus.STOPPED
    assert schedule.job_name == "matching_model_training"


def test_the_project_is_parsed_once_and_again_only_after_a_change(tmp_path):
    project = tmp_path / "dbt_project"
    shutil.copytree(analytics.PROJECT, project, ignore=shutil.ignore_patterns("target", "logs"))
    first = analytics.prepare(tmp_path, project=project).stat().st_mtime_ns
    assert analytics.prepare(tmp_path, project=project).stat().st_mtime_ns == first
    (project / "models" / "marts" / "more.sql").write_text("select 1 as one")
    changed = analytics.prepare(tmp_path, project=project)
    assert changed.stat().st_mtime_ns > first
    assert "model.leads.more" in changed.read_text()
    assert not (project / "target").exists()


def test_a_project_that_dbt_refuses_is_reported_in_dbts_own_words(tmp_path):
    project = tmp_path / "dbt_project"
    shutil.copytree(analytics.PROJECT, project, ignore=shutil.ignore_patterns("target", "logs"))
    (project / "models" / "broken.sql").write_text("select * from {{ ref('nowhere') }}")
    with pytest.raises(analytics.ManifestError, match="nowhere"):
        analytics.prepare(tmp_path, project=project)


def test_the_location_loads_without_a_database_and_prepare_pays_for_the_parse(tmp_path):
    (tmp_path / "leads.yaml").write_text(LEADS_YAML)
    environment = inherited_environment() | {CONFIG_VARIABLE: str(tmp_path / "leads.yaml")}
    command = [sys.executable, "-m", "leads_pipeline.analytics", "prepare"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=True)
    manifest = Path(done.stdout.strip())
    assert manifest.is_relative_to(tmp_path)
    program = (
        "from leads_pipeline.analytics import defs; print(len(list(defs().resolve_asset_graph().get_all_asset_keys())))"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=120, check=True
    )
    assert int(loaded.stdout) >= 14
    assert [path.name for path in (tmp_path / ".leads").iterdir()] == ["dbt"]


def test_the_marts_are_documented_without_a_database_and_the_page_loads_nothing_from_elsewhere(tmp_path):
    page = analytics.write_docs(tmp_path, url=None)
    text = page.read_text(encoding="utf-8")
    assert all(mart in text for mart in MARTS)
    assert re.findall(r"<(?:script|link|img|iframe)[^>]*(?:src|href)=.https?:", text) == []
    assert json.loads((tmp_path / "manifest.json").read_text())["metadata"]["send_anonymous_usage_stats"] is False
    assert json.loads((tmp_path / "catalog.json").read_text())["nodes"] == {}


def test_dbt_is_told_where_the_database_is_and_nothing_calls_home(tmp_path):
    told = analytics.dbt_environment(
        "postgresql://jo:p%40ss@db.example:6432/leads?sslmode=require", state_path=tmp_path
    )
    assert told["LEADS_DBT_HOST"] == "db.example"
    assert (told["LEADS_DBT_PORT"], told["LEADS_DBT_USER"], told["LEADS_DBT_PASSWORD"]) == ("6432", "jo", "p@ss")
    assert (told["LEADS_DBT_DATABASE"], told["LEADS_DBT_SSLMODE"]) == ("leads", "require")
    assert told["DO_NOT_TRACK"] == "1"
    assert json.loads(told["LEADS_DBT_COST_PER_LEAD"]) == []
    assert "send_anonymous_usage_stats: false" in (analytics.PROJECT / "dbt_project.yml").read_text()


def test_what_leads_cost_reaches_dbt_as_leads_yaml_tells_it(tmp_path):
    costs = "[{tenant: acme, cost: 30, currency: USD}, {tenant: acme, source: webinar, cost: 12.50, currency: USD}]"
    settings = parse_settings(f"{LEADS_YAML}analytics:\n  cost_per_lead: {costs}\n", path=tmp_path / "leads.yaml")
    told = analytics.dbt_environment(
        "postgresql://jo@db.example/leads", state_path=tmp_path, costs=settings.analytics.cost_per_lead
    )
    assert json.loads(told["LEADS_DBT_COST_PER_LEAD"]) == [
        {"tenant": "acme", "source": None, "cost": "30", "currency": "USD"},
        {"tenant": "acme", "source": "webinar", "cost": "12.5", "currency": "USD"},
    ]


@pytest.mark.parametrize(
    ("costs", "fault"),
    [
        ("[{tenant: acm, cost: 30, currency: USD}]", "allowed: acme, globex"),
        ("[{tenant: acme, source: fax, cost: 30, currency: USD}]", "allowed: import, webinar, website"),
        ("[{tenant: acme, cost: 1, currency: USD}, {tenant: acme, cost: 2, currency: USD}]", "a second time"),
        ("[{tenant: acme, cost: -3, currency: USD}]", "greater than 0"),
        ("[{tenant: acme, cost: 3, currency: dollars}]", "currency"),
    ],
)
def test_a_cost_of_nothing_that_exists_is_refused_with_what_is_allowed(tmp_path, costs, fault):
    with pytest.raises(ConfigError, match=re.escape(fault)):
        parse_settings(f"{LEADS_YAML}analytics:\n  cost_per_lead: {costs}\n", path=tmp_path / "leads.yaml")
