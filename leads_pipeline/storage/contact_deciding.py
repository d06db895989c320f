"""A decision about contacts, written whole: leads and contacts, links, withdrawals, reviews, and its row in the log.

One transaction under the tenant's identity lock (``deciding``). What a decision breaks is found before anything is
written: a link that stands against it is named, or withdrawn if the caller may.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from uuid import UUID

import sqlalchemy as sa

from leads_pipeline.domain.identity_change import Change
from leads_pipeline.domain.identity_log import DecisionKind, Link, LinkKind, violated
from leads_pipeline.domain.ids import BatchId, ContactId, LeadId, uuid7
from leads_pipeline.domain.resolution import Reason
from leads_pipeline.domain.stage import ALL_LANES, Chunk
from leads_pipeline.errors import IdentityRefused
from leads_pipeline.storage import match_reviews
from leads_pipeline.storage.contact_consent import carry_withdrawals
from leads_pipeline.storage.contact_links import links_of, make_link, restore_links, withdraw_links
from leads_pipeline.storage.contact_log import write_decision
from leads_pipeline.storage.contact_state import FoundContacts, write_change
from leads_pipeline.storage.identity import lock_identity


@dataclass(frozen=True, slots=True)
class Ruling:
    """Who decides, why and when.

    ``force``: a link that stands against it is withdrawn. ``dry_run``: what would happen is answered, and nothing kept.
    """

    person: str
    now: datetime
    reason: str | None = None
    force: bool = False
    dry_run: bool = False

    @property
    def actor(self) -> str:
        """As the log names it."""
        return f"person:{self.person}"

    def chunk(self, tenant: str) -> Chunk:
        """What the rows of this decision are stamped with."""
        return Chunk(tenant, ALL_LANES, 0, BatchId(uuid7(self.now)), self.actor, self.now)


NewLink = tuple[LinkKind, Collection[LeadId], Collection[LeadId]]


@dataclass(frozen=True)
class Links:
    """What a decision does to links. ``make``: kind and sides."""

    make: Sequence[NewLink] = ()
    withdraw: Collection[UUID] = ()
    restore: Collection[UUID] = ()


@dataclass(frozen=True)
class Decided:
    """What was decided and what came of it. ``merge_id`` is missing where everything was so already.

    ``leads_of``: whose each lead of the contacts concerned is now. ``carried``: statements that were added because a
    withdrawal of consent holds for all parts of a contact that was taken apart.
    """

    tenant: str
    kind: DecisionKind
    merge_id: UUID | None
    contact_id: ContactId
    other_contact_id: ContactId | None
    moved: Mapping[LeadId, ContactId] = field(default_factory=dict)
    leads_of: Mapping[ContactId, frozenset[LeadId]] = field(default_factory=dict)
    founded: frozenset[ContactId] = frozenset()
    returned: frozenset[ContactId] = frozenset()
    merged_away: Mapping[ContactId, ContactId] = field(default_factory=dict)
    links_made: tuple[Link, ...] = ()
    links_withdrawn: tuple[UUID, ...] = ()
    carried: int = 0
    dry_run: bool = False


@contextmanager
def deciding(engine: sa.Engine, tenant: str, *, dry_run: bool) -> Iterator[sa.Connection]:
    """A transaction in which nobody else changes the tenant's identities; a dry run leaves nothing behind."""
    with engine.connect() as connection, connection.begin() as transaction:
        lock_identity(connection, tenant)
        yield connection
        if dry_run:
            transaction.rollback()


def decide(
    connection: sa.Connection,
    ruling: Ruling,
    tenant: str,
    found: FoundContacts,
    change: Change,
    *,
    kind: DecisionKind,
    contact: ContactId,
    other: ContactId | None,
    links: Links,
    undoes: UUID | None = None,
    apart_since: datetime | None = None,
) -> Decided:
    """Write a decision.

    Where it takes a contact apart, withdrawals of consent hold for all parts; ``apart_since`` spares those from before
    the parts came together.

    Raises:
        IdentityRefused: a link forbids the state that would come of it, and the ruling is not to withdraw it.
    """
    chunk, state = ruling.chunk(tenant), found.state
    merge_id = uuid7(ruling.now)
    withdrawn = set(withdraw_links(connection, tenant, links.withdraw, actor=ruling.actor, now=ruling.now))
    restored = restore_links(connection, tenant, links.restore)
    after = change.after(state)
    broken = _broken(connection, tenant, found, after)
    if broken and not ruling.force:
        raise IdentityRefused(_refusal(broken, undoing=undoes is not None), links=tuple(b.link_id for b in broken))
    withdrawn |= set(
        withdraw_links(connection, tenant, [link.link_id for link in broken], actor=ruling.actor, now=ruling.now)
    )
    made = tuple(
        Link(uuid7(ruling.now), link_kind, (frozenset(one), frozenset(two)), merge_id, ruling.actor)
        for link_kind, one, two in links.make
        if one and two
    )
    for link in made:
        make_link(connection, tenant, link, reason=ruling.reason, now=ruling.now)
    write_change(connection, chunk, state, change)
    carried = _carried(connection, chunk, found, change, since=apart_since)
    inverse = replace(
        change.inverse(state),
        links_made=tuple(link.link_id for link in made) + restored,
        links_withdrawn=tuple(sorted(withdrawn)),
    )
    write_decision(
        connection,
        chunk,
        merge_id=merge_id,
        kind=kind,
        contact=contact,
        other=other,
        moved=change.leads,
        revisions=found.revisions,
        inverse=inverse,
        why=Reason(ruling.actor, None, {}),
        reason=ruling.reason,
        undoes=undoes,
    )
    match_reviews.follow(connection, tenant, state.contact_of, actor=ruling.actor, now=ruling.now)
    members: dict[ContactId, set[LeadId]] = {}
    for lead, owner in after.items():
        members.setdefault(owner, set()).add(lead)
    return Decided(
        tenant=tenant,
        kind=kind,
        merge_id=merge_id,
        contact_id=contact,
        other_contact_id=other,
        moved=change.leads,
        leads_of={owner: frozenset(leads) for owner, leads in members.items()},
        founded=frozenset(change.founded),
        returned=frozenset(item for item, into in change.merged_into.items() if into is None),
        merged_away={item: into for item, into in change.merged_into.items() if into is not None},
        links_made=made,
        links_withdrawn=inverse.links_withdrawn,
        carried=carried,
        dry_run=ruling.dry_run,
    )


def _broken(
    connection: sa.Connection, tenant: str, found: FoundContacts, after: Mapping[LeadId, ContactId]
) -> list[Link]:
    """The links in force that hold now and would not any more."""
    links = links_of(connection, tenant, found.state.contact_of)
    already = {link.link_id for link in violated(links, found.state.contact_of)}
    return [link for link in violated(links, after) if link.link_id not in already]


def _refusal(broken: Sequence[Link], *, undoing: bool) -> str:
    said = "; ".join(f"the {link.kind}-link {link.link_id} of {link.actor}" for link in broken)
    decisions = sorted({str(link.merge_id) for link in broken if link.merge_id}, reverse=True)
    if undoing:
        first = f": take back first {', '.join(decisions)}" if decisions else ""
        return f"what this would bring back is forbidden by {said}{first}"
    return f"forbidden by {said}; --force withdraws it"


def _carried(
    connection: sa.Connection, chunk: Chunk, found: FoundContacts, change: Change, *, since: datetime | None
) -> int:
    """Let withdrawals hold for all that is left of each contact that was taken apart."""
    after = change.after(found.state)
    carried = 0
    for contact in sorted({found.state.contact_of[lead] for lead in change.leads}):
        parts: dict[ContactId, set[LeadId]] = {}
        for lead in found.state.leads_of(contact):
            parts.setdefault(after[lead], set()).add(lead)
        if len(parts) > 1:
            carried += carry_withdrawals(connection, chunk, parts, since=since)
    return carried
