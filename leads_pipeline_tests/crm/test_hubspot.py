"""How HubSpot's answers are read, habit by habit; the courier of these tests answers in its shapes."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from leads_pipeline.crm.hubspot.answers import response_of
from leads_pipeline.crm.hubspot.client import HubSpot
from leads_pipeline.crm.port import (
    CrmRecord,
    CrmRequest,
    CrmResponse,
    NetworkFailure,
    QuotaReading,
    RecordVerdict,
    Unit,
    Verdict,
)
from leads_pipeline.domain.stage import Operation
from leads_pipeline.errors import AccountParked
from leads_pipeline.outbound.credentials import StaticKey
from leads_pipeline.outbound.transport import HttpAnswer, Transport
from leads_pipeline_tests.conftest import NOW

NAMES = [
    "results", "errors", "context", "id", "properties", "category", "message", "objectWriteTraceId", "ids",
    "existingId", "policyName",
]  # fmt: skip
URL = "http://127.0.0.1:9"
Answer = Callable[[CrmRequest], CrmResponse]


def _records(count: int, *, operation: Operation = Operation.UPSERT, **properties: str) -> list[CrmRecord]:
    return [
        CrmRecord(
            number,
            "acme",
            UUID(int=number),
            1,
            operation,
            properties={"email": f"{number}@example.com", **properties},
        )
        for number in range(1, count + 1)
    ]


def _client() -> HubSpot:
    transport = Transport(URL, credentials=StaticKey(SecretStr("t"), base_url=URL), timeout_seconds=1, connections=1)
    return HubSpot(transport, api_prefix="/crm/v3/objects", key_property="lead_key")


def _deliver(records: list[CrmRecord], answer: Answer) -> tuple[dict[int, RecordVerdict], list[CrmRequest]]:
    asked: list[CrmRequest] = []

    def courier(request: CrmRequest) -> CrmResponse:
        asked.append(request)
        return answer(request)

    client = _client()
    verdicts = client.deliver(records, courier=courier)
    client.close()
    assert sorted(verdict.outbox_id for verdict in verdicts) == [record.outbox_id for record in records]
    return {verdict.outbox_id: verdict for verdict in verdicts}, asked


def _results(inputs: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "status": "COMPLETE",
        "results": [
            {"id": f"9{item['properties']['lead_key'][-3:]}", "objectWriteTraceId": item["objectWriteTraceId"],
             "properties": item["properties"]}
            for item in inputs
        ],
    }  # fmt: skip


def _status(status: int, body: Any = None, **headers: str) -> CrmResponse:
    return response_of(HttpAnswer(status, {name.replace("_", "-"): value for name, value in headers.items()}, body))


def test_every_input_carries_our_key_and_a_trace_id_of_its_own() -> None:
    _verdicts, [request] = _deliver(_records(3), lambda request: _status(200, _results(request.body["inputs"])))
    inputs = request.body["inputs"]
    assert len({item["objectWriteTraceId"] for item in inputs}) == 3
    assert all(item["idProperty"] == "lead_key" and item["properties"]["lead_key"] == item["id"] for item in inputs)
    assert request.path == "/crm/v3/objects/contacts/batch/upsert"


def test_results_in_any_order_without_trace_ids_are_known_by_our_key() -> None:
    def shuffled(request: CrmRequest) -> CrmResponse:
        body = _results(request.body["inputs"][::-1])
        for result in body["results"]:
            del result["objectWriteTraceId"]
        return _status(200, body)

    verdicts, _asked = _deliver(_records(5), shuffled)
    assert {v.verdict for v in verdicts.values()} == {Verdict.DELIVERED}
    assert [verdicts[number].crm_record_id for number in range(1, 6)] == ["9001", "9002", "9003", "9004", "9005"]


@pytest.mark.parametrize(
    "body", [None, [], "ok", {}, {"results": None}, {"results": [], "errors": []}, {"results": [None, 3, {"id": 4}]}]
)
def test_a_2xx_that_does_not_speak_of_a_record_proves_nothing(body: Any) -> None:
    verdicts, _asked = _deliver(_records(3), lambda _request: _status(200, body))
    assert {(v.verdict, v.code) for v in verdicts.values()} == {(Verdict.AMBIGUOUS, "NOT_REPORTED")}


def test_a_207_gives_each_record_its_own_verdict() -> None:
    def mixed(request: CrmRequest) -> CrmResponse:
        traces = [item["objectWriteTraceId"] for item in request.body["inputs"]]
        body = _results(request.body["inputs"][:1])
        message = 'Property values were not valid: [{"isValid":false,"message":"x","error":"INVALID_EMAIL","name":"e"}]'
        body["errors"] = [
            {"status": "error", "category": "VALIDATION_ERROR", "message": message,
             "context": {"objectWriteTraceId": [traces[1]]}},
            {"status": "error", "category": "SOMETHING_NEW", "message": "?", "context": {"ids": [str(UUID(int=3))]}},
        ]  # fmt: skip
        return _status(207, body)

    verdicts, _asked = _deliver(_records(4), mixed)
    found = {number: (verdict.verdict, verdict.code) for number, verdict in verdicts.items()}
    assert found == {
        1: (Verdict.DELIVERED, None),
        2: (Verdict.INVALID, "INVALID_EMAIL"),
        3: (Verdict.TRANSIENT, "SOMETHING_NEW"),
        4: (Verdict.AMBIGUOUS, "NOT_REPORTED"),
    }


@given(poisoned=st.sets(st.integers(1, 100), max_size=6), count=st.integers(1, 100))
def test_a_batch_that_is_refused_whole_is_halved_until_only_the_poison_is_refused(
    poisoned: set[int], count: int
) -> None:
    def all_or_nothing(request: CrmRequest) -> CrmResponse:
        if any(UUID(item["id"]).int in poisoned for item in request.body["inputs"]):
            return _status(400, {"status": "error", "message": "Invalid input JSON", "category": "VALIDATION_ERROR"})
        return _status(200, _results(request.body["inputs"]))

    verdicts, asked = _deliver(_records(count), all_or_nothing)
    poisoned = {number for number in poisoned if number <= count}
    assert {number for number, v in verdicts.items() if v.verdict is Verdict.INVALID} == poisoned
    assert {number for number, v in verdicts.items() if v.verdict is Verdict.DELIVERED} == set(verdicts) - poisoned
    assert len(asked) <= 1 + 2 * 7 * len(poisoned)  # two requests per level and poison; 2 ** 7 > 100


@pytest.mark.parametrize(
    ("status", "body", "verdict", "code"),
    [
        (401, {"category": "INVALID_AUTHENTICATION", "message": "…"}, Verdict.AUTH, "INVALID_AUTHENTICATION"),
        (403, {"category": "MISSING_SCOPES", "message": "…"}, Verdict.AUTH, "MISSING_SCOPES"),
        (404, None, Verdict.AUTH, "HTTP_404"),
        (301, None, Verdict.AUTH, "HTTP_301"),
        (408, None, Verdict.AMBIGUOUS, "HTTP_408"),
        (423, None, Verdict.LOCKED, "HTTP_423"),
        (429, {"policyName": "TEN_SECONDLY_ROLLING", "errorType": "RATE_LIMIT"}, Verdict.THROTTLED,
         "TEN_SECONDLY_ROLLING"),
        (477, None, Verdict.THROTTLED, "HTTP_477"),
        (500, None, Verdict.AMBIGUOUS, "HTTP_500"),
        (502, None, Verdict.AMBIGUOUS, "HTTP_502"),
        (503, "<html>", Verdict.TRANSIENT, "HTTP_503"),
        (504, None, Verdict.AMBIGUOUS, "HTTP_504"),
        (521, None, Verdict.TRANSIENT, "HTTP_521"),
        (524, None, Verdict.AMBIGUOUS, "HTTP_524"),
    ],
)  # fmt: skip
def test_a_status_decides_the_class_of_the_whole_request(status: int, body: Any, verdict: Verdict, code: str) -> None:
    verdicts, asked = _deliver(_records(4), lambda _request: _status(status, body))
    assert {(v.verdict, v.code) for v in verdicts.values()} == {(verdict, code)}
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("failure", "verdict"),
    [(NetworkFailure.NOT_SENT, Verdict.TRANSIENT), (NetworkFailure.NO_ANSWER, Verdict.AMBIGUOUS)],
)
def test_a_network_failure_is_ambiguous_only_if_something_was_sent(failure: NetworkFailure, verdict: Verdict) -> None:
    verdicts, _asked = _deliver(_records(2), lambda _request: CrmResponse(status=None, failure=failure))
    assert {v.verdict for v in verdicts.values()} == {verdict}


@pytest.mark.parametrize(
    ("status", "policy", "headers", "pause", "midnight"),
    [
        (429, "TEN_SECONDLY_ROLLING", {}, 10, False),
        (429, "SECONDLY", {}, 1, False),
        (429, "DAILY", {}, 10, True),
        (429, None, {}, 10, False),
        (429, "SECONDLY", {"retry_after": "7"}, 7, False),
        (429, "SECONDLY", {"retry_after": "soon"}, 1, False),
        (429, "SECONDLY", {"retry_after": "-3"}, 1, False),
        (429, "SECONDLY", {"retry_after": "nan"}, 1, False),
        (429, "SECONDLY", {"retry_after": "9e99"}, 86_400, False),
        (477, None, {"retry_after": "3600"}, 3600, False),
        (503, None, {"retry_after": "20"}, 20, False),
        (503, None, {}, None, False),
        (200, None, {"retry_after": "20"}, None, False),
    ],
)
def test_how_long_hubspot_asks_us_to_stay_away(
    status: int, policy: str | None, headers: dict[str, str], pause: float | None, midnight: bool
) -> None:
    response = _status(status, {"policyName": policy} if policy else {}, **headers)
    assert (response.pause_seconds, response.until_reset) == (pause, midnight)


def test_the_remaining_quota_is_read_and_nonsense_is_not() -> None:
    response = _status(
        200, {}, x_hubspot_ratelimit_remaining="88", x_hubspot_ratelimit_daily_remaining="lots"
    )  # fmt: skip
    assert response.readings == (QuotaReading(Unit.REQUESTS, 10, None, 88),)


def test_what_is_left_is_told_of_the_window_and_of_the_day() -> None:
    response = _status(
        200,
        {},
        x_hubspot_ratelimit_max="190",
        x_hubspot_ratelimit_remaining="88",
        x_hubspot_ratelimit_interval_milliseconds="10000",
        x_hubspot_ratelimit_daily="625000",
        x_hubspot_ratelimit_daily_remaining="1200",
    )
    assert response.readings == (
        QuotaReading(Unit.REQUESTS, 10, 190, 88),
        QuotaReading(Unit.REQUESTS, None, 625_000, 1200),
    )


def test_a_sentence_is_never_a_code() -> None:
    body = {"category": "Email ada@example.com is invalid", "message": "Email ada@example.com is invalid"}
    verdicts, _asked = _deliver(_records(1), lambda _request: _status(400, body))
    assert verdicts[1].code == "HTTP_400"
    assert verdicts[1].explanation == "Email ada@example.com is invalid"


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (401, {"category": "INVALID_AUTHENTICATION", "message": "No."}, "No. What helps: put a token"),
        (403, {"category": "MISSING_SCOPES"}, "What helps: give the token the scopes"),
        (400, {"message": "Unable to infer object type from: x"}, "x What helps: mend destinations.NAME.api_prefix"),
        (
            400,
            {"category": "VALIDATION_ERROR", "errors": [{"code": "GDPR_BLOCKLISTED"}]},
            "What helps: the address was",
        ),
    ],
)
def test_a_refusal_says_what_helps(status: int, body: dict[str, Any], said: str) -> None:
    whole, _asked = _deliver(_records(1), lambda _request: _status(status, body))
    assert said in (whole[1].explanation or "")


def test_a_record_that_is_refused_alone_is_told_what_helps() -> None:
    def refused(request: CrmRequest) -> CrmResponse:
        trace = request.body["inputs"][0]["objectWriteTraceId"]
        entry = {"category": "VALIDATION_ERROR", "message": '[{"error":"INVALID_OPTION","name":"tier"}]',
                 "context": {"objectWriteTraceId": [trace]}}  # fmt: skip
        return _status(207, {"results": [], "errors": [entry]})

    verdicts, _asked = _deliver(_records(1), refused)
    assert verdicts[1].refused_properties == ("tier",)
    assert "table of values" in (verdicts[1].explanation or "")


def test_when_the_account_is_parked_half_way_the_rest_is_throttled_and_not_lost() -> None:
    calls = 0

    def parks_after_two(request: CrmRequest) -> CrmResponse:
        nonlocal calls
        calls += 1
        if calls == 1:
            return _status(400, {"category": "VALIDATION_ERROR"})
        if calls == 2:
            return _status(200, _results(request.body["inputs"]))
        raise AccountParked("parked", until=NOW, reason="daily")

    verdicts, _asked = _deliver(_records(4), parks_after_two)
    assert {number: verdict.verdict for number, verdict in verdicts.items()} == {
        1: Verdict.DELIVERED, 2: Verdict.DELIVERED, 3: Verdict.THROTTLED, 4: Verdict.THROTTLED,
    }  # fmt: skip


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=8),
        lambda inner: st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(NAMES), inner, max_size=6),
        max_leaves=30,
    ),
    st.sampled_from([200, 201, 204, 207, 301, 400, 401, 404, 409, 423, 429, 477, 500, 503]),
)  # fmt: skip
def test_no_answer_however_odd_loses_a_record_or_raises(body: Any, status: int) -> None:
    verdicts, _asked = _deliver(_records(2), lambda _request: _status(status, body))
    assert verdicts.keys() == {1, 2}
    archived, _asked = _deliver(_records(2, operation=Operation.ARCHIVE), lambda _request: _status(status, body))
    assert archived.keys() == {1, 2}


def test_no_representation_shows_the_token_or_the_lead() -> None:
    transport = Transport(
        URL, credentials=StaticKey(SecretStr("s3cret"), base_url=URL), timeout_seconds=1, connections=1
    )
    client = HubSpot(transport, api_prefix="/x", key_property="lead_key")
    [record] = _records(1, firstname="Ada")
    request = client._requests.upsert([record])
    shown = "".join(map(repr, (transport, vars(transport), client, vars(client), request, record)))
    shown += repr(_status(400, {"message": "Ada"}))
    transport.close()
    assert "s3cret" not in shown
    assert "Ada" not in shown
    assert "1@example.com" not in shown
