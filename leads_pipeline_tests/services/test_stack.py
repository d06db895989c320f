"""What every process of a configuration is told."""

import re
import stat
import threading
from pathlib import Path

import httpx
import pytest

from leads_pipeline.clock import SystemClock
from leads_pipeline.config import Settings, parse_settings
from leads_pipeline.errors import ConfigError, LeadsError
from leads_pipeline.services.stack import Stack
from leads_pipeline.services.supervisor import Supervisor
from leads_pipeline_tests.conftest import LEADS_YAML
from leads_pipeline_tests.ports import free_port


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


def test_a_command_in_another_terminal_knows_the_sandboxes_keys(local: Settings):
    assert Stack(local).known_sandbox_keys() == {}, "nothing was started yet"
    environment = Stack(local).environment()

    known = Stack(local).known_sandbox_keys()

    assert known
    assert {name: environment[name] for name in known} == known


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


def test_metrics_are_served_beside_dagster_at_the_port_of_leads_yaml(tmp_path: Path):
    stack = Stack(parse_settings(LEADS_YAML + "metrics: {port: 9555}\n", path=tmp_path / "leads.yaml"))
    environment = stack.environment()

    assert stack.metrics_url == "http://127.0.0.1:9555"
    assert "metrics" in [service.name for service in stack.services(environment, dagster=True)]
    assert stack.ports(dagster=True)[9555] == "metrics.port in leads.yaml"
    assert 9555 not in stack.ports(dagster=False)
    assert "metrics" not in [service.name for service in stack.services(environment, dagster=False)]


VERIFICATION = """
verification:
  mx: {enabled: true, resolvers: ["127.0.0.1:8053", "192.0.2.53"]}
  providers:
    bounce: {vendor: zerobounce, base_url: "http://127.0.0.1:8091", key: {env: BOUNCE_KEY}, calls_per_minute: 12}
    lines: {vendor: twilio, base_url: "http://localhost:8096/", key: {env: TWILIO_TOKEN}, account: AC1}
    own: {vendor: reacher, base_url: "http://127.0.0.1:8095"}
    real: {vendor: hunter, key: {env: HUNTER_KEY}}
"""


def test_providers_and_dns_of_this_machine_are_sandboxes_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TWILIO_TOKEN", "mine")
    stack = Stack(parse_settings(LEADS_YAML + VERIFICATION, path=tmp_path / "leads.yaml"))

    environment = stack.environment()
    commands = {service.name: list(service.command) for service in stack.sandbox_services(environment)}

    assert list(commands) == [
        "sandbox-hubspot",
        "sandbox-provider-bounce",
        "sandbox-provider-lines",
        "sandbox-provider-own",
        "sandbox-dns-8053",
    ]
    bounce = commands["sandbox-provider-bounce"]
    assert bounce[bounce.index("--vendor") :] == [
        *("--vendor", "zerobounce", "--host", "127.0.0.1", "--port", "8091"),
        *("--token-env", "BOUNCE_KEY", "--calls-per-minute", "12"),
    ]
    assert commands["sandbox-provider-lines"][-4:] == ["--token-env", "TWILIO_TOKEN", "--account", "AC1"]
    assert commands["sandbox-provider-own"][-2:] == ["--port", "8095"]
    assert commands["sandbox-dns-8053"][-6:] == ["--vendor", "dns", "--host", "127.0.0.1", "--port", "8053"]
    assert environment["BOUNCE_KEY"] == (tmp_path / ".leads" / "sandbox-token").read_text(encoding="utf-8")
    assert environment["TWILIO_TOKEN"] == "mine"
    assert stack.missing_secrets(environment) == ["HUNTER_KEY"]


def test_every_sandbox_of_a_configuration_comes_up_and_demands_its_key(tmp_path: Path):
    document = re.sub("8053|8091|8095|8096", lambda _port: str(free_port()), VERIFICATION)
    text = LEADS_YAML.replace("http://127.0.0.1:9", f"http://127.0.0.1:{free_port()}") + document
    stack = Stack(parse_settings(text, path=tmp_path / "leads.yaml"))
    environment = stack.environment()

    stack.check_ports(dagster=False)
    with Supervisor(log_directory=tmp_path / "logs", clock=SystemClock()) as supervisor:
        for service in stack.sandbox_services(environment):
            supervisor.start(service, stop_asked=threading.Event())  # returns when it is ready
        with pytest.raises(LeadsError, match=r"verification\.mx\.resolvers"):
            stack.check_ports(dagster=False)
        bounce = stack.settings.verification.providers["bounce"].base_url
        said = [
            httpx.get(f"{bounce}/v2/getcredits", params={"api_key": key}, trust_env=False, timeout=60).json()["Credits"]
            for key in (environment["BOUNCE_KEY"], "wrong")
        ]

    assert said == ["1000000", "-1"]


def test_two_sandboxes_at_one_port_are_refused_by_name(tmp_path: Path):
    text = LEADS_YAML + VERIFICATION.replace("8096", "8091")

    with pytest.raises(ConfigError, match=r"providers\.bounce.*providers\.lines.*8091"):
        _ = Stack(parse_settings(text, path=tmp_path / "leads.yaml")).sandboxes


def test_dns_that_is_not_asked_gets_no_sandbox(tmp_path: Path):
    text = LEADS_YAML + VERIFICATION.replace("enabled: true", "enabled: false")

    names = [sandbox.name for sandbox in Stack(parse_settings(text, path=tmp_path / "leads.yaml")).sandboxes]

    assert not any(name.startswith("sandbox-dns") for name in names)


def test_a_property_that_hubspot_does_not_bring_exists_in_the_sandbox(tmp_path: Path):
    mapping = "    mapping: {email: email, first_name: firstname, company: our_company, country: state}\n"
    text = LEADS_YAML + mapping

    (crm,) = Stack(parse_settings(text, path=tmp_path / "leads.yaml")).sandboxes

    places = [place for place, part in enumerate(crm.arguments) if part == "--property"]
    assert [crm.arguments[place + 1] for place in places] == ["our_company"]
