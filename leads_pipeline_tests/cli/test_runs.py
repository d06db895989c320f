"""`leads runs`, as an operator uses it."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import dagster as dg
import pytest
from click.testing import CliRunner, Result

from leads_pipeline.cli import cli
from leads_pipeline.config import CONFIG_VARIABLE, DATABASE_URL_VARIABLE, load_settings
from leads_pipeline.definitions import build_defs
from leads_pipeline.defs.runs import GIVEN_UP_AFTER
from leads_pipeline.services.stack import Stack
from leads_pipeline_tests.conftest import LEADS_YAML

Leads = Callable[..., Result]


@pytest.fixture
def config(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "leads.yaml"
    path.write_text(LEADS_YAML)
    monkeypatch.setenv(DATABASE_URL_VARIABLE, database_url)
    monkeypatch.setenv(CONFIG_VARIABLE, str(path))
    with patch.dict(os.environ):  # the command tells Dagster by the environment where things are
        yield path


@pytest.fixture
def leads(config: Path) -> Leads:
    return lambda *arguments: CliRunner().invoke(cli, ["--config", str(config), "runs", *arguments])


def give_up(config: Path) -> None:
    stack = Stack(load_settings(str(config)))
    stack.prepare()
    with dg.DagsterInstance.from_config(str(stack.dagster_home)) as instance:
        job = build_defs().resolve_job_def("near_real_time")
        for _ in range(GIVEN_UP_AFTER):
            instance.report_run_failed(instance.create_run_for_job(job))


def test_a_job_that_was_given_up_is_listed_and_asked_for_again_by_a_person(leads: Leads, config: Path) -> None:
    quiet = leads("list")
    assert quiet.exit_code == 0, quiet.output
    assert "asks as soon as something is due" in quiet.output
    give_up(config)
    listed = leads("list", "--json")
    assert listed.exit_code == 1
    by_job = {told["job"]: told for told in map(json.loads, listed.output.splitlines())}
    assert by_job["near_real_time"]["given_up"] is True
    assert "leads runs retry near_real_time" in by_job["near_real_time"]["waits"]
    assert by_job["delivery"] == {"job": "delivery", "in_a_row": 0, "failed": 0, "given_up": False, "waits": None}
    again = leads("retry", "near_real_time", "--actor", "ada")
    assert again.exit_code == 0, again.output
    assert leads("list").exit_code == 0


def test_a_job_that_no_sensor_asks_for_is_refused(leads: Leads) -> None:
    refused = leads("retry", "maintenance", "--actor", "ada")
    assert refused.exit_code == 2
    assert "near_real_time" in refused.output
