"""Each kind of source through the running door: what a delivery leaves in the buffer, and a forged one does not."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
import structlog.testing

from leads_pipeline.clock import FrozenClock
from leads_pipeline.config import Settings, parse_settings
from leads_pipeline_tests.capture.running import Capture, capture_service, make_key
from leads_pipeline_tests.conftest import NOW
from leads_pipeline_tests.sources.signing import (
    SECRET,
    STANDARD_SECRET,
    hubspot_headers,
    meta_headers,
    recorded,
    standard_headers,
    typeform_headers,
)

SOURCES_YAML = """
version: 1
tenants:
  acme:
    sources:
      website: {}
      script:
        kind: json
        lane: real_time
      contact:
        kind: form
        lane: real_time
        redirects: [https://www.example.com/thanks, https://www.example.com/danke]
        consent:
          - {path: consent_email, channel: email, text_version_path: consent_version}
        lane_rules:
          - {lane: batch, field: topic, is_in: [newsletter]}
      plain_form:
        kind: form
        honeypot: phone2
      crm:
        kind: hubspot
        secret: {env: TEST_VENDOR_SECRET}
        public_url: https://leads.example.com/hooks/crm
      crm_with_query:
        kind: hubspot
        secret: {env: TEST_VENDOR_SECRET}
        public_url: https://leads.example.com/hooks/crm?team=7
      crm_recorded:
        kind: hubspot
        secret: {env: TEST_RECORDED_SECRET}
        public_url: https://hooks.example.com/in/hubspot
      ads:
        kind: meta
        secret: {env: TEST_VENDOR_SECRET}
        verify_token: {env: TEST_VERIFY_TOKEN}
        lane: real_time
      search:
        kind: google_ads
        secret: {env: TEST_VENDOR_SECRET}
        consent: [{path: newsletter, granted_when: [please]}]
        lane_rules: [{lane: real_time, field: form_id, at_least: 40000000000}]
      survey:
        kind: typeform
        secret: {env: TEST_VENDOR_SECRET}
        consent: [{path: terms, channel: email}]
      partner:
        kind: standard_webhooks
        secret: {env: TEST_STANDARD_SECRET}
        lane: batch
      unready:
        kind: typeform
        secret: {env: TEST_SECRET_THAT_IS_NOT_SET}
      cf7: {kind: contact_form_7, consent: [{path: acceptance-email, channel: email}]}
      gravity: {kind: gravity_forms}
      wpforms: {kind: wpforms}
"""
KEYED = ("website", "script", "contact", "plain_form", "cf7", "gravity", "wpforms")
HUBSPOT_URL = "https://leads.example.com/hooks/crm"
CREATION = {
    "eventId": 31,
    "subscriptionId": 25,
    "portalId": 33,
    "occurredAt": 1768478399000,
    "subscriptionType": "contact.creation",
    "attemptNumber": 0,
    "objectId": 1246965,
}
LEADGEN = {"leadgen_id": "444", "form_id": "555", "page_id": "666", "created_time": 1768478399}
META = {"object": "page", "entry": [{"id": "666", "time": 1, "changes": [{"field": "leadgen", "value": LEADGEN}]}]}
GOOGLE = {
    "lead_id": "L1",
    "user_column_data": [{"column_id": "EMAIL", "string_value": "zoe@example.com"},
                         {"column_id": "newsletter", "string_value": "Please"}],
    "form_id": 40000000000,
    "google_key": SECRET,
    "is_test": False,
}  # fmt: skip
TYPEFORM = {
    "event_id": "E1",
    "event_type": "form_response",
    "form_response": {
        "form_id": "F",
        "token": "T1",
        "answers": [
            {"type": "email", "email": "zoe@example.com", "field": {"id": "a", "ref": "mail"}},
            {"type": "boolean", "boolean": True, "field": {"id": "b", "ref": "terms"}},
        ],
    },
}
PARTNER = {"type": "lead.created", "data": {"email": "zoe@example.com"}}
FORM_HEADERS = {"Content-Type": "application/x-www-form-urlencoded"}
BROWSER = {**FORM_HEADERS, "Accept": "text/html,application/xhtml+xml", "User-Agent": "Firefox"}


@dataclass(frozen=True)
class Sources:
    """A running door with a source of every kind, and the keys of those that need one."""

    capture: Capture
    keys: dict[str, str]
    engine: sa.Engine

    def send(self, source: str, body: Any, headers: dict[str, str] | None = None, *, query: str = "") -> httpx.Response:
        """A signed kind's request, or one whose headers say it all."""
        return self.capture.client.post(
            f"/v1/in/acme/{source}{query}",
            content=body if isinstance(body, bytes) else json.dumps(body).encode(),
            headers={"Authorization": "", "Content-Type": "application/json", **(headers or {})},
        )

    def send_keyed(self, source: str, body: Any, headers: dict[str, str] | None = None) -> httpx.Response:
        """With the source's key in the address, as senders do that cannot send a header."""
        return self.send(source, body, headers, query=f"?key={self.keys[source]}")

    def rows(self) -> list[Any]:
        with self.engine.connect() as connection:
            return list(connection.execute(sa.text("select * from buffer order by source, lead_id")))

    def only_row(self) -> Any:
        [row] = self.rows()
        return row


@pytest.fixture
def source_settings(tmp_state: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A tenant with a source of every kind, and the secrets of all but one."""
    monkeypatch.setenv("TEST_VENDOR_SECRET", SECRET)
    monkeypatch.setenv("TEST_STANDARD_SECRET", STANDARD_SECRET)
    monkeypatch.setenv("TEST_VERIFY_TOKEN", "my token")
    monkeypatch.setenv("TEST_RECORDED_SECRET", recorded("hubspot_v3")["secret"])
    monkeypatch.delenv("TEST_SECRET_THAT_IS_NOT_SET", raising=False)
    return parse_settings(SOURCES_YAML, path=tmp_state / "leads.yaml")


@pytest.fixture
def sources(source_settings: Settings, database_url: str, engine: sa.Engine, clock: FrozenClock) -> Iterator[Sources]:
    with capture_service(source_settings, database_url=database_url, engine=engine, clock=clock) as running:
        yield Sources(running, {name: make_key(engine, clock, source=name) for name in KEYED}, engine)


def encoded(content: Any) -> bytes:
    return json.dumps(content).encode()


def post_hubspot(sources: Sources, *events: Any, secret: str = SECRET) -> httpx.Response:
    body = encoded(list(events))
    return sources.send("crm", body, hubspot_headers(body, secret=secret, url=HUBSPOT_URL))


def post_meta(sources: Sources, content: Any = META, *, secret: str = SECRET) -> httpx.Response:
    return sources.send("ads", encoded(content), meta_headers(encoded(content), secret=secret))


def post_google(sources: Sources, *, secret: str = SECRET, **changes: Any) -> httpx.Response:
    return sources.send("search", {**GOOGLE, "google_key": secret, **changes})


def post_typeform(sources: Sources, content: Any = TYPEFORM, *, secret: str = SECRET) -> httpx.Response:
    return sources.send("survey", encoded(content), typeform_headers(encoded(content), secret=secret))


def post_partner(sources: Sources, *, secret: str = STANDARD_SECRET, event_id: str = "msg_1") -> httpx.Response:
    return sources.send(
        "partner", encoded(PARTNER), standard_headers(encoded(PARTNER), secret=secret, event_id=event_id)
    )


ACCEPTED = {"accepted": 1, "duplicate": 0}
DUPLICATE = {"accepted": 0, "duplicate": 1}


# --- signed kinds ----------------------------------------------------------------------------------------------------


def test_a_hubspot_event_is_stored_with_the_name_of_its_contact(sources: Sources) -> None:
    answer = post_hubspot(sources, CREATION)
    assert (answer.status_code, answer.json()) == (200, ACCEPTED)
    row = sources.only_row()
    assert (row.tenant, row.source, row.lane) == ("acme", "crm", "near_real_time")
    assert row.payload == CREATION
    assert row.context["reference"] == "1246965"
    assert row.context["sender_ip"] == "127.0.0.1"
    assert not {"ip", "user_agent", "quarantine"} & set(row.context)


def test_hubspots_events_of_one_request_are_leads_each(sources: Sources) -> None:
    answer = post_hubspot(sources, CREATION, {**CREATION, "eventId": 32}, {**CREATION, "attemptNumber": 1})
    assert answer.json() == {"accepted": 2, "duplicate": 1}
    assert len(sources.rows()) == 2


def test_a_hubspot_request_is_verified_at_the_address_that_hubspot_calls(sources: Sources) -> None:
    vector = recorded("hubspot_v3")
    sources.capture.clock.advance(vector["now"] - NOW.timestamp())
    answer = sources.send(
        "crm_recorded", vector["body"].encode(), vector["headers"], query="?" + vector["url"].partition("?")[2]
    )
    # Believed; its sample body is none of HubSpot's messages, which an unsigned request would not be told.
    assert answer.status_code == 422
    assert answer.json()["error"]["code"] == "wrong_shape"
    forged = sources.send("crm_recorded", vector["body"].encode(), vector["headers"], query="?e=a%40b.co&n=x%20z")
    assert forged.status_code == 401


def test_the_query_of_a_public_address_is_signed_once(sources: Sources) -> None:
    body = encoded([CREATION])
    headers = hubspot_headers(body, url=f"{HUBSPOT_URL}?team=7")
    assert sources.send("crm_with_query", body, headers, query="?team=7").json() == ACCEPTED
    assert sources.send("crm_with_query", body, headers).status_code == 401


def test_a_meta_lead_is_stored_to_be_fetched(sources: Sources) -> None:
    answer = post_meta(sources)
    assert (answer.status_code, answer.json()) == (200, ACCEPTED)
    row = sources.only_row()
    assert (row.lane, row.payload, row.context["reference"]) == ("real_time", LEADGEN, "444")


def test_metas_trial_of_the_address_is_answered_with_its_challenge(sources: Sources) -> None:
    good = {"hub.mode": "subscribe", "hub.verify_token": "my token", "hub.challenge": "1158201444"}
    answer = sources.capture.client.get("/v1/in/acme/ads", params=good)
    assert (answer.status_code, answer.text) == (200, "1158201444")
    assert answer.headers["content-type"].startswith("text/plain")
    forged = sources.capture.client.get("/v1/in/acme/ads", params={**good, "hub.verify_token": "other"})
    assert forged.status_code == 401
    assert "1158201444" not in forged.text
    assert sources.capture.client.get("/v1/in/acme/survey").status_code == 405


def test_a_google_lead_is_stored_without_the_key_and_by_rule_in_its_lane(sources: Sources) -> None:
    answer = post_google(sources)
    assert (answer.status_code, answer.json()) == (200, ACCEPTED)
    row = sources.only_row()
    assert row.payload == {name: value for name, value in GOOGLE.items() if name != "google_key"}
    assert SECRET not in json.dumps([row.payload, row.context, row.consent])
    assert row.lane == "real_time"
    [statement] = row.consent
    assert (statement["granted"], statement["field"]) == (True, "newsletter")


def test_a_trial_lead_of_googles_is_kept_and_set_aside(sources: Sources) -> None:
    assert post_google(sources, is_test=True).status_code == 200
    assert sources.only_row().context["quarantine"] == "test"


def test_a_typeform_response_is_stored_with_its_consent(sources: Sources) -> None:
    answer = post_typeform(sources)
    assert (answer.status_code, answer.json()) == (200, ACCEPTED)
    row = sources.only_row()
    assert row.payload == TYPEFORM
    assert row.consent == [{"granted": True, "purpose": "marketing", "channel": "email", "field": "terms"}]


def test_a_standard_webhook_is_stored(sources: Sources) -> None:
    answer = post_partner(sources)
    assert (answer.status_code, answer.json()) == (200, ACCEPTED)
    row = sources.only_row()
    assert (row.lane, row.payload) == ("batch", PARTNER)


def test_a_forged_request_is_refused_and_nothing_of_it_stored(sources: Sources) -> None:
    forged = [
        post_hubspot(sources, CREATION, secret="guess"),
        post_meta(sources, secret="guess"),
        post_google(sources, secret="guess"),
        post_typeform(sources, secret="guess"),
        post_partner(sources, secret="whsec_Z3Vlc3M="),
        *(
            sources.send(source, {"email": "zoe@example.com"})
            for source in ("crm", "ads", "search", "survey", "partner")
        ),
    ]
    assert {answer.status_code for answer in forged} == {401}
    assert {answer.json()["error"]["code"] for answer in forged} == {"bad_signature"}
    assert sources.rows() == []


def test_a_flood_of_forged_requests_does_not_fill_the_log(sources: Sources) -> None:
    with structlog.testing.capture_logs() as logs:
        for _ in range(20):
            post_typeform(sources, secret="guess")
        sources.capture.clock.advance(61)
        post_typeform(sources, secret="guess")
        post_partner(sources, secret="whsec_Z3Vlc3M=")
    said = [(line["source"], line["times"]) for line in logs if line["event"] == "delivery was not verified"]
    assert said == [("survey", 1), ("survey", 20), ("partner", 1)]


def test_a_key_of_ours_does_not_open_a_signed_source(sources: Sources) -> None:
    answer = sources.send("survey", TYPEFORM, {"Authorization": f"Bearer {sources.capture.key}"})
    assert (answer.status_code, sources.rows()) == (401, [])


def test_a_signed_request_is_not_believed_after_five_minutes(sources: Sources) -> None:
    body = encoded(PARTNER)
    headers = standard_headers(body)
    sources.capture.clock.advance(301)
    assert sources.send("partner", body, headers).status_code == 401
    assert sources.rows() == []


def test_a_repeated_delivery_is_known_by_its_event_whatever_else_changed(sources: Sources) -> None:
    for answer in (
        post_hubspot(sources, CREATION),
        post_meta(sources),
        post_google(sources),
        post_typeform(sources),
        post_partner(sources),
    ):
        assert answer.json() == ACCEPTED
    again = json.loads(json.dumps(META))
    again["entry"][0]["changes"][0]["value"]["created_time"] += 1
    for answer in (
        post_hubspot(sources, {**CREATION, "attemptNumber": 1}),
        post_meta(sources, again),
        post_google(sources, lead_stage="x"),
        post_typeform(sources, {**TYPEFORM, "event_id": "E2"}),
        post_partner(sources),
    ):
        assert (answer.status_code, answer.json()) == (200, DUPLICATE)
    assert len(sources.rows()) == 5
    assert post_partner(sources, event_id="msg_2").json() == ACCEPTED


def test_what_is_signed_and_cannot_be_read_stays_with_its_vendor_that_sends_it_again(sources: Sources) -> None:
    broken = b'{"entry": ['
    refused = [
        sources.send("crm", broken, hubspot_headers(broken, url=HUBSPOT_URL)),
        sources.send("ads", broken, meta_headers(broken)),
        sources.send("survey", broken, typeform_headers(broken)),
        sources.send("partner", broken, standard_headers(broken)),
    ]
    assert {(answer.status_code, answer.json()["error"]["code"]) for answer in refused} == {(400, "malformed_json")}
    assert sources.rows() == []


def test_a_value_that_cannot_be_stored_is_kept_raw_and_still_known_when_it_comes_again(sources: Sources) -> None:
    poisoned = json.loads(json.dumps(TYPEFORM))
    poisoned["form_response"]["answers"][0]["email"] = "zo\x00\ud800@example.com"
    assert post_typeform(sources, poisoned).json() == ACCEPTED
    assert post_typeform(sources, {**poisoned, "event_id": "E2"}).json() == DUPLICATE
    row = sources.only_row()
    assert row.context["quarantine"] == "unreadable_body"
    assert json.loads(row.payload["raw_body"]) == poisoned


def test_a_source_without_its_secret_is_not_ready(sources: Sources) -> None:
    body = encoded(TYPEFORM)
    answer = sources.send("unready", body, typeform_headers(body, secret=""))
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "source_not_ready")
    assert answer.headers["retry-after"]
    assert sources.rows() == []


def test_an_unknown_source_is_not_found(sources: Sources) -> None:
    assert sources.send("nobody", {}).status_code == 404
    assert sources.capture.client.post("/v1/in/globex/crm", json=[]).status_code == 404


# --- kinds with a key ------------------------------------------------------------------------------------------------


def test_a_form_is_stored_with_the_persons_address_browser_and_consent(sources: Sources) -> None:
    answer = sources.send_keyed(
        "contact", b"email=zoe%40example.com&topic=demo&consent_email=on&consent_version=v3", BROWSER
    )
    assert answer.status_code == 303
    assert answer.headers["location"] == "https://www.example.com/thanks"
    row = sources.only_row()
    assert row.payload["email"] == "zoe@example.com"
    assert (row.lane, row.context["ip"], row.context["user_agent"]) == ("real_time", "127.0.0.1", "Firefox")
    assert row.consent == [
        {"granted": True, "purpose": "marketing", "channel": "email", "field": "consent_email", "text_version": "v3"}
    ]


@pytest.mark.parametrize(
    ("asked", "sent_to"),
    [
        ("https://www.example.com/danke", "https://www.example.com/danke"),
        ("https://evil.example.com/", "https://www.example.com/thanks"),
        ("https://www.example.com/danke/../evil", "https://www.example.com/thanks"),
        ("javascript:alert(1)", "https://www.example.com/thanks"),
    ],
)
def test_a_form_sends_people_only_to_pages_of_leads_yaml(sources: Sources, asked: str, sent_to: str) -> None:
    body = httpx.QueryParams({"email": "zoe@example.com", "_redirect": asked})
    answer = sources.send_keyed("contact", str(body).encode(), BROWSER)
    assert (answer.status_code, answer.headers["location"]) == (303, sent_to)
    assert sources.only_row().payload == {"email": "zoe@example.com"}


def test_a_form_without_a_page_to_go_to_thanks(sources: Sources) -> None:
    answer = sources.send_keyed("plain_form", b"email=zoe%40example.com&_redirect=https%3A%2F%2Fevil.example", BROWSER)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/html")
    assert "Thank you" in answer.text


def test_a_script_that_posts_a_form_gets_json(sources: Sources) -> None:
    first = sources.send_keyed("contact", b"email=zoe%40example.com", FORM_HEADERS)
    again = sources.send_keyed("contact", b"email=zoe%40example.com", FORM_HEADERS)
    assert (first.status_code, first.json()["status"]) == (202, "accepted")
    assert (again.status_code, again.json()) == (200, {"lead_id": first.json()["lead_id"], "status": "duplicate"})


def test_a_form_with_a_file_keeps_its_name_and_size(sources: Sources) -> None:
    answer = sources.capture.client.post(
        f"/v1/in/acme/contact?key={sources.keys['contact']}",
        data={"email": "zoe@example.com"},
        files={"cv": ("cv.pdf", b"%PDF\x00", "application/pdf")},
        headers={"Authorization": ""},
    )
    assert answer.status_code == 202
    assert sources.only_row().payload == {"email": "zoe@example.com", "cv": {"filename": "cv.pdf", "size": 5}}


def test_a_robot_is_answered_like_a_person_and_set_aside(sources: Sources) -> None:
    answer = sources.send_keyed("contact", b"email=zoe%40example.com&website_url=x", BROWSER)
    assert answer.status_code == 303
    assert sources.only_row().context["quarantine"] == "robot"
    assert sources.send_keyed("plain_form", b"email=a%40example.com&phone2=1", FORM_HEADERS).status_code == 202
    assert [row.context["quarantine"] for row in sources.rows()] == ["robot", "robot"]


def test_a_rule_sends_a_form_into_another_lane(sources: Sources) -> None:
    sources.send_keyed("contact", b"email=zoe%40example.com&topic=Newsletter", FORM_HEADERS)
    assert sources.only_row().lane == "batch"


def test_a_form_that_holds_a_nul_character_is_kept_raw(sources: Sources) -> None:
    assert sources.send_keyed("contact", b"email=a%00b", FORM_HEADERS).status_code == 202
    row = sources.only_row()
    assert (row.payload, row.context["quarantine"]) == ({"raw_body": '{"email": "a\\u0000b"}'}, "unreadable_body")


def test_json_and_its_consent_that_cannot_be_stored_are_kept_raw(sources: Sources) -> None:
    assert sources.send_keyed("script", {"email": "zoe@example.com", "consent": ["a\x00b"]}).status_code == 202
    row = sources.only_row()
    assert json.loads(row.payload["raw_body"]) == {"email": "zoe@example.com", "consent": ["a\x00b"]}
    assert (row.consent, row.context["quarantine"]) == ([], "unreadable_body")


def test_json_is_stored_with_its_consent(sources: Sources) -> None:
    lead = {"email": "zoe@example.com", "consent": {"granted": True}}
    first, again = sources.send_keyed("script", lead), sources.send_keyed("script", lead)
    assert [first.status_code, again.status_code] == [202, 200]
    row = sources.only_row()
    assert (row.lane, row.payload, row.consent) == ("real_time", {"email": "zoe@example.com"}, [{"granted": True}])


def test_json_that_cannot_be_read_is_refused_to_a_sender_that_can_mend_it(sources: Sources) -> None:
    assert sources.send_keyed("script", b"{").json()["error"]["code"] == "malformed_json"
    assert sources.send_keyed("script", b"[]").json()["error"]["code"] == "wrong_shape"


def test_json_as_deep_as_can_be_read_is_kept_and_deeper_is_refused(sources: Sources) -> None:
    for depth, status in ((190, 202), (900, 400), (990, 400), (995, 400), (50_000, 400)):
        body = b'{"a":' * depth + b"1" + b"}" * depth
        assert sources.send_keyed("script", body).status_code == status, depth
    assert sources.only_row().context["quarantine"] == "unreadable_body"


def test_contact_form_7s_broken_json_is_kept_and_answered_like_a_lead(sources: Sources) -> None:
    broken = b'{"your-email": "zoe@example.com", "your-message": "She said "hello""}'
    answer = sources.send_keyed("cf7", broken, {"Content-Type": "text/plain", "User-Agent": "WordPress/6.5"})
    assert (answer.status_code, answer.json()["status"]) == (202, "accepted")
    row = sources.only_row()
    assert row.payload == {"raw_body": broken.decode()}
    assert row.context["quarantine"] == "unreadable_body"
    assert sources.send_keyed("cf7", broken, {"Content-Type": "text/plain"}).status_code == 200


def test_contact_form_7_is_stored_with_its_consent_and_the_servers_address_apart(sources: Sources) -> None:
    lead = {"your-email": "zoe@example.com", "acceptance-email": "1", "_remote_ip": "192.0.2.7"}
    answer = sources.send_keyed("cf7", lead, {"User-Agent": "WordPress/6.5"})
    assert answer.status_code == 202
    row = sources.only_row()
    assert row.payload == lead
    assert (row.context["ip"], row.context["sender_ip"]) == ("192.0.2.7", "127.0.0.1")
    assert row.context["sender_agent"] == "WordPress/6.5"
    assert "user_agent" not in row.context
    assert row.consent[0]["granted"] is True


def test_gravity_forms_and_wpforms_are_stored(sources: Sources) -> None:
    entry = {"id": "7", "form_id": "3", "ip": "192.0.2.8", "1.3": "Zoë", "1.6": "Kaya", "3": "zoe@example.com"}
    assert sources.send_keyed("gravity", entry).status_code == 202
    assert sources.send_keyed("wpforms", b"email=zoe%40example.com", FORM_HEADERS).status_code == 202
    gravity, wpforms = sources.rows()
    assert (gravity.source, gravity.payload, gravity.context["ip"]) == ("gravity", entry, "192.0.2.8")
    assert (wpforms.source, wpforms.payload) == ("wpforms", {"email": "zoe@example.com"})


@pytest.mark.parametrize("source", KEYED)
def test_a_source_with_a_key_takes_only_its_own(sources: Sources, source: str) -> None:
    lead = {"email": "zoe@example.com"}
    assert sources.send(source, lead).status_code == 401
    assert sources.send(source, lead, query="?key=lp_guess").status_code == 401
    for other in set(KEYED) - {source}:
        assert sources.send(source, lead, query=f"?key={sources.keys[other]}").status_code == 403, other
    assert sources.rows() == []


def test_a_body_of_another_kind_is_not_taken(sources: Sources) -> None:
    for source, media_type in (("script", "text/plain"), ("contact", "application/json"), ("cf7", "application/xml")):
        answer = sources.send_keyed(source, b"{}", {"Content-Type": media_type})
        assert answer.status_code == 415, source
    assert sources.send("survey", b"{}", {"Content-Type": "text/plain"}).status_code == 415


def test_the_received_time_is_the_doors(sources: Sources) -> None:
    post_typeform(sources)
    assert sources.only_row().received_at == NOW
