"""Clustering: best edge first, vetoes, and what the model may not do alone."""

import random

from hypothesis import given
from hypothesis import strategies as st

from leads_pipeline.domain.clustering import Clustering, Edge, Limits, Strength, cluster

LIMITS = Limits(merge_weight=6.0, veto_weight=-3.0)


def clustered(
    count: int,
    edges: list[Edge],
    *,
    contact_of: dict[int, str] | None = None,
    sizes: dict[str, int] | None = None,
    limits: Limits = LIMITS,
) -> Clustering:
    return cluster(range(count), contact_of=contact_of or {}, contact_sizes=sizes or {}, pairs=edges, limits=limits)


def groups(clustering: Clustering) -> set[frozenset[int]]:
    found: dict[int, set[int]] = {}
    for record, group in clustering.group_of.items():
        found.setdefault(group, set()).add(record)
    return {frozenset(members) for members in found.values()}


def test_an_edge_joins_from_the_merge_weight_on() -> None:
    edges = [Edge(0, 1, 6.0), Edge(2, 3, 5.99)]
    assert groups(clustered(4, edges)) == {frozenset({0, 1}), frozenset({2}), frozenset({3})}


def test_records_of_one_contact_are_together_from_the_start() -> None:
    found = clustered(4, [Edge(3, 1, 9.0)], contact_of={0: "a", 1: "a", 2: "b"})
    assert groups(found) == {frozenset({0, 1, 3}), frozenset({2})}


def test_a_pair_that_speaks_against_keeps_two_groups_apart_and_the_edge_is_refused() -> None:
    edges = [Edge(0, 1, 20.0), Edge(1, 2, 10.0), Edge(0, 2, -4.0)]
    found = clustered(3, edges)
    assert groups(found) == {frozenset({0, 1}), frozenset({2})}
    assert found.refused == (Edge(1, 2, 10.0),)


def test_a_pair_that_speaks_against_can_be_outvoted() -> None:
    edges = [Edge(0, 1, 20.0), Edge(1, 2, 10.0), Edge(0, 2, -4.0)]
    found = clustered(4, [*edges, Edge(0, 3, 19.0), Edge(2, 3, 9.0)])
    assert groups(found) == {frozenset({0, 1, 2, 3})}


def test_the_better_edge_wins_where_only_one_can() -> None:
    edges = [Edge(0, 2, 12.0), Edge(1, 2, 10.0), Edge(0, 1, -9.0)]
    assert groups(clustered(3, edges)) == {frozenset({0, 2}), frozenset({1})}


def test_one_identity_joins_whatever_speaks_against_it() -> None:
    edges = [Edge(0, 1, -20.0, Strength.IDENTITY), Edge(1, 2, 20.0), Edge(0, 2, -20.0)]
    assert frozenset({0, 1}) <= next(group for group in groups(clustered(3, edges)) if 0 in group)


def test_a_rule_joins_below_the_merge_weight_but_not_against_a_veto() -> None:
    assert groups(clustered(2, [Edge(0, 1, 2.0, Strength.RULE)])) == {frozenset({0, 1})}
    edges = [Edge(0, 1, 2.0, Strength.RULE), Edge(1, 2, 30.0, Strength.IDENTITY), Edge(0, 2, -5.0)]
    assert groups(clustered(3, edges)) == {frozenset({1, 2}), frozenset({0})}


def test_the_model_may_not_merge_more_contacts_than_its_limit() -> None:
    edges = [Edge(4, contact, 10.0 + contact) for contact in range(4)]
    found = clustered(5, edges, contact_of={0: "a", 1: "b", 2: "c", 3: "d"})
    assert groups(found) == {frozenset({1, 2, 3, 4}), frozenset({0})}
    assert found.refused == (edges[0],)


def test_the_model_may_not_make_a_contact_larger_than_its_limit_but_identity_may() -> None:
    limits = Limits(merge_weight=6.0, veto_weight=-3.0, max_records=50)
    found = clustered(2, [Edge(0, 1, 30.0)], contact_of={0: "a"}, sizes={"a": 50}, limits=limits)
    assert found.refused == (Edge(0, 1, 30.0),)
    same = [Edge(0, 1, 30.0, Strength.IDENTITY)]
    assert not clustered(2, same, contact_of={0: "a"}, sizes={"a": 50}, limits=limits).refused


def test_a_refused_pair_that_came_together_by_a_better_way_is_not_refused() -> None:
    # 0-1 is refused for the limit on contacts, then one e-mail joins all.
    edges = [Edge(0, 1, 9.0), Edge(0, 1, 1.0, Strength.IDENTITY)]
    assert clustered(2, edges).refused == ()


COUNT = 9
EDGES = st.lists(
    st.builds(
        Edge,
        st.integers(0, COUNT - 1),
        st.integers(0, COUNT - 1),
        st.floats(-20, 30, allow_nan=False).map(lambda weight: round(weight, 1)),
        st.sampled_from(Strength),
    ).filter(lambda edge: edge.left < edge.right),
    max_size=25,
    unique_by=lambda edge: (edge.left, edge.right),
)
CONTACTS = st.dictionaries(st.integers(0, COUNT - 1), st.sampled_from("abc"))


@given(EDGES, CONTACTS, st.randoms(use_true_random=False))
def test_the_answer_does_not_depend_on_the_order_of_edges(
    edges: list[Edge], contact_of: dict[int, str], rng: random.Random
) -> None:
    shuffled = rng.sample(edges, len(edges))
    assert clustered(COUNT, edges, contact_of=contact_of) == clustered(COUNT, shuffled, contact_of=contact_of)


@given(EDGES, CONTACTS)
def test_every_record_is_in_one_group_named_by_its_smallest_member_and_contacts_are_never_split(
    edges: list[Edge], contact_of: dict[int, str]
) -> None:
    found = clustered(COUNT, edges, contact_of=contact_of)
    assert found.group_of.keys() == set(range(COUNT))
    for group in groups(found):
        assert {found.group_of[record] for record in group} == {min(group)}
    for contact in set(contact_of.values()):
        assert len({found.group_of[record] for record, known in contact_of.items() if known == contact}) == 1
    for edge in edges:
        if edge.strength is Strength.IDENTITY:
            assert found.group_of[edge.left] == found.group_of[edge.right]


@given(EDGES)
def test_two_records_that_are_unlike_are_together_only_if_others_vouch_for_it(edges: list[Edge]) -> None:
    ordinary = [edge for edge in edges if edge.strength is Strength.MODEL]
    found = clustered(COUNT, ordinary)
    for edge in ordinary:
        together = [
            e for e in ordinary if {found.group_of[e.left], found.group_of[e.right]} == {found.group_of[edge.left]}
        ]
        if edge.weight < LIMITS.veto_weight and edge in together:
            against = sum(e.weight < LIMITS.veto_weight for e in together)
            assert sum(e.weight >= LIMITS.merge_weight for e in together) > against


@given(EDGES)
def test_a_joined_edge_reached_the_merge_weight_or_was_more_than_the_models_word(edges: list[Edge]) -> None:
    found = clustered(COUNT, edges)
    for edge in found.joined:
        assert edge.strength is not Strength.MODEL or edge.weight >= LIMITS.merge_weight
    assert len(groups(found)) == COUNT - len(found.joined)
