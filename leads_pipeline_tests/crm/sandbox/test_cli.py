"""``leads sandbox report`` and ``leads sandbox faults``."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from leads_pipeline.cli import cli
from leads_pipeline.crm.sandbox.running import SandboxServer
from leads_pipeline_tests.conftest import LEADS_YAML
from leads_pipeline_tests.crm.sandbox.conftest import Api, entry


def run(*arguments: str, text: str | None = None) -> Result:
    return CliRunner().invoke(cli, ["sandbox", *arguments], input=text)


def test_the_report_is_printed_as_json(api: Api, sandbox: SandboxServer):
    api.upsert(entry("k1"))

    result = run("report", "--url", sandbox.base_url)

    assert json.loads(result.output)["contacts"] == 1


def test_faults_are_set_shown_and_cleared(api: Api, sandbox: SandboxServer):
    at = ("--url", sandbox.base_url)

    made = run("faults", "set", "http_503", "--rate", "1", "--count", "2", "--endpoint", "batch/upsert", *at)
    status = api.upsert(entry("k1")).status_code
    shown = run("faults", "show", *at)
    cleared = run("faults", "clear", *at)

    rule = {"kind": "http_503", "rate": 1.0, "count": 2, "endpoint": "batch/upsert"}
    assert json.loads(made.output) == {**rule, "fired": 0}
    assert status == 503
    assert json.loads(shown.output) == {**rule, "fired": 1}
    assert cleared.output == run("faults", "show", *at).output == "no faults\n"


@pytest.mark.parametrize("through", ["file", "stdin"])
def test_several_rules_come_from_a_file(sandbox: SandboxServer, tmp_path: Path, through: str):
    rules = json.dumps([{"kind": "slow", "latency_ms": 1}, {"kind": "auth", "count": 1}])
    file = tmp_path / "rules.json"
    file.write_text(rules)

    source = str(file) if through == "file" else "-"
    result = run("faults", "set", "--rules", source, "--url", sandbox.base_url, text=rules)

    assert result.exit_code == 0
    assert [rule["kind"] for rule in sandbox.faults()] == ["slow", "auth"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("faults", "set"), "KIND"),
        (("faults", "set", "http_500", "--rules", "-"), "not both"),
        (("faults", "set", "--rules", "-"), "not JSON"),
        (("faults", "set", "http_500", "--rate", "2"), "--rate"),
        (("serve", "--time-zone", "Mars/Base"), "IANA"),
        (("serve", "--token-env", "not a name"), "environment variable"),
        (("serve", "--requests", "0"), "--requests"),
        (("serve", "--vendor", "nobody"), "hubspot"),
        (("serve", "--window", "300"), "REQUESTS/SECONDS"),
        (("serve", "--window", "0/10"), "REQUESTS/SECONDS"),
        (("serve", "--window", "300/nan"), "REQUESTS/SECONDS"),
        (("serve", "--other-token-env", "LEADS_NO_SUCH_TOKEN"), "LEADS_NO_SUCH_TOKEN"),
        (("serve", "--vendor", "dns", "--window", "300/10"), "only for hubspot"),
    ],
)
def test_what_cannot_be_is_refused_by_name(arguments: tuple[str, ...], said: str):
    result = run(*arguments, text="{")

    assert result.exit_code == 2
    assert said in result.output


def test_every_vendor_that_can_be_played_can_be_served_and_has_what_every_account_has():
    from dataclasses import fields

    from leads_pipeline.cli import sandbox as command
    from leads_pipeline.crm.sandbox.vendors import VENDORS

    assert set(command._CRMS) == set(VENDORS)
    for name, vendor in VENDORS.items():
        own = {option for option, vendors in command._OF_ONE_CRM.items() if name in vendors}
        assert {*command._OF_EVERY_CRM, *own} <= {field.name for field in fields(vendor.options)}
        assert vendor.options.vendor == name


def test_an_unknown_kind_is_refused_by_the_sandbox(sandbox: SandboxServer, capsys: pytest.CaptureFixture[str]):
    from leads_pipeline.cli import main

    with pytest.raises(SystemExit) as ended:
        main(["sandbox", "faults", "set", "http_418", "--url", sandbox.base_url])

    assert ended.value.code == 1
    assert "http_500" in capsys.readouterr().err


def test_the_sandbox_of_leads_yaml_is_asked_without_naming_it(sandbox: SandboxServer, tmp_path: Path):
    config = tmp_path / "leads.yaml"
    config.write_text(LEADS_YAML.replace("http://127.0.0.1:9", sandbox.base_url), encoding="utf-8")

    result = CliRunner().invoke(cli, ["--config", str(config), "sandbox", "report"])

    assert result.exit_code == 0, result.output
    assert json.loads(result.output)["vendor"] == "hubspot"
