"""Fixtures for every test: one PostgreSQL server a session, a fresh clone of a migrated template a test.

The server's files lie in a directory that is named after this process. It is stopped and deleted when the session ends,
also when tests fail. If pytest itself is killed, the server stays until the next session, which removes the servers of
sessions whose process is gone.
"""

import contextlib
import os
import secrets
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import psutil
import psycopg
import pytest
import sqlalchemy as sa

from leads_pipeline.clock import FrozenClock
from leads_pipeline.config import CONFIG_VARIABLE, DATABASE_URL_VARIABLE, Settings, parse_settings
from leads_pipeline.storage.database import engine_for
from leads_pipeline.storage.embedded import EmbeddedServer
from leads_pipeline.storage.migrate import upgrade

NOW = datetime(2026, 1, 15, 12, 0, tzinfo=UTC)
TEMPLATE = "leads_template"

LEADS_YAML = """
version: 1
tenants:
  acme:
    country: US
    sources:
      website: {lane: real_time, priority: 60}
      webinar: {lane: near_real_time, priority: 50}
      import: {lane: batch, priority: 30}
    destinations: [hubspot]
  globex:
    country: US
    sources:
      website: {lane: real_time}
    destinations: [hubspot]
destinations:
  hubspot:
    vendor: hubspot
    account: sandbox
    base_url: http://127.0.0.1:9
    token: {env: LEADS_HUBSPOT_TOKEN}
"""


@pytest.fixture(scope="session", autouse=True)
def _clean_environment() -> Iterator[None]:
    """A developer's own configuration does not reach the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv(CONFIG_VARIABLE, raising=False)
        patch.delenv(DATABASE_URL_VARIABLE, raising=False)
        patch.setenv("LEADS_HUBSPOT_TOKEN", "test-token")
        yield


@pytest.fixture(scope="session")
def server() -> Iterator[EmbeddedServer]:
    """The session's server, without fsync. Tests that kill or stop a server make their own."""
    directory = _sessions() / f"{os.getpid()}-{int(psutil.Process().create_time())}"
    _remove_servers_of_dead_sessions()
    directory.mkdir(mode=0o700, exist_ok=True)
    server = EmbeddedServer(directory, durable=False)
    try:
        server.start()
        yield server
    finally:
        server.remove()
        with contextlib.suppress(OSError):
            directory.rmdir()


@pytest.fixture(scope="session")
def template(server: EmbeddedServer) -> str:
    """The name of a database with the schema, which tests clone."""
    engine = engine_for(server.drop_and_create_database(TEMPLATE))
    try:
        upgrade(engine, now=NOW)
    finally:
        engine.dispose()  # an open connection on the template fails the clone
    return TEMPLATE


@pytest.fixture
def database_url(server: EmbeddedServer, template: str) -> Iterator[str]:
    """The URL of a database of this test's own, with the schema and no rows."""
    name = f"test_{secrets.token_hex(6)}"
    with _maintenance(server) as connection:
        connection.execute(f"create database {name} template {template} strategy file_copy")
    yield server.url().rpartition("/")[0] + f"/{name}"
    with _maintenance(server) as connection:
        connection.execute(f"drop database if exists {name} with (force)")


@pytest.fixture
def engine(database_url: str) -> Iterator[sa.Engine]:
    """An engine on a database of this test's own."""
    engine = engine_for(database_url)
    yield engine
    engine.dispose()


@pytest.fixture
def settings(tmp_state: Path) -> Settings:
    """Two tenants, acme and globex, that deliver to one HubSpot account."""
    return parse_settings(LEADS_YAML, path=tmp_state / "leads.yaml")


@pytest.fixture
def clock() -> FrozenClock:
    """A clock that stands at ``NOW``."""
    return FrozenClock(NOW)


@pytest.fixture
def tmp_state(tmp_path: Path) -> Path:
    """An empty directory in which a test may keep a leads.yaml and a state directory."""
    return tmp_path


@contextlib.contextmanager
def _maintenance(server: EmbeddedServer) -> Iterator[psycopg.Connection]:
    url = server.url().rpartition("/")[0] + "/postgres"
    with psycopg.connect(url, autocommit=True) as connection:
        yield connection


def _sessions() -> Path:
    """One directory per running session, beside each other, so that a later session finds those left behind."""
    directory = Path(tempfile.gettempdir()) / f"leads_pipeline_tests-{os.geteuid()}"
    directory.mkdir(mode=0o700, exist_ok=True)
    return directory


def _remove_servers_of_dead_sessions() -> None:
    for directory in _sessions().iterdir():
        pid, _, started = directory.name.partition("-")
        with contextlib.suppress(psutil.NoSuchProcess, ValueError):
            if int(psutil.Process(int(pid)).create_time()) == int(started):
                continue
        EmbeddedServer(directory).remove()
        with contextlib.suppress(OSError):
            directory.rmdir()
