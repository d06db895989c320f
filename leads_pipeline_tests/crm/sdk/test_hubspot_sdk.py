"""HubSpot's own client for Python, unmodified, with its host set to the sandbox.

What it sends and how it reads the answers is HubSpot's idea of the API, so it keeps the sandbox honest. It is a
dependency of the tests alone.
"""

import json
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import pytest

from leads_pipeline.clock import FrozenClock
from leads_pipeline.crm.sandbox.hubspot.options import HubSpotOptions
from leads_pipeline.crm.sandbox.running import SandboxServer, running_sandbox
from leads_pipeline_tests.crm.contract import contact, deliver
from leads_pipeline_tests.crm.delivering import TOKEN
from leads_pipeline_tests.crm.test_hubspot_contract import PlayedHubSpot, vendor

__all__ = ["vendor"]  # the fixture

Connect = Callable[..., Any]


@pytest.fixture
def sandbox(clock: FrozenClock) -> Iterator[SandboxServer]:
    """As the other tests of adapters have it, with a clock that stands still."""
    with running_sandbox(HubSpotOptions(token=TOKEN).without_limits(), clock=clock) as server:
        yield server


@pytest.fixture
def connect(sandbox: SandboxServer) -> Connect:
    """Makes a client of the SDK; importing it takes a second and a thousand modules."""
    from hubspot import HubSpot

    def connected(*, base_url: str = sandbox.base_url, token: str | None = TOKEN) -> Any:
        return HubSpot(access_token=token, host=base_url)

    return connected


@pytest.fixture
def contacts(connect: Connect) -> Any:
    return connect().crm.contacts


def upsert(contacts: Any, *inputs: tuple[str, dict[str, str]], by: str = "lead_key", traced: bool = True) -> Any:
    """A batch upsert of (key, properties); trace ids are t0, t1 …"""
    from hubspot.crm.contacts import BatchInputSimplePublicObjectBatchInputUpsert, SimplePublicObjectBatchInputUpsert

    entries = [
        SimplePublicObjectBatchInputUpsert(
            id=key, id_property=by, properties=properties, object_write_trace_id=f"t{place}" if traced else None
        )
        for place, (key, properties) in enumerate(inputs)
    ]
    return contacts.batch_api.upsert(BatchInputSimplePublicObjectBatchInputUpsert(inputs=entries))


def create(contacts: Any, **properties: str) -> Any:
    from hubspot.crm.contacts import SimplePublicObjectInputForCreate

    return contacts.basic_api.create(SimplePublicObjectInputForCreate(properties=properties, associations=[]))


def ids_of(*ids: str) -> Any:
    from hubspot.crm.contacts import BatchInputSimplePublicObjectId, SimplePublicObjectId

    return BatchInputSimplePublicObjectId(inputs=[SimplePublicObjectId(id=each) for each in ids])


def refusal(call: Callable[[], Any]) -> tuple[int, dict[str, Any]]:
    """What the SDK raises."""
    from hubspot.crm.contacts import ApiException

    with pytest.raises(ApiException) as raised:
        call()
    return raised.value.status, json.loads(raised.value.body)


def test_one_contact_lives_its_life(contacts: Any) -> None:
    from hubspot.crm.contacts import SimplePublicObjectInput

    made = create(contacts, email="Ada@Example.com", firstname="Ada")
    assert made.properties["email"] == "ada@example.com"
    contacts.basic_api.update(made.id, SimplePublicObjectInput(properties={"firstname": "Augusta"}))
    read = contacts.basic_api.get_by_id("ada@example.com", id_property="email", properties=["firstname", "company"])
    assert (read.id, read.properties["firstname"], read.properties["company"]) == (made.id, "Augusta", None)
    assert read.created_at.tzinfo is not None
    contacts.basic_api.archive(made.id)
    assert refusal(lambda: contacts.basic_api.get_by_id(made.id))[0] == 404
    assert contacts.basic_api.get_by_id(made.id, archived=True).archived is True


def test_an_upsert_says_of_each_input_whether_it_is_new(contacts: Any) -> None:
    first = upsert(contacts, ("k1", {"email": "a@example.com"}), ("k2", {"email": "b@example.com"}))
    assert (first.status, [item.new for item in first.results]) == ("COMPLETE", [True, True])
    assert {item.object_write_trace_id for item in first.results} == {"t0", "t1"}
    again = upsert(contacts, ("k2", {"firstname": "Bob"}), ("k3", {}))
    assert {item.object_write_trace_id: item.new for item in again.results} == {"t0": False, "t1": True}


def test_a_partly_refused_batch_is_read_as_one(contacts: Any) -> None:
    upsert(contacts, ("k1", {"email": "a@example.com"}))
    answer = upsert(contacts, ("k2", {"email": "a@example.com"}), ("k3", {"email": "c@example.com"}))
    assert type(answer).__name__ == "BatchResponseSimplePublicUpsertObjectWithErrors"
    [error] = answer.errors
    assert (answer.num_errors, error.category) == (1, "CONFLICT")
    assert error.context["objectWriteTraceId"] == ["t0"]
    assert [item.object_write_trace_id for item in answer.results] == ["t1"]


def test_without_trace_ids_a_batch_is_all_or_nothing(contacts: Any, sandbox: SandboxServer) -> None:
    inputs = (("k1", {"email": "a@example.com"}), ("k2", {"email": "nobody"}))
    status, body = refusal(lambda: upsert(contacts, *inputs, traced=False))
    assert (status, body["category"], body["errors"][0]["code"]) == (400, "VALIDATION_ERROR", "INVALID_EMAIL")
    assert list(sandbox.contacts()) == []


def test_the_same_id_twice_refuses_the_whole_batch(contacts: Any) -> None:
    status, body = refusal(lambda: upsert(contacts, ("A@b.co", {}), ("a@b.co", {}), by="email"))
    assert (status, body["category"]) == (400, "VALIDATION_ERROR")
    assert "Duplicate IDs" in body["message"]


def test_an_email_that_is_taken_is_a_conflict(contacts: Any) -> None:
    made = create(contacts, email="a@example.com")
    status, body = refusal(lambda: create(contacts, email="A@example.com"))
    assert (status, body["category"], made.id in body["message"]) == (409, "CONFLICT", True)


def test_a_batch_is_read_and_archived(contacts: Any) -> None:
    from hubspot.crm.contacts import BatchReadInputSimplePublicObjectId, SimplePublicObjectId

    made = upsert(contacts, *((f"k{number}", {"email": f"{number}@example.com"}) for number in range(3))).results
    sought = [SimplePublicObjectId(id=key) for key in ("k0", "k1", "k9")]
    reading = BatchReadInputSimplePublicObjectId(
        id_property="lead_key", inputs=sought, properties=["lead_key"], properties_with_history=[]
    )
    found = contacts.batch_api.read(reading)
    assert {item.properties["lead_key"] for item in found.results} == {"k0", "k1"}
    assert found.errors[0].context["ids"] == ["k9"]
    contacts.batch_api.archive(ids_of(*(item.id for item in made)))
    assert contacts.basic_api.get_page().results == []


def test_every_contact_is_reached_by_paging(contacts: Any) -> None:
    for first in range(0, 250, 100):
        upsert(contacts, *((f"k{number}", {}) for number in range(first, min(first + 100, 250))))
    assert len({item.id for item in contacts.get_all()}) == 250


def test_a_search_finds_what_was_written_a_while_ago(contacts: Any, clock: FrozenClock) -> None:
    from hubspot.crm.contacts import Filter, FilterGroup, PublicObjectSearchRequest

    create(contacts, email="a@example.com", company="Acme")
    wanted = Filter(property_name="company", operator="EQ", value="Acme")
    search = PublicObjectSearchRequest(
        filter_groups=[FilterGroup(filters=[wanted])], properties=["email"], limit=10, after="0", sorts=[]
    )
    assert contacts.search_api.do_search(search).total == 0
    clock.advance(5)
    found = contacts.search_api.do_search(search)
    assert [item.properties["email"] for item in found.results] == ["a@example.com"]


def test_merged_contacts_are_found_by_either_id(contacts: Any) -> None:
    from hubspot.crm.contacts import PublicMergeInput

    kept, other = create(contacts, email="a@example.com"), create(contacts, email="b@example.com", company="Acme")
    merged = contacts.basic_api.merge(PublicMergeInput(primary_object_id=kept.id, object_id_to_merge=other.id))
    assert {contacts.basic_api.get_by_id(each.id).id for each in (kept, other)} == {merged.id}
    assert merged.properties["company"] == "Acme"


def test_an_erased_contact_is_gone_and_its_address_refused(contacts: Any) -> None:
    from hubspot.crm.contacts import PublicGdprDeleteInput

    create(contacts, email="a@example.com")
    contacts.basic_api.purge(PublicGdprDeleteInput(object_id="a@example.com", id_property="email"))
    assert contacts.basic_api.get_page().results == []
    assert refusal(lambda: create(contacts, email="a@example.com"))[0] == 400


def test_properties_are_listed_and_made(connect: Connect) -> None:
    from hubspot.crm.properties import PropertyCreate

    properties = connect().crm.properties.core_api
    tier = PropertyCreate(
        name="tier", label="Tier", type="string", field_type="text", group_name="contactinformation",
        has_unique_value=True,
    )  # fmt: skip
    assert properties.create("contacts", tier).has_unique_value is True
    known = {item.name: item for item in properties.get_all("contacts").results}
    assert known["lead_key"].has_unique_value
    assert known["tier"].type == "string"
    assert properties.get_by_name("contacts", "hs_object_id").modification_metadata.read_only_value


def test_a_token_from_a_refresh_token_works_until_it_ends(
    connect: Connect, sandbox: SandboxServer, clock: FrozenClock
) -> None:
    given = connect(token=None).oauth.tokens_api.create(
        grant_type="refresh_token", client_id="app", client_secret="s", refresh_token=TOKEN
    )
    assert (given.token_type, given.expires_in) == ("bearer", 1800)
    contacts = connect(token=given.access_token).crm.contacts
    assert contacts.basic_api.get_page().results == []
    clock.advance(1800)
    assert refusal(contacts.basic_api.get_page)[0] == 401


def test_a_wrong_token_is_refused(connect: Connect) -> None:
    status, body = refusal(connect(token="wrong").crm.contacts.basic_api.get_page)
    assert (status, body["category"]) == (401, "INVALID_AUTHENTICATION")


def test_a_client_in_a_loop_runs_into_the_limit(connect: Connect, clock: FrozenClock) -> None:
    options = HubSpotOptions(token=TOKEN, requests=5)
    with running_sandbox(options, clock=clock) as limited:
        api = connect(base_url=limited.base_url).crm.contacts.basic_api
        for _ in range(5):
            api.get_page()
        status, body = refusal(api.get_page)
        clock.advance(10)
        api.get_page()
        assert limited.report()["http_429"] == 1
    assert (status, body["policyName"]) == (429, "TEN_SECONDLY_ROLLING")


def test_the_sdk_repeats_what_was_throttled_when_it_is_told_to(sandbox: SandboxServer) -> None:
    from hubspot import HubSpot
    from urllib3.util.retry import Retry

    sandbox.set_faults([{"kind": "http_429", "count": 2}, {"kind": "http_502", "count": 1}])
    retry = Retry(total=5, status_forcelist=(429, 502), backoff_factor=0)
    api = HubSpot(access_token=TOKEN, host=sandbox.base_url, retry=retry).crm.contacts.basic_api
    assert api.get_page().results == []
    assert [item["status"] for item in sandbox.arrivals()] == [429, 429, 502, 200]


def test_a_create_whose_answer_is_lost_has_been_done(contacts: Any, sandbox: SandboxServer) -> None:
    from urllib3.exceptions import ProtocolError

    sandbox.set_faults([{"kind": "written_then_reset", "count": 1}])
    with pytest.raises(ProtocolError):
        create(contacts, email="a@example.com")
    assert refusal(lambda: create(contacts, email="a@example.com"))[0] == 409
    assert len(list(sandbox.contacts())) == 1


def test_the_sdk_reads_what_the_adapter_delivered(contacts: Any, vendor: PlayedHubSpot) -> None:
    delivered = deliver(vendor, contact(vendor, email="Ada@example.com", company="Analytical Engines"))[1]
    read = contacts.basic_api.get_by_id(
        str(UUID(int=1)), id_property="lead_key", properties=["email", "firstname", "company"]
    )
    assert read.id == delivered.crm_record_id
    assert {name: read.properties[name] for name in ("email", "firstname", "company")} == {
        "email": "ada@example.com", "firstname": "Ada", "company": "Analytical Engines",
    }  # fmt: skip
