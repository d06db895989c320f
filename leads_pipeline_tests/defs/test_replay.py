"""A time window once more: through the flow, by Dagster's partitions, and by the command."""

import json
from datetime import timedelta

import pytest
import sqlalchemy as sa
from click.testing import CliRunner

from leads_pipeline import flows
from leads_pipeline.cli import cli
from leads_pipeline.config import DATABASE_URL_VARIABLE
from leads_pipeline.domain.ids import uuid7
from leads_pipeline.domain.stage import Lane, Stage
from leads_pipeline.errors import LeadsError
from leads_pipeline.storage.journey import lead_journey
from leads_pipeline.storage.replays import Window
from leads_pipeline_tests.conftest import LEADS_YAML

DAY = timedelta(days=1)


@pytest.fixture
def delivered(run, seeding, sandbox, engine):
    """Three people of acme, at the CRM; returns their day."""
    with seeding() as flow:
        for name in ("ada", "bob", "cleo"):
            flow.buffered(payload={"email": f"{name}@harbour-example.com", "first_name": name.title()})
    assert run("near_real_time").success
    assert run("delivery").success
    assert len(list(sandbox.contacts())) == 3


@pytest.fixture
def day(clock) -> Window:
    start = clock.now().replace(hour=0, minute=0, second=0, microsecond=0)
    return Window(start, start + DAY)


@pytest.fixture
def replay(flow_context, day):
    def again(window: Window = day, *, stage: Stage = Stage.VALIDATED_LEADS, replay_id: str = "r1", **more):
        return flows.replay(
            flow_context, window, stage=stage, replay_id=replay_id, actor="ada", runner_id="test", **more
        )

    return again


def rows(engine: sa.Engine, statement: str) -> list[tuple]:
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(sa.text(statement))]


@pytest.mark.usefixtures("delivered")
def test_replayed_leads_get_a_new_revision_with_its_audit_and_nobody_is_sent_again(replay, run, engine):
    report = replay()
    assert (report.seen, report.put_back) == (3, 3)
    assert rows(engine, "select distinct revision from deduped_leads") == [(2,)]
    assert rows(engine, "select distinct action, actor, reason, fields from lead_corrections") == [
        ("replay", "ada", "r1", {})
    ]
    assert run("delivery").success
    last = "select distinct verdict, code from sync_attempts where attempt = 0"
    assert rows(engine, last) == [("delivered", "UNCHANGED")], "the CRM is not asked"
    assert rows(engine, "select count(*) from sync_attempts where attempt > 0") == [(3,)]
    assert rows(engine, "select distinct state from outbox") == [("delivered",)]


@pytest.mark.usefixtures("delivered")
def test_the_same_replay_twice_puts_nothing_back_twice_and_another_one_does(replay, count):
    assert replay().put_back == 3
    assert replay().put_back == 0
    assert replay(replay_id="r2").put_back == 3
    assert count("lead_corrections") == 6


@pytest.mark.usefixtures("delivered")
def test_latencies_are_not_counted_again(replay, run, count):
    before = count("latency_measurements")
    assert before > 0
    replay()
    assert run("delivery").success
    assert count("latency_measurements") == before


@pytest.mark.usefixtures("delivered")
def test_only_the_window_and_the_tenant_are_replayed(replay, day, seeding, run):
    with seeding(tenant="globex") as flow:
        flow.buffered()
    assert run("near_real_time").success
    assert replay(Window(day.since - DAY, day.since)).seen == 0
    assert replay(Window(day.since, day.until, "globex")).put_back == 1
    assert replay(Window(day.since, day.until, "acme"), replay_id="r2").put_back == 3


def test_what_is_taken_out_set_aside_or_not_judged_yet_is_left_alone(replay, seeding):
    with seeding() as flow:
        flow.disposed("discarded")
        flow.at_validation()
        flow.at_fetch()
        flow.raw()
    assert replay().put_back == 0


def test_a_rejected_lead_is_judged_anew(replay, seeding, engine):
    with seeding() as flow:
        lead = flow.raw()
        flow.insert("rejected_leads", lead_id=lead, revision=1, reasons=[])
    assert replay().put_back == 1
    assert rows(engine, "select max(revision) from rejected_leads") == [(2,)]


def test_a_lead_that_waits_to_be_matched_and_is_rejected_now_is_not_matched_as_it_was(replay, seeding, engine, run):
    with seeding() as flow:
        flow.at_dedupe()  # what it was posted with is no lead by the rules of today
    assert replay().put_back == 1
    assert rows(engine, "select revision from rejected_leads") == [(2,)]
    assert rows(engine, "select stage from pending") == []
    assert run("near_real_time").success
    assert rows(engine, "select count(*) from deduped_leads") == [(0,)]


@pytest.mark.usefixtures("delivered")
def test_a_replay_works_in_the_batch_lane_portion_by_portion(
    flow_context, replay, monkeypatch, engine, sandbox, run, seeding
):
    monkeypatch.setattr("leads_pipeline.flows.replaying.PORTION", 1)
    waiting: list[int] = []

    def look(_report: flows.ReplayReport) -> None:
        waiting.append(rows(engine, "select count(*) from pending")[0][0])

    assert replay(on_portion=look).put_back == 3
    assert waiting == [0, 0, 0], "a portion is worked off before the next one is put back"
    assert rows(engine, "select distinct sync_lane from validated_leads where revision = 2") == [(str(Lane.BATCH),)]


@pytest.mark.usefixtures("delivered")
def test_contacts_are_made_anew_without_new_revisions_and_it_is_known_who_had_it_done(replay, count, engine):
    assert replay(stage=Stage.GOLDEN_CONTACTS).put_back == 3
    assert count("lead_corrections") == 0
    assert count("pending") == 0
    assert rows(engine, "select replay, actor, stage, put_back, ended_at is not null from replays") == [
        ("r1", "ada", "golden_contacts", 3, True)
    ]
    with engine.connect() as connection:
        [lead_id] = connection.execute(sa.text("select lead_id from raw_leads limit 1")).scalars()
        journey = lead_journey(connection, lead_id)
    [event] = [event for event in journey.events if event.table == "replays"]
    assert (event.event, event.details["actor"], event.details["replay"]) == ("its contact was made anew", "ada", "r1")


@pytest.mark.usefixtures("delivered")
def test_a_replay_tells_of_leads_that_are_rejected_now_and_stay_at_the_crm(replay, engine, run, sandbox):
    with engine.begin() as connection:  # what came was a lead by the rules of then
        connection.execute(sa.text("update raw_leads set payload = '{}' where payload ->> 'first_name' = 'Bob'"))
    assert replay().rejected_now == 1
    assert replay().rejected_now == 1, "also when it goes on"
    assert replay(replay_id="r2", dry_run=True).rejected_now == 0
    assert run("delivery").success
    assert len(list(sandbox.contacts())) == 3


def test_nobody_is_asked_about_a_lead_that_is_rejected_now(replay, seeding, count):
    with seeding() as flow:
        lead = flow.at_dedupe()
        for kind, call in (("mx", None), ("mailbox", None), ("phone", uuid7(flow.now))):
            flow.insert("verification_requests", lead_id=lead, revision=1, kind=kind, call_id=call)
    assert replay().put_back == 1
    assert count("verification_requests") == 1, "a call that was made may be answered yet"


def test_there_is_no_replay_from_other_stages(replay):
    with pytest.raises(LeadsError, match="validated_leads, golden_contacts"):
        replay(stage=Stage.DEDUPED_LEADS)


@pytest.mark.usefixtures("delivered")
def test_a_dry_run_counts_and_changes_nothing(replay, count):
    assert replay(dry_run=True).put_back == 3
    assert (count("lead_corrections"), count("pending")) == (0, 0)


@pytest.mark.usefixtures("delivered")
def test_a_day_s_partition_is_replayed_and_a_failed_one_may_be_run_again(run, day, engine, count):
    key = f"{day.since:%Y-%m-%d}"
    tags = {"dagster/backfill": "abc"}
    poison = (
        "create function poison() returns trigger language plpgsql as $$ begin "
        "raise exception 'no' using errcode = '55P03'; end $$; "
        "create trigger poison before insert on validated_leads for each row execute function poison()"
    )
    with engine.begin() as connection:
        connection.exec_driver_sql(poison)
    assert not run("replay", partition_key=key, tags=tags).success
    assert count("lead_corrections") == 3
    with engine.begin() as connection:
        connection.exec_driver_sql("drop trigger poison on validated_leads")
    again = run("replay", partition_key=key, tags=tags)
    assert again.success
    assert count("lead_corrections") == 3, "not put back twice"
    assert count("pending") == 0, "what the failed one left at the door is worked off"
    other = run("replay", partition_key=key, tags={"dagster/backfill": "def"})
    assert other.success
    assert count("lead_corrections") == 6


def test_a_tenant_with_a_slip_of_the_pen_is_refused_with_those_there_are(run, day):
    config = {"ops": {"replay_day": {"config": {"tenant": "acmee"}}}}
    result = run("replay", partition_key=f"{day.since:%Y-%m-%d}", run_config=config)
    assert not result.success
    [failure] = [e for e in result.all_events if e.is_step_failure]
    assert "acme" in failure.step_failure_data.user_failure_data.description


@pytest.mark.usefixtures("delivered")
def test_the_command_tells_how_to_go_on_and_what_it_did(day, database_url, tmp_path, monkeypatch, count):
    (tmp_path / "leads.yaml").write_text(LEADS_YAML)
    monkeypatch.setenv(DATABASE_URL_VARIABLE, database_url)

    def leads(*arguments: str):
        window = ["--since", f"{day.since:%Y-%m-%d}", "--until", f"{day.until:%Y-%m-%d}", "--actor", "ada"]
        return CliRunner().invoke(cli, ["--config", str(tmp_path / "leads.yaml"), "replay", *window, *arguments])

    dry = leads("--dry-run", "--json")
    assert dry.exit_code == 0, dry.output
    assert json.loads(dry.output)["put_back"] == 3
    assert count("lead_corrections") == 0
    done = leads("--tenant", "acme")
    assert "3 leads in the window; 3 leads went through once more" in done.output
    replay_id = done.output.split()[1]
    assert "3 leads in the window; 0 leads" in leads("--id", replay_id).output
    assert leads("--tenant", "acmee").exit_code == 2
