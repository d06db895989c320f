"""What a lead's journey tells of who it was taken for."""

import json
from uuid import UUID

import pytest
import sqlalchemy as sa

from leads_pipeline.config import Settings
from leads_pipeline.domain.ids import LeadId
from leads_pipeline.steps.match_reviews import accept
from leads_pipeline.storage import schema
from leads_pipeline.storage.journey import JourneyEvent, lead_journey
from leads_pipeline_tests.steps.identity_play import Play
from leads_pipeline_tests.steps.rows import rows_of

ANNA = {"full_name": "Anna Kowalczyk", "email": "anna@northwind.com", "company": "Northwind"}
GREY = {"full_name": "Anna Kowalczyk", "email": "a.kowalczyk@northwind.com", "company": "Northwind"}
BERT = {"full_name": "Bertil Quist", "email": "b.quist@harbor.com", "company": "Harbor"}


@pytest.fixture
def play(engine: sa.Engine, settings: Settings) -> Play:
    return Play(engine, settings)


def told(play: Play, lead: UUID, *tables: str) -> list[JourneyEvent]:
    with play.engine.connect() as connection:
        found = lead_journey(connection, LeadId(lead))
    assert found is not None
    return [event for event in found.events if event.table in tables]


def test_a_merge_and_its_undo_are_told_to_both_sides_although_they_are_apart_again(play: Play) -> None:
    anna, bert = play.arrive(**ANNA), play.arrive(**BERT)
    contacts = play.contact_of()
    merged = play.merge(anna, bert, reason="one desk")
    undone = play.undo(merged.merge_id, person="ada")
    events = told(play, bert, "merge_log")
    assert [event.event for event in events] == ["its contacts were merged", "a decision was taken back"]
    assert events[0].details["moved"] is True
    assert (events[0].details["reason"], events[0].details["undone_by"]) == ("one desk", str(undone.merge_id))
    assert (events[1].details["actor"], events[1].details["undoes"]) == ("person:ada", str(merged.merge_id))
    assert {events[0].details["contact"], events[0].details["other_contact"]} == set(map(str, contacts.values()))
    assert [event.event for event in told(play, anna, "merge_log")] == ["its contacts were merged"]
    (kept, linked) = sorted(told(play, anna, "identity_links"), key=lambda event: event.event)
    assert (kept.event, kept.details["other_leads"]) == ("is to stay apart", [str(bert)])
    assert (linked.event, linked.details["withdrawn_by"]) == ("is to stay together", "person:ada")


def test_a_journey_begins_with_the_capture_also_at_one_instant_and_in_a_contact_that_is_older(play: Play) -> None:
    first, second = play.arrive(**ANNA), play.arrive(**BERT)
    play.merge(first, second)
    third = play.arrive(**ANNA)
    tables = ("raw_leads", "validated_leads", "deduped_leads", "merge_log")
    with play.engine.begin() as connection:  # a clock that stands still
        for column, table in (("deduped_at", "deduped_leads"), ("validated_at", "validated_leads")):
            of = sa.text(f"update {table} set {column} = :at where lead_id = :lead")
            connection.execute(of, {"at": play.now, "lead": third})
        connection.execute(sa.text("update raw_leads set received_at = :at, moved_at = :at"), {"at": play.now})
        connection.execute(
            sa.text("update merge_log set merged_at = :at where lead_ids @> :of"),
            {"at": play.now, "of": json.dumps([{"lead_id": str(third)}])},
        )
    assert [event.event for event in told(play, third, *tables)] == [
        "captured", "moved out of the buffer", "validated", "assigned to a contact", "joined a contact",
    ]  # fmt: skip
    (joined,) = told(play, third, "merge_log")
    assert set(joined.details["compared"]) == {str(first), str(third)}


def test_a_split_is_told_to_whoever_left_and_whoever_stayed(play: Play) -> None:
    first, second, third = play.arrive(**ANNA), play.arrive(**ANNA), play.arrive(**ANNA)
    play.split(first, third)
    for lead in (first, third):
        assert "its contact was split" in [event.event for event in told(play, lead, "merge_log")]
    moved = [event.details.get("moved") for event in told(play, third, "merge_log")]
    assert moved == [True, True]  # joined, and left
    assert [event.details.get("moved") for event in told(play, second, "merge_log")] == [True, None]


def test_a_review_and_its_answer_are_told(play: Play) -> None:
    anna, grey = play.arrive(**ANNA), play.arrive(**GREY)
    (review,) = rows_of(play.engine, schema.match_reviews)
    accept(play.engine, review["review_id"], play.ruling(reason="same signature"))
    events = told(play, anna, "match_reviews", "merge_log")
    assert sorted(event.event for event in events) == [
        "called one person with another lead", "put before a person", "review accepted",
    ]  # fmt: skip
    (answer,) = [event for event in events if event.event == "review accepted"]
    assert (answer.details["actor"], answer.details["reason"]) == ("person:grace", "same signature")
    assert "called one person with another lead" in [event.event for event in told(play, grey, "merge_log")]


def test_a_journey_tells_no_values_of_who_was_whom(play: Play) -> None:
    anna, bert = play.arrive(**ANNA), play.arrive(**BERT)
    play.undo(play.merge(anna, bert).merge_id)
    events = told(play, anna, "merge_log", "identity_links", "match_reviews")
    written = json.dumps([event.details for event in events], default=str).lower()
    assert not [value for value in ("anna", "bertil", "northwind", "harbor") if value in written]
