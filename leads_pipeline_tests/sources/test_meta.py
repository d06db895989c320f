"""Meta's lead ads: the trial of the address, the signature, and the lead that is asked for afterwards."""

import json
from dataclasses import replace
from typing import Any

import pytest

from leads_pipeline.sources.meta import LEAD_FIELDS, MetaLeads
from leads_pipeline.sources.port import Delivery, Doubt, Fault, Post, Secrets, Unreadable, with_fetched
from leads_pipeline_tests.sources.contract import BodySignedContract
from leads_pipeline_tests.sources.signing import SECRET, delivery, meta_headers, sample

VALUE = {
    "leadgen_id": "444444444444",
    "form_id": "555",
    "page_id": "666",
    "ad_id": "777",
    "adgroup_id": "888",
    "created_time": 1768478399,
}
ANSWER = {
    "id": "444444444444",
    "created_time": "2026-01-15T11:59:59+0000",
    "form_id": "555",
    "ad_id": "777",
    "campaign_name": "Winter",
    "field_data": [
        {"name": "email", "values": ["zoe@example.com"]},
        {"name": "full_name", "values": ["Zoë Kaya"]},
        {"name": "which_products?", "values": ["a", "b"]},
        {"name": "page_id", "values": ["what the person typed"]},
        {"name": "empty", "values": []},
    ],
}


def message(*values: Any, field: str = "leadgen") -> dict[str, Any]:
    changes = [{"field": field, "value": value} for value in values]
    return {"object": "page", "entry": [{"id": "666", "time": 1768478399, "changes": changes}]}


def signed(content: Any) -> Delivery:
    body = json.dumps(content).encode()
    return delivery(body, meta_headers(body))


class TestMetaLeads(BodySignedContract):
    kind = MetaLeads()
    secrets = Secrets(signing=SECRET, verify_token="my token")
    signature_headers = ("x-hub-signature-256",)

    def good(self) -> Delivery:
        return signed(message(VALUE))

    def signed_with_nothing(self) -> Delivery:
        return delivery(b"{}", meta_headers(b"{}", secret=""))


META = MetaLeads()


def read(content: Any) -> list[Post]:
    posts = META.read(signed(content), TestMetaLeads.options)
    assert not isinstance(posts, Unreadable)
    return posts


def test_the_sample_is_believed_on_its_raw_bytes() -> None:
    arrived, secrets = sample("meta_x_hub_256").delivery, sample("meta_x_hub_256").secrets
    assert META.verify(arrived, secrets) is None
    unescaped = json.dumps(json.loads(arrived.body), ensure_ascii=False).encode()
    assert META.verify(replace(arrived, body=unescaped), secrets) is Doubt.BAD_SIGNATURE


def trial(query: str) -> str | Doubt | None:
    url = f"https://leads.example.com/v1/in/acme/ads?{query}"
    return META.challenge(delivery(b"", method="GET", url=url), TestMetaLeads.secrets)


def test_whoever_knows_the_verify_token_gets_the_challenge_back() -> None:
    assert trial("hub.mode=subscribe&hub.verify_token=my%20token&hub.challenge=1158201444") == "1158201444"


@pytest.mark.parametrize(
    "query",
    [
        "",
        "hub.mode=subscribe&hub.challenge=1",
        "hub.mode=subscribe&hub.verify_token=&hub.challenge=1",
        "hub.mode=subscribe&hub.verify_token=other&hub.challenge=1",
        "hub.mode=unsubscribe&hub.verify_token=my%20token&hub.challenge=1",
    ],
)
def test_nobody_else_gets_it(query: str) -> None:
    assert isinstance(trial(query), Doubt)


def test_a_source_without_a_verify_token_answers_nobody() -> None:
    url = "https://leads.example.com/v1/in/acme/ads?hub.mode=subscribe&hub.verify_token=&hub.challenge=1"
    assert isinstance(META.challenge(delivery(b"", method="GET", url=url), Secrets(signing=SECRET)), Doubt)


def test_each_leadgen_change_is_a_post_known_by_its_lead() -> None:
    first, second = read(message(VALUE, {**VALUE, "leadgen_id": 9}))
    assert (first.payload, first.event_id, first.reference) == (VALUE, "444444444444", "444444444444")
    assert (second.event_id, second.reference) == ("9", "9")


def test_changes_that_are_no_leads_are_no_posts() -> None:
    assert read(message({"item": "post"}, field="feed")) == []
    assert read({"object": "page", "entry": []}) == []
    assert read({"object": "page", "entry": [{"id": "1", "messaging": []}]}) == []


@pytest.mark.parametrize(
    "content", [[], {}, {"entry": {}}, {"entry": [1]}, {"entry": [{"changes": [1]}]}, message("x")]
)
def test_what_is_signed_and_of_another_shape_stays_with_meta(content: Any) -> None:
    found = META.read(signed(content), TestMetaLeads.options)
    assert isinstance(found, Unreadable)
    assert found.fault is Fault.WRONG_SHAPE


def test_broken_json_stays_with_meta() -> None:
    found = META.read(delivery(b'{"entry": ['), TestMetaLeads.options)
    assert isinstance(found, Unreadable)
    assert found.fault is Fault.MALFORMED_JSON


def test_the_answers_that_were_fetched_show_by_the_names_of_their_questions() -> None:
    fields = META.fields(with_fetched(VALUE, ANSWER))
    assert fields["email"] == "zoe@example.com"
    assert fields["full_name"] == "Zoë Kaya"
    assert fields["which_products?"] == ["a", "b"]
    assert fields["campaign_name"] == "Winter"
    assert fields["leadgen_id"] == "444444444444"
    assert fields["created_time"] == VALUE["created_time"]
    assert "empty" not in fields


def test_an_answer_cannot_pass_for_what_meta_says() -> None:
    fields = META.fields(with_fetched(VALUE, ANSWER))
    assert fields["page_id"] == "666"
    assert fields["field_data.page_id"] == "what the person typed"


def test_all_that_is_read_of_an_answer_is_asked_for() -> None:
    assert {"field_data", "form_id", "ad_id", "created_time"} <= set(LEAD_FIELDS)
