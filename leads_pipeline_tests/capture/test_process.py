"""The service as a process: how it starts, stops, dies, and outlives its database."""

import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from leads_pipeline.capture.server import listen
from leads_pipeline.clock import FrozenClock, SystemClock
from leads_pipeline.config import CONFIG_VARIABLE, DATABASE_URL_VARIABLE, Settings
from leads_pipeline.errors import LeadsError
from leads_pipeline.storage.database import engine_for
from leads_pipeline.storage.embedded import EmbeddedServer
from leads_pipeline.storage.migrate import upgrade
from leads_pipeline.storage.roles import CAPTURE_ROLE
from leads_pipeline_tests.capture.running import blocked_writers, make_key, running_service, wait_until
from leads_pipeline_tests.conftest import LEADS_YAML, NOW
from leads_pipeline_tests.ports import free_port

_pause = threading.Event()


@dataclass
class Process:
    """``leads capture serve`` on a port of its own; can be started again on the same port."""

    environment: dict[str, str]
    port: int
    running: subprocess.Popen[str] | None = None
    logs: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        self.running = subprocess.Popen(
            [sys.executable, "-m", "leads_pipeline", "capture", "serve", "--port", str(self.port)],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.running.stdout is not None
        assert self.running.stdout.readline() == f"capture listens on {self.url}\n"

    def end(self, how: signal.Signals) -> int:
        assert self.running is not None
        self.running.send_signal(how)
        _out, errors = self.running.communicate(timeout=60)
        self.logs.append(errors)
        code = self.running.returncode
        self.running = None
        return code


@pytest.fixture
def process(database_url: str, tmp_path: Path) -> Iterator[Process]:
    config = tmp_path / "leads.yaml"
    config.write_text(LEADS_YAML)
    environment = {**os.environ, CONFIG_VARIABLE: str(config), DATABASE_URL_VARIABLE: database_url}
    process = Process(environment, free_port())
    process.start()
    yield process
    if process.running is not None:
        process.end(signal.SIGKILL)


def stored_keys(engine: sa.Engine) -> list[str]:
    """The number that each stored lead carries."""
    with engine.connect() as connection:
        return [row[0] for row in connection.execute(sa.text("select payload ->> 'number' from buffer"))]


def captured(engine: sa.Engine) -> int:
    with engine.connect() as connection:
        return int(connection.execute(sa.text("select coalesce(sum(captured), 0) from capture_batches")).scalar_one())


class RetryingSenders:
    """Senders that post numbered leads and send each again, with its key, until it is acknowledged."""

    def __init__(self, url: str, key: str, *, senders: int, leads_each: int) -> None:
        self._url = url
        self._headers = {"Authorization": f"Bearer {key}"}
        self._senders = senders
        self._leads_each = leads_each
        self.acknowledged: dict[str, str] = {}
        self.refused: list[int] = []
        self._lock = threading.Lock()

    def run(self) -> None:
        with ThreadPoolExecutor(self._senders) as pool:
            list(pool.map(self._send_all, range(self._senders)))

    def have_acknowledged(self, leads: int) -> bool:
        return len(self.acknowledged) >= leads

    def _send_all(self, sender: int) -> None:
        with httpx.Client(base_url=self._url, headers=self._headers, timeout=30, trust_env=False) as client:
            for place in range(self._leads_each):
                self._send(client, f"{sender}-{place}")

    def _send(self, client: httpx.Client, number: str) -> None:
        while True:
            answer: httpx.Response | None = None
            with contextlib.suppress(httpx.TransportError):
                answer = client.post("/v1/leads", json={"number": number}, headers={"Idempotency-Key": number})
            if answer is not None and answer.status_code in (200, 202):
                with self._lock:
                    self.acknowledged[number] = answer.json()["lead_id"]
                return
            if answer is not None:
                assert answer.status_code == 503, answer.text
                with self._lock:
                    self.refused.append(answer.status_code)
            _pause.wait(0.02)


def assert_each_acknowledged_lead_is_stored_once(engine: sa.Engine, senders: RetryingSenders) -> None:
    with engine.connect() as connection:
        rows = connection.execute(sa.text("select payload ->> 'number' as number, lead_id from buffer")).all()
    assert len(rows) == len({row.number for row in rows})
    assert {row.number: str(row.lead_id) for row in rows} == senders.acknowledged
    assert captured(engine) == len(rows)


@pytest.mark.chaos
def test_a_service_killed_under_load_loses_no_acknowledged_lead_and_doubles_none(
    process: Process, engine: sa.Engine, clock: FrozenClock
) -> None:
    senders = RetryingSenders(process.url, make_key(engine, clock), senders=12, leads_each=150)
    load = threading.Thread(target=senders.run)
    load.start()
    for kills in range(1, 4):
        wait_until(partial(senders.have_acknowledged, kills * 300))
        assert process.end(signal.SIGKILL) == -signal.SIGKILL
        process.start()
    load.join(timeout=120)
    assert len(senders.acknowledged) == 12 * 150
    assert_each_acknowledged_lead_is_stored_once(engine, senders)


@pytest.mark.chaos
def test_a_postgresql_killed_under_load_loses_no_acknowledged_lead_and_doubles_none(
    settings: Settings, clock: FrozenClock, tmp_path: Path
) -> None:
    with own_server(tmp_path) as (server, engine):
        url = engine.url.render_as_string(hide_password=False)
        with running_service(settings, database_url=url, clock=SystemClock()) as address:
            senders = RetryingSenders(address, make_key(engine, clock), senders=8, leads_each=150)
            load = threading.Thread(target=senders.run)
            load.start()
            for kills in range(1, 3):
                wait_until(partial(senders.have_acknowledged, kills * 300))
                pid = server.status().pid
                assert pid is not None
                os.kill(pid, signal.SIGKILL)
                server.start()
            load.join(timeout=120)
        assert len(senders.acknowledged) == 8 * 150
        engine.dispose()
        assert_each_acknowledged_lead_is_stored_once(engine, senders)


def test_senders_are_told_to_wait_while_postgresql_is_stopped_and_served_when_it_is_back(
    settings: Settings, clock: FrozenClock, tmp_path: Path
) -> None:
    with own_server(tmp_path) as (server, engine):
        url = engine.url.render_as_string(hide_password=False)
        headers = {"Authorization": f"Bearer {make_key(engine, clock)}"}
        with (
            running_service(settings, database_url=url, clock=SystemClock()) as address,
            httpx.Client(base_url=address, headers=headers, timeout=30, trust_env=False) as client,
        ):
            first = client.post("/v1/leads", json={"number": "1"}, headers={"Idempotency-Key": "1"})
            assert first.status_code == 202
            engine.dispose()
            server.stop()
            refused = client.post("/v1/leads", json={"number": "2"}, headers={"Idempotency-Key": "2"})
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "2")
            assert refused.json()["error"]["code"] == "database_unavailable"
            assert client.get("/readyz").status_code == 503
            assert client.get("/healthz").status_code == 200
            server.start()
            wait_until(lambda: client.get("/readyz").status_code == 200)
            again = client.post("/v1/leads", json={"number": "2"}, headers={"Idempotency-Key": "2"})
            assert again.status_code == 202
            repeated = client.post("/v1/leads", json={"number": "1"}, headers={"Idempotency-Key": "1"})
            assert repeated.json() == {"lead_id": first.json()["lead_id"], "status": "duplicate"}
        assert sorted(stored_keys(engine)) == ["1", "2"]


def test_a_database_that_becomes_read_only_is_refused_at_once_and_found_again_when_it_takes_writes(
    settings: Settings, clock: FrozenClock, tmp_path: Path
) -> None:
    with own_server(tmp_path) as (_server, engine):
        url = engine.url.render_as_string(hide_password=False)
        headers = {"Authorization": f"Bearer {make_key(engine, clock)}"}
        with (
            running_service(settings, database_url=url, clock=SystemClock()) as address,
            httpx.Client(base_url=address, headers=headers, timeout=30, trust_env=False) as client,
        ):
            assert client.post("/v1/leads", json={"number": "1"}).status_code == 202
            set_read_only(engine, "on")
            refused = client.post("/v1/leads", json={"number": "2"})
            assert (refused.status_code, refused.json()["error"]["code"]) == (503, "database_unavailable")
            assert client.get("/readyz").status_code == 503
            set_read_only(engine, "off")
            wait_until(lambda: client.get("/readyz").status_code == 200)
            assert client.post("/v1/leads", json={"number": "2"}).status_code == 202


def set_read_only(engine: sa.Engine, value: str) -> None:
    """For every session that begins a transaction from now on."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text("set transaction_read_only = off"))
        connection.execute(sa.text(f"alter system set default_transaction_read_only = {value}"))
        connection.execute(sa.text("select pg_reload_conf()"))
    with engine.connect() as connection:
        wait_until(lambda: read_only_is(connection, value))


def read_only_is(connection: sa.Connection, value: str) -> bool:
    found = connection.execute(sa.text("show default_transaction_read_only")).scalar_one()
    connection.rollback()
    return bool(found == value)


@contextlib.contextmanager
def own_server(directory: Path) -> Iterator[tuple[EmbeddedServer, sa.Engine]]:
    """A durable PostgreSQL that a test may stop and kill."""
    server = EmbeddedServer(directory / "state")
    engine = engine_for(server.start())
    try:
        upgrade(engine, now=NOW)
        yield server, engine
    finally:
        engine.dispose()
        server.remove()


def test_what_was_accepted_is_finished_before_the_service_ends(
    process: Process, engine: sa.Engine, clock: FrozenClock
) -> None:
    key = make_key(engine, clock)
    answers: list[httpx.Response] = []

    def post(number: int) -> None:
        answers.append(
            httpx.post(
                f"{process.url}/v1/leads",
                json={"number": str(number)},
                headers={"Authorization": f"Bearer {key}"},
                timeout=30,
                trust_env=False,
            )
        )

    senders = [threading.Thread(target=post, args=[number]) for number in range(10)]
    with engine.connect() as holder:
        holder.execute(sa.text("lock table buffer in access exclusive mode"))
        senders[0].start()
        wait_until(lambda: blocked_writers(engine) == 1)
        for sender in senders[1:]:
            sender.start()
        wait_until(lambda: _queued(process) == 9)
        assert process.running is not None
        process.running.send_signal(signal.SIGTERM)
        wait_until(lambda: not _takes_connections(process))
        holder.rollback()
    for sender in senders:
        sender.join(timeout=60)
    assert process.running.wait(timeout=60) == 0
    assert [answer.status_code for answer in answers] == [202] * 10
    assert len(stored_keys(engine)) == 10


def _queued(process: Process) -> int:
    return int(httpx.get(f"{process.url}/readyz", timeout=30, trust_env=False).json()["queued_leads"])


def _takes_connections(process: Process) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", process.port), timeout=1):
        return True
    return False


def test_a_port_that_is_taken_is_said_in_one_line(process: Process) -> None:
    second = subprocess.run(
        [sys.executable, "-m", "leads_pipeline", "capture", "serve", "--port", str(process.port)],
        env=process.environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert second.returncode == 1
    assert second.stderr.strip() == (
        f"error: capture cannot listen on 127.0.0.1:{process.port}: Address already in use; "
        "stop what listens there or name another --port"
    )


def test_the_log_and_the_answers_hold_no_personal_data(process: Process, engine: sa.Engine, clock: FrozenClock) -> None:
    secret = "Zaphod-Beeblebrox"
    client = httpx.Client(
        base_url=process.url,
        headers={"Authorization": f"Bearer {make_key(engine, clock)}"},
        trust_env=False,
        timeout=60,
    )
    with client, engine.begin() as connection:
        assert client.post("/v1/leads", json={"email": secret}).status_code == 202
        assert client.post("/v1/leads", json={"email": [secret]}).status_code == 422
        connection.execute(sa.text("alter table capture_batches rename to gone"))
        connection.commit()
        failed = client.post("/v1/leads", json={"first_name": secret})
    assert failed.status_code == 500
    assert secret not in failed.text
    process.end(signal.SIGTERM)
    [log] = process.logs
    lines = [json.loads(line) for line in log.splitlines()]
    assert failed.json()["error"]["request_id"] in {line.get("request_id") for line in lines}
    assert "UndefinedTable" in {line.get("error_class") for line in lines}
    assert secret not in log
    assert "127.0.0.1" not in log


def test_the_door_starts_without_the_heavy_libraries() -> None:
    heavy = ("dagster", "pandas", "splink", "duckdb", "great_expectations", "numpy")
    code = "import sys, leads_pipeline.capture.server; print([m for m in sys.argv[1:] if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code, *heavy], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


def test_two_services_share_the_keys_of_posts(database_url: str, engine: sa.Engine, settings: Settings) -> None:
    headers = {"Authorization": f"Bearer {make_key(engine, SystemClock())}"}
    lead: dict[str, Any] = {"number": "1"}
    with (
        running_service(settings, database_url=database_url, clock=SystemClock()) as one,
        running_service(settings, database_url=database_url, clock=SystemClock()) as other,
    ):
        answers = [
            httpx.post(f"{url}/v1/leads", json=lead, headers=headers, trust_env=False, timeout=60)
            for url in (one, other, one)
        ]
    assert [answer.status_code for answer in answers] == [202, 200, 200]
    assert len({answer.json()["lead_id"] for answer in answers}) == 1


def test_the_door_needs_no_more_than_the_privileges_of_its_role(
    engine: sa.Engine, settings: Settings, clock: FrozenClock
) -> None:
    login, password = f"door_{secrets.token_hex(4)}", secrets.token_hex(8)
    headers = {"Authorization": f"Bearer {make_key(engine, clock)}"}
    with engine.begin() as connection:
        connection.execute(sa.text(f"create role {login} login password '{password}' in role {CAPTURE_ROLE}"))
    url = engine.url.set(username=login, password=password).render_as_string(hide_password=False)
    try:
        with (
            running_service(settings, database_url=url, clock=clock) as address,
            httpx.Client(base_url=address, headers=headers, trust_env=False, timeout=60) as client,
        ):
            answers = [client.post("/v1/leads", json={"number": "1"}).status_code for _ in range(2)]
            assert answers == [202, 200]
            assert client.get("/readyz").status_code == 200
    finally:
        with engine.begin() as connection:
            connection.execute(sa.text(f"drop role {login}"))
    assert stored_keys(engine) == ["1"]


def test_a_host_that_is_not_known_is_said_so() -> None:
    with pytest.raises(LeadsError, match=r"cannot listen on host\.invalid: no such host is known; name another"):
        listen("host.invalid", 0)
