"""A capture service on a free port, with real HTTP and a real database."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import sqlalchemy as sa

from leads_pipeline.capture.server import listen, server_for
from leads_pipeline.clock import Clock, FrozenClock
from leads_pipeline.config import CaptureSettings, Settings
from leads_pipeline.storage.api_keys import create_api_key


@dataclass(frozen=True)
class Capture:
    """A running service and a client that holds the key of acme's website."""

    client: httpx.Client
    url: str
    key: str
    clock: FrozenClock
    settings: Settings
    headers: dict[str, str] = field(default_factory=dict)

    def post(self, lead: Any, path: str = "/v1/leads", **headers: str) -> httpx.Response:
        return self.client.post(path, json=lead, headers=headers)

    def post_raw(self, body: bytes, path: str = "/v1/leads", **headers: str) -> httpx.Response:
        return self.client.post(path, content=body, headers={"Content-Type": "application/json", **headers})

    def post_batch(self, leads: Any) -> list[dict[str, Any]]:
        answer = self.post(leads, "/v1/leads/batch")
        assert answer.status_code == 202, answer.text
        results: list[dict[str, Any]] = answer.json()["results"]
        return results


@contextmanager
def running_service(settings: Settings, *, database_url: str, clock: Clock) -> Iterator[str]:
    """The address of a service in a thread of this process; it has finished when the block ends."""
    server = server_for(settings, database_url=database_url, clock=clock)
    with listen("127.0.0.1", 0) as listening:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(timeout=60)
            assert not thread.is_alive(), "the service did not stop"


def with_capture(settings: Settings, **changes: Any) -> Settings:
    """The settings with other limits of the HTTP door."""
    return settings.model_copy(update={"capture": CaptureSettings(**changes)})


def make_key(engine: sa.Engine, clock: Clock, *, tenant: str = "acme", source: str = "website") -> str:
    with engine.begin() as connection:
        return create_api_key(connection, tenant=tenant, source=source, now=clock.now()).text


@contextmanager
def capture_service(
    settings: Settings, *, database_url: str, engine: sa.Engine, clock: FrozenClock
) -> Iterator[Capture]:
    key = make_key(engine, clock)
    with (
        running_service(settings, database_url=database_url, clock=clock) as url,
        httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=30, trust_env=False) as client,
    ):
        yield Capture(client, url, key, clock, settings)


_pause = threading.Event()


def wait_until(condition: Callable[[], bool], *, seconds: float = 60) -> None:
    """Ask again and again until it holds."""
    for _ in range(int(seconds / 0.02)):
        if condition():
            return
        _pause.wait(0.02)
    raise AssertionError(f"waited {seconds} s in vain")


@contextmanager
def commits_held_up(engine: sa.Engine) -> Iterator[None]:
    """No lead gets into the buffer's table before the block ends."""
    with engine.connect() as connection:
        connection.execute(sa.text("lock table buffer in access exclusive mode"))
        yield
        connection.rollback()


def blocked_writers(engine: sa.Engine) -> int:
    """How many capture services wait for a lock in the middle of a commit."""
    statement = """
        select count(*) from pg_stat_activity
        where datname = current_database() and application_name = 'leads_capture writer' and wait_event_type = 'Lock'
    """
    with engine.connect() as connection:
        return int(connection.execute(sa.text(statement)).scalar_one())
