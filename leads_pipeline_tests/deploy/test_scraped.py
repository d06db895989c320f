"""A real Prometheus scrapes the pipeline's metrics, and answers what it is asked."""

import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa
import yaml

from leads_pipeline.clock import FrozenClock
from leads_pipeline.config import Settings
from leads_pipeline.services.metrics_server import MetricsServer
from leads_pipeline.watching.metrics.taking import PARTS, PipelineMetrics
from leads_pipeline_tests.capture.running import wait_until
from leads_pipeline_tests.defs.rows import Flow
from leads_pipeline_tests.deploy.programs import prometheus, promtool  # noqa: F401 - fixtures
from leads_pipeline_tests.deploy.test_prometheus import HERE
from leads_pipeline_tests.ports import free_port


@pytest.fixture
def served(engine: sa.Engine, settings: Settings, clock: FrozenClock) -> Iterator[MetricsServer]:
    with engine.begin() as connection:
        Flow(connection, clock.now()).one_of_each()
    with MetricsServer(PipelineMetrics(engine, settings, clock), host="127.0.0.1", port=0) as server:
        serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        serving.start()
        yield server
        server.shutdown()
        serving.join()


@pytest.fixture
def asked(served: MetricsServer, prometheus: str, tmp_path: Path) -> Iterator[httpx.Client]:  # noqa: F811
    """Prometheus with our configuration and rules, which scrapes the server every second."""
    config = yaml.safe_load((HERE / "prometheus.yml").read_text(encoding="utf-8"))
    config["global"] |= {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
    config["rule_files"] = [str(HERE / name) for name in config["rule_files"]]
    own = next(job for job in config["scrape_configs"] if job["job_name"] == "leads-pipeline")
    own["static_configs"] = [{"targets": [served.url.removeprefix("http://")]}]
    config["scrape_configs"] = [own]
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config), encoding="utf-8")
    url = f"127.0.0.1:{free_port()}"
    with subprocess.Popen(
        [prometheus, f"--config.file={tmp_path}/prometheus.yml", f"--storage.tsdb.path={tmp_path}/data",
         f"--web.listen-address={url}"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    ) as running:  # fmt: skip
        try:
            with httpx.Client(base_url=f"http://{url}/api/v1", timeout=30) as client:
                wait_until(lambda: _value(client, 'up{job="leads-pipeline"}') == 1)
                yield client
        finally:
            running.terminate()


def _value(client: httpx.Client, query: str) -> float | None:
    try:
        answer = client.get("/query", params={"query": query})
    except httpx.TransportError:
        return None
    found = answer.json()["data"]["result"] if answer.status_code == 200 else []
    return float(found[0]["value"][1]) if found else None


def test_prometheus_scrapes_every_part_and_knows_what_waits(asked):
    assert _value(asked, "sum(leads_metrics_part_ok)") == len(PARTS)
    assert _value(asked, 'sum(leads_queue_leads{tenant="acme",stage="validated_leads"})') == 1
    assert _value(asked, 'leads_rejected_total{tenant="acme",source="website"}') == 1
    told = asked.get("/metadata", params={"metric": "leads_scale_workers"}).json()["data"]["leads_scale_workers"]
    assert told[0]["type"] == "gauge"


def test_the_rules_are_loaded_and_none_of_them_fails(asked):
    wait_until(lambda: _value(asked, 'ALERTS{alertname="LeadsDeadMansSwitch",alertstate="firing"}') == 1)
    groups = asked.get("/rules").json()["data"]["groups"]

    assert {rule["health"] for group in groups for rule in group["rules"]} <= {"ok", "unknown"}
    assert len(groups) == 6
