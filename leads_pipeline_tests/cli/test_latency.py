"""`leads latency`: figures for people, buckets for machines."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from click.testing import CliRunner, Result

from leads_pipeline.cli import cli
from leads_pipeline.config import DATABASE_URL_VARIABLE
from leads_pipeline.domain.latency import Station
from leads_pipeline.storage.latency import Took, fold, measure_latency
from leads_pipeline_tests.conftest import LEADS_YAML


@pytest.fixture(autouse=True)
def _place(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "leads.yaml").write_text(LEADS_YAML)
    monkeypatch.setenv(DATABASE_URL_VARIABLE, database_url)
    monkeypatch.setenv("LEADS_CONFIG", str(tmp_path / "leads.yaml"))
    monkeypatch.setenv("COLUMNS", "140")


def latency(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["latency", *arguments])


@pytest.fixture
def measured(engine: sa.Engine) -> None:
    now = datetime.now(UTC)
    with engine.begin() as connection:
        to_crm = [*(("real_time", 20.0) for _ in range(98)), *(("real_time", 600.0) for _ in range(2))]
        measure_latency(connection, Took("acme", Station.RAW_LEADS, [("batch", 0.5)] * 60), now=now)
        measure_latency(connection, Took("acme", Station.DELIVERED, to_crm, "hubspot"), now=now)
    fold(engine, now=now)
    with engine.begin() as connection:
        long_ago = now - timedelta(hours=5)
        measure_latency(connection, Took("globex", Station.RAW_LEADS, [("batch", 0.5)]), now=long_ago)


@pytest.mark.usefixtures("measured")
def test_people_see_percentiles_rates_and_how_times_spread() -> None:
    shown = latency()
    assert shown.exit_code == 0, shown.output
    [delivered] = [line for line in shown.output.splitlines() if "delivered hubspot" in line]
    assert delivered.split()[:6] == ["delivered", "hubspot", "100", "1.7", "20", "s"]
    assert "acme, real_time" in shown.output
    assert delivered.split()[-1] == "···█··▁···"
    assert "globex" not in shown.output


@pytest.mark.usefixtures("measured")
def test_machines_get_all_of_it() -> None:
    found = json.loads(latency("--json", "--lane", "real_time").output)
    [item] = found["latencies"]
    assert (item["stage"], item["destination"], item["leads"], item["per_minute"]) == (
        "delivered",
        "hubspot",
        100,
        1.667,
    )
    assert item["p50_seconds"] == pytest.approx(20, rel=0.1)
    assert item["p99_seconds"] == pytest.approx(600, rel=0.1)
    assert [bucket["leads"] for bucket in item["buckets"]] == [98, 2]


@pytest.mark.usefixtures("measured")
def test_a_longer_look_back_shows_more() -> None:
    assert "globex" in latency("--since", "1d").output
    assert "globex" not in latency("--since", "1d", "--tenant", "acme").output
    assert "delivered" not in latency("--stage", "raw_leads").output


def test_that_nothing_came_through_is_said() -> None:
    assert latency().output.startswith("Nothing came through")


def test_a_span_that_is_none_is_refused() -> None:
    shown = latency("--since", "soon")
    assert shown.exit_code == 2
    assert "'soon' is no span of time" in shown.output
