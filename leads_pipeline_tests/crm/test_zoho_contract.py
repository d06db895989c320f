"""Zoho keeps the contract of every destination."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from uuid import UUID

import pytest

from leads_pipeline.crm.port import Verdict
from leads_pipeline.crm.sandbox.running import SandboxServer, running_sandbox
from leads_pipeline.crm.sandbox.zoho.options import ZohoOptions
from leads_pipeline_tests.crm.contract import (
    BatchContract,
    ConflictContract,
    HttpContract,
    MergeContract,
    QuotaContract,
    RecordContract,
    SchemaContract,
    Sending,
    Vendor,
    contact,
    deliver,
)
from leads_pipeline_tests.crm.played_zoho import ENVIRONMENT, REFRESH_TOKEN, PlayedZoho


@pytest.fixture
def sandbox() -> Iterator[SandboxServer]:
    """An organisation without limits where Email must be unique."""
    options = ZohoOptions(token=REFRESH_TOKEN, unique_email=True).without_limits()
    with running_sandbox(options) as server:
        yield server


@pytest.fixture
def vendor(sandbox: SandboxServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[PlayedZoho]:
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    with ExitStack() as stack:
        yield PlayedZoho(sandbox, stack)


class TestZoho(
    RecordContract, BatchContract, SchemaContract, ConflictContract, MergeContract, HttpContract, QuotaContract
):
    """Partial updates, a verdict for each record in order, credits; access tokens that are renewed."""

    def test_a_property_that_the_vendor_does_not_have_is_not_left_out_in_silence(self, vendor: Vendor) -> None:
        """Zoho itself ignores it, so that only its schema can tell: the mapping is checked against that."""
        sending = Sending(vendor.client())
        assert "no_such_property" not in sending.client.describe(courier=sending).fields
        record = contact(vendor)
        record = replace(record, properties={**record.properties, "no_such_property": "x"})
        assert deliver(vendor, record)[1].verdict is Verdict.DELIVERED
        assert vendor.count() == 1

    def test_each_answer_tells_what_is_left_until_the_limit_itself_refuses(self, vendor: Vendor) -> None:
        """Zoho tells nothing before half of the credits is used, and never how many there are."""
        vendor.limited(4)
        sending = Sending(vendor.client())
        verdicts = [deliver(vendor, contact(vendor, number), sending=sending)[number] for number in range(1, 6)]
        assert [item.verdict for item in verdicts] == [Verdict.DELIVERED] * 4 + [Verdict.THROTTLED]
        assert vendor.held().keys() == {UUID(int=number) for number in range(1, 5)}
        told = [[(item.unit, item.seconds, item.limit, item.remaining) for item in response.readings]
                for response in sending.answered]  # fmt: skip
        assert told == [[], *[[("credits", 86_400, None, left)] for left in (2, 1, 0, 0)]]
        refused = sending.answered[-1]
        assert (refused.throttled, refused.until_reset, refused.pause_seconds) == (True, True, None)
