"""Zoho's sandbox, as the tests of its adapter see it."""

from collections.abc import Mapping
from contextlib import ExitStack, closing
from typing import Any
from uuid import UUID

import httpx

from leads_pipeline.config import SecretRef, ZohoSettings
from leads_pipeline.crm.clients import BUILDERS
from leads_pipeline.crm.port import CrmClient
from leads_pipeline.crm.sandbox.running import SandboxServer, running_sandbox
from leads_pipeline.crm.sandbox.zoho.options import ZohoOptions
from leads_pipeline.outbound.access_tokens import MemoryTokens
from leads_pipeline_tests.crm.contract import Held

REFRESH_TOKEN = "1000.refresh-of-the-tests"
CLIENT_SECRET = "secret-of-the-tests"
ENVIRONMENT = {"LEADS_ZOHO_REFRESH_TOKEN": REFRESH_TOKEN, "LEADS_ZOHO_CLIENT_SECRET": CLIENT_SECRET}


def access_token(base_url: str) -> str:
    """A token of its own, as another application would fetch one."""
    form = {
        "grant_type": "refresh_token", "client_id": "c", "client_secret": "s", "refresh_token": REFRESH_TOKEN,
    }  # fmt: skip
    return str(httpx.post(f"{base_url}/oauth/v2/token", data=form, timeout=60).json()["access_token"])


class PlayedZoho:
    """The sandbox, as the contract sees a vendor."""

    names: Mapping[str, str] = {
        "email": "Email", "first_name": "First_Name", "last_name": "Last_Name", "company": "Company",
    }  # fmt: skip
    key = "Lead_Key"
    secret = "LEADS_ZOHO_REFRESH_TOKEN"

    def __init__(self, sandbox: SandboxServer, stack: ExitStack) -> None:
        self.sandbox = sandbox
        self._stack = stack
        self._tokens = MemoryTokens()
        self._token: str | None = None

    def client(
        self, *, timeout_seconds: float = 5, base_url: str | None = None, if_unknown: Mapping[str, str] | None = None
    ) -> CrmClient:
        settings = ZohoSettings(
            vendor="zoho",
            account="sandbox",
            base_url=base_url or self.sandbox.base_url,
            client_id="1000.client",
            client_secret=SecretRef(env="LEADS_ZOHO_CLIENT_SECRET"),
            refresh_token=SecretRef(env="LEADS_ZOHO_REFRESH_TOKEN"),
            timeout_seconds=timeout_seconds,
            if_unknown=dict(if_unknown or {}),
        )
        return self._stack.enter_context(closing(BUILDERS["zoho"](settings, self._tokens)))

    def held(self) -> dict[UUID, Held]:
        found = {}
        for item in self.sandbox.contacts():
            key = item["properties"].get(self.key)
            properties = {name: item["properties"].get(name) for name in self.names.values()}
            if key:
                found[UUID(key)] = Held(item["id"], {name: value for name, value in properties.items() if value})
        return found

    def made_by_people(self, **fields: str) -> str:
        values = {"Last_Name": "Byron", **{self.names[name]: value for name, value in fields.items()}}
        [entry] = self.ask("POST", "/Leads", json={"data": [values]}).json()["data"]
        return str(entry["details"]["id"])

    def ask(self, method: str, path: str, **more: Any) -> httpx.Response:
        """A request of another application."""
        if self._token is None:
            self._token = access_token(self.sandbox.base_url)
        headers = {"Authorization": f"Zoho-oauthtoken {self._token}"}
        return httpx.request(method, f"{self.sandbox.base_url}/crm/v8{path}", headers=headers, timeout=10, **more)

    def count(self) -> int:
        return len(list(self.sandbox.contacts()))

    def archived(self) -> set[str]:
        return {item["id"] for item in self.sandbox.contacts(archived=True)}

    def limited(self, requests: int) -> None:
        """Each request of the contract is of one record, and costs one credit."""
        options = ZohoOptions(token=REFRESH_TOKEN, credits=requests)
        self.sandbox = self._stack.enter_context(running_sandbox(options))
        self._tokens = MemoryTokens()

    def fail(self, *rules: Mapping[str, Any]) -> None:
        self.sandbox.set_faults([dict(rule) for rule in rules])
