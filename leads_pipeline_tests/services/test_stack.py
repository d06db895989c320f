"""What every process of a configuration is told."""

import stat
from pathlib import Path

import pytest

from leads_pipeline.config import Settings, parse_settings
from leads_pipeline.services.stack import Stack
from leads_pipeline_tests.conftest import LEADS_YAML


@pytest.fixture
def local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.delenv("LEADS_HUBSPOT_TOKEN")
    return parse_settings(LEADS_YAML, path=tmp_path / "leads.yaml")


def test_whoever_starts_first_all_processes_show_the_sandbox_the_same_token(local: Settings):
    """`leads run` beside `leads dev` would otherwise be refused, and park the destination for both."""
    first, second = Stack(local).environment(), Stack(local).environment()

    assert first["LEADS_HUBSPOT_TOKEN"] == second["LEADS_HUBSPOT_TOKEN"]
    assert len(first["LEADS_HUBSPOT_TOKEN"]) > 20
    assert stat.S_IMODE((local.state_path / "sandbox-token").stat().st_mode) == 0o600


def test_a_token_of_the_users_own_is_left_alone(local: Settings, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LEADS_HUBSPOT_TOKEN", "mine")

    assert Stack(local).environment()["LEADS_HUBSPOT_TOKEN"] == "mine"
    assert not (local.state_path / "sandbox-token").exists()


def test_a_real_crm_gets_no_token_that_was_made_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("LEADS_HUBSPOT_TOKEN")
    text = LEADS_YAML.replace("http://127.0.0.1:9", "https://api.hubapi.com")
    stack = Stack(parse_settings(text, path=tmp_path / "leads.yaml"))

    environment = stack.environment()

    assert "LEADS_HUBSPOT_TOKEN" not in environment
    assert stack.missing_secrets(environment) == ["LEADS_HUBSPOT_TOKEN"]
    assert stack.sandbox_services(environment) == []


def test_each_process_finds_the_same_configuration_and_compiles_what_it_imports(
    local: Settings, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")

    environment = Stack(local).environment()

    assert environment["LEADS_CONFIG"] == str(local.path)
    assert environment["DAGSTER_HOME"].startswith(str(local.state_path))
    assert "PYTHONDONTWRITEBYTECODE" not in environment
    assert (environment["DAGSTER_DISABLE_TELEMETRY"], environment["DO_NOT_TRACK"]) == ("yes", "1")
