"""Standard Webhooks: several signatures, one version, an id that makes a repeat known."""

import json
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from leads_pipeline.sources.port import Delivery, Doubt, Fault, Secrets, Unreadable
from leads_pipeline.sources.standard_webhooks import StandardWebhooks
from leads_pipeline_tests.sources.contract import TimeSignedContract
from leads_pipeline_tests.sources.signing import NOW, STANDARD_SECRET, delivery, sample, standard_headers

STANDARD = StandardWebhooks()
EVENT = {
    "type": "lead.created",
    "timestamp": "2026-01-15T12:00:00Z",
    "data": {"email": "zoe@example.com", "address": {"city": "Graz"}, "tags": ["a", "b"]},
}


def signed(event: Any, *, at: datetime = NOW) -> Delivery:
    body = json.dumps(event).encode()
    return delivery(body, standard_headers(body, at=at))


class TestStandardWebhooks(TimeSignedContract):
    kind = STANDARD
    secrets = Secrets(signing=STANDARD_SECRET)
    signature_headers = ("webhook-id", "webhook-timestamp", "webhook-signature")

    def good(self) -> Delivery:
        return signed(EVENT)

    def signed_with_nothing(self) -> Delivery:
        return delivery(b"{}", standard_headers(b"{}", secret=""))

    def signed_at(self, sent_at: datetime) -> Delivery:
        return signed(EVENT, at=sent_at)


SECRETS = TestStandardWebhooks.secrets


def with_signature(arrived: Delivery, text: str) -> Delivery:
    return replace(arrived, headers={**arrived.headers, "webhook-signature": text})


def test_the_sample_is_believed_with_and_without_the_prefix_of_its_secret() -> None:
    arrived, secrets = sample("standard_webhooks").delivery, sample("standard_webhooks").secrets
    assert STANDARD.verify(arrived, secrets) is None
    assert STANDARD.verify(arrived, Secrets(signing=secrets.signing.removeprefix("whsec_"))) is None


def test_one_right_signature_among_several_is_enough() -> None:
    arrived = signed(EVENT)
    right = arrived.headers["webhook-signature"]
    assert STANDARD.verify(with_signature(arrived, f"v1,b3RoZXI= {right} v1a,x"), SECRETS) is None


def test_a_signature_of_another_version_is_not_read() -> None:
    arrived = signed(EVENT)
    digest = arrived.headers["webhook-signature"].removeprefix("v1,")
    for text in (f"v1a,{digest}", f"v2,{digest}", digest, f"v1{digest}", f"v1,{digest},"):
        assert STANDARD.verify(with_signature(arrived, text), SECRETS) is Doubt.BAD_SIGNATURE, text


def test_signatures_by_the_thousand_are_not_all_tried() -> None:
    arrived = signed(EVENT)
    right = arrived.headers["webhook-signature"]
    assert STANDARD.verify(with_signature(arrived, "v1,x " * 5_000 + right), SECRETS) is Doubt.BAD_SIGNATURE


@pytest.mark.parametrize("secret", ["whsec_", "whsec_not base 64!", "\u20ac", "whsec_abc"])
def test_a_secret_that_is_none_believes_nobody(secret: str) -> None:
    assert STANDARD.verify(signed(EVENT), Secrets(signing=secret)) is Doubt.BAD_SIGNATURE


def test_an_event_is_known_by_its_id_and_its_data_shows_by_its_own_names() -> None:
    posts = STANDARD.read(signed(EVENT), TestStandardWebhooks.options)
    assert not isinstance(posts, Unreadable)
    [post] = posts
    assert (post.payload, post.event_id) == (EVENT, "msg_1")
    assert STANDARD.fields(post.payload) == {
        "type": "lead.created",
        "timestamp": "2026-01-15T12:00:00Z",
        "email": "zoe@example.com",
        "address.city": "Graz",
        "tags": ["a", "b"],
    }


def test_a_message_without_data_shows_as_it_is() -> None:
    assert STANDARD.fields({"email": "zoe@example.com", "data": "x"}) == {"email": "zoe@example.com", "data": "x"}


@pytest.mark.parametrize(("body", "fault"), [(b"{", Fault.MALFORMED_JSON), (b"[]", Fault.WRONG_SHAPE)])
def test_what_is_signed_and_cannot_be_read_stays_with_the_sender(body: bytes, fault: Fault) -> None:
    found = STANDARD.read(delivery(body), TestStandardWebhooks.options)
    assert isinstance(found, Unreadable)
    assert found.fault is fault
