"""The SLO checks: what each of them says when its promise is broken, and that a stopped pipeline breaks one."""

from datetime import timedelta

import dagster as dg
import pytest
import sqlalchemy as sa

from leads_pipeline.steps.checked_mappings import check_mappings
from leads_pipeline_tests.defs.conftest import verdicts

ALL = {
    "crm_sync_batches.conservation",
    "crm_sync_batches.delivery_success",
    "crm_sync_batches.mapping",
    "crm_sync_batches.open_dead_letters",
    "crm_sync_batches.parked_destinations",
    "deduped_leads.record_keys",
    "golden_contacts.duplicate_emails",
    "validated_leads.quality_holds",
    "validated_leads.rejection_rate",
    "validated_leads.schema_drift",
    "raw_leads.oldest_pending",
    "validated_leads.oldest_pending",
    "deduped_leads.oldest_pending",
    "golden_contacts.oldest_pending",
    "crm_sync_batches.oldest_pending",
    "verifications.verified_in_time",
    "verifications.verification_budget",
    "verifications.runs_succeed",
    "crm_sync_batches.runs_succeed",
    "raw_leads.runs_succeed",
    "raw_leads.imports_finished",
}


def older(result: dg.ExecuteInProcessResult) -> dict[str, bool]:
    """What the checks said that are no promise of slos.objectives; for those see test_slo_checks."""
    return {name: passed for name, passed in verdicts(result).items() if ".slo_" not in name}


@pytest.fixture
def check(run):
    """Run the SLO checks and return the names of those that failed."""

    def failing() -> set[str]:
        result = run("slo_checks")
        assert older(result).keys() == ALL
        return {name for name, passed in older(result).items() if not passed}

    return failing


def evaluation(result: dg.ExecuteInProcessResult, name: str) -> dict[str, object]:
    [found] = [item for item in result.get_asset_check_evaluations() if item.check_name == name]
    return {key: item.value for key, item in found.metadata.items()}


def test_an_empty_product_keeps_every_promise(check):
    assert check() == set()


def test_leads_at_every_place_of_the_flow_keep_every_promise(check, seeding):
    with seeding() as flow:
        flow.one_of_each()
    assert check() == set()


@pytest.mark.parametrize(
    "table", ["buffer", "raw_leads", "lead_fetches", "deduped_leads", "golden_contacts", "outbox", "pending"]
)
def test_a_lost_row_fails_conservation_and_the_lead_is_named_by_its_id_alone(run, seeding, engine, table):
    with seeding() as flow:
        flow.one_of_each()
    with engine.begin() as connection:
        connection.execute(sa.text(f"delete from {table} where ctid = (select min(ctid) from {table})"))
    result = run("slo_checks")
    assert [name for name, passed in older(result).items() if not passed] == ["crm_sync_batches.conservation"]
    found = evaluation(result, "conservation")
    assert found["captured"] == 13
    assert found["missing"] or found["unaccounted"]
    assert "example.com" not in str(found)


def test_a_missing_lead_is_listed_with_what_it_lacks(run, seeding, engine):
    with seeding() as flow:
        lead = flow.delivered()
    with engine.begin() as connection:
        connection.execute(sa.text("delete from outbox"))
    found = evaluation(run("slo_checks"), "conservation")
    assert f"| acme | 2026-01-15 | {lead} | outbox |" in found["missing_leads"]


@pytest.mark.parametrize(
    ("place", "asset"),
    [
        ("buffered", "raw_leads"),
        ("at_validation", "validated_leads"),
        ("at_dedupe", "deduped_leads"),
        ("at_golden", "golden_contacts"),
        ("golden", "crm_sync_batches"),
    ],
)
def test_a_pipeline_that_has_stopped_fails_the_age_of_the_stage_where_leads_wait(check, seeding, clock, place, asset):
    with seeding() as flow:
        getattr(flow, place)()
    assert check() == set()
    clock.advance(121)
    assert check() == {f"{asset}.oldest_pending"}


def test_each_lane_has_its_own_patience(check, seeding, clock):
    with seeding(lane="near_real_time", source="webinar") as flow, seeding(lane="batch", source="import") as batch:
        flow.buffered()
        batch.buffered()
    clock.advance(599)
    assert check() == set()
    clock.advance(2)
    assert check() == {"raw_leads.oldest_pending"}


def test_a_source_whose_leads_are_mostly_rejected_fails(check, seeding, clock):
    with seeding() as flow:
        for _ in range(10):
            flow.rejected()
        for _ in range(9):
            flow.delivered()
    assert check() == set(), "19 leads prove nothing"
    with seeding() as flow:
        flow.delivered()
    assert check() == {"validated_leads.rejection_rate"}
    clock.advance(25 * 3600)
    assert check() == set(), "the window has passed"


def test_a_large_healthy_source_does_not_hide_a_broken_one(check, seeding):
    with seeding() as flow, seeding(source="webinar") as broken:
        for _ in range(100):
            flow.delivered()
        for _ in range(20):
            broken.rejected()
    assert check() == {"validated_leads.rejection_rate"}


def test_a_new_field_and_one_that_stopped_coming_are_a_warning_that_names_them(run, seeding, clock):
    start = clock.now()
    clock.advance(timedelta(days=30).total_seconds())
    seen = {"first_seen_at": start, "last_seen_at": clock.now()}
    with seeding() as flow:
        flow.insert("source_fields", field="*", seen=100, posts_by_then=100, **seen)
        flow.insert("source_fields", field="email", used_for="email", seen=100, posts_by_then=100, **seen)
        flow.insert("source_fields", field="phone", used_for="phone", seen=70, posts_by_then=70, **seen)
        flow.insert(
            "source_fields",
            field="budget",
            seen=1,
            posts_by_then=99,
            first_seen_at=clock.now(),
            last_seen_at=clock.now(),
        )
        flow.insert("source_fields", source="webinar", field="*", seen=100, posts_by_then=100, **seen)
    result = run("slo_checks")
    assert [name for name, passed in older(result).items() if not passed] == ["validated_leads.schema_drift"]
    [judged] = [item for item in result.get_asset_check_evaluations() if item.check_name == "schema_drift"]
    assert judged.severity is dg.AssetCheckSeverity.WARN
    assert not judged.blocking
    found = evaluation(result, "schema_drift")
    assert (found["unknown_fields"], found["vanished_fields"]) == (1, 1)
    assert "| acme | website | phone | phone | came without it: 30 |" in found["fields"]
    assert "| acme | website | budget |  | new, used for nothing |" in found["fields"]
    assert "webinar" not in found["fields"]


def test_deliveries_that_end_dead_fail(check, seeding, clock):
    with seeding() as flow:
        for _ in range(19):
            flow.delivered()
        flow.dead()
    assert check() == {"crm_sync_batches.delivery_success"}
    clock.advance(25 * 3600)
    assert check() == set(), "the window has passed"


def test_one_address_in_two_golden_contacts_fails(run, seeding, engine):
    with engine.begin() as connection:
        connection.execute(sa.text("drop index uq_golden_contacts_tenant_email_key"))
    with seeding() as flow:
        for _ in range(2):
            flow.insert("golden_contacts", email="one@example.com", email_key="one@example.com")
    result = run("slo_checks")
    assert not older(result)["golden_contacts.duplicate_emails"]
    found = evaluation(result, "duplicate_emails")
    assert (found["duplicate_emails"], found["contacts_involved"]) == (1, 2)
    assert "one@example.com" not in str(found)


def test_records_that_an_older_release_made_are_a_warning_that_names_the_command(run, engine):
    with engine.begin() as connection:
        connection.execute(sa.text("insert into identity_sizes (tenant, records) values ('acme', 12)"))
    result = run("slo_checks")
    assert [name for name, passed in older(result).items() if not passed] == ["deduped_leads.record_keys"]
    [judged] = [item for item in result.get_asset_check_evaluations() if item.check_name == "record_keys"]
    assert judged.severity == dg.AssetCheckSeverity.WARN
    assert "leads matching reindex --tenant acme" in (judged.description or "")
    assert evaluation(result, "record_keys")["stale_records"] == 12


def test_checks_report_numbers_that_dagster_can_plot(run, seeding, clock):
    with seeding() as flow:
        flow.one_of_each()
    clock.advance(30)
    result = run("slo_checks")
    assert evaluation(result, "conservation")["pending"] == 6
    assert evaluation(result, "rejection_rate")["rejection_rate"] == pytest.approx(1 / 8)
    assert evaluation(result, "delivery_success")["success_rate"] == 0.5
    ages = [
        item.metadata["oldest_seconds"].value
        for item in result.get_asset_check_evaluations()
        if item.check_name == "oldest_pending"
    ]
    assert ages == [30.0] * 5


def test_the_window_of_a_check_is_judged_by_the_clock_of_the_run(check, seeding, clock):
    clock.advance(timedelta(days=400).total_seconds())
    with seeding() as flow:
        flow.buffered()
    assert check() == set()


def test_a_property_that_cannot_be_sent_is_named_with_what_to_do(run, engine, flow_context, seeding):
    hubspot = flow_context.settings.destinations["hubspot"]
    wrong = hubspot.model_copy(update={"mapping": {**hubspot.mapping, "first_source": "sauce"}})
    settings = flow_context.settings.model_copy(update={"destinations": {"hubspot": wrong}})
    check_mappings(engine, settings=settings, clock=flow_context.clock, runner_id="test")
    with seeding() as flow:
        flow.delivered(withheld={"sauce": "unknown_property"})
    result = run("slo_checks")
    assert [name for name, passed in older(result).items() if not passed] == ["crm_sync_batches.mapping"]
    [judged] = [item for item in result.get_asset_check_evaluations() if item.check_name == "mapping"]
    assert judged.severity is dg.AssetCheckSeverity.WARN
    assert "hubspot.sauce unknown_property: make it at the destination, or map first_source" in judged.description
    assert "1 contacts are at hubspot without sauce" in judged.description


def test_contacts_that_were_given_up_wait_for_somebody(run, seeding):
    with seeding() as flow:
        for _ in range(2):
            flow.dead()
        flow.connection.execute(sa.text("update dead_letters set destination = 'hubspot'"))
    result = run("slo_checks")
    [judged] = [item for item in result.get_asset_check_evaluations() if item.check_name == "open_dead_letters"]
    assert (judged.passed, judged.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert "2 contacts were given up: `leads dead-letters list`" in judged.description
    assert evaluation(result, "open_dead_letters")["open"] == 2


@pytest.mark.parametrize(
    ("reason", "severity"), [("auth", dg.AssetCheckSeverity.ERROR), ("no_answer", dg.AssetCheckSeverity.WARN)]
)
def test_a_parked_destination_is_named_with_what_to_do(reason, severity, run, seeding, clock):
    with seeding() as flow:
        later = clock.now() + timedelta(minutes=1)
        flow.insert(
            "circuit_breakers", name="crm:hubspot", state="open", failures=1, reason=reason, next_probe_at=later
        )
    result = run("slo_checks")
    [judged] = [item for item in result.get_asset_check_evaluations() if item.check_name == "parked_destinations"]
    assert (judged.passed, judged.severity) == (False, severity)
    assert judged.description.startswith(f"hubspot ({reason}): it ")
    assert f"| hubspot | {later:%Y-%m-%d %H:%M:%S} UTC | {reason} |" in judged.metadata["parked"].value


def test_a_destination_that_can_take_nobody_is_an_error(run, engine, flow_context):
    hubspot = flow_context.settings.destinations["hubspot"]
    wrong = hubspot.model_copy(update={"key_property": "company_key"})
    settings = flow_context.settings.model_copy(update={"destinations": {"hubspot": wrong}})
    check_mappings(engine, settings=settings, clock=flow_context.clock, runner_id="test")
    found = {item.check_name: item for item in run("slo_checks").get_asset_check_evaluations()}
    judged, parked = found["mapping"], found["parked_destinations"]
    assert (parked.passed, parked.severity) == (True, dg.AssetCheckSeverity.WARN), "by what leads.yaml says now"
    assert (judged.passed, judged.severity) == (False, dg.AssetCheckSeverity.ERROR)
