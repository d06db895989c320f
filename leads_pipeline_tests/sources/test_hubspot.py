"""HubSpot's webhooks: which are believed, and what an event says of a contact."""

import json
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from leads_pipeline.sources.hubspot import CONTACT_PROPERTIES, HubSpotEvents, signed_address
from leads_pipeline.sources.port import Delivery, Doubt, Fault, Post, Secrets, Unreadable, with_fetched
from leads_pipeline_tests.sources.contract import TimeSignedContract
from leads_pipeline_tests.sources.signing import (
    HUBSPOT_URL,
    NOW,
    SECRET,
    delivery,
    hubspot_headers,
    recorded,
    sample,
)

CREATION = {
    "eventId": 3181526809,
    "subscriptionId": 25,
    "portalId": 33,
    "appId": 1160452,
    "occurredAt": 1768478399000,
    "subscriptionType": "contact.creation",
    "attemptNumber": 0,
    "objectId": 1246965,
}
CHANGE = {
    **CREATION,
    "eventId": 3181526810,
    "subscriptionType": "contact.propertyChange",
    "propertyName": "email",
    "propertyValue": "zoe@example.com",
}


def signed(events: Any, *, at: datetime = NOW) -> Delivery:
    body = json.dumps(events).encode()
    return delivery(body, hubspot_headers(body, at=at), url=HUBSPOT_URL)


class TestHubSpotEvents(TimeSignedContract):
    kind = HubSpotEvents()
    secrets = Secrets(signing=SECRET)
    signature_headers = ("x-hubspot-signature-v3", "x-hubspot-request-timestamp")

    def good(self) -> Delivery:
        return signed([CREATION, CHANGE])

    def signed_with_nothing(self) -> Delivery:
        return delivery(b"[]", hubspot_headers(b"[]", secret=""), url=HUBSPOT_URL)

    def signed_at(self, sent_at: datetime) -> Delivery:
        return signed([CREATION], at=sent_at)


HUBSPOT = HubSpotEvents()


def read(events: Any) -> list[Post]:
    posts = HUBSPOT.read(signed(events), TestHubSpotEvents.options)
    assert not isinstance(posts, Unreadable)
    return posts


def test_hubspots_own_sample_is_believed_at_the_address_that_it_called() -> None:
    arrived, secrets = sample("hubspot_v3").delivery, sample("hubspot_v3").secrets
    assert HUBSPOT.verify(arrived, secrets) is None
    assert HUBSPOT.verify(replace(arrived, url=arrived.url + "#top"), secrets) is None
    assert (
        HUBSPOT.verify(replace(arrived, url=arrived.url.replace("hooks.", "hooked.")), secrets) is Doubt.BAD_SIGNATURE
    )
    assert HUBSPOT.verify(replace(arrived, method="PUT"), secrets) is Doubt.BAD_SIGNATURE


def test_some_escapes_of_the_query_are_undone_and_no_others() -> None:
    vector = recorded("hubspot_v3")
    assert signed_address(vector["url"]) == vector["signed_url"]
    listed = "%3A%2F%3F%40%21%24%27%28%29%2A%2C%3B"
    assert signed_address(f"https://a.example/x?{listed}") == "https://a.example/x?:/?@!$'()*,;"
    assert signed_address(f"https://a.example/x?{listed.lower()}") == "https://a.example/x?:/?@!$'()*,;"
    for other in ("https://a.example/x?%20%26%2B%3D%23%25", "https://a.example/%40/x", "https://a.example/x?%2540%4"):
        assert signed_address(other) == other


def test_each_event_is_a_post_that_names_its_contact() -> None:
    first, second = read([CREATION, CHANGE])
    assert (first.payload, first.reference) == (CREATION, "1246965")
    assert (second.payload, second.reference) == (CHANGE, "1246965")
    assert first.event_id != second.event_id


def test_another_attempt_at_the_same_event_is_the_same_event() -> None:
    [first], [again] = read([CREATION]), read([{**CREATION, "attemptNumber": 3}])
    assert first.event_id == again.event_id
    for name in ("eventId", "portalId", "objectId", "subscriptionId", "occurredAt"):
        [other] = read([{**CREATION, name: 7}])
        assert other.event_id != first.event_id, name


@pytest.mark.parametrize(
    "kind", ["contact.deletion", "contact.privacyDeletion", "company.creation", "deal.creation", None, 7]
)
def test_an_event_without_a_contact_to_be_read_names_none(kind: Any) -> None:
    [post] = read([{**CREATION, "subscriptionType": kind}])
    assert post.reference is None


def test_a_name_that_could_lead_elsewhere_in_an_address_is_no_reference() -> None:
    for name in ("../deals", "1?x=1", "", None, True, 1.5, ["1"]):
        [post] = read([{**CREATION, "objectId": name}])
        assert post.reference is None, name


def test_a_changed_property_is_a_field_of_the_contact() -> None:
    fields = HUBSPOT.fields(CHANGE)
    assert fields["properties.email"] == "zoe@example.com"
    assert fields["propertyName"] == "email"
    assert HUBSPOT.usual["properties.email"] == "email"


def test_the_contact_that_was_read_afterwards_shows_among_the_fields() -> None:
    contact = {"id": "1246965", "properties": {"email": "new@example.com", "firstname": "Zoë", "zip": None}}
    fields = HUBSPOT.fields(with_fetched(CHANGE, contact))
    assert fields["properties.email"] == "new@example.com"
    assert fields["properties.firstname"] == "Zoë"
    assert fields["objectId"] == 1246965
    assert {name for name in HUBSPOT.usual if name.startswith("properties.")} == {
        f"properties.{name}" for name in CONTACT_PROPERTIES
    }


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        (b"{", Fault.MALFORMED_JSON),
        (b"\xff", Fault.MALFORMED_JSON),
        (b"{}", Fault.WRONG_SHAPE),
        (b"[1]", Fault.WRONG_SHAPE),
    ],
)
def test_what_is_signed_and_cannot_be_read_stays_with_hubspot(body: bytes, fault: Fault) -> None:
    found = HUBSPOT.read(delivery(body), TestHubSpotEvents.options)
    assert isinstance(found, Unreadable)
    assert found.fault is fault


def test_no_event_is_no_post() -> None:
    assert read([]) == []
