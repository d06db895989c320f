"""The pairs to compare among all records: those that share a telling key, or two that tell little.

The same pairs as ``domain.candidates`` finds when the records come one by one: of a key that many share, a record meets
the ``cap`` that came last before it, and keys that yield more than a few of them are enough only together with another
clue.

Kept as arrays, about 25 bytes a key: a table of all pairs would be many times larger. So pairs are made for a range of
records at a time, and made again where they are needed again.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from leads_pipeline.domain.candidates import FEW, FEW_BY_KIND, clue_of
from leads_pipeline.domain.match_keys import MatchKey

Places = npt.NDArray[np.int32]
"""Places of records, by which everything here names them: 0, 1, 2 … in the order in which the leads came."""


# Sorting so many at a time stays in the processor's cache: a third of what half a million cost.
_SORTED_AT_ONCE = 100_000
# A pair's two places, its clue and whether that tells enough are one number of 64 bits: so many clues, 2^26 records.
_CLUE_BITS = 4


@dataclass(frozen=True, slots=True)
class Batch:
    """Distinct pairs of records. ``records_done``: those before it have had all their older ones."""

    older: Places
    newer: Places
    records_done: int


class KeyCollector:
    """Takes the keys of record after record and makes ``Candidates`` of them."""

    def __init__(self) -> None:
        self._keys: list[npt.NDArray[np.int64]] = []
        self._few: list[npt.NDArray[np.int16]] = []
        self._clues: list[npt.NDArray[np.int8]] = []
        self._number_of: dict[str, int] = {}
        self._counts: list[npt.NDArray[np.int32]] = []

    def add(self, keys: Sequence[Sequence[MatchKey]]) -> None:
        """The keys of the next records, distinct within each."""
        self._keys.append(np.fromiter((key.key_hash for own in keys for key in own), dtype=np.int64))
        few = (FEW_BY_KIND.get(key.kind, FEW) for own in keys for key in own)
        self._few.append(np.fromiter(few, dtype=np.int16))
        clues = (self._number_of.setdefault(clue_of(key.kind), len(self._number_of)) for own in keys for key in own)
        self._clues.append(np.fromiter(clues, dtype=np.int8))
        self._counts.append(np.fromiter((len(own) for own in keys), dtype=np.int32, count=len(keys)))

    def candidates(self, *, cap: int, without: npt.NDArray[np.bool_] | None = None) -> "Candidates":
        """``without`` marks records that are in no pair. The collected keys are let go: nothing can be added."""
        keys = np.concatenate(self._keys) if self._keys else np.empty(0, np.int64)
        few = np.concatenate(self._few) if self._few else np.empty(0, np.int16)
        clues = np.concatenate(self._clues) if self._clues else np.empty(0, np.int8)
        counts = np.concatenate(self._counts) if self._counts else np.empty(0, np.int32)
        self._keys.clear()
        self._few.clear()
        self._clues.clear()
        self._counts.clear()
        if without is not None:
            heard = ~np.repeat(without, counts)
            keys, few, clues = keys[heard], few[heard], clues[heard]
            counts[without] = 0
        return _sorted_by_key(keys, few, clues, counts, cap)


@dataclass(frozen=True, slots=True)
class Candidates:
    """Entries are (key, record). ``first_entry`` has where each record's entries begin, in the order of records.

    ``position`` is where an entry stands when sorted by key and then by record, ``record_at`` the record that stands
    there, ``before`` how many earlier ones of its key an entry meets, ``telling`` whether they are few enough for the
    key to be enough, and ``clue`` what the key is about.
    """

    first_entry: npt.NDArray[np.int64]
    position: npt.NDArray[np.int32]
    record_at: Places
    before: npt.NDArray[np.int32]
    telling: npt.NDArray[np.bool_]
    clue: npt.NDArray[np.int8]
    capped_keys: int

    @property
    def records(self) -> int:
        return len(self.first_entry) - 1

    def batches(self, *, pairs: int, within: Places | None = None) -> Iterator[Batch]:
        """All distinct pairs, about ``pairs`` at a time, by the newer record.

        With ``within``, a group for each record (-1: none), only pairs of one group.
        """
        parts: list[Batch] = []
        waiting = 0
        for start, stop in self._ranges(_SORTED_AT_ONCE):
            older, newer = self._pairs(start, stop, within)
            parts.append(Batch(older, newer, stop))
            waiting += len(older)
            if waiting >= pairs:
                yield _together(parts)
                parts, waiting = [], 0
        if parts:
            yield _together(parts)

    def _ranges(self, pairs: int) -> Iterator[tuple[int, int]]:
        """Ranges of records that have about so many pairs together, those that share several keys counted twice."""
        ends = np.concatenate(([0], np.cumsum(self.before, dtype=np.int64)))[self.first_entry]
        start = 0
        while start < self.records:
            stop = int(np.searchsorted(ends, ends[start] + pairs, side="right"))
            stop = min(max(stop - 1, start + 1), self.records)
            yield start, stop
            start = stop

    def _pairs(self, start: int, stop: int, within: Places | None) -> tuple[Places, Places]:
        entries = slice(int(self.first_entry[start]), int(self.first_entry[stop]))
        before = self.before[entries]
        older, newer = _with_those_before(self.position[entries], before, self.record_at)
        # Whether the key is enough, above what it is about.
        tells = np.repeat(self.telling[entries].astype(np.int64) << _CLUE_BITS | self.clue[entries], before)
        if within is not None:
            together = (within[newer] >= 0) & (within[older] == within[newer])
            older, newer, tells = older[together], newer[together], tells[together]
        if not len(older):
            return older, newer
        # Sorted, a pair's last entry says whether one of its keys is enough, and its first is of another clue than that
        # one if there are several.
        codes = np.sort((newer.astype(np.int64) << 32 | older) << _CLUE_BITS + 1 | tells)
        pairs = codes >> _CLUE_BITS + 1
        differs = pairs[1:] != pairs[:-1]
        last, first = np.append(differs, True), np.insert(differs, 0, True)
        enough = (codes[last] >> _CLUE_BITS & 1 == 1) | (codes[last] != codes[first])
        found = pairs[last][enough]
        return (found & 0xFFFFFFFF).astype(np.int32), (found >> 32).astype(np.int32)


def _together(parts: Sequence[Batch]) -> Batch:
    return Batch(
        np.concatenate([part.older for part in parts]),
        np.concatenate([part.newer for part in parts]),
        parts[-1].records_done,
    )


def _with_those_before(
    position: npt.NDArray[np.int32], before: npt.NDArray[np.int32], record_at: Places
) -> tuple[Places, Places]:
    """Each entry's record with that of each of the ``before`` entries that stand immediately before it."""
    repeated = np.repeat(position, before)
    ends = np.cumsum(before, dtype=np.int64)
    # 1, 2 … before for each entry: how far back the other stands.
    distance = np.arange(1, len(repeated) + 1, dtype=np.int64) - np.repeat(ends - before, before)
    return record_at[repeated - distance], np.repeat(record_at[position], before)


def _sorted_by_key(
    keys: npt.NDArray[np.int64],
    few: npt.NDArray[np.int16],
    clues: npt.NDArray[np.int8],
    counts: npt.NDArray[np.int32],
    cap: int,
) -> Candidates:
    first_entry = np.concatenate(([0], np.cumsum(counts, dtype=np.int64)))
    # Stable: within a key, the records stay in the order in which they came.
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    begins = np.concatenate(([True], ordered[1:] != ordered[:-1])) if len(keys) else np.empty(0, bool)
    del ordered
    places = np.arange(len(keys), dtype=np.int32)
    rank = places - np.maximum.accumulate(np.where(begins, places, 0))
    capped_keys = int(np.count_nonzero(rank == cap))
    position = np.empty(len(keys), np.int32)
    position[order] = places
    before = np.empty(len(keys), np.int32)
    before[order] = np.minimum(rank, cap)
    record_at = np.repeat(np.arange(len(counts), dtype=np.int32), counts)[order]
    return Candidates(first_entry, position, record_at, before, before <= few, clues, capped_keys)
