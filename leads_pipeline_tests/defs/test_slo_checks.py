"""Promises as asset checks: each on its asset, with numbers that plot; they fail when the pipeline has stopped."""

from dataclasses import replace
from pathlib import Path

import dagster as dg
import pytest
import sqlalchemy as sa

from leads_pipeline.config import parse_settings
from leads_pipeline.config.objectives import DEFAULTS
from leads_pipeline.definitions import build_defs
from leads_pipeline.defs.slo_checks import check_name
from leads_pipeline_tests.conftest import LEADS_YAML

NAMED = {
    "deduped_leads.slo_verified_in_time",
    "crm_sync_batches.slo_real_time_in_crm",
    "crm_sync_batches.slo_delivered_in_a_day",
    "validated_leads.slo_rejection_rate",
    "crm_sync_batches.slo_bounce_rate",
    "crm_sync_batches.slo_conservation",
    "golden_contacts.slo_duplicate_contacts",
}


def promises(result: dg.ExecuteInProcessResult) -> dict[str, dg.AssetCheckEvaluation]:
    return {
        f"{item.asset_key.to_user_string()}.{item.check_name}": item
        for item in result.get_asset_check_evaluations()
        if item.check_name.startswith("slo_")
    }


def test_each_default_promise_is_a_check_of_the_asset_that_it_is_about(run):
    assert {check_name(name) for name in DEFAULTS} == {name.split(".")[1] for name in NAMED}
    found = promises(run("slo_checks"))

    assert found.keys() >= NAMED
    assert all(item.passed for item in found.values())


def test_a_pipeline_that_has_stopped_fails_its_check(run, seeding, clock):
    run("slo_checks")
    with seeding() as flow:
        for _ in range(3):
            flow.buffered()
    clock.advance(120)

    found = promises(run("slo_checks"))

    assert {name for name, item in found.items() if not item.passed} == {"crm_sync_batches.slo_real_time_in_crm"}
    check = found["crm_sync_batches.slo_real_time_in_crm"]
    assert check.severity is dg.AssetCheckSeverity.ERROR
    numbers = {name: item.value for name, item in check.metadata.items() if isinstance(item.value, int | float)}
    assert numbers == {
        "good": 0, "bad": 3, "value": 0.0, "breached": 1, "stale": 0,
        "burn_rate": pytest.approx(100), "budget_left": pytest.approx(-99),
    }  # fmt: skip
    assert check.metadata["playbook"].value == "docs/playbooks/deliveries-late.md"
    assert "| 60 min | 100.0 | 5 min | 100.0 |" in str(check.metadata["windows"].value)


def test_a_promise_of_ones_own_fails_the_check_of_its_asset(flow_context, instance, engine, clock):
    own = "slos: {objectives: {conservation: null, mine: {stage: raw_leads, within_seconds: 5, severity: ticket}}}"
    settings = parse_settings(LEADS_YAML + own, path=Path("leads.yaml"))
    job = build_defs(replace(flow_context, settings=settings)).resolve_job_def("slo_checks")

    def checks() -> dict[str, dg.AssetCheckEvaluation]:
        return promises(job.execute_in_process(instance=instance, raise_on_error=False))

    checks()
    with engine.begin() as connection:
        from leads_pipeline_tests.defs.rows import Flow

        for _ in range(3):
            Flow(connection, clock.now()).buffered()
    clock.advance(10)
    found = checks()

    assert {name for name, item in found.items() if not item.passed} == {"raw_leads.slo_own"}
    assert found["raw_leads.slo_own"].severity is dg.AssetCheckSeverity.WARN
    assert found["crm_sync_batches.slo_conservation"].description == "nothing promised"


def test_a_promise_that_cannot_be_judged_for_long_fails_its_check(run, engine, clock):
    run("slo_checks")
    clock.advance(3_600)
    with engine.begin() as connection:
        connection.execute(sa.text("drop table latency_histograms cascade"))

    found = promises(run("slo_checks"))

    assert {name for name, item in found.items() if not item.passed} == {
        "deduped_leads.slo_verified_in_time",
        "crm_sync_batches.slo_real_time_in_crm",
        "crm_sync_batches.slo_delivered_in_a_day",
    }


def test_the_chains_assets_say_when_they_are_stale_and_those_that_rest_do_not(definitions):
    """The batch lane's run comes every hour, whether or not anything waits: older means that nothing runs."""
    graph = definitions.resolve_asset_graph()
    fresh = {key.to_user_string() for key in graph.get_all_asset_keys() if graph.get(key).freshness_policy}

    assert fresh == {"raw_leads", "validated_leads", "deduped_leads", "golden_contacts"}
