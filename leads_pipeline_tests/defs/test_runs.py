"""Real Dagster runs of the hot chain: leads in the buffer, contacts in the sandbox CRM."""

from datetime import timedelta
from pathlib import Path

import dagster as dg
import pytest
import sqlalchemy as sa

from leads_pipeline.defs.crm_io_manager import CrmIOManager
from leads_pipeline.sandbox.faults import FaultKind, FaultRule
from leads_pipeline_tests.defs.conftest import metadata_of, verdicts
from leads_pipeline_tests.defs.rows import Flow

pytestmark = pytest.mark.usefixtures("expectations_imported")

JANE = {
    "email": "jane.quayside@harbour-example.com",
    "phone": "+1 415 555 0123",
    "first_name": "Janette",
    "last_name": "Doewright",
    "company": "Doewright Shipping",
}

# Fails once, then works: `nextval` is not undone when the transaction is.
FAIL_ONCE = """
create sequence tries;
create function fail_once() returns trigger language plpgsql as $$ begin
    if nextval('tries') = 1 then {what}; end if;
    return new;
end $$;
create trigger fail_once before insert on raw_leads for each row execute function fail_once();
"""

# What PostgreSQL calls the two kinds of trouble: one chunk's, after which the others go on, and the database's.
ONE_TENANT_S = "P0001"
THE_DATABASE_S = "55P03"

FAIL_ALWAYS = """
create function fail_always() returns trigger language plpgsql as $$ begin
    if new.tenant = '{tenant}' then
        raise exception using message = 'cannot take ' || new.payload::text, errcode = '{code}';
    end if;
    return new;
end $$;
create trigger fail_always before insert on raw_leads for each row execute function fail_always();
"""


def execute(engine: sa.Engine, statements: str) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql(statements)


def test_a_tenant_whose_chunk_fails_does_not_hold_up_another_tenant_s_leads(run, seeding, sandbox, engine, count):
    """Below a failed asset Dagster skips everything, every tenant's leads and deliveries included."""
    execute(engine, FAIL_ALWAYS.format(tenant="acme", code=ONE_TENANT_S))
    with seeding() as acme, seeding(tenant="globex") as globex:
        acme.buffered()
        globex.buffered()
    result = run("near_real_time")
    assert result.success
    assert run("delivery").success
    assert len(list(sandbox.contacts())) == 1
    assert count("buffer") == 1
    assert [name for name, passed in verdicts(result).items() if not passed] == ["raw_leads.chunks_taken"]


def test_a_micro_batch_makes_contacts_of_urgent_leads_and_leaves_the_batch_lane(run, seeding, sandbox, count):
    with seeding() as flow, seeding(lane="batch", source="import") as batch:
        for _ in range(3):
            flow.buffered()
        batch.buffered()
    assert run("near_real_time").success
    assert (count("golden_contacts"), count("buffer")) == (3, 1)
    assert list(sandbox.contacts()) == [], "a CRM that hardly answers keeps no lead waiting"
    assert run("delivery").success
    assert len(list(sandbox.contacts())) == 3
    assert run("batch").success
    assert run("delivery").success
    assert len(list(sandbox.contacts())) == 4
    assert count("buffer") == 0


def test_every_asset_reports_counts_that_dagster_can_plot(run, seeding):
    with seeding() as flow:
        flow.buffered()
        flow.buffered(payload={"message": "no way to reach me"})
    result = run("near_real_time")
    validated = metadata_of(result, "validated_leads")
    assert (validated["taken"], validated["passed"]) == (2, 1)
    for asset in ("raw_leads", "validated_leads", "deduped_leads", "golden_contacts"):
        reported = metadata_of(result, asset)
        assert {"taken", "passed", "chunks", "seconds", "remaining", "oldest_wait_seconds"} <= reported.keys()
        assert all(isinstance(value, int | float) for value in reported.values())


def test_the_io_manager_reports_what_was_delivered(run, seeding):
    with seeding() as flow:
        flow.buffered()
        flow.buffered()
    reported = metadata_of(run("all_lanes"), "crm_sync_batches")
    assert (reported["planned"], reported["delivered"], reported["retried"], reported["dead"]) == (2, 2, 0, 0)
    assert reported["requests"] >= 1


def test_the_io_manager_reports_what_was_refused_for_good(run, seeding, sandbox, count):
    with seeding() as flow:
        leads = [flow.buffered() for _ in range(3)]
    sandbox.set_faults([FaultRule(FaultKind.PER_RECORD_ERROR, match=str(leads[0]))])
    result = run("all_lanes")
    reported = metadata_of(result, "crm_sync_batches")
    assert result.success
    assert (reported["delivered"], reported["dead"]) == (2, 1)
    assert count("dead_letters") == 1


def test_the_io_manager_reports_what_will_be_sent_again(run, seeding, sandbox):
    with seeding() as flow:
        flow.buffered()
    sandbox.set_faults([FaultRule(FaultKind.HTTP_503)])
    result = run("all_lanes")
    reported = metadata_of(result, "crm_sync_batches")
    assert result.success
    assert (reported["delivered"], reported["dead"]) == (0, 0)
    assert reported["retried"] >= 1


def test_what_was_delivered_cannot_be_loaded_as_an_input(flow_context):
    with pytest.raises(dg.DagsterInvariantViolationError, match="deps="):
        CrmIOManager(flow=flow_context).load_input(dg.build_input_context())


def test_every_row_carries_the_run_that_wrote_it(run, seeding, engine):
    with seeding() as flow:
        flow.buffered()
    result = run("all_lanes")
    with engine.connect() as connection:
        for table in ("raw_leads", "validated_leads", "deduped_leads", "golden_contacts", "crm_sync_batches"):
            runners = set(connection.execute(sa.text(f"select runner_id from {table}")).scalars())
            assert runners == {result.run_id}, table


def test_a_lost_connection_is_retried_within_the_run(run, seeding, engine, count):
    with seeding() as flow:
        flow.buffered()
    execute(engine, FAIL_ONCE.format(what="perform pg_terminate_backend(pg_backend_pid())"))
    result = run("near_real_time")
    assert result.success
    assert len(result.filter_events(lambda event: event.event_type is dg.DagsterEventType.STEP_UP_FOR_RETRY)) == 1
    assert count("golden_contacts") == 1


def test_another_failure_is_not_retried_within_the_run_and_loses_nothing(run, seeding, engine, count):
    with seeding() as flow:
        flow.buffered()
    execute(engine, FAIL_ONCE.format(what=f"raise exception 'no' using errcode = '{THE_DATABASE_S}'"))
    failed = run("near_real_time")
    assert not failed.success
    assert failed.filter_events(lambda event: event.event_type is dg.DagsterEventType.STEP_UP_FOR_RETRY) == []
    assert count("buffer") == 1
    assert run("near_real_time").success
    assert count("golden_contacts") == 1


@pytest.mark.parametrize("job", ["delivery", "all_lanes"])
def test_duplicate_addresses_in_golden_stop_the_delivery(job, run, seeding, engine, sandbox):
    execute(engine, "drop index uq_golden_contacts_tenant_email_key")
    with seeding() as flow:
        flow.golden()
        for _ in range(2):
            flow.insert("golden_contacts", email="one@example.com", email_key="one@example.com")
    result = run(job)
    assert not result.success
    assert [name for name, passed in verdicts(result).items() if not passed] == ["golden_contacts.duplicate_emails"]
    assert list(sandbox.contacts()) == []


def test_bad_validated_leads_stop_the_batch_job_until_they_are_mended(run, seeding, engine, count):
    with seeding(lane="batch", source="import") as flow:
        flow.at_dedupe(email="not an address", phone="555", phone_key="555")
        flow.at_dedupe()
    blocked = run("batch")
    assert not blocked.success
    assert not verdicts(blocked)["validated_leads.expectations"]
    assert count("deduped_leads") == 0
    again = run("batch")
    assert not again.success, "bad rows of an earlier run were let through"
    execute(engine, "update validated_leads set email = email_key, phone = null, phone_key = null")
    mended = run("batch")
    assert mended.success
    assert verdicts(mended)["validated_leads.expectations"]
    assert (count("deduped_leads"), count("golden_contacts")) == (2, 2)


def test_bad_leads_of_one_source_and_day_hold_up_nobody_else(run, seeding, engine, clock, count):
    yesterday = clock.now() - timedelta(days=1)
    with seeding(lane="batch", source="import") as flow, seeding(tenant="globex", lane="batch") as other:
        bad = flow.at_dedupe(email="not an address", received_at=yesterday)
        flow.at_dedupe()
        other.at_dedupe()
    result = run("batch")
    assert result.success
    assert not verdicts(result)["validated_leads.expectations"]
    assert (count("deduped_leads"), count("golden_contacts")) == (2, 2)
    assert not verdicts(run("slo_checks"))["validated_leads.quality_holds"]
    with engine.connect() as connection:
        waiting = connection.execute(sa.text("select subject_id from pending where stage = 'deduped_leads'")).scalars()
        assert list(waiting) == [bad]


def test_held_leads_pass_by_no_other_job(run, seeding, count):
    with seeding(lane="batch", source="import") as flow:
        flow.at_dedupe(email="not an address")
    run("batch")
    everything = {"ops": {stage: {"config": {"lanes": ["batch"]}} for stage in ("validated_leads", "deduped_leads")}}
    assert run("near_real_time", run_config=everything).success
    assert count("deduped_leads") == 0


def test_held_leads_stay_accounted_for(run, seeding):
    with seeding(lane="batch", source="import") as flow:
        flow.at_dedupe(email="not an address")
    run("batch")
    assert verdicts(run("slo_checks"))["crm_sync_batches.conservation"]


def test_what_waits_for_a_crm_goes_on_while_all_that_waits_to_be_matched_is_bad(run, seeding, sandbox):
    with seeding(lane="batch", source="import") as flow:
        flow.at_dedupe(email="not an address")
        flow.golden()
    assert run("all_lanes").success
    assert len(list(sandbox.contacts())) == 1


def test_contacts_that_wait_for_a_crm_are_no_reason_for_the_batch_job_to_go_on(run, seeding):
    with seeding(lane="batch", source="import") as flow:
        flow.at_dedupe(email="not an address")
        flow.golden()
    assert not run("batch").success


def test_hot_leads_are_no_reason_for_the_batch_job_to_go_on(run, seeding):
    with seeding(lane="batch", source="import") as flow, seeding() as hot:
        flow.at_dedupe(email="not an address")
        hot.at_dedupe()
    assert not run("batch").success
    chosen = {"ops": {"deduped_leads": {"config": {"lanes": ["batch"]}}}}
    assert not run("all_lanes", run_config=chosen).success
    assert run("all_lanes").success, "there, the hot leads are its work"


def test_the_expectations_check_links_the_data_docs_of_its_run(run, seeding, tmp_state):
    with seeding(lane="batch", source="import") as flow:
        lead = flow.at_dedupe(email="quite-secret")
    [judged] = [c for c in run("batch").get_asset_check_evaluations() if c.check_name == "expectations"]
    path = Path(judged.metadata["data_docs_path"].value)
    assert judged.metadata["data_docs"].value == path.as_uri()
    assert path.parent.parent == tmp_state / ".leads" / "data_docs"
    written = "".join(page.read_text() for page in path.parent.iterdir())
    assert "email_format" in written
    for value in ("quite-secret", str(lead), f"{lead}@example.com"):
        assert value not in written


def test_a_table_of_another_version_stops_the_batch_job_before_anything_is_matched(run, seeding, engine, count):
    with seeding(lane="batch", source="import") as flow:
        flow.at_dedupe()
    execute(engine, "alter table validated_leads rename column phone_type to phone_kind")
    result = run("batch")
    assert not result.success
    [judged] = [c for c in result.get_asset_check_evaluations() if c.check_name == "expectations"]
    assert "phone_type text" in judged.metadata["columns_lacking"].value
    assert count("deduped_leads") == 0


def test_the_near_real_time_job_does_not_ask_great_expectations(run, seeding, count):
    with seeding() as flow:
        flow.at_dedupe(phone="555", phone_key="555")
    result = run("near_real_time")
    assert result.success
    assert "validated_leads.expectations" not in verdicts(result)
    assert not verdicts(result)["validated_leads.validation_rules"], "the same rules in SQL see it"
    assert verdicts(result)["golden_contacts.duplicate_emails"]
    assert count("deduped_leads") == 1


def test_the_job_for_people_takes_every_lane_and_all_its_checks_pass(run, seeding, count):
    with seeding() as flow, seeding(lane="batch", source="import") as batch:
        flow.buffered()
        batch.buffered()
    result = run("all_lanes")
    assert result.success
    assert len(verdicts(result)) == 39
    assert [name for name, passed in verdicts(result).items() if not passed] == []
    assert count("buffer") == 0


@pytest.mark.parametrize(
    ("code", "kind"), [(ONE_TENANT_S, "chunks of acme failed"), (THE_DATABASE_S, "LockNotAvailable")]
)
def test_no_value_of_a_lead_reaches_dagsters_storage(code, kind, run, seeding, engine, stored_instance, sandbox):
    with seeding() as flow, seeding(lane="batch", source="import") as batch:
        flow.buffered(payload=JANE, consent=[{"granted": True, "purpose": "marketing", "channel": "email"}])
        batch.at_dedupe(email=f"{JANE['email']} is not an address", last_name=JANE["last_name"])
    assert run("near_real_time", instance=stored_instance).success
    assert run("delivery", instance=stored_instance).success
    assert len(list(sandbox.contacts())) == 1
    assert not run("batch", instance=stored_instance).success
    assert run("slo_checks", instance=stored_instance).success
    with seeding() as flow:
        flow.buffered(payload=JANE)
    execute(engine, FAIL_ALWAYS.format(tenant="acme", code=code))
    failed = run("near_real_time", instance=stored_instance)
    assert failed.success is (code == ONE_TENANT_S)
    stored = everything_in_public(engine)
    assert failed.run_id in stored
    assert kind in stored
    for value in (*JANE.values(), "harbour-example", "4155550123"):
        assert value.lower() not in stored.lower(), f"Dagster stored {value!r}"


def everything_in_public(engine: sa.Engine) -> str:
    """All that Dagster has stored, as one text."""
    texts = []
    with engine.connect() as connection:
        tables = connection.execute(sa.text("select tablename from pg_tables where schemaname = 'public'")).scalars()
        for table in tables:
            rows = sa.text(f"select coalesce(string_agg(t::text, ' '), '') from public.{table} t")
            texts.append(connection.execute(rows).scalar_one())
    return " ".join(texts)


def test_maintenance_makes_partitions_and_forgets_posts(run, seeding, clock, engine, count):
    with seeding() as flow:
        flow.insert("ingest_keys", lead_id=Flow(flow.connection, clock.now()).new_lead())
        flow.insert("ingest_keys", source="old", received_at=clock.now() - timedelta(days=31))
        long_ago = {"last_seen_at": clock.now() - timedelta(days=91)}
        flow.insert("source_fields", field="invented", **long_ago)
        flow.insert("source_fields", field="email", used_for="email", **long_ago)
        flow.insert("source_fields", field="*", **long_ago)
        flow.insert("source_fields", field="colour", last_seen_at=clock.now() + timedelta(days=3_650))
    clock.advance(40 * 86_400)
    assert run("maintenance").success
    assert count("ingest_keys") == 0
    with engine.connect() as connection:
        kept = connection.execute(sa.text("select field from source_fields order by field")).scalars().all()
        assert sorted(kept) == ["*", "colour", "email"]
        month = clock.now().strftime("raw_leads_y%Ym%m")
        assert connection.execute(sa.text("select to_regclass(:name)"), {"name": month}).scalar_one()


def test_an_asset_that_is_materialised_by_hand_serves_every_lane(definitions, instance, seeding, count):
    with seeding() as flow, seeding(lane="batch", source="import") as batch:
        flow.buffered()
        batch.buffered()
    chain = definitions.resolve_implicit_global_asset_job_def()
    assert chain.execute_in_process(instance=instance, asset_selection=[dg.AssetKey("raw_leads")]).success
    assert count("buffer") == 0
