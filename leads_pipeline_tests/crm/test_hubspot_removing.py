"""What only HubSpot does when contacts are removed, merged or given to another one; the rest is in the contract."""

import json
import urllib.request
from typing import Any
from uuid import UUID

import pytest

from leads_pipeline.crm.port import Verdict
from leads_pipeline.crm.sandbox.running import SandboxServer
from leads_pipeline.domain.stage import Operation
from leads_pipeline.sandbox.faults import FaultKind
from leads_pipeline_tests.crm.contract import Sending, at_request, contact, deliver
from leads_pipeline_tests.crm.delivering import TOKEN
from leads_pipeline_tests.crm.test_hubspot_contract import PlayedHubSpot, vendor

__all__ = ["vendor"]  # the fixture


def by_people(sandbox: SandboxServer, method: str, path: str, body: dict[str, Any]) -> Any:
    """What a user of the CRM does."""
    request = urllib.request.Request(
        f"{sandbox.base_url}/crm/v3/objects/contacts{path}",
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json", "Authorization": f"Bearer {TOKEN}"},
        method=method,
    )
    with urllib.request.urlopen(request, timeout=60) as response:
        return json.loads(response.read() or b"null")


def erasure(vendor: PlayedHubSpot, number: int = 1, **keywords: Any) -> Any:
    return contact(vendor, number, operation=Operation.ERASE, version=9, **keywords)


def test_an_upsert_says_whether_it_created_the_record(vendor: PlayedHubSpot) -> None:
    assert deliver(vendor, contact(vendor))[1].created is True
    assert deliver(vendor, contact(vendor, version=2))[1].created is False


def test_what_was_archived_is_erased_too_and_cannot_be_restored(vendor: PlayedHubSpot, sandbox: SandboxServer) -> None:
    record_id = deliver(vendor, contact(vendor))[1].crm_record_id
    deliver(vendor, contact(vendor, operation=Operation.ARCHIVE, version=2, crm_record_id=record_id))
    assert [item["id"] for item in sandbox.contacts(archived=True)] == [record_id]
    [verdict] = deliver(vendor, erasure(vendor, crm_record_id=record_id)).values()
    assert (verdict.verdict, verdict.crm_record_id) == (Verdict.DELIVERED, record_id)
    assert list(sandbox.contacts(archived=True)) == []


@pytest.mark.parametrize("kind", [FaultKind.SILENT_200, FaultKind.HTTP_500, FaultKind.WRITTEN_THEN_RESET])
@pytest.mark.parametrize("place", range(4))
def test_what_was_archived_is_not_taken_for_erased_while_it_is_there(
    vendor: PlayedHubSpot, sandbox: SandboxServer, kind: FaultKind, place: int
) -> None:
    record_id = deliver(vendor, contact(vendor))[1].crm_record_id
    deliver(vendor, contact(vendor, operation=Operation.ARCHIVE, version=2, crm_record_id=record_id))
    vendor.fail(*at_request(place, kind))
    verdict = deliver(vendor, erasure(vendor, crm_record_id=record_id))[1]
    assert verdict.verdict is Verdict.AMBIGUOUS
    assert len(list(sandbox.contacts(archived=True))) == (
        0 if (place, kind) == (3, FaultKind.WRITTEN_THEN_RESET) else 1
    )
    vendor.fail()
    assert deliver(vendor, erasure(vendor, crm_record_id=record_id))[1].verdict is Verdict.DELIVERED
    assert list(sandbox.contacts(archived=True)) == []


def test_a_record_from_which_people_took_our_key_is_erased(vendor: PlayedHubSpot, sandbox: SandboxServer) -> None:
    record_id = deliver(vendor, contact(vendor))[1].crm_record_id
    by_people(sandbox, "PATCH", f"/{record_id}", {"properties": {"lead_key": ""}})
    assert deliver(vendor, erasure(vendor, crm_record_id=record_id))[1].verdict is Verdict.DELIVERED
    assert vendor.count() == 0


def test_a_record_that_people_merged_into_another_contact_s_is_not_erased_with_it(
    vendor: PlayedHubSpot, sandbox: SandboxServer
) -> None:
    delivered = deliver(vendor, contact(vendor, 1), contact(vendor, 2), contact(vendor, 3))
    ids = {number: verdict.crm_record_id for number, verdict in delivered.items()}
    merged = by_people(sandbox, "POST", "/merge", {"primaryObjectId": ids[2], "objectIdToMerge": ids[1]})["id"]
    verdicts = deliver(vendor, erasure(vendor, 1, crm_record_id=ids[1]), erasure(vendor, 3, crm_record_id=ids[3]))
    assert (verdicts[1].verdict, verdicts[1].code, verdicts[1].holder_id) == (Verdict.CONFLICT, "MERGED_AWAY", merged)
    assert "permanently" in (verdicts[1].explanation or "")
    assert verdicts[3].verdict is Verdict.DELIVERED
    assert vendor.held().keys() == {UUID(int=2)}


def test_each_erasure_is_a_request_of_its_own_and_a_pause_keeps_the_rest(vendor: PlayedHubSpot) -> None:
    deliver(vendor, *(contact(vendor, number) for number in range(1, 6)))
    sending = Sending(vendor.client())
    vendor.fail(*at_request(3, FaultKind.AUTH))
    verdicts = deliver(vendor, *(erasure(vendor, number) for number in range(1, 6)), sending=sending)
    assert [request.purpose for request in sending.asked] == ["look_up", "erase", "erase", "erase"]
    assert [verdicts[number].verdict for number in range(1, 6)] == [
        Verdict.DELIVERED, Verdict.DELIVERED, Verdict.AUTH, Verdict.AUTH, Verdict.AUTH,
    ]  # fmt: skip
    assert vendor.held().keys() == {UUID(int=number) for number in (3, 4, 5)}


def test_an_address_that_was_erased_is_refused_for_ever_and_it_is_said_why(vendor: PlayedHubSpot) -> None:
    deliver(vendor, contact(vendor))
    deliver(vendor, erasure(vendor))
    [verdict] = deliver(vendor, contact(vendor, version=10)).values()
    assert (verdict.verdict, verdict.code, verdict.refused_properties) == (
        Verdict.INVALID, "GDPR_BLOCKLISTED", ("email",),
    )  # fmt: skip


def test_a_record_that_people_merged_away_is_not_taken_over_through_its_old_id(
    vendor: PlayedHubSpot, sandbox: SandboxServer
) -> None:
    delivered = deliver(vendor, contact(vendor, 1), contact(vendor, 2))
    ids = {number: verdict.crm_record_id for number, verdict in delivered.items()}
    merged = by_people(sandbox, "POST", "/merge", {"primaryObjectId": ids[2], "objectIdToMerge": ids[1]})["id"]
    verdict = deliver(vendor, contact(vendor, 3, claims_record=ids[1]))[3]
    assert verdict.verdict is Verdict.DELIVERED
    assert verdict.created
    held = vendor.held()
    assert held.keys() == {UUID(int=2), UUID(int=3)}
    assert (held[UUID(int=2)].crm_record_id, held[UUID(int=3)].crm_record_id) == (merged, verdict.crm_record_id)


def test_a_conflict_with_another_contact_of_ours_names_it_and_no_address(vendor: PlayedHubSpot) -> None:
    holder = deliver(vendor, contact(vendor, email="ada@example.com"))[1].crm_record_id
    verdict = deliver(vendor, contact(vendor, 2, email="ada@example.com"))[2]
    assert (verdict.verdict, verdict.holder_id) == (Verdict.CONFLICT, holder)
    assert str(UUID(int=1)) in (verdict.explanation or "")
    assert "leads contact merge" in (verdict.explanation or "")
    assert "ada" not in (verdict.explanation or "")


def test_take_overs_after_merges_share_their_requests(vendor: PlayedHubSpot) -> None:
    delivered = deliver(vendor, *(contact(vendor, number) for number in range(1, 51)))
    claims = [
        contact(vendor, 100 + number, claims_record=verdict.crm_record_id) for number, verdict in delivered.items()
    ]
    sending = Sending(vendor.client())
    assert {item.verdict for item in deliver(vendor, *claims, sending=sending).values()} == {Verdict.DELIVERED}
    assert [(request.purpose, request.records) for request in sending.asked] == [("look_up", 50), ("re_key", 50)]
    assert vendor.count() == 50
