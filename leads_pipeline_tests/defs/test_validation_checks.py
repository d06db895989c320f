"""The rules in SQL over what the hot lanes validated last, and the check that names open holds."""

from datetime import timedelta

import dagster as dg
import pytest
import sqlalchemy as sa

from leads_pipeline.domain.expectations import Group
from leads_pipeline.steps.quality import hold_back
from leads_pipeline_tests.defs.rows import as_text


@pytest.fixture
def check(run):
    """Run the micro-batch job and return what ``validation_rules`` said, whether it failed the run or not."""

    def evaluation() -> dg.AssetCheckEvaluation:
        result = run("near_real_time")
        assert result.success, "the rules must not hold up the hot chain"
        [found] = [item for item in result.get_asset_check_evaluations() if item.check_name == "validation_rules"]
        return found

    return evaluation


def broken(found: dg.AssetCheckEvaluation) -> str:
    return str(found.metadata["broken"].value) if "broken" in found.metadata else ""


def test_good_leads_pass(check, seeding):
    with seeding() as flow:
        flow.delivered()
    found = check()
    assert found.passed
    assert found.metadata["rows"].value == 1


def test_a_bad_lead_is_an_error_that_names_source_and_rule_and_no_value(check, seeding):
    with seeding() as flow, seeding(tenant="globex") as other:
        flow.validated(email="quite secret")
        other.delivered()
    found = check()
    assert (found.passed, found.severity, found.blocking) == (False, dg.AssetCheckSeverity.ERROR, False)
    assert "| acme | website | email_format | 1 | 1 |" in broken(found)
    assert "globex" not in broken(found)
    assert "secret" not in as_text({name: item.value for name, item in found.metadata.items()})


def test_drift_is_a_warning(check, seeding, clock):
    with seeding() as flow:
        for _ in range(20):
            before = clock.now() - timedelta(days=1, minutes=5)
            flow.validated(validated_at=before, received_at=before, country="DE")
            flow.validated(country="FR")
    found = check()
    assert (found.passed, found.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert "usual_country_share" in broken(found)


def test_drift_beside_a_bad_lead_is_an_error(check, seeding, clock):
    with seeding() as flow:
        for _ in range(20):
            before = clock.now() - timedelta(days=1, minutes=5)
            flow.validated(validated_at=before, received_at=before, country="DE")
            flow.validated(country="FRA")
    assert check().severity is dg.AssetCheckSeverity.ERROR


def test_the_batch_lane_is_left_to_great_expectations(check, seeding):
    with seeding(lane="batch", source="import") as flow:
        flow.validated(email="no address")
    assert check().passed


def test_a_table_of_another_version_is_an_error(run, engine):
    with engine.begin() as connection:
        connection.execute(sa.text("alter table validated_leads drop column phone_type"))
    result = run("near_real_time")
    [found] = [item for item in result.get_asset_check_evaluations() if item.check_name == "validation_rules"]
    assert (found.passed, found.severity) == (False, dg.AssetCheckSeverity.ERROR)
    assert "phone_type text" in str(found.metadata["columns"].value)


def test_an_open_hold_fails_its_check_until_it_is_closed(run, engine, seeding, clock):
    with seeding(lane="batch", source="import") as flow:
        flow.at_dedupe(email="quite secret")
    group = Group("acme", "import", clock.now().date())
    hold_back(engine, {group: ["email_format"]}, examined=[group], runner_id="run-1", now=clock.now())

    def holds() -> dg.AssetCheckEvaluation:
        [found] = [i for i in run("slo_checks").get_asset_check_evaluations() if i.check_name == "quality_holds"]
        return found

    found = holds()
    assert (found.passed, found.severity) == (False, dg.AssetCheckSeverity.ERROR)
    assert (found.metadata["holds"].value, found.metadata["leads_held"].value) == (1, 1)
    assert "| 1 | acme | import | 2026-01-15 | 1 |" in str(found.metadata["open"].value)
    hold_back(engine, {}, examined=[group], runner_id="run-2", now=clock.now())
    assert holds().passed
