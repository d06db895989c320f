"""deploy/compose.yaml and the Dockerfile: as far as one can tell without building them."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from leads_pipeline.cli import cli

ROOT = Path(__file__).resolve().parents[2]
HERE = ROOT / "deploy"


def compose() -> dict[str, Any]:
    return yaml.safe_load((HERE / "compose.yaml").read_text(encoding="utf-8"))


def ours() -> dict[str, Any]:
    return {name: it for name, it in compose()["services"].items() if it["image"].startswith("leads-pipeline:")}


def test_it_is_what_the_compose_specification_allows():
    checker = Path(sys.executable).with_name("check-jsonschema")
    done = subprocess.run(
        [checker, "--builtin-schema", "vendor.compose-spec", HERE / "compose.yaml"],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


def test_every_command_of_ours_is_one_that_exists():
    for name, service in ours().items():
        if "entrypoint" in service:
            assert Path(sys.executable).with_name(service["entrypoint"][0]).exists(), name
            continue
        words = [word for word in service["command"] if not word.startswith("-")]
        depth = 2 if words[0] != "watch" else 1
        help_ = CliRunner().invoke(cli, [*words[:depth], "--help"])
        assert help_.exit_code == 0, (name, help_.output)
        for option in (word for word in service["command"] if word.startswith("--")):
            assert option in help_.output, (name, option)


def test_nothing_of_ours_runs_with_privileges_or_writes_to_its_image():
    for name, service in ours().items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name


def test_ports_are_this_machine_s_only_and_no_secret_stands_in_the_file():
    for name, service in compose()["services"].items():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name
        for variable, value in service.get("environment", {}).items():
            if re.search("PASSWORD|TOKEN|URL", variable):
                assert "${" in value, variable
    asked = set(re.findall(r"\$\{([A-Z_]+):\?", (HERE / "compose.yaml").read_text(encoding="utf-8")))
    assert asked == set(re.findall(r"^([A-Z_]+)=$", (HERE / "env.example").read_text(encoding="utf-8"), re.MULTILINE))


def test_what_is_mounted_and_scraped_is_there():
    services = compose()["services"]
    for service in services.values():
        for volume in service.get("volumes", []):
            if volume.startswith("./"):
                assert (HERE / volume.partition(":")[0]).exists(), volume
    scraped = yaml.safe_load((HERE / "prometheus/prometheus.yml").read_text(encoding="utf-8"))["scrape_configs"]
    hosts = {target.partition(":")[0] for job in scraped for one in job["static_configs"] for target in one["targets"]}
    assert hosts - {"localhost"} <= set(services)
    code = yaml.safe_load((HERE / "workspace.yaml").read_text(encoding="utf-8"))["load_from"]
    assert {item["grpc_server"]["host"] for item in code} <= set(services)
    assert "http://sandbox:8090" in (HERE / "leads.yaml").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", [HERE / "leads.yaml", HERE / "kubernetes/base/leads.yaml"], ids=["compose", "k8s"])
def test_the_example_configurations_are_understood(path):
    done = CliRunner().invoke(cli, ["--config", str(path), "config", "check"])
    assert done.exit_code == 0, done.output


def test_the_image_copies_what_there_is_takes_only_what_is_locked_and_runs_as_nobody_special():
    text = re.sub(r"\\\n", " ", (ROOT / "Dockerfile").read_text(encoding="utf-8"))
    copied = re.findall(r"^COPY (?!--from)(?:--chown=\S+ )?(.+) \S+$", text, re.MULTILINE)
    for name in " ".join(copied).split():
        assert (ROOT / name).exists(), name
    allowed = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert {f"!{name}" for name in " ".join(copied).split()} <= set(allowed)
    for command in re.findall(r"pip install [^&\n]*", text):
        assert "--no-deps" in command
        assert "--require-hashes" in command or command.rstrip().endswith(" .")
    assert re.findall(r"^USER (.+)$", text, re.MULTILINE) == ["10001"]
    assert "compileall" in text
    assert "PYTHONDONTWRITEBYTECODE" not in text
