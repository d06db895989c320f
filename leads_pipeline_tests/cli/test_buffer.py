"""`leads buffer status`, as an operator uses it."""

import json
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from click.testing import CliRunner, Result

from leads_pipeline.buffer.opening import open_lead_buffer
from leads_pipeline.cli import cli
from leads_pipeline.clock import FrozenClock, SystemClock
from leads_pipeline.config import DATABASE_URL_VARIABLE, parse_settings
from leads_pipeline.domain.stage import Lane
from leads_pipeline.errors import NotFound
from leads_pipeline.storage.capture_rates import CaptureRate, capture_rates
from leads_pipeline_tests.buffer.test_bounds import new_leads, put, take
from leads_pipeline_tests.conftest import LEADS_YAML
from leads_pipeline_tests.defs.rows import insert

Status = Callable[..., Result]


@pytest.fixture
def now() -> FrozenClock:
    """Stands at the present, as the command asks the machine for the time."""
    return FrozenClock(SystemClock().now())


@pytest.fixture
def status(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Status:
    """Run ``leads buffer status`` with the given bounds."""
    monkeypatch.setenv(DATABASE_URL_VARIABLE, database_url)
    monkeypatch.setenv("COLUMNS", "120")

    def run(*arguments: str, bounds: str = "{}", more: str = "") -> Result:
        (tmp_path / "leads.yaml").write_text(f"{LEADS_YAML}\nbuffer: {{bounds: {bounds}, {more}}}\n")
        return CliRunner().invoke(cli, ["--config", str(tmp_path / "leads.yaml"), "buffer", "status", *arguments])

    return run


def test_who_has_no_redis_is_told_so_and_not_asked(database_url: str, tmp_path: Path) -> None:
    (tmp_path / "leads.yaml").write_text(LEADS_YAML)
    refused = CliRunner().invoke(cli, ["--config", str(tmp_path / "leads.yaml"), "buffer", "write-off"])
    assert isinstance(refused.exception, NotFound)
    assert "names no buffer.redis" in str(refused.exception)
    assert "Go on?" not in refused.output


def test_an_empty_buffer_says_so_and_shows_its_bounds(status: Status) -> None:
    shown = status()
    assert shown.exit_code == 0
    assert "Nothing waits" in shown.output
    assert "It takes leads of every lane." in shown.output
    assert "5,000,000" in shown.output


def test_a_lane_that_a_rule_has_refused_is_not_called_open(status: Status, engine: sa.Engine) -> None:
    now = datetime.now(UTC)
    order = {"policy": "buffer_nearly_full", "target": "", "action": "refuse_batch", "parameters": {}, "cause": {}}
    with engine.begin() as connection:
        insert(connection, "policy_actions", now=now, tenant="acme", ends_at=now + timedelta(minutes=3), **order)
    said = "It takes leads of every lane but batch, which is refused by the rule buffer_nearly_full for acme."
    assert said in status().output
    assert [item["rule"] for item in json.loads(status("--json").output)["batch_refused_by"]] == ["buffer_nearly_full"]


def test_depth_age_and_rate_are_shown_per_tenant_and_lane(status: Status, engine: sa.Engine, now: FrozenClock) -> None:
    now.advance(-600)
    put(engine, now, 30, lane=Lane.REAL_TIME)
    now.advance(600)
    put(engine, now, 6, tenant="globex", lane=Lane.BATCH)
    found = json.loads(status("--json").output)
    acme, globex = found["lanes"]
    assert (acme["tenant"], acme["lane"], acme["waiting"]) == ("acme", "real_time", 30)
    assert acme["oldest_seconds"] == pytest.approx(600, abs=30)
    assert acme["captured_per_minute"] == {"1_min": 0.0, "15_min": 2.0}
    assert globex["captured_per_minute"] == {"1_min": 6.0, "15_min": 0.4}
    shown = status().output
    assert "globex" in shown
    assert "10 min" in shown


def test_what_came_and_went_still_shows_in_the_rate(status: Status, engine: sa.Engine, now: FrozenClock) -> None:
    put(engine, now, 15)
    take(engine, 15)
    [lane] = json.loads(status("--json").output)["lanes"]
    assert (lane["waiting"], lane["captured_per_minute"]["15_min"]) == (0, 1.0)


@pytest.mark.parametrize(
    ("bound", "level", "refused", "words"),
    [
        (40, "slow", [], "imports are slowed down"),
        (33, "batch_refused", ["batch"], "It refuses leads of these lanes: batch."),
        (20, "real_time_refused", ["batch", "near_real_time", "real_time"], "It refuses"),
    ],
)
def test_near_the_bound_the_status_says_who_is_refused(
    status: Status, engine: sa.Engine, now: FrozenClock, bound: int, level: str, refused: list[str], words: str
) -> None:
    put(engine, now, 30)
    found = json.loads(status("--json", bounds=f"{{max_leads: {bound}}}").output)
    assert (found["level"], found["refused_lanes"]) == (level, refused)
    assert found["bounds"]["leads"] == {"now": 30, "bound": bound, "fill": round(30 / bound, 4)}
    assert words in status(bounds=f"{{max_leads: {bound}}}").output


def test_a_buffer_in_redis_is_shown_with_what_postgresql_still_holds(
    status: Status, engine: sa.Engine, now: FrozenClock, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_REDIS_URL", redis_url)
    put(engine, now, 4)
    chosen = {"kind": "redis", "redis": {"url": {"env": "TEST_REDIS_URL"}}}
    settings = parse_settings(f"{LEADS_YAML}\nbuffer: {json.dumps(chosen)}\n", path=Path("leads.yaml"))
    with closing(open_lead_buffer(settings, engine)) as buffer:
        buffer.append(new_leads(now, 3, lane=Lane.REAL_TIME), now=now.now())
    redis = ", ".join(f"{key}: {json.dumps(value)}" for key, value in chosen.items())
    found = json.loads(status("--json", more=redis).output)
    assert found["buffer"] == "redis"
    assert [(lane["lane"], lane["waiting"]) for lane in found["lanes"]] == [("real_time", 3)]
    assert [(lane["lane"], lane["waiting"]) for lane in found["still_to_drain"]["postgresql"]] == [("batch", 4)]
    assert found["bounds"]["leads"]["now"] == 3
    shown = status(more=redis).output
    assert "Still in postgresql" in shown
    assert "Buffer in redis" in shown


def test_a_window_begins_after_its_first_instant_and_ends_now(engine: sa.Engine, clock: FrozenClock) -> None:
    put(engine, clock, 5)
    clock.advance(60)
    put(engine, clock, 7)
    windows = (timedelta(minutes=1), timedelta(minutes=2))
    with engine.connect() as connection:
        at_the_second = capture_rates(connection, windows=windows, now=clock.now())
        before_it = capture_rates(connection, windows=windows, now=clock.now() - timedelta(seconds=1))
    assert at_the_second == [CaptureRate("acme", Lane.BATCH, (7.0, 6.0))]
    assert before_it == [CaptureRate("acme", Lane.BATCH, (5.0, 2.5))]
