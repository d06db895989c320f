"""From groups to contacts: which id goes where, and the decisions that lead there."""

from collections import defaultdict
from datetime import UTC, datetime, timedelta
from itertools import count
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from leads_pipeline.domain.identity_change import IdentityState, restored
from leads_pipeline.domain.identity_log import DecisionKind
from leads_pipeline.domain.ids import ContactId, LeadId, uuid7
from leads_pipeline.domain.regrouping import Part, Regrouping, Summary, decisions, summary, together

BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)


def identifier(number: int) -> UUID:
    """Ids in the order of their numbers."""
    return uuid7(BEGINNING + timedelta(minutes=number), random_bits=lambda _bits: 0)


def lead(number: int) -> LeadId:
    return LeadId(identifier(number))


def contact(number: int) -> ContactId:
    return ContactId(identifier(1_000 + number))


# For each lead its contact and the group that it is found to belong to.
assignments = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=12)


def regrouping_of(found: list[tuple[int, int]]) -> tuple[Regrouping, IdentityState]:
    """As if all of it hung together; every contact was founded by its first lead."""
    founders: dict[ContactId, LeadId] = {}
    parts: dict[tuple[int, ContactId], set[LeadId]] = defaultdict(set)
    for number, (owner, group) in enumerate(found):
        founders.setdefault(contact(owner), lead(number))
        parts[group, contact(owner)].add(lead(number))
    regrouping = Regrouping(
        tuple(
            Part(group, owner, frozenset(leads), founders[owner] in leads, (1,) * len(leads))
            for (group, owner), leads in parts.items()
        )
    )
    return regrouping, IdentityState(regrouping.contact_of, dict.fromkeys(founders), founders)


def resolved(found: list[tuple[int, int]]) -> tuple[IdentityState, IdentityState, list[tuple[DecisionKind, int]]]:
    regrouping, state = regrouping_of(found)
    fresh = count()
    steps = decisions(regrouping, state, new_id=lambda: contact(100 + next(fresh)))
    change = together(state, [step.change for step in steps])
    return state, change.applied(state), [(step.kind, len(step.part.leads)) for step in steps]


def by_contact(state: IdentityState) -> set[frozenset[LeadId]]:
    owners: dict[ContactId, set[LeadId]] = defaultdict(set)
    for name, owner in state.contact_of.items():
        owners[owner].add(name)
    return {frozenset(leads) for leads in owners.values()}


@given(assignments)
def test_contacts_become_what_the_groups_are(found: list[tuple[int, int]]) -> None:
    _before, after, _steps = resolved(found)

    wanted: dict[int, set[LeadId]] = defaultdict(set)
    for number, (_owner, group) in enumerate(found):
        wanted[group].add(lead(number))
    assert by_contact(after) == {frozenset(leads) for leads in wanted.values()}
    assert all(after.merged_into[owner] is None for owner in after.contact_of.values())
    assert all(after.contact_of[founder] == owner for owner, founder in after.founders.items() if owner in set(
        after.contact_of.values()
    ))  # fmt: skip


@given(assignments)
def test_a_contact_that_goes_was_merged_into_one_that_lives(found: list[tuple[int, int]]) -> None:
    _before, after, _steps = resolved(found)

    living = set(after.contact_of.values())
    for owner, into in after.merged_into.items():
        assert (into in living and into < owner) if owner not in living else into is None


@given(assignments)
def test_a_contact_that_keeps_its_id_keeps_its_largest_part(found: list[tuple[int, int]]) -> None:
    before, after, _steps = resolved(found)

    for owner in set(before.contact_of.values()) & set(after.contact_of.values()):
        left: dict[ContactId, int] = defaultdict(int)
        for name in before.leads_of(owner):
            left[after.contact_of[name]] += 1
        assert left[owner] == max(left.values())


@given(assignments)
def test_the_same_groups_again_change_nothing(found: list[tuple[int, int]]) -> None:
    _before, after, _steps = resolved(found)
    again = Regrouping(
        tuple(
            Part(group, owner, leads, founding=True, revisions=(1,) * len(leads))
            for group, owner, leads in (
                (number, owner, after.leads_of(owner)) for number, owner in enumerate(set(after.contact_of.values()))
            )
        )
    )

    assert decisions(again, after, new_id=lambda: contact(999)) == []
    assert summary([again]) == Summary()


@given(assignments)
def test_the_summary_counts_what_is_decided(found: list[tuple[int, int]]) -> None:
    regrouping, _state = regrouping_of(found)
    before, after, steps = resolved(found)

    counted = summary([regrouping])

    kinds = [kind for kind, _leads in steps]
    assert (counted.merges, counted.splits, counted.moves) == tuple(
        kinds.count(kind) for kind in (DecisionKind.MERGE, DecisionKind.SPLIT, DecisionKind.MOVE)
    )
    changed = sum(after.contact_of[name] != owner for name, owner in before.contact_of.items())
    assert counted.moved_leads == changed


@given(assignments)
def test_decisions_undone_newest_first_bring_back_what_was(found: list[tuple[int, int]]) -> None:
    regrouping, before = regrouping_of(found)
    fresh = count()
    steps = decisions(regrouping, before, new_id=lambda: contact(100 + next(fresh)))
    states = [before]
    for step in steps:
        states.append(step.change.applied(states[-1]))

    state = states[-1]
    for step, earlier in zip(reversed(steps), reversed(states[:-1]), strict=True):
        inverse = step.change.inverse(earlier)
        back = restored(state, inverse, frozenset(step.change.leads), new_id=lambda: contact(999))
        state = back.applied(state)

    assert state.contact_of == before.contact_of


def test_what_has_changed_since_does_not_hold() -> None:
    regrouping, state = regrouping_of([(0, 0), (0, 1), (1, 1)])

    read = dict.fromkeys(state.contact_of, 1)

    assert regrouping.holds(state, read)
    one_more = IdentityState({**state.contact_of, lead(9): contact(0)}, state.merged_into, state.founders)
    assert not regrouping.holds(one_more, {**read, lead(9): 1})
    merged = IdentityState(state.contact_of, {**state.merged_into, contact(1): contact(0)}, state.founders)
    assert not regrouping.holds(merged, read)
    for number in range(3):
        assert not regrouping.holds(state, {**read, lead(number): 2}), "corrected since"


def test_each_lead_has_its_own_revision() -> None:
    part = Part(0, contact(0), frozenset([lead(2), lead(0), lead(1)]), founding=True, revisions=(5, 6, 7))

    assert Regrouping((part,)).revisions == {lead(0): 5, lead(1): 6, lead(2): 7}
