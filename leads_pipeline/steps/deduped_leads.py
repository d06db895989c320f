"""From ``validated_leads`` to ``deduped_leads``: whose each lead is.

Rules decide what needs no probability, the model weighs the rest, clustering takes the best evidence first and refuses
what something speaks against; pairs in the grey go to ``match_reviews``. Links, by which persons and undos have decided
for good, come before all of it. The scorer is handed in: loading it costs seconds, and who only imports this module
must not pay for them.
"""

import gc
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from operator import attrgetter
from uuid import UUID

import sqlalchemy as sa

from leads_pipeline.config import MatchingSettings, Settings
from leads_pipeline.domain.clustering import Edge, Limits, Strength, cluster
from leads_pipeline.domain.ids import ContactId, LeadId, uuid7
from leads_pipeline.domain.match_keys import MatchFields
from leads_pipeline.domain.resolution import Assignment, Reason, Record, Resolution, repeats, resolve
from leads_pipeline.domain.stage import Chunk, ChunkReport, Lane, Stage
from leads_pipeline.matching.arrivals import Arrivals, known_contact, sort_out
from leads_pipeline.matching.pairs import Scorer, terms_of
from leads_pipeline.matching.weighing import Weighed, Weighing
from leads_pipeline.storage import identity, identity_links, identity_writing
from leads_pipeline.storage.contact_consent import carry_on_leaving
from leads_pipeline.storage.identity import ArrivingLead
from leads_pipeline.storage.identity_links import PlacedLinks, StoredLink, placed
from leads_pipeline.storage.identity_writing import UNCHANGED, Appearance, Assigned
from leads_pipeline.storage.latency import Measure, measure_latency, took_at_dedupe
from leads_pipeline.storage.pending import Waiting, claim, enqueue
from leads_pipeline.storage.quality_holds import without_held

# Why a corrected lead founds a contact of its own: nothing joins it to anybody any more.
CORRECTED = Reason("rule:corrected", None, {})


def dedupe_leads(
    engine: sa.Engine, chunk: Chunk, *, settings: Settings, scorer: Scorer, measure: Measure = measure_latency
) -> ChunkReport:
    """Resolve one chunk of one tenant.

    One transaction, under the tenant's identity lock: killed before the commit, the leads still wait at the door. A
    lead whose revision was resolved before keeps its contact, so running again changes nothing.
    """
    with engine.begin() as connection, _uncollected():
        identity.lock_identity(connection, chunk.tenant)
        claimed = claim(connection, Stage.DEDUPED_LEADS, chunk)
        if not claimed:
            return ChunkReport(taken=0, passed=0, counts={})
        passing = without_held(connection, claimed, chunk)
        identity.walk_by_index(connection)
        lanes = {item.subject_id: item.lane for item in passing}
        leads = identity.read_arriving(connection, chunk.tenant, lanes)
        settled = [lead for lead in leads if (lead.known_revision or 0) >= lead.revision]
        unsettled = [lead for lead in leads if (lead.known_revision or 0) < lead.revision]
        report = _Chunk(connection, chunk, settings.matching, scorer).resolve(unsettled)
        known = {lead.lead_id: known_contact(lead) for lead in settled}
        contacts = {lead_id: report.survivors.get(contact, contact) for lead_id, contact in known.items()}
        _hand_over(connection, chunk, [*{**contacts, **report.contact_of}.items(), *report.left.items()], lanes)
        measure(connection, *took_at_dedupe(connection, chunk, passing, leads), now=chunk.now)
    held = len(claimed) - len(passing)
    counts = {**report.counts, "settled": len(settled), **({"held_back": held} if held else {})}
    return ChunkReport(taken=len(claimed), passed=len(leads), counts=counts)


@contextmanager
def _uncollected() -> Iterator[None]:
    """No collection of cycles meanwhile.

    There are none among the half a million objects of a large chunk; looking for them again and again took a fifth of
    its time.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@dataclass(frozen=True)
class _Resolved:
    """``touched``: contacts that a lead came to or left, with the leads that did."""

    contact_of: Mapping[UUID, ContactId]
    survivors: Mapping[ContactId, ContactId]
    counts: dict[str, int]
    left: Mapping[UUID, ContactId] = field(default_factory=dict)


class _Chunk:
    """One chunk on its way through identity resolution."""

    def __init__(self, connection: sa.Connection, chunk: Chunk, settings: MatchingSettings, scorer: Scorer) -> None:
        self._connection = connection
        self._chunk = chunk
        self._settings = settings
        self._scorer = scorer
        self._limits = Limits(
            merge_weight=settings.merge_weight,
            veto_weight=settings.veto_weight,
            max_records=settings.max_records_per_contact,
            max_contacts=settings.max_contacts_per_merge,
        )

    def resolve(self, unsettled: Sequence[ArrivingLead]) -> _Resolved:
        if not unsettled:
            return _Resolved({}, {}, {})
        connection, tenant = self._connection, self._chunk.tenant
        arrivals = sort_out(connection, tenant, unsettled, max_records=self._limits.max_records)
        weighed = Weighing(connection, tenant, self._settings, self._scorer).weigh(arrivals)
        records = weighed.records
        linked = self._linked(records, weighed.edges, arrivals)
        clustering = cluster(
            range(len(records)),
            contact_of={place: r.contact_id for place, r in enumerate(records) if r.contact_id is not None},
            contact_sizes=self._contact_sizes(records, weighed.edges),
            pairs=weighed.edges,
            limits=self._limits,
            links=linked.links,
            repeats=repeats(records),
        )
        resolution = resolve(
            records,
            clustering,
            reasons=lambda edge: self._reason(edge, weighed, linked),
            grey=[edge for edge in weighed.edges if self._is_grey(edge)],
            new_id=lambda: uuid7(self._chunk.now),
        )
        survivors = {merge.other: merge.survivor for merge in resolution.merges}
        assigned = [
            _assigned(arrivals.leads[item.place], item, survivors)
            for item in resolution.assignments
            if arrivals.leads[item.place].lead_id not in arrivals.spoken_for
        ]
        staying = [
            Assigned(lead.lead_id, lead.revision, lead.sync_lane, survivors.get(contact, contact), UNCHANGED)
            for lead in arrivals.confirmed
            for contact in (known_contact(lead),)
        ]
        self._write(arrivals, records, resolution, [*assigned, *staying])
        counts = {
            "new": len(resolution.foundings),
            "joined_by_rule": sum(item.decision == "rule" for item in assigned),
            "joined_by_model": sum(item.decision == "model" for item in assigned),
            "moved": sum(item.moved_from is not None for item in assigned),
            "merged_contacts": len(resolution.merges),
            "reviews": len(resolution.reviews),
            "candidates": weighed.candidates,
            "capped_keys": weighed.capped_keys,
            "unmet_links": len(clustering.unmet),
        }
        return _Resolved(
            {item.lead_id: item.contact_id for item in (*assigned, *staying)},
            survivors,
            counts,
            {item.lead_id: item.moved_from for item in assigned if item.moved_from is not None},
        )

    def _is_grey(self, edge: Edge) -> bool:
        settings = self._settings
        return edge.strength is Strength.MODEL and settings.review_weight <= edge.weight < settings.merge_weight

    def _joinable(self, records: Sequence[Record], edges: Sequence[Edge], *, least: float) -> set[ContactId]:
        """The contacts that an edge of this weight, or a rule, reaches."""
        places = (
            place
            for edge in edges
            if edge.strength is not Strength.MODEL or edge.weight >= least
            for place in (edge.left, edge.right)
        )
        return {contact for place in places if (contact := records[place].contact_id) is not None}

    def _contact_sizes(self, records: Sequence[Record], edges: Sequence[Edge]) -> dict[ContactId, int]:
        contacts = self._joinable(records, edges, least=self._settings.merge_weight)
        return identity.count_records(self._connection, contacts) if contacts else {}

    def _linked(self, records: list[Record], edges: Sequence[Edge], arrivals: Arrivals) -> PlacedLinks:
        """The links that have a say in this chunk. What a must-link asks for joins ``records``, compared or not."""
        connection, tenant = self._connection, self._chunk.tenant
        if not identity_links.any_links(connection, tenant):
            return PlacedLinks()
        reached = self._joinable(records, edges, least=self._settings.review_weight)
        wanted = reached | set(arrivals.contact_of.values())
        leads: set[UUID] = set(arrivals.loose)
        found: dict[UUID, StoredLink] = {}
        while wanted or leads:
            links = identity_links.read_links(connection, tenant, contacts=wanted, leads=leads)
            found |= {link.link_id: link for link in links}
            present = {record.contact_id for record in records}
            wanted, leads = set(), set()
            for link in links:
                if link.kind != identity_links.MUST:
                    continue
                for side in link.sides:
                    for lead_id, contact in side.items():
                        if contact not in present and lead_id not in arrivals.loose:
                            records.append(Record(lead_id, 0, MatchFields(), contact, False))
                            present.add(contact)
                            wanted.add(contact)
        return placed(found.values(), records, arrivals.loose)

    def _reason(self, edge: Edge, weighed: Weighed, linked: PlacedLinks) -> Reason:
        if edge.strength is Strength.LINK:
            return Reason(linked.actor_of(edge), None, {})
        pair = weighed.evidence.get((edge.left, edge.right))
        rule = weighed.rules.get((edge.left, edge.right))
        actor = f"rule:{rule}" if rule else f"model:{self._scorer.version}"
        weight = pair.match_weight if pair else edge.weight
        cut_offs = self._settings.review_weight, self._settings.merge_weight
        return Reason(actor, round(weight, 3), pair.evidence if pair else {}, cut_offs)

    def _write(
        self, arrivals: Arrivals, records: Sequence[Record], resolution: Resolution, assigned: Sequence[Assigned]
    ) -> None:
        appearances, terms = _new_appearances(arrivals.leads, records, resolution)
        connection, chunk = self._connection, self._chunk
        identity_writing.write_contacts(connection, chunk, resolution.foundings)
        moved = identity_writing.write_merges(connection, chunk, resolution.merges)
        identity_writing.write_assignments(connection, chunk, assigned)
        left = {LeadId(item.lead_id): item.moved_from for item in assigned if item.moved_from is not None}
        carry_on_leaving(connection, chunk, left)
        identity_writing.write_appearances(connection, chunk.tenant, appearances)
        identity_writing.close_reviews(connection, chunk, [*moved, *arrivals.loose, *arrivals.contact_of])
        identity_writing.write_reviews(connection, chunk, resolution.reviews)
        identity_writing.add_to_statistics(
            connection,
            chunk.tenant,
            terms,
            records=len(appearances) - arrivals.forgotten,
            contacts=len(resolution.foundings) - len(resolution.merges),
        )


def _assigned(lead: ArrivingLead, item: Assignment, survivors: Mapping[ContactId, ContactId]) -> Assigned:
    before, now = lead.known_contact_id, item.contact_id
    logged: str | None = None
    reason = item.reason
    decision = "new" if reason is None else reason.actor.partition(":")[0]
    if before is None:
        logged = "join" if reason is not None else None
    elif survivors.get(before, before) == now:
        decision = UNCHANGED
    else:
        logged, reason = "move", reason or CORRECTED
    return Assigned(
        lead.lead_id, lead.revision, lead.sync_lane, now, decision,
        logged=logged, reason=reason, moved_from=survivors.get(before, before) if before and logged == "move" else None,
    )  # fmt: skip


def _new_appearances(
    leads: Sequence[ArrivingLead], records: Sequence[Record], resolution: Resolution
) -> tuple[list[Appearance], Counter[tuple[str, str]]]:
    """The arriving records that show their contact as nobody has seen it, and the values that are new to their contact.

    A re-post must not lengthen the lists of candidates, and a person who writes often must not make a name look common.
    """
    survivors = {merge.other: merge.survivor for merge in resolution.merges}
    seen: set[tuple[ContactId, MatchFields]] = set()
    known: set[tuple[ContactId, str, str]] = set()
    joined = {item.contact_id for item in resolution.assignments}
    for record in records:
        if not record.arriving and record.contact_id is not None:
            contact = survivors.get(record.contact_id, record.contact_id)
            if contact not in joined:
                continue
            seen.add((contact, record.fields))
            known.update((contact, *term) for term in terms_of(record.fields).items())
    appearances: list[Appearance] = []
    terms: Counter[tuple[str, str]] = Counter()
    for item in resolution.assignments:
        lead = leads[item.place]
        if (item.contact_id, lead.fields) in seen:
            continue
        seen.add((item.contact_id, lead.fields))
        appearances.append(Appearance(lead.lead_id, item.contact_id, lead.fields, lead.flags))
        new = [term for term in terms_of(lead.fields).items() if (item.contact_id, *term) not in known]
        known.update((item.contact_id, *term) for term in new)
        terms.update(new)
    return appearances, terms


def _hand_over(
    connection: sa.Connection, chunk: Chunk, changes: Iterable[tuple[UUID, ContactId]], lanes: Mapping[UUID, Lane]
) -> None:
    """Ask for a new golden record of every contact that a lead came to or left, as urgent as its most urgent lead."""
    urgency = list(Lane)
    lane_of: dict[ContactId, Lane] = {}
    for lead_id, contact in changes:
        lane = lanes.get(lead_id, Lane.BATCH)
        lane_of[contact] = min(lane, lane_of.get(contact, lane), key=urgency.index)
    enqueue(
        connection,
        Stage.GOLDEN_CONTACTS,
        # Ids compare as numbers, and by themselves slowly.
        [
            Waiting(contact, chunk.tenant, lane_of[contact], 1, chunk.now)
            for contact in sorted(lane_of, key=attrgetter("int"))
        ],
    )
