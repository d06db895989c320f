"""`leads dev`: a lead that is posted reaches the sandbox CRM by itself, and one signal ends everything."""

import json
import re
import signal
import subprocess
import time

import httpx
import psutil
import pytest

from leads_pipeline.services.stack import free_port
from leads_pipeline_tests.e2e.conftest import Checkout

pytestmark = [pytest.mark.slow, pytest.mark.timeout(420)]

DEADLINE_SECONDS = 180


def eventually(holds, *, seconds: float = DEADLINE_SECONDS) -> bool:
    """Ask until it holds; the pause is between questions, never instead of one."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.25)
    return True


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_posted_lead_reaches_the_crm_by_itself_and_a_signal_ends_everything(checkout: Checkout, number: int):
    process = subprocess.Popen(
        checkout.command("dev", "--port", str(free_port())),
        env=checkout.environment(),
        cwd=checkout.config.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # As a background job of a shell is started: with SIGINT ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    )
    assert process.stdout is not None
    try:
        said = []
        for line in process.stdout:
            said.append(line)
            if "Ctrl-C stops everything" in line:
                break
        text = "".join(said)
        assert "curl" in text, text
        example = re.search(r"Example form +(http://\S+)", text)
        assert example is not None, text
        assert "Posts as website of acme." in httpx.get(example[1]).text
        metrics = re.search(r"Metrics +(http://\S+)", text)
        assert metrics is not None, text
        assert 'leads_metrics_part_ok{part="queues"} 1.0' in httpx.get(metrics[1], timeout=30).text
        curl = text[text.index("curl") : text.index("\n\nThen")].replace("\\\n", " ")
        answer = subprocess.run(["bash", "-c", curl], capture_output=True, text=True, check=True, timeout=30)
        lead_id = json.loads(answer.stdout)["lead_id"]
        children = psutil.Process(process.pid).children(recursive=True)
        sandbox = f"http://127.0.0.1:{checkout.sandbox_port}/_sandbox"

        assert eventually(lambda: httpx.get(f"{sandbox}/report").json()["contacts"] == 1)

        journey = checkout.run("journey", lead_id)
        assert "delivered" in journey.stdout
        (contact,) = httpx.get(f"{sandbox}/contacts").json()["contacts"]
        assert contact["properties"]["email"] == re.search(r"[\w.]+@[\w.-]+", curl)[0]
    finally:
        process.send_signal(number)
        rest = process.communicate(timeout=90)[0]
    assert process.returncode == 0, rest
    assert rest.rstrip().endswith("Stopped.")
    _gone, alive = psutil.wait_procs(children, timeout=20)
    assert [child.cmdline() for child in alive if child.status() != psutil.STATUS_ZOMBIE] == []
    assert checkout.run("db", "status").stdout.lower().count("stopped") == 1


def test_a_taken_port_is_named_before_anything_starts(checkout: Checkout):
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", checkout.capture_port))
        taken.listen()

        done = checkout.run("dev", timeout=120)

    assert done.returncode == 1
    assert f"port {checkout.capture_port} is taken; choose another with capture.port in leads.yaml" in done.stderr


def test_a_second_start_leaves_the_database_of_what_runs_already(checkout: Checkout):
    import socket

    assert checkout.run("db", "start").returncode == 0
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", checkout.capture_port))
        taken.listen()

        assert checkout.run("dev", timeout=120).returncode == 1

    assert "running" in checkout.run("db", "status").stdout
