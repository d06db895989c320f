"""A provider sandbox over real HTTP, with a frozen clock and seeded randomness, and a plain client for it."""

from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from typing import Any

import httpx
import pytest

from leads_pipeline.clock import FrozenClock
from leads_pipeline.verification.sandbox.options import ProviderOptions, VendorName
from leads_pipeline.verification.sandbox.running import ProviderSandbox, running_provider_sandbox


class Started:
    """Starts sandboxes and clients that end with the test."""

    def __init__(self, clock: FrozenClock) -> None:
        self.clock = clock

    @contextmanager
    def __call__(self, vendor: VendorName, **options: Any) -> Iterator[tuple[ProviderSandbox, httpx.Client]]:
        with (
            running_provider_sandbox(ProviderOptions(vendor, **options), clock=self.clock, random=Random(7)) as sandbox,
            httpx.Client(base_url=sandbox.base_url, trust_env=False, timeout=60) as http,
        ):
            yield sandbox, http


@pytest.fixture
def started(clock: FrozenClock) -> Started:
    return Started(clock)


def zerobounce_batch(http: httpx.Client, *addresses: str, key: str = "k") -> httpx.Response:
    batch = [{"email_address": address, "ip_address": None} for address in addresses]
    return http.post("/v2/validatebatch", json={"api_key": key, "email_batch": batch})


def neverbounce_job(http: httpx.Client, *addresses: str, **fields: Any) -> dict[str, Any]:
    body = {"key": "k", "input_location": "supplied", "auto_start": True, "input": [[name] for name in addresses]}
    answer: dict[str, Any] = http.post("/v4.2/jobs/create", json=body | fields).json()
    return answer


def neverbounce(http: httpx.Client, path: str, **query: Any) -> dict[str, Any]:
    answer: dict[str, Any] = http.get(f"/v4.2/{path}", params={"key": "k", **query}).json()
    return answer
