"""The sandbox as a Salesforce org: what the clients of the other tests do not ask of it."""

import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from leads_pipeline.clock import FrozenClock
from leads_pipeline.crm.sandbox.running import SandboxServer, running_sandbox
from leads_pipeline.crm.sandbox.salesforce.ids import number_of, record_id
from leads_pipeline.crm.sandbox.salesforce.options import SalesforceOptions
from leads_pipeline.errors import LeadsError
from leads_pipeline_tests.crm.sandbox.conftest import Started

SECRET = "a-secret"


class Org:
    """A client of an org that has signed in."""

    def __init__(self, sandbox: SandboxServer) -> None:
        self._http = httpx.Client(base_url=sandbox.base_url, trust_env=False, timeout=30)
        form = {"grant_type": "client_credentials", "client_id": "any", "client_secret": SECRET}
        self.signed_in = self._http.post("/services/oauth2/token", data=form).json()
        self.authorization = f"Bearer {self.signed_in['access_token']}"
        self._http.headers["Authorization"] = self.authorization

    def __call__(self, method: str, path: str, **request: Any) -> httpx.Response:
        return self._http.request(method, f"/services/data/v66.0{path}", **request)

    def lead(self, **fields: Any) -> str:
        return str(self("POST", "/sobjects/Lead", json={"LastName": "Byron", "Company": "E", **fields}).json()["id"])

    def close(self) -> None:
        self._http.close()


@contextmanager
def playing(clock: FrozenClock, **options: Any) -> Iterator[tuple[SandboxServer, Org]]:
    with running_sandbox(SalesforceOptions(token=SECRET, **options), clock=clock, random=Random(7)) as sandbox:
        org = Org(sandbox)
        try:
            yield sandbox, org
        finally:
            org.close()


@pytest.fixture
def org(clock: FrozenClock) -> Iterator[Org]:
    with playing(clock) as (_sandbox, org):
        yield org


def test_a_token_says_where_to_go_and_not_how_long_it_holds(org: Org) -> None:
    assert org.signed_in["instance_url"].startswith("http://127.0.0.1:")
    assert {"access_token", "signature", "scope", "id", "token_type", "issued_at"} < org.signed_in.keys()
    assert "expires_in" not in org.signed_in


def test_a_token_ends_and_the_secret_itself_opens_nothing(clock: FrozenClock) -> None:
    with playing(clock, token_seconds=60) as (sandbox, org):
        assert org("GET", "/limits").status_code == 200
        clock.advance(61)
        assert org("GET", "/limits").json()[0]["errorCode"] == "INVALID_SESSION_ID"
        header = {"Authorization": f"Bearer {SECRET}"}
        assert (
            httpx.get(f"{sandbox.base_url}/services/data/v66.0/limits", headers=header, timeout=60).status_code == 401
        )


@pytest.mark.parametrize("object_type", ["Lead", "Contact"])
@pytest.mark.parametrize("number", [1, 61, 62, 123_456_789])
def test_ids_have_a_checksum_and_are_found_in_both_lengths(object_type: str, number: int) -> None:
    text = record_id(object_type, number)
    assert len(text) == 18
    assert number_of(text) == number_of(text[:15]) == (object_type, number)
    assert number_of(text[:-1] + ("A" if text[-1] != "A" else "B")) is None


def test_records_survive_a_restart_and_another_vendors_file_is_refused(
    clock: FrozenClock, tmp_path: Path, started: Started
) -> None:
    store = tmp_path / "org.sqlite"
    with playing(clock, store=store) as (_sandbox, org):
        made = org.lead(Lead_Key__c="k-1")
    with playing(clock, store=store) as (sandbox, org):
        assert org("GET", "/sobjects/Lead/Lead_Key__c/k-1").json()["Id"] == made
        assert sandbox.writes_per_lead_key() == {"k-1": 1}
    with pytest.raises(LeadsError, match="not a store"), started(store=store):
        pass


def test_a_window_of_a_day_slides(clock: FrozenClock) -> None:
    with playing(clock, requests=2, token_seconds=10**6) as (_sandbox, org):
        org("GET", "/limits")
        clock.advance(3600)
        told = org("GET", "/limits")
        assert told.headers["Sforce-Limit-Info"] == "api-usage=2/2"
        assert told.json()["DailyApiRequests"] == {"Max": 2, "Remaining": 0}
        refused = org("GET", "/limits")
        assert (refused.status_code, refused.json()[0]["errorCode"]) == (403, "REQUEST_LIMIT_EXCEEDED")
        assert "Retry-After" not in refused.headers
        clock.advance(23 * 3600 + 1)
        assert org("GET", "/limits").status_code == 200


def test_long_calls_are_limited_by_how_many_last_for_20_seconds(clock: FrozenClock) -> None:
    with playing(clock, long_calls=1) as (sandbox, org):
        sandbox.set_faults([{"kind": "timeout", "count": 1}])  # it is under way until its client gives up
        with closing(_hanging(sandbox, org)):
            while sandbox.report()["faults"].get("timeout", 0) == 0:
                pass
            assert org("GET", "/limits").status_code == 200
            clock.advance(20)
            crowded = org("GET", "/limits")
        assert (crowded.status_code, crowded.json()[0]["errorCode"]) == (403, "REQUEST_LIMIT_EXCEEDED")
        assert crowded.json()[0]["message"].startswith("ConcurrentPerOrgLongTxn")


def _hanging(sandbox: SandboxServer, org: Org) -> socket.socket:
    """A request that waits for its answer."""
    url = urlsplit(sandbox.base_url)
    head = f"GET /services/data/v66.0/limits HTTP/1.1\r\nHost: sandbox\r\nAuthorization: {org.authorization}\r\n\r\n"
    connection = socket.create_connection((url.hostname, url.port))
    connection.sendall(head.encode())
    return connection


def test_a_lead_is_converted_once_and_takes_no_changes_then(clock: FrozenClock) -> None:
    with playing(clock) as (sandbox, org):
        made = org.lead(FirstName="Ada", Lead_Key__c="k-1")
        contact = httpx.post(f"{sandbox.base_url}/_sandbox/leads/{made}/convert", timeout=60).json()["contactId"]
        assert org("GET", f"/sobjects/Contact/{contact}").json()["FirstName"] == "Ada"
        lead = org("GET", f"/sobjects/Lead/{made}").json()
        assert (lead["IsConverted"], lead["ConvertedContactId"]) == (True, contact)
        refused = org("PATCH", f"/sobjects/Lead/{made}", json={"FirstName": "Augusta"})
        assert refused.json()[0]["errorCode"] == "CANNOT_UPDATE_CONVERTED_LEAD"


def test_a_job_takes_one_upload_and_its_time_and_changes_nothing_until_it_is_closed(clock: FrozenClock) -> None:
    with playing(clock, job_seconds=60) as (sandbox, org):
        wanted = {"object": "Lead", "operation": "upsert", "externalIdFieldName": "Lead_Key__c", "contentType": "CSV"}
        job = org("POST", "/jobs/ingest", json=wanted).json()
        path = f"/jobs/ingest/{job['id']}"
        text = "Lead_Key__c,LastName,Company,Title\nk-1,Byron,E,#N/A\nk-2,Byron,,\n"
        upload = {"content": text, "headers": {"Content-Type": "text/csv"}}
        assert org("PUT", f"{path}/batches", **upload).status_code == 201
        assert org("PUT", f"{path}/batches", **upload).status_code == 400
        clock.advance(600)
        assert org("GET", path).json()["state"] == "Open"
        assert list(sandbox.contacts()) == []

        assert org("PATCH", path, json={"state": "UploadComplete"}).json()["state"] == "UploadComplete"
        assert org("GET", path).json()["state"] == "InProgress"
        clock.advance(60)
        done = org("GET", path).json()
        assert (done["state"], done["numberRecordsProcessed"], done["numberRecordsFailed"]) == ("JobComplete", 2, 1)
        assert [item["properties"].get("Title") for item in sandbox.contacts()] == [None]
        failed = org("GET", f"{path}/failedResults").text.splitlines()
        assert failed[0] == '"sf__Id","sf__Error","Lead_Key__c","LastName","Company","Title"'
        assert failed[1].startswith('"","REQUIRED_FIELD_MISSING:Required fields are missing: [Company]:Company --"')


def test_an_aborted_job_has_done_nothing(clock: FrozenClock) -> None:
    with playing(clock, job_seconds=60) as (sandbox, org):
        wanted = {"object": "Lead", "operation": "insert"}
        path = f"/jobs/ingest/{org('POST', '/jobs/ingest', json=wanted).json()['id']}"
        org("PUT", f"{path}/batches", content="LastName,Company\nByron,E\n")
        assert org("PATCH", path, json={"state": "Aborted"}).json()["state"] == "Aborted"
        assert org("PATCH", path, json={"state": "UploadComplete"}).status_code == 400
        assert org("GET", f"{path}/unprocessedrecords").text.splitlines()[1] == '"Byron","E"'
        assert org("DELETE", path).status_code == 204
        assert list(sandbox.contacts()) == []
        assert org("GET", path).status_code == 404


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/sobjects/Account/describe", 404, "NOT_FOUND"),
        ("GET", "/nothing/here", 404, "NOT_FOUND"),
        ("GET", "/sobjects/Lead/00Q", 400, "MALFORMED_ID"),
        ("GET", "/sobjects/Lead/LastName/Byron", 400, "INVALID_FIELD"),
        ("GET", "/query?q=SELECT+Id+FROM+Account", 400, "INVALID_TYPE"),
        ("POST", "/jobs/ingest", 400, "JSON_PARSER_ERROR"),
    ],
)
def test_what_is_not_there_is_refused_as_a_list_of_errors(
    org: Org, method: str, path: str, status: int, code: str
) -> None:
    refused = org(method, path)
    assert (refused.status_code, refused.json()[0]["errorCode"]) == (status, code)
