"""WordPress: three plugins, whatever their bodies are called, and broken JSON that is kept."""

import json
from typing import Any

import pytest

from leads_pipeline.sources.port import Delivery, Fault, Post, Quarantine, SourceKind, Unreadable
from leads_pipeline.sources.wordpress import ContactForm7, GravityForms, WpForms
from leads_pipeline_tests.sources.contract import KeyedContract
from leads_pipeline_tests.sources.signing import delivery

CF7, GRAVITY, WPFORMS = ContactForm7(), GravityForms(), WpForms()
KINDS: list[SourceKind] = [CF7, GRAVITY, WPFORMS]
TAGS = {
    "your-name": "Zoë Kaya",
    "your-email": "zoe@example.com",
    "your-tel": "+436641234567",
    "your-message": 'She said "hello"',
    "menu": ["Red"],
    "topics": ["a", "b"],
    "acceptance-email": "1",
    "_remote_ip": "192.0.2.7",
    "_user_agent": "Firefox",
}
ENTRY = {
    "id": "117",
    "form_id": "3",
    "date_created": "2026-01-15 11:59:59",
    "ip": "2001:db8::7",
    "user_agent": "Firefox",
    "source_url": "https://www.example.com/contact",
    "1.3": "Zoë",
    "1.6": "Kaya",
    "3": "zoe@example.com",
}
MULTIPART = (
    '--Q\r\nContent-Disposition: form-data; name="email"\r\n\r\nzoe@example.com\r\n'
    '--Q\r\nContent-Disposition: form-data; name="n"\r\n\r\n1\r\n--Q--\r\n'
)
NESTED = {
    "form_id": 9,
    "entry_id": 40,
    "fields": {
        "0": {
            "id": 0,
            "name": "Name",
            "value": "Zoë Kaya",
            "first": "Zoë",
            "last": "Kaya",
            "middle": "",
            "type": "name",
        },
        "1": {"id": 1, "name": "Email", "value": "zoe@example.com"},
        "2": {"id": 2, "name": "Topics", "value": ["a", "b"]},
        "3": {"id": 3, "name": "form_id", "value": "typed"},
    },
}


class TestContactForm7(KeyedContract):
    kind = CF7

    def good(self) -> Delivery:
        return delivery(json.dumps(TAGS))


class TestGravityForms(KeyedContract):
    kind = GRAVITY

    def good(self) -> Delivery:
        return delivery(json.dumps(ENTRY))


class TestWpForms(KeyedContract):
    kind = WPFORMS

    def good(self) -> Delivery:
        return delivery(json.dumps(NESTED))


def read(kind: SourceKind, body: Any, content_type: str = "application/json") -> Post:
    content = body if isinstance(body, bytes | str) else json.dumps(body)
    found = kind.read(delivery(content, {"content-type": content_type}), TestContactForm7.options)
    assert not isinstance(found, Unreadable)
    [post] = found
    return post


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_vendors_address_never_counts_as_the_persons(kind: SourceKind) -> None:
    assert not kind.from_browser
    assert not kind.answers_browsers


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/json; charset=utf-8", '{"email": "zoe@example.com", "n": "1"}'),
        ("text/plain; charset=UTF-8", '{"email": "zoe@example.com", "n": "1"}'),
        ("application/json", '\ufeff{"email": "zoe@example.com", "n": "1"}'),
        ("application/x-www-form-urlencoded; charset=utf-8", "email=zoe%40example.com&n=1"),
        (
            "multipart/form-data; boundary=Q",
            MULTIPART,
        ),
    ],
    ids=["json", "text", "byte order mark", "form", "multipart"],
)
def test_a_body_means_the_same_in_every_form(kind: SourceKind, content_type: str, body: str) -> None:
    post = read(kind, body, content_type)
    assert post.payload == {"email": "zoe@example.com", "n": "1"}
    assert post.quarantine is None


BROKEN = [
    b'{"your-email": "zoe@example.com", "your-message": "She said "hello""}',
    b'{"your-message": "two\nlines"}',
    b'{"your-email": [your-email]}',
    b"just text",
    b"[]",
    b'["zoe@example.com"]',
    b"{}",
    b'"zoe@example.com"',
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
@pytest.mark.parametrize("content_type", ["text/plain", "application/json"])
@pytest.mark.parametrize("body", BROKEN, ids=lambda body: repr(body[:20]))
def test_broken_json_is_kept_raw_and_set_aside(kind: SourceKind, content_type: str, body: bytes) -> None:
    post = read(kind, body, content_type)
    assert post.quarantine is Quarantine.UNREADABLE_BODY
    assert post.payload == {"raw_body": body.decode()}
    assert post.context == {}


def test_an_empty_body_is_refused_as_there_is_nothing_to_keep() -> None:
    for body in (b"", b" \r\n"):
        found = CF7.read(delivery(body), TestContactForm7.options)
        assert isinstance(found, Unreadable)
        assert found.fault is Fault.WRONG_SHAPE


def test_contact_form_7s_usual_tags_are_known_and_a_list_of_one_is_its_value() -> None:
    post = read(CF7, TAGS)
    assert post.payload == TAGS
    fields = CF7.fields(post.payload)
    assert (fields["menu"], fields["topics"]) == ("Red", ["a", "b"])
    meant = {CF7.usual[name]: fields[name] for name in fields if name in CF7.usual}
    assert meant == {
        "full_name": "Zoë Kaya",
        "email": "zoe@example.com",
        "phone": "+436641234567",
        "message": 'She said "hello"',
    }


def test_the_persons_address_and_browser_come_from_the_body() -> None:
    assert read(CF7, TAGS).context == {"ip": "192.0.2.7", "user_agent": "Firefox"}
    assert read(GRAVITY, ENTRY).context == {"ip": "2001:db8::7", "user_agent": "Firefox"}
    assert read(GRAVITY, {**ENTRY, "user_agent": "x" * 900}).context["user_agent"] == "x" * 500


@pytest.mark.parametrize("address", ["", "not an address", None, 7, ["192.0.2.7"], "192.0.2.7\x00", {"a": 1}, "\udc00"])
def test_what_is_no_address_is_not_taken_for_one(address: Any) -> None:
    assert "ip" not in read(GRAVITY, {**ENTRY, "ip": address}).context


def test_of_a_file_that_contact_form_7_sends_whole_the_name_and_the_size_are_kept() -> None:
    payload = read(
        CF7, {"cv": {"filename": "cv.pdf", "content": "QUJD" * 100}, "more": [{"filename": "a", "content": ""}]}
    )
    assert payload.payload == {"cv": {"filename": "cv.pdf", "size": 300}, "more": [{"filename": "a", "size": 0}]}


def test_the_parts_of_a_name_in_gravity_forms_are_known() -> None:
    fields = GRAVITY.fields(read(GRAVITY, ENTRY).payload)
    assert (fields["name.first"], fields["name.last"], fields["3"]) == ("Zoë", "Kaya", "zoe@example.com")
    assert (GRAVITY.usual["name.first"], GRAVITY.usual["source_url"]) == ("first_name", "landing_page")


def test_the_parts_of_an_address_or_of_choices_are_no_name() -> None:
    address = {f"5.{part}": "x" for part in range(1, 7)}
    assert "name.first" not in GRAVITY.fields({**address, "4.3": "x"})
    assert GRAVITY.fields({**address, "7.3": "Zoë", "7.6": "Kaya"})["name.first"] == "Zoë"


def test_nested_fields_of_wpforms_show_by_their_names() -> None:
    fields = WPFORMS.fields(read(WPFORMS, NESTED).payload)
    assert fields == {
        "form_id": 9,
        "entry_id": 40,
        "Name": "Zoë Kaya",
        "Name.first": "Zoë",
        "Name.last": "Kaya",
        "Email": "zoe@example.com",
        "Topics": ["a", "b"],
        "fields.form_id": "typed",
    }


def test_nested_fields_of_wpforms_may_come_as_a_list() -> None:
    listed = {**NESTED, "fields": list(NESTED["fields"].values())}  # type: ignore[attr-defined]
    assert WPFORMS.fields(listed) == WPFORMS.fields(NESTED)


def test_flat_fields_of_wpforms_show_as_they_are() -> None:
    assert WPFORMS.fields({"email": "zoe@example.com", "fields": "x"}) == {"email": "zoe@example.com", "fields": "x"}
