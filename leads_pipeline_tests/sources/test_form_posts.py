"""HTML forms: both ways of sending one, files, robots, and where the browser goes next."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leads_pipeline.domain.posted_lead import storage_fault
from leads_pipeline.sources.form_bodies import MAX_FIELDS
from leads_pipeline.sources.form_posts import FormPosts
from leads_pipeline.sources.port import Delivery, Fault, Post, Quarantine, Unreadable
from leads_pipeline_tests.sources.contract import KeyedContract, assert_flat, assert_storable
from leads_pipeline_tests.sources.signing import delivery

URL_ENCODED = {"content-type": "application/x-www-form-urlencoded"}
FORM = FormPosts()


def part(name: str, content: bytes, *, filename: str | None = None) -> bytes:
    file = "" if filename is None else f'; filename="{filename}"\r\nContent-Type: application/pdf'
    return f'--XyZ\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'.encode() + content + b"\r\n"


def multipart(*parts: bytes, end: bytes = b"--XyZ--\r\n") -> Delivery:
    return delivery(b"".join(parts) + end, {"content-type": "multipart/form-data; boundary=XyZ"})


class TestUrlEncodedForm(KeyedContract):
    kind = FORM

    def good(self) -> Delivery:
        return delivery("email=zoe%40example.com&name=Zo%C3%AB+Kaya&consent_email=on", URL_ENCODED)


class TestMultipartForm(KeyedContract):
    kind = FORM

    def good(self) -> Delivery:
        return multipart(part("email", b"zoe@example.com"), part("cv", b"%PDF", filename="cv.pdf"))


def read(arrived: Delivery | str) -> Post:
    found = FORM.read(
        delivery(arrived, URL_ENCODED) if isinstance(arrived, str) else arrived, TestUrlEncodedForm.options
    )
    assert not isinstance(found, Unreadable)
    [post] = found
    return post


def test_a_form_becomes_its_fields() -> None:
    post = read("email=zoe%40example.com&name=Zo%C3%AB+Kaya&empty=&consent_email=on")
    assert post.payload == {"email": "zoe@example.com", "name": "Zoë Kaya", "empty": "", "consent_email": "on"}
    assert post.quarantine is None


def test_a_name_that_comes_again_makes_a_list() -> None:
    assert read("topic=a&topic=b&topic=c&x=1").payload == {"topic": ["a", "b", "c"], "x": "1"}


def test_an_old_page_that_does_not_send_utf8_is_understood() -> None:
    assert read("name=Zo%EB").payload == {"name": "Zoë"}


def test_both_ways_of_sending_a_form_mean_the_same() -> None:
    arrived = multipart(part("email", b"zoe@example.com"), part("topic", b"a"), part("topic", "ü\r\nx".encode()))
    assert read(arrived).payload == {"email": "zoe@example.com", "topic": ["a", "ü\r\nx"]}


def test_of_a_file_the_name_and_the_size_are_kept() -> None:
    arrived = multipart(
        part("email", b"zoe@example.com"),
        part("cv", b"%PDF\x00\xff" * 100, filename="cv.pdf"),
        part("photo", b"", filename=""),
    )
    post = read(arrived)
    assert post.payload == {"email": "zoe@example.com", "cv": {"filename": "cv.pdf", "size": 600}}
    assert FORM.fields(post.payload) == {"email": "zoe@example.com", "cv.filename": "cv.pdf", "cv.size": 600}


@pytest.mark.parametrize("value", ["http://spam.example", "x", "0"])
def test_who_fills_the_hidden_field_is_a_robot_that_is_kept(value: str) -> None:
    post = read(f"email=zoe%40example.com&website_url={value}")
    assert post.quarantine is Quarantine.ROBOT
    assert post.payload == {"email": "zoe@example.com", "website_url": value}


@pytest.mark.parametrize("text", ["&website_url=", "&website_url=++", ""])
def test_who_leaves_the_hidden_field_empty_is_none(text: str) -> None:
    post = read(f"email=zoe%40example.com{text}")
    assert post.quarantine is None
    assert post.payload == {"email": "zoe@example.com"}


def test_the_page_to_go_to_is_no_field() -> None:
    post = read("email=zoe%40example.com&_redirect=https%3A%2F%2Fwww.example.com%2Fthanks")
    assert post.redirect == "https://www.example.com/thanks"
    assert post.payload == {"email": "zoe@example.com"}
    assert read("email=a&_redirect=x&_redirect=y").redirect is None


def test_a_form_without_a_field_is_refused() -> None:
    for body in ("", "&&", "website_url=", "_redirect=https%3A%2F%2Fa.example"):
        found = FORM.read(delivery(body, URL_ENCODED), TestUrlEncodedForm.options)
        assert isinstance(found, Unreadable), body
        assert found.fault is Fault.WRONG_SHAPE


@pytest.mark.parametrize(
    "arrived",
    [
        multipart(part("email", b"zoe@example.com"), end=b""),
        multipart(b"no boundary here"),
        delivery(b"email=zoe", {"content-type": "multipart/form-data"}),
        delivery("&".join(f"f{number}=x" for number in range(MAX_FIELDS + 1)), URL_ENCODED),
        delivery("=&" * (MAX_FIELDS + 1), URL_ENCODED),
        delivery("&" * 1_000_000, URL_ENCODED),
        multipart(*[part("a", b"x")] * (MAX_FIELDS + 1)),
    ],
    ids=[
        "breaks off",
        "no boundary",
        "no boundary named",
        "many fields",
        "many nameless fields",
        "many separators",
        "many parts",
    ],
)
def test_a_form_that_cannot_be_read_is_kept_raw(arrived: Delivery) -> None:
    post = read(arrived)
    assert post.quarantine is Quarantine.UNREADABLE_BODY
    assert post.payload == {"raw_body": arrived.body.decode()}


_PIECES = [
    b"--XyZ", b"--XyZ--", b"--", b"\r\n", b"\n", b"\r", b"Content-Disposition: form-data; name=", b'"a"',
    b'"_redirect"', b'"website_url"', b'; filename="f"', b"; filename*=utf-8''x", b": ", b"\x00", b"\xff", b"=",
    b"&", b";", b"%", b"%zz", b"%41", b"+", b"a", b"Content-Transfer-Encoding: base64",
]  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(pieces=st.lists(st.sampled_from(_PIECES), max_size=30), is_multipart=st.booleans())
def test_no_form_breaks_the_reading_of_it(pieces: list[bytes], is_multipart: bool) -> None:
    media_type = "multipart/form-data; boundary=XyZ" if is_multipart else URL_ENCODED["content-type"]
    found = FORM.read(delivery(b"".join(pieces), {"content-type": media_type}), TestUrlEncodedForm.options)
    for post in [] if isinstance(found, Unreadable) else found:
        assert_storable(post)
        assert_flat(FORM.fields(post.payload))


def test_nothing_of_a_broken_form_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(0):
        read(multipart(b"--XyZ\r\nContent-Disposition\x01: form-data\r\n\r\nzoe@example.com"))
        read(multipart(b"no boundary here"))
    assert caplog.records == []


def test_as_many_fields_as_are_allowed_are_read() -> None:
    assert len(read("&".join(f"f{number}=x" for number in range(MAX_FIELDS))).payload) == MAX_FIELDS


def test_a_body_with_nul_characters_is_kept_where_it_cannot_be_read() -> None:
    post = read(multipart(b"\x00\xff", end=b""))
    assert post.payload == {"raw_body_base64": "AP8="}


def test_a_value_with_a_nul_character_is_left_to_the_door() -> None:
    payload: dict[str, Any] = read("email=a%00b").payload
    assert storage_fault(payload) is not None
