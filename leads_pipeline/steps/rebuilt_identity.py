"""All contacts of a tenant resolved anew: what would differ, and, if wanted, made so.

``compare`` reads every lead that has a contact, resolves all of them at once (``matching.full``) and changes nothing.
``apply`` writes the difference, some contacts in a transaction, under the tenant's identity lock; chunks of new leads
go on in between. Killed at any time, what was written is whole, and the next rebuild finds what is left. Contact ids
stay, links are kept to, and every decision stands in the log with its inverse.

The leads lie in a DuckDB file below ``state_path`` while they are compared: it is removed afterwards, and what a killed
run has left by the next one.
"""

import fcntl
import shutil
from array import array
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from uuid import UUID

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa

from leads_pipeline.clock import Clock
from leads_pipeline.config import MatchingSettings
from leads_pipeline.domain.identity_log import DecisionKind, LinkKind
from leads_pipeline.domain.ids import BatchId, ContactId, LeadId, uuid7
from leads_pipeline.domain.match_keys import MatchFields
from leads_pipeline.domain.regrouping import Part, Regrouping, Summary, outlines, summary
from leads_pipeline.domain.resolution import Reason
from leads_pipeline.domain.stage import ALL_LANES, Chunk
from leads_pipeline.errors import LeadsError
from leads_pipeline.matching.full import FullResolution, LinkedLeads, resolve_everything
from leads_pipeline.matching.full_candidates import Places
from leads_pipeline.matching.full_groups import components
from leads_pipeline.matching.model import Parameters
from leads_pipeline.matching.pairs import terms_of
from leads_pipeline.storage.identity import lock_identity
from leads_pipeline.storage.identity_rebuild import (
    LinkSides,
    ResolvedLead,
    begin_snapshot,
    read_all_links,
    stream_leads,
)
from leads_pipeline.storage.regrouped_contacts import Regrouped, ask, regroup
from leads_pipeline.storage.term_recount import recount_terms
from leads_pipeline.telemetry import get_logger

log = get_logger(__name__)

Progress = Callable[[str, float], None]
"""What is being done, and the share of it that is done (of reading: how many leads)."""

_LEADS_AT_ONCE = 20_000
# Of so many contacts the lock is held for about a second.
_REGROUPINGS_AT_ONCE = 200
_PAIRS_AT_ONCE = 500
_BIGGEST = 10


@dataclass(frozen=True, slots=True)
class AskedPair:
    """A pair that a person should decide on, as ``matching.full.UndecidedPair``."""

    newer: LeadId
    older: LeadId
    refused: bool
    reason: Reason


@dataclass(frozen=True)
class Difference:
    """What a full resolution found. ``unchanged`` contacts have the same leads; ``biggest``: oldest lead and size."""

    tenant: str
    rebuild_id: UUID
    version: str
    leads: int
    contacts_now: int
    contacts_then: int
    unchanged: int
    summary: Summary
    biggest: Sequence[tuple[LeadId, int]]
    regroupings: Sequence[Regrouping]
    reasons: Mapping[tuple[int, ContactId], Reason]
    asked: Sequence[AskedPair]
    counts: Mapping[str, int]
    seconds: Mapping[str, float]

    def __bool__(self) -> bool:
        return bool(self.regroupings)

    def reason_of(self, group: int, contact: ContactId) -> Reason:
        """Why the leads that ``group`` has of ``contact`` are in it; a split off part has nothing that ties it."""
        return self.reasons.get((group, contact)) or Reason(f"model:{self.version}", None, {})


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What ``apply`` wrote; ``asked`` pairs were put before a person, unless they had been already."""

    regrouped: Regrouped
    asked: int


@dataclass(frozen=True, slots=True)
class Rebuild:
    """Settings of a rebuild. ``runner_id`` is stamped on what it writes.

    ``applied_by``: who has it written, and why, where a person does; every decision keeps it.
    """

    tenant: str
    settings: MatchingSettings
    parameters: Parameters
    state_path: Path
    clock: Clock
    runner_id: str
    progress: Progress = field(default=lambda _phase, _share: None)
    applied_by: str | None = None


def compare(engine: sa.Engine, rebuild: Rebuild) -> Difference:
    """Resolve all leads of the tenant anew and tell what differs. Changes nothing and takes no lock of the database.

    Raises:
        LeadsError: another rebuild of this tenant is under way here.
    """
    with _work_directory(rebuild.state_path, rebuild.tenant) as directory, engine.connect() as connection:
        begin_snapshot(connection)
        links = _linked(read_all_links(connection, rebuild.tenant))
        reading = _Reading()
        with resolve_everything(
            reading.records(stream_leads(connection, rebuild.tenant, at_once=_LEADS_AT_ONCE)),
            parameters=rebuild.parameters,
            settings=rebuild.settings,
            work_directory=directory,
            links=links,
            progress=rebuild.progress,
        ) as resolution:
            # The snapshot is let go: old rows need not be kept for it any longer.
            connection.rollback()
            return _difference(rebuild, reading, resolution, rebuild.clock.monotonic)


def apply(engine: sa.Engine, rebuild: Rebuild, difference: Difference) -> Rebuilt:
    """Make contacts what ``difference`` says, some of them in each transaction.

    A regrouping whose contacts or leads have changed since, or that a new link forbids, is left alone and counted. In
    the end it is counted anew how many contacts have each value.
    """
    total = Regrouped()
    regroupings = difference.regroupings
    said = f", applied by {rebuild.applied_by}" if rebuild.applied_by else ""
    for start in range(0, len(regroupings), _REGROUPINGS_AT_ONCE):
        chunk = _chunk(rebuild)
        with engine.begin() as connection:
            lock_identity(connection, rebuild.tenant)
            total = total.plus(
                regroup(
                    connection,
                    chunk,
                    regroupings[start : start + _REGROUPINGS_AT_ONCE],
                    reasons=difference.reason_of,
                    reason=f"rebuild {difference.rebuild_id}{said}",
                )
            )
        rebuild.progress("writing", min(1.0, (start + _REGROUPINGS_AT_ONCE) / len(regroupings)))
    asked = 0
    for start in range(0, len(difference.asked), _PAIRS_AT_ONCE):
        pairs = difference.asked[start : start + _PAIRS_AT_ONCE]
        chunk = _chunk(rebuild)
        with engine.begin() as connection:
            lock_identity(connection, rebuild.tenant)
            asked += ask(connection, chunk, [(pair.newer, pair.older, pair.refused, pair.reason) for pair in pairs])
    if total.applied:
        # Resolution counts values up only: what was merged or taken apart is counted by its new contacts.
        recount_terms(engine, rebuild.tenant, terms_of=terms_of)
    log.info(
        "identity_rebuilt",
        tenant=rebuild.tenant,
        rebuild_id=str(difference.rebuild_id),
        model=difference.version,
        regrouped=total.applied,
        stale=total.stale,
        forbidden=total.forbidden,
        moved_leads=total.moved_leads,
        asked=asked,
    )
    return Rebuilt(total, asked)


def _chunk(rebuild: Rebuild) -> Chunk:
    now = rebuild.clock.now()
    return Chunk(rebuild.tenant, ALL_LANES, 0, BatchId(uuid7(now)), rebuild.runner_id, now)


class _Reading:
    """Whose each lead is, kept while the leads pass by on their way into the resolution: by their places in it."""

    def __init__(self) -> None:
        self.contacts: list[ContactId] = []
        self._number_of: dict[ContactId, int] = {}
        self._contact_of = array("i")
        self._founding = bytearray()
        self._revisions = array("i")

    def records(self, slices: Iterator[Sequence[ResolvedLead]]) -> Iterator[tuple[LeadId, MatchFields]]:
        for leads in slices:
            for lead in leads:
                number = self._number_of.setdefault(lead.contact_id, len(self.contacts))
                if number == len(self.contacts):
                    self.contacts.append(lead.contact_id)
                self._contact_of.append(number)
                self._founding.append(lead.founding)
                self._revisions.append(lead.revision)
                yield lead.lead_id, lead.fields
        self._number_of.clear()

    @property
    def contact_of(self) -> Places:
        """The number of each lead's contact."""
        return np.frombuffer(self._contact_of, dtype=np.int32)

    @property
    def founding(self) -> npt.NDArray[np.uint8]:
        """1 for each lead that founded its contact."""
        return np.frombuffer(self._founding, dtype=np.uint8)

    @property
    def revisions(self) -> npt.NDArray[np.int32]:
        """What of each lead was read."""
        return np.frombuffer(self._revisions, dtype=np.int32)


def _linked(links: Sequence[LinkSides]) -> LinkedLeads[LeadId]:
    return LinkedLeads(
        [link.sides for link in links if link.kind == LinkKind.CANNOT],
        [link.sides for link in links if link.kind == LinkKind.MUST],
    )


def _difference(
    rebuild: Rebuild, reading: _Reading, resolution: FullResolution[LeadId], now_seconds: Callable[[], float]
) -> Difference:
    began = now_seconds()
    group_of, contact_of = resolution.group_of, reading.contact_of
    # A part is what a group has of a contact.
    codes, part_of = np.unique(group_of.astype(np.int64) << 32 | contact_of, return_inverse=True)
    groups, contacts = codes >> 32, codes & 0xFFFFFFFF
    parts_of_group = np.bincount(groups, minlength=len(group_of))
    parts_of_contact = np.bincount(contacts, minlength=len(reading.contacts))
    changed = (parts_of_group[groups] > 1) | (parts_of_contact[contacts] > 1)
    regroupings = _regroupings(reading, resolution.ids, groups, contacts, changed, part_of)
    moving = {
        (item.part.group, item.part.contact)
        for regrouping in regroupings
        for item in outlines(regrouping)
        if item.kind is not DecisionKind.SPLIT
    }
    keys = {
        part: (int(groups[part]), reading.contacts[int(contacts[part])]) for part in np.flatnonzero(changed).tolist()
    }
    heads = [part for part, key in keys.items() if key not in moving]
    reasons = {
        keys[part]: replace(reason, leads=leads)
        for part, (reason, leads) in resolution.ties(
            np.where(changed[part_of], part_of, -1).astype(np.int32), heads
        ).items()
    }
    sizes = np.bincount(group_of, minlength=len(group_of))
    biggest = np.argsort(-sizes, kind="stable")[:_BIGGEST]
    asked = [AskedPair(pair.newer, pair.older, pair.refused, pair.reason) for pair in resolution.undecided()]
    return Difference(
        tenant=rebuild.tenant,
        rebuild_id=uuid7(rebuild.clock.now()),
        version=rebuild.parameters.version,
        leads=len(group_of),
        contacts_now=len(reading.contacts),
        contacts_then=resolution.counts["groups"],
        unchanged=int(np.count_nonzero(~changed)),
        summary=summary(regroupings),
        biggest=[(resolution.ids[place], int(sizes[place])) for place in biggest.tolist() if sizes[place] > 1],
        regroupings=regroupings,
        reasons=reasons,
        asked=asked,
        counts=resolution.counts,
        seconds={**resolution.seconds, "difference": round(now_seconds() - began, 3)},
    )


def _regroupings(
    reading: _Reading,
    ids: Sequence[LeadId],
    groups: npt.NDArray[np.int64],
    contacts: npt.NDArray[np.int64],
    changed: npt.NDArray[np.bool_],
    part_of: npt.NDArray[np.intp],
) -> list[Regrouping]:
    """What changes, by what hangs together: groups and contacts that share leads."""
    numbers = np.flatnonzero(changed)
    # Contacts are numbered after all groups, so that both are nodes of one graph.
    nodes = (groups[numbers].astype(np.int32), (len(ids) + contacts[numbers]).astype(np.int32))
    label = components(len(ids) + len(reading.contacts), *nodes)[nodes[0]]
    component_of = dict(zip(numbers.tolist(), label.tolist(), strict=True))
    leads: dict[int, list[int]] = defaultdict(list)
    for place in np.flatnonzero(changed[part_of]).tolist():
        leads[int(part_of[place])].append(place)
    founding, revisions = reading.founding, reading.revisions
    found: dict[int, list[Part]] = defaultdict(list)
    for part, places in leads.items():
        found[component_of[part]].append(
            Part(
                int(groups[part]),
                reading.contacts[int(contacts[part])],
                frozenset(ids[place] for place in places),
                any(founding[place] for place in places),
                tuple(revisions[sorted(places, key=ids.__getitem__)].tolist()),
            )
        )
    return [Regrouping(tuple(parts)) for _component, parts in sorted(found.items())]


@contextmanager
def _work_directory(state_path: Path, tenant: str) -> Iterator[Path]:
    """An empty directory for one rebuild of the tenant at a time, removed with what was left in it."""
    parent = state_path / "rebuild"
    parent.mkdir(parents=True, exist_ok=True)
    with (parent / f"{tenant}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LeadsError(f"a rebuild of the tenant {tenant} is under way already; nothing was changed") from None
        directory = parent / tenant
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(mode=0o700)
        try:
            yield directory
        finally:
            shutil.rmtree(directory, ignore_errors=True)
