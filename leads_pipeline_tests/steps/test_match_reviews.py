"""Pairs that a person is asked about: what an answer does, and when there is nothing to ask any more."""

from uuid import UUID

import pytest
import sqlalchemy as sa

from leads_pipeline.config import Settings
from leads_pipeline.domain.ids import uuid7
from leads_pipeline.errors import IdentityRefused, NotFound
from leads_pipeline.steps.match_reviews import accept, close_answered, decide_all, reject
from leads_pipeline.storage import schema
from leads_pipeline.storage.match_reviews import (
    Label,
    MatchReview,
    ReviewCause,
    ReviewFilter,
    ReviewOrder,
    ReviewState,
    count_reviews,
    find_reviews,
    get_review,
    labels,
)
from leads_pipeline_tests.conftest import NOW
from leads_pipeline_tests.steps.identity_play import Play
from leads_pipeline_tests.steps.rows import TENANT, rows_of

# The plain scorer is not sure about two addresses of one name and company.
ANNA = {"full_name": "Anna Kowalczyk", "email": "anna@northwind.com", "company": "Northwind"}
GREY = {"full_name": "Anna Kowalczyk", "email": "a.kowalczyk@northwind.com", "company": "Northwind"}
BERT = {"full_name": "Bertil Quist", "email": "b.quist@harbor.com", "company": "Harbor"}


@pytest.fixture
def play(engine: sa.Engine, settings: Settings) -> Play:
    return Play(engine, settings)


def only_review(play: Play) -> MatchReview:
    with play.engine.connect() as connection:
        (found,) = find_reviews(connection, ReviewFilter(state=None), order=ReviewOrder.AGE, limit=10)
    return found


def labels_of(play: Play) -> list[Label]:
    with play.engine.connect() as connection:
        return labels(connection, TENANT)


@pytest.fixture
def asked(play: Play) -> tuple[UUID, UUID]:
    """Two leads about which a person is asked."""
    anna, grey = play.arrive(**ANNA), play.arrive(**GREY)
    review = only_review(play)
    assert (review.state, review.cause, review.match_weight) == ("open", "grey", 4.0)
    assert (review.lead_id, review.other_lead_id) == (grey, anna)
    return anna, grey


def test_accepting_merges_links_and_labels(play: Play, asked: tuple[UUID, UUID]) -> None:
    anna, grey = asked
    decided = accept(play.engine, only_review(play).review_id, play.ruling("ada", reason="same signature"))
    assert play.contact_of()[anna] == play.contact_of()[grey]
    review = only_review(play)
    assert (review.state, review.decided_by, review.reason, review.decided_at) == (
        "accepted", "person:ada", "same signature", play.now,
    )  # fmt: skip
    assert labels_of(play) == [Label(anna, grey, same=True)]  # type: ignore[arg-type]
    row = play.decisions()[-1]
    assert (row["merge_id"], row["kind"], row["actor"]) == (decided.merge_id, "link", "person:ada")
    assert play.links_in_force() == [("must", frozenset({grey}), frozenset({anna}))]


def test_rejecting_keeps_apart_and_labels(play: Play, asked: tuple[UUID, UUID]) -> None:
    anna, grey = asked
    reject(play.engine, only_review(play).review_id, play.ruling(), scorer_of=play.scorer_of)
    assert only_review(play).state is ReviewState.REJECTED
    assert labels_of(play) == [Label(anna, grey, same=False)]  # type: ignore[arg-type]
    # A bridge that both agree with joins neither: it is asked whose it is, and no more whether the two are one.
    bridge = play.arrive(full_name="Anna Kowalczyk", company="Northwind", phone="+14155552671")
    assert len(set(play.contact_of().values())) == 3
    with play.engine.connect() as connection:
        asked_now = find_reviews(connection, ReviewFilter(), order=ReviewOrder.AGE, limit=10)
    assert {(item.lead_id, item.other_lead_id) for item in asked_now} == {(bridge, anna), (bridge, grey)}


def count_open(play: Play) -> int:
    with play.engine.connect() as connection:
        return count_reviews(connection, ReviewFilter())


def test_what_was_decided_is_not_decided_again(play: Play, asked: tuple[UUID, UUID]) -> None:
    review_id = only_review(play).review_id
    accept(play.engine, review_id, play.ruling())
    for act in (
        lambda: accept(play.engine, review_id, play.ruling()),
        lambda: reject(play.engine, review_id, play.ruling(), scorer_of=play.scorer_of),
        lambda: reject(play.engine, review_id, play.ruling(), scorer_of=play.scorer_of, split=True),
    ):
        with pytest.raises(IdentityRefused, match=f"review {review_id} is accepted already by person:grace"):
            act()
    nobody = uuid7(NOW)
    with pytest.raises(NotFound, match=f"there is no review {nobody}"):
        accept(play.engine, nobody, play.ruling())


def test_an_undone_answer_becomes_its_opposite_and_then_a_question_again(play: Play, asked: tuple[UUID, UUID]) -> None:
    anna, grey = asked
    accepted = accept(play.engine, only_review(play).review_id, play.ruling())
    undone = play.undo(accepted.merge_id, person="ada")
    assert (only_review(play).state, only_review(play).decided_by) == ("rejected", "person:ada")
    assert labels_of(play) == [Label(anna, grey, same=False)]  # type: ignore[arg-type]
    play.undo(undone.merge_id)
    assert only_review(play).state is ReviewState.ACCEPTED
    assert labels_of(play) == [Label(anna, grey, same=True)]  # type: ignore[arg-type]


def test_an_undone_rejection_is_a_question_again(play: Play, asked: tuple[UUID, UUID]) -> None:
    rejected = reject(play.engine, only_review(play).review_id, play.ruling(), scorer_of=play.scorer_of)
    play.undo(rejected.merge_id)
    review = only_review(play)
    assert (review.state, review.decided_by, review.decided_at) == ("open", None, None)
    assert labels_of(play) == []


def test_a_review_closes_when_its_leads_come_together_by_something_else(play: Play, asked: tuple[UUID, UUID]) -> None:
    anna, grey = asked
    merged = play.merge(anna, grey)
    assert only_review(play).state is ReviewState.CLOSED
    play.undo(merged.merge_id)
    assert only_review(play).state is ReviewState.CLOSED  # a cannot-link answers for it


def test_a_review_closes_when_its_contacts_are_kept_apart_by_other_leads(play: Play, asked: tuple[UUID, UUID]) -> None:
    anna, grey = asked
    again = play.arrive(**ANNA, phone="+14155552671")
    assert play.contact_of()[again] == play.contact_of()[anna]
    unlinked = play.unlink(again, grey)
    assert only_review(play).state is ReviewState.CLOSED
    play.undo(unlinked.merge_id)
    assert only_review(play).state is ReviewState.OPEN


def test_what_other_runs_have_settled_is_closed(play: Play, asked: tuple[UUID, UUID]) -> None:
    anna, grey = asked
    assert close_answered(play.engine, now=play.now) == 0
    with play.engine.begin() as connection:
        connection.execute(
            sa.update(schema.deduped_leads)
            .where(schema.deduped_leads.c.lead_id == grey)
            .values(contact_id=play.contact_of()[anna])
        )
    assert close_answered(play.engine, now=play.now) == 1
    review = only_review(play)
    assert (review.state, review.decided_by, review.decided_at) == ("closed", None, play.now)


def test_a_pair_that_is_one_contact_by_now_is_split_only_if_that_is_wanted(
    play: Play, asked: tuple[UUID, UUID]
) -> None:
    anna, grey = asked
    review_id = only_review(play).review_id
    with play.engine.begin() as connection:  # as another run would have it, before anybody closed the review
        connection.execute(
            sa.update(schema.deduped_leads)
            .where(schema.deduped_leads.c.lead_id == grey)
            .values(contact_id=play.contact_of()[anna])
        )
    with pytest.raises(IdentityRefused, match=r"are one contact by now.*--split takes it apart"):
        reject(play.engine, review_id, play.ruling(), scorer_of=play.scorer_of)
    close_answered(play.engine, now=play.now)
    with pytest.raises(IdentityRefused, match="is closed already, as there was nothing to ask any more"):
        reject(play.engine, review_id, play.ruling(), scorer_of=play.scorer_of)
    reject(play.engine, review_id, play.ruling(), scorer_of=play.scorer_of, split=True)
    assert play.contact_of()[anna] != play.contact_of()[grey]
    assert only_review(play).state is ReviewState.REJECTED


def test_a_direct_word_about_two_leads_is_a_label_too(play: Play) -> None:
    anna, bert = play.arrive(**ANNA), play.arrive(**BERT)
    unlinked = play.unlink(bert, anna)
    assert labels_of(play) == [Label(anna, bert, same=False)]
    play.link(anna, bert, force=True)
    assert labels_of(play) == [Label(anna, bert, same=True)]
    assert unlinked.merge_id is not None
    with play.engine.connect() as connection:
        assert labels(connection, "globex") == []


def test_many_are_decided_and_what_is_refused_stays(play: Play, asked: tuple[UUID, UUID]) -> None:
    review_id, nobody = only_review(play).review_id, uuid7(NOW)
    outcomes = decide_all(
        play.engine, [nobody, review_id, review_id], play.ruling(), ReviewState.ACCEPTED, scorer_of=play.scorer_of
    )
    assert [outcome.decided is None for outcome in outcomes] == [True, False, True]
    assert "there is no review" in (outcomes[0].refused or "")
    assert "accepted already" in (outcomes[2].refused or "")


def test_reviews_are_found_by_weight_age_and_what_they_are(play: Play, asked: tuple[UUID, UUID]) -> None:
    first = only_review(play)
    with play.engine.begin() as connection:
        connection.execute(
            sa.insert(schema.match_reviews).values(
                review_id=uuid7(NOW), tenant="globex", lead_id=uuid7(NOW), other_lead_id=uuid7(NOW), match_weight=9.0,
                evidence={}, cause="refused", actor="model:plain", state="open", batch_id=uuid7(NOW), runner_id="test",
                opened_at=play.later(),
            )
        )  # fmt: skip

    def weights(order: ReviewOrder = ReviewOrder.WEIGHT, **wanted: object) -> list[float]:
        with play.engine.connect() as connection:
            found = find_reviews(connection, ReviewFilter(**wanted), order=order, limit=10)  # type: ignore[arg-type]
            assert count_reviews(connection, ReviewFilter(**wanted)) == len(found)  # type: ignore[arg-type]
        return [item.match_weight for item in found]

    assert weights() == [9.0, 4.0]
    assert weights(ReviewOrder.AGE) == [4.0, 9.0]
    assert weights(tenant=TENANT) == [4.0]
    assert weights(cause=ReviewCause.REFUSED) == [9.0]
    assert weights(min_weight=4.0, max_weight=9.0) == [4.0]
    assert weights(state=ReviewState.ACCEPTED) == []
    with play.engine.connect() as connection:
        assert get_review(connection, first.review_id) == first
        assert get_review(connection, uuid7(NOW)) is None


def test_a_dry_run_leaves_the_question_open(play: Play, asked: tuple[UUID, UUID]) -> None:
    before = rows_of(play.engine, schema.match_reviews)
    accept(play.engine, only_review(play).review_id, play.ruling(dry_run=True))
    assert rows_of(play.engine, schema.match_reviews) == before
