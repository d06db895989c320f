"""The full re-resolution: the pairs, the groups and the answers of the micro-batch, from arrays."""

from collections.abc import Iterator
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from leads_pipeline.config import MatchingSettings
from leads_pipeline.domain.candidates import find_pairs
from leads_pipeline.domain.clustering import Edge, Limits, Links, Strength, cluster
from leads_pipeline.domain.match_keys import MatchFields, MatchKey
from leads_pipeline.domain.match_rules import compile_rules
from leads_pipeline.matching.full import FullResolution, LinkedLeads, resolve_everything
from leads_pipeline.matching.full_candidates import KeyCollector, Places
from leads_pipeline.matching.full_groups import components, group, same_people
from leads_pipeline.matching.full_scoring import NO_RULE, EdgeArrays
from leads_pipeline.matching.model import shipped_parameters
from leads_pipeline.matching.pairs import count_terms
from leads_pipeline.matching.scoring import PairScorer
from leads_pipeline.matching.training import labelled
from leads_pipeline.synthetic.hard_leads import TUNING_SEEDS, hard_leads

ANNA = MatchFields(
    email_key="anna.kowalczyk@northwind.com", first_name_key="anna", last_name_key="kowalczyk", company_key="northwind"
)
BERT = MatchFields(email_key="b.quist@harbor.com", first_name_key="bertil", last_name_key="quist")
LIMITS = Limits(merge_weight=5.0, veto_weight=-3.0, max_records=6)


@pytest.fixture(scope="module")
def people() -> list[MatchFields]:
    posts = ((lead.payload, lead.truth) for lead in hard_leads(1_500, seed=TUNING_SEEDS[1]))
    return [person.fields for person in labelled(posts, today=date(2026, 1, 1))]


def resolved(
    records: list[MatchFields], directory: Path, *, links: LinkedLeads[int] | None = None
) -> FullResolution[int]:
    return resolve_everything(
        enumerate(records),
        parameters=shipped_parameters(),
        settings=MatchingSettings(),
        work_directory=directory,
        links=links,
    )


kinds = st.sampled_from(["area", "mailbox", "name", "email", "external_id"])
keys_of_records = st.lists(st.lists(st.builds(MatchKey, kinds, st.integers(1, 3)), unique=True), max_size=30)


@given(keys_of_records, st.integers(1, 5), st.integers(1, 40))
def test_pairs_are_those_of_the_micro_batch(keys: list[list[MatchKey]], cap: int, at_once: int) -> None:
    # A hash is of the kind as well.
    own = [[MatchKey(key.kind, hash((key.kind, key.key_hash)) % 1_000_003) for key in record] for record in keys]
    collected = KeyCollector(cap=cap)
    for record in own:
        collected.add([record])

    candidates = collected.candidates()
    batches = list(candidates.batches(pairs=at_once))

    expected = find_pairs(own, {}, cap=cap)
    found = [pair for batch in batches for pair in zip(batch.older.tolist(), batch.newer.tolist(), strict=True)]
    assert len(found) == len(set(found))
    assert set(found) == expected.in_chunk
    assert candidates.capped_keys == expected.capped_keys
    assert not batches or batches[-1].records_done == len(own)


def test_records_that_are_spoken_for_are_in_no_pair_and_leave_room_under_the_cap() -> None:
    collected = KeyCollector(cap=1)
    collected.add([[MatchKey("email", 1)]] * 4)

    candidates = collected.candidates(without=np.array([False, False, True, False]))

    (batch,) = candidates.batches(pairs=100)
    assert list(zip(batch.older.tolist(), batch.newer.tolist(), strict=True)) == [(0, 1), (1, 3)]


edges = st.lists(st.tuples(st.integers(0, 14), st.integers(0, 14)), max_size=30)


@given(edges)
def test_components_are_named_by_their_smallest_record(found: list[tuple[int, int]]) -> None:
    left = np.array([one for one, _other in found], np.int32)
    right = np.array([other for _one, other in found], np.int32)

    label = components(15, left, right)

    named: list[set[int]] = [{place} for place in range(15)]
    for one, other in found:
        joined = named[one] | named[other]
        for place in joined:
            named[place] = joined
    assert label.tolist() == [min(members) for members in named]


weighed = st.lists(
    st.tuples(
        st.integers(0, 9),
        st.integers(0, 9),
        st.sampled_from([-9.0, 1.0, 4.0, 6.0, 7.5, 12.0]),
        st.sampled_from([NO_RULE, NO_RULE, 0, 1]),
    ).filter(lambda pair: pair[0] < pair[1]),
    max_size=25,
    unique_by=lambda pair: pair[:2],
)
sides = st.tuples(
    st.sets(st.integers(0, 9), min_size=1, max_size=2), st.sets(st.integers(0, 9), min_size=1, max_size=2)
)
linked = st.builds(
    Links,
    st.lists(sides.filter(lambda pair: pair[0].isdisjoint(pair[1])), max_size=2),
    st.lists(sides, max_size=2),
)


@given(weighed, linked)
def test_groups_are_those_of_clustering_all_at_once(pairs: list[tuple[int, int, float, int]], links: Links) -> None:
    strengths = {NO_RULE: Strength.MODEL, 0: Strength.IDENTITY, 1: Strength.RULE}
    expected = cluster(
        range(10),
        contact_of={},
        contact_sizes={},
        pairs=[Edge(one, other, weight, strengths[rule]) for one, other, weight, rule in pairs],
        limits=LIMITS,
        links=links,
    )
    kept = [pair for pair in pairs if pair[2] >= 3 or pair[3] != NO_RULE]
    against = [pair for pair in pairs if pair[2] < LIMITS.veto_weight and pair[3] == NO_RULE]

    def votes(component_of: Places) -> tuple[Places, Places]:
        asked = [pair for pair in against if component_of[pair[0]] == component_of[pair[1]] >= 0]
        return np.array([pair[0] for pair in asked], np.int32), np.array([pair[1] for pair in asked], np.int32)

    found = group(
        10,
        EdgeArrays(
            np.array([pair[0] for pair in kept], np.int32),
            np.array([pair[1] for pair in kept], np.int32),
            np.array([pair[2] for pair in kept]),
            np.array([pair[3] for pair in kept], np.int8),
        ),
        limits=LIMITS,
        outranking=frozenset({0}),
        links=links,
        votes=votes,
    )

    assert dict(enumerate(found.group_of.tolist())) == expected.group_of
    refused = {(kept[number][0], kept[number][1]) for number in found.refused.tolist()}
    assert refused == {(edge.left, edge.right) for edge in expected.refused}
    assert found.kept_apart == expected.kept_apart
    assert found.unmet_links == len(expected.unmet)


def test_records_with_an_identity_in_common_are_one_person() -> None:
    def identities() -> Iterator[np.ndarray]:
        yield np.array([5, 0, 5, 0, 7, 0], np.uint64)
        yield np.array([0, 0, 9, 9, 0, 0], np.uint64)

    assert same_people(6, identities()).tolist() == [0, 1, 0, 0, 4, 5]


def test_values_are_counted_as_in_a_chunk_and_weights_are_those_of_the_scorer(
    people: list[MatchFields], tmp_path: Path, scorer: PairScorer
) -> None:
    frequencies = count_terms(people)

    with resolved(people, tmp_path) as resolution:
        found = list(resolution.undecided())
        pairs = [(pair.older, pair.newer) for pair in found]
        expected = scorer.score(people, pairs, frequencies=frequencies)

    assert len(found) > 5
    assert resolution.counts["contacts"] == frequencies.contacts
    for pair, scored in zip(
        found, sorted(expected, key=lambda item: pairs.index((item.left, item.right))), strict=True
    ):
        assert pair.reason.match_weight == pytest.approx(scored.match_weight, abs=0.001)
        assert pair.reason.evidence == pytest.approx(scored.evidence, abs=0.002)


def test_whoever_posts_the_same_again_is_the_same_and_makes_no_contact_larger(tmp_path: Path) -> None:
    with resolved([ANNA, BERT, *[ANNA] * 60], tmp_path) as resolution:
        assert resolution.group_of.tolist() == [0, 1, *[0] * 60]
        assert resolution.counts["repeated"] == 60
        assert resolution.counts["refused"] == 0


def test_equal_records_that_no_rule_joins_speak_for_themselves(tmp_path: Path) -> None:
    nobody = MatchFields(first_name_key="john", last_name_key="smith", city_key="london")
    assert compile_rules(MatchingSettings().rules).decide(nobody, nobody) is None

    with resolved([nobody] * 3, tmp_path) as resolution:
        assert resolution.counts["repeated"] == 0


def test_links_are_kept_to_also_between_equal_records(tmp_path: Path) -> None:
    links = LinkedLeads(
        cannot=[(frozenset({0}), frozenset({1}))],
        must=[(frozenset({2}), frozenset({3})), (frozenset({99}), frozenset({3}))],
    )

    with resolved([ANNA, ANNA, BERT, ANNA], tmp_path, links=links) as resolution:
        groups = resolution.group_of.tolist()

    assert groups[0] != groups[1]
    assert groups[2] == groups[3]


def test_who_posts_the_same_again_makes_no_side_of_a_cannot_link_larger(tmp_path: Path) -> None:
    links = LinkedLeads(cannot=[(frozenset(range(60)), frozenset({60, 61}))])

    with resolved([ANNA] * 62, tmp_path, links=links) as resolution:
        assert resolution.group_of.tolist() == [*[0] * 60, 60, 60]
        assert resolution.counts["repeated"] == 60
        assert resolution.counts["refused"] == 0


def test_a_must_link_holds_the_leads_of_one_side_together_when_the_other_is_gone(tmp_path: Path) -> None:
    links = LinkedLeads(must=[(frozenset({0, 1}), frozenset({99})), (frozenset({99}), frozenset({98}))])

    with resolved([ANNA, BERT, ANNA], tmp_path, links=links) as resolution:
        assert resolution.group_of.tolist() == [0, 0, 0]
        assert resolution.counts["unmet_links"] == 0


def test_nothing_at_all_is_no_group(tmp_path: Path) -> None:
    with resolved([], tmp_path) as resolution:
        assert list(resolution.groups()) == []
        assert list(resolution.undecided()) == []
        assert resolution.counts["groups"] == 0
