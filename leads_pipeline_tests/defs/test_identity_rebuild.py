"""The rebuild as a job: it shows the difference in its metadata, and writes only if told to."""

from typing import Any

import dagster as dg
import pytest
import sqlalchemy as sa

from leads_pipeline.clock import FrozenClock
from leads_pipeline.config import MatchingSettings, Settings
from leads_pipeline.defs.identity_rebuild import RebuildConfig, rebuild_identity
from leads_pipeline.flows import FlowContext
from leads_pipeline_tests.steps.identity_play import Play

ANNA = {"full_name": "Anna Kowalczyk", "email": "anna.kowalczyk@northwind.com", "company": "Northwind GmbH"}


@pytest.fixture
def play(engine: sa.Engine, settings: Settings) -> Play:
    """One person's two leads, each taken for somebody else's."""
    never = MatchingSettings(rules=(), merge_weight=1e6, review_weight=1e6)
    play = Play(engine, settings.model_copy(update={"matching": never}))
    play.arrive(**ANNA), play.arrive(**ANNA)
    return play


def run(engine: sa.Engine, settings: Settings, clock: FrozenClock, **config: Any) -> dg.ExecuteInProcessResult:
    return rebuild_identity.execute_in_process(
        run_config=dg.RunConfig(ops={"rebuild_contacts": RebuildConfig(**config)}),
        resources={"flow": FlowContext(engine, settings, clock)},
        raise_on_error=False,
    )


def metadata(result: dg.ExecuteInProcessResult) -> dict[str, Any]:
    (event,) = [event for event in result.all_events if event.is_successful_output]
    return {name: value.value for name, value in event.step_output_data.metadata.items()}


def test_without_being_told_it_only_shows(
    play: Play, engine: sa.Engine, settings: Settings, clock: FrozenClock
) -> None:
    shown = metadata(run(engine, settings, clock, tenant="acme"))

    assert (shown["contacts_now"], shown["contacts_then"], shown["merges"], shown["applied"]) == (2, 1, 1, False)
    assert len(set(play.contact_of().values())) == 2


def test_told_to_it_writes_and_says_what(play: Play, engine: sa.Engine, settings: Settings, clock: FrozenClock) -> None:
    result = run(engine, settings, clock, tenant="acme", apply=True)

    shown = metadata(result)
    assert (shown["applied"], shown["written"], shown["decisions"], shown["changed_since"]) == (True, 1, 1, 0)
    assert len(set(play.contact_of().values())) == 1
    assert [row["runner_id"] for row in play.decisions()] == [result.run_id]


def test_a_tenant_that_is_not_there_is_named(engine: sa.Engine, settings: Settings, clock: FrozenClock) -> None:
    result = run(engine, settings, clock, tenant="initech")

    [failure] = result.get_step_failure_events()
    assert "leads.yaml knows no tenant initech; there are: acme, globex" in str(failure.step_failure_data)
