"""A model from a tenant's own leads: measured, kept, and left for somebody to activate."""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa

from leads_pipeline.clock import FrozenClock
from leads_pipeline.config import MatchingSettings, Settings
from leads_pipeline.domain.match_keys import MatchFields
from leads_pipeline.errors import LeadsError
from leads_pipeline.matching.model import Parameters, shipped_parameters
from leads_pipeline.steps.match_models import activate, list_models
from leads_pipeline.steps.trained_match_model import TrainedModel, train_match_model
from leads_pipeline.storage import identity, schema
from leads_pipeline.storage.match_models import sample_records
from leads_pipeline_tests.conftest import NOW
from leads_pipeline_tests.matching.known_people import invented, make_known
from leads_pipeline_tests.matching.models import changed, keep
from leads_pipeline_tests.steps.rows import contact, member

PEOPLE = invented(1_600)


@pytest.fixture
def known(engine: sa.Engine) -> sa.Engine:
    make_known(engine, PEOPLE)
    return engine


class Learner:
    """Learns that a company says more and a pair less than was thought, and remembers what it was given."""

    def __call__(
        self,
        records: Sequence[MatchFields],
        base: Parameters,
        *,
        seed: int,
        version: str,
        max_candidates_per_key: int,
        contacts: int,
    ) -> Parameters:
        self.records, self.seed, self.cap, self.contacts = records, seed, max_candidates_per_key, contacts
        m, u = base.levels["company"]["same"]
        levels = {**base.levels, "company": {**base.levels["company"], "same": (m, u / 8)}}
        prior = base.prior / 2**20
        return replace(base, version=version, prior=prior, levels=levels, trained={"iterations": 3})


def train(engine: sa.Engine, clock: FrozenClock, **given: Any) -> TrainedModel:
    given = {"learn": Learner(), "actor": "ada", "settings": MatchingSettings(), **given}
    return train_match_model(engine, "acme", clock=clock, **given)


def test_a_model_is_learned_measured_and_kept_and_does_not_serve_yet(known: sa.Engine, clock: FrozenClock) -> None:
    learner = Learner()

    model = train(known, clock, learn=learner, seed=5)

    figures = model.figures
    assert model.version == model.parameters.version == "2026-01-15.1"
    assert len(learner.records) == figures["records"]
    assert figures["records"] + figures["held_out_records"] == figures["records_in_all"] == len(PEOPLE)
    assert 0.05 < figures["held_out_records"] / len(PEOPLE) < 0.15
    assert (learner.seed, learner.cap) == (5, MatchingSettings().max_candidates_per_key)
    assert figures["moved"] == [
        {"comparison": "company", "level": "same", "before": figures["moved"][0]["before"], "after": pytest.approx(
            figures["moved"][0]["before"] + 3, abs=0.02
        )}
    ]  # fmt: skip
    assert figures["agreement"]["pairs"] > 50
    assert 0.5 < figures["agreement"]["share"] < 1
    assert figures["iterations"] == 3
    [kept, shipped] = list_models(known, "acme")
    assert (kept.version, kept.active, shipped.active) == (model.version, False, True)
    assert kept.stored is not None
    assert (kept.stored.actor, kept.stored.trained_at) == ("ada", NOW)
    assert kept.stored.trained == json.loads(json.dumps(figures))


def test_the_next_one_of_the_day_gets_the_next_number_and_is_compared_with_the_active_one(
    known: sa.Engine, clock: FrozenClock
) -> None:
    first = train(known, clock)
    activate(known, "acme", first.version, actor="grace", reason=None, now=NOW)

    second = train(known, clock)

    assert second.version == "2026-01-15.2"
    assert second.figures["compared_with"] == first.version
    assert second.figures["agreement"]["share"] == 1.0
    assert second.figures["base"] == shipped_parameters().version


def test_too_few_leads_are_refused_with_what_is_needed(engine: sa.Engine, clock: FrozenClock) -> None:
    make_known(engine, PEOPLE[:300])

    with pytest.raises(LeadsError, match="the tenant acme has 300 records of leads; training needs 1,000 at least"):
        train(engine, clock)
    assert len(list_models(engine, "acme")) == 1


def test_no_more_records_are_read_than_asked_for_and_the_same_ones_for_the_same_seed(
    known: sa.Engine, clock: FrozenClock
) -> None:
    learners = [Learner(), Learner(), Learner()]
    for learner, seed in zip(learners, (1, 1, 2), strict=True):
        train(known, clock, learn=learner, most_records=400, seed=seed)

    read = [set(learner.records) for learner in learners]
    assert 250 < len(learners[0].records) <= 400
    with known.connect() as connection:  # of a sample too it is told how many people there are
        contacts = identity.read_size(connection, "acme").contacts
    assert [learner.contacts for learner in learners] == [pytest.approx(0.9 * contacts, rel=0.01)] * 3
    assert read[0] == read[1] != read[2]


def test_nobody_s_leads_are_both_learned_from_and_held_out(engine: sa.Engine) -> None:
    make_known(engine, PEOPLE)
    with engine.connect() as connection:
        learned, held = (
            list(sample_records(connection, "acme", held_out=held_out, limit=100_000, seed=1))
            for held_out in (False, True)
        )
    truth_of = {person.fields: person.truth for person in PEOPLE}
    assert len(learned) + len(held) == len(PEOPLE)
    shared = {truth_of[fields] for fields in learned} & {truth_of[fields] for fields in held}
    # Two people who look alike in everything cannot be told apart here.
    assert len(shared) <= 2


def test_other_tenants_leads_are_not_read(known: sa.Engine, clock: FrozenClock) -> None:
    with pytest.raises(LeadsError, match="the tenant globex has 0 records"):
        train_match_model(known, "globex", settings=MatchingSettings(), learn=Learner(), actor="ada", clock=clock)


def test_what_persons_decided_measures_both_models(known: sa.Engine, clock: FrozenClock) -> None:
    one = contact(known)
    anna = {"first_name": "Anna", "last_name": "Kowalczyk"}
    leads = {
        name: member(known, one, **payload)
        for name, payload in {
            "anna": {**anna, "phone": "+14155552671", "email": "a@x.example"},
            "same": {**anna, "phone": "+14155552671", "email": "anna@y.example"},
            "other": {"first_name": "Peter", "last_name": "Quist", "email": "pq@z.example"},
        }.items()
    }
    for first, second, state in (("anna", "same", "accepted"), ("anna", "other", "rejected")):
        with known.begin() as connection:
            connection.execute(
                sa.insert(schema.match_reviews).values(
                    review_id=one if state == "accepted" else leads["other"],
                    tenant="acme",
                    lead_id=leads[first],
                    other_lead_id=leads[second],
                    match_weight=4.0,
                    evidence={},
                    state=state,
                    opened_at=NOW,
                    decided_at=NOW,
                    decided_by="person:ada",
                    batch_id=one,
                    runner_id="test",
                )
            )

    reviews = train(known, clock).figures["reviews"]

    assert set(reviews) == {"active", "new"}
    active, new = reviews["active"], reviews["new"]
    assert (active["decided"], active["merged_rightly"], active["kept_apart_rightly"]) == (2, 1, 1)
    assert (active["precision"], active["recall"]) == (1.0, 1.0)
    # It finds every pair less probable.
    assert (new["decided"], new["missed"], new["kept_apart_rightly"]) == (2, 1, 1)
    assert (new["precision"], new["recall"]) == (None, 0.0)


def test_without_decisions_nothing_is_claimed_about_them(known: sa.Engine, clock: FrozenClock) -> None:
    reviews = train(known, clock).figures["reviews"]

    assert reviews["new"]["decided"] == 0
    assert reviews["new"]["precision"] is reviews["new"]["recall"] is None


def test_an_active_model_that_cannot_be_used_does_not_stop_the_training_of_one_that_can(
    known: sa.Engine, clock: FrozenClock
) -> None:
    keep(known, {**json.loads(changed("old").to_json()), "levels": {}}, now=NOW, active=True)

    assert train(known, clock).figures["compared_with"] == shipped_parameters().version


def test_progress_is_told_in_order(known: sa.Engine, clock: FrozenClock, settings: Settings) -> None:
    told: list[str] = []

    train(known, clock, settings=settings.matching, progress=told.append)

    assert [line.split()[0] for line in told] == ["reading", "learning", "comparing", "comparing"]
