"""Decisions about who is whom, taken back: on a real database and through the real steps."""

import json
from datetime import timedelta

import pytest
import sqlalchemy as sa

from leads_pipeline.config import Settings
from leads_pipeline.domain.ids import uuid7
from leads_pipeline.errors import IdentityRefused, NotFound
from leads_pipeline.storage import schema
from leads_pipeline.storage.conservation import conservation
from leads_pipeline_tests.conftest import NOW
from leads_pipeline_tests.steps.identity_play import Play
from leads_pipeline_tests.steps.rows import TENANT, delivered, rows_of

ANNA = {"full_name": "Anna Kowalczyk", "email": "anna@northwind.com", "company": "Northwind"}
# Another Anna of the same house, without an address: the plain scorer merges them.
OTHER_ANNA = {"full_name": "Anna Kowalczyk", "phone": "+14155552670", "company": "Northwind"}
BERT = {"full_name": "Bertil Quist", "email": "b.quist@harbor.com", "company": "Harbor"}
CARO = {"full_name": "Caroline Dubois", "email": "caro@lighthouse.com", "company": "Lighthouse"}


@pytest.fixture
def play(engine: sa.Engine, settings: Settings) -> Play:
    return Play(engine, settings)


def test_a_merge_by_a_person_is_taken_back_to_the_letter(play: Play) -> None:
    anna, bert = play.arrive(**ANNA, granted=True), play.arrive(**BERT, granted=False)
    before = play.identity()
    merged = play.merge(anna, bert)
    assert play.identity() != before
    undone = play.undo(merged.merge_id, reason="two people after all")
    assert play.identity() == before
    assert undone.returned == {play.contact_of()[bert]}
    row = play.decisions()[-1]
    assert (row["kind"], row["undoes"], row["actor"], row["reason"]) == (
        "undo", merged.merge_id, "person:grace", "two people after all",
    )  # fmt: skip
    assert play.links_in_force() == [("cannot", frozenset({bert}), frozenset({anna}))]


def test_what_the_model_joined_is_taken_apart_and_stays_apart(play: Play) -> None:
    anna = play.arrive(**ANNA)
    other = play.arrive(**OTHER_ANNA)
    (join,) = play.decisions()
    assert (join["kind"], join["actor"]) == ("join", "model:plain")
    undone = play.undo(join["merge_id"])
    apart = play.contact_of()
    assert apart[anna] != apart[other]
    assert undone.founded == {apart[other]}
    for lead in (anna, other):
        play.ask_again(lead)
    play.run()
    again = play.arrive(**OTHER_ANNA)
    assert {lead: play.contact_of()[lead] for lead in (anna, other)} == apart
    assert play.contact_of()[again] == apart[other]


def test_an_undo_can_be_taken_back_and_then_only_the_last_word_can(play: Play) -> None:
    anna, bert = play.arrive(**ANNA), play.arrive(**BERT)
    merged = play.merge(anna, bert)
    together = play.identity()
    undone = play.undo(merged.merge_id)
    redone = play.undo(undone.merge_id)
    assert play.identity() == together
    assert [kind for kind, _one, _other in play.links_in_force()] == ["must"]
    with pytest.raises(IdentityRefused, match=f"undo {redone.merge_id} instead") as refused:
        play.undo(merged.merge_id)
    assert refused.value.first == (redone.merge_id,)
    with pytest.raises(IdentityRefused, match=f"{undone.merge_id} was taken back already, by person:grace on 2026-01"):
        play.undo(undone.merge_id)
    play.undo(redone.merge_id)
    assert len(set(play.contact_of().values())) == 2


def test_a_join_is_taken_back_and_forth(play: Play) -> None:
    play.arrive(**ANNA)
    play.arrive(**OTHER_ANNA)
    together = play.identity()
    undone = play.undo(play.last_decision())
    play.undo(undone.merge_id)
    now = play.identity()
    assert now["leads"] == together["leads"]
    assert now["golden"] == together["golden"]
    assert set(now["merged_into"].values()) == {None, *together["leads"].values()}


def test_a_decision_that_does_not_exist_is_not_found(play: Play) -> None:
    nobody = uuid7(NOW)
    with pytest.raises(NotFound, match=f"there is no decision {nobody}"):
        play.undo(nobody)


def test_a_decision_is_taken_back_once(play: Play) -> None:
    anna, bert = play.arrive(**ANNA), play.arrive(**BERT)
    merged = play.merge(anna, bert)
    undone = play.undo(merged.merge_id)
    state = play.identity()
    with pytest.raises(IdentityRefused, match=f"taken back already.*{undone.merge_id}"):
        play.undo(merged.merge_id)
    assert play.identity() == state


def test_a_superseded_merge_names_what_to_take_back_first_newest_first(play: Play) -> None:
    anna, bert, caro = play.arrive(**ANNA), play.arrive(**BERT), play.arrive(**CARO)
    before = play.identity()
    first = play.merge(bert, caro)
    second = play.merge(anna, bert)
    third = play.split(anna, caro, force=True)
    with pytest.raises(IdentityRefused, match="superseded by later decisions") as refused:
        play.undo(first.merge_id)
    assert refused.value.first == (third.merge_id, second.merge_id)
    assert f"{third.merge_id} (split by person:grace), {second.merge_id} (merge by person:grace)" in str(refused.value)
    for merge_id in (*refused.value.first, first.merge_id):
        play.undo(merge_id)
    assert play.contact_of() == before["leads"]
    assert play.identity()["golden"] == before["golden"]


def test_chains_that_a_merge_flattened_are_long_again(play: Play) -> None:
    anna, bert, caro = play.arrive(**ANNA), play.arrive(**BERT), play.arrive(**CARO)
    of = play.contact_of()
    play.merge(bert, caro)
    chained = play.identity()
    second = play.merge(anna, bert)
    assert play.identity()["merged_into"] == {of[anna]: None, of[bert]: of[anna], of[caro]: of[anna]}
    play.undo(second.merge_id)
    assert play.identity()["merged_into"] == {of[anna]: None, of[bert]: None, of[caro]: of[bert]}
    assert play.identity() == chained


def test_a_later_merge_into_the_survivor_does_not_stand_in_the_way(play: Play) -> None:
    anna, bert, caro = play.arrive(**ANNA), play.arrive(**BERT), play.arrive(**CARO)
    of = play.contact_of()
    first = play.merge(anna, bert)
    play.merge(anna, caro, force=True)
    with pytest.raises(IdentityRefused, match="must-link"):  # the second was said of the first's leads as well
        play.undo(first.merge_id)
    play.undo(first.merge_id, force=True)
    assert play.contact_of() == {anna: of[anna], bert: of[bert], caro: of[anna]}


def test_a_later_link_between_the_sides_is_to_be_taken_back_first(play: Play) -> None:
    first = play.arrive(**ANNA)
    second = play.arrive(**OTHER_ANNA)
    join = play.last_decision()
    linked = play.link(first, second)
    with pytest.raises(IdentityRefused, match=f"take back first {linked.merge_id}"):
        play.undo(join)
    play.undo(linked.merge_id)
    play.undo(join)
    assert len(set(play.contact_of().values())) == 2


def test_a_decision_from_before_inverses_were_kept_is_not_guessed_at(play: Play) -> None:
    play.arrive(**ANNA)
    play.arrive(**OTHER_ANNA)
    with play.engine.begin() as connection:
        connection.execute(sa.text("update merge_log set inverse = '{}'"))
    with pytest.raises(IdentityRefused, match=r"decided before inverses were kept.*leads contact split"):
        play.undo(play.last_decision())


def test_leads_that_moved_without_a_word_in_the_log_are_not_guessed_at(play: Play) -> None:
    anna, bert = play.arrive(**ANNA), play.arrive(**BERT)
    other = play.arrive(**OTHER_ANNA)
    join = play.last_decision()
    with play.engine.begin() as connection:
        connection.execute(
            sa.update(schema.deduped_leads)
            .where(schema.deduped_leads.c.lead_id == other)
            .values(contact_id=play.contact_of()[bert])
        )
    with pytest.raises(IdentityRefused, match=f"lead {other} is not where it was put"):
        play.undo(join)
    assert play.contact_of()[anna] != play.contact_of()[other]


def test_a_link_that_moved_nothing_is_just_withdrawn(play: Play) -> None:
    first, second = play.arrive(**ANNA), play.arrive(**ANNA)
    before = play.identity()
    linked = play.link(first, second)
    play.undo(linked.merge_id)
    assert (play.identity(), play.links_in_force()) == (before, [])


def test_a_split_is_taken_back_with_whoever_joined_the_part(play: Play) -> None:
    first, second = play.arrive(**ANNA), play.arrive(**OTHER_ANNA)
    contact = play.contact_of()[first]
    split = play.split(contact, second)
    third = play.arrive(**OTHER_ANNA, city="Boston")
    assert play.contact_of()[third] == play.contact_of()[second]
    play.undo(split.merge_id)
    assert play.contact_of() == {first: contact, second: contact, third: contact}
    assert play.links_in_force() == []


def test_what_a_run_took_apart_and_a_person_put_together_again_stays_together(play: Play) -> None:
    first, second = play.arrive(**ANNA), play.arrive(**ANNA)
    before = play.identity()
    split = play.split(first, second)
    with play.engine.begin() as connection:  # as a full resolution writes it: without a link
        connection.execute(sa.text("update merge_log set actor = 'model:plain', inverse = inverse - 'links_made'"))
        connection.execute(sa.text("update identity_links set withdrawn_at = now()"))
    undone = play.undo(split.merge_id)
    assert play.contact_of() == before["leads"]
    assert play.links_in_force() == [("must", frozenset({second}), frozenset({first}))]
    play.undo(undone.merge_id)
    assert play.links_in_force() == []


def test_leads_that_came_later_go_where_their_address_is(play: Play) -> None:
    anna, bert = play.arrive(**ANNA), play.arrive(**BERT)
    old, new = play.contact_of()[anna], play.contact_of()[bert]
    merged = play.merge(anna, bert)
    like_anna = play.arrive(**ANNA, phone="+14155552671")
    like_bert = play.arrive(**BERT, phone="+14155552672")
    like_neither = play.arrive(full_name="Anna Kowalczyk", company="Northwind", phone="+14155552673")
    undone = play.undo(merged.merge_id)
    now = play.contact_of()
    assert (now[like_anna], now[like_bert], now[like_neither]) == (old, new, old)
    assert (now[anna], now[bert]) == (old, new)
    assert undone.links_made[0].sides[0] == {bert, like_bert}


def test_what_was_withdrawn_before_a_merge_is_its_own_side_s(play: Play) -> None:
    anna, bert = play.arrive(**ANNA, granted=True), play.arrive(**BERT, granted=False)
    of = play.contact_of()
    merged = play.merge(anna, bert)
    assert play.granted(of[anna]) is False
    play.undo(merged.merge_id)
    assert (play.granted(of[anna]), play.granted(of[bert])) == (True, False)


def test_what_was_withdrawn_while_two_were_one_holds_for_both(play: Play) -> None:
    """The trap: the undo brings the other's older grant back, and somebody who said no is written to again."""
    anna, bert = play.arrive(**ANNA, granted=True), play.arrive(**BERT, granted=True)
    of = play.contact_of()
    merged = play.merge(anna, bert)
    play.arrive(**ANNA, granted=False)
    undone = play.undo(merged.merge_id)
    assert undone.carried == 1
    assert (play.granted(of[anna]), play.granted(of[bert])) == (False, False)
    play.undo(undone.merge_id)
    assert play.granted(of[anna]) is False
    later = play.arrive(**BERT, granted=True)
    assert play.granted(play.contact_of()[later]) is True


def test_the_contact_that_lives_again_is_sent_again_and_keeps_counting(play: Play) -> None:
    anna, bert = play.arrive(**ANNA), play.arrive(**BERT)
    old, new = play.contact_of()[anna], play.contact_of()[bert]
    delivered(play.engine, old, crm_record_id="501")
    delivered(play.engine, new, crm_record_id="502")
    merged = play.merge(anna, bert)
    (archive,) = rows_of(play.engine, schema.outbox, contact_id=new)
    assert (archive["operation"], archive["state"], archive["wanted_version"]) == ("archive", "waiting", 2)
    delivered(play.engine, new, crm_record_id="502")
    delivered(play.engine, old, crm_record_id="501")
    play.undo(merged.merge_id)
    (again,) = rows_of(play.engine, schema.outbox, contact_id=new)
    assert (again["operation"], again["state"], again["wanted_version"], again["delivered_version"]) == (
        "upsert", "waiting", 3, 2,
    )  # fmt: skip
    assert play.golden()[new]["version"] == 3
    (survivor,) = rows_of(play.engine, schema.outbox, contact_id=old)
    assert (survivor["operation"], survivor["state"], survivor["wanted_version"]) == ("upsert", "waiting", 3)
    assert _account(play) == {"pending": 1, "delivered": 1}
    for contact in (old, new):
        delivered(play.engine, contact)
    assert _account(play) == {"delivered": 2}


def test_an_archive_that_was_not_sent_yet_is_not_sent_after_the_undo(play: Play) -> None:
    anna, bert = play.arrive(**ANNA), play.arrive(**BERT)
    new = play.contact_of()[bert]
    delivered(play.engine, play.contact_of()[anna], crm_record_id="501")
    delivered(play.engine, new, crm_record_id="502")
    merged = play.merge(anna, bert)
    play.undo(merged.merge_id)
    (row,) = rows_of(play.engine, schema.outbox, contact_id=new)
    assert (row["operation"], row["state"], row["wanted_version"], row["crm_record_id"]) == (
        "upsert", "waiting", 3, "502",
    )  # fmt: skip


def test_decisions_of_one_instant_are_told_apart_by_their_order(play: Play) -> None:
    """Clocks are set back, and all of a chunk bear one time: the log's own numbers say what came after what."""
    anna, bert, caro = play.arrive(**ANNA), play.arrive(**BERT), play.arrive(**CARO)
    first = play.merge(bert, caro)
    play.now -= timedelta(days=1)
    second = play.merge(anna, bert)
    with pytest.raises(IdentityRefused) as refused:
        play.undo(first.merge_id)
    assert refused.value.first == (second.merge_id,)


def test_erased_leads_do_not_come_back(play: Play) -> None:
    anna, bert = play.arrive(**ANNA), play.arrive(**BERT)
    bert_again = play.arrive(**BERT, phone="+14155552672")
    new = play.contact_of()[bert]
    merged = play.merge(anna, bert)
    with play.engine.begin() as connection:
        for table in ("deduped_leads", "match_records", "match_keys"):
            connection.execute(sa.text(f"delete from {table} where lead_id = :lead"), {"lead": bert})
    play.undo(merged.merge_id)
    assert play.contact_of() == {anna: play.contact_of()[anna], bert_again: new}


def test_a_corrected_lead_that_left_comes_back_and_its_own_contact_with_it(play: Play) -> None:
    anna, other = play.arrive(**ANNA), play.arrive(**ANNA)
    before = play.contact_of()
    play.correct(other, revision=2, full_name="Zoe Zander", email="zoe@zander.com")
    left = play.contact_of()
    assert left[other] != left[anna]
    row = play.decisions()[-1]
    assert row["kind"] == "move"
    undone = play.undo(row["merge_id"])
    assert play.contact_of() == before
    assert undone.merged_away == {left[other]: before[anna]}
    merged_into = play.identity()["merged_into"]
    assert merged_into == {before[anna]: None, left[other]: before[anna]}
    assert play.identity()["sizes"] == [(2, 1)]
    again = play.undo(undone.merge_id)
    assert play.contact_of() == left
    assert again.returned == {left[other]}


def test_a_corrected_lead_that_leaves_takes_along_what_was_withdrawn_where_it_was(play: Play) -> None:
    anna, other = play.arrive(**ANNA, granted=False), play.arrive(**ANNA, granted=None)
    granting = play.arrive(**ANNA, granted=True)
    assert play.granted(play.contact_of()[anna]) is True
    refusing = play.arrive(**ANNA, granted=False)
    play.correct(granting, revision=2, full_name="Zoe Zander", email="zoe@zander.com")
    now = play.contact_of()
    assert now[granting] != now[anna] == now[other] == now[refusing]
    assert (play.granted(now[granting]), play.granted(now[anna])) == (False, False)
    # And the other way round: whoever leaves has said no, and those who stay heed it.
    late = play.arrive(**BERT, granted=True)
    never = play.arrive(**BERT, granted=False)
    play.correct(never, revision=2, full_name="Caroline Dubois", email="caro@lighthouse.com")
    now = play.contact_of()
    assert now[late] != now[never]
    assert (play.granted(now[late]), play.granted(now[never])) == (False, False)


def test_leads_that_leave_one_contact_together_hear_of_each_other_s_withdrawals(play: Play) -> None:
    """The trap: the first to leave hears only those who stay, and its older grant comes back."""
    granting, refusing = play.arrive(**ANNA, granted=True), play.arrive(**ANNA, granted=False)
    silent = play.arrive(**ANNA)
    play.wait_corrected(granting, revision=2, full_name="Zoe Zander", email="zoe@zander.com")
    play.wait_corrected(refusing, revision=2, **CARO)
    play.run()
    now = play.contact_of()
    assert len({now[granting], now[refusing], now[silent]}) == 3
    assert [play.granted(now[lead]) for lead in (granting, refusing, silent)] == [False, False, False]


def test_who_comes_to_a_contact_hears_nothing_of_what_leaves_it_at_the_same_time(play: Play) -> None:
    anna, moving = play.arrive(**ANNA), play.arrive(**ANNA, granted=False)
    bert, granting = play.arrive(**BERT), play.arrive(**BERT, granted=True)
    play.wait_corrected(moving, revision=2, **BERT)
    play.wait_corrected(granting, revision=2, **CARO)
    play.run()
    now = play.contact_of()
    assert now[moving] == now[bert] not in (now[granting], now[anna])
    assert [play.granted(now[lead]) for lead in (anna, bert, granting)] == [False, False, True]


def test_a_corrected_lead_that_was_moved_to_others_is_kept_apart_from_them(play: Play) -> None:
    anna, other, bert = play.arrive(**ANNA), play.arrive(**ANNA), play.arrive(**BERT)
    before = play.contact_of()
    play.correct(other, revision=2, **BERT)
    assert play.contact_of()[other] == before[bert]
    play.undo(play.last_decision())
    assert play.contact_of() == before
    assert sorted(play.links_in_force()) == [
        ("cannot", frozenset({other}), frozenset({bert})),
        ("must", frozenset({other}), frozenset({anna})),
    ]
    play.correct(other, revision=3, **BERT, phone="+14155552679")
    assert play.contact_of() == before


def test_a_corrected_lead_that_a_person_put_back_stays_when_it_is_corrected_again(play: Play) -> None:
    anna, other = play.arrive(**ANNA), play.arrive(**ANNA)
    before = play.contact_of()
    play.correct(other, revision=2, full_name="Zoe Zander", email="zoe@zander.com")
    left = play.contact_of()
    undone = play.undo(play.last_decision())
    assert play.links_in_force() == [("must", frozenset({other}), frozenset({anna}))]
    play.correct(other, revision=3, full_name="Zoe Zander", email="zoe@zander.com", company="Harbor")
    assert play.contact_of() == before
    # Whoever takes that back lets the lead go again.
    play.undo(undone.merge_id)
    assert (play.contact_of(), play.links_in_force()) == (left, [])


def test_no_row_of_the_log_holds_a_value(play: Play) -> None:
    anna, bert = play.arrive(**ANNA), play.arrive(**BERT)
    play.undo(play.merge(anna, bert).merge_id)
    play.split(anna, play.arrive(**ANNA))
    written = json.dumps([play.decisions(), rows_of(play.engine, schema.identity_links)], default=str).lower()
    assert not [value for value in ("anna", "bertil", "quist", "northwind", "harbor") if value in written]


def _account(play: Play) -> dict[str, int]:
    with play.engine.connect() as connection:
        (account,) = conservation(connection, destinations={TENANT: ["hubspot"]})
    assert account.conserved, account
    return {str(state): count for state, count in account.states.items() if count}
