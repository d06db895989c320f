"""A look at the pipeline: parts that fail or hang leave the others alone, and it is told what came of each."""

import json
import threading
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import sqlalchemy as sa
from click.testing import CliRunner

from leads_pipeline.cli import cli
from leads_pipeline.clock import FrozenClock, SystemClock
from leads_pipeline.config import DATABASE_URL_VARIABLE, parse_settings
from leads_pipeline.defs.watching import watch_sensor
from leads_pipeline.domain.latency import Station
from leads_pipeline.domain.stage import ALL_LANES, Lane, Stage
from leads_pipeline.flows import FlowContext, drain
from leads_pipeline.flows.watching import HUNG_SECONDS, PARTS, Part, judge, take, watch
from leads_pipeline.steps.applied_policies import PolicyReport, apply_policies
from leads_pipeline.steps.evaluated_slos import evaluate_slos
from leads_pipeline.steps.raised_alerts import raise_alerts
from leads_pipeline.steps.simulated_policies import simulate
from leads_pipeline.storage.alerts import list_alerts
from leads_pipeline.storage.latency import Took, measure_latency
from leads_pipeline.storage.orders import orders_in_force
from leads_pipeline.watching.alert_sources import LOOKS
from leads_pipeline_tests.conftest import LEADS_YAML
from leads_pipeline_tests.test_obeyed_orders import capture


@pytest.fixture
def context(engine: sa.Engine) -> FlowContext:
    return FlowContext(engine, parse_settings(LEADS_YAML, path=Path("leads.yaml")), SystemClock())


def part(name: str, run: Any) -> Part:
    return Part(name, run, lambda report: f"did {report}")


def test_a_look_at_a_quiet_pipeline_has_nothing_to_do(context: FlowContext):
    report = watch(context, runner_id="test")

    assert [item.name for item in report.parts] == [item.name for item in PARTS]
    assert report.failed == {}
    assert report.policies is not None
    assert report.policies.began == []


def test_promises_that_read_whole_tables_are_judged_once_in_five_minutes_however_late_a_look_comes(
    engine: sa.Engine, clock: FrozenClock
):
    settings = parse_settings(LEADS_YAML, path=Path("leads.yaml"))
    context = FlowContext(engine, settings, clock)
    judged = list[bool]()
    clock.advance(-clock.now().timestamp() % 300 + 158)  # a look that begins 38 seconds into the minute for it
    for _ in range(14):
        judged.append("conservation" in {finding.key.slo for finding in judge(context, "test").findings})
        clock.advance(30)

    assert judged == [True, *[False] * 8, True, *[False] * 4]


def test_what_the_job_of_the_checks_has_judged_is_not_judged_as_well(engine: sa.Engine, clock: FrozenClock):
    settings = parse_settings(LEADS_YAML, path=Path("leads.yaml"))
    clock.advance(-clock.now().timestamp() % 300)
    evaluate_slos(engine, settings=settings, clock=clock, runner_id="slo_checks")
    clock.advance(150)

    found = judge(FlowContext(engine, settings, clock), "watch").findings

    assert "rejection_rate" not in {finding.key.slo for finding in found}


def test_a_part_that_fails_leaves_the_others_alone_and_is_named_without_its_values(context: FlowContext):
    def fails(_context: FlowContext, _runner_id: str) -> None:
        raise ValueError("ada@example.com")

    report = watch(context, runner_id="test", parts=[part("first", fails), part("second", lambda *_: 7)])

    assert report.failed == {"first": "ValueError"}
    assert report.words() == "first: ValueError; second: did 7"


def test_a_part_that_hangs_leaves_the_others_alone_and_is_begun_anew_only_after_minutes(
    context: FlowContext, clock: FrozenClock
):
    context = replace(context, clock=clock)
    released, starts = threading.Event(), []

    def hangs(_context: FlowContext, _runner_id: str) -> int:
        starts.append(1)
        released.wait(60)
        return 1

    parts = [part("hanging", hangs), part("other", lambda *_: 7)]
    first = watch(context, runner_id="test", parts=parts, part_seconds=1)
    second = watch(context, runner_id="test", parts=parts, part_seconds=1)
    clock.advance(HUNG_SECONDS)
    third = watch(context, runner_id="test", parts=parts, part_seconds=1)
    released.set()

    assert first.failed == {"hanging": "it took longer than 1 s"}
    assert second.failed == {"hanging": "the last look at it is still under way"}
    assert [done.words for done in second.parts] == ["", "did 7"]
    assert third.failed == first.failed
    assert len(starts) == 2


def test_what_fails_several_looks_in_a_row_is_told_until_it_works_again(engine: sa.Engine, clock: FrozenClock):
    settings = parse_settings(LEADS_YAML, path=Path("leads.yaml"))
    context = FlowContext(engine, settings, clock)
    blind = PolicyReport(failed={"backlog_old": "TypeError"}, unmeasured=["queue_depth"])

    def fails(_context: FlowContext, _runner_id: str) -> None:
        raise ValueError("ada@example.com")

    def titles(parts: list[Part], *, looks: int) -> dict[str, str]:
        for _look in range(looks):
            clock.advance(30)
            watch(context, runner_id="test", parts=parts, part_seconds=60)
            raise_alerts(engine, settings=settings, clock=clock, runner_id="test", only=[LOOKS])
        with engine.connect() as connection:
            found = list_alerts(connection, tenant=None, closed=False, limit=9)
        return {alert.title: str(alert.facts) for alert in found}

    failing = [part("promises", fails), part("policies", lambda *_: blind)]
    assert titles(failing, looks=6) == {}
    told = titles(failing, looks=1)
    assert told.keys() == {
        "Rules are blind, as their measures cannot be taken: queue_depth",
        "Rules fail: backlog_old",
        "The pipeline cannot look at itself: promises",
    }
    assert "ValueError, for 3 min" in told["The pipeline cannot look at itself: promises"]
    assert "ada" not in str(told)
    mended = [part("promises", lambda *_: 7), part("policies", lambda *_: PolicyReport())]
    assert len(titles(mended, looks=5)) == 3
    assert titles(mended, looks=6) == {}


RULES = """
policies:
  crowded:
    when: {measure: queue_depth, above: 2, stage: [raw_leads]}
    for_seconds: 60
    recover_seconds: 30
    cool_down_seconds: 60
    then: {action: resize_chunks, factor: 4}
"""


@pytest.fixture
def ruled(engine: sa.Engine, clock: FrozenClock, tmp_state: Path) -> FlowContext:
    (tmp_state / "leads.yaml").write_text(LEADS_YAML + RULES, encoding="utf-8")
    return FlowContext(engine, parse_settings(LEADS_YAML + RULES, path=tmp_state / "leads.yaml"), clock)


def test_a_rule_acts_when_nobody_sends_any_more(engine: sa.Engine, clock: FrozenClock):
    rule = (
        "policies: {nobody_sends: {for_seconds: 0, then: {action: resize_chunks, factor: 0.5}, when: {"
        "measure: rate_per_minute, below: 1, tenant: [acme], lane: [real_time], stage: [raw_leads]}}}"
    )
    context = FlowContext(engine, parse_settings(LEADS_YAML + rule, path=Path("leads.yaml")), clock)

    def acting() -> list[str]:
        taken = take(context, ["rate_per_minute"])
        report = apply_policies(engine, settings=context.settings, clock=clock, runner_id="test", taken=taken)
        return [item.policy for item in report.began]

    with engine.begin() as connection:
        took = Took("acme", Station.RAW_LEADS, [("real_time", 1.0)] * 20)
        measure_latency(connection, took, now=clock.now())
    assert acting() == []
    clock.advance(600)
    assert acting() == ["nobody_sends"]


def look(context: FlowContext, *, times: int) -> None:
    for _look in range(times):
        context.clock.sleep(30)
        report = watch(context, runner_id="test", part_seconds=60)
        assert report.failed == {}
        assert report.policies is not None
        assert "queue_depth" not in report.policies.unmeasured


def test_rules_act_on_what_is_measured_and_on_what_was_kept_of_it(ruled: FlowContext):
    capture(ruled, 5)
    look(ruled, times=4)
    with ruled.engine.connect() as connection:
        assert orders_in_force(connection, now=ruled.clock.now()).chunk_factor(tenant="acme", lanes=(Lane.BATCH,)) == 4
    drain(ruled, Stage.RAW_LEADS, lanes=ALL_LANES, runner_id="test")
    look(ruled, times=4)
    now = ruled.clock.now()

    found = simulate(ruled.engine, settings=ruled.settings, since=now - timedelta(days=1), until=now)
    changed = parse_settings(LEADS_YAML + RULES.replace("above: 2", "above: 20"), path=Path("leads.yaml"))
    calmer = simulate(ruled.engine, settings=changed, since=now - timedelta(days=1), until=now)

    assert found.minutes == 4
    target = "tenant=acme,lane=batch"
    [did] = found.did
    assert (did.policy, did.target, did.ended_for) == ("crowded", target, "recovered")
    assert [(item.policy, item.target, item.value) for item in found.would] == [("crowded", target, 5.0)]
    assert found.would[0].ending == "recovered"
    assert calmer.would == ()
    assert calmer.did == found.did


def test_a_person_sees_what_rules_do_puts_one_aside_and_tries_others(
    ruled: FlowContext, database_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setenv(DATABASE_URL_VARIABLE, database_url)
    capture(ruled, 5)
    look(ruled, times=4)
    (tmp_path / "changed.yaml").write_text("policies: {crowded: {enabled: false}}", encoding="utf-8")

    def leads(*words: str) -> str:
        done = CliRunner().invoke(cli, ["--config", str(ruled.settings.path), "policy", *words])
        assert done.exit_code == 0, done.output
        return done.output

    listed = {item["policy"]: item for item in json.loads(leads("list", "--json"))}
    assert listed["crowded"]["state"] == "acting"
    assert listed["quiet"]["state"] == "not enabled"
    assert "crowded" in leads("list")
    assert "queue_depth 5 above 2" in leads("show", "crowded")
    lasting = f"{(SystemClock().now() - ruled.clock.now()) // timedelta(days=1) + 1}d"
    [action] = json.loads(leads("history", "--since", lasting, "--json"))
    assert action["cause"]["held_seconds"] == 60
    assert action["ended_at"] is None

    told = leads("pause", "crowded", "--actor", "kim", "--reason", "a planned import")
    assert "ended: what it had ordered for tenant=acme,lane=batch" in told
    assert "put aside by kim" in leads("show", "crowded")
    look(ruled, times=1)
    assert json.loads(leads("history", "--since", lasting, "--json"))[0]["ended_for"] == "paused"
    assert "crowded looks again" in leads("resume", "crowded")

    assert "would have acted 1 times" in leads("simulate", "--since", lasting)
    assert "would have acted 0 times" in leads("simulate", "--since", lasting, "--with", str(tmp_path / "changed.yaml"))
    assert json.loads(leads("simulate", "--since", lasting, "--json"))["minutes_measured"] == 3


def test_a_rule_that_there_is_not_is_named_with_those_that_there_are(ruled: FlowContext, tmp_path: Path):
    done = CliRunner().invoke(cli, ["--config", str(ruled.settings.path), "policy", "show", "crowed"])

    assert done.exit_code == 1
    assert "crowded" in str(done.exception)


def test_the_sensor_looks_and_has_what_rules_do_stand_with_their_asset(ruled: FlowContext):
    capture(ruled, 5)
    with dg.DagsterInstance.ephemeral() as instance:
        told = []
        for _tick in range(4):
            ruled.clock.sleep(30)
            context = dg.build_sensor_context(instance=instance, resources={"flow": ruled})
            told.append(watch_sensor(context).skip_message)
        records = instance.fetch_observations(dg.AssetKey("raw_leads"), limit=10).records

    assert all(message.startswith("latencies: ") for message in told)
    assert sum("1 began" in message for message in told) == 1
    [record] = records
    metadata = record.asset_observation.metadata
    assert metadata["policy"].value == "crowded"
    assert (metadata["cause_measure"].value, metadata["cause_value"].value) == ("queue_depth", 5.0)
