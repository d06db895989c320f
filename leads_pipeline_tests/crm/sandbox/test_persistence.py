"""What outlives the sandbox."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from structlog.testing import capture_logs

from leads_pipeline.crm.sandbox.running import SandboxServer, running_sandbox
from leads_pipeline.errors import LeadsError
from leads_pipeline_tests.crm.sandbox.conftest import Api, Started, entry

LEADS = [sys.executable, "-m", "leads_pipeline"]


@contextmanager
def serving(
    *arguments: str, environment: dict[str, str] | None = None, prefix: str = "http://"
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """``leads sandbox serve`` in a process of its own, and where it listens."""
    command = [*LEADS, "sandbox", "serve", "--port", "0", *arguments]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**os.environ, **(environment or {})}
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert f" on {prefix}" in line, line + process.stdout.read()
            yield process, line.split(" on ")[1].split()[0]
        finally:
            process.kill()


def test_contacts_and_properties_survive_a_restart(started: Started, tmp_path: Path):
    store = tmp_path / "contacts.sqlite"
    definition = {"name": "tier", "label": "Tier", "type": "string", "fieldType": "text", "groupName": "g"}
    with started(store=store) as (_sandbox, api):
        api.http.post("/crm/v3/properties/contacts", json=definition)
        first = api.upsert(entry("k1", email="ann@example.com", tier="gold")).json()["results"][0]["id"]
        api.post("/gdpr-delete", {"objectId": "gone@example.com", "idProperty": "email"})

    with started(store=store) as (sandbox, api):
        (contact,) = sandbox.contacts()
        assert (contact["id"], contact["properties"]["tier"]) == (first, "gold")
        again = api.upsert(entry("k1", tier="silver")).json()["results"][0]
        assert (again["id"], again["new"]) == (first, False)
        assert sandbox.writes_per_lead_key() == {"k1": 2}
        assert api.upsert(entry("k2", email="ann@example.com")).status_code == 409
        assert api.upsert(entry("k3", email="gone@example.com")).status_code == 400


def test_without_a_file_everything_is_forgotten(started: Started):
    with started() as (_sandbox, api):
        api.upsert(entry("k1"))

    with started() as (sandbox, _api):
        assert list(sandbox.contacts()) == []


def test_only_its_owner_may_read_the_store(tmp_path: Path, started: Started):
    store = tmp_path / "contacts.sqlite"
    with started(store=store):
        modes = {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert modes == {0o600}


def test_a_file_that_cannot_be_opened_is_named(tmp_path: Path, started: Started):
    with pytest.raises(LeadsError, match="nowhere"), started(store=tmp_path / "nowhere" / "contacts.sqlite"):
        pass


def test_a_file_of_something_else_is_not_touched(tmp_path: Path, started: Started):
    import sqlite3

    store = tmp_path / "notes.sqlite"
    with contextlib.closing(sqlite3.connect(store)) as database:
        database.execute("create table notes (text)")

    with pytest.raises(LeadsError, match="another file"), started(store=store):
        pass

    with contextlib.closing(sqlite3.connect(store)) as database:
        assert database.execute("select name from sqlite_master").fetchall() == [("notes",)]


def test_a_failure_of_the_sandbox_itself_is_answered_and_logged(tmp_path: Path, started: Started):
    import sqlite3

    store = tmp_path / "contacts.sqlite"
    with started(store=store) as (_sandbox, api), capture_logs() as logged:
        with contextlib.closing(sqlite3.connect(store)) as database:
            database.execute("drop table key_writes")
        response = api.upsert(entry("k1", email="ann@example.com"))

        assert response.status_code == 500
        assert response.json()["correlationId"] == response.headers["X-HubSpot-Correlation-Id"]
        assert api.get("/ann@example.com", idProperty="email").status_code == 404
    assert [(line["event"], line["endpoint"]) for line in logged] == [("sandbox_operation_failed", "batch/upsert")]


def test_a_port_that_is_taken_is_named():
    with (
        running_sandbox() as sandbox,
        pytest.raises(LeadsError, match="--port"),
        running_sandbox(port=int(sandbox.base_url.rpartition(":")[2])),
    ):
        pass


def test_a_sandbox_leaves_no_thread_and_no_listener_behind():
    before = threading.active_count()
    server = SandboxServer()
    server.start()
    address = server.base_url
    server.report()
    server.stop()
    server.stop()

    assert threading.active_count() == before
    with pytest.raises(httpx.ConnectError):
        httpx.get(address, trust_env=False, verify=False, timeout=60)


def test_what_was_answered_survives_a_kill(tmp_path: Path, started: Started):
    store = tmp_path / "contacts.sqlite"
    with serving("--store", str(store)) as (process, address):
        api = Api(address, token=os.environ["LEADS_HUBSPOT_TOKEN"])
        for start in range(0, 300, 100):
            assert api.upsert(*(entry(f"k{number}") for number in range(start, start + 100))).status_code == 200
        process.send_signal(signal.SIGKILL)
        process.wait()
        api.http.close()

    with started(store=store) as (sandbox, _api):
        assert sandbox.report()["contacts"] == 300
        assert sandbox.writes_per_lead_key(at_least=2) == {}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_command_ends_in_order_when_it_is_told_to(number: signal.Signals):
    with serving() as (process, address):
        assert httpx.get(f"{address}/_sandbox/report", trust_env=False, verify=False, timeout=60).status_code == 200
        process.send_signal(number)

        assert process.wait(timeout=60) == 0
        assert process.stdout is not None
        assert process.stdout.read() == ""


def test_the_command_demands_the_token_that_the_environment_holds():
    with serving("--token-env", "MY_TOKEN", environment={"MY_TOKEN": "right"}) as (_process, address):
        codes = []
        for token in ("right", "wrong"):
            api = Api(address, token=token)
            codes.append(api.get().status_code)
            api.http.close()

    assert codes == [200, 401]
