"""Which model serves a tenant, and who decided that."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
import sqlalchemy as sa

from leads_pipeline.errors import LeadsError, NotFound
from leads_pipeline.matching.model import shipped_parameters
from leads_pipeline.matching.stored_models import ModelUnusable
from leads_pipeline.steps.match_models import SHIPPED, activate, list_models, model_parameters, rollback
from leads_pipeline.storage.match_models import active_version, read_activations
from leads_pipeline_tests.conftest import NOW
from leads_pipeline_tests.matching.models import changed, document_of, keep


def active(engine: sa.Engine, tenant: str = "acme") -> str | None:
    with engine.connect() as connection:
        return active_version(connection, tenant)


def test_without_a_decision_the_shipped_model_serves(engine: sa.Engine) -> None:
    [model] = list_models(engine, "acme")

    assert (model.version, model.active, model.since) == (SHIPPED, True, None)
    assert active(engine) is None


def test_a_trained_model_serves_once_somebody_activates_it(engine: sa.Engine) -> None:
    keep(engine, changed("2026-01-15.1"), now=NOW)
    assert active(engine) is None

    change = activate(engine, "acme", "2026-01-15.1", actor="grace", reason="read the report", now=NOW)

    assert (change.version, change.before) == ("2026-01-15.1", SHIPPED)
    assert [(model.version, model.active) for model in list_models(engine, "acme")] == [
        ("2026-01-15.1", True),
        (SHIPPED, False),
    ]
    assert active(engine, "globex") is None
    with engine.connect() as connection:
        [kept] = read_activations(connection, "acme")
    assert (kept.actor, kept.reason, kept.activated_at) == ("grace", "read the report", NOW)


def test_rolling_back_goes_back_step_by_step_and_says_when_there_is_nothing_before(engine: sa.Engine) -> None:
    first, second = keep(engine, changed("a"), now=NOW), keep(engine, changed("b"), now=NOW)
    for version in (first, second):
        activate(engine, "acme", version, actor="grace", reason=None, now=NOW)

    back = [rollback(engine, "acme", actor="grace", reason="worse", now=NOW) for _ in range(2)]

    assert [(change.before, change.version) for change in back] == [("b", "a"), ("a", SHIPPED)]
    assert active(engine) is None
    with pytest.raises(LeadsError, match="nothing to go back to: the shipped model serves the tenant acme"):
        rollback(engine, "acme", actor="grace", reason=None, now=NOW)


def test_after_a_rollback_the_next_one_goes_behind_what_was_activated_since(engine: sa.Engine) -> None:
    for version in ("a", "b", "c"):
        keep(engine, changed(version), now=NOW)
    activate(engine, "acme", "a", actor="grace", reason=None, now=NOW)
    activate(engine, "acme", "b", actor="grace", reason=None, now=NOW)
    rollback(engine, "acme", actor="grace", reason=None, now=NOW)
    activate(engine, "acme", "c", actor="grace", reason=None, now=NOW)

    assert rollback(engine, "acme", actor="grace", reason=None, now=NOW).version == "a"
    assert rollback(engine, "acme", actor="grace", reason=None, now=NOW).version == SHIPPED


def test_going_back_to_the_shipped_model_can_itself_be_taken_back(engine: sa.Engine) -> None:
    keep(engine, changed("a"), now=NOW, active=True)

    assert activate(engine, "acme", SHIPPED, actor="grace", reason=None, now=NOW).before == "a"
    assert rollback(engine, "acme", actor="grace", reason=None, now=NOW).version == "a"


def test_what_serves_already_is_not_activated_again(engine: sa.Engine) -> None:
    keep(engine, changed("a"), now=NOW, active=True)

    for tenant, version in (("acme", "a"), ("globex", SHIPPED)):
        with pytest.raises(LeadsError, match=f"the model {version} serves the tenant {tenant} already"):
            activate(engine, tenant, version, actor="grace", reason=None, now=NOW)


def test_a_version_that_is_not_there_is_refused_with_those_that_are(engine: sa.Engine) -> None:
    keep(engine, changed("a"), now=NOW)

    with pytest.raises(NotFound, match="the tenant acme has no matching model 'b'; there are: shipped, a"):
        activate(engine, "acme", "b", actor="grace", reason=None, now=NOW)
    with pytest.raises(NotFound, match="the tenant globex has no matching model 'a'; there are: shipped"):
        activate(engine, "globex", "a", actor="grace", reason=None, now=NOW)


def test_a_model_of_other_comparisons_is_refused_when_it_is_activated_and_when_one_would_go_back_to_it(
    engine: sa.Engine,
) -> None:
    old = document_of(changed("old"))
    del old["levels"]["email"]
    old["levels"]["fax"] = {"same": {"m": 0.9, "u": 0.1}}
    keep(engine, old, now=NOW, active=True)
    keep(engine, changed("new"), now=NOW, active=True)

    fault = "the model old does not fit .* it has no comparison email; there is no comparison fax any more; train again"
    with pytest.raises(ModelUnusable, match=fault):
        activate(engine, "acme", "old", actor="grace", reason=None, now=NOW)
    with pytest.raises(ModelUnusable, match=fault):
        rollback(engine, "acme", actor="grace", reason=None, now=NOW)
    assert active(engine) == "new"
    faults = {model.version: model.fault for model in list_models(engine, "acme")}
    assert faults["new"] is None
    assert "it has no comparison email" in (faults["old"] or "")


def test_a_model_can_be_read_by_name(engine: sa.Engine) -> None:
    keep(engine, changed("a", prior_factor=0.5), now=NOW)

    parameters, stored = model_parameters(engine, "acme", "a")
    assert stored is not None
    assert parameters.prior == pytest.approx(shipped_parameters().prior / 2)
    assert model_parameters(engine, "acme", SHIPPED) == (shipped_parameters(), None)


def test_two_who_roll_back_at_once_go_back_twice(engine: sa.Engine) -> None:
    for number, version in enumerate("abcd"):
        keep(engine, changed(version), now=NOW + timedelta(minutes=number), active=True)

    with ThreadPoolExecutor(3) as pool:
        went = list(pool.map(lambda _: rollback(engine, "acme", actor="g", reason=None, now=NOW), range(3)))

    assert sorted(change.version for change in went) == ["a", "b", "c"]
    assert active(engine) == "a"
