"""Training as an asset: it learns, measures, keeps and reports; it activates nothing."""

from pathlib import Path

import dagster as dg
import pytest
import sqlalchemy as sa

from leads_pipeline.clock import FrozenClock
from leads_pipeline.config import Settings
from leads_pipeline.defs.match_model import (
    MATCHING_MODEL,
    MatchingModelConfig,
    matching_model,
    matching_model_training,
    matching_model_weekly,
)
from leads_pipeline.flows import FlowContext
from leads_pipeline.steps.match_models import list_models
from leads_pipeline_tests.matching.known_people import invented, make_known


@pytest.fixture
def flow(engine: sa.Engine, settings: Settings, clock: FrozenClock) -> FlowContext:
    """Two tenants, of which acme has enough leads to learn from and globex has not."""
    people = invented(1_500)
    make_known(engine, people)
    make_known(engine, people[:50], tenant="globex")
    return FlowContext(engine, settings, clock)


def materialise(flow: FlowContext, **config: object) -> dg.ExecuteInProcessResult:
    run_config = dg.RunConfig(ops={MATCHING_MODEL: MatchingModelConfig(**config)})
    return dg.materialize([matching_model], resources={"flow": flow}, run_config=run_config, raise_on_error=False)


def test_a_run_trains_who_has_enough_leads_and_shows_what_was_learned(flow: FlowContext) -> None:
    [materialised] = materialise(flow).asset_materializations_for_node(MATCHING_MODEL)

    metadata = {name: value.value for name, value in materialised.metadata.items()}
    assert (metadata["models"], metadata["tenants_with_too_few_records"]) == (1, 1)
    assert metadata["too_few_records"] == "globex"
    assert "| acme | 2026-01-15.1 |" in metadata["trained"]
    assert "| phone | same |" in metadata["weights_acme"]
    assert "█" in metadata["weights_acme"]
    report = Path(metadata["report_acme"])
    assert report.is_relative_to(flow.settings.state_path)
    assert "<svg" in report.read_text(encoding="utf-8")
    assert [(model.version, model.active) for model in list_models(flow.engine, "acme")] == [
        ("2026-01-15.1", False),
        ("shipped", True),
    ]


def test_a_tenant_that_is_not_there_is_named(flow: FlowContext) -> None:
    result = materialise(flow, tenants=["initech"])

    assert not result.success
    [failure] = result.get_step_failure_events()
    assert "leads.yaml knows no tenant initech; there are: acme, globex" in str(failure.step_failure_data)


def test_only_those_who_were_named_are_trained(flow: FlowContext) -> None:
    [materialised] = materialise(flow, tenants=["globex"]).asset_materializations_for_node(MATCHING_MODEL)

    assert materialised.metadata["models"].value == 0
    assert len(list_models(flow.engine, "acme")) == 1


def test_the_schedule_waits_until_somebody_switches_it_on() -> None:
    assert matching_model_weekly.default_status is dg.DefaultScheduleStatus.STOPPED
    assert matching_model_weekly.job_name == matching_model_training.name
