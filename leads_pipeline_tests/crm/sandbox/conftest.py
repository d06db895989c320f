"""A sandbox over real HTTP, with a frozen clock and seeded randomness, and a client that speaks HubSpot's paths."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from random import Random
from typing import Any

import httpx
import pytest

from leads_pipeline.clock import FrozenClock
from leads_pipeline.crm.sandbox.hubspot.options import HubSpotOptions
from leads_pipeline.crm.sandbox.running import SandboxServer, running_sandbox

CONTACTS = "/crm/v3/objects/contacts"


class Api:
    """What an integration would send."""

    def __init__(self, base_url: str, *, token: str = "secret") -> None:
        self.http = httpx.Client(
            base_url=base_url, headers={"Authorization": f"Bearer {token}"}, trust_env=False, verify=False, timeout=60
        )

    def post(self, path: str, body: Any) -> httpx.Response:
        return self.http.post(CONTACTS + path, json=body)

    def get(self, path: str = "", **query: str) -> httpx.Response:
        return self.http.get(CONTACTS + path, params=query)

    def upsert(self, *inputs: dict[str, Any]) -> httpx.Response:
        return self.post("/batch/upsert", {"inputs": list(inputs)})

    def create(self, **properties: Any) -> str:
        response = self.post("", {"properties": properties})
        assert response.status_code == 201, response.text
        return str(response.json()["id"])


def entry(key: str, *, trace: str | None = None, by: str = "lead_key", **properties: Any) -> dict[str, Any]:
    """One input of a batch upsert."""
    traced = {} if trace is None else {"objectWriteTraceId": trace}
    return {"id": key, "idProperty": by, "properties": properties, **traced}


class Started:
    """Starts sandboxes and clients that end with the test."""

    def __init__(self, clock: FrozenClock) -> None:
        self.clock = clock

    @contextmanager
    def __call__(self, options: HubSpotOptions | None = None, **changed: Any) -> Iterator[tuple[SandboxServer, Api]]:
        options = replace(options or HubSpotOptions(), **changed)
        with running_sandbox(options, clock=self.clock, random=Random(7)) as sandbox:
            api = Api(sandbox.base_url)
            try:
                yield sandbox, api
            finally:
                api.http.close()


@pytest.fixture
def started(clock: FrozenClock) -> Started:
    return Started(clock)


@pytest.fixture
def running(started: Started) -> Iterator[tuple[SandboxServer, Api]]:
    with started() as both:
        yield both


@pytest.fixture
def sandbox(running: tuple[SandboxServer, Api]) -> SandboxServer:
    return running[0]


@pytest.fixture
def api(running: tuple[SandboxServer, Api]) -> Api:
    return running[1]
