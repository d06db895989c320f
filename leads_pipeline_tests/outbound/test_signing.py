"""What we sign is what any receiver of Standard Webhooks takes, and nothing else is."""

import base64
import json
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

import leads_pipeline_tests.sources as sources_tests
from leads_pipeline.clock import FrozenClock
from leads_pipeline.domain.standard_webhooks import key_of, signature
from leads_pipeline.errors import ConfigError
from leads_pipeline.outbound.signing import StandardSigning, signing_key
from leads_pipeline.sources.port import Delivery, Doubt, Secrets
from leads_pipeline.sources.standard_webhooks import StandardWebhooks
from leads_pipeline_tests.conftest import NOW

KEYS = st.binary(min_size=24, max_size=64)
# What may stand in a header; ours are digits, letters and separators.
IDS = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=40)
BODIES = st.binary(max_size=200)


def secret_of(key: bytes) -> str:
    return "whsec_" + base64.b64encode(key).decode()


def signed(*keys: bytes, message_id: str = "msg_1", body: bytes = b"{}", clock: FrozenClock | None = None) -> Delivery:
    """A request as a receiver gets it."""
    signing = StandardSigning(keys, headers={}, clock=clock or FrozenClock(NOW))
    request = httpx.Request("POST", "https://hooks.example.com/", content=body, headers={"webhook-id": message_id})
    request = signing.apply(request)
    return Delivery(
        method="POST", url=str(request.url), headers=dict(request.headers), query={}, body=request.read(),
        received_at=NOW,
    )  # fmt: skip


def verdict(delivery: Delivery, key: bytes) -> Doubt | None:
    return StandardWebhooks().verify(delivery, Secrets(signing=secret_of(key)))


def test_a_signature_is_that_of_the_specifications_own_library() -> None:
    text = Path(sources_tests.__file__).with_name("webhook_vectors.json").read_text(encoding="utf-8")
    [vector] = [item for item in json.loads(text) if item["name"] == "standard_webhooks"]
    headers = vector["headers"]
    assert vector["made_with"] == "standardwebhooks"
    assert headers["webhook-signature"] == signature(
        key_of(vector["secret"]),
        message_id=headers["webhook-id"],
        timestamp=headers["webhook-timestamp"],
        body=vector["body"].encode(),
    )


@given(key=KEYS, message_id=IDS, body=BODIES)
def test_whatever_is_signed_is_taken_with_the_same_secret(key: bytes, message_id: str, body: bytes) -> None:
    assert verdict(signed(key, message_id=message_id, body=body), key) is None


@given(old=KEYS, new=KEYS, body=BODIES)
def test_while_a_secret_changes_either_of_the_two_takes_it(old: bytes, new: bytes, body: bytes) -> None:
    delivery = signed(new, old, body=body)
    assert (verdict(delivery, new), verdict(delivery, old)) == (None, None)


@given(key=KEYS, other=KEYS, body=BODIES)
def test_nobody_else_takes_it(key: bytes, other: bytes, body: bytes) -> None:
    same = key.ljust(64, b"\0") == other.ljust(64, b"\0")  # HMAC fills a key up with zeros
    assert (verdict(signed(key, body=body), other) is None) is same


@given(key=KEYS, body=BODIES, changed=BODIES)
def test_no_other_body_bears_the_signature(key: bytes, body: bytes, changed: bytes) -> None:
    delivery = signed(key, body=body)
    forged = Delivery(
        method="POST", url=delivery.url, headers=delivery.headers, query={}, body=changed, received_at=NOW
    )
    assert (verdict(forged, key) is None) is (changed == body)


@given(key=KEYS, late=st.integers(-1000, 1000))
def test_a_receiver_whose_clock_is_five_minutes_off_refuses_it(key: bytes, late: int) -> None:
    delivery = signed(key, clock=FrozenClock(NOW + timedelta(seconds=late)))
    assert (verdict(delivery, key) is None) is (abs(late) <= 300)


def test_a_repeat_is_signed_at_its_own_time_and_keeps_its_id() -> None:
    clock, key = FrozenClock(NOW), b"k" * 32
    first = signed(key, clock=clock)
    clock.sleep(3600)
    again = signed(key, clock=clock)
    assert again.headers["webhook-id"] == first.headers["webhook-id"]
    assert int(again.headers["webhook-timestamp"]) - int(first.headers["webhook-timestamp"]) == 3600
    assert again.headers["webhook-signature"] != first.headers["webhook-signature"]


def test_further_headers_are_in_the_request_and_in_nothing_that_is_shown() -> None:
    signing = StandardSigning(
        [b"k" * 32], headers={"Authorization": SecretStr("Bearer s3cret")}, clock=FrozenClock(NOW)
    )
    request = signing.apply(httpx.Request("POST", "https://hooks.example.com/", headers={"webhook-id": "1"}))
    assert request.headers["Authorization"] == "Bearer s3cret"
    assert "s3cret" not in repr(signing)
    assert repr(b"k" * 32) not in repr(signing)


@pytest.mark.parametrize(
    "text",
    ["", "whsec_", "s3cret-of-the-vendor", "whsec_not base64", "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3", secret_of(b"short"),
     secret_of(b"k" * 65)],
)  # fmt: skip
def test_what_is_no_secret_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        signing_key(SecretStr(text), variable="HOOK_SECRET")
    assert "HOOK_SECRET" in str(caught.value)
    assert "head -c 32" in str(caught.value)  # what to do
    assert not text.removeprefix("whsec_") or text not in str(caught.value)


def test_the_secret_that_the_refusal_says_how_to_make_is_taken() -> None:
    assert signing_key(SecretStr(secret_of(b"k" * 32)), variable="HOOK_SECRET") == b"k" * 32
