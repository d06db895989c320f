"""All contacts resolved anew, on a real database and with the shipped model."""

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa

from leads_pipeline.clock import FrozenClock
from leads_pipeline.config import MatchingSettings, Settings
from leads_pipeline.domain.identity_log import DecisionKind, Link, LinkKind
from leads_pipeline.domain.ids import uuid7
from leads_pipeline.domain.match_keys import MatchFields
from leads_pipeline.domain.regrouping import Summary
from leads_pipeline.domain.resolution import Reason
from leads_pipeline.errors import LeadsError
from leads_pipeline.matching.model import shipped_parameters
from leads_pipeline.matching.pairs import ScoredPair
from leads_pipeline.matching.scoring import PairScorer
from leads_pipeline.steps import rebuilt_identity
from leads_pipeline.steps.deduped_leads import dedupe_leads
from leads_pipeline.steps.rebuilt_identity import Rebuild, Rebuilt, apply, compare
from leads_pipeline.storage import schema
from leads_pipeline.storage.contact_links import make_link
from leads_pipeline.storage.identity_rebuild import LinkSides, read_all_links
from leads_pipeline.storage.regrouped_contacts import ask
from leads_pipeline.synthetic.hard_leads import TUNING_SEEDS, hard_leads
from leads_pipeline_tests.conftest import NOW
from leads_pipeline_tests.steps.identity_play import PlainScorer, Play
from leads_pipeline_tests.steps.rows import TENANT, chunk, rows_of
from leads_pipeline_tests.steps.test_deduped_leads import IDENTITY_TABLES, arrive_all
from leads_pipeline_tests.steps.test_reindexed_records import assert_found_by_all_keys

ANNA = {"full_name": "Anna Kowalczyk", "email": "anna.kowalczyk@northwind.com", "company": "Northwind GmbH"}
ANNA_AT_HOME = {"full_name": "Anna Kowalczyk", "email": "ania77@gmail.com", "phone": "+48 601 234 567"}
ANNA_BOTH = {**ANNA_AT_HOME, "email": "anna.kowalczyk@northwind.com"}
BERT = {"full_name": "Bertil Quist", "email": "b.quist@harbor.com", "company": "Harbor Ltd"}
# Another person of Anna's family name.
MAREK = {"full_name": "Marek Kowalczyk", "email": "marek@lighthouse.com", "company": "Northwind GmbH"}


class FamilyScorer(PlainScorer):
    """One family name is enough."""

    def _pair(self, records: Sequence[MatchFields], left: int, right: int) -> ScoredPair:
        weight = 12.0 if records[left].last_name_key == records[right].last_name_key else -1.0
        return ScoredPair(left, right, weight, {"last_name": weight})


@pytest.fixture
def rebuild(settings: Settings, tmp_path: Path) -> Rebuild:
    return Rebuild(
        tenant=TENANT,
        settings=settings.matching,
        parameters=shipped_parameters(),
        state_path=tmp_path,
        clock=FrozenClock(NOW + timedelta(days=1)),
        runner_id="rebuild-run",
    )


@pytest.fixture
def mistaken(engine: sa.Engine, settings: Settings) -> Play:
    """Leads with one family name are taken for one person's, whatever else they say."""
    return Play(engine, settings, scorer=FamilyScorer())


@pytest.fixture
def overlooking(engine: sa.Engine, settings: Settings) -> Play:
    """Every lead is taken for somebody else's."""
    never = MatchingSettings(rules=(), merge_weight=1e6, review_weight=1e6)
    return Play(engine, settings.model_copy(update={"matching": never}))


def rebuilt(engine: sa.Engine, rebuild: Rebuild) -> Rebuilt:
    return apply(engine, rebuild, compare(engine, rebuild))


def groups(play: Play) -> set[frozenset[UUID]]:
    found: dict[UUID, set[UUID]] = {}
    for lead, contact in play.contact_of().items():
        found.setdefault(contact, set()).add(lead)
    return {frozenset(leads) for leads in found.values()}


def identity(engine: sa.Engine) -> list[Any]:
    return [rows_of(engine, table) for table in (*IDENTITY_TABLES, schema.pending, schema.golden_contacts)]


def test_what_the_micro_batches_missed_is_merged_into_the_oldest_contact(
    overlooking: Play, engine: sa.Engine, rebuild: Rebuild
) -> None:
    leads = [overlooking.arrive(**payload) for payload in (ANNA_AT_HOME, ANNA, ANNA_BOTH, BERT)]
    before = overlooking.contact_of()

    difference = compare(engine, rebuild)
    done = apply(engine, rebuild, difference)

    assert (difference.contacts_now, difference.contacts_then, difference.unchanged) == (4, 2, 1)
    # The second and the third agree best, by their e-mail address; that tells nobody what brought them to the first.
    at_home, anna, both, _bert = leads
    compared = {
        row["other_contact_id"]: {row["compared_lead_id"], row["compared_with_lead_id"]}
        for row in overlooking.decisions()
        if row["kind"] == DecisionKind.MERGE
    }
    assert compared == {before[both]: {at_home, both}, before[anna]: {both, anna}}
    assert difference.summary == Summary(merges=2, moved_leads=2)
    assert (done.regrouped.applied, done.regrouped.decisions) == (1, 2)
    after = overlooking.contact_of()
    assert {after[lead] for lead in leads[:3]} == {before[leads[0]]}
    assert after[leads[3]] == before[leads[3]]


@pytest.mark.parametrize("play", ["overlooking", "mistaken"])
def test_values_are_counted_by_what_contacts_are_afterwards(
    play: str, engine: sa.Engine, rebuild: Rebuild, request: pytest.FixtureRequest
) -> None:
    resolved: Play = request.getfixturevalue(play)
    for payload in (ANNA, MAREK, ANNA, BERT):
        resolved.arrive(**payload)

    assert rebuilt(engine, rebuild).regrouped.applied

    assert_found_by_all_keys(engine)


def test_every_merge_is_logged_with_its_evidence_and_what_takes_it_back(
    overlooking: Play, engine: sa.Engine, rebuild: Rebuild
) -> None:
    first, second = overlooking.arrive(**ANNA), overlooking.arrive(**ANNA)
    before = overlooking.contact_of()
    difference = compare(engine, rebuild)
    apply(engine, rebuild, difference)

    (row,) = [row for row in overlooking.decisions() if row["kind"] == DecisionKind.MERGE]
    assert (row["contact_id"], row["other_contact_id"]) == (before[first], before[second])
    assert row["actor"] == "rule:same_email"
    assert row["reason"] == f"rebuild {difference.rebuild_id}"
    assert row["runner_id"] == "rebuild-run"
    assert row["match_weight"] > rebuild.settings.merge_weight
    assert sum(row["evidence"].values()) == pytest.approx(row["match_weight"], abs=0.02)
    assert {row["compared_lead_id"], row["compared_with_lead_id"]} == {first, second}
    assert (row["review_weight"], row["merge_weight"]) == (
        rebuild.settings.review_weight, rebuild.settings.merge_weight,
    )  # fmt: skip
    assert row["inverse"]["leads"] == [{"lead_id": str(second), "revision": 1, "contact_id": str(before[second])}]

    overlooking.undo(row["merge_id"])
    assert overlooking.contact_of() == before
    assert not compare(engine, rebuild), "an undo is kept to"


def test_strangers_are_taken_apart_and_the_larger_part_keeps_the_id(
    mistaken: Play, engine: sa.Engine, rebuild: Rebuild
) -> None:
    marek = mistaken.arrive(**MAREK)
    annas = [mistaken.arrive(**ANNA), mistaken.arrive(**{**ANNA, "job_title": "Head of sales"})]
    (contact,) = set(mistaken.contact_of().values())

    rebuilt(engine, rebuild)

    after = mistaken.contact_of()
    assert {after[lead] for lead in annas} == {contact}
    assert after[marek] != contact
    (row,) = [row for row in mistaken.decisions() if row["kind"] == DecisionKind.SPLIT]
    assert (row["contact_id"], row["other_contact_id"]) == (contact, after[marek])
    assert row["actor"] == f"model:{shipped_parameters().version}"
    mistaken.refresh()
    assert {row["first_name"] for row in mistaken.golden().values()} == {"Anna", "Marek"}


def test_of_equal_parts_that_of_the_founding_lead_keeps_the_id(
    mistaken: Play, engine: sa.Engine, rebuild: Rebuild
) -> None:
    marek, anna = mistaken.arrive(**MAREK), mistaken.arrive(**ANNA)
    (contact,) = set(mistaken.contact_of().values())

    rebuilt(engine, rebuild)

    assert mistaken.contact_of()[marek] == contact
    assert mistaken.contact_of()[anna] != contact


def test_a_split_can_be_taken_back(mistaken: Play, engine: sa.Engine, rebuild: Rebuild) -> None:
    mistaken.arrive(**MAREK), mistaken.arrive(**ANNA)
    before = mistaken.contact_of()
    rebuilt(engine, rebuild)

    mistaken.undo(mistaken.last_decision())

    assert mistaken.contact_of() == before


def test_a_withdrawal_of_consent_holds_for_both_parts(mistaken: Play, engine: sa.Engine, rebuild: Rebuild) -> None:
    mistaken.arrive(**MAREK, granted=True), mistaken.arrive(**ANNA, granted=False)

    done = rebuilt(engine, rebuild)
    mistaken.refresh()

    assert done.regrouped.carried == 1
    assert {mistaken.granted(contact) for contact in set(mistaken.contact_of().values())} == {False}


def test_a_dry_run_changes_nothing_and_leaves_no_file_behind(
    overlooking: Play, engine: sa.Engine, rebuild: Rebuild, tmp_path: Path
) -> None:
    for payload in (ANNA_AT_HOME, ANNA, ANNA_BOTH, BERT):
        overlooking.arrive(**payload)
    before = identity(engine)

    assert compare(engine, rebuild)

    assert identity(engine) == before
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [f"{TENANT}.lock"]


def test_a_second_rebuild_finds_nothing_to_do(
    overlooking: Play, mistaken: Play, engine: sa.Engine, rebuild: Rebuild
) -> None:
    for payload in (ANNA_AT_HOME, BERT, ANNA):
        overlooking.arrive(**payload)
    mistaken.now = overlooking.now
    for payload in (MAREK, ANNA_BOTH):
        mistaken.arrive(**payload)

    first = compare(engine, rebuild)
    apply(engine, rebuild, first)
    rows = identity(engine)
    second = compare(engine, rebuild)
    done = apply(engine, rebuild, second)

    assert first.summary.moved_leads
    assert not second
    assert second.summary == Summary()
    assert second.unchanged == second.contacts_now == second.contacts_then
    assert done.regrouped.decisions == 0
    assert identity(engine) == rows


def test_leads_that_a_person_has_kept_apart_stay_apart_and_who_fits_both_is_asked_about(
    overlooking: Play, engine: sa.Engine, rebuild: Rebuild
) -> None:
    first, second, third = (overlooking.arrive(**payload) for payload in (ANNA, ANNA, ANNA_BOTH))
    overlooking.unlink(first, second)

    rebuilt(engine, rebuild)

    assert frozenset({third}) in groups(overlooking)
    asked = {frozenset((row["lead_id"], row["other_lead_id"])) for row in rows_of(engine, schema.match_reviews)}
    assert asked == {frozenset((first, third)), frozenset((second, third))}
    assert overlooking.contact_of()[first] != overlooking.contact_of()[second]
    assert not compare(engine, rebuild)


def test_who_fits_any_lead_of_two_contacts_that_a_person_has_kept_apart_joins_neither(
    mistaken: Play, overlooking: Play, engine: sa.Engine, rebuild: Rebuild
) -> None:
    linked = mistaken.arrive(**ANNA_AT_HOME)
    beside = mistaken.arrive(**ANNA, phone=ANNA_AT_HOME["phone"])
    other, third, *again = (overlooking.arrive(**payload) for payload in (ANNA, ANNA, ANNA, ANNA))
    overlooking.unlink(linked, other)

    done = rebuilt(engine, rebuild)

    assert groups(overlooking) == {frozenset({linked, beside}), frozenset({other}), frozenset({third, *again})}
    asked = {frozenset((row["lead_id"], row["other_lead_id"])) for row in rows_of(engine, schema.match_reviews)}
    assert asked == {frozenset((beside, third)), frozenset((other, third))}
    assert done.asked == 2
    assert not compare(engine, rebuild)


def test_a_lead_of_a_contact_that_is_kept_apart_is_not_moved_across_the_link(
    mistaken: Play, overlooking: Play, engine: sa.Engine, rebuild: Rebuild
) -> None:
    marek = mistaken.arrive(**MAREK)
    anna = mistaken.arrive(**ANNA)
    other = overlooking.arrive(**ANNA)
    overlooking.unlink(marek, other)

    rebuilt(engine, rebuild)
    assert groups(overlooking) == {frozenset({marek}), frozenset({anna}), frozenset({other})}
    rebuilt(engine, rebuild)
    assert groups(overlooking) == {frozenset({marek}), frozenset({anna, other})}


def test_a_contact_with_leads_of_both_sides_lends_its_others_to_neither(mistaken: Play, engine: sa.Engine) -> None:
    one, other, _beside = (mistaken.arrive(**payload) for payload in (ANNA, MAREK, ANNA_BOTH))
    sides = frozenset({one}), frozenset({other})
    with engine.begin() as connection:
        link = Link(uuid7(NOW), LinkKind.CANNOT, sides, None, "person:grace")
        make_link(connection, TENANT, link, reason=None, now=NOW)
        found = read_all_links(connection, TENANT)

    assert found == [LinkSides(LinkKind.CANNOT, sides)]


def test_leads_that_a_person_has_called_one_stay_together(
    overlooking: Play, engine: sa.Engine, rebuild: Rebuild
) -> None:
    anna, bert = overlooking.arrive(**ANNA), overlooking.arrive(**BERT)
    overlooking.link(anna, bert)

    assert not compare(engine, rebuild)


def test_what_has_changed_since_is_left_to_the_next_rebuild(
    overlooking: Play, engine: sa.Engine, rebuild: Rebuild
) -> None:
    anna, again = overlooking.arrive(**ANNA), overlooking.arrive(**ANNA)
    bert, other = overlooking.arrive(**BERT), overlooking.arrive(**BERT)
    difference = compare(engine, rebuild)
    overlooking.merge(anna, overlooking.arrive(full_name="Carol Dubois", email="carol@lighthouse.com"))

    done = apply(engine, rebuild, difference)

    assert (done.regrouped.applied, done.regrouped.stale) == (1, 1)
    assert overlooking.contact_of()[bert] == overlooking.contact_of()[other]
    assert overlooking.contact_of()[anna] != overlooking.contact_of()[again]
    assert rebuilt(engine, rebuild).regrouped.applied == 1
    assert overlooking.contact_of()[anna] == overlooking.contact_of()[again]


def test_a_lead_that_was_corrected_since_is_left_to_the_next_rebuild(
    overlooking: Play, engine: sa.Engine, rebuild: Rebuild
) -> None:
    anna, again = overlooking.arrive(**ANNA), overlooking.arrive(**ANNA)
    bert, other = overlooking.arrive(**BERT), overlooking.arrive(**BERT)
    overlooking.correct(other, revision=2, **BERT)
    difference = compare(engine, rebuild)
    before = overlooking.contact_of()
    overlooking.correct(again, revision=2, **MAREK)
    assert overlooking.contact_of() == before, "the correction alone moved nothing"

    done = apply(engine, rebuild, difference)

    assert (done.regrouped.applied, done.regrouped.stale) == (1, 1)
    assert overlooking.contact_of()[anna] != overlooking.contact_of()[again]
    assert overlooking.contact_of()[bert] == overlooking.contact_of()[other], "corrected before it was read"
    assert not compare(engine, rebuild)


def test_a_link_that_was_made_meanwhile_is_kept_to(overlooking: Play, engine: sa.Engine, rebuild: Rebuild) -> None:
    anna, again = overlooking.arrive(**ANNA), overlooking.arrive(**ANNA)
    difference = compare(engine, rebuild)
    overlooking.unlink(anna, again)

    done = apply(engine, rebuild, difference)

    assert (done.regrouped.applied, done.regrouped.forbidden) == (0, 1)
    assert overlooking.contact_of()[anna] != overlooking.contact_of()[again]


def test_of_several_pairs_of_two_contacts_the_first_is_asked_about(overlooking: Play, engine: sa.Engine) -> None:
    anna, again = overlooking.arrive(**ANNA), overlooking.arrive(**ANNA_AT_HOME)
    bert, marek = overlooking.arrive(**BERT), overlooking.arrive(**MAREK)
    overlooking.link(anna, again), overlooking.link(bert, marek)
    pairs = [
        (newer, older, False, Reason("model:plain", weight, {}))
        for newer, older, weight in ((marek, anna, 4.5), (bert, again, 4.0), (bert, anna, 3.5))
    ]

    with engine.begin() as connection:
        asked = ask(connection, chunk(), pairs)

    assert asked == 1
    (row,) = rows_of(engine, schema.match_reviews, state="open")
    assert (row["lead_id"], row["other_lead_id"]) == (marek, anna)


def test_pairs_in_the_grey_are_put_before_a_person_once(overlooking: Play, engine: sa.Engine, rebuild: Rebuild) -> None:
    newer, older = overlooking.arrive(**ANNA), overlooking.arrive(**BERT)
    grey = replace(rebuild, settings=MatchingSettings(rules=(), merge_weight=200, review_weight=-199, veto_weight=-200))
    overlooking.arrive(**{**ANNA, "job_title": "Head of sales"})

    difference = compare(engine, grey)
    apply(engine, grey, difference)
    apply(engine, grey, compare(engine, grey))

    assert not difference
    (row,) = rows_of(engine, schema.match_reviews)
    assert (row["state"], row["cause"], row["actor"]) == ("open", "grey", f"model:{shipped_parameters().version}")
    assert {row["lead_id"], row["other_lead_id"]}.isdisjoint({older})
    assert row["other_lead_id"] == newer


def test_other_tenants_are_not_read(overlooking: Play, engine: sa.Engine, rebuild: Rebuild) -> None:
    overlooking.arrive(**ANNA)

    difference = compare(engine, replace(rebuild, tenant="globex"))

    assert (difference.leads, difference.contacts_now, bool(difference)) == (0, 0, False)


def test_two_rebuilds_of_a_tenant_do_not_run_at_once(overlooking: Play, engine: sa.Engine, rebuild: Rebuild) -> None:
    overlooking.arrive(**ANNA)
    refused: list[str] = []

    def another(phase: str, _share: float) -> None:
        if phase == "scoring" and not refused:
            with pytest.raises(LeadsError, match="under way already") as error:
                compare(engine, replace(rebuild, progress=lambda _phase, _share: None))
            refused.append(str(error.value))

    compare(engine, replace(rebuild, progress=another))

    assert refused


_DIES_AFTER_THE_FIRST = """
import os, sys
from datetime import UTC, datetime
from pathlib import Path
from leads_pipeline.clock import FrozenClock
from leads_pipeline.config import MatchingSettings
from leads_pipeline.matching.model import shipped_parameters
from leads_pipeline.steps import rebuilt_identity
from leads_pipeline.steps.rebuilt_identity import Rebuild, apply, compare
from leads_pipeline.storage.database import engine_for

engine = engine_for(sys.argv[1])
rebuilt_identity._REGROUPINGS_AT_ONCE = 1

def die(phase, share):
    if phase == "writing":
        os._exit(9)

rebuild = Rebuild("acme", MatchingSettings(), shipped_parameters(), Path(sys.argv[2]),
                  FrozenClock(datetime(2026, 3, 1, tzinfo=UTC)), "killed", die)
apply(engine, rebuild, compare(engine, rebuild))
"""


def test_a_rebuild_that_is_killed_leaves_whole_contacts_and_the_next_one_goes_on(
    overlooking: Play, engine: sa.Engine, database_url: str, rebuild: Rebuild, tmp_path: Path
) -> None:
    for payload in (ANNA, BERT, MAREK) * 2:
        overlooking.arrive(**payload)

    killed = subprocess.run(
        [sys.executable, "-c", _DIES_AFTER_THE_FIRST, database_url, str(tmp_path)], capture_output=True, check=False
    )

    assert killed.returncode == 9, killed.stderr.decode()
    assert sorted(map(len, groups(overlooking))) == [1, 1, 1, 1, 2]
    assert len(overlooking.decisions()) == 1
    left = compare(engine, rebuild)
    assert left.summary == Summary(merges=2, moved_leads=2)
    apply(engine, rebuild, left)
    assert sorted(map(len, groups(overlooking))) == [2, 2, 2]
    assert not compare(engine, rebuild)


def test_rebuilding_what_came_in_micro_batches_changes_little(
    engine: sa.Engine, settings: Settings, rebuild: Rebuild
) -> None:
    leads = [dict(lead.payload) for lead in hard_leads(1_200, seed=TUNING_SEEDS[0])]
    scorer = PairScorer.load()
    arrive_all(engine, leads)
    while dedupe_leads(engine, chunk(limit=200), settings=settings, scorer=scorer).taken:
        pass

    difference = compare(engine, rebuild)

    assert difference.summary.moved_leads <= 0.02 * len(leads)
    assert difference.unchanged >= 0.97 * difference.contacts_now


def test_regroupings_are_written_some_at_a_time(
    overlooking: Play, engine: sa.Engine, rebuild: Rebuild, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rebuilt_identity, "_REGROUPINGS_AT_ONCE", 2)
    for payload in (ANNA, BERT, MAREK) * 2:
        overlooking.arrive(**payload)

    done = rebuilt(engine, rebuild)

    assert (done.regrouped.applied, len({row["batch_id"] for row in overlooking.decisions()})) == (3, 2)
