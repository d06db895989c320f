"""Google's lead forms: the key in the body, the answers by column, trial leads."""

import json
from typing import Any

import pytest

from leads_pipeline.sources.google_ads import GoogleAdsLeads
from leads_pipeline.sources.port import Delivery, Doubt, Post, Quarantine, Secrets, Unreadable
from leads_pipeline_tests.sources.contract import SignedContract
from leads_pipeline_tests.sources.signing import delivery, recorded, sample

GOOGLE = GoogleAdsLeads()
LEAD: dict[str, Any] = json.loads(recorded("google_lead_form")["body"])


def arrived(**changes: Any) -> Delivery:
    return delivery(json.dumps({**LEAD, **changes}))


class TestGoogleAdsLeads(SignedContract):
    """The key stands in the body; nothing says that the rest of it was not changed."""

    kind = GOOGLE
    secrets = Secrets(signing="gk")

    def good(self) -> Delivery:
        return arrived()

    def signed_with_nothing(self) -> Delivery:
        return arrived(google_key="")


def read(**changes: Any) -> Post:
    posts = GOOGLE.read(arrived(**changes), TestGoogleAdsLeads.options)
    assert not isinstance(posts, Unreadable)
    [post] = posts
    return post


def test_the_sample_is_believed_by_its_key() -> None:
    assert GOOGLE.verify(sample("google_lead_form").delivery, sample("google_lead_form").secrets) is None


@pytest.mark.parametrize("key", ["gk2", "GK", "g", " gk", "gk\x00"])
def test_another_key_is_not_believed(key: str) -> None:
    assert GOOGLE.verify(arrived(google_key=key), TestGoogleAdsLeads.secrets) is Doubt.BAD_SIGNATURE


@pytest.mark.parametrize("key", ["", None, True, 1, ["gk"], {"gk": "gk"}])
def test_no_key_is_not_believed(key: Any) -> None:
    assert GOOGLE.verify(arrived(google_key=key), TestGoogleAdsLeads.secrets) is Doubt.NO_SIGNATURE
    assert GOOGLE.verify(delivery(b"[]"), TestGoogleAdsLeads.secrets) is Doubt.NO_SIGNATURE


def test_a_lead_with_an_odd_value_is_believed_by_its_key() -> None:
    for odd in ("\ud800", "a\x00b", 10**4_000):
        assert GOOGLE.verify(arrived(gcl_id=odd), TestGoogleAdsLeads.secrets) is None
    assert GOOGLE.verify(delivery(b'{"n": 1e999, "google_key": "gk"}'), TestGoogleAdsLeads.secrets) is None


def test_the_key_is_not_kept() -> None:
    post = read()
    assert "google_key" not in post.payload
    assert post.payload == {name: value for name, value in LEAD.items() if name != "google_key"}


def test_a_lead_is_known_by_its_id_whatever_else_changes() -> None:
    assert read().event_id == "L1" == read(lead_stage="x").event_id
    assert read(lead_id=None).event_id is None


def test_a_trial_lead_is_kept_and_set_aside() -> None:
    assert read(is_test=True).quarantine is Quarantine.TEST
    assert read(is_test=False).quarantine is None


def test_answers_show_by_their_columns() -> None:
    columns = [
        *LEAD["user_column_data"],
        {"column_id": "what_size", "string_value": "M"},
        {"column_id": "what_size", "string_value": "L"},
        {"column_name": "Only a name", "string_value": "x"},
        {"column_id": "lead_id", "string_value": "what the person typed"},
        {"column_id": "NOTHING"},
        "odd",
    ]
    fields = GOOGLE.fields(read(user_column_data=columns).payload)
    assert (fields["EMAIL"], fields["FULL_NAME"]) == ("zoe@example.com", "Zoë")
    assert (fields["form_id"], fields["campaign_id"], fields["gcl_id"]) == (40000000000, 123, "x")
    assert fields["what_size"] == ["M", "L"]
    assert fields["Only a name"] == "x"
    assert (fields["lead_id"], fields["user_column_data.lead_id"]) == ("L1", "what the person typed")
    assert "NOTHING" not in fields
    assert (GOOGLE.usual["EMAIL"], GOOGLE.usual["lead_id"]) == ("email", "external_id")
