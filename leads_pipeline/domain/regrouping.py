"""What a full resolution changes: from groups of leads to contacts, and the decisions that lead there.

A contact's id goes with its largest part (of equal ones, with the founding lead's); where several contacts come
together, the oldest survives. Parts that get no id found a contact. So the same groups over the contacts that they have
become change nothing. Keep out: how the groups were found, and SQL.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar
from uuid import UUID

from leads_pipeline.domain.identity_change import Change, IdentityState, merged, moved
from leads_pipeline.domain.identity_log import DecisionKind
from leads_pipeline.domain.ids import ContactId, LeadId

K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Part:
    """The leads that a group has of a contact. ``founding``: the contact's founding lead is among them.

    ``revisions``: what was read of each lead, in the order of their ids; a tuple, as a rebuild holds very many.
    """

    group: int
    contact: ContactId
    leads: frozenset[LeadId]
    founding: bool
    revisions: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Regrouping:
    """Contacts whose leads a full resolution groups otherwise, as they were when it read them: all their parts.

    What it names hangs together: it changes as a whole or not at all.
    """

    parts: tuple[Part, ...]

    @property
    def contact_of(self) -> dict[LeadId, ContactId]:
        return {lead: part.contact for part in self.parts for lead in part.leads}

    @property
    def contacts(self) -> frozenset[ContactId]:
        return frozenset(part.contact for part in self.parts)

    @property
    def revisions(self) -> dict[LeadId, int]:
        """What was read of each lead."""
        return {
            lead: revision
            for part in self.parts
            for lead, revision in zip(sorted(part.leads), part.revisions, strict=True)
        }

    def holds(self, state: IdentityState, revisions: Mapping[LeadId, int]) -> bool:
        """Whether its contacts live and have the leads that they had, none of them resolved anew since.

        ``revisions``: what each lead of ``state`` was last resolved with. A lead that was corrected may have stayed
        with its contact and yet be no longer what the groups were found by.
        """
        contacts = self.contacts
        if any(state.merged_into.get(contact, contact) is not None for contact in contacts):
            return False
        now = {lead: owner for lead, owner in state.contact_of.items() if owner in contacts}
        return now == self.contact_of and all(
            revisions.get(lead) == revision for lead, revision in self.revisions.items()
        )


@dataclass(frozen=True, slots=True)
class Step:
    """One decision. ``part`` is what moved: the evidence is that which ties it to its group."""

    kind: DecisionKind
    contact: ContactId
    other: ContactId
    part: Part
    change: Change


@dataclass(frozen=True, slots=True)
class Summary:
    """How contacts differ. ``moved_leads``: leads whose contact is another than before."""

    merges: int = 0
    splits: int = 0
    moves: int = 0
    moved_leads: int = 0


@dataclass(frozen=True, slots=True)
class Outline:
    """A decision without its ids: ``target`` is the contact that goes on, ``None`` for one of the group's own."""

    kind: DecisionKind
    part: Part
    target: ContactId | None


def decisions(regrouping: Regrouping, state: IdentityState, *, new_id: Callable[[], UUID]) -> list[Step]:
    """The decisions, in order, that make contacts of the groups; each starts from what the last one leaves."""
    founded: dict[int, ContactId] = {}
    steps: list[Step] = []
    for item in outlines(regrouping):
        part = item.part
        if item.kind is DecisionKind.SPLIT:
            founded[part.group] = ContactId(new_id())
        target = item.target or founded[part.group]
        if item.kind is DecisionKind.MERGE:
            change = merged(state, target, part.contact)
        else:
            change = moved(state, part.leads, target)
        # A split is logged under the contact that was taken apart, all else under the one that gains.
        contact, other = (part.contact, target) if item.kind is DecisionKind.SPLIT else (target, part.contact)
        steps.append(Step(item.kind, contact, other, part, change))
        state = change.applied(state)
    return steps


def outlines(regrouping: Regrouping) -> list[Outline]:
    """First whatever leaves a contact, then what is left is merged where another contact goes on."""
    parts_of: dict[ContactId, list[Part]] = defaultdict(list)
    for part in regrouping.parts:
        parts_of[part.contact].append(part)
    largest = {contact: max(parts, key=_size) for contact, parts in parts_of.items()}
    owner_of: dict[int, ContactId] = {}
    for contact in sorted(largest):
        owner_of.setdefault(largest[contact].group, contact)
    leaving: list[Outline] = []
    founded: set[int] = set()
    for contact, parts in sorted(parts_of.items()):
        for part in sorted(parts, key=lambda item: min(item.leads)):
            if part is largest[contact]:
                continue
            target = owner_of.get(part.group)
            is_new = target is None and part.group not in founded
            if is_new:
                founded.add(part.group)
            leaving.append(Outline(DecisionKind.SPLIT if is_new else DecisionKind.MOVE, part, target))
    merging = [
        Outline(DecisionKind.MERGE, part, owner_of[part.group])
        for contact, part in sorted(largest.items())
        if owner_of[part.group] != contact
    ]
    return [*leaving, *merging]


def _size(part: Part) -> tuple[int, bool, int]:
    return len(part.leads), part.founding, -min(part.leads).int


def together(state: IdentityState, changes: Sequence[Change]) -> Change:
    """What consecutive changes from ``state`` on come to."""
    after = state
    founded: dict[ContactId, LeadId] = {}
    for change in changes:
        after = change.applied(after)
        founded |= change.founded
    return Change(
        leads=_differing(state.contact_of, after.contact_of),
        merged_into={
            contact: into for contact, into in after.merged_into.items() if state.merged_into.get(contact) != into
        },
        founded=founded,
        founders={
            contact: lead
            for contact, lead in _differing(state.founders, after.founders).items()
            if contact not in founded
        },
    )


def _differing(before: Mapping[K, V], after: Mapping[K, V]) -> dict[K, V]:
    return {key: value for key, value in after.items() if key not in before or before[key] != value}


def summary(regroupings: Iterable[Regrouping]) -> Summary:
    """What ``decisions`` would do."""
    kinds: Counter[DecisionKind] = Counter()
    leads = 0
    for regrouping in regroupings:
        for item in outlines(regrouping):
            kinds[item.kind] += 1
            leads += len(item.part.leads)
    return Summary(kinds[DecisionKind.MERGE], kinds[DecisionKind.SPLIT], kinds[DecisionKind.MOVE], leads)
