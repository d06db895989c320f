"""Zoho keeps the contract of every destination."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from uuid import UUID

import pytest

from leads_pipeline.crm.port import CrmRequest, Verdict
from leads_pipeline.crm.sandbox.running import SandboxServer, running_sandbox
from leads_pipeline.crm.sandbox.zoho.options import ZohoOptions
from leads_pipeline.domain.stage import Operation
from leads_pipeline.sandbox.faults import FaultKind
from leads_pipeline_tests.crm.contract import (
    BatchContract,
    ConflictContract,
    HttpContract,
    MergeContract,
    QuotaContract,
    RecordContract,
    SchemaContract,
    Sending,
    TokenContract,
    Vendor,
    classes,
    contact,
    deliver,
)
from leads_pipeline_tests.crm.played_zoho import ENVIRONMENT, REFRESH_TOKEN, PlayedZoho
from leads_pipeline_tests.outbound.token_vendor import token_vendor


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
    RecordContract, BatchContract, SchemaContract, ConflictContract, MergeContract, HttpContract, TokenContract,
    QuotaContract,
):  # fmt: skip
    """Partial updates, a verdict for each record in order, credits; access tokens that are renewed."""

    def test_a_property_that_the_vendor_does_not_have_is_not_left_out_in_silence(self, vendor: Vendor) -> None:
        """Zoho itself ignores it, so that only its schema can tell: the mapping is checked against that."""
        sending = Sending(vendor.client())
        assert "no_such_property" not in sending.client.describe(courier=sending).fields
        record = contact(vendor)
        record = replace(record, properties={**record.properties, "no_such_property": "x"})
        assert deliver(vendor, record)[1].verdict is Verdict.DELIVERED
        assert vendor.count() == 1

    def test_a_last_name_need_not_be_mapped_where_leads_yaml_puts_one_in_its_place(self, vendor: PlayedZoho) -> None:
        required = []
        for put_in in ({}, {"Last_Name": "(unknown)"}):
            sending = Sending(vendor.client(if_unknown=put_in))
            required.append(sending.client.describe(courier=sending).fields["Last_Name"].required)
        assert required == [True, False]

    def test_what_is_erased_is_not_in_the_recycle_bin_either(self, vendor: PlayedZoho) -> None:
        first, second = deliver(vendor, contact(vendor), contact(vendor, 2)).values()
        archived = contact(vendor, operation=Operation.ARCHIVE, version=2, crm_record_id=first.crm_record_id)
        deliver(vendor, archived)
        assert len(list(vendor.sandbox.contacts(archived=True))) == 1
        erased = [
            contact(vendor, number, operation=Operation.ERASE, version=3, crm_record_id=verdict.crm_record_id)
            for number, verdict in enumerate((first, second), start=1)
        ]
        for _time in range(2):
            assert classes(deliver(vendor, *erased)) == {Verdict.DELIVERED}
            assert (vendor.count(), list(vendor.sandbox.contacts(archived=True))) == (0, [])

    def test_a_record_that_lost_our_key_is_erased_and_one_of_another_contact_is_not(self, vendor: PlayedZoho) -> None:
        first, second = deliver(vendor, contact(vendor), contact(vendor, 2)).values()
        keys = [
            {"id": first.crm_record_id, "Lead_Key": None},
            {"id": second.crm_record_id, "Lead_Key": str(UUID(int=9))},
        ]
        assert vendor.ask("PUT", "/Leads", json={"data": keys}).status_code == 200
        verdicts = deliver(
            vendor,
            *(contact(vendor, number, operation=Operation.ERASE, version=2, crm_record_id=verdict.crm_record_id)
              for number, verdict in enumerate((first, second), start=1)),
        )  # fmt: skip
        assert (verdicts[1].verdict, verdicts[2].verdict) == (Verdict.DELIVERED, Verdict.CONFLICT)
        assert verdicts[2].holder_id == second.crm_record_id
        assert vendor.held().keys() == {UUID(int=9)}

    @pytest.mark.parametrize(
        ("refusal", "tokens"),
        [({"code": "OAUTH_SCOPE_MISMATCH"}, 1), ({"code": "INVALID_TOKEN"}, 2), (["no code"], 2)],
    )
    def test_a_right_that_is_missing_is_not_mended_by_another_token(
        self, vendor: PlayedZoho, refusal: object, tokens: int
    ) -> None:
        with token_vendor() as org:
            org.refused_with = refusal
            client = vendor.client(base_url=org.url)
            response = client.send(CrmRequest(purpose="look_up", method="GET", path="/crm/v8/Leads", records=0))
        assert (response.status, response.credentials_renewed) == (401, tokens == 2)
        assert len(org.asked_for_tokens) == tokens

    def test_who_may_not_empty_the_recycle_bin_is_told_and_goes_on_with_everything_else(
        self, vendor: PlayedZoho
    ) -> None:
        made = deliver(vendor, contact(vendor))[1]
        vendor.fail({"kind": FaultKind.FORBIDDEN_403, "endpoint": "recycle_bin/delete"})
        erased = contact(vendor, operation=Operation.ERASE, version=2, crm_record_id=made.crm_record_id)
        verdict = deliver(vendor, erased)[1]
        assert (verdict.verdict, verdict.code) == (Verdict.INVALID, "NO_PERMISSION")
        assert "recycle bin for 60 days" in (verdict.explanation or "")
        assert vendor.count() == 0

    def test_a_refused_purge_counts_as_done_only_if_it_is_about_the_id(self, vendor: PlayedZoho) -> None:
        made = deliver(vendor, contact(vendor))[1]
        vendor.fail({"kind": FaultKind.REFUSED_400, "endpoint": "recycle_bin/delete"})
        erased = contact(vendor, operation=Operation.ERASE, version=2, crm_record_id=made.crm_record_id)
        assert deliver(vendor, erased)[1].verdict is Verdict.INVALID

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
