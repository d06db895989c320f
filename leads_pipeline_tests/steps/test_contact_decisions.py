"""What persons say about who is whom, on a real database and through the real steps."""

import pytest
import sqlalchemy as sa

from leads_pipeline.config import Settings
from leads_pipeline.domain.ids import uuid7
from leads_pipeline.errors import IdentityRefused, NotFound
from leads_pipeline.storage import schema
from leads_pipeline.storage.identity import read_size
from leads_pipeline_tests.conftest import NOW
from leads_pipeline_tests.steps.identity_play import Play
from leads_pipeline_tests.steps.rows import TENANT, rows_of

ANNA = {"full_name": "Anna Kowalczyk", "email": "anna@northwind.com", "company": "Northwind"}
BERT = {"full_name": "Bertil Quist", "email": "b.quist@harbor.com", "company": "Harbor"}
CARO = {"full_name": "Caroline Dubois", "email": "caro@lighthouse.com", "company": "Lighthouse"}


@pytest.fixture
def play(engine: sa.Engine, settings: Settings) -> Play:
    return Play(engine, settings)


def size(play: Play) -> tuple[int, int]:
    with play.engine.connect() as connection:
        found = read_size(connection, TENANT)
    return found.records, found.contacts


def log_row(play: Play) -> dict[str, object]:
    return play.decisions()[-1]


def test_two_contacts_are_merged_and_the_older_survives(play: Play) -> None:
    anna, bert = play.arrive(**ANNA), play.arrive(**BERT)
    old, new = play.contact_of()[anna], play.contact_of()[bert]
    decided = play.merge(new, old, person="ada", reason="she told us")
    assert play.contact_of() == {anna: old, bert: old}
    assert size(play) == (2, 1)
    assert play.golden().keys() == {old}
    row = log_row(play)
    assert (row["merge_id"], row["kind"], row["contact_id"], row["other_contact_id"]) == (
        decided.merge_id, "merge", old, new,
    )  # fmt: skip
    assert (row["actor"], row["reason"], row["undoes"]) == ("person:ada", "she told us", None)
    assert row["inverse"]["contacts"] == {str(new): None}  # type: ignore[index]
    # The sides are in the order in which the contacts were named.
    assert play.links_in_force() == [("must", frozenset({bert}), frozenset({anna}))]


def test_a_merge_holds_when_everything_is_resolved_again(play: Play) -> None:
    anna, bert = play.arrive(**ANNA), play.arrive(**BERT)
    play.merge(anna, bert)
    before = play.identity()
    for lead in (anna, bert):
        play.ask_again(lead)
    play.run()
    assert play.identity() == before


def test_a_dry_run_says_what_would_happen_and_leaves_nothing_behind(play: Play) -> None:
    anna, bert = play.arrive(**ANNA), play.arrive(**BERT)
    before, decisions = play.identity(), play.decisions()
    decided = play.merge(anna, bert, dry_run=True)
    assert set(decided.merged_away) == {max(play.contact_of().values())}
    assert decided.moved == {bert: play.contact_of()[anna]}
    assert (play.identity(), play.decisions(), play.links_in_force()) == (before, decisions, [])
    assert rows_of(play.engine, schema.pending) == []


def test_what_is_one_contact_is_not_merged_again(play: Play) -> None:
    anna = play.arrive(**ANNA)
    again = play.arrive(**ANNA)
    with pytest.raises(IdentityRefused, match="are one contact already"):
        play.merge(anna, again)


def test_what_does_not_exist_is_said_by_its_id(play: Play) -> None:
    anna, nobody = play.arrive(**ANNA), uuid7(NOW)
    with pytest.raises(NotFound, match=f"there is no contact {nobody}"):
        play.merge(anna, nobody)
    with pytest.raises(NotFound, match=f"there is no contact {nobody}"):
        play.split(nobody, anna)
    with pytest.raises(NotFound, match="no lead of this id"):
        play.link(anna, nobody)
    with pytest.raises(IdentityRefused, match="named twice"):
        play.link(anna, anna)


def test_a_link_is_between_leads_not_contacts(play: Play) -> None:
    anna, bert = play.arrive(**ANNA), play.arrive(**BERT)
    contact = play.contact_of()[bert]
    with pytest.raises(NotFound, match=f"lead {contact} belongs to no contact"):
        play.link(anna, contact)


def test_the_smaller_part_of_a_split_gets_a_new_id_whoever_is_named(play: Play) -> None:
    first = play.arrive(**ANNA)
    others = [play.arrive(**{**ANNA, "phone": f"+1415555267{number}"}) for number in range(3)]
    contact = play.contact_of()[first]
    assert set(play.contact_of().values()) == {contact}
    # Three of four are named: they keep the id, and the founder leaves.
    decided = play.split(contact, *others)
    now = play.contact_of()
    assert {now[lead] for lead in others} == {contact}
    assert now[first] != contact
    assert (decided.contact_id, decided.other_contact_id) == (contact, now[first])
    founders = {row["contact_id"]: row["founding_lead_id"] for row in rows_of(play.engine, schema.contacts)}
    assert founders == {contact: others[0], now[first]: first}


def test_of_two_equal_parts_that_with_the_founding_lead_keeps_the_id(play: Play) -> None:
    first, second = play.arrive(**ANNA), play.arrive(**ANNA)
    contact = play.contact_of()[first]
    play.split(contact, first)
    assert play.contact_of()[first] == contact
    assert play.contact_of()[second] != contact


def test_what_was_split_stays_apart_although_the_address_is_the_same(play: Play) -> None:
    first, second = play.arrive(**ANNA), play.arrive(**ANNA)
    play.split(first, second)
    apart = play.contact_of()
    assert apart[first] != apart[second]
    for lead in (first, second):
        play.ask_again(lead)
    play.run()
    third = play.arrive(**ANNA)
    assert {lead: play.contact_of()[lead] for lead in (first, second)} == apart
    assert play.contact_of()[third] not in apart.values(), "it fits both alike: a person is asked"
    assert {(row["lead_id"], row["other_lead_id"]) for row in rows_of(play.engine, schema.match_reviews)} == {
        (third, first), (third, second),
    }  # fmt: skip


def test_a_lead_that_others_had_spoken_for_is_found_after_the_split(play: Play) -> None:
    first, second = play.arrive(**ANNA), play.arrive(**ANNA)
    assert {row["lead_id"] for row in rows_of(play.engine, schema.match_records)} == {first}
    play.split(first, second)
    records = {row["lead_id"]: row["contact_id"] for row in rows_of(play.engine, schema.match_records)}
    assert records == play.contact_of()
    assert {row["lead_id"] for row in rows_of(play.engine, schema.match_keys)} == {first, second}
    assert size(play) == (2, 2)


@pytest.mark.parametrize("which", ["all", "stranger"])
def test_a_split_must_leave_something_and_take_only_what_is_there(play: Play, which: str) -> None:
    anna, bert = play.arrive(**ANNA), play.arrive(**BERT)
    named, words = {
        "all": ([anna], "nothing would be left of it"),
        "stranger": ([bert], f"lead {bert} does not belong to contact"),
    }[which]
    with pytest.raises(IdentityRefused, match=words):
        play.split(anna, *named)


def test_a_cannot_link_forbids_a_merge_until_it_is_withdrawn(play: Play) -> None:
    anna, bert = play.arrive(**ANNA), play.arrive(**BERT)
    unlinked = play.unlink(anna, bert)
    (made,) = unlinked.links_made
    assert len(set(play.contact_of().values())) == 2
    with pytest.raises(
        IdentityRefused, match=f"forbidden by the cannot-link {made.link_id} of person:grace"
    ) as refused:
        play.merge(anna, bert)
    assert refused.value.links == (made.link_id,)
    assert len(set(play.contact_of().values())) == 2
    forced = play.merge(anna, bert, force=True)
    assert forced.links_withdrawn == (made.link_id,)
    assert len(set(play.contact_of().values())) == 1
    play.undo(forced.merge_id)
    # What stood before stands again, and the undo's own word beside it.
    assert [kind for kind, _one, _other in play.links_in_force()] == ["cannot", "cannot"]


def test_a_must_link_forbids_a_split_until_it_is_withdrawn(play: Play) -> None:
    anna, bert = play.arrive(**ANNA), play.arrive(**BERT)
    play.link(anna, bert)
    assert len(set(play.contact_of().values())) == 1
    with pytest.raises(IdentityRefused, match=r"forbidden by the must-link .* --force withdraws it"):
        play.split(anna, bert)
    play.split(anna, bert, force=True)
    assert len(set(play.contact_of().values())) == 2
    assert [kind for kind, _one, _other in play.links_in_force()] == ["cannot"]


def test_a_link_between_leads_of_one_contact_is_kept_for_later_and_made_once(play: Play) -> None:
    first, second = play.arrive(**ANNA), play.arrive(**ANNA)
    decided = play.link(first, second)
    assert (decided.moved, decided.merge_id is not None) == ({}, True)
    assert play.link(second, first).merge_id is None
    assert len(play.links_in_force()) == 1


def test_leads_that_are_kept_apart_already_are_kept_apart_once(play: Play) -> None:
    anna, bert = play.arrive(**ANNA), play.arrive(**BERT)
    assert play.unlink(anna, bert).merge_id is not None
    assert play.unlink(bert, anna).merge_id is None
    assert len(play.links_in_force()) == 1


def test_unlinked_leads_take_along_whoever_is_nearer_to_them(play: Play) -> None:
    anna, bert = play.arrive(**ANNA), play.arrive(**BERT)
    anna_again, bert_again = play.arrive(**ANNA, phone="+14155552671"), play.arrive(**BERT, phone="+14155552672")
    contact = play.merge(anna, bert, force=True).contact_id
    with pytest.raises(IdentityRefused, match="must-link"):
        play.unlink(anna, bert_again)
    play.unlink(anna, bert_again, force=True)
    now = play.contact_of()
    assert now[anna] == now[anna_again] == contact
    assert now[bert] == now[bert_again] != contact


def test_a_must_link_counts_for_more_than_the_model_when_a_contact_is_taken_apart(play: Play) -> None:
    first = play.arrive(**ANNA)
    second = play.arrive(**ANNA, phone="+14155552671")
    third = play.arrive(**BERT)
    play.link(second, third)
    play.unlink(first, third)
    now = play.contact_of()
    assert now[second] == now[third] != now[first]


def test_tenants_share_no_contacts(play: Play, settings: Settings) -> None:
    anna = play.arrive(**ANNA)
    with play.engine.begin() as connection:
        stranger = uuid7(NOW)
        connection.execute(
            sa.insert(schema.contacts).values(
                contact_id=stranger, tenant="globex", founding_lead_id=uuid7(NOW), created_at=NOW
            )
        )
    with pytest.raises(IdentityRefused, match="tenants share no contacts"):
        play.merge(anna, stranger)


def test_a_withdrawal_holds_for_both_parts_of_a_split(play: Play) -> None:
    """Otherwise the part without it would be written to again on the strength of an older grant."""
    first = play.arrive(**ANNA, granted=True)
    second = play.arrive(**ANNA, granted=False)
    contact = play.contact_of()[first]
    assert play.granted(contact) is False
    decided = play.split(contact, second)
    assert decided.carried == 1
    assert {play.granted(item) for item in play.contact_of().values()} == {False}
    # Somebody who agrees again after that is asked nothing twice.
    again = play.arrive(**{**ANNA, "full_name": "Anna Kowalczyk"}, granted=True)
    assert play.granted(play.contact_of()[again]) is True


def test_splitting_back_and_forth_does_not_pile_up_withdrawals(play: Play) -> None:
    first, second = play.arrive(**ANNA, granted=True), play.arrive(**ANNA, granted=False)
    decided = play.split(first, second)
    statements = len(rows_of(play.engine, schema.consent_events))
    undone = play.undo(decided.merge_id)
    play.undo(undone.merge_id)
    assert len(rows_of(play.engine, schema.consent_events)) == statements
    assert {play.granted(item) for item in play.contact_of().values()} == {False}
