"""The scorer follows the tenant's active model."""

import sys
from subprocess import run

import pytest
import sqlalchemy as sa
from structlog.testing import capture_logs

from leads_pipeline.errors import LeadsError
from leads_pipeline.matching.model import shipped_parameters
from leads_pipeline.matching.scorer_source import ScorerSource, parameters_for
from leads_pipeline.matching.stored_models import ModelUnusable
from leads_pipeline.steps.match_models import SHIPPED, activate, list_models, rollback
from leads_pipeline_tests.conftest import NOW
from leads_pipeline_tests.matching.models import changed, document_of, keep


def test_an_activation_and_a_rollback_hold_from_the_next_question_on_and_for_their_tenant_alone(
    engine: sa.Engine,
) -> None:
    source, shipped = ScorerSource(engine), shipped_parameters().version
    keep(engine, changed("a"), now=NOW)
    assert source.scorer_of("acme").version == shipped

    activate(engine, "acme", "a", actor="grace", reason=None, now=NOW)
    assert source.scorer_of("acme").version == "a"
    assert source.scorer_of("globex").version == shipped

    rollback(engine, "acme", actor="grace", reason=None, now=NOW)
    assert source.scorer_of("acme").version == shipped


def test_a_model_is_loaded_once_and_the_shipped_one_is_shared(engine: sa.Engine) -> None:
    source = ScorerSource(engine)
    keep(engine, changed("a"), now=NOW, active=True)

    assert source.scorer_of("acme") is source.scorer_of("acme")
    assert source.scorer_of("globex") is source.scorer_of("initech")


def test_two_tenants_may_call_different_models_by_one_name(engine: sa.Engine) -> None:
    keep(engine, changed("2026-01-15.1", prior_factor=0.5), now=NOW, active=True)
    keep(engine, changed("2026-01-15.1", prior_factor=0.25), now=NOW, tenant="globex", active=True)
    source = ScorerSource(engine)

    scorers = [source.scorer_of(tenant) for tenant in ("acme", "globex")]

    assert scorers[0] is not scorers[1]
    with engine.connect() as connection:
        priors = [parameters_for(connection, tenant).prior for tenant in ("acme", "globex")]
    assert priors == [pytest.approx(shipped_parameters().prior * factor) for factor in (0.5, 0.25)]


def test_more_tenants_than_scorers_are_served_all_the_same(engine: sa.Engine) -> None:
    tenants = [f"tenant{number}" for number in range(10)]
    for tenant in tenants:
        keep(engine, changed(f"of-{tenant}"), now=NOW, tenant=tenant, active=True)
    source = ScorerSource(engine)

    for _ in range(2):
        assert [source.scorer_of(tenant).version for tenant in tenants] == [f"of-{tenant}" for tenant in tenants]


def test_a_model_that_the_code_has_left_behind_is_replaced_by_the_shipped_one_with_a_warning(
    engine: sa.Engine,
) -> None:
    old = document_of(changed("old"))
    del old["levels"]["email"]
    keep(engine, old, now=NOW, active=True)

    with capture_logs() as logs:
        scorer = ScorerSource(engine).scorer_of("acme")

    assert scorer.version == shipped_parameters().version
    [warning] = [entry for entry in logs if entry["event"] == "matching_model_unusable"]
    assert (warning["tenant"], warning["version"], warning["used_instead"]) == ("acme", "old", scorer.version)
    assert "it has no comparison email" in warning["why"]


@pytest.mark.parametrize("prior", ["0.1", None, 10**400])
def test_a_model_that_holds_no_numbers_is_replaced_listed_and_gone_back_from(engine: sa.Engine, prior: object) -> None:
    keep(engine, {**document_of(changed("bad")), "prior": prior}, now=NOW, active=True)
    keep(engine, changed("good"), now=NOW)

    with capture_logs() as logs:
        scorer = ScorerSource(engine).scorer_of("acme")

    assert scorer.version == shipped_parameters().version
    [warning] = [entry for entry in logs if entry["event"] == "matching_model_unusable"]
    assert "the prior must lie between 0 and 1" in warning["why"]
    faults = {model.version: model.fault for model in list_models(engine, "acme")}
    assert (faults["good"], faults[SHIPPED]) == (None, None)
    assert "the prior must lie between 0 and 1" in (faults["bad"] or "")
    activate(engine, "acme", "good", actor="grace", reason=None, now=NOW)
    with pytest.raises(ModelUnusable, match="the prior must lie between 0 and 1"):
        rollback(engine, "acme", actor="grace", reason=None, now=NOW)
    activate(engine, "acme", SHIPPED, actor="grace", reason=None, now=NOW)
    assert rollback(engine, "acme", actor="grace", reason=None, now=NOW).version == "good"


def test_a_model_whose_row_is_gone_is_replaced_too(engine: sa.Engine) -> None:
    keep(engine, changed("a"), now=NOW, active=True)
    with engine.begin() as connection:
        connection.execute(sa.text("delete from match_models"))

    assert ScorerSource(engine).scorer_of("acme").version == shipped_parameters().version
    with pytest.raises(LeadsError):
        activate(engine, "acme", "a", actor="grace", reason=None, now=NOW)
    assert activate(engine, "acme", SHIPPED, actor="grace", reason=None, now=NOW).before == "a"


def test_splink_is_not_imported_before_somebody_scores() -> None:
    code = "import sys, leads_pipeline.flows; sys.exit('splink' in sys.modules or 'duckdb' in sys.modules)"
    assert run([sys.executable, "-c", code], check=False).returncode == 0
