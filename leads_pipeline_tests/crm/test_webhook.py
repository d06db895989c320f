"""What a webhook sends, byte for byte, and what becomes of each answer that a receiver may give."""

import json
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from leads_pipeline.clock import FrozenClock
from leads_pipeline.config import SecretRef, WebhookSettings
from leads_pipeline.crm.port import CrmRecord, RecordVerdict
from leads_pipeline.crm.webhook.client import Webhook, build
from leads_pipeline.crm.webhook.events import event_id
from leads_pipeline.domain.delivery import PropertyValue, Verdict
from leads_pipeline.domain.stage import Operation
from leads_pipeline.errors import CrmError
from leads_pipeline.outbound.access_tokens import MemoryTokens
from leads_pipeline.outbound.retry_after import retry_after_seconds
from leads_pipeline.sources.port import Delivery, Secrets
from leads_pipeline.sources.standard_webhooks import StandardWebhooks
from leads_pipeline_tests.conftest import NOW
from leads_pipeline_tests.crm.contract import Sending
from leads_pipeline_tests.outbound.http_listener import Listener, Sent, listening

OLD, NEW = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3", "whsec_ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA="


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Listener]:
    monkeypatch.setenv("HOOK_OLD", OLD)
    monkeypatch.setenv("HOOK_NEW", NEW)
    monkeypatch.setenv("HOOK_KEY", "Bearer for-the-gateway")
    with listening() as listener:
        yield listener


def client_of(receiver: Listener, *, clock: FrozenClock | None = None, **settings: Any) -> Webhook:
    keys = {"url": f"{receiver.url}/hooks?team=sales%20eu", "secret": SecretRef(env="HOOK_OLD"), **settings}
    found = WebhookSettings(vendor="webhook", account="a", **keys)
    return build(found, MemoryTokens(), clock=clock or FrozenClock(NOW))


def record(number: int = 1, *, version: int = 1, operation: Operation = Operation.UPSERT, complete: bool = True,
           **properties: PropertyValue) -> CrmRecord:  # fmt: skip
    return CrmRecord(number, "acme", UUID(int=number), version, operation, properties=properties, complete=complete)


def delivered(client: Webhook, *records: CrmRecord) -> tuple[list[RecordVerdict], Sending]:
    with closing(client):
        sending = Sending(client)
        return sorted(client.deliver(records, courier=sending), key=lambda item: item.outbox_id), sending


def is_signed(sent: Sent, secret: str, *, at: datetime = NOW) -> bool:
    delivery = Delivery("POST", "", sent.headers, {}, sent.content, at)
    return StandardWebhooks().verify(delivery, Secrets(signing=secret)) is None


def test_an_event_says_what_the_contact_is(receiver: Listener) -> None:
    given = record(7, version=3, email="zoë@example.com", company="", first_seen_at=None, score=0.5, known=True)
    [verdict], sending = delivered(client_of(receiver), given)
    assert verdict.verdict is Verdict.DELIVERED
    [sent] = receiver.sent
    assert (sent.method, sent.path) == ("POST", "/hooks?team=sales%20eu")
    assert sent.headers["content-type"] == "application/json"
    assert sent.headers["webhook-id"] == event_id(given)
    assert json.loads(sent.content) == {
        "id": event_id(given),
        "type": "contact.upserted",
        "data": {
            "contact_id": "00000000-0000-0000-0000-000000000007",
            "tenant": "acme",
            "version": 3,
            "properties": {
                "email": "zoë@example.com", "company": None, "first_seen_at": None, "score": 0.5, "known": True,
            },
        },
    }  # fmt: skip
    assert is_signed(sent, OLD)
    # The address may tell something: the books and the logs get a word.
    assert [request.path for request in sending.asked] == ["webhook"]


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        (record(operation=Operation.ARCHIVE), "contact.removed"),
        (record(operation=Operation.ERASE), "contact.erased"),
        (record(consent=False, complete=False), "contact.consent_withdrawn"),
    ],
)
def test_every_operation_is_an_event_and_those_that_remove_say_nothing_of_the_person(
    receiver: Listener, given: CrmRecord, kind: str
) -> None:
    delivered(client_of(receiver), given)
    event = json.loads(receiver.sent[0].content)
    assert event["type"] == kind
    assert ("properties" in event["data"]) is (given.operation is Operation.UPSERT)


def test_a_repeat_keeps_its_id_and_its_body_and_is_signed_at_its_own_time(receiver: Listener) -> None:
    clock = FrozenClock(NOW)
    for status in (500, 200):
        receiver.status = status
        delivered(client_of(receiver, clock=clock), record(email="ada@example.com"))
        clock.sleep(3600)
    first, again = receiver.sent
    assert (first.headers["webhook-id"], first.content) == (again.headers["webhook-id"], again.content)
    assert (is_signed(first, OLD), is_signed(again, OLD)) == (True, False)
    assert is_signed(again, OLD, at=NOW + timedelta(hours=1))


def test_another_version_operation_or_content_is_another_event() -> None:
    given = record(email="ada@example.com")
    others = [
        given,
        replace(given, version=2),
        replace(given, outbox_id=2),
        replace(given, properties={"email": "ada@example.com", "company": "Mended"}),  # a mapping that was mended
        replace(given, operation=Operation.ARCHIVE),
        replace(given, operation=Operation.ERASE),
        replace(given, complete=False),
    ]
    assert len({event_id(item) for item in others}) == len(others)
    assert event_id(replace(given, crm_record_id="1", taken_over=True)) == event_id(given)
    assert "ada" not in event_id(given)


def test_a_list_has_an_id_of_its_own_that_a_repeat_keeps(receiver: Listener) -> None:
    records = [record(1, email="a@example.com"), record(2, email="b@example.com")]
    for part in (records, records, records[:1]):
        delivered(client_of(receiver, batch_size=10), *part)
    ids = [sent.headers["webhook-id"] for sent in receiver.sent]
    assert (ids[0] == ids[1], ids[0] == ids[2]) == (True, False)
    assert [event["id"] for event in json.loads(receiver.sent[0].content)["events"]] == [
        event_id(item) for item in records
    ]
    assert len(json.loads(receiver.sent[2].content)["events"]) == 1  # a list of one is a list


def test_while_the_secret_changes_both_sign(receiver: Listener) -> None:
    changing = {"secret": SecretRef(env="HOOK_NEW"), "previous_secret": SecretRef(env="HOOK_OLD")}
    delivered(client_of(receiver, **changing), record())
    delivered(client_of(receiver, secret=SecretRef(env="HOOK_NEW")), record())
    assert [(is_signed(sent, OLD), is_signed(sent, NEW)) for sent in receiver.sent] == [(True, True), (False, True)]


def test_further_headers_go_along(receiver: Listener) -> None:
    client = client_of(receiver, headers={"Authorization": SecretRef(env="HOOK_KEY")})
    _, sending = delivered(client, record())
    assert receiver.sent[0].headers["authorization"] == "Bearer for-the-gateway"
    assert "for-the-gateway" not in repr([client, sending.asked, sending.answered])


def answered(receiver: Listener, status: int, headers: Mapping[str, str] | None = None) -> tuple[RecordVerdict, Any]:
    receiver.status, receiver.headers = status, dict(headers or {})
    [verdict], sending = delivered(client_of(receiver), record())
    return verdict, sending.answered[-1]


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        (200, Verdict.DELIVERED), (201, Verdict.DELIVERED), (202, Verdict.DELIVERED), (204, Verdict.DELIVERED),
        (301, Verdict.AUTH), (302, Verdict.AUTH), (307, Verdict.AUTH),
        (400, Verdict.INVALID), (413, Verdict.INVALID), (415, Verdict.INVALID), (422, Verdict.INVALID),
        (401, Verdict.AUTH), (403, Verdict.AUTH), (404, Verdict.AUTH), (405, Verdict.AUTH), (410, Verdict.AUTH),
        (408, Verdict.AMBIGUOUS), (409, Verdict.CONFLICT), (423, Verdict.LOCKED),
        (425, Verdict.THROTTLED), (429, Verdict.THROTTLED),
        (500, Verdict.AMBIGUOUS), (502, Verdict.AMBIGUOUS), (504, Verdict.AMBIGUOUS),
        (501, Verdict.TRANSIENT), (503, Verdict.TRANSIENT),
    ],
)  # fmt: skip
def test_each_status_is_of_a_class(receiver: Listener, status: int, verdict: Verdict) -> None:
    receiver.content = b"" if status == 204 else b"{}"
    assert answered(receiver, status)[0].verdict is verdict


@pytest.mark.parametrize("status", [301, 401, 403, 404, 405, 410])
def test_what_no_contact_is_at_fault_for_says_what_to_do(receiver: Listener, status: int) -> None:
    verdict, _ = answered(receiver, status, {"Location": "https://elsewhere.example.com/"})
    assert verdict.explanation is not None
    assert "destinations.NAME" in verdict.explanation or "leads.yaml" in verdict.explanation
    assert len(receiver.sent) == 1  # a redirect is not followed


def test_a_receiver_that_wants_no_more_is_left_alone_for_long(receiver: Listener) -> None:
    verdict, response = answered(receiver, 410)
    assert (verdict.verdict, verdict.code, response.pause_seconds) == (Verdict.AUTH, "GONE", 900)
    assert response.throttled is False


@pytest.mark.parametrize(
    ("header", "pause"),
    [({"Retry-After": "120"}, 120), ({"Retry-After": "Thu, 15 Jan 2026 12:05:00 GMT"}, 300), ({}, 10),
     ({"Retry-After": "soon"}, 10)],
)  # fmt: skip
def test_a_receiver_says_how_long_to_wait(receiver: Listener, header: Mapping[str, str], pause: float) -> None:
    verdict, response = answered(receiver, 429, header)
    assert (verdict.retry_after, response.pause_seconds, response.throttled) == (pause, pause, True)
    _, down = answered(receiver, 503, header)
    assert (down.pause_seconds, down.throttled) == (pause if pause != 10 else None, False)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [(None, None), ("", None), ("-1", None), ("0", 0), (" 7 ", 7), ("9" * 30, 86_400), ("²", None),
     ("Thu, 15 Jan 2026 11:00:00 GMT", 0), ("Thu, 15 Jan 2099 11:00:00 GMT", 86_400), ("Thu, 99 Jan 2026", None)],
)  # fmt: skip
def test_retry_after_is_seconds_or_a_date_and_never_longer_than_a_day(text: str | None, seconds: float | None) -> None:
    assert retry_after_seconds(text, now=datetime(2026, 1, 15, 12, tzinfo=UTC)) == seconds


@pytest.mark.parametrize("batch_size", [1, 10])
@pytest.mark.parametrize(("status", "said"), [(404, "nothing is at destinations.NAME.url"), (503, "ask again later")])
def test_a_receiver_that_does_not_take_a_test_is_named_with_what_to_do(
    receiver: Listener, status: int, said: str, batch_size: int
) -> None:
    client = client_of(receiver, batch_size=batch_size)
    with closing(client):
        assert client.describe(courier=Sending(client)).is_open
        receiver.status = status
        with pytest.raises(CrmError, match=f"did not take a test .HTTP_{status}.: {said}"):
            client.describe(courier=Sending(client))
    assert all(is_signed(sent, OLD) for sent in receiver.sent)
    assert "contact" not in receiver.sent[0].content.decode()


def results(receiver: Listener, *entries: Any, batch_size: int = 10) -> dict[int, RecordVerdict]:
    receiver.answers(200, {"results": list(entries)})
    verdicts, _ = delivered(
        client_of(receiver, batch_size=batch_size), record(1, email="a@example.com"), record(2, email="b@example.com")
    )
    return {item.outbox_id: item for item in verdicts}


def entry(number: int, email: str, status: Any, **more: Any) -> dict[str, Any]:
    return {"id": event_id(record(number, email=email)), "status": status, **more}


@pytest.mark.parametrize("status", ["delivered", "transient", "throttled", "invalid", "conflict", "locked"])
def test_a_result_says_what_became_of_its_event(receiver: Listener, status: str) -> None:
    more = {
        "code": "NO_SUCH_PLAN",
        "message": "why",
        "record_id": "r-7",
        "retry_after": 30,
        "properties": ["email", "x"],
    }
    found = results(receiver, entry(2, "b@example.com", "delivered"), entry(1, "a@example.com", status, **more))
    assert found[1] == RecordVerdict(
        1, Verdict(status), code="NO_SUCH_PLAN", crm_record_id="r-7", explanation="why", retry_after=30,
        refused_properties=("email",),
    )  # fmt: skip
    assert found[2].verdict is Verdict.DELIVERED


@pytest.mark.parametrize("odd", [
    None, 7, [], {}, {"id": 7}, {"id": "another"}, entry(1, "a@example.com", None), entry(1, "a@example.com", "ok"),
    entry(1, "a@example.com", "auth"), entry(1, "a@example.com", "ambiguous"), entry(1, "a@example.com", ["delivered"]),
])  # fmt: skip
def test_what_cannot_be_read_is_no_proof(receiver: Listener, odd: Any) -> None:
    found = results(receiver, odd, entry(2, "b@example.com", "delivered"))
    assert (found[1].verdict, found[2].verdict) == (Verdict.AMBIGUOUS, Verdict.DELIVERED)
    assert found[1].explanation  # what the receiver is to do


def test_whatever_stands_beside_a_status_is_taken_only_as_it_should_be(receiver: Listener) -> None:
    odd = {"code": "ada@example.com", "message": 7, "record_id": "x" * 300, "retry_after": -1, "properties": "email"}
    found = results(receiver, entry(1, "a@example.com", "invalid", **odd), entry(2, "b@example.com", "invalid",
                    message="m" * 5000, retry_after=True))  # fmt: skip
    assert found[1] == RecordVerdict(1, Verdict.INVALID)
    assert len(found[2].explanation or "") == 1000
    assert found[2].retry_after is None


@pytest.mark.parametrize(("asked", "seconds"), [(10**400, 86_400), (-(10**400), None), (1e300, 86_400)])
def test_a_wait_is_never_longer_than_a_day_however_large_the_number(
    receiver: Listener, asked: float, seconds: float | None
) -> None:
    found = results(receiver, entry(1, "a@example.com", "throttled", retry_after=asked))
    assert (found[1].verdict, found[1].retry_after) == (Verdict.THROTTLED, seconds)


def test_of_a_list_no_status_is_a_result(receiver: Listener) -> None:
    receiver.answers(200, {})
    verdicts, _ = delivered(client_of(receiver, batch_size=10), record(1), record(2))
    assert {item.verdict for item in verdicts} == {Verdict.AMBIGUOUS}
    assert "batch_size to 1" in (verdicts[0].explanation or "")


def test_a_receiver_of_single_events_may_give_results_too(receiver: Listener) -> None:
    receiver.answers(200, {"results": [entry(1, "a@example.com", "invalid", code="BLOCKED")]})
    [verdict], _ = delivered(client_of(receiver), record(1, email="a@example.com"))
    assert (verdict.verdict, verdict.code) == (Verdict.INVALID, "BLOCKED")
    receiver.answers(200, {"results": []})
    [verdict], _ = delivered(client_of(receiver), record(1, email="a@example.com"))
    assert verdict.verdict is Verdict.AMBIGUOUS
