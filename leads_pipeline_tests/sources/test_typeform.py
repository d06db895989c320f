"""Typeform's webhook: its signature in base 64, and answers of every type."""

import json
from typing import Any

import pytest

from leads_pipeline.sources.port import Delivery, Fault, Post, Secrets, Unreadable
from leads_pipeline.sources.typeform import TypeformResponses
from leads_pipeline_tests.sources.contract import BodySignedContract
from leads_pipeline_tests.sources.signing import SECRET, delivery, sample, typeform_headers

TYPEFORM = TypeformResponses()


def answer(kind: str, value: Any, ref: str | None = None, field_id: str = "kFf1") -> dict[str, Any]:
    field = {"id": field_id, "type": kind} | ({} if ref is None else {"ref": ref})
    return {"type": kind, kind: value, "field": field}


ANSWERS = [
    answer("text", "Zoë", "first_name"),
    answer("email", "zoe@example.com", "01F8-made-up"),
    answer("email", "second@example.com", "another"),
    answer("phone_number", "+436641234567", field_id="pH0n"),
    answer("choice", {"label": "Red", "ref": "r", "id": "x"}, "colour"),
    answer("choice", {"other": "Teal"}, "other_colour"),
    answer("choices", {"labels": ["S", "M"], "other": "XS"}, "sizes"),
    answer("boolean", True, "terms"),
    answer("number", 7, "rating"),
    answer("date", "2026-02-01", "when"),
    answer("url", "https://example.com", "website"),
    answer("file_url", "https://api.typeform.com/x.pdf", "cv"),
    answer("payment", {"amount": "12.00", "last4": "4242", "success": True}, "fee"),
    answer("text", "typed", "token"),
]
EVENT = {
    "event_id": "LtWXD3crgy",
    "event_type": "form_response",
    "form_response": {
        "form_id": "lT4Z3j",
        "token": "a3a12ec67a1365927098a606107fac15",
        "submitted_at": "2026-01-15T11:59:59Z",
        "hidden": {"utm_source": "news", "email": "hidden@example.com"},
        "definition": {"id": "lT4Z3j", "fields": [{"id": "kFf1", "title": "Your name"}]},
        "answers": ANSWERS,
    },
}


def signed(event: Any) -> Delivery:
    body = json.dumps(event, ensure_ascii=False).encode()
    return delivery(body, typeform_headers(body))


class TestTypeformResponses(BodySignedContract):
    kind = TYPEFORM
    secrets = Secrets(signing=SECRET)
    signature_headers = ("typeform-signature",)

    def good(self) -> Delivery:
        return signed(EVENT)

    def signed_with_nothing(self) -> Delivery:
        return delivery(b"{}", typeform_headers(b"{}", secret=""))


def read(arrived: Delivery) -> Post:
    posts = TYPEFORM.read(arrived, TestTypeformResponses.options)
    assert not isinstance(posts, Unreadable)
    [post] = posts
    return post


def test_the_sample_is_believed() -> None:
    assert TYPEFORM.verify(sample("typeform").delivery, sample("typeform").secrets) is None


def test_a_response_is_known_by_its_token() -> None:
    post = read(signed(EVENT))
    assert post.payload == EVENT
    assert post.event_id == "a3a12ec67a1365927098a606107fac15"
    assert read(signed({**EVENT, "event_id": "another delivery"})).event_id == post.event_id


def test_a_response_that_was_broken_off_does_not_make_the_whole_one_a_repetition() -> None:
    partial = read(signed({**EVENT, "event_type": "form_response_partial"}))
    assert partial.event_id not in (None, read(signed(EVENT)).event_id)


def test_answers_of_every_type_show_by_the_name_of_their_field() -> None:
    fields = TYPEFORM.fields(EVENT)
    expected = {
        "first_name": "Zoë",
        "01F8-made-up": "zoe@example.com",
        "pH0n": "+436641234567",
        "colour": "Red",
        "other_colour": "Teal",
        "sizes": ["S", "M", "XS"],
        "terms": True,
        "rating": 7,
        "when": "2026-02-01",
        "website": "https://example.com",
        "cv": "https://api.typeform.com/x.pdf",
        "fee.amount": "12.00",
        "fee.success": True,
        "hidden.utm_source": "news",
        "form_id": "lT4Z3j",
        "submitted_at": "2026-01-15T11:59:59Z",
        "event_type": "form_response",
    }
    assert {name: fields[name] for name in expected} == expected
    assert not any(name.startswith("definition") for name in fields)


def test_the_first_email_and_phone_show_by_their_type_whatever_their_field_is_called() -> None:
    fields = TYPEFORM.fields(EVENT)
    assert fields["type.email"] == "zoe@example.com"
    assert fields["type.phone_number"] == "+436641234567"
    assert (TYPEFORM.usual["type.email"], TYPEFORM.usual["type.phone_number"]) == ("email", "phone")


def test_an_answer_cannot_pass_for_what_typeform_says() -> None:
    fields = TYPEFORM.fields(EVENT)
    assert (fields["token"], fields["answers.token"]) == ("a3a12ec67a1365927098a606107fac15", "typed")


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        (b"{", Fault.MALFORMED_JSON),
        (b"[]", Fault.WRONG_SHAPE),
        (b'{"form_response": []}', Fault.WRONG_SHAPE),
        (b'{"email": "zoe@example.com"}', Fault.WRONG_SHAPE),
    ],
)
def test_what_is_signed_and_cannot_be_read_stays_with_typeform(body: bytes, fault: Fault) -> None:
    found = TYPEFORM.read(delivery(body, typeform_headers(body)), TestTypeformResponses.options)
    assert isinstance(found, Unreadable)
    assert found.fault is fault
