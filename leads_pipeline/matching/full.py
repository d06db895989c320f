"""Full re-resolution: every lead at once, by the keys, rules, model and clustering of the micro-batch.

Records stream in, groups stream out; what lies between is in a DuckDB file and in arrays of some bytes a record. The
answer depends on the records, the model and the settings alone, not on what was decided before.

Keep out: databases and contacts (``steps.rebuilt_identity``), and how good the result is (``evaluation``).
"""

import time
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from heapq import heapify, heappop, heappush
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Generic, Self, TypeVar

import numpy as np
import numpy.typing as npt

from leads_pipeline.config import MatchingSettings
from leads_pipeline.domain.clustering import Limits, Links
from leads_pipeline.domain.match_keys import MatchFields, match_keys
from leads_pipeline.domain.match_rules import Rules, compile_rules
from leads_pipeline.domain.resolution import Reason
from leads_pipeline.matching.full_candidates import Candidates, KeyCollector, Places
from leads_pipeline.matching.full_groups import Grouping, group, same_people
from leads_pipeline.matching.full_scoring import NO_RULE, BulkScorer, EdgeArrays
from leads_pipeline.matching.model import Parameters
from leads_pipeline.matching.pairs import ONE_PERSON

Id = TypeVar("Id", bound=Hashable)

# So many records are in Python at a time, and so many pairs in DuckDB. Ten times as many records cost no less time and
# three times the memory: they go in as JSON.
_RECORDS_AT_ONCE = 2_000
_PAIRS_AT_ONCE = 2_000_000
_MEMORY_LIMIT = "1GB"


@dataclass(frozen=True, slots=True)
class LinkedLeads(Generic[Id]):
    """Links between records by their ids: what ``domain.clustering.Links`` says of places. Unknown ids are ignored."""

    cannot: Sequence[tuple[frozenset[Id], frozenset[Id]]] = ()
    must: Sequence[tuple[frozenset[Id], frozenset[Id]]] = ()


@dataclass(frozen=True, slots=True)
class UndecidedPair(Generic[Id]):
    """The best pair of two groups that stayed apart: between the cut-offs, or ``refused`` by votes or sizes."""

    newer: Id
    older: Id
    refused: bool
    reason: Reason


@dataclass(frozen=True)
class FullResolution(Generic[Id]):
    """What ``resolve_everything`` found. A context manager: evidence is read from the work directory until it closes.

    ``group_of`` has for each record, by its place in the order given, the place of the first record of its group.
    ``counts`` are of records, repeated ones among them, groups, contacts (as frequencies were counted), candidates,
    capped_keys, rule_pairs, edges, contested (components decided edge by edge), refused, unmet_links. ``seconds`` are
    by phase.
    """

    ids: Sequence[Id]
    group_of: Places
    counts: Mapping[str, int]
    seconds: Mapping[str, float]
    _edges: EdgeArrays
    _grouping: Grouping
    _scorer: BulkScorer
    _rules: Rules
    _version: str
    _cut_offs: tuple[float, float]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the work directory, which is the caller's to remove."""
        self._scorer.close()

    def groups(self) -> Iterator[tuple[Id, Id]]:
        """Each record and the first record of its group, in the order given."""
        return ((record, self.ids[first]) for record, first in zip(self.ids, self.group_of.tolist(), strict=True))

    def undecided(self) -> Iterator[UndecidedPair[Id]]:
        """What a person should decide on, best first; one pair of each two groups."""
        numbers = self._undecided_edges()
        for start in range(0, len(numbers), _RECORDS_AT_ONCE):
            part = numbers[start : start + _RECORDS_AT_ONCE]
            refused = np.isin(part, self._grouping.refused).tolist()
            for number, is_refused, reason in zip(part.tolist(), refused, self._reasons(part), strict=True):
                older, newer = int(self._edges.older[number]), int(self._edges.newer[number])
                yield UndecidedPair(self.ids[newer], self.ids[older], is_refused, reason)

    def ties(self, part_of: Places, heads: Iterable[int]) -> dict[int, tuple[Reason, tuple[Id, Id]]]:
        """By what each part of a group came to it.

        ``part_of`` numbers each record's part (-1: of no interest); the others of a group come to its part in
        ``heads``, best pair first. For each the pair that ties it to what was there by then, and why; one that only a
        must-link ties has none.
        """
        edges, group_of = self._edges, self.group_of
        one, other = part_of[edges.older], part_of[edges.newer]
        reaches = (edges.rule != NO_RULE) | (edges.weight >= self._cut_offs[1])
        between = (group_of[edges.older] == group_of[edges.newer]) & (one >= 0) & (other >= 0) & (one != other)
        beyond: dict[int, list[tuple[bool, float, int, int]]] = defaultdict(list)
        for number in np.flatnonzero(reaches & between).tolist():
            rank = bool(edges.rule[number] == NO_RULE), -float(edges.weight[number]), number
            beyond[int(one[number])].append((*rank, int(other[number])))
            beyond[int(other[number])].append((*rank, int(one[number])))
        there = set(heads)
        came_by: dict[int, int] = {}
        waiting = [tie for part in there for tie in beyond[part]]
        heapify(waiting)
        while waiting:
            *_rank, number, part = heappop(waiting)
            if part not in there:
                there.add(part)
                came_by[part] = number
                for tie in beyond[part]:
                    heappush(waiting, tie)
        reasons = self._reasons(np.array(list(came_by.values()), np.int64))
        return {
            part: (reason, (self.ids[edges.older[number]], self.ids[edges.newer[number]]))
            for (part, number), reason in zip(came_by.items(), reasons, strict=True)
        }

    def _reasons(self, numbers: npt.NDArray[np.int64]) -> list[Reason]:
        edges = self._edges
        pairs = list(zip(edges.older[numbers].tolist(), edges.newer[numbers].tolist(), strict=True))
        evidence = self._scorer.evidence(pairs)
        rules = self._rules.names
        return [
            Reason(
                f"model:{self._version}" if rule == NO_RULE else f"rule:{rules[rule]}",
                round(weight, 3),
                evidence[pair],
                cut_offs=self._cut_offs,
            )
            for pair, weight, rule in zip(
                pairs, edges.weight[numbers].tolist(), edges.rule[numbers].tolist(), strict=True
            )
        ]

    def _undecided_edges(self) -> npt.NDArray[np.int64]:
        review, merge = self._cut_offs
        edges = self._edges
        grey = np.flatnonzero((edges.rule == NO_RULE) & (edges.weight >= review) & (edges.weight < merge))
        numbers = np.concatenate((self._grouping.refused, grey))
        one, other = self.group_of[edges.older[numbers]], self.group_of[edges.newer[numbers]]
        low, high = np.minimum(one, other).astype(np.int64), np.maximum(one, other)
        codes = low << 32 | high
        kept_apart = [one << 32 | other for one, other in self._grouping.kept_apart]
        asked = (low != high) & ~np.isin(codes, np.array(kept_apart, np.int64))
        numbers, codes = numbers[asked], codes[asked]
        order = np.lexsort((edges.newer[numbers], edges.older[numbers], -edges.weight[numbers]))
        _codes, first = np.unique(codes[order], return_index=True)
        best: npt.NDArray[np.int64] = numbers[order][np.sort(first)]
        return best


def resolve_everything(
    records: Iterable[tuple[Id, MatchFields]],
    *,
    parameters: Parameters,
    settings: MatchingSettings,
    work_directory: Path,
    links: LinkedLeads[Id] | None = None,
    progress: Callable[[str, float], None] = lambda _phase, _share: None,
) -> FullResolution[Id]:
    """Tell all ``records`` apart. They come in the order in which their leads did: a capped key yields its newest.

    ``work_directory`` exists, is empty and has room for about 1 KB a record; nothing else is written. ``progress`` is
    told the phase and the share of it that is done.
    """
    run: _Run[Id] = _Run(parameters, settings, work_directory, progress)
    try:
        return run.resolve(records, links or LinkedLeads())
    except BaseException:
        run.scorer.close()
        raise


@dataclass
class _Run(Generic[Id]):
    parameters: Parameters
    settings: MatchingSettings
    work_directory: Path
    progress: Callable[[str, float], None]
    rules: Rules = field(init=False)
    scorer: BulkScorer = field(init=False)
    counts: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.rules = compile_rules(self.settings.rules)
        self.scorer = BulkScorer(self.work_directory, self.parameters, self.rules, memory_limit=_MEMORY_LIMIT)

    def resolve(self, records: Iterable[tuple[Id, MatchFields]], links: LinkedLeads[Id]) -> FullResolution[Id]:
        settings, scorer = self.settings, self.scorer
        with self._phase("reading"):
            ids, collected, hashes = self._read(records)
            linked = _places(ids, links)
        with self._phase("values"):
            scorer.weigh_values(same_people(len(ids), scorer.identities(ONE_PERSON)))
        with self._phase("candidates"):
            speaker_of = self._speakers(hashes, linked)
            is_heard = speaker_of == np.arange(len(ids), dtype=np.int32)
            linked = _of_heard(linked, is_heard)
            candidates = collected.candidates(without=~is_heard)
        with self._phase("scoring"):
            self._score(candidates)
            silent = np.flatnonzero(~is_heard).astype(np.int32)
            scorer.keep_edges(speaker_of[silent], silent, least=settings.review_weight)
            edges = scorer.edges()
        with self._phase("clustering"):
            grouping = self._group(candidates, edges, linked, speaker_of)
        self.counts |= {
            "records": len(ids),
            "repeated": len(silent),
            "groups": len(np.unique(grouping.group_of)),
            "contacts": scorer.contacts,
            "capped_keys": candidates.capped_keys,
            "edges": len(edges.older),
            "contested": grouping.contested,
            "refused": len(grouping.refused),
            "unmet_links": grouping.unmet_links,
        }
        return FullResolution(
            ids,
            grouping.group_of,
            self.counts,
            self.seconds,
            edges,
            grouping,
            scorer,
            self.rules,
            self.parameters.version,
            (settings.review_weight, settings.merge_weight),
        )

    def _read(self, records: Iterable[tuple[Id, MatchFields]]) -> tuple[list[Id], KeyCollector, npt.NDArray[np.int64]]:
        ids: list[Id] = []
        hashes: list[npt.NDArray[np.int64]] = [np.empty(0, np.int64)]
        collected = KeyCollector(cap=self.settings.max_candidates_per_key)
        source = iter(records)
        while part := list(islice(source, _RECORDS_AT_ONCE)):
            fields = [found for _id, found in part]
            ids.extend(record for record, _fields in part)
            hashes.append(np.fromiter(map(hash, fields), dtype=np.int64, count=len(fields)))
            collected.add([match_keys(found) for found in fields])
            self.scorer.add(fields)
            self.progress("reading", len(ids))
        return ids, collected, np.concatenate(hashes)

    def _speakers(self, hashes: npt.NDArray[np.int64], links: Links) -> Places:
        """For each record the one that speaks for it: itself, or an equal one before it that a rule joins it to.

        As in the micro-batch, who posts the same again is not compared again, nor counted in the size of a contact.
        Records of a must-link speak for themselves, others for those on the same sides of the same cannot-links.
        """
        speaker_of = np.arange(len(hashes), dtype=np.int32)
        order = np.argsort(hashes, kind="stable").astype(np.int32)
        same = np.flatnonzero(hashes[order[1:]] == hashes[order[:-1]])
        alike = np.unique(np.concatenate((order[same], order[same + 1])))
        linked = {record for sides in links.must for side in sides for record in side}
        sides_of: dict[int, list[tuple[int, int]]] = defaultdict(list)
        for link, sides in enumerate(links.cannot):
            for side, places in enumerate(sides):
                for place in places:
                    sides_of[place].append((link, side))
        first_of: dict[tuple[MatchFields, tuple[tuple[int, int], ...]], int] = {}
        for start in range(0, len(alike), _RECORDS_AT_ONCE):
            for place, fields in sorted(self.scorer.fields(alike[start : start + _RECORDS_AT_ONCE]).items()):
                if place not in linked and self.rules.decide(fields, fields) is not None:
                    speaker_of[place] = first_of.setdefault((fields, tuple(sides_of.get(place, ()))), place)
        return speaker_of

    def _score(self, candidates: Candidates) -> None:
        pairs = joined = 0
        for batch in candidates.batches(pairs=_PAIRS_AT_ONCE):
            pairs += len(batch.older)
            joined += self.scorer.keep_edges(batch.older, batch.newer, least=self.settings.review_weight)
            self.progress("scoring", batch.records_done / candidates.records)
        self.counts |= {"candidates": pairs, "rule_pairs": joined}

    def _group(self, candidates: Candidates, edges: EdgeArrays, links: Links, speaker_of: Places) -> Grouping:
        settings = self.settings
        limits = Limits(
            merge_weight=settings.merge_weight,
            veto_weight=settings.veto_weight,
            max_records=settings.max_records_per_contact,
            max_contacts=settings.max_contacts_per_merge,
        )
        outranking = frozenset(
            number for number, name in enumerate(self.rules.names) if self.rules.outranks_votes(name)
        )

        def votes(component_of: Places) -> tuple[Places, Places]:
            found = [
                self.scorer.votes_against(batch.older, batch.newer, below=settings.veto_weight)
                for batch in candidates.batches(pairs=_PAIRS_AT_ONCE, within=component_of)
            ]
            none = np.empty(0, np.int32)
            return (
                np.concatenate([none, *(older for older, _newer in found)]),
                np.concatenate([none, *(newer for _older, newer in found)]),
            )

        heard = np.flatnonzero(speaker_of[edges.newer] == edges.newer)
        of_heard = EdgeArrays(edges.older[heard], edges.newer[heard], edges.weight[heard], edges.rule[heard])
        found = group(candidates.records, of_heard, limits=limits, outranking=outranking, links=links, votes=votes)
        return replace(found, group_of=found.group_of[speaker_of], refused=heard[found.refused])

    @contextmanager
    def _phase(self, name: str) -> Iterator[None]:
        began = time.perf_counter()
        self.progress(name, 0.0)
        yield
        self.seconds[name] = round(time.perf_counter() - began, 3)


def _of_heard(links: Links, is_heard: npt.NDArray[np.bool_]) -> Links:
    """``links`` without the records that another of the same sides speaks for."""
    return Links(
        [
            ({place for place in one if is_heard[place]}, {place for place in other if is_heard[place]})
            for one, other in links.cannot
        ],
        links.must,
    )


def _places(ids: Sequence[Id], links: LinkedLeads[Id]) -> Links:
    named = {record for sides in (*links.cannot, *links.must) for side in sides for record in side}
    if not named:
        return Links()
    place_of = {record: place for place, record in enumerate(ids) if record in named}

    def found(sides: Sequence[tuple[frozenset[Id], frozenset[Id]]]) -> list[tuple[frozenset[int], frozenset[int]]]:
        return [
            (
                frozenset(place_of[record] for record in one if record in place_of),
                frozenset(place_of[record] for record in other if record in place_of),
            )
            for one, other in sides
        ]

    return Links(
        [(one, other) for one, other in found(links.cannot) if one and other],
        # Of a must-link, what is known of either side belongs together.
        [(one, other) for one, other in found(links.must) if len(one | other) > 1],
    )
