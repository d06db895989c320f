"""Failures on demand."""

import socket
import time
from typing import Any

import httpx
import pytest

from leads_pipeline.crm.sandbox.running import SandboxServer
from leads_pipeline.errors import LeadsError
from leads_pipeline.sandbox.faults import FaultKind
from leads_pipeline_tests.crm.sandbox.conftest import Api, Started, entry


@pytest.mark.parametrize(
    ("kind", "status", "field", "value"),
    [
        ("http_500", 500, "status", "error"),
        ("http_502", 502, "status", "error"),
        ("http_503", 503, "status", "error"),
        ("http_429", 429, "policyName", "TEN_SECONDLY_ROLLING"),
        ("auth", 401, "category", "INVALID_AUTHENTICATION"),
        ("forbidden_403", 403, "category", "MISSING_SCOPES"),
        ("locked_423", 423, "status", "error"),
    ],
)
def test_a_failed_request_writes_nothing(
    api: Api, sandbox: SandboxServer, kind: str, status: int, field: str, value: str
):
    sandbox.set_faults([{"kind": kind, "count": 1}])

    response = api.upsert(entry("k1"))

    assert (response.status_code, response.json()[field]) == (status, value)
    assert response.json()["correlationId"] == response.headers["X-HubSpot-Correlation-Id"]
    assert sandbox.report()["contacts"] == 0
    assert sandbox.report()["faults"] == {kind: 1}
    assert api.upsert(entry("k1")).status_code == 200


def test_a_silent_answer_looks_like_success_and_writes_nothing(api: Api, sandbox: SandboxServer):
    sandbox.set_faults([{"kind": "silent_200"}])

    response = api.upsert(entry("k1", trace="t1"))

    assert response.status_code == 200
    assert (response.json()["status"], response.json()["results"]) == ("COMPLETE", [])
    assert "errors" not in response.json()
    assert sandbox.report()["contacts"] == 0


def test_an_ambiguous_failure_has_written(api: Api, sandbox: SandboxServer):
    sandbox.set_faults([{"kind": "written_then_500", "count": 1}])

    response = api.upsert(entry("k1"))

    assert response.status_code == 500
    assert sandbox.report()["contacts"] == 1
    assert api.upsert(entry("k1")).json()["results"][0]["new"] is False


@pytest.mark.parametrize(("kind", "contacts"), [("reset_connection", 0), ("written_then_reset", 1)])
def test_a_broken_connection_is_an_error_at_the_client(api: Api, sandbox: SandboxServer, kind: str, contacts: int):
    sandbox.set_faults([{"kind": kind, "count": 1}])

    with pytest.raises(httpx.ReadError):
        api.upsert(entry("k1"))

    report = sandbox.report()
    assert (report["contacts"], report["unanswered"], report["statuses"]) == (contacts, 1, {})
    assert api.upsert(entry("k1")).status_code == 200


@pytest.mark.parametrize(("kind", "contacts"), [("timeout", 0), ("written_then_timeout", 1)])
def test_a_request_that_hangs_is_ended_by_the_client(api: Api, sandbox: SandboxServer, kind: str, contacts: int):
    sandbox.set_faults([{"kind": kind, "count": 1}])

    with pytest.raises(httpx.ReadTimeout):
        api.http.post(
            "/crm/v3/objects/contacts/batch/upsert", json={"inputs": [entry("k1")]}, timeout=httpx.Timeout(30, read=1)
        )

    assert sandbox.report()["contacts"] == contacts
    assert api.upsert(entry("k1")).status_code == 200


def test_a_sandbox_ends_although_a_request_hangs(started: Started):
    with started() as (sandbox, _api):
        sandbox.set_faults([{"kind": "timeout"}])
        host, _, port = sandbox.base_url.removeprefix("http://").partition(":")
        hanging = socket.create_connection((host, int(port)))
        hanging.sendall(b"GET /crm/v3/objects/contacts HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer x\r\n\r\n")
        while not sandbox.faults()[0]["fired"]:
            pass
        before = time.monotonic()
    hanging.close()

    assert time.monotonic() - before < 60  # the request hangs for ten minutes


def test_a_slow_answer_is_right_but_late(api: Api, sandbox: SandboxServer):
    sandbox.set_faults([{"kind": "slow", "latency_ms": 60}])

    before = time.monotonic()
    response = api.upsert(entry("k1"))

    assert response.status_code == 200
    assert time.monotonic() - before >= 0.06


def test_one_record_of_a_batch_can_be_refused(api: Api, sandbox: SandboxServer):
    sandbox.set_faults([{"kind": "per_record_error", "match": "@Bad.example", "category": "INTERNAL_ERROR"}])

    response = api.upsert(
        entry("k1", trace="t1", email="a@good.example"), entry("k2", trace="t2", email="b@bad.example")
    )

    assert response.status_code == 207
    assert [result["objectWriteTraceId"] for result in response.json()["results"]] == ["t1"]
    (error,) = response.json()["errors"]
    assert (error["category"], error["context"]) == ("INTERNAL_ERROR", {"objectWriteTraceId": ["t2"]})


def test_rate_and_count_of_record_errors_are_per_record(api: Api, sandbox: SandboxServer):
    sandbox.set_faults([{"kind": "per_record_error", "count": 3}])

    inputs = [entry(f"k{number}", trace=str(number)) for number in range(10)]

    assert api.upsert(*inputs).json()["numErrors"] == 3
    assert "errors" not in api.upsert(*inputs).json()


def test_every_record_can_go_through_the_same_script_by_itself(api: Api, sandbox: SandboxServer):
    """Refused, refused, written and not told of, then all is well: whatever batches the records are in."""
    sandbox.set_faults(
        [
            {"kind": "per_record_error", "count": 2, "each": True, "category": "INTERNAL_ERROR"},
            {"kind": "unreported", "count": 1, "each": True},
        ]
    )
    told: dict[str, list[str]] = {"k1": [], "k2": [], "k3": []}
    for batch in (["k1", "k2"], ["k2"], ["k2", "k3"], ["k1", "k2", "k3"], ["k1", "k3"], ["k1", "k3"]):
        answer = api.upsert(*(entry(key, trace=key) for key in batch)).json()
        results = {item["objectWriteTraceId"] for item in answer["results"]}
        errors = {item["context"]["objectWriteTraceId"][0] for item in answer.get("errors", [])}
        for key in batch:
            told[key].append("result" if key in results else "error" if key in errors else "nothing")

    assert told == {key: ["error", "error", "nothing", "result"] for key in told}
    assert [rule["fired"] for rule in sandbox.faults()] == [6, 3]
    assert sandbox.writes_per_lead_key() == {"k1": 2, "k2": 2, "k3": 2}


def test_a_rule_can_be_for_one_endpoint_and_for_what_it_holds(api: Api, sandbox: SandboxServer):
    sandbox.set_faults([{"kind": "http_503", "endpoint": "batch/upsert", "match": "bad.example"}])

    assert api.get().status_code == 200
    assert api.upsert(entry("k1", email="a@good.example")).status_code == 200
    assert api.upsert(entry("k2", email="b@BAD.example")).status_code == 503
    assert api.post("/batch/create", {"inputs": [{"properties": {"email": "c@bad.example"}}]}).status_code == 201


def test_a_rate_is_kept_and_a_seed_repeats_it(started: Started):
    outcomes = []
    for _ in range(2):
        with started(requests=None) as (sandbox, api):
            sandbox.set_faults([{"kind": "http_500", "rate": 0.3}])
            outcomes.append([api.get().status_code for _ in range(200)])

    assert outcomes[0] == outcomes[1]
    assert 30 < outcomes[0].count(500) < 90


def test_rules_with_a_count_are_a_script(api: Api, sandbox: SandboxServer):
    kinds = ["http_500", "http_429", "locked_423"]
    sandbox.set_faults([{"kind": kind, "count": 1, "match": "k1"} for kind in kinds])

    assert api.upsert(entry("k2")).status_code == 200
    assert [api.upsert(entry("k1")).status_code for _ in range(4)] == [500, 429, 423, 200]


def test_a_fault_may_hold_for_a_time_only(started: Started):
    with started() as (sandbox, api):
        sandbox.set_faults(
            [
                {"kind": "http_500", "from_seconds": 10, "until_seconds": 20},
                {"kind": "http_502", "from_seconds": 20, "until_seconds": 30},
            ]
        )
        statuses = []
        for seconds in (9.9, 0.1, 9.9, 0.1, 9.9, 0.1):
            started.clock.advance(seconds)
            statuses.append(api.get().status_code)
        assert statuses == [200, 500, 500, 502, 502, 200]

        sandbox.set_faults([{"kind": "http_500", "until_seconds": 5}])  # its time begins anew
        assert api.get().status_code == 500


def test_the_days_quota_is_spent_although_there_is_some_left(api: Api, sandbox: SandboxServer):
    sandbox.set_faults([{"kind": "quota_spent", "count": 1}])

    response = api.get()

    assert (response.status_code, response.json()["policyName"]) == (429, "DAILY")
    assert api.get().status_code == 200


def test_a_record_that_the_answer_does_not_speak_of_has_been_written(api: Api, sandbox: SandboxServer):
    sandbox.set_faults([{"kind": "unreported", "match": "k2"}])

    body = api.upsert(entry("k1", trace="t1"), entry("k2", trace="t2")).json()

    assert [result["objectWriteTraceId"] for result in body["results"]] == ["t1"]
    assert "errors" not in body
    assert sandbox.report()["contacts"] == 2
    assert sandbox.faults()[0]["fired"] == 1


def test_a_fault_does_not_touch_what_the_limits_refuse(started: Started):
    with started(requests=1) as (sandbox, api):
        sandbox.set_faults([{"kind": "http_500", "count": 2}])

        assert [api.get().status_code for _ in range(3)] == [500, 429, 429]
        assert sandbox.faults()[0]["fired"] == 1


def test_rules_are_shown_with_how_often_they_fired_and_dropped(api: Api, sandbox: SandboxServer):
    sandbox.set_faults([{"kind": "http_500", "count": 1}, {"kind": "http_502"}])

    assert [api.get().status_code for _ in range(3)] == [500, 502, 502]
    assert sandbox.faults() == [
        {"kind": "http_500", "count": 1, "fired": 1},
        {"kind": "http_502", "fired": 2},
    ]
    sandbox.clear_faults()
    assert sandbox.faults() == []
    assert api.get().status_code == 200


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        ([{"kind": "http_418"}], "http_500"),
        ([{"kind": "http_500", "rate": 1.5}], "rate"),
        ([{"kind": "http_500", "often": 1}], "often"),
        ([{"kind": "http_500", "endpoint": "batch/delete"}], "batch/archive"),
        ([{"kind": "http_500", "count": 0}], "count"),
        ([{"kind": "slow", "latency_ms": -1}], "latency_ms"),
        ([{"kind": "slow", "from_seconds": 5, "until_seconds": 5}], "until_seconds is not after"),
        ([{"kind": "http_500", "each": True}], "each is for per_record_error, unreported only"),
    ],
)
def test_a_rule_that_is_not_known_is_refused_and_the_old_ones_stay(
    sandbox: SandboxServer, rules: list[dict[str, Any]], said: str
):
    sandbox.set_faults([{"kind": "http_502"}])

    with pytest.raises(LeadsError, match=said):
        sandbox.set_faults(rules)

    assert [rule["kind"] for rule in sandbox.faults()] == ["http_502"]


def test_every_kind_is_documented_and_in_the_help():
    from pathlib import Path

    from leads_pipeline.cli.sandbox import set_faults

    documented = (Path(__file__).parents[3] / "docs" / "sandbox.md").read_text(encoding="utf-8")

    assert [kind for kind in FaultKind if f"`{kind}`" not in documented] == []
    assert [kind for kind in FaultKind if kind not in (set_faults.help or "")] == []
