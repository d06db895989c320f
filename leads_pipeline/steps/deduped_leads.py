"""From ``validated_leads`` to ``deduped_leads``: whose each lead is.

Rules decide what needs no probability, the model weighs the rest, clustering takes the best evidence first and refuses
what something speaks against; pairs in the grey go to ``match_reviews``. The scorer is handed in: loading it costs
seconds, and whoever only imports this module must not pay for them.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

import sqlalchemy as sa

from leads_pipeline.config import MatchingSettings, Settings
from leads_pipeline.domain.clustering import Edge, Limits, Strength, cluster
from leads_pipeline.domain.ids import ContactId, uuid7
from leads_pipeline.domain.match_keys import MatchFields, match_keys
from leads_pipeline.domain.match_rules import Rule, decided_by_rule
from leads_pipeline.domain.resolution import Reason, Record, Resolution, resolve
from leads_pipeline.domain.stage import Chunk, ChunkReport, Lane, Stage
from leads_pipeline.matching.pairs import Frequencies, ScoredPair, Scorer, count_terms, terms_of
from leads_pipeline.storage import identity, identity_writing
from leads_pipeline.storage.identity import ArrivingLead
from leads_pipeline.storage.identity_writing import Appearance, Assigned
from leads_pipeline.storage.pending import Waiting, claim, enqueue
from leads_pipeline.storage.quality_holds import without_held

# A scored pair below this votes against joining its two groups (docs/matching.md has what other values did).
VETO_WEIGHT = -3.0


def dedupe_leads(engine: sa.Engine, chunk: Chunk, *, settings: Settings, scorer: Scorer) -> ChunkReport:
    """Resolve one chunk of one tenant.

    One transaction, under the tenant's identity lock: killed before the commit, the leads still wait at the door. A
    lead whose revision was resolved before keeps its contact, so running again changes nothing.
    """
    with engine.begin() as connection:
        identity.lock_identity(connection, chunk.tenant)
        claimed = claim(connection, Stage.DEDUPED_LEADS, chunk)
        if not claimed:
            return ChunkReport(taken=0, passed=0, counts={})
        passing = without_held(connection, claimed, chunk)
        lanes = {item.subject_id: item.lane for item in passing}
        leads = identity.read_arriving(connection, chunk.tenant, lanes)
        settled = [lead for lead in leads if (lead.known_revision or 0) >= lead.revision]
        unsettled = [lead for lead in leads if (lead.known_revision or 0) < lead.revision]
        report = _Chunk(connection, chunk, settings.matching, scorer).resolve(unsettled)
        known = {lead.lead_id: _contact(lead) for lead in settled}
        contacts = {lead_id: report.survivors.get(contact, contact) for lead_id, contact in known.items()}
        _hand_over(connection, chunk, {**contacts, **report.contact_of}, lanes)
    counts = {**report.counts, "settled": len(settled)}
    if held := len(claimed) - len(passing):
        counts["held_back"] = held
    return ChunkReport(taken=len(claimed), passed=len(leads), counts=counts)


@dataclass(frozen=True)
class _Resolved:
    contact_of: Mapping[UUID, ContactId]
    survivors: Mapping[ContactId, ContactId]
    counts: dict[str, int]


@dataclass(frozen=True)
class _Candidates:
    """Pairs of places to compare, and how many keys yielded only their newest records."""

    pairs: list[tuple[int, int]]
    capped_keys: int


class _Chunk:
    """One chunk on its way through identity resolution."""

    def __init__(self, connection: sa.Connection, chunk: Chunk, settings: MatchingSettings, scorer: Scorer) -> None:
        self._connection = connection
        self._chunk = chunk
        self._settings = settings
        self._scorer = scorer

    def resolve(self, unsettled: Sequence[ArrivingLead]) -> _Resolved:
        if not unsettled:
            return _Resolved({}, {}, {})
        forgotten, leads = self._with_forgotten(unsettled)
        # A lead that is here only because its record went is not assigned anew.
        moving = {lead.lead_id for lead in unsettled}
        records, candidates = self._find(leads)
        edges, scored = self._weigh(records, candidates.pairs)
        clustering = cluster(
            range(len(records)),
            contact_of={place: r.contact_id for place, r in enumerate(records) if r.contact_id is not None},
            contact_sizes=self._contact_sizes(records, edges),
            pairs=edges,
            limits=Limits(merge_weight=self._settings.merge_weight, veto_weight=VETO_WEIGHT),
        )
        grey = [
            edge
            for edge in edges
            if edge.strength is Strength.MODEL
            and self._settings.review_weight <= edge.weight < self._settings.merge_weight
        ]
        resolution = resolve(
            records,
            clustering,
            reasons=lambda edge: self._reason(records, edge, scored),
            grey=grey,
            new_id=lambda: uuid7(self._chunk.now),
        )
        assigned = [
            Assigned(lead.lead_id, lead.revision, lead.sync_lane, item.contact_id, _decision(item.reason), item.reason)
            for item in resolution.assignments
            if (lead := leads[item.place]).lead_id in moving
        ]
        self._write(leads, records, resolution, assigned, forgotten)
        counts = {
            "new": len(resolution.foundings),
            "joined_by_rule": sum(item.decision == "rule" for item in assigned),
            "joined_by_model": sum(item.decision == "model" for item in assigned),
            "merged_contacts": len(resolution.merges),
            "reviews": len(resolution.reviews),
            "candidates": len(candidates.pairs),
            "capped_keys": candidates.capped_keys,
        }
        contact_of = {leads[item.place].lead_id: item.contact_id for item in resolution.assignments}
        return _Resolved(contact_of, {merge.other: merge.survivor for merge in resolution.merges}, counts)

    def _with_forgotten(self, unsettled: Sequence[ArrivingLead]) -> tuple[int, list[ArrivingLead]]:
        """Take a corrected lead's record away, and speak again for the leads for which it spoke."""
        corrected = {lead.lead_id: _contact(lead) for lead in unsettled if lead.known_contact_id is not None}
        if not corrected:
            return 0, list(unsettled)
        forgotten = identity_writing.remove_appearances(self._connection, list(corrected))
        unheard = identity.read_unrecorded(self._connection, self._chunk.tenant, set(corrected.values()))
        known = {lead.lead_id for lead in unsettled}
        return forgotten, [*unsettled, *(lead for lead in unheard if lead.lead_id not in known)]

    def _find(self, leads: Sequence[ArrivingLead]) -> tuple[list[Record], _Candidates]:
        """The leads and every known record that shares a key with one of them, and the pairs that share one."""
        cap = self._settings.max_candidates_per_key
        keys = [[key.key_hash for key in match_keys(lead.fields)] for lead in leads]
        found = identity.find_candidates(
            self._connection, self._chunk.tenant, {key for own in keys for key in own}, limit=cap
        )
        wanted = {lead_id for lead_ids in found.values() for lead_id in lead_ids}
        known = identity.read_records(self._connection, self._chunk.tenant, wanted)
        records = [Record(lead.lead_id, lead.revision, lead.fields, lead.known_contact_id, True) for lead in leads]
        records += [Record(item.lead_id, 0, item.fields, item.contact_id, False) for item in known]
        place_of = {record.lead_id: place for place, record in enumerate(records)}
        earlier: dict[int, list[int]] = defaultdict(list)
        pairs: set[tuple[int, int]] = set()
        capped: set[int] = {key for key, lead_ids in found.items() if len(lead_ids) >= cap}
        for place, own in enumerate(keys):
            for key in own:
                # As if the leads came one by one: those before it in the chunk are the newest, and the cap is for all.
                newest = earlier[key][-cap:]
                pairs.update((other, place) for other in newest)
                older = found.get(key, ())[: cap - len(newest)]
                pairs.update((place, place_of[lead_id]) for lead_id in older if lead_id in place_of)
                earlier[key].append(place)
                if len(earlier[key]) > cap:
                    capped.add(key)
        return records, _Candidates(sorted(pairs), len(capped))

    def _weigh(
        self, records: Sequence[Record], pairs: Sequence[tuple[int, int]]
    ) -> tuple[list[Edge], dict[tuple[int, int], ScoredPair]]:
        # Only an arriving record's values can agree with another's, so only theirs are looked up.
        arriving = count_terms(record.fields for record in records if record.arriving)
        terms = arriving.occurrences
        known = identity.read_frequencies(self._connection, self._chunk.tenant, terms) if pairs else {}
        size = identity.read_size(self._connection, self._chunk.tenant)
        frequencies = Frequencies(
            size.contacts + arriving.contacts, {term: count + known.get(term, 0) for term, count in terms.items()}
        )
        scored = self._scorer.score(
            [record.fields for record in records],
            pairs,
            frequencies=frequencies,
            explain_from=self._settings.review_weight,
        )
        edges = [
            Edge(pair.left, pair.right, pair.match_weight, _strength(records[pair.left], records[pair.right]))
            for pair in scored
        ]
        return edges, {(pair.left, pair.right): pair for pair in scored if pair.evidence}

    def _contact_sizes(self, records: Sequence[Record], edges: Sequence[Edge]) -> dict[ContactId, int]:
        strong = (
            place
            for edge in edges
            if edge.strength is not Strength.MODEL or edge.weight >= self._settings.merge_weight
            for place in (edge.left, edge.right)
        )
        contacts = {contact for place in strong if (contact := records[place].contact_id) is not None}
        return identity.count_records(self._connection, contacts) if contacts else {}

    def _reason(self, records: Sequence[Record], edge: Edge, scored: Mapping[tuple[int, int], ScoredPair]) -> Reason:
        pair = scored.get((edge.left, edge.right))
        rule = decided_by_rule(records[edge.left].fields, records[edge.right].fields)
        actor = f"rule:{rule}" if rule else f"model:{self._scorer.version}"
        return Reason(actor, round(edge.weight, 3), pair.evidence if pair else {})

    def _write(
        self,
        leads: Sequence[ArrivingLead],
        records: Sequence[Record],
        resolution: Resolution,
        assigned: Sequence[Assigned],
        forgotten: int,
    ) -> None:
        appearances, terms = _new_appearances(leads, records, resolution)
        connection, chunk = self._connection, self._chunk
        identity_writing.write_contacts(connection, chunk, resolution.foundings)
        identity_writing.write_merges(connection, chunk, resolution.merges)
        identity_writing.write_assignments(connection, chunk, assigned)
        identity_writing.write_appearances(connection, chunk.tenant, appearances)
        identity_writing.write_reviews(connection, chunk, resolution.reviews)
        identity_writing.add_to_statistics(
            connection,
            chunk.tenant,
            terms,
            records=len(appearances) - forgotten,
            contacts=len(resolution.foundings) - len(resolution.merges),
        )


def _new_appearances(
    leads: Sequence[ArrivingLead], records: Sequence[Record], resolution: Resolution
) -> tuple[list[Appearance], Counter[tuple[str, str]]]:
    """The arriving records that show their contact as nobody has seen it, and the values that are new to their contact.

    A re-post must not lengthen the lists of candidates, and a person who writes often must not make a name look common.
    """
    survivors = {merge.other: merge.survivor for merge in resolution.merges}
    seen: set[tuple[ContactId, MatchFields]] = set()
    known: set[tuple[ContactId, str, str]] = set()
    for record in records:
        if not record.arriving and record.contact_id is not None:
            contact = survivors.get(record.contact_id, record.contact_id)
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


def _strength(left: Record, right: Record) -> Strength:
    match decided_by_rule(left.fields, right.fields):
        case Rule.SAME_EMAIL:
            return Strength.IDENTITY
        case Rule.SAME_PHONE_AND_NAME:
            return Strength.RULE
        case _:
            return Strength.MODEL


def _decision(reason: Reason | None) -> str:
    return "new" if reason is None else reason.actor.partition(":")[0]


def _contact(lead: ArrivingLead) -> ContactId:
    assert lead.known_contact_id is not None
    return lead.known_contact_id


def _hand_over(
    connection: sa.Connection, chunk: Chunk, contact_of: Mapping[UUID, ContactId], lanes: Mapping[UUID, Lane]
) -> None:
    """Ask for a new golden record of every contact that a lead came to, as urgent as its most urgent lead."""
    urgency = list(Lane)
    lane_of: dict[ContactId, Lane] = {}
    for lead_id, contact in contact_of.items():
        lane = lanes.get(lead_id, Lane.BATCH)
        lane_of[contact] = min(lane, lane_of.get(contact, lane), key=urgency.index)
    enqueue(
        connection,
        Stage.GOLDEN_CONTACTS,
        [Waiting(contact, chunk.tenant, lane, 1, chunk.now) for contact, lane in sorted(lane_of.items())],
    )
