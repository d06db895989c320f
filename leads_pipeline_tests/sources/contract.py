"""What every kind of source must do: a kind's test module inherits the contracts that its kind promises."""

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, ClassVar, get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from leads_pipeline.config import SIGNED_KINDS
from leads_pipeline.config import SourceKind as KindName
from leads_pipeline.domain.lead import FIELD_NAMES
from leads_pipeline.domain.posted_lead import storage_fault
from leads_pipeline.sources.port import (
    Delivery,
    Doubt,
    Post,
    Secrets,
    SourceKind,
    SourceOptions,
    Unreadable,
    with_fetched,
)
from leads_pipeline.sources.registry import KINDS
from leads_pipeline_tests.sources.signing import NOW, without_header

# Names that kinds look for, so that made-up messages come near to real ones and go wrong deep inside of them.
_WORDS = [
    "entry", "changes", "field", "value", "leadgen", "leadgen_id", "field_data", "name", "values", "form_response",
    "answers", "type", "ref", "id", "email", "choice", "choices", "labels", "label", "other", "hidden", "token",
    "payment", "data", "user_column_data", "column_id", "column_name", "string_value", "google_key", "is_test",
    "lead_id", "eventId", "objectId", "subscriptionType", "contact.creation", "propertyName", "propertyValue",
    "properties", "fetched", "fields", "1.3", "1.6", "1", "3", "ip", "user_agent", "_remote_ip", "your-email",
    "filename", "content", "consent", "_redirect", "website_url", "raw_body",
]  # fmt: skip

_texts = st.one_of(
    st.sampled_from(_WORDS),
    st.text(max_size=20),
    st.text(alphabet=st.characters(categories=["Cs", "Cc", "Lu"]), max_size=6),  # half pairs and NUL among them
)
_scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([10**30, -(10**400), 10**4299, 2**63, 2**64]),
    st.floats(),
    _texts,
)
json_values = st.recursive(
    _scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.one_of(st.sampled_from(_WORDS), _texts), inner, max_size=6)
    ),
    max_leaves=25,
)
json_objects = st.dictionaries(st.one_of(st.sampled_from(_WORDS), _texts), json_values, max_size=8)

NASTY_BODIES = [
    b"",
    b" ",
    b"\x00",
    b"\xff\xfe\x00",
    b"\xef\xbb\xbf{}",
    b"null",
    b"{",
    b"[]",
    b"{}",
    b'"text"',
    b"[[]]",
    b"[null]",
    b"NaN",
    b'{"a": 1e999}',
    b'{"email": "\\ud800"}',
    b'{"email": "a\\u0000b"}',
    b'{"n": ' + b"9" * 6_000 + b"}",
    b"[" * 50_000,
    b"[" * 50_000 + b"]" * 50_000,
    b'{"a":' * 990 + b"1" + b"}" * 990,
    b'[{"a":' + b'{"a":' * 500 + b"1" + b"}" * 501 + b"]",
    b"--X--\r\n",
    b"a=1&a=2&%00=%FF&&=",
    b"&=" * 200_000,
]
_media_types = st.sampled_from(
    [
        "",
        "application/json",
        "application/json; charset=utf-8",
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=X",
        "multipart/form-data",
        'multipart/form-data; boundary="\u20ac"',
    ]
)
_SIGNATURE_HEADERS = [
    "x-hubspot-signature-v3",
    "x-hubspot-request-timestamp",
    "x-hub-signature-256",
    "typeform-signature",
    "webhook-id",
    "webhook-timestamp",
    "webhook-signature",
]
_header_values = st.one_of(
    st.text(max_size=30),
    st.sampled_from(
        ["", " ", "v1,", "sha256=", "\u00b2", "9" * 400, "-1", "1e9", "1768478400", "1768478400000", "\udc80"]
    ),
)
arrivals = st.builds(
    lambda body, media_type, extra, query, url, method: Delivery(
        method=method, url=url, headers={"content-type": media_type, **extra}, query=query, body=body, received_at=NOW
    ),
    body=st.one_of(
        st.binary(max_size=200),
        st.sampled_from(NASTY_BODIES),
        json_values.map(lambda value: json.dumps(value).encode()),
    ),
    media_type=_media_types,
    extra=st.dictionaries(st.sampled_from(_SIGNATURE_HEADERS), _header_values, max_size=4),
    query=st.dictionaries(
        st.sampled_from(["hub.mode", "hub.verify_token", "hub.challenge"]),
        st.one_of(st.just("subscribe"), _header_values),
        max_size=3,
    ),
    url=st.one_of(st.text(max_size=40), st.sampled_from(["https://a.example/x?%3a%2F%zz%", "#", "?#?"])),
    method=st.sampled_from(["POST", "GET", ""]),
)

_FUZZ = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.differing_executors, HealthCheck.too_slow, HealthCheck.data_too_large],
)


def assert_storable(post: Post) -> None:
    """A post that the door can keep: as it is, or, where the payload's values cannot be stored, as escaped text."""
    assert isinstance(post.payload, dict)
    assert json.dumps(post.payload)
    envelope = {**post.context, "event": post.event_id or "", "reference": post.reference or ""}
    assert all(isinstance(value, str) for value in envelope.values())
    assert storage_fault(envelope) is None
    assert post.event_id != ""
    assert post.reference != ""


def assert_flat(fields: Mapping[str, Any]) -> None:
    for name, value in fields.items():
        assert isinstance(name, str)
        items = value if isinstance(value, list) else [value]
        assert all(item is None or isinstance(item, str | int | float) for item in items), name


class SourceContract:
    """``good`` is a request of this kind with at least one lead in it."""

    kind: ClassVar[SourceKind]
    secrets: ClassVar[Secrets] = Secrets()
    options: ClassVar[SourceOptions] = SourceOptions(honeypot="website_url")

    def good(self) -> Delivery:
        raise NotImplementedError

    def posts(self, arrived: Delivery | None = None) -> list[Post]:
        found = self.kind.read(self.good() if arrived is None else arrived, self.options)
        assert not isinstance(found, Unreadable)
        return found

    def test_the_kind_stands_in_the_registry_and_in_leads_yaml(self) -> None:
        assert KINDS[self.kind.name] is not None
        assert type(KINDS[self.kind.name]) is type(self.kind)
        assert self.kind.name in get_args(KindName)
        assert self.kind.signed == (self.kind.name in SIGNED_KINDS)

    def test_its_usual_fields_mean_canonical_ones(self) -> None:
        assert set(self.kind.usual.values()) <= set(FIELD_NAMES)

    def test_a_good_delivery_is_verified_and_holds_leads_that_can_be_stored(self) -> None:
        arrived = self.good()
        assert self.kind.verify(arrived, self.secrets) is None
        posts = self.posts(arrived)
        assert posts
        for post in posts:
            assert post.quarantine is None
            assert_storable(post)
            assert storage_fault(post.payload) is None
            fields = self.kind.fields(post.payload)
            assert fields
            assert_flat(fields)

    def test_the_same_delivery_is_read_the_same_twice(self) -> None:
        assert self.posts() == self.posts()

    def test_reading_fields_does_not_change_the_post(self) -> None:
        [post, *_more] = self.posts()
        before = json.dumps(post.payload)
        assert self.kind.fields(post.payload) == self.kind.fields(post.payload)
        assert json.dumps(post.payload) == before

    @pytest.mark.parametrize("body", NASTY_BODIES, ids=lambda body: repr(body[:16]))
    def test_no_body_breaks_it(self, body: bytes) -> None:
        self._survives(replace(self.good(), body=body))

    @_FUZZ
    @given(arrived=arrivals)
    def test_no_bytes_and_no_headers_break_it(self, arrived: Delivery) -> None:
        self._survives(arrived)

    @_FUZZ
    @given(payload=json_objects, answer=json_objects)
    def test_no_stored_payload_breaks_its_fields(self, payload: dict[str, Any], answer: dict[str, Any]) -> None:
        assert_flat(self.kind.fields(payload))
        assert_flat(self.kind.fields(with_fetched(payload, answer)))

    def _survives(self, arrived: Delivery) -> None:
        for secrets in (self.secrets, Secrets()):
            doubt = self.kind.verify(arrived, secrets)
            assert doubt is None or isinstance(doubt, Doubt)
            challenge = self.kind.challenge(arrived, secrets)
            assert challenge is None or isinstance(challenge, str)
        posts = self.kind.read(arrived, self.options)
        if isinstance(posts, Unreadable):
            assert posts.message
            return
        for post in posts:
            assert_storable(post)
            assert_flat(self.kind.fields(post.payload))


class KeyedContract(SourceContract):
    """A kind that carries an API key of ours."""

    def test_nothing_is_asked_of_the_body_where_the_key_says_who_it_is(self) -> None:
        assert not self.kind.signed
        assert self.kind.verify(replace(self.good(), headers={}), Secrets()) is None


class SignedContract(SourceContract):
    """A kind whose requests prove themselves. ``signature_headers`` are those that none may lack."""

    signature_headers: ClassVar[tuple[str, ...]] = ()

    def test_another_secret_is_not_believed(self) -> None:
        assert self.kind.verify(self.good(), Secrets(signing="whsec_b3RoZXI=")) is Doubt.BAD_SIGNATURE

    def signed_with_nothing(self) -> Delivery:
        """A request that is right if the secret is empty."""
        raise NotImplementedError

    def test_a_source_without_a_secret_believes_nobody(self) -> None:
        assert self.kind.verify(self.good(), Secrets()) is Doubt.BAD_SIGNATURE
        assert self.kind.verify(self.signed_with_nothing(), Secrets()) is not None

    def test_a_delivery_without_its_signature_is_not_believed(self) -> None:
        for name in self.signature_headers:
            assert self.kind.verify(without_header(self.good(), name), self.secrets) is Doubt.NO_SIGNATURE, name

    def test_a_signature_that_is_almost_right_is_not_believed(self) -> None:
        for name in self.signature_headers:
            arrived = self.good()
            value = arrived.headers[name]
            changed = ("0" if value[-2] != "0" else "1").join((value[:-2], value[-1:]))
            assert self.kind.verify(replace(arrived, headers={**arrived.headers, name: changed}), self.secrets), name


class BodySignedContract(SignedContract):
    """A kind whose signature is over the whole body."""

    @settings(
        max_examples=100, deadline=None, suppress_health_check=[HealthCheck.differing_executors, HealthCheck.too_slow]
    )
    @given(place=st.integers(min_value=0), flip=st.integers(min_value=1, max_value=255), more=st.binary(max_size=3))
    def test_a_body_that_was_changed_is_not_believed(self, place: int, flip: int, more: bytes) -> None:
        arrived = self.good()
        body = bytearray(arrived.body)
        body[place % len(body)] ^= flip
        assert self.kind.verify(replace(arrived, body=bytes(body) + more), self.secrets) is Doubt.BAD_SIGNATURE
        assert self.kind.verify(replace(arrived, body=b""), self.secrets) is Doubt.BAD_SIGNATURE


class TimeSignedContract(BodySignedContract):
    """A kind that also signs when it sent."""

    def signed_at(self, sent_at: datetime) -> Delivery:
        raise NotImplementedError

    @pytest.mark.parametrize(
        ("seconds", "believed"), [(0, True), (299, True), (300, True), (301, False), (10**6, False)]
    )
    def test_a_signed_time_may_be_five_minutes_away_either_way(self, seconds: int, believed: bool) -> None:
        for away in (timedelta(seconds=seconds), timedelta(seconds=-seconds)):
            doubt = self.kind.verify(self.signed_at(NOW + away), self.secrets)
            assert doubt is (None if believed else Doubt.TOO_OLD)
