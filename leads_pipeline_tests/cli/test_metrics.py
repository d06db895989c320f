"""``leads metrics``: printed once, and served to Prometheus as a process of its own."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner
from prometheus_client.parser import text_string_to_metric_families

from leads_pipeline.cli import cli
from leads_pipeline.config import CONFIG_VARIABLE, DATABASE_URL_VARIABLE
from leads_pipeline.exposition import CONTENT_TYPE
from leads_pipeline_tests.conftest import LEADS_YAML


@pytest.fixture
def config(tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "leads.yaml"
    path.write_text(LEADS_YAML, encoding="utf-8")
    monkeypatch.setenv(CONFIG_VARIABLE, str(path))
    monkeypatch.setenv(DATABASE_URL_VARIABLE, database_url)
    return path


@pytest.fixture
def served(config: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The command as a process, and where it says that it serves."""
    command = [sys.executable, "-m", "leads_pipeline", "metrics", "serve", "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=dict(os.environ))
    assert process.stdout is not None
    yield process, process.stdout.readline().removeprefix("metrics are at ").strip()
    process.kill()
    process.communicate()


def test_print_tells_all_of_it_once(config):
    done = CliRunner().invoke(cli, ["metrics", "print"])

    assert done.exit_code == 0, done.output
    names = {family.name for family in text_string_to_metric_families(done.stdout)}
    assert {"leads_captured", "leads_scale_workers", "leads_build_info"} <= names


def test_print_fails_where_something_cannot_be_read(config, engine):
    import sqlalchemy as sa

    with engine.begin() as connection:
        connection.execute(sa.text("alter table quality_gates rename to gates"))
    done = CliRunner().invoke(cli, ["metrics", "print"])

    assert done.exit_code == 1
    assert "not read: gates" in done.stderr
    assert "leads_captured_total" in done.stdout


def test_a_served_scrape_is_prometheus_text_and_a_signal_ends_it(served):
    process, url = served
    with httpx.Client(timeout=30) as client:
        answer = client.get(url)
        assert answer.status_code == 200
        assert answer.headers["content-type"] == CONTENT_TYPE
        assert "leads_metrics_part_ok" in answer.text
        base = url.removesuffix("/metrics")
        assert "/metrics" in client.get(base).text
        assert client.get(f"{base}/healthz").text == "ok\n"
        assert client.get(f"{base}/leads").status_code == 404
        assert client.post(url).status_code == 501
        head = client.head(url)
        assert (head.status_code, head.content) == (200, b"")
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0


def test_a_port_that_is_taken_is_told_with_what_to_do(served):
    _process, url = served
    port = url.removesuffix("/metrics").rpartition(":")[2]
    done = subprocess.run(
        [sys.executable, "-m", "leads_pipeline", "metrics", "serve", "--port", port],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 1
    assert f"cannot serve metrics on 127.0.0.1:{port}" in done.stderr
    assert "--port" in done.stderr
