"""Fixtures for every test: one PostgreSQL server a session, a fresh clone of a migrated template a test.

The server's files lie in a directory that is named after this process. It is stopped and deleted when the session ends,
also when tests fail. If pytest itself is killed, the server stays until the next session, which removes the servers of
sessions whose process is gone.
"""

import asyncio
import contextlib
import fcntl
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
import sqlalchemy as sa
import structlog
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

from leads_pipeline.clock import FrozenClock
from leads_pipeline.config import CONFIG_VARIABLE, DATABASE_URL_VARIABLE, Settings, parse_settings
from leads_pipeline.storage.database import engine_for
from leads_pipeline.storage.embedded import EmbeddedServer
from leads_pipeline.storage.migrate import upgrade
from leads_pipeline_tests.buffer.redis_server import MISSING, RedisServer, is_installed

# A busy machine is no fault of what is tested: no example has to be made or done in a fraction of a second. Examples
# are always the same, so that whoever changes something is told of that; LEADS_FUZZ_EXAMPLES asks for new ones.
hypothesis_settings.register_profile(
    "leads",
    deadline=None,
    derandomize="LEADS_FUZZ_EXAMPLES" not in os.environ,
    suppress_health_check=[HealthCheck.too_slow],
)
hypothesis_settings.load_profile("leads")

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


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """One worker more than there are processors: each waits for its database or a process part of the time."""
    return (os.cpu_count() or 1) + 1


@pytest.fixture(scope="session", autouse=True)
def _clean_environment() -> Iterator[None]:
    """A developer's own configuration does not reach the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv(CONFIG_VARIABLE, raising=False)
        patch.delenv(DATABASE_URL_VARIABLE, raising=False)
        patch.setenv("LEADS_HUBSPOT_TOKEN", "test-token")
        yield


class _Brisk:
    """asyncio, as uvicorn sees it here."""

    def __getattr__(self, name: str) -> Any:
        return getattr(asyncio, name)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds / 5)


@pytest.fixture(scope="session", autouse=True)
def _brisk_servers() -> Iterator[None]:
    """uvicorn looks ten times a second whether it is to end, and waits as long again: many a test ends a server."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("uvicorn.server.asyncio", _Brisk())
        yield


@pytest.fixture(autouse=True)
def _own_logging() -> Iterator[None]:
    """What a test runs configures the logs as a process does, for a stream that pytest closes: the next starts anew."""
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def session_directory() -> Iterator[Path]:
    """A directory whose children are state directories of servers, and whose name says which process they belong to."""
    remove_dead_sessions()
    directory = sessions() / f"{os.getpid()}-{int(psutil.Process().create_time())}"
    directory.mkdir(mode=0o755, exist_ok=True)
    yield directory
    _remove_session(directory)


@pytest.fixture(scope="session")
def server(session_directory: Path) -> Iterator[EmbeddedServer]:
    """The session's server, without fsync. Tests that kill or stop a server make their own."""
    state = session_directory / "server"
    state.mkdir()
    server = EmbeddedServer(state, durable=False)
    try:
        server.start()
        yield server
    finally:
        server.remove()


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
def empty_database_url(server: EmbeddedServer) -> Iterator[str]:
    """The URL of a database of this test's own with nothing in it."""
    name = f"empty_{secrets.token_hex(6)}"
    yield server.drop_and_create_database(name)
    with _maintenance(server) as connection:
        connection.execute(f"drop database if exists {name} with (force)")


@pytest.fixture
def engine(database_url: str) -> Iterator[sa.Engine]:
    """An engine on a database of this test's own."""
    engine = engine_for(database_url)
    yield engine
    engine.dispose()


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """The session's Redis, durable. Tests that kill it or change its settings make their own."""
    if not is_installed():
        pytest.skip(MISSING)
    server = RedisServer(tmp_path_factory.mktemp("redis")).start()
    yield server
    server.stop()


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """The URL of an empty Redis."""
    with redis_server.client() as client:
        client.flushall()
    return redis_server.url


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[Callable[..., RedisServer]]:
    """Starts servers of this test's own, with settings such as ``appendfsync="everysec"``."""
    if not is_installed():
        pytest.skip(MISSING)
    servers: list[RedisServer] = []

    def start(**settings: str) -> RedisServer:
        directory = tmp_path / f"redis{len(servers)}"
        directory.mkdir()
        servers.append(RedisServer(directory, **settings))
        return servers[-1].start()

    yield start
    for server in servers:
        server.stop()


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


@pytest.fixture
def own_state(session_directory: Path) -> Iterator[Path]:
    """A state directory for a server of this test's own, which is stopped and deleted with it."""
    directory = session_directory / secrets.token_hex(4)
    directory.mkdir()
    yield directory
    _remove_state(directory)


@contextlib.contextmanager
def _maintenance(server: EmbeddedServer) -> Iterator[psycopg.Connection]:
    url = server.url().rpartition("/")[0] + "/postgres"
    with psycopg.connect(url, autocommit=True) as connection:
        yield connection


def sessions() -> Path:
    """One directory per running session, beside each other, so that a later session finds those left behind."""
    directory = Path(tempfile.gettempdir()) / f"leads_pipeline_tests-{os.geteuid()}"
    directory.mkdir(mode=0o755, exist_ok=True)
    return directory


def remove_dead_sessions() -> None:
    """End the servers of sessions whose process is gone, and delete their files: one process at a time."""
    place = os.open(sessions(), os.O_RDONLY)
    try:
        fcntl.flock(place, fcntl.LOCK_EX)
        for directory in sessions().iterdir():
            if not _lives(directory.name):
                _remove_session(directory)
    finally:
        os.close(place)


def _lives(session: str) -> bool:
    """Whether the process is there that the session is named after, and not a later one of its number.

    The times are those of two observers: each reckons from when the machine was started, to the second.
    """
    pid, _, started = session.partition("-")
    try:
        return abs(psutil.Process(int(pid)).create_time() - int(started)) < 10
    except (psutil.NoSuchProcess, ValueError):
        return False


def _remove_session(directory: Path) -> None:
    with contextlib.suppress(FileNotFoundError):  # another session that starts now was quicker
        for state in directory.iterdir():
            _remove_state(state)
    shutil.rmtree(directory, ignore_errors=True)


def _remove_state(directory: Path) -> None:
    EmbeddedServer(directory).remove()
    shutil.rmtree(directory, ignore_errors=True)
