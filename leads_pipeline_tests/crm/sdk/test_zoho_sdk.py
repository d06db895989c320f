"""Zoho's own client for Python, unmodified, with its environment set to the sandbox.

What it sends and how it reads the answers is Zoho's idea of the API, so it keeps the sandbox honest. It is a dependency
of the tests alone. It asks for the fields of a module before it writes a record, and sends JSON without a media type.
"""

import logging
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from leads_pipeline.clock import FrozenClock
from leads_pipeline.crm.sandbox.running import SandboxServer, running_sandbox
from leads_pipeline.crm.sandbox.zoho.options import ZohoOptions
from leads_pipeline_tests.crm.contract import contact, deliver
from leads_pipeline_tests.crm.played_zoho import CLIENT_SECRET, ENVIRONMENT, REFRESH_TOKEN, PlayedZoho


@pytest.fixture
def sandbox(clock: FrozenClock) -> Iterator[SandboxServer]:
    """An organisation where Email must be unique, with a clock that stands still."""
    options = ZohoOptions(token=REFRESH_TOKEN, unique_email=True, credits=None, concurrency=None)
    with running_sandbox(options, clock=clock) as server:
        yield server


@pytest.fixture(autouse=True)
def _own_log() -> Iterator[None]:
    """The SDK logs into a file of the test's own directory."""
    yield
    handlers = logging.getLogger("SDKLogger").handlers
    while handlers:
        handlers.pop().close()


@pytest.fixture
def leads(sandbox: SandboxServer, tmp_path: Path) -> Any:
    """The SDK's records of Leads; importing it takes a second and thousands of modules."""
    return connected(sandbox.base_url, tmp_path)


def connected(base_url: str, directory: Path, *, refresh_token: str = REFRESH_TOKEN) -> Any:
    from zohocrmsdk.src.com.zoho.api.authenticator import OAuthToken
    from zohocrmsdk.src.com.zoho.api.authenticator.store import FileStore
    from zohocrmsdk.src.com.zoho.api.logger import Logger
    from zohocrmsdk.src.com.zoho.crm.api import Initializer
    from zohocrmsdk.src.com.zoho.crm.api.dc import DataCenter
    from zohocrmsdk.src.com.zoho.crm.api.record import RecordOperations

    Initializer.initialize(
        environment=DataCenter.Environment(base_url, f"{base_url}/oauth/v2/token", base_url),
        token=OAuthToken(client_id="1000.c", client_secret=CLIENT_SECRET, refresh_token=refresh_token, find_user=False),
        store=FileStore(str(directory / "tokens.csv")),
        resource_path=str(directory),
        logger=Logger.get_instance(level=Logger.Levels.ERROR, file_path=str(directory / "sdk.log")),
    )
    return RecordOperations("Leads")


def body_of(*entries: dict[str, Any], check: tuple[str, ...] = ("Lead_Key",)) -> Any:
    from zohocrmsdk.src.com.zoho.crm.api.record import BodyWrapper, Record

    records = []
    for entry in entries:
        record = Record()
        for name, value in entry.items():
            record.add_key_value(name, value)
        records.append(record)
    body = BodyWrapper()
    body.set_data(records)
    body.set_trigger([])
    if check:
        body.set_duplicate_check_fields(list(check))
    return body


def upsert(leads: Any, *entries: dict[str, Any]) -> tuple[int, list[Any]]:
    """The status, and what the SDK makes of each entry."""
    answer = leads.upsert_records(body_of(*entries), None)
    return answer.get_status_code(), answer.get_object().get_data()


def told(entry: Any) -> tuple[str, str, Any]:
    """Kind of the SDK's object, code, details."""
    return type(entry).__name__, entry.get_code().get_value(), entry.get_details()


def test_an_upsert_says_of_each_record_whether_it_is_new(leads: Any, sandbox: SandboxServer) -> None:
    status, first = upsert(leads, {"Last_Name": "Byron", "Lead_Key": "k1"}, {"Last_Name": "Hopper", "Lead_Key": "k2"})
    assert (status, [item.get_action().get_value() for item in first]) == (200, ["insert", "insert"])
    assert [type(item).__name__ for item in first] == ["SuccessResponse"] * 2
    status, again = upsert(leads, {"Lead_Key": "k2", "First_Name": "Grace"}, {"Last_Name": "Noether", "Lead_Key": "k3"})
    assert (status, [item.get_action().get_value() for item in again]) == (200, ["update", "insert"])
    assert again[0].get_details()["id"] == first[1].get_details()["id"]
    assert again[0].get_duplicate_field() == "Lead_Key"
    assert [item["properties"].get("First_Name") for item in sandbox.contacts()] == [None, "Grace", None]


def test_a_partly_refused_batch_is_read_as_one(leads: Any) -> None:
    status, entries = upsert(
        leads,
        {"Last_Name": "Byron", "Email": "ada@example.com", "Lead_Key": "k1"},
        {"First_Name": "Grace", "Lead_Key": "k2"},
        {"Last_Name": "Noether", "Email": "ADA@example.com", "Lead_Key": "k3"},
        {"Last_Name": "N" * 81, "Lead_Key": "k4"},
    )
    assert status == 207
    assert [told(entry)[:2] for entry in entries] == [
        ("SuccessResponse", "SUCCESS"),
        ("APIException", "MANDATORY_NOT_FOUND"),
        ("APIException", "DUPLICATE_DATA"),
        ("APIException", "INVALID_DATA"),
    ]
    assert entries[1].get_details()["api_name"] == "Last_Name"
    assert entries[3].get_details()["maximum_length"] == "80"  # the SDK makes texts of them


def test_a_batch_of_which_nothing_was_written_is_read_too(leads: Any) -> None:
    status, entries = upsert(leads, {"First_Name": "Ada", "Lead_Key": "k1"})
    assert (status, [told(entry)[1] for entry in entries]) == (400, ["MANDATORY_NOT_FOUND"])


def test_one_record_lives_its_life(leads: Any, sandbox: SandboxServer) -> None:
    from zohocrmsdk.src.com.zoho.crm.api import HeaderMap, ParameterMap
    from zohocrmsdk.src.com.zoho.crm.api.record import DeleteRecordsParam, GetRecordParam
    from zohocrmsdk.src.com.zoho.crm.api.recycle_bin import DeleteRecycleBinRecordsParam, RecycleBinOperations

    _status, [made] = upsert(leads, {"Last_Name": "Byron", "Lead_Key": "k1"})
    record_id = int(made.get_details()["id"])
    wanted = ParameterMap()
    wanted.add(GetRecordParam.fields, "Last_Name,Lead_Key")
    [read] = leads.get_record(record_id, wanted, HeaderMap()).get_object().get_data()
    assert (read.get_id(), read.get_key_value("Lead_Key")) == (record_id, "k1")

    changed = leads.update_record(record_id, body_of({"First_Name": "Ada"}, check=()), HeaderMap())
    assert told(changed.get_object().get_data()[0])[:2] == ("SuccessResponse", "SUCCESS")

    ids = ParameterMap()
    ids.add(DeleteRecordsParam.ids, str(record_id))
    gone = leads.delete_records(ids, HeaderMap())
    assert told(gone.get_object().get_data()[0])[:2] == ("SuccessResponse", "SUCCESS")
    assert leads.get_record(record_id, wanted, HeaderMap()).get_status_code() == 204
    assert [item["id"] for item in sandbox.contacts(archived=True)] == [str(record_id)]

    binned = ParameterMap()
    binned.add(DeleteRecycleBinRecordsParam.ids, str(record_id))
    RecycleBinOperations().delete_recyclebin_records(binned)
    assert list(sandbox.contacts(archived=True)) == []


def test_more_than_a_hundred_records_are_refused_whole(leads: Any, sandbox: SandboxServer) -> None:
    answer = leads.upsert_records(body_of(*({"Last_Name": "X", "Lead_Key": str(n)} for n in range(101))), None)
    assert (answer.get_status_code(), type(answer.get_object()).__name__) == (400, "APIException")
    assert list(sandbox.contacts()) == []


def test_a_spent_quota_is_an_exception_of_the_sdk(tmp_path: Path) -> None:
    # Reading the fields costs the first credit.
    with running_sandbox(ZohoOptions(token=REFRESH_TOKEN, credits=2)) as small:
        leads = connected(small.base_url, tmp_path)
        assert upsert(leads, {"Last_Name": "Byron", "Lead_Key": "k1"})[0] == 200
        answer = leads.upsert_records(body_of({"Last_Name": "Hopper", "Lead_Key": "k2"}), None)
        assert answer.get_status_code() == 429
        assert answer.get_object().get_code().get_value() == "TOO_MANY_REQUESTS"


def test_a_refresh_token_that_is_not_known_gets_no_access_token(sandbox: SandboxServer, tmp_path: Path) -> None:
    from zohocrmsdk.src.com.zoho.crm.api.exception import SDKException

    with pytest.raises(SDKException):
        upsert(connected(sandbox.base_url, tmp_path, refresh_token="1000.else"), {"Last_Name": "B", "Lead_Key": "k1"})


def test_an_access_token_that_has_ended_is_refused_and_renewed(
    leads: Any, sandbox: SandboxServer, clock: FrozenClock
) -> None:
    assert upsert(leads, {"Last_Name": "Byron", "Lead_Key": "k1"})[0] == 200
    clock.advance(3600)
    answer = leads.upsert_records(body_of({"Last_Name": "Byron", "Lead_Key": "k1"}), None)
    assert answer.get_status_code() == 401
    assert sandbox.report()["unauthorized"] == 1


def test_what_our_adapter_wrote_the_sdk_reads(
    leads: Any, sandbox: SandboxServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from zohocrmsdk.src.com.zoho.crm.api import HeaderMap, ParameterMap
    from zohocrmsdk.src.com.zoho.crm.api.record import GetRecordParam

    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    with ExitStack() as stack:
        vendor = PlayedZoho(sandbox, stack)
        record_id = deliver(vendor, contact(vendor, company="Analytical Engines"))[1].crm_record_id
    wanted = ParameterMap()
    wanted.add(GetRecordParam.fields, "Email,Company,Lead_Key")
    [read] = leads.get_record(int(record_id or 0), wanted, HeaderMap()).get_object().get_data()
    assert [read.get_key_value(name) for name in ("Email", "Company", "Lead_Key")] == [
        "person1@example.com", "Analytical Engines", str(UUID(int=1)),
    ]  # fmt: skip
