"""Several corrections in one chunk, or waiting while another is resolved."""

from datetime import datetime
from uuid import UUID

import pytest
import sqlalchemy as sa

from leads_pipeline.config import Settings
from leads_pipeline.domain.stage import Lane, Stage
from leads_pipeline.domain.triage import UNWEIGHED
from leads_pipeline.domain.validation import ValidLead, validate
from leads_pipeline.errors import IdentityRefused
from leads_pipeline.steps import contact_undo
from leads_pipeline.steps.deduped_leads import dedupe_leads
from leads_pipeline.storage import schema
from leads_pipeline.storage.leads import RawLead, insert_validated_leads
from leads_pipeline.storage.pending import Waiting, enqueue
from leads_pipeline_tests.conftest import NOW
from leads_pipeline_tests.steps.identity_play import Play
from leads_pipeline_tests.steps.rows import TENANT, chunk, rows_of
from leads_pipeline_tests.steps.test_deduped_leads import contact_of

ANNA = {"email": "anna@x-mail.com", "first_name": "Anna", "last_name": "Lee"}
ZED = {"email": "zed@q-mail.com", "first_name": "Zed", "last_name": "Quux"}


@pytest.fixture
def play(engine: sa.Engine, settings: Settings) -> Play:
    return Play(engine, settings)


def validated(play: Play, lead: UUID, revision: int, payload: dict[str, str]) -> datetime:
    """A revision that was judged and is not at the door yet."""
    at = play.later()
    read = validate(payload, country="US", today=NOW.date())
    assert isinstance(read, ValidLead)
    with play.engine.begin() as connection:
        raw = RawLead(lead, revision, "website", Lane.BATCH, at, {})
        insert_validated_leads(connection, [(raw, read, UNWEIGHED)], chunk(now=at))
    return at


def at_the_door(play: Play, lead: UUID, revision: int, at: datetime) -> None:
    with play.engine.begin() as connection:
        enqueue(connection, Stage.DEDUPED_LEADS, [Waiting(lead, TENANT, Lane.BATCH, revision, at)])


def corrected(play: Play, lead: UUID, revision: int, payload: dict[str, str]) -> None:
    at_the_door(play, lead, revision, validated(play, lead, revision, payload))


def test_a_lead_that_another_spoke_for_is_found_once_that_one_is_somebody_else(play: Play) -> None:
    speaking, silent = play.arrive(**ANNA), play.arrive(**ANNA)
    corrected(play, speaking, 2, ZED)
    corrected(play, silent, 2, ANNA)  # judged again, with the same outcome
    play.run()
    again = play.arrive(**ANNA)
    contacts = contact_of(play.engine)
    assert contacts[again] == contacts[silent] != contacts[speaking]


def test_a_contact_that_its_founding_lead_leaves_counts_from_its_oldest_one_until_that_is_undone(play: Play) -> None:
    founder, second, _third = (play.arrive(**ANNA, company=company) for company in ("Acme", "Northwind", "Harbor"))
    contact = contact_of(play.engine)[second]
    before = play.identity()["founders"]
    assert before[contact] == founder

    play.correct(founder, revision=2, **ZED)

    contacts, founders = contact_of(play.engine), play.identity()["founders"]
    assert contacts[founder] != contact
    assert founders == {contact: second, contacts[founder]: founder}
    play.undo(play.last_decision())
    assert play.identity()["founders"][contact] == founder


def test_a_correction_that_waits_has_no_say_when_another_lead_of_the_contact_is_corrected(play: Play) -> None:
    zed = play.arrive(**ZED)
    speaking, silent, other = play.arrive(**ANNA), play.arrive(**ANNA), play.arrive(**{**ANNA, "company": "Acme"})
    at = validated(play, silent, 2, ZED)
    play.correct(speaking, revision=2, **{**ANNA, "company": "Northwind"})
    contacts = contact_of(play.engine)
    assert contacts[other] == contacts[speaking] == contacts[silent] != contacts[zed]
    at_the_door(play, silent, 2, at)
    play.run()
    contacts = contact_of(play.engine)
    assert contacts[silent] == contacts[zed]
    assert contacts[other] == contacts[speaking] != contacts[zed]


def test_a_lead_that_left_a_contact_while_it_was_merged_goes_back_to_the_survivor(play: Play) -> None:
    first = play.arrive(**ANNA)
    second = play.arrive(email="al@y-mail.com", first_name="Anna", last_name="Lee", external_id="E1")
    leaving = play.arrive(email="al@y-mail.com", first_name="Anna", last_name="Lee", company="Acme")
    contacts = contact_of(play.engine)
    assert contacts[second] == contacts[leaving] != contacts[first]
    corrected(play, leaving, 2, ZED)
    play.wait_at_the_door(**ANNA, external_id="E1")
    play.run()
    contacts = contact_of(play.engine)
    assert contacts[first] == contacts[second] != contacts[leaving]

    (moved,) = rows_of(play.engine, schema.merge_log, kind="move")
    contact_undo.undo(play.engine, moved["merge_id"], play.ruling())

    merged_into = {row["contact_id"]: row["merged_into"] for row in rows_of(play.engine, schema.contacts)}
    assert merged_into[contact_of(play.engine)[leaving]] is None


def test_a_contact_that_its_founder_left_while_it_was_merged_counts_from_it_again_once_both_are_undone(
    play: Play,
) -> None:
    first = play.arrive(**ANNA)
    founder = play.arrive(email="al@y-mail.com", first_name="Anna", last_name="Lee", company="Acme")
    second = play.arrive(email="al@y-mail.com", first_name="Anna", last_name="Lee", external_id="E1")
    contacts = contact_of(play.engine)
    contact = contacts[second]
    assert contacts[founder] == contact != contacts[first]
    corrected(play, founder, 2, ZED)
    play.wait_at_the_door(**ANNA, external_id="E1")
    play.run()
    (merged,) = rows_of(play.engine, schema.merge_log, kind="merge")
    (moved,) = rows_of(play.engine, schema.merge_log, kind="move")

    # Alone, the merge would bring back a contact that counts from a lead of another.
    with pytest.raises(IdentityRefused, match=str(moved["merge_id"])):
        play.undo(merged["merge_id"], force=True)
    play.undo(moved["merge_id"])
    play.undo(merged["merge_id"], force=True)

    contacts, founders = contact_of(play.engine), play.identity()["founders"]
    assert contacts[founder] == contacts[second] == contact
    assert founders[contact] == founder


def test_one_correction_among_many_equal_leads_compares_few(play: Play, settings: Settings) -> None:
    for number in range(80):
        play.wait_at_the_door(**ANNA)
        if number % 40 == 39:
            play.run()
    lead = play.arrive(**{**ANNA, "company": "Acme"})
    assert len(set(contact_of(play.engine).values())) == 1
    corrected(play, lead, 2, {**ANNA, "company": "Northwind"})
    report = dedupe_leads(play.engine, chunk(now=play.later()), settings=settings, scorer=play.scorer)
    assert report.taken == 1
    assert report.counts["candidates"] < 10
