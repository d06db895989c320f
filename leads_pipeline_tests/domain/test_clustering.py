"""Clustering: best edge first, vetoes, and what the model may not do alone."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leads_pipeline.domain.clustering import NO_LINKS, Clustering, Edge, Limits, Link, Links, Strength, cluster

LIMITS = Limits(merge_weight=6.0, veto_weight=-3.0)


def clustered(
    count: int,
    edges: list[Edge],
    *,
    contact_of: dict[int, str] | None = None,
    sizes: dict[str, int] | None = None,
    limits: Limits = LIMITS,
    links: Links = NO_LINKS,
) -> Clustering:
    return cluster(
        range(count), contact_of=contact_of or {}, contact_sizes=sizes or {}, pairs=edges, limits=limits, links=links
    )


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
    edges = [Edge(0, 1, 20.0), Edge(1, 2, 8.9), Edge(0, 2, -4.0)]
    found = clustered(3, edges)
    assert groups(found) == {frozenset({0, 1}), frozenset({2})}
    assert found.refused == (Edge(1, 2, 8.9),)


def test_a_tie_is_joined_by_what_is_as_far_above_the_merge_weight_as_the_veto_is_below_0() -> None:
    least = LIMITS.merge_weight - LIMITS.veto_weight
    edges = [Edge(0, 1, 20.0), Edge(1, 2, least), Edge(0, 2, -14.0)]
    assert groups(clustered(3, edges)) == {frozenset({0, 1, 2})}
    # One more against it is no tie, nor is it what a shared address may do to a family.
    assert groups(clustered(4, [*edges, Edge(0, 3, 19.0), Edge(2, 3, -4.0)])) == {frozenset({0, 1, 3}), frozenset({2})}
    shared = [Edge(0, 1, 20.0, Strength.IDENTITY), Edge(1, 2, 19.0, Strength.IDENTITY), Edge(0, 2, -14.0)]
    assert groups(clustered(3, shared)) == {frozenset({0, 1}), frozenset({2})}


def test_a_pair_that_speaks_against_can_be_outvoted() -> None:
    edges = [Edge(0, 1, 20.0), Edge(1, 2, 10.0), Edge(0, 2, -4.0)]
    found = clustered(4, [*edges, Edge(0, 3, 19.0), Edge(2, 3, 9.0)])
    assert groups(found) == {frozenset({0, 1, 2, 3})}


def test_the_better_edge_wins_where_only_one_can() -> None:
    edges = [Edge(0, 2, 12.0), Edge(1, 2, 8.0), Edge(0, 1, -9.0)]
    assert groups(clustered(3, edges)) == {frozenset({0, 2}), frozenset({1})}


def test_one_identity_joins_whatever_speaks_against_it() -> None:
    edges = [Edge(0, 1, -20.0, Strength.IDENTITY), Edge(1, 2, 20.0), Edge(0, 2, -20.0)]
    assert frozenset({0, 1}) <= next(group for group in groups(clustered(3, edges)) if 0 in group)


def test_who_left_no_name_at_a_shared_mailbox_does_not_join_those_who_did() -> None:
    # 0 and 2 share an address and are unlike; 1 gave the address alone.
    edges = [Edge(0, 1, 9.0, Strength.IDENTITY), Edge(1, 2, 8.0, Strength.IDENTITY), Edge(0, 2, -12.0)]
    found = clustered(3, edges)
    assert groups(found) == {frozenset({0, 1}), frozenset({2})}
    assert found.refused == (edges[1],)


def test_others_of_a_contact_have_no_say_in_what_an_identity_joins() -> None:
    edges = [Edge(0, 1, 20.0), Edge(1, 2, -5.0, Strength.IDENTITY), Edge(0, 2, -12.0)]
    assert groups(clustered(3, edges, contact_of={0: "a", 1: "a"})) == {frozenset({0, 1, 2})}


def test_a_rule_joins_below_the_merge_weight_but_not_against_a_veto() -> None:
    assert groups(clustered(2, [Edge(0, 1, 2.0, Strength.RULE)])) == {frozenset({0, 1})}
    edges = [Edge(0, 1, 2.0, Strength.RULE), Edge(1, 2, 30.0, Strength.IDENTITY), Edge(0, 2, -5.0)]
    assert groups(clustered(3, edges)) == {frozenset({1, 2}), frozenset({0})}


def test_the_model_may_not_merge_more_contacts_than_its_limit() -> None:
    edges = [Edge(4, contact, 10.0 + contact) for contact in range(4)]
    found = clustered(5, edges, contact_of={0: "a", 1: "b", 2: "c", 3: "d"})
    assert groups(found) == {frozenset({1, 2, 3, 4}), frozenset({0})}
    assert found.refused == (edges[0],)


def test_nothing_but_a_must_link_makes_a_contact_larger_than_the_limit() -> None:
    limits = Limits(merge_weight=6.0, veto_weight=-3.0, max_records=50)
    for strength in (Strength.MODEL, Strength.RULE, Strength.IDENTITY):
        edge = Edge(0, 1, 30.0, strength)
        assert clustered(2, [edge], contact_of={0: "a"}, sizes={"a": 50}, limits=limits).refused == (edge,)
    must = Links(must=[({0}, {1})])
    assert groups(clustered(2, [], contact_of={0: "a"}, sizes={"a": 50}, limits=limits, links=must)) == {
        frozenset({0, 1})
    }


def test_a_refused_pair_that_came_together_by_a_better_way_is_not_refused() -> None:
    # 1-2 is outvoted while it is the only vote; then 2 comes in by the address that it shares with 0.
    edges = [Edge(0, 1, 9.0, Strength.RULE), Edge(0, 1, 9.5), Edge(1, 2, 8.0), Edge(0, 2, -9.0)]
    assert clustered(3, edges).refused == (Edge(1, 2, 8.0),)
    assert clustered(4, [*edges, Edge(2, 3, 7.0), Edge(0, 3, 7.0), Edge(1, 3, 7.0)]).refused == ()


def test_no_strength_of_evidence_joins_what_a_cannot_link_keeps_apart_and_nobody_is_asked() -> None:
    links = Links(cannot=[({0}, {1})])
    for strength in (Strength.MODEL, Strength.RULE, Strength.IDENTITY):
        found = clustered(2, [Edge(0, 1, 40.0, strength)], links=links)
        assert groups(found) == {frozenset({0}), frozenset({1})}
        assert found.refused == ()
        assert found.kept_apart == {(0, 1)}


def test_a_cannot_link_holds_for_whoever_joined_one_of_its_sides() -> None:
    edges = [Edge(left, right, 30.0 - 9 * left, Strength.IDENTITY) for left, right in ((0, 2), (1, 3), (2, 3))]
    found = clustered(4, edges, contact_of={0: "a", 1: "b"}, links=Links(cannot=[({0}, {1})]))
    assert groups(found) == {frozenset({0, 2}), frozenset({1, 3})}
    assert found.kept_apart == {(0, 1)}


@pytest.mark.parametrize("strength", [Strength.MODEL, Strength.RULE, Strength.IDENTITY])
def test_who_fits_both_sides_of_a_cannot_link_joins_neither_and_somebody_is_asked_about_both(
    strength: Strength,
) -> None:
    links = Links(cannot=[({0}, {1})])
    torn = [Edge(0, 2, 12.0, strength), Edge(1, 2, 8.0, strength)]
    found = clustered(3, torn, contact_of={0: "a", 1: "b"}, links=links)
    assert groups(found) == {frozenset({0}), frozenset({1}), frozenset({2})}
    assert set(found.refused) == set(torn)
    assert found.kept_apart == {(0, 1)}


def test_who_fits_one_side_of_a_cannot_link_better_by_a_merge_weight_joins_it() -> None:
    links = Links(cannot=[({0}, {1})])
    for clear in (
        [Edge(0, 2, 20.0), Edge(1, 2, 8.0)],
        [Edge(0, 2, 7.0, Strength.RULE), Edge(1, 2, 8.0)],
        [Edge(0, 2, 7.0), Edge(1, 2, 5.0)],
    ):
        found = clustered(3, clear, contact_of={0: "a", 1: "b"}, links=links)
        assert groups(found) == {frozenset({0, 2}), frozenset({1})}
        assert found.refused == ()


def test_leads_that_are_one_person_fit_both_sides_together() -> None:
    links = Links(cannot=[({0}, {1})])
    edges = [Edge(2, 3, 30.0), Edge(0, 2, 12.0), Edge(1, 3, 10.0)]
    found = clustered(4, edges, contact_of={0: "a", 1: "b"}, links=links)
    assert groups(found) == {frozenset({0}), frozenset({1}), frozenset({2, 3})}


def test_who_fits_both_sides_is_asked_about_whether_or_not_they_grew_in_the_same_chunk() -> None:
    links = Links(cannot=[({0}, {1})])
    edges = [Edge(0, 2, 20.0), Edge(2, 3, 19.0), Edge(1, 3, 18.5)]
    for contact_of in ({0: "a", 1: "b"}, {0: "a", 1: "b", 2: "a"}):
        found = clustered(4, edges, contact_of=contact_of, links=links)
        assert groups(found) == {frozenset({0, 2}), frozenset({1}), frozenset({3})}
        assert set(found.refused) == {Edge(2, 3, 19.0), Edge(1, 3, 18.5)}


def test_who_shares_an_address_with_both_sides_joins_neither_by_a_weaker_edge() -> None:
    links = Links(cannot=[({0}, {1})])
    torn = [Edge(0, 3, 12.0, Strength.IDENTITY), Edge(1, 3, 12.0, Strength.IDENTITY), Edge(2, 3, 14.0)]
    found = clustered(4, torn, contact_of={0: "a", 1: "b", 2: "a"}, links=links)
    assert groups(found) == {frozenset({0, 2}), frozenset({1}), frozenset({3})}
    assert set(found.refused) == set(torn)


def test_what_was_refused_before_a_cannot_link_came_to_answer_it_is_no_question() -> None:
    # 1-2 is outvoted by 0-2 when 2 is nobody's; later 2 joins a contact that came with both sides.
    edges = [Edge(0, 1, 20.0), Edge(1, 2, 8.0), Edge(0, 2, -4.0), Edge(2, 3, 7.0)]
    both = {3: "a", 4: "a"}
    assert clustered(5, edges, contact_of=both, links=Links(cannot=[({0, 4}, {3})])).refused == ()
    assert clustered(5, edges, contact_of=both).refused == (Edge(1, 2, 8.0),)


def test_who_was_refused_by_votes_on_one_side_is_not_joined_to_the_other_by_less() -> None:
    edges = [Edge(0, 1, 20.0), Edge(1, 2, 8.0), Edge(0, 2, -4.0), Edge(2, 3, 7.0)]
    found = clustered(4, edges, links=Links(cannot=[({0}, {3})]))
    assert set(found.refused) == {Edge(1, 2, 8.0), Edge(2, 3, 7.0)}


def test_a_must_link_overrules_votes_and_the_number_of_contacts() -> None:
    edges = [Edge(0, 1, -20.0)]
    contacts = dict(enumerate("abcde"))
    found = clustered(5, edges, contact_of=contacts, links=Links(must=[({0, 1}, {2, 3, 4})]))
    assert groups(found) == {frozenset(range(5))}
    assert {edge.strength for edge in found.joined} == {Strength.LINK}


def test_a_must_link_that_a_cannot_link_forbids_is_refused_as_a_whole() -> None:
    link: Link = ({0, 1}, {2})
    found = clustered(3, [], links=Links(cannot=[({1}, {2})], must=[link]))
    assert groups(found) == {frozenset({0}), frozenset({1}), frozenset({2})}
    assert found.unmet == (link,)


def test_a_contact_that_came_with_both_sides_is_left_whole_and_takes_no_more_of_either() -> None:
    edges = [Edge(1, 2, 30.0), Edge(0, 3, 20.0)]
    links = Links(cannot=[({0}, {1, 2})])
    found = clustered(4, edges, contact_of={0: "a", 1: "a"}, links=links)
    assert groups(found) == {frozenset({0, 1, 3}), frozenset({2})}


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
SIDE = st.frozensets(st.integers(0, COUNT - 1), min_size=1, max_size=3)
LINK = st.tuples(SIDE, SIDE).filter(lambda sides: sides[0].isdisjoint(sides[1]))
LINKS = st.builds(Links, cannot=st.lists(LINK, max_size=4), must=st.lists(LINK, max_size=4))


@given(EDGES, CONTACTS, LINKS, st.randoms(use_true_random=False))
def test_the_answer_does_not_depend_on_the_order_of_edges_and_links(
    edges: list[Edge], contact_of: dict[int, str], links: Links, rng: random.Random
) -> None:
    shuffled = rng.sample(edges, len(edges))
    mixed = Links(
        cannot=[(b, a) for a, b in rng.sample(links.cannot, len(links.cannot))],
        must=rng.sample(links.must, len(links.must)),
    )
    expected = clustered(COUNT, edges, contact_of=contact_of, links=links)
    assert clustered(COUNT, shuffled, contact_of=contact_of, links=mixed) == expected


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


@given(EDGES, CONTACTS, LINKS)
def test_a_cannot_link_is_never_broken(edges: list[Edge], contact_of: dict[int, str], links: Links) -> None:
    found = clustered(COUNT, edges, contact_of=contact_of, links=links)
    before = clustered(COUNT, [], contact_of=contact_of)
    for one, other in links.cannot:
        given_together = {before.group_of[record] for record in one} & {before.group_of[record] for record in other}
        for left in one:
            for right in other:
                if found.group_of[left] == found.group_of[right]:
                    # Only a contact that came so holds both, and it took in nobody else of theirs.
                    assert before.group_of[left] == before.group_of[right]
                    assert before.group_of[left] in given_together


@given(EDGES, CONTACTS, LINKS)
def test_a_must_link_is_met_unless_a_cannot_link_forbids_it(
    edges: list[Edge], contact_of: dict[int, str], links: Links
) -> None:
    found = clustered(COUNT, edges, contact_of=contact_of, links=links)
    assert all(link in links.must for link in found.unmet)
    for link in links.must:
        together = len({found.group_of[record] for record in link[0] | link[1]}) == 1
        assert together or link in found.unmet
    if not links.cannot:
        assert found.unmet == ()
    for one, other in found.unmet:
        # It would put both sides of some cannot-link together, were it met after the others were.
        linked = clustered(COUNT, [], contact_of=contact_of, links=links).group_of
        merged = {linked[record] for record in one | other}
        assert any(
            {linked[record] for record in left} & merged and {linked[record] for record in right} & merged
            for left, right in links.cannot
        )


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
