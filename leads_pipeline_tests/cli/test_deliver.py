"""`leads deliver`, a worker without Dagster, and what `leads status` says of the quota."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import yaml
from click.testing import CliRunner

from leads_pipeline import flows
from leads_pipeline.cli import cli
from leads_pipeline.cli.deliver import keep_delivering
from leads_pipeline.clock import FrozenClock, SystemClock
from leads_pipeline.config import DATABASE_URL_VARIABLE
from leads_pipeline.crm.health import Health
from leads_pipeline.crm.parking import Forecasts
from leads_pipeline.crm.sandbox.hubspot.options import HubSpotOptions
from leads_pipeline.crm.sandbox.running import SandboxServer, running_sandbox
from leads_pipeline.domain.quota_budget import Forecast
from leads_pipeline.domain.stage import ALL_LANES, Lane
from leads_pipeline.errors import DatabaseUnavailable
from leads_pipeline.flows import FlowContext, deliveries
from leads_pipeline.storage import delivery_status
from leads_pipeline_tests.conftest import NOW
from leads_pipeline_tests.crm.delivering import TOKEN, add_contacts, outbox_rows, settings_for, states, yaml_for


@pytest.fixture
def sandbox() -> Iterator[SandboxServer]:
    with running_sandbox(HubSpotOptions(token=TOKEN).without_limits()) as server:
        yield server


@pytest.fixture
def config(sandbox: SandboxServer, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    path = tmp_path / "leads.yaml"
    path.write_text(yaml_for(sandbox.base_url, daily=20, batch_size=10))
    monkeypatch.setenv(DATABASE_URL_VARIABLE, database_url)
    monkeypatch.setenv("COLUMNS", "250")
    return str(path)


def _lines(config: str, *arguments: str) -> list[dict[str, Any]]:
    answer = CliRunner().invoke(cli, ["--config", config, "deliver", "--once", "--json", *arguments])
    assert answer.exit_code == 0, answer.output
    return [json.loads(line) for line in answer.stdout.splitlines() if line.startswith("{")]


def test_what_is_due_is_delivered_and_what_is_left_of_the_quota_is_told(config: str, engine: sa.Engine) -> None:
    urgent, bulk = add_contacts(engine, 15), add_contacts(engine, 5, lane=Lane.BATCH)
    [report] = _lines(config)
    assert (report["delivered"], report["requests_by_lane"]) == (20, {"real_time": 2})
    assert report["quota"]["hubspot"]["left"] == 17  # one asked which properties there are
    assert report["quota"]["hubspot"]["until"].endswith("00:00:00+00:00")
    assert states(engine, urgent + bulk) == {"delivered"}
    assert _lines(config) == []


def test_only_the_lanes_that_are_named_are_served(config: str, engine: sa.Engine) -> None:
    urgent, bulk = add_contacts(engine), add_contacts(engine, lane=Lane.BATCH)
    assert [line["delivered"] for line in _lines(config, "--lane", "batch")] == [1]
    assert (states(engine, urgent), states(engine, bulk)) == ({"waiting"}, {"delivered"})


def test_once_with_all_parked_says_so_and_fails(config: str, engine: sa.Engine) -> None:
    add_contacts(engine)
    policy = settings_for("http://127.0.0.1:9").delivery.breaker
    Health(engine, "hubspot", policy=policy, clock=SystemClock()).give_up("no_answer")
    answer = CliRunner().invoke(cli, ["--config", config, "deliver", "--once"])
    assert answer.exit_code == 1
    assert "nothing sent; 0 requests; hubspot is parked until " in answer.output


def test_what_waits_is_counted_for_the_forecast_once_a_minute(
    config: str, engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An idle worker plans twice a second."""
    asked: list[datetime] = []
    plain = delivery_status.request_forecast

    def counted(connection: sa.Connection, **options: Any) -> Forecast:
        asked.append(options["now"])
        return plain(connection, **options)

    monkeypatch.setattr(delivery_status, "request_forecast", counted)
    settings = settings_for(sandbox.base_url)
    context, forecasts = FlowContext(engine, settings, clock), Forecasts(engine, settings=settings, clock=clock)
    for _ in range(240):
        flows.plan_sync(context, lanes=ALL_LANES, forecasts=forecasts)
        clock.advance(0.5)
    assert len(asked) == 2


def test_what_is_due_does_not_wait_until_a_destination_that_was_added_is_filled(
    engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    budgets: list[timedelta] = []
    plain = deliveries.fill_destinations

    def noted(engine: sa.Engine, **options: Any) -> Any:
        budgets.append(options["budget"])
        return plain(engine, **options)

    monkeypatch.setattr(deliveries, "fill_destinations", noted)
    context = FlowContext(engine, settings_for(sandbox.base_url), clock)
    add_contacts(engine)
    with engine.begin() as connection:
        connection.execute(sa.text("delete from outbox"))
    assert flows.plan_sync(context, lanes=ALL_LANES).by_destination == {"hubspot": 1}  # filled, then due
    assert flows.plan_sync(context, lanes=ALL_LANES).by_destination == {"hubspot": 1}
    assert budgets == [deliveries.FILL_BUDGET, deliveries.FILL_BUDGET_BESIDE]


def test_a_line_for_people_says_the_same(config: str, engine: sa.Engine) -> None:
    add_contacts(engine, 3)
    answer = CliRunner().invoke(cli, ["--config", config, "deliver", "--once"])
    assert "3 delivered; 1 requests; hubspot has 18 left until " in answer.output


def test_status_shows_the_quota_of_each_lane_and_what_is_parked(config: str, engine: sa.Engine) -> None:
    add_contacts(engine, 300, lane=Lane.BATCH)
    _lines(config)
    found = json.loads(CliRunner().invoke(cli, ["--config", config, "status", "--json"]).output)
    [quota] = found["quotas"]
    assert (quota["account"], quota["limit"], quota["left_for"]["batch"]) == ("sandbox", 20, 0)
    assert quota["left"] == quota["left_for"]["real_time"] > 0
    assert {(item["what"], item["reason"]) for item in found["parked"]} >= {("hubspot batch", "reserve")}
    shown = CliRunner().invoke(cli, ["--config", config, "status"]).output
    assert "hubspot batch is parked until " in shown
    assert quota["resets_at"][:10] in shown


def test_status_names_what_of_a_mapping_does_not_fit_and_that_its_destination_is_parked(
    config: str, engine: sa.Engine
) -> None:
    document = yaml.safe_load(Path(config).read_text())
    document["destinations"]["hubspot"]["key_property"] = "company_key"
    Path(config).write_text(yaml.safe_dump(document))
    add_contacts(engine)
    [report] = _lines(config)
    assert report["parked"]["hubspot"]["reason"] == "mapping"
    shown = CliRunner().invoke(cli, ["--config", config, "status"]).output
    assert "(mapping): no contact can be sent as it is mapped: `leads destinations check` says why" in shown
    assert "hubspot.company_key unknown property: " in shown
    found = json.loads(CliRunner().invoke(cli, ["--config", config, "status", "--json"]).output)
    assert [(item["property"], item["fault"]) for item in found["mapping_faults"]] == [
        ("company_key", "unknown_property")
    ]


def test_what_comes_later_is_delivered_too_and_a_database_that_goes_away_is_waited_for(
    config: str, engine: sa.Engine, sandbox: SandboxServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    reports: list[int] = []
    slept: list[float] = []

    def meanwhile(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 1:
            add_contacts(engine, 2)
        if len(slept) == 3:
            raise KeyboardInterrupt

    from leads_pipeline import flows

    deliver, broken = flows.deliver, [True]

    def goes_away_once(*arguments: Any, **keywords: Any) -> Any:
        if broken.pop() if broken else False:
            raise DatabaseUnavailable("it is away", why="test")
        return deliver(*arguments, **keywords)

    monkeypatch.setattr(flows, "deliver", goes_away_once)
    context = FlowContext(engine, settings_for(sandbox.base_url), FrozenClock(NOW, on_sleep=meanwhile))
    with pytest.raises(KeyboardInterrupt):
        keep_delivering(context, lanes=ALL_LANES, runner_id="test", on_report=lambda r: reports.append(r.delivered))
    assert (reports, slept) == ([2], [0.5, 5.0, 0.5])


def test_a_worker_ends_when_it_is_told_to(config: str, engine: sa.Engine) -> None:
    add_contacts(engine, 3)
    command = [sys.executable, "-m", "leads_pipeline", "--config", config, "deliver", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=dict(os.environ)) as worker:
        assert worker.stdout is not None
        assert json.loads(worker.stdout.readline())["delivered"] == 3
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(timeout=60) == 0
    assert {row["state"] for row in outbox_rows(engine).values()} == {"delivered"}
