"""Zoho's sandbox: tokens, credits, concurrency, and what a list of records is answered."""

import json
import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from leads_pipeline.clock import FrozenClock
from leads_pipeline.crm.sandbox.running import SandboxServer, running_sandbox
from leads_pipeline.crm.sandbox.zoho.options import ZohoOptions

REFRESH_TOKEN = "1000.refresh"
GRANT = {
    "grant_type": "refresh_token", "client_id": "c", "client_secret": "s", "refresh_token": REFRESH_TOKEN,
}  # fmt: skip
LEFT = "X-API-CREDITS-REMAINING"


class Caller:
    """Somebody with a token."""

    def __init__(self, sandbox: SandboxServer) -> None:
        self.base_url = sandbox.base_url
        self.token = self.fetch()["access_token"]

    def fetch(self, **changes: str) -> dict[str, Any]:
        answer = httpx.post(f"{self.base_url}/oauth/v2/token", data=GRANT | changes, timeout=60)
        assert answer.status_code == 200
        body: dict[str, Any] = answer.json()
        return body

    def ask(self, method: str, path: str, *, token: str | None = None, **more: Any) -> httpx.Response:
        headers = {"Authorization": f"Zoho-oauthtoken {token or self.token}"}
        return httpx.request(method, f"{self.base_url}/crm/v8{path}", headers=headers, timeout=10, **more)

    def upsert(self, *entries: dict[str, Any], check: tuple[str, ...] = ("Lead_Key",)) -> httpx.Response:
        body = {"data": list(entries), "duplicate_check_fields": list(check), "trigger": []}
        return self.ask("POST", "/Leads/upsert", json=body)

    def upsert_many(self, count: int) -> httpx.Response:
        return self.upsert(*({"Last_Name": "Byron", "Lead_Key": f"k{number}"} for number in range(count)))


@pytest.fixture
def sandbox(clock: FrozenClock) -> Iterator[SandboxServer]:
    with running_sandbox(ZohoOptions(token=REFRESH_TOKEN, credits=40), clock=clock) as server:
        yield server


@pytest.fixture
def caller(sandbox: SandboxServer) -> Caller:
    return Caller(sandbox)


def test_a_token_says_where_the_api_is_and_holds_for_an_hour(caller: Caller, clock: FrozenClock) -> None:
    token = caller.fetch()
    assert (token["api_domain"], token["expires_in"], token["token_type"]) == (caller.base_url, 3600, "Bearer")
    assert caller.ask("GET", "/Leads").status_code == 204
    clock.advance(3600)
    answer = caller.ask("GET", "/Leads")
    assert (answer.status_code, answer.json()["code"]) == (401, "INVALID_TOKEN")


def test_a_refresh_token_is_no_access_token(caller: Caller) -> None:
    assert caller.ask("GET", "/Leads", token=REFRESH_TOKEN).status_code == 401


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"refresh_token": "1000.else"}, "invalid_code"),
        ({"client_secret": ""}, "invalid_client"),
        ({"grant_type": "password"}, "unsupported_grant_type"),
    ],
)
def test_a_grant_that_is_refused_is_answered_200_without_a_token(
    caller: Caller, changes: dict[str, str], error: str
) -> None:
    assert caller.fetch(**changes) == {"error": error}


def test_ten_tokens_are_given_in_ten_minutes(caller: Caller, clock: FrozenClock) -> None:
    assert all("access_token" in caller.fetch() for _ in range(9))
    refused = caller.fetch()
    assert (refused["error"], refused["status"]) == ("Access Denied", "failure")
    clock.advance(600)
    assert "access_token" in caller.fetch()


def test_the_sixteenth_token_that_lives_ends_the_oldest(caller: Caller, clock: FrozenClock) -> None:
    second = caller.fetch()["access_token"]
    for _ in range(13):
        clock.advance(67)
        assert "access_token" in caller.fetch()
    assert caller.ask("GET", "/Leads").status_code == 204
    clock.advance(67)
    caller.fetch()
    assert caller.ask("GET", "/Leads").status_code == 401
    assert caller.ask("GET", "/Leads", token=second).status_code == 204


def test_writes_cost_a_credit_for_each_ten_records_and_what_is_left_is_told_from_half_on(
    caller: Caller,
) -> None:
    answers = [caller.upsert_many(11), caller.upsert_many(100), caller.upsert_many(80), caller.ask("GET", "/Leads")]
    assert [answer.headers.get(LEFT) for answer in answers] == [None, None, "20", "19"]
    assert caller.upsert_many(100).headers[LEFT] == "9"
    refused = caller.upsert_many(100)
    assert (refused.status_code, refused.json()["code"], refused.headers[LEFT]) == (429, "TOO_MANY_REQUESTS", "9")
    assert "Retry-After" not in refused.headers
    assert caller.upsert_many(90).status_code == 200


def test_credits_come_back_when_they_are_24_hours_old(sandbox: SandboxServer, clock: FrozenClock) -> None:
    caller = Caller(sandbox)
    assert caller.upsert_many(100).status_code == 200
    clock.advance(86_399)
    caller.token = caller.fetch()["access_token"]
    for _ in range(3):
        caller.upsert_many(100)
    assert caller.ask("GET", "/Leads").status_code == 429
    clock.advance(1)
    assert caller.upsert_many(100).status_code == 200


@pytest.mark.parametrize(("records", "concurrency", "passed"), [(1, 3, 3), (1, 8, 8), (11, 8, 2)])
def test_so_many_requests_at_once_pass_and_of_many_records_fewer(
    clock: FrozenClock, records: int, concurrency: int, passed: int
) -> None:
    options = ZohoOptions(token=REFRESH_TOKEN, concurrency=concurrency, many_records_at_once=2)
    with running_sandbox(options, clock=clock) as sandbox:
        caller = Caller(sandbox)
        sandbox.set_faults([{"kind": "timeout"}])
        under_way = [hanging(caller, records) for _ in range(passed)]
        while sandbox.report()["accepted"] < passed:
            pass
        assert caller.upsert_many(records).status_code == 429
        sandbox.clear_faults()
        for connection in under_way:
            connection.close()
        while caller.upsert_many(records).status_code == 429:
            pass


def hanging(caller: Caller, records: int) -> socket.socket:
    """A request that waits for its answer."""
    body = json.dumps({"data": [{"Last_Name": "B", "Lead_Key": str(number)} for number in range(records)]})
    head = (
        "POST /crm/v8/Leads/upsert HTTP/1.1\r\nHost: sandbox\r\n"
        f"Authorization: Zoho-oauthtoken {caller.token}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    url = urlsplit(caller.base_url)
    connection = socket.create_connection((url.hostname, url.port))
    connection.sendall((head + body).encode())
    return connection


def test_a_list_of_which_a_part_was_written_is_answered_207_or_200(clock: FrozenClock) -> None:
    for status in (207, 200):
        with running_sandbox(ZohoOptions(token=REFRESH_TOKEN, partial_status=status), clock=clock) as sandbox:
            answer = Caller(sandbox).upsert({"Last_Name": "Byron", "Lead_Key": "a"}, {"Lead_Key": "b"})
            assert answer.status_code == status
            assert [entry["code"] for entry in answer.json()["data"]] == ["SUCCESS", "MANDATORY_NOT_FOUND"]


def test_the_same_key_twice_in_one_call_is_one_record(caller: Caller) -> None:
    answer = caller.upsert({"Last_Name": "Byron", "Lead_Key": "a"}, {"First_Name": "Ada", "Lead_Key": "A"})
    first, second = answer.json()["data"]
    assert (first["action"], second["action"]) == ("insert", "update")
    assert first["details"]["id"] == second["details"]["id"]


def test_a_name_that_no_field_has_is_ignored(caller: Caller) -> None:
    answer = caller.upsert({"Last_Name": "Byron", "Lead_Key": "a", "No_Such": "x"})
    record_id = answer.json()["data"][0]["details"]["id"]
    assert "No_Such" not in caller.ask("GET", f"/Leads/{record_id}").json()["data"][0]


@pytest.mark.parametrize(
    ("values", "details"),
    [
        ({"First_Name": "A" * 41}, {"maximum_length": 40, "api_name": "First_Name"}),
        ({"Email": "nobody"}, {"expected_data_type": "email", "api_name": "Email"}),
        ({"Email_Opt_Out": "yes"}, {"expected_data_type": "boolean", "api_name": "Email_Opt_Out"}),
        ({"No_of_Employees": True}, {"expected_data_type": "integer", "api_name": "No_of_Employees"}),
        ({"Company": 7}, {"expected_data_type": "text", "api_name": "Company"}),
    ],
)
def test_a_value_that_its_field_does_not_take(caller: Caller, values: dict[str, Any], details: dict[str, Any]) -> None:
    answer = caller.upsert({"Last_Name": "Byron", "Lead_Key": "a", **values})
    [entry] = answer.json()["data"]
    assert (answer.status_code, entry["code"]) == (400, "INVALID_DATA")
    assert details.items() <= entry["details"].items()
    assert entry["details"]["json_path"] == f"$.data[0].{details['api_name']}"


@pytest.mark.parametrize(
    ("path", "content", "code"),
    [
        ("/Nobody/upsert", b'{"data": [{}]}', "INVALID_MODULE"),
        ("/Leads/upsert", b"[]", "INVALID_DATA"),
        ("/Leads/upsert", b"{}", "MANDATORY_NOT_FOUND"),
        ("/Leads/upsert", b'{"data": []}', "INVALID_DATA"),
        ("/Leads/upsert", b'{"data": {}}', "INVALID_DATA"),
    ],
)
def test_a_request_that_is_none(caller: Caller, path: str, content: bytes, code: str) -> None:
    answer = caller.ask("POST", path, content=content)
    assert (answer.status_code, answer.json()["code"]) == (400, code)


def test_an_address_that_is_none(caller: Caller) -> None:
    answer = caller.ask("GET", "/Leads/1/2/3")
    assert (answer.status_code, answer.json()["code"]) == (404, "INVALID_URL_PATTERN")
