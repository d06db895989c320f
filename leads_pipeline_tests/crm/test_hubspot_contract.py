"""HubSpot keeps the contract of every destination."""

import json
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing
from typing import Any
from uuid import UUID

import pytest

from leads_pipeline.config import HubSpotSettings, SecretRef
from leads_pipeline.crm.clients import BUILDERS
from leads_pipeline.crm.port import CrmClient
from leads_pipeline.crm.sandbox.hubspot.options import HubSpotOptions
from leads_pipeline.crm.sandbox.running import SandboxServer, running_sandbox
from leads_pipeline_tests.crm.contract import (
    BatchContract,
    ConflictContract,
    Held,
    HttpContract,
    MergeContract,
    QuotaContract,
    RecordContract,
    SchemaContract,
)
from leads_pipeline_tests.crm.delivering import TOKEN


class PlayedHubSpot:
    """HubSpot's sandbox, as the contract sees a vendor."""

    names: Mapping[str, str] = {
        "email": "email", "first_name": "firstname", "last_name": "lastname", "company": "company",
    }  # fmt: skip

    key = "lead_key"

    def __init__(self, sandbox: SandboxServer, stack: ExitStack) -> None:
        self._sandbox = sandbox
        self._stack = stack

    def client(self, *, timeout_seconds: float = 5, base_url: str | None = None) -> CrmClient:
        settings = HubSpotSettings(
            vendor="hubspot",
            account="sandbox",
            base_url=base_url or self._sandbox.base_url,
            token=SecretRef(env="LEADS_HUBSPOT_TOKEN"),
            timeout_seconds=timeout_seconds,
        )
        return self._stack.enter_context(closing(BUILDERS["hubspot"](settings)))

    def held(self) -> dict[UUID, Held]:
        found = {}
        for item in self._sandbox.contacts():
            key = item["properties"].get(self.key)
            properties = {name: item["properties"].get(name) for name in self.names.values()}
            if key:
                found[UUID(key)] = Held(item["id"], {name: value for name, value in properties.items() if value})
        return found

    def made_by_people(self, **fields: str) -> str:
        request = urllib.request.Request(
            f"{self._sandbox.base_url}/crm/v3/objects/contacts",
            data=json.dumps({"properties": {self.names[name]: value for name, value in fields.items()}}).encode(),
            headers={"Content-Type": "application/json", "Authorization": f"Bearer {TOKEN}"},
            method="POST",
        )
        with urllib.request.urlopen(request, timeout=60) as response:
            return str(json.load(response)["id"])

    def count(self) -> int:
        return len(list(self._sandbox.contacts()))

    def archived(self) -> set[str]:
        return {item["id"] for item in self._sandbox.contacts(archived=True)}

    def limited(self, requests: int) -> None:
        options = HubSpotOptions(token=TOKEN, requests=requests)
        self._sandbox = self._stack.enter_context(running_sandbox(options))

    def fail(self, *rules: Mapping[str, Any]) -> None:
        self._sandbox.set_faults([dict(rule) for rule in rules])


@pytest.fixture
def vendor(sandbox: SandboxServer) -> Iterator[PlayedHubSpot]:
    with ExitStack() as stack:
        yield PlayedHubSpot(sandbox, stack)


class TestHubSpot(
    RecordContract, BatchContract, SchemaContract, ConflictContract, MergeContract, HttpContract, QuotaContract
):
    """Partial updates, addresses that one record only may hold, batches with a verdict for each record."""
