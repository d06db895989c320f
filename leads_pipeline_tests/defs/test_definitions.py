"""What Dagster sees of the hot chain, and what it costs to load."""

import subprocess
import sys
import tomllib
from pathlib import Path

import dagster as dg
import pytest
import yaml

from leads_pipeline.config import CONFIG_VARIABLE, inherited_environment, project_file
from leads_pipeline.definitions import build_defs
from leads_pipeline.defs.jobs import SLICE_SECONDS
from leads_pipeline.domain.stage import Stage
from leads_pipeline_tests.conftest import LEADS_YAML

ROOT = Path(__file__).parents[2]
HEAVY = ("great_expectations", "dbt", "dagster_dbt", "pandas", "splink", "duckdb", "numpy", "pyspark")
SCHEDULED_CHECKS = {
    "conservation", "oldest_pending", "rejection_rate", "schema_drift", "record_keys", "delivery_success",
    "quality_holds", "mapping", "open_dead_letters", "parked_destinations",
    "verified_in_time", "verification_budget", "runs_succeed", "imports_finished",
    "slo_verified_in_time", "slo_real_time_in_crm", "slo_delivered_in_a_day", "slo_rejection_rate", "slo_conservation",
    "slo_bounce_rate", "slo_duplicate_contacts", "slo_own",
}  # fmt: skip


@pytest.fixture(scope="module")
def loaded() -> dg.Definitions:
    return build_defs()


def checks_of(definitions: dg.Definitions, job: str) -> set[str]:
    layer = definitions.resolve_job_def(job).asset_layer
    return {key.name for key in layer.asset_graph.asset_check_keys}


def test_loading_imports_nothing_heavy_and_touches_no_database(tmp_path):
    (tmp_path / "leads.yaml").write_text(LEADS_YAML)
    program = (
        "import sys; from leads_pipeline.definitions import defs; defs().resolve_asset_graph(); "
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    environment = inherited_environment() | {CONFIG_VARIABLE: str(tmp_path / "leads.yaml")}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout.strip() == "[]"
    assert [path.name for path in tmp_path.iterdir()] == ["leads.yaml"]


def test_the_chain_is_five_assets_in_a_row_and_verification_stands_beside_it(loaded):
    graph = loaded.resolve_asset_graph()
    parents = {
        key.to_user_string(): {p.to_user_string() for p in graph.get(key).parent_keys}
        for key in graph.get_all_asset_keys()
    }
    stages = [str(stage) for stage in Stage]
    chain = {stage: set(stages[: stages.index(stage)][-1:]) for stage in stages}
    assert parents == chain | {"verifications": {"validated_leads"}}, "leads do not wait for a run of look-ups"


def test_every_asset_is_grouped_described_owned_and_says_where_its_table_is(loaded):
    for spec in loaded.resolve_all_asset_specs():
        name = spec.key.to_user_string()
        assert spec.group_name in ("intake", "identity", "delivery")
        assert spec.description
        assert list(spec.owners) == ["team:leads"]
        assert {"python", "postgres"} <= spec.kinds
        assert spec.metadata["dagster/table_name"] == f"leads.{name}"
        assert spec.metadata["dagster/column_schema"].columns


def test_the_column_schema_marks_personal_data(loaded):
    [spec] = [spec for spec in loaded.resolve_all_asset_specs() if spec.key == dg.AssetKey("golden_contacts")]
    columns = {column.name: column for column in spec.metadata["dagster/column_schema"].columns}
    assert "personal_data" in columns["email"].tags
    assert "personal_data" not in columns["version"].tags


def test_only_the_plan_goes_through_an_io_manager(loaded):
    for asset in loaded.resolve_asset_graph().assets_defs:
        for key in asset.keys:
            output = asset.node_def.output_dict[asset.get_output_name_for_asset_key(key)]
            is_plan = key == dg.AssetKey("crm_sync_batches")
            assert output.dagster_type.is_nothing is not is_plan
            assert (output.io_manager_key == "crm_io_manager") is is_plan


def test_a_micro_batch_repeats_neither_the_slo_checks_nor_great_expectations(loaded):
    assert checks_of(loaded, "near_real_time") == {"duplicate_emails", "chunks_taken", "validation_rules"}


def assets_of(definitions: dg.Definitions, job: str) -> set[str]:
    return {key.to_user_string() for key in definitions.resolve_job_def(job).asset_layer.selected_asset_keys}


def test_delivery_is_a_job_beside_the_chain_behind_the_check_that_blocks_it(loaded):
    chain = {str(stage) for stage in Stage} - {"crm_sync_batches"}
    assert assets_of(loaded, "near_real_time") == assets_of(loaded, "batch") == chain
    assert assets_of(loaded, "delivery") == {"crm_sync_batches"}
    assert checks_of(loaded, "delivery") == {"duplicate_emails", "mapping", "open_dead_letters", "parked_destinations"}
    assert loaded.resolve_job_def("delivery").tags["leads/serial"] == "delivery"
    hot = loaded.resolve_job_def("near_real_time").run_config["ops"]
    assert {hot[name]["config"]["seconds"] for name in chain} == {SLICE_SECONDS}, "a flood holds up no later stage"


def test_the_batch_job_has_great_expectations_in_front_of_identity(loaded):
    assert checks_of(loaded, "batch") == {"duplicate_emails", "chunks_taken", "expectations"}


def test_the_job_for_people_has_every_check(loaded):
    in_runs = {"duplicate_emails", "chunks_taken", "validation_rules", "expectations"}
    assert checks_of(loaded, "all_lanes") == SCHEDULED_CHECKS | in_runs


def test_the_slo_job_has_the_checks_and_no_asset(loaded):
    job = loaded.resolve_job_def("slo_checks")
    assert checks_of(loaded, "slo_checks") == {*SCHEDULED_CHECKS, "duplicate_emails"}
    assert job.asset_layer.selected_asset_keys == set()


def test_look_ups_have_a_job_of_their_own(loaded):
    hot = {key.to_user_string() for key in loaded.resolve_job_def("near_real_time").asset_layer.selected_asset_keys}
    assert "verifications" not in hot
    job = loaded.resolve_job_def("verification")
    assert job.asset_layer.selected_asset_keys == {dg.AssetKey("verifications")}
    # Without them each of its runs would make Dagster call the last verdict outdated.
    assert checks_of(loaded, "verification") == {"verification_budget", "verified_in_time", "runs_succeed"}
    assert job.tags["leads/serial"] == "verification"


def test_all_automation_runs_without_a_click(loaded):
    for name in ("watch", "leads_waiting", "deliveries_waiting", "lookups_waiting", "stuck_work"):
        assert loaded.resolve_sensor_def(name).default_status is dg.DefaultSensorStatus.RUNNING
    crons = {
        "batch_hourly": "0 * * * *",
        "slo_checks_every_five_minutes": "*/5 * * * *",
        "maintenance_daily": "30 3 * * *",
        "reverification_hourly": "40 * * * *",
        "retention_hourly": "50 * * * *",
    }
    for name, cron in crons.items():
        schedule = loaded.resolve_schedule_def(name)
        assert schedule.default_status is dg.DefaultScheduleStatus.RUNNING
        assert schedule.cron_schedule == cron


def test_lanes_that_do_not_exist_are_refused_before_any_work(definitions, instance):
    job = definitions.resolve_job_def("near_real_time")
    with pytest.raises(dg.DagsterInvalidConfigError, match="express"):
        job.execute_in_process(instance=instance, run_config={"ops": {"raw_leads": {"config": {"lanes": ["express"]}}}})


@pytest.mark.parametrize("command", [["check", "defs"], ["list", "defs", "--json"]])
def test_dg_needs_no_database_to_be_there(command, own_state):
    (own_state / "leads.yaml").write_text(f"{LEADS_YAML}\nstate_dir: .\n")
    environment = inherited_environment() | {
        CONFIG_VARIABLE: str(own_state / "leads.yaml"),
        "DAGSTER_DISABLE_TELEMETRY": "yes",
        "DG_CLI_CONFIG": str(own_state / "dg.toml"),
    }
    done = subprocess.run(
        [str(Path(sys.executable).parent / "dg"), *command],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=180, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_workspace_names_both_locations_as_dg_does():
    workspace = yaml.safe_load(project_file("workspace.yaml").read_text())
    locations = {
        item["python_module"]["location_name"]: item["python_module"]["module_name"] for item in workspace["load_from"]
    }
    assert locations == {"leads": "leads_pipeline.definitions", "analytics": "leads_pipeline.analytics"}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["dg"]["project"]
    assert locations[project["code_location_name"]] == project["code_location_target_module"]


def test_the_instance_stores_in_postgresql_watches_runs_and_sends_nothing(stored_instance):
    assert type(stored_instance.event_log_storage).__name__ == "PostgresEventLogStorage"
    assert stored_instance.run_monitoring_enabled
    assert stored_instance.run_monitoring_max_runtime_seconds
    assert not stored_instance.telemetry_enabled
    limits = stored_instance.get_concurrency_config().run_queue_config.tag_concurrency_limits
    assert limits == [
        {"key": "leads/serial", "value": {"applyLimitPerUniqueValue": True}, "limit": 1},
        {"key": "leads/pace", "value": "background", "limit": 2},
    ]
