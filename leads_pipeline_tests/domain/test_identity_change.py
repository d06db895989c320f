"""Contacts merged, taken apart and put back: the oldest survives, the largest part keeps the id, nothing is lost."""

from itertools import count
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from leads_pipeline.domain.identity_change import Change, IdentityState, merged, nearer, parted, restored
from leads_pipeline.domain.ids import ContactId, LeadId

CONTACTS = [ContactId(UUID(int=number)) for number in range(1, 6)]
LEADS = [LeadId(UUID(int=100 + number)) for number in range(10)]
A, B, C, *_ = CONTACTS


@st.composite
def states(draw: st.DrawFn) -> IdentityState:
    """Some contacts with leads each, and some that were merged into them."""
    living = draw(st.lists(st.sampled_from(CONTACTS), min_size=1, max_size=3, unique=True))
    leads = draw(st.lists(st.sampled_from(LEADS), min_size=len(living), max_size=8, unique=True))
    owners = [*living, *(draw(st.sampled_from(living)) for _ in leads[len(living) :])]
    contact_of = dict(zip(leads, owners, strict=True))
    gone = [contact for contact in CONTACTS if contact not in living]
    merged_into = {**dict.fromkeys(living), **{contact: draw(st.sampled_from(living)) for contact in gone}}
    founders = {contact: min(lead for lead, owner in contact_of.items() if owner == contact) for contact in living}
    founders |= {contact: LeadId(UUID(int=900 + contact.int)) for contact in gone}
    return IdentityState(contact_of, merged_into, founders)


def applied(state: IdentityState, change: Change) -> IdentityState:
    return IdentityState(
        change.after(state),
        {**state.merged_into, **change.merged_into, **dict.fromkeys(change.founded)},
        {**state.founders, **change.founders, **change.founded},
    )


def sound(state: IdentityState) -> None:
    living = {contact for contact, into in state.merged_into.items() if into is None}
    assert set(state.contact_of.values()) <= living
    assert {into for into in state.merged_into.values() if into is not None} <= living
    for contact in set(state.contact_of.values()):
        founder = state.founders[contact]
        assert state.contact_of.get(founder, contact) == contact


def new_ids() -> "count[int]":
    return count(1_000_000)


@given(state=states(), places=st.tuples(st.integers(0, 10), st.integers(0, 10)))
def test_the_oldest_survives_a_merge_and_an_undo_brings_the_other_back(
    state: IdentityState, places: tuple[int, int]
) -> None:
    living = sorted(set(state.contact_of.values()))
    one, other = (living[place % len(living)] for place in places)
    if one == other:
        return
    change = merged(state, one, other)
    after = applied(state, change)
    sound(after)
    assert state.leads_of(one) | state.leads_of(other) == after.leads_of(min(one, other))
    assert after.merged_into[max(one, other)] == min(one, other)
    assert change.contacts_more(state) == -1
    back = restored(after, change.inverse(state), frozenset(change.leads), new_id=lambda: UUID(int=next(new_ids())))
    assert applied(after, back) == state
    assert back.contacts_more(after) == 1


@given(state=states(), which=st.integers(0, 10), bits=st.integers(0, 255))
def test_the_larger_part_keeps_the_id_and_an_undo_puts_them_together(
    state: IdentityState, which: int, bits: int
) -> None:
    living = sorted(set(state.contact_of.values()))
    contact = living[which % len(living)]
    members = sorted(state.leads_of(contact))
    part = frozenset(lead for place, lead in enumerate(members) if bits >> place & 1)
    if not part or part == set(members):
        return
    fresh = ContactId(UUID(int=1_000_000))
    change = parted(state, contact, part, new_id=lambda: fresh)
    after = applied(state, change)
    sound(after)
    kept, left = after.leads_of(contact), after.leads_of(fresh)
    assert {kept, left} == {part, frozenset(members) - part}
    assert len(kept) >= len(left)
    if len(kept) == len(left):
        assert state.founders[contact] in kept
    assert change.contacts_more(state) == 1
    back = restored(after, change.inverse(state), frozenset(change.leads), new_id=lambda: UUID(int=2))
    again = applied(after, back)
    assert again.contact_of == state.contact_of
    assert again.merged_into == {**state.merged_into, fresh: contact}
    assert {key: again.founders[key] for key in state.founders} == state.founders


def test_an_undone_join_founds_a_contact_that_a_redo_merges_away() -> None:
    one, other = LEADS[:2]
    before = IdentityState({one: A, other: A}, {A: None}, {A: one})
    inverse = Change({other: A}).inverse(IdentityState({one: A, other: A}, {A: None}, {A: one}))
    joined = type(inverse)(leads={other: None})
    fresh = ContactId(UUID(int=77))
    undone = restored(before, joined, frozenset({other}), new_id=lambda: fresh)
    after = applied(before, undone)
    assert (after.contact_of, after.founders[fresh]) == ({one: A, other: fresh}, other)
    redone = restored(after, undone.inverse(before), frozenset({other}), new_id=lambda: UUID(int=5))
    assert applied(after, redone).contact_of == before.contact_of
    assert redone.merged_into == {fresh: A}


def test_followers_go_along_and_whoever_is_in_a_contact_that_goes_does_too() -> None:
    one, other, late, later = LEADS[:4]
    state = IdentityState({one: A, other: A}, {A: None, B: A}, {A: one, B: other})
    inverse = type(Change().inverse(state))(leads={other: B}, contacts={B: None})
    after = IdentityState({one: A, other: A, late: A, later: A}, {A: None, B: A}, {A: one, B: other})
    change = restored(after, inverse, frozenset({other}), frozenset({late}), new_id=lambda: UUID(int=5))
    assert applied(after, change).contact_of == {one: A, other: B, late: B, later: A}
    # Taken back again: the contact that goes takes along who joined it meanwhile.
    apart = IdentityState({one: A, other: B, late: B, later: B}, {A: None, B: None}, {A: one, B: other})
    redone = restored(apart, change.inverse(after), frozenset(change.leads), new_id=lambda: UUID(int=5))
    assert set(applied(apart, redone).contact_of.values()) == {A}


def test_leads_that_are_gone_stay_gone() -> None:
    one, other = LEADS[:2]
    state = IdentityState({one: A}, {A: None, B: A}, {A: one, B: other})
    inverse = type(Change().inverse(state))(leads={other: B}, contacts={B: None})
    change = restored(state, inverse, frozenset({other}), new_id=lambda: UUID(int=5))
    assert applied(state, change).contact_of == {one: A}
    assert change.merged_into == {B: None}


weights = st.dictionaries(
    st.tuples(st.sampled_from(LEADS[:6]), st.sampled_from(LEADS[:6])).filter(lambda pair: pair[0] < pair[1]),
    st.floats(-20, 20),
)


@given(weights=weights)
def test_leads_are_divided_between_two_and_each_is_with_one(
    weights: dict[tuple[LeadId, LeadId], float],
) -> None:
    one, other = LEADS[0], LEADS[1]
    leads = frozenset(LEADS[:6])
    mine, theirs = nearer(one, other, leads, weights)
    assert one in mine
    assert other in theirs
    assert mine | theirs == leads
    assert mine.isdisjoint(theirs)
    assert nearer(one, other, leads, dict(reversed(weights.items()))) == (mine, theirs)


def test_a_lead_goes_where_the_better_evidence_leads_also_by_another_lead() -> None:
    one, other, third, fourth = LEADS[:4]
    weighed = {(one, third): 3.0, (other, third): 8.0, (third, fourth): 9.0, (one, fourth): 4.0}
    assert nearer(one, other, frozenset(LEADS[:4]), weighed) == (frozenset({one}), frozenset({other, third, fourth}))
    assert nearer(one, other, frozenset(LEADS[:4]), {}) == (frozenset({one, third, fourth}), frozenset({other}))
