"""deploy/kubernetes: what kustomize makes of it is what Kubernetes takes, and what the product is."""

import json
import shlex
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import sqlalchemy as sa
import yaml
from click.testing import CliRunner

from leads_pipeline.cli import cli
from leads_pipeline.clock import FrozenClock
from leads_pipeline_tests.defs.rows import Flow
from leads_pipeline_tests.deploy.told import metrics_in, names_told

ROOT = Path(__file__).resolve().parents[2]
HERE = ROOT / "deploy/kubernetes"
OVERLAYS = sorted(path.name for path in (HERE / "overlays").iterdir())
KEDA = "keda.sh/v1alpha1"

Resource = Mapping[str, Any]


@cache
def built(overlay: str) -> list[Resource]:
    """Everything that an overlay makes, by Kubernetes' own kustomize."""
    kubectl = Path(sys.executable).with_name("kubectl")
    done = subprocess.run(
        [kubectl, "kustomize", HERE / "overlays" / overlay], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "deprecated" not in done.stderr.lower()
    return list(yaml.safe_load_all(done.stdout))


def of_kind(overlay: str, kind: str) -> dict[str, Resource]:
    return {item["metadata"]["name"]: item for item in built(overlay) if item["kind"] == kind}


def pods(overlay: str) -> dict[str, Resource]:
    """The pods' templates of all that runs."""
    owners = {**of_kind(overlay, "Deployment"), **of_kind(overlay, "Job")}
    return {name: owner["spec"]["template"] for name, owner in owners.items()}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_kubernetes_takes_every_resource(overlay):
    for item in built(overlay):
        if item["apiVersion"] != KEDA:
            kubernetes_validate.validate(item, kubernetes_validate.latest_version(), strict=True)


def test_the_check_would_notice_a_word_that_kubernetes_does_not_know():
    wrong = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "x"}, "spec": {"port": 80}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, kubernetes_validate.latest_version(), strict=True)


@pytest.mark.parametrize(
    ("overlay", "trigger"), [("production", "prometheus"), ("without-prometheus", "postgresql"), ("small", None)]
)
def test_keda_is_asked_only_for_what_its_documentation_knows_about_a_deployment_that_there_is(overlay, trigger):
    schema = json.loads(Path(__file__).with_name("keda.schema.json").read_text(encoding="utf-8"))
    found = [item for item in built(overlay) if item["apiVersion"] == KEDA]
    for item in found:
        jsonschema.validate(item, schema)
    scaled = [item["spec"] for item in found if item["kind"] == "ScaledObject"]
    assert [spec["triggers"][0]["type"] for spec in scaled] == ([trigger] if trigger else [])
    for spec in scaled:
        target = of_kind(overlay, "Deployment")[spec["scaleTargetRef"]["name"]]
        assert target["spec"]["replicas"] == spec["minReplicaCount"] == 0
        assert spec["cooldownPeriod"] > spec["pollingInterval"]


def trigger(overlay: str) -> Mapping[str, str]:
    [spec] = [item["spec"] for item in built(overlay) if item["kind"] == "ScaledObject"]
    return spec["triggers"][0]["metadata"]


def test_the_scale_signal_is_a_metric_that_is_told():
    query = trigger("production")["query"]
    assert metrics_in(query) == {"leads_scale_workers"}
    assert metrics_in(query) <= names_told()


def test_the_scale_signal_of_the_database_is_the_metric_less_one(engine: sa.Engine, clock: FrozenClock):
    # The query asks the server's clock, so the orders' ends are by it.
    def signal() -> int:
        with engine.connect() as connection:
            return connection.execute(sa.text(trigger("without-prometheus")["query"])).scalar_one()

    assert signal() == 0
    with engine.begin() as connection:
        hours = connection.execute(sa.text("select now() - interval '1 h', now() + interval '1 h'")).one()
        flow, order = Flow(connection, clock.now()), {"action": "scale_workers", "tenant": None}
        flow.insert("policy_actions", policy="over", ends_at=hours[0], parameters={"workers": 9}, **order)
        flow.insert("policy_actions", policy="dry", ends_at=hours[1], parameters={"workers": 8, "dry_run": 1}, **order)
        flow.insert("policy_actions", policy="on", ends_at=hours[1], parameters={"workers": 4}, **order)
    assert signal() == 3


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_nothing_runs_as_root_or_writes_to_its_image_or_is_without_a_limit_of_memory(overlay):
    for name, template in pods(overlay).items():
        assert template["spec"]["securityContext"]["runAsNonRoot"], name
        for container in template["spec"]["containers"]:
            security = container["securityContext"]
            assert security == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, name
            assert container["resources"]["limits"]["memory"], name
            assert container["image"] == "registry.invalid/leads-pipeline:0.1.0", name


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_command_exists_and_every_mounted_configuration_and_service_finds_its_own(overlay):
    maps = of_kind(overlay, "ConfigMap")
    templates = pods(overlay)
    for name, template in templates.items():
        for container in template["spec"]["containers"]:
            _check_command(name, container)
        for volume in template["spec"]["volumes"]:
            assert "configMap" not in volume or volume["configMap"]["name"] in maps, name
    for name, service in of_kind(overlay, "Service").items():
        wanted = service["spec"]["selector"].items()
        [served] = [one for one in templates.values() if wanted <= one["metadata"]["labels"].items()]
        ports = {port["name"] for container in served["spec"]["containers"] for port in container["ports"]}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports, name


def _check_command(name: str, container: Resource) -> None:
    if "args" in container:
        words = container["args"]
    elif container["command"][0] == "sh":
        script = container["command"][-1]
        assert subprocess.run(["sh", "-n", "-c", script], check=False).returncode == 0
        line = next(line for line in script.splitlines() if "leads " in line)
        words = shlex.split(line.partition("leads ")[2].partition("&")[0])
    else:
        assert Path(sys.executable).with_name(container["command"][0]).exists(), name
        return
    plain = [word for word in words if word[0].isalpha()]
    told = CliRunner().invoke(cli, [*plain[: 1 if plain[0] == "run" else 2], "--help"])
    assert told.exit_code == 0, (name, told.output)
    assert all(word in told.output for word in words if word.startswith("--")), name


def test_the_code_servers_of_the_workspace_are_services_and_dagster_is_set_up_as_everywhere():
    code = yaml.safe_load((HERE / "base/workspace.yaml").read_text(encoding="utf-8"))["load_from"]
    assert {item["grpc_server"]["host"] for item in code} <= set(of_kind("small", "Service"))
    assert (HERE / "base/instance.yaml").read_text("utf-8") == (ROOT / "dagster.yaml").read_text("utf-8"), (
        "run: make docs"
    )


def test_one_daemon_and_one_that_tells_metrics_and_a_door_of_least_privilege():
    for overlay in OVERLAYS:
        deployments = of_kind(overlay, "Deployment")
        assert deployments["leads-daemon"]["spec"]["replicas"] == 1
        assert deployments["leads-daemon"]["spec"]["strategy"] == {"type": "Recreate"}
        assert deployments["leads-metrics"]["spec"]["replicas"] == 1
        assert deployments["leads-metrics"]["spec"]["strategy"] == {"type": "Recreate"}
        [door] = deployments["leads-capture"]["spec"]["template"]["spec"]["containers"]
        assert door["envFrom"] == [{"secretRef": {"name": "leads-capture"}}]
    assert not any(item["kind"] == "Secret" for overlay in OVERLAYS for item in built(overlay))
