"""Zoho's habits: what a request says and costs, what each code comes to, how long a 429 is waited out."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leads_pipeline.config import ZohoSettings
from leads_pipeline.crm.port import CrmRecord, CrmRequest, CrmResponse, RecordVerdict, Unit, Verdict
from leads_pipeline.crm.zoho.answers import read_batch, refusal_of, response_of
from leads_pipeline.crm.zoho.client import Zoho
from leads_pipeline.crm.zoho.requests import RecordRequests
from leads_pipeline.crm.zoho.schema import schema_of
from leads_pipeline.crm.zoho.throttling import Backoff
from leads_pipeline.domain.delivery import PropertyValue
from leads_pipeline.domain.destination_schema import FieldSchema, FieldType
from leads_pipeline.domain.stage import Operation
from leads_pipeline.outbound.transport import HttpAnswer, Transport
from leads_pipeline_tests.outbound.http_listener import listening

REQUESTS = RecordRequests("/crm/v8", "Leads", "Lead_Key")


def record(number: int = 1, *, complete: bool = True, **properties: PropertyValue) -> CrmRecord:
    values = {"Last_Name": "Byron"} | properties
    return CrmRecord(number, "acme", UUID(int=number), 1, Operation.UPSERT, properties=values, complete=complete)


def response(status: int, body: Any, **headers: str) -> CrmResponse:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return response_of(HttpAnswer(status, named, body), pause_after_429=lambda: 4.0)


def deliver(records: Sequence[CrmRecord], answer: Callable[[CrmRequest], CrmResponse]) -> list[RecordVerdict]:
    transport = Transport("http://127.0.0.1:9", credentials=None, timeout_seconds=1, connections=1)
    return Zoho(transport, requests=REQUESTS).deliver(records, courier=answer)


def refused(code: str, **details: Any) -> dict[str, Any]:
    return {"code": code, "details": details, "message": "what Zoho says", "status": "error"}


def test_an_upsert_compares_our_key_alone_and_starts_no_workflow() -> None:
    request = REQUESTS.upsert([record(Email="ada@example.com", Phone=None)])
    assert (request.method, request.path) == ("POST", "/crm/v8/Leads/upsert")
    assert request.body == {
        "data": [
            {"Last_Name": "Byron", "Email": "ada@example.com", "Phone": None, "Lead_Key": str(UUID(int=1))}
        ],
        "duplicate_check_fields": ["Lead_Key"],
        "trigger": [],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("records", "spent", "endpoint_class"),
    [(1, 1, "api"), (10, 1, "api"), (11, 2, "many_records"), (99, 10, "many_records"), (100, 10, "many_records")],
)
def test_a_write_costs_a_credit_for_each_ten_records(records: int, spent: int, endpoint_class: str) -> None:
    request = REQUESTS.upsert([record(number) for number in range(1, records + 1)])
    assert request.cost == {Unit.REQUESTS: 1, Unit.CREDITS: spent, Unit.RECORDS: records}
    assert request.endpoint_class == endpoint_class


def test_what_is_no_batch_of_writes_costs_one_credit() -> None:
    part = [record(number) for number in range(1, 101)]
    ids = {item.outbox_id: str(item.outbox_id) for item in part}
    for request in (REQUESTS.describe(), REQUESTS.read(part, ids), REQUESTS.delete(part, ids, purpose="archive")):
        assert (request.cost[Unit.CREDITS], request.endpoint_class) == (1, "api")


@pytest.mark.parametrize(
    ("properties", "complete", "sent"),
    [
        ({"Last_Name": "Byron"}, True, "Byron"),
        ({"Last_Name": None}, True, "(unknown)"),
        ({"Last_Name": ""}, False, "(unknown)"),
        ({}, True, "(unknown)"),
        ({}, False, None),  # a difference that leaves the name as it is
    ],
)
def test_a_record_without_a_last_name_gets_the_one_that_is_configured(
    properties: dict[str, PropertyValue], complete: bool, sent: str | None
) -> None:
    requests = RecordRequests(
        "/crm/v8", "Leads", "Lead_Key", if_unknown={"Last_Name": "(unknown)", "Company": "(none)"}
    )
    item = CrmRecord(1, "acme", UUID(int=1), 1, Operation.UPSERT, properties=properties, complete=complete)
    [entry] = (requests.upsert([item]).body or {})["data"]
    assert entry.get("Last_Name") == sent
    [bare] = (REQUESTS.upsert([item]).body or {})["data"]
    assert bare.get("Last_Name") in (None, "Byron")
    assert ("Last_Name" in bare) == (sent == "Byron")
    assert entry.get("Company") == ("(none)" if complete else None)
    # A record that is there keeps what people have put there.
    [kept] = (requests.update([item], {1: "77"}, purpose="link").body or {})["data"]
    assert (kept.get("Last_Name"), kept["id"]) == ("Byron" if sent == "Byron" else None, "77")


def test_instants_are_sent_as_zoho_reads_them() -> None:
    request = REQUESTS.upsert([record(Seen="2026-01-15T12:00:00.250Z", Born="1990-12-01", Note="at 12:00:00.000Z")])
    [entry] = (request.body or {})["data"]
    assert (entry["Seen"], entry["Born"], entry["Note"]) == (
        "2026-01-15T12:00:00+00:00", "1990-12-01", "at 12:00:00.000Z",
    )  # fmt: skip


@pytest.mark.parametrize("status", [200, 202, 207, 400])
def test_the_entries_count_whatever_the_status(status: int) -> None:
    body = {
        "data": [
            {"code": "SUCCESS", "action": "insert", "details": {"id": "77"}, "message": "record added"},
            refused("MANDATORY_NOT_FOUND", api_name="Last_Name", json_path="$.data[1].Last_Name"),
            refused("DUPLICATE_DATA", api_name="Email", duplicate_record={"id": "55"}),
            refused("RECORD_LOCKED"),
            {"details": {}},
        ]
    }
    answer = response(status, body)
    assert refusal_of(answer) is None
    verdicts = read_batch([record(number) for number in range(1, 6)], answer)
    assert [(item.outbox_id, item.verdict, item.code) for item in verdicts] == [
        (1, Verdict.DELIVERED, None),
        (2, Verdict.INVALID, "MANDATORY_NOT_FOUND"),
        (3, Verdict.CONFLICT, "DUPLICATE_DATA"),
        (4, Verdict.LOCKED, "RECORD_LOCKED"),
        (5, Verdict.AMBIGUOUS, "NOT_REPORTED"),
    ]
    assert (verdicts[0].crm_record_id, verdicts[0].created) == ("77", True)
    assert verdicts[1].refused_properties == ("Last_Name",)
    assert "if_unknown" in (verdicts[1].explanation or "")
    assert verdicts[2].holder_id == "55"


@pytest.mark.parametrize(
    ("codes", "verdicts"),
    [
        (["NO_PERMISSION", "SUCCESS"], [Verdict.INVALID, Verdict.DELIVERED]),
        (["RECORD_IN_BLUEPRINT", "NO_PERMISSION", "AUTHORIZATION_FAILED"], [Verdict.INVALID] * 3),
        (["NO_PERMISSION", "NO_PERMISSION"], [Verdict.AUTH] * 2),
        (["SUCCESS", "STORAGE_SPACE_EXCEEDED"], [Verdict.DELIVERED, Verdict.AUTH]),
    ],
)
def test_a_right_that_is_missing_for_one_record_is_no_fault_of_the_destination(
    codes: list[str], verdicts: list[Verdict]
) -> None:
    part = [record(number) for number in range(len(codes))]
    answer = response(207, {"data": [refused(code, id="77") for code in codes]})
    assert [item.verdict for item in read_batch(part, answer)] == verdicts
    archived = [replace(item, operation=Operation.ARCHIVE) for item in part]
    looked_up = iter([response(200, {"data": [refused("SUCCESS", id="77")] * len(part)}), answer])
    assert [item.verdict for item in deliver(archived, lambda _request: next(looked_up))] == verdicts
    # Where the look-up already says so, and the others are not there.
    absent = [refused("MANDATORY_NOT_FOUND" if code == "SUCCESS" else code) for code in codes]
    told = {
        item.outbox_id: item.verdict for item in deliver(archived, lambda _request: response(207, {"data": absent}))
    }
    assert [told[item.outbox_id] for item in part] == verdicts


@pytest.mark.parametrize(
    ("status", "code", "verdict", "divisible"),
    [
        (400, "INVALID_DATA", Verdict.INVALID, True),
        (400, "INVALID_MODULE", Verdict.AUTH, False),
        (400, "STORAGE_SPACE_EXCEEDED", Verdict.AUTH, False),
        (401, "INVALID_TOKEN", Verdict.AUTH, False),
        (401, "OAUTH_SCOPE_MISMATCH", Verdict.AUTH, False),
        (403, "NO_PERMISSION", Verdict.AUTH, False),
        (404, "INVALID_URL_PATTERN", Verdict.AUTH, False),
        (412, "ALREADY_MODIFIED", Verdict.TRANSIENT, False),
        (413, "TOO_LARGE", Verdict.INVALID, True),
        (429, "TOO_MANY_REQUESTS", Verdict.THROTTLED, False),
        (500, "INTERNAL_ERROR", Verdict.AMBIGUOUS, False),
        (502, "ANY", Verdict.AMBIGUOUS, False),
        (503, "ANY", Verdict.TRANSIENT, False),
        (302, "ANY", Verdict.AUTH, False),
    ],
)
def test_a_request_that_is_refused_whole(status: int, code: str, verdict: Verdict, divisible: bool) -> None:
    refusal = refusal_of(response(status, refused(code)))
    assert refusal is not None
    assert (refusal.verdict, refusal.code, refusal.divisible) == (verdict, code, divisible)
    if verdict is Verdict.AUTH and code != "ANY":
        assert (refusal.explanation or "").count(";") >= 1  # Zoho's words, and what helps


def test_an_answer_that_is_no_json_is_told_by_its_status() -> None:
    refusal = refusal_of(response(500, None))
    assert refusal is not None
    assert (refusal.verdict, refusal.code) == (Verdict.AMBIGUOUS, "HTTP_500")


def test_of_a_batch_too_large_for_zoho_each_half_passes() -> None:
    def answer(request: CrmRequest) -> CrmResponse:
        if request.records > 2:
            return response(413, refused("TOO_LARGE"))
        entry = {"code": "SUCCESS", "details": {"id": "1"}, "message": "record added"}
        return response(200, {"data": [entry] * request.records})

    verdicts = deliver([record(number) for number in range(1, 8)], answer)
    assert {item.verdict for item in verdicts} == {Verdict.DELIVERED}
    assert sorted(item.outbox_id for item in verdicts) == list(range(1, 8))


@pytest.mark.parametrize("left", ["", "many", "-1", "٣"])
def test_a_header_that_cannot_be_read_says_nothing(left: str) -> None:
    assert response(200, {}, x_api_credits_remaining=left).readings == ()


def test_a_429_is_waited_out_and_means_the_day_where_no_credit_is_left() -> None:
    answer = response(429, refused("TOO_MANY_REQUESTS"))
    assert (answer.throttled, answer.pause_seconds, answer.until_reset) == (True, 4.0, False)
    spent = response(429, refused("TOO_MANY_REQUESTS"), x_api_credits_remaining="0")
    assert (spent.throttled, spent.pause_seconds, spent.until_reset) == (True, None, True)


@pytest.mark.parametrize(("status", "pause"), [(429, 90.0), (503, 90.0), (500, None), (200, None)])
def test_a_pause_that_zoho_asks_for_wins(status: int, pause: float | None) -> None:
    with listening() as listener:
        listener.status, listener.headers = status, {"Retry-After": "90"}
        transport = Transport(listener.url, credentials=None, timeout_seconds=5, connections=1)
        answer = Zoho(transport, requests=REQUESTS).send(REQUESTS.describe())
    assert (answer.status, answer.pause_seconds, answer.until_reset) == (status, pause, False)


def test_pauses_grow_to_half_a_minute_and_then_the_account_is_parked() -> None:
    backoff = Backoff()
    assert [backoff.refused() for _ in range(9)] == [1, 2, 4, 8, 16, 30, 30, None, 1]
    backoff.refused()
    backoff.passed()
    assert backoff.refused() == 1


@given(body=st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["data", "code", "details", "id", "status", "api_name"]), inner, max_size=4),
    max_leaves=12,
), status=st.sampled_from([200, 201, 204, 207, 302, 400, 401, 403, 404, 412, 429, 500, 503]))  # fmt: skip
def test_no_answer_however_odd_loses_a_record_or_raises(body: Any, status: int) -> None:
    records = [record(1), record(2)]
    verdicts = deliver(records, lambda _request: response(status, body))
    assert sorted(item.outbox_id for item in verdicts) == [1, 2]


def test_the_fields_of_a_module_are_read() -> None:
    told = {
        "fields": [
            {"api_name": "Last_Name", "data_type": "text", "length": 80, "system_mandatory": True, "unique": {}},
            {"api_name": "Lead_Key", "data_type": "text", "length": 36, "unique": {"casesensitive": False}},
            {"api_name": "Created_Time", "data_type": "datetime", "read_only": True},
            {"api_name": "Source", "data_type": "picklist", "pick_list_values": [{"actual_value": "Web"}, {}, None]},
            {"api_name": "Tags", "data_type": "multiselectpicklist"},
            {"api_name": "Score", "data_type": "integer", "length": 9},
            {"data_type": "text"},
            None,
        ]
    }  # fmt: skip
    assert schema_of(told).fields == {
        "Last_Name": FieldSchema("Last_Name", FieldType.TEXT, required=True, max_length=80),
        "Lead_Key": FieldSchema("Lead_Key", FieldType.TEXT, unique=True, max_length=36),
        "Created_Time": FieldSchema("Created_Time", FieldType.DATETIME, read_only=True),
        "Source": FieldSchema("Source", FieldType.CHOICE, options=frozenset({"Web"})),
        "Tags": FieldSchema("Tags", FieldType.OTHER),
        "Score": FieldSchema("Score", FieldType.NUMBER),
    }
    assert schema_of({"fields": None}).fields == schema_of([]).fields == {}


def settings(**more: Any) -> ZohoSettings:
    given = {
        "vendor": "zoho", "account": "acme", "client_id": "1000.c",
        "client_secret": {"env": "S"}, "refresh_token": {"env": "R"},
    }  # fmt: skip
    return ZohoSettings.model_validate(given | more)


@pytest.mark.parametrize(
    ("more", "api_url", "token_url"),
    [
        ({}, "https://www.zohoapis.com", "https://accounts.zoho.com/oauth/v2/token"),
        ({"data_centre": "eu"}, "https://www.zohoapis.eu", "https://accounts.zoho.eu/oauth/v2/token"),
        ({"data_centre": "ca"}, "https://www.zohoapis.ca", "https://accounts.zohocloud.ca/oauth/v2/token"),
        ({"base_url": "http://127.0.0.1:8098"}, "http://127.0.0.1:8098", "http://127.0.0.1:8098/oauth/v2/token"),
        ({"base_url": "https://egress.example"}, "https://egress.example", "https://accounts.zoho.com/oauth/v2/token"),
        ({"accounts_url": "https://a.example/"}, "https://www.zohoapis.com", "https://a.example/oauth/v2/token"),
    ],
)
def test_the_data_centre_says_where_the_servers_are_unless_leads_yaml_does(
    more: dict[str, Any], api_url: str, token_url: str
) -> None:
    assert (settings(**more).api_url(), settings(**more).token_url()) == (api_url, token_url)


def test_limits_that_are_not_stated_are_the_free_editions() -> None:
    limits = settings(limits={"in_flight": 2}).limits
    [window] = limits.windows
    assert (window.credits, window.seconds, limits.daily, limits.shared_in_flight) == (5000, 86_400, None, 5)
    assert (limits.in_flight, limits.endpoint_classes["many_records"].shared_in_flight) == (2, 10)
    stated = settings(limits={"windows": [{"credits": 60_000, "seconds": 86_400}], "shared_in_flight": 10}).limits
    assert (stated.windows[0].credits, stated.shared_in_flight, stated.daily) == (60_000, 10, None)


def test_every_secret_is_known_as_one() -> None:
    assert settings().secrets().keys() == {"client_secret", "refresh_token"}
