"""Salesforce keeps the contract of every destination."""

import json
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing
from typing import Any
from uuid import UUID

import pytest

from leads_pipeline.config import SalesforceSettings, SecretRef
from leads_pipeline.crm.clients import BUILDERS
from leads_pipeline.crm.port import CrmClient, Verdict
from leads_pipeline.crm.sandbox.running import SandboxServer, running_sandbox
from leads_pipeline.crm.sandbox.salesforce.options import SalesforceOptions
from leads_pipeline.outbound.access_tokens import MemoryTokens
from leads_pipeline_tests.crm.contract import (
    BatchContract,
    ConflictContract,
    Held,
    HttpContract,
    MergeContract,
    QuotaContract,
    RecordContract,
    SchemaContract,
    Sending,
    TokenContract,
    Vendor,
    contact,
    deliver,
)

SECRET = "a-secret"
CLIENT_ID = "3MVG9.consumer"


class SalesforceVendor:
    """Salesforce's sandbox, as the contract sees a vendor."""

    key = "Lead_Key__c"
    secret = "LEADS_SALESFORCE_SECRET"

    def __init__(self, stack: ExitStack, *, object_type: str, **options: Any) -> None:
        self.names: Mapping[str, str] = {
            "email": "Email", "first_name": "FirstName", "last_name": "LastName",
            # A contact's company is an account of its own, and a lead's cannot be empty.
            "company": "Department" if object_type == "Contact" else "Title",
        }  # fmt: skip
        self._object_type = object_type
        self._stack = stack
        self._tokens = MemoryTokens()
        self._options = {"token": SECRET, "duplicate_rule": True, "requests": None, **options}
        self.sandbox: SandboxServer = stack.enter_context(running_sandbox(SalesforceOptions(**self._options)))

    def settings(self, *, timeout_seconds: float = 5, base_url: str | None = None, **more: Any) -> SalesforceSettings:
        return SalesforceSettings(
            vendor="salesforce",
            account="sandbox",
            base_url=base_url or self.sandbox.base_url,
            object_type=self._object_type,
            client_id=CLIENT_ID,
            client_secret=SecretRef(env="LEADS_SALESFORCE_SECRET"),
            timeout_seconds=timeout_seconds,
            **more,
        )

    def client(self, *, timeout_seconds: float = 5, base_url: str | None = None) -> CrmClient:
        settings = self.settings(timeout_seconds=timeout_seconds, base_url=base_url)
        return self._stack.enter_context(closing(BUILDERS["salesforce"](settings, self._tokens)))

    def token(self) -> str:
        form = urllib.parse.urlencode(
            {"grant_type": "client_credentials", "client_id": CLIENT_ID, "client_secret": SECRET}
        )
        address = f"{self.sandbox.base_url}/services/oauth2/token"
        with urllib.request.urlopen(address, data=form.encode(), timeout=60) as response:
            return str(json.load(response)["access_token"])

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """What a person's own integration would ask."""
        request = urllib.request.Request(
            f"{self.sandbox.base_url}/services/data/v66.0{path}",
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json", "Authorization": f"Bearer {self.token()}"},
            method=method,
        )
        with urllib.request.urlopen(request, timeout=60) as response:
            return json.load(response)

    def held(self) -> dict[UUID, Held]:
        found = {}
        for item in self.sandbox.contacts():
            key = item["properties"].get(self.key)
            properties = {name: item["properties"].get(name) for name in self.names.values()}
            if key:
                found[UUID(key)] = Held(item["id"], {name: value for name, value in properties.items() if value})
        return found

    def made_by_people(self, **fields: str) -> str:
        values = {self.names[name]: value for name, value in fields.items()}
        required = {"LastName": "Somebody"} | ({"Company": "Theirs"} if self._object_type == "Lead" else {})
        return str(self.ask("POST", f"/sobjects/{self._object_type}", {**required, **values})["id"])

    def count(self) -> int:
        return len(list(self.sandbox.contacts()))

    def archived(self) -> set[str]:
        return {item["id"] for item in self.sandbox.contacts(archived=True)}

    def limited(self, requests: int) -> None:
        options = SalesforceOptions(**{**self._options, "requests": requests})
        self.sandbox = self._stack.enter_context(running_sandbox(options))

    def fail(self, *rules: Mapping[str, Any]) -> None:
        self.sandbox.set_faults([dict(rule) for rule in rules])


@pytest.fixture(params=["Contact", "Lead"])
def vendor(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[SalesforceVendor]:
    monkeypatch.setenv("LEADS_SALESFORCE_SECRET", SECRET)
    with ExitStack() as stack:
        yield SalesforceVendor(stack, object_type=request.param)


class TestSalesforce(
    RecordContract, BatchContract, SchemaContract, ConflictContract, MergeContract, HttpContract, TokenContract,
    QuotaContract,
):  # fmt: skip
    """Partial updates, an org with a duplicate rule, batches with a result for each record in their order."""

    PURGES = False

    def test_each_answer_tells_what_is_left_until_the_limit_itself_refuses(self, vendor: Vendor) -> None:
        """As for every vendor; but Salesforce's only window is its day, so that the refusal holds until the reset."""
        vendor.limited(3)
        sending = Sending(vendor.client())
        verdicts = [deliver(vendor, contact(vendor, number), sending=sending)[number] for number in (1, 2, 3, 4)]
        assert [item.verdict for item in verdicts] == [Verdict.DELIVERED] * 3 + [Verdict.THROTTLED]
        assert vendor.held().keys() == {UUID(int=number) for number in (1, 2, 3)}
        told = [[(item.remaining, item.limit) for item in response.readings] for response in sending.answered]
        assert told == [[(2, 3)], [(1, 3)], [(0, 3)], [(0, 3)]]
        refused = sending.answered[-1]
        assert (refused.status, refused.throttled, refused.until_reset) == (403, True, True)
