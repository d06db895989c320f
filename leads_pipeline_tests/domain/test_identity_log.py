"""Which decisions hold, what supersedes what, and who goes with whom."""

from datetime import datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leads_pipeline.domain.identity_log import (
    Decision,
    DecisionKind,
    Inverse,
    Link,
    LinkKind,
    decision_of,
    followers,
    standing,
    superseding,
    violated,
)
from leads_pipeline.domain.ids import ContactId, LeadId
from leads_pipeline_tests.conftest import NOW

A, B, C, N = (ContactId(UUID(int=number)) for number in range(1, 5))
a, b, c, d = (LeadId(UUID(int=number)) for number in range(101, 105))


def decision(number: int, kind: str = "merge", contact: ContactId = A, **known: Any) -> Decision:
    defaults: dict[str, Any] = {
        "other_contact_id": None, "moved": {}, "inverse": Inverse(), "undoes": None, "actor": "person:grace",
        "reason": None, "match_weight": None, "evidence": {}, "merged_at": NOW,
    }  # fmt: skip
    return Decision(UUID(int=1000 + number), number, DecisionKind(kind), contact, **{**defaults, **known})


def merge(number: int, other: ContactId, into: ContactId, *leads: LeadId) -> Decision:
    inverse = Inverse(leads=dict.fromkeys(leads, other), contacts={other: None})
    return decision(number, "merge", into, other_contact_id=other, moved=dict.fromkeys(leads, into), inverse=inverse)


def undo(number: int, of: Decision) -> Decision:
    assert of.inverse is not None
    back = {lead: contact for lead, contact in of.inverse.leads.items() if contact is not None}
    inverse = Inverse(leads=of.moved, contacts=dict.fromkeys(of.inverse.contacts, of.contact_id))
    return decision(number, "undo", of.contact_id, moved=back, inverse=inverse, undoes=of.merge_id)


def test_an_undo_holds_until_it_is_taken_back_itself() -> None:
    first = merge(1, B, A, b)
    second = undo(2, first)
    third = undo(3, second)
    fourth = undo(4, third)
    assert standing([first]) == {}
    assert standing([second, first]) == {first.merge_id: second.merge_id}
    assert standing([first, second, third]) == {second.merge_id: third.merge_id}
    assert standing([first, second, third, fourth]) == {
        third.merge_id: fourth.merge_id, first.merge_id: second.merge_id,
    }  # fmt: skip


def test_a_later_decision_about_the_same_leads_supersedes() -> None:
    first = merge(1, B, A, b)
    split = decision(2, "split", A, other_contact_id=N, moved={b: N}, inverse=Inverse({b: A}, {N: A}))
    elsewhere = decision(3, "split", A, other_contact_id=C, moved={a: C}, inverse=Inverse({a: A}, {C: A}))
    assert superseding(first, [split, elsewhere, first]) == [split]
    assert superseding(split, [first, split]) == []


def test_a_later_merge_of_the_survivor_supersedes_and_one_into_it_does_not() -> None:
    first = merge(2, C, B, c)
    of_survivor, into_survivor = merge(3, B, A, b, c), merge(4, N, B, d)
    assert superseding(first, [of_survivor, into_survivor]) == [of_survivor]
    assert superseding(first, [into_survivor]) == []


def test_what_supersedes_what_supersedes_comes_first() -> None:
    first, second = merge(1, C, B, c), merge(2, B, A, b, c)
    third = decision(3, "split", A, other_contact_id=N, moved={b: N}, inverse=Inverse({b: A}, {N: A}))
    assert superseding(first, [third, first, second]) == [third, second]


def test_a_decision_and_its_undo_cancel_each_other_out() -> None:
    first, second = merge(1, C, B, c), merge(2, B, A, b, c)
    taken_back = undo(3, second)
    assert superseding(first, [first, second, taken_back]) == []
    again = undo(4, taken_back)
    # The undo and its undo are gone; what holds again is the merge, through what took its undo back.
    assert superseding(first, [first, second, taken_back, again]) == [second]


def test_an_undo_of_something_older_counts_if_it_moved_the_same_leads() -> None:
    old = merge(1, B, A, b)
    join = decision(2, "join", A, moved={c: A}, inverse=Inverse({c: None}))
    taken_along = decision(3, "undo", A, moved={b: B, c: B}, inverse=Inverse({b: A, c: A}, {B: A}), undoes=old.merge_id)
    assert superseding(join, [old, join, taken_along]) == [taken_along]


def test_an_earlier_decision_never_supersedes() -> None:
    first, second = merge(1, B, A, b), merge(2, B, A, b)
    assert superseding(second, [first, second]) == []


def test_a_row_is_read_with_its_inverse_and_an_old_one_without() -> None:
    row = {
        "merge_id": UUID(int=1), "number": 7, "kind": "merge", "contact_id": A, "other_contact_id": B, "undoes": None,
        "lead_ids": [{"lead_id": str(b), "revision": 2}, {"lead_id": str(c), "revision": 1, "contact_id": str(N)}],
        "inverse": {
            "leads": [{"lead_id": str(b), "contact_id": str(B)}, {"lead_id": str(c), "contact_id": None}],
            "contacts": {str(B): None, str(C): str(B)},
        },
        "actor": "model:1", "reason": None, "match_weight": 6.0, "evidence": {"prior": -3.0}, "merged_at": NOW,
        "compared_lead_id": a, "compared_with_lead_id": b, "review_weight": 3.0, "merge_weight": 5.0,
    }  # fmt: skip
    found = decision_of(row)
    assert (found.compared, found.cut_offs) == ((a, b), (3.0, 5.0))
    assert found.moved == {b: A, c: N}
    assert found.inverse == Inverse({b: B, c: None}, {B: None, C: B})
    assert found.named == {A, B, C, N}
    unknown = dict.fromkeys(("compared_lead_id", "compared_with_lead_id", "review_weight", "merge_weight"))
    old = decision_of({**row, "inverse": {}, **unknown})
    assert old.inverse is old.compared is old.cut_offs is None
    assert superseding(merge(1, C, B, c), [old]) == [old]


def test_an_inverse_is_read_as_it_was_written() -> None:
    written = Inverse(
        leads={a: A, b: None}, contacts={B: None, C: A}, founders={A: a}, links_made=(UUID(int=9),),
        links_withdrawn=(UUID(int=8),),
    )  # fmt: skip
    row = {
        "merge_id": UUID(int=1), "number": 1, "kind": "undo", "contact_id": A, "other_contact_id": None,
        "lead_ids": [], "inverse": written.as_json({a: 3}), "undoes": None, "actor": "person:x", "reason": None,
        "match_weight": None, "evidence": {}, "merged_at": NOW, "compared_lead_id": None,
        "compared_with_lead_id": None, "review_weight": None, "merge_weight": None,
    }  # fmt: skip
    assert decision_of(row).inverse == written
    assert written.as_json({a: 3})["leads"][0]["revision"] == 3


def link(kind: LinkKind, one: set[LeadId], other: set[LeadId]) -> Link:
    return Link(UUID(int=5), kind, (frozenset(one), frozenset(other)), None, "person:grace")


@pytest.mark.parametrize(
    ("kind", "contacts", "holds"),
    [
        (LinkKind.CANNOT, {a: A, b: B}, True),
        (LinkKind.CANNOT, {a: A, b: A}, False),
        (LinkKind.CANNOT, {a: A, b: B, c: A}, False),
        (LinkKind.CANNOT, {a: A}, True),
        (LinkKind.MUST, {a: A, b: A, c: A}, True),
        (LinkKind.MUST, {a: A, b: A, c: B}, False),
        (LinkKind.MUST, {a: A}, True),
        (LinkKind.MUST, {b: A, c: B}, True),  # nobody of the other side is here
    ],
)
def test_links_hold_or_not(kind: LinkKind, contacts: dict[LeadId, ContactId], holds: bool) -> None:
    assert (violated([link(kind, {a}, {b, c})], contacts) == []) is holds


def test_who_came_later_goes_by_the_strongest_value_that_one_side_has_alone() -> None:
    keys = {
        a: ("anna@", "+1", None), b: ("bert@", "+1", "7"), c: ("bert@", "+1", None), d: (None, "+1", "7"),
    }  # fmt: skip
    assert followers({b}, {a}, {c, d}, keys) == {c, d}
    assert followers({a}, {b}, {c, d}, keys) == set()
    # The number that both have tells nothing; nor does an address that neither has.
    assert followers({b}, {a}, {c}, {**keys, c: ("zoe@", "+1", None)}) == set()
    # The first value that tells the sides apart decides, whatever a weaker one would say.
    assert followers({b}, {a}, {d}, {**keys, d: ("anna@", None, "7")}) == set()
    assert followers({b}, {a}, {d}, {}) == set()


@given(
    keys=st.dictionaries(
        st.sampled_from([a, b, c, d]),
        st.tuples(st.sampled_from([None, "x", "y"]), st.sampled_from([None, "x", "y"])),
    )
)
def test_nobody_follows_both_sides(keys: dict[LeadId, tuple[str | None, str | None]]) -> None:
    one, other = followers({a}, {b}, {c, d}, keys), followers({b}, {a}, {c, d}, keys)
    assert one.isdisjoint(other)
    assert one | other <= {c, d}


def test_times_do_not_order_decisions() -> None:
    first = merge(1, C, B, c)
    earlier: datetime = NOW.replace(year=2020)
    second = decision(
        2, "merge", A, other_contact_id=B, moved={c: A}, inverse=Inverse({c: B}, {B: None}), merged_at=earlier
    )
    assert superseding(first, [second]) == [second]
