"""Validation reads each post by its source's kind and mapping, and remembers which fields came."""

import threading
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from leads_pipeline.config import Settings, parse_settings
from leads_pipeline.domain.lead import FIELD_NAMES
from leads_pipeline.domain.rules import QUARANTINES, RULES, Effect
from leads_pipeline.sources.port import Quarantine
from leads_pipeline.steps.validated_leads import validate_leads
from leads_pipeline.storage import schema
from leads_pipeline.storage.source_fields import MAX_FIELDS, OTHER, POSTS, kept_name, known_fields
from leads_pipeline_tests.conftest import LEADS_YAML, NOW
from leads_pipeline_tests.steps.rows import chunk, raw_lead, rows_of

SOURCES = """
      partner:
        lane: near_real_time
        lane_rules: [{lane: real_time, field: budget, at_least: 1000}]
        mapping:
          email: contact.mail
          first_name: {path: contact.who, transform: [first_word]}
          last_name: {path: contact.who, transform: [after_first_word]}
          lead_source: {default: partner}
        consent: [{path: ok, text_version_path: text}]
      ads: {kind: meta, secret: {env: META_SECRET}}
"""


@pytest.fixture
def settings(settings: Settings) -> Settings:
    text = LEADS_YAML.replace("    destinations: [hubspot]", SOURCES.rstrip() + "\n    destinations: [hubspot]", 1)
    return parse_settings(text, path=settings.path)


def only(engine: sa.Engine, table: sa.Table, **where: object) -> dict[str, Any]:
    [row] = rows_of(engine, table, **where)
    return row


def seen(engine: sa.Engine, source: str) -> dict[str, tuple[str | None, int]]:
    with engine.connect() as connection:
        return {
            item.field: (item.used_for, item.seen) for item in known_fields(connection, tenant="acme", source=source)
        }


def test_a_sources_mapping_makes_its_posts_canonical(engine: sa.Engine, settings: Settings) -> None:
    post = {
        "contact": {"mail": "anna@firm.com", "who": "Anna Maria Berg"},
        "email": "ignored@firm.com",
        "colour": "red",
    }
    raw_lead(engine, post, source="partner")

    assert validate_leads(engine, chunk(), settings=settings).passed == 1
    lead = only(engine, schema.validated_leads)
    assert (lead["email"], lead["first_name"], lead["last_name"]) == ("anna@firm.com", "Anna", "Maria Berg")
    assert lead["attribution"] == {"lead_source": "partner"}
    assert only(engine, schema.raw_leads)["payload"] == post


def test_a_mapping_that_is_mended_serves_a_lead_that_is_judged_again(engine: sa.Engine, settings: Settings) -> None:
    raw_lead(engine, {"contact": {"mail": "anna@firm.com"}}, source="website")
    assert validate_leads(engine, chunk(), settings=settings).counts == {"rejected": 1}
    mended = parse_settings(
        LEADS_YAML.replace("website: {lane: real_time, priority: 60}", "website: {mapping: {email: contact.mail}}"),
        path=settings.path,
    )
    with engine.begin() as connection:
        connection.execute(
            sa.text(
                "insert into pending select 'validated_leads', lead_id, tenant, 'batch', 2, :now, :now from raw_leads"
            ),
            {"now": NOW},
        )

    assert validate_leads(engine, chunk(), settings=mended).passed == 1
    assert only(engine, schema.validated_leads)["email"] == "anna@firm.com"


def test_a_vendors_post_is_read_as_its_kind_reads_it(engine: sa.Engine, settings: Settings) -> None:
    answers = [{"name": "email", "values": ["anna@firm.com"]}, {"name": "full_name", "values": ["Anna Berg"]}]
    raw_lead(engine, {"leadgen_id": "1", "fetched": {"id": "1", "field_data": answers}}, source="ads")

    assert validate_leads(engine, chunk(), settings=settings).passed == 1
    lead = only(engine, schema.validated_leads)
    assert (lead["email"], lead["last_name"], lead["external_id"]) == ("anna@firm.com", "Berg", "1")


@pytest.mark.parametrize("source", ["website", "partner", "ads", "gone"])
def test_a_row_of_a_file_is_canonical_whatever_its_source_is(
    engine: sa.Engine, settings: Settings, source: str
) -> None:
    raw_lead(engine, {"email": "anna@firm.com", "contact.who": "x"}, source=source, context={"row": 7})

    assert validate_leads(engine, chunk(), settings=settings).passed == 1
    assert only(engine, schema.validated_leads)["email"] == "anna@firm.com"
    assert seen(engine, source) == {}, "a file's columns are its own"


@pytest.mark.parametrize("reason", list(Quarantine))
def test_a_lead_that_was_set_aside_is_rejected_for_that_and_not_read(
    engine: sa.Engine, settings: Settings, reason: Quarantine
) -> None:
    raw_lead(engine, {"email": "anna@firm.com"}, context={"quarantine": reason})

    assert validate_leads(engine, chunk(), settings=settings).counts == {"rejected": 1}
    [found] = only(engine, schema.rejected_leads)["reasons"]
    assert (found["rule"], found["field"]) == (reason, "lead")
    assert found["remedy"]
    assert seen(engine, "website") == {}


def test_every_reason_to_set_a_lead_aside_has_a_rule_that_rejects() -> None:
    assert set(Quarantine) == QUARANTINES
    assert {rule.name for rule in RULES if rule.effect is Effect.REJECTS} >= QUARANTINES


def test_a_reason_that_nobody_knows_is_a_fault_of_ours(engine: sa.Engine, settings: Settings) -> None:
    raw_lead(engine, {"email": "anna@firm.com"}, context={"quarantine": "of a later version"})

    validate_leads(engine, chunk(), settings=settings)
    assert only(engine, schema.rejected_leads)["reasons"][0]["rule"] == "validator_failed"


def test_a_lead_on_which_its_mapping_breaks_is_quarantined_alone(
    engine: sa.Engine, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    from leads_pipeline.sources.registry import KINDS

    class Breaking:
        def __getattr__(self, name: str) -> Any:
            return getattr(KINDS["json"], name)

        def fields(self, payload: dict[str, Any]) -> dict[str, Any]:
            if payload.get("poison"):
                raise RuntimeError("cannot read anna@firm.com")
            return {"email": payload["email"]}

    monkeypatch.setattr("leads_pipeline.sources.reading.KINDS", {**KINDS, "meta": Breaking()})
    poison = raw_lead(engine, {"poison": True, "email": "p@firm.com"}, source="ads")
    good = raw_lead(engine, {"email": "anna@firm.com"}, source="ads")

    assert validate_leads(engine, chunk(), settings=settings).passed == 1
    assert only(engine, schema.rejected_leads)["lead_id"] == poison
    assert only(engine, schema.validated_leads)["lead_id"] == good


def test_fields_are_counted_with_what_they_are_for(engine: sa.Engine, settings: Settings) -> None:
    raw_lead(engine, {"contact": {"mail": "a@firm.com"}, "budget": 5, "ok": "yes", "text": "v1"}, source="partner")
    raw_lead(engine, {"contact": {"mail": "b@firm.com", "fax": "1"}}, source="partner")
    raw_lead(engine, {"email": "c@firm.com", "utm": {"source": "x"}}, source="website")
    validate_leads(engine, chunk(), settings=settings)
    raw_lead(engine, {"email": "d@firm.com"}, source="website")
    later = NOW + timedelta(hours=1)
    validate_leads(engine, chunk(now=later), settings=settings)

    assert seen(engine, "partner") == {
        POSTS: (None, 2),
        "contact.mail": ("email", 2),
        "contact.fax": (None, 1),
        "budget": ("lane", 1),
        "ok": ("consent", 1),
        "text": ("consent", 1),
    }
    assert seen(engine, "website") == {POSTS: (None, 2), "email": ("email", 2), "utm.source": (None, 1)}
    with engine.connect() as connection:
        found = {item.field: item for item in known_fields(connection, source="website")}
    assert (found["email"].posts_by_then, found["email"].first_seen_at, found["email"].last_seen_at) == (2, NOW, later)
    assert (found["utm.source"].posts_by_then, found["utm.source"].last_seen_at) == (1, NOW)


@pytest.mark.parametrize("source", ["website", "partner"])
def test_what_we_keep_with_a_post_is_no_field_of_its_source(engine: sa.Engine, settings: Settings, source: str) -> None:
    raw_lead(engine, {"colour": "red", "consent_malformed": [{"granted": "perhaps"}]}, source=source)
    validate_leads(engine, chunk(), settings=settings)
    assert set(seen(engine, source)) == {POSTS, "colour"}


def test_a_chunk_that_is_not_committed_counts_nothing(engine: sa.Engine, settings: Settings) -> None:
    raw_lead(engine, {"email": "a@firm.com"})

    class Killed(BaseException):
        """Ends the transaction as the death of the process does."""

    def dying(*_args: Any, **_how: Any) -> Any:
        raise Killed

    with pytest.raises(Killed):
        validate_leads(engine, chunk(), settings=settings, validator=dying)
    assert seen(engine, "website") == {}


def test_names_that_a_sender_invents_are_bounded_and_those_in_use_stay_known(
    engine: sa.Engine, settings: Settings
) -> None:
    raw_lead(engine, {"email": "a@firm.com"})
    validate_leads(engine, chunk(), settings=settings)
    for batch in range(3):
        invented = {f"invented {batch} {number}": "x" for number in range(MAX_FIELDS - 100)}
        raw_lead(engine, {**invented, "email": "a@firm.com", "phone": "+1 415 555 2671"})
        validate_leads(engine, chunk(), settings=settings)

    found = seen(engine, "website")
    assert MAX_FIELDS <= len(found) <= MAX_FIELDS + len(FIELD_NAMES) + 2
    assert (found["email"], found["phone"]) == (("email", 4), ("phone", 3))
    assert found[OTHER] == (None, 2)
    assert found[POSTS] == (None, 4)


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("your-name", "your-name"),
        ("1.3", "1.3"),
        ("What is your budget?", "What is your budget?"),
        ("naïve field (2)", "naïve field (2)"),
        ("anna@firm.com", OTHER),
        ("+1 415 555 2671", OTHER),
        ("a|b", OTHER),
        ("<b>", OTHER),
        ("x" * 101, OTHER),
        ("", OTHER),
        ("*", OTHER),
        ("two\nlines", OTHER),
    ],
)
def test_a_name_that_may_be_a_persons_data_is_not_kept(name: str, kept: str) -> None:
    assert kept_name(name) == kept


def test_workers_with_posts_of_the_same_sources_do_not_deadlock(engine: sa.Engine, settings: Settings) -> None:
    for number in range(60):
        fields = {f"field {(number * 7 + place) % 40}": "x" for place in range(20)}
        raw_lead(engine, {**fields, "email": "a@firm.com"}, source=("website", "webinar", "partner")[number % 3])
    errors: list[BaseException] = []

    def work() -> None:
        try:
            while validate_leads(engine, chunk(limit=3), settings=settings).taken:
                pass
        except BaseException as error:  # noqa: BLE001 - shown by the assertion below
            errors.append(error)

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert errors == []
    assert [seen(engine, source)[POSTS][1] for source in ("website", "webinar", "partner")] == [20, 20, 20]
