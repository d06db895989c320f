"""`leads sources`, as somebody who writes a mapping uses it."""

import json
import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from click.testing import CliRunner, Result

from leads_pipeline.capture.source_posts import PREFIX
from leads_pipeline.cli import cli, main
from leads_pipeline.clock import SystemClock
from leads_pipeline.config import DATABASE_URL_VARIABLE, parse_settings
from leads_pipeline.steps.validated_leads import validate_leads
from leads_pipeline_tests.defs.rows import Flow
from leads_pipeline_tests.steps.rows import chunk, raw_lead

YAML = """
version: 1
tenants:
  acme:
    country: AT
    sources:
      contact_form:
        kind: contact_form_7
        lane_rules: [{lane: real_time, field: budget, at_least: 10000}]
        mapping:
          email: [your-email, backup-email]
          first_name: {path: your-name, transform: [first_word]}
          last_name: {path: your-name, transform: [after_first_word]}
          lead_source: {default: contact form}
        consent:
          - {path: acceptance, channel: email, text_version: "2026-01", legal_basis: consent}
      ads: {kind: meta, secret: {env: H2_META_SECRET}, access_token: {env: H2_META_TOKEN}}
      search: {kind: google_ads, secret: {env: H2_GOOGLE_KEY}}
      page: {kind: form}
      website: {lane: real_time}
verification:
  value: [{points: 30, when: {field: budget, at_least: 10000}}, {points: 20, when: {present: [phone]}}]
  triage: [{tier: full, when: {value_at_least: 50}}]
"""
POST = {
    "your-name": "Anna Maria Berg",
    "your-email": "anna@firm.com",
    "backup-email": "",
    "tel": "0664 1234567",
    "budget": "12,000",
    "acceptance": "1",
    "_wpcf7_unit_tag": "wpcf7-f12-p7-o1",
}
NAMED = {"object": "page", "entry": [{"changes": [{"field": "leadgen", "value": {"leadgen_id": "77"}}]}]}

Leads = Callable[..., Result]


@pytest.fixture
def leads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Leads:
    """Run ``leads sources`` without any database."""
    (tmp_path / "leads.yaml").write_text(YAML)
    monkeypatch.setenv(DATABASE_URL_VARIABLE, "postgresql://nobody@127.0.0.1:1/nowhere")

    def run(*arguments: str, stdin: str | bytes | None = None) -> Result:
        return CliRunner().invoke(cli, ["--config", str(tmp_path / "leads.yaml"), "sources", *arguments], input=stdin)

    return run


def tried(leads: Leads, source: str, body: Any, *options: str) -> list[dict[str, Any]]:
    result = leads("test", source, "-", "--json", *options, stdin=body if isinstance(body, str) else json.dumps(body))
    assert result.exit_code == 0, result.output
    return json.loads(result.output)


def test_a_list_shows_every_source_with_the_address_that_the_door_serves_and_the_secrets_that_are_missing(
    leads: Leads, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("H2_META_TOKEN", "very-secret")
    result = leads("list")

    assert result.exit_code == 0
    assert "/v1/in/acme/contact_form" in result.output
    assert re.search(r"ads .* meta .* signature .* not set: H2_META_SECRET", result.output)
    assert "very-secret" not in result.output
    found = {item["source"]: item for item in json.loads(leads("list", "--json").output)}
    assert found["contact_form"]["address"] == f"{PREFIX}acme/contact_form"
    assert (found["ads"]["missing_secrets"], found["page"]["proof"]) == (["H2_META_SECRET"], "API key")
    assert found["search"]["proof"] == "key in the body"  # Google signs nothing


def test_a_payload_is_shown_field_by_field_with_what_it_becomes(leads: Leads) -> None:
    [post] = tried(leads, "contact_form", POST)

    uses = {field["name"]: (field["used_for"], field["taken"]) for field in post["fields"]}
    assert uses == {
        "your-name": (["first_name", "last_name"], True),
        "your-email": (["email"], True),
        "backup-email": (["email"], False),
        "tel": (["phone"], True),
        "budget": (["lane"], True),
        "acceptance": (["consent"], True),
        "_wpcf7_unit_tag": ([], False),
    }
    assert post["lane"] == "real_time"
    assert post["consent"] == [
        {
            "granted": True, "purpose": "marketing", "channel": "email", "field": "acceptance",
            "legal_basis": "consent", "text_version": "2026-01", "understood": True,
        }
    ]  # fmt: skip
    assert post["lead"] == {
        "email": "anna@firm.com",
        "phone": "+436641234567",
        "phone_region": "AT",
        "phone_type": "mobile",
        "phone_time_zone": "Europe/Vienna",
        "first_name": "Anna",
        "last_name": "Maria Berg",
        "full_name": "Anna Maria Berg",
        "attribution": {"lead_source": "contact form"},
    }


def test_the_same_is_readable_for_people(leads: Leads, tmp_path: Path) -> None:
    file = tmp_path / "post.json"
    file.write_text(json.dumps({**POST, "note": "[bold]not markup[/bold]"}))
    result = leads("test", "contact_form", str(file))

    assert result.exit_code == 0
    for expected in (
        "acme/contact_form is of kind contact_form_7: 1 post",
        "lane real_time",
        "consent given: purpose marketing, channel email",
        "first_name, last_name",
        "email, if filled and nothing better is",
        "kept as sent",
        "[bold]not markup[/bold]",
        "+436641234567",
        "Verification: tier full, value 50, risk 0",
    ):
        assert expected in result.output, expected


def test_what_makes_a_lead_a_risk_is_told_with_its_points(leads: Leads, tmp_path: Path) -> None:
    result = leads("test", "contact_form", "-", stdin=json.dumps({**POST, "your-email": "info@mailinator.com"}))

    assert "tier full, value 50, risk 50 (disposable_mailbox 40, role_mailbox 10)" in result.output


def test_what_is_shown_is_what_validation_stores(leads: Leads, engine: sa.Engine, tmp_path: Path) -> None:
    [shown] = tried(leads, "contact_form", POST)
    raw_lead(engine, POST, source="contact_form")
    validate_leads(engine, chunk(), settings=parse_settings(YAML, path=tmp_path / "leads.yaml"))
    with engine.connect() as connection:
        [stored] = connection.execute(sa.text("select * from validated_leads")).mappings()
    assert {name: stored[name] for name in shown["lead"]} == shown["lead"]


def test_a_useless_payload_is_shown_with_every_reason(leads: Leads) -> None:
    [post] = tried(leads, "contact_form", {"your-email": "anna.at.firm", "acceptance": "perhaps"})

    assert post["lead"] is None
    assert [reason["rule"] for reason in post["rejected_for"]] == ["nothing_identifying", "email_invalid"]
    assert (post["consent"][0]["granted"], post["consent"][0]["understood"]) == ("perhaps", False)
    text = leads("test", "contact_form", "-", stdin=json.dumps({"your-email": "anna.at.firm"})).output
    assert "Rejected:" in text
    assert "Send an address of the form name@domain." in text


def test_a_broken_body_of_a_form_is_shown_as_what_it_will_be(leads: Leads) -> None:
    [post] = tried(leads, "contact_form", '{"your-name": "Anna "the" Berg"}', "--content-type", "text/plain")

    assert [reason["rule"] for reason in post["rejected_for"]] == ["unreadable_body"]


def test_a_form_in_the_browsers_own_encoding_is_recognised(leads: Leads) -> None:
    [post] = tried(leads, "page", "email=anna%40firm.com&fname=Anna")
    assert post["lead"]["email"] == "anna@firm.com"
    [robot] = tried(leads, "page", "email=anna%40firm.com&website_url=http%3A%2F%2Fspam")
    assert [reason["rule"] for reason in robot["rejected_for"]] == ["robot"]


def test_a_lead_that_is_only_named_shows_what_will_be_asked_and_then_what_the_answer_becomes(
    leads: Leads, tmp_path: Path
) -> None:
    [post] = tried(leads, "ads", NAMED)
    assert post["fetched_from"].startswith("https://graph.facebook.com/77?fields=")
    assert (post["event_id"], post["lead"], post["rejected_for"]) == ("77", None, [])

    answer = tmp_path / "answer.json"
    answer.write_text(json.dumps({"id": "77", "field_data": [{"name": "email", "values": ["anna@firm.com"]}]}))
    [post] = tried(leads, "ads", NAMED, "--fetched", str(answer))
    assert (post["lead"]["email"], post["fetched_from"]) == ("anna@firm.com", None)


def test_a_json_lead_without_a_mapping_is_shown_as_it_is(leads: Leads) -> None:
    [post] = tried(leads, "website", {"email": "anna@firm.com", "utm": {"x": 1}, "consent": {"granted": True}})
    assert {field["name"]: field["used_for"] for field in post["fields"]} == {"email": ["email"], "utm.x": []}
    assert post["consent"] == [{"granted": True, "understood": True}]


@pytest.mark.parametrize(
    ("source", "body", "says"),
    [
        ("ads", '{"a', "the door would refuse it (malformed_json)"),
        ("ads", "[1]", "the door would refuse it (wrong_shape)"),
        ("ads", '{"object": "page", "entry": []}', "holds no lead"),
        ("website", "[1]", "the door would refuse it (wrong_shape)"),
    ],
)
def test_what_cannot_be_read_exits_with_1_and_says_why(
    leads: Leads, tmp_path: Path, capsys: pytest.CaptureFixture[str], source: str, body: str, says: str
) -> None:
    file = tmp_path / "body"
    file.write_text(body)
    with pytest.raises(SystemExit) as ended:
        main(["--config", str(tmp_path / "leads.yaml"), "sources", "test", source, str(file)])
    assert ended.value.code == 1
    assert says in capsys.readouterr().err


def test_an_answer_that_is_no_object_is_refused(leads: Leads, tmp_path: Path) -> None:
    answer = tmp_path / "answer.json"
    for text, says in (("[1]", "must hold the JSON object"), ("{", "is not JSON")):
        answer.write_text(text)
        result = leads("test", "ads", "-", "--fetched", str(answer), stdin=json.dumps(NAMED))
        assert says in str(result.exception)


def test_a_source_that_is_not_there_is_named_with_those_that_are(leads: Leads) -> None:
    result = leads("test", "nope", "-", stdin="{}")
    assert result.exit_code == 2
    assert "it has: contact_form, ads, search, page, website" in result.output


@pytest.fixture
def stored(leads: Leads, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Leads:
    monkeypatch.setenv(DATABASE_URL_VARIABLE, database_url)
    return leads


def test_the_fields_of_a_source_are_shown_with_their_share_and_what_changed(
    stored: Leads, engine: sa.Engine, tmp_path: Path
) -> None:
    assert "No post of acme/website has been validated yet." in stored("fields", "website").output
    settings = parse_settings(YAML, path=tmp_path / "leads.yaml")
    now = SystemClock().now()
    for days, posts in (
        (3, [{"email": "a@firm.com", "phone": "1"}] * 25),
        (0, [{"email": "a@firm.com", "x": "1"}] * 25),
    ):
        for post in posts:
            raw_lead(engine, post)
        validate_leads(engine, chunk(now=now - timedelta(days=days)), settings=settings)

    rows = {row["field"]: row for row in json.loads(stored("fields", "website", "--json").output)}
    assert (rows["email"]["used_for"], rows["email"]["seen"], rows["email"]["share"]) == ("email", 50, 1.0)
    assert (rows["phone"]["share"], rows["phone"]["change"]) == (0.5, "25 posts came without it")
    assert (rows["x"]["used_for"], rows["x"]["change"]) == (None, "new, used for nothing")
    text = stored("fields", "website").output
    assert "50 posts of acme/website" in text
    assert "new, used for nothing" in text


def test_the_last_day_is_counted_on_demand(stored: Leads, engine: sa.Engine) -> None:
    with engine.begin() as connection:
        flow = Flow(connection, SystemClock().now() - timedelta(hours=1))
        flow.captured(1_200)
        flow.insert("capture_batches", captured=7, committed_at=SystemClock().now() - timedelta(days=2))
    found = {item["source"]: item for item in json.loads(stored("list", "--counts", "--json").output)}
    assert (found["website"]["last_day"], found["ads"]["last_day"]) == (1_200, 0)
    assert "1,200" in stored("list", "--counts").output
