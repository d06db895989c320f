"""The pairs to compare among all records: those that share a key that few have.

The same pairs as ``domain.candidates`` finds when the records come one by one: a key's limit counts the records that
came before.

Kept as arrays, about 20 bytes a key: a table of all pairs would be many times larger. So pairs are made for a range of
records at a time, and made again where they are needed again.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from leads_pipeline.domain.candidates import NARROW, limit_of
from leads_pipeline.domain.match_keys import MatchKey

Places = npt.NDArray[np.int32]
"""Places of records, by which everything here names them: 0, 1, 2 … in the order in which the leads came."""


# Sorting so many at a time stays in the processor's cache: a third of what half a million cost.
_SORTED_AT_ONCE = 100_000
# The limit of a key is one number with how it is meant: negative if the newest count beyond it.
_Limits = npt.NDArray[np.int16]


@dataclass(frozen=True, slots=True)
class Batch:
    """Distinct pairs of records. ``records_done``: those before it have had all their older ones."""

    older: Places
    newer: Places
    records_done: int


class KeyCollector:
    """Takes the keys of record after record and makes ``Candidates`` of them. ``cap`` bounds every key's limit."""

    def __init__(self, *, cap: int) -> None:
        self._keys: list[npt.NDArray[np.int64]] = []
        self._limits: list[_Limits] = []
        self._counts: list[npt.NDArray[np.int32]] = []
        self._cap = cap
        self._limit_of: dict[str, int] = {}

    def add(self, keys: Sequence[Sequence[MatchKey]]) -> None:
        """The keys of the next records, distinct within each."""
        self._keys.append(np.fromiter((key.key_hash for own in keys for key in own), dtype=np.int64))
        self._limits.append(np.fromiter((self._limit(key.kind) for own in keys for key in own), dtype=np.int16))
        self._counts.append(np.fromiter((len(own) for own in keys), dtype=np.int32, count=len(keys)))

    def _limit(self, kind: str) -> int:
        found = self._limit_of.get(kind)
        if found is None:
            limit = limit_of(kind, self._cap)
            found = self._limit_of[kind] = -limit if kind in NARROW else limit
        return found

    def candidates(self, *, without: npt.NDArray[np.bool_] | None = None) -> "Candidates":
        """``without`` marks records that are in no pair. The collected keys are let go: nothing can be added."""
        keys = np.concatenate(self._keys) if self._keys else np.empty(0, np.int64)
        limits = np.concatenate(self._limits) if self._limits else np.empty(0, np.int16)
        counts = np.concatenate(self._counts) if self._counts else np.empty(0, np.int32)
        self._keys.clear()
        self._limits.clear()
        self._counts.clear()
        if without is not None:
            heard = ~np.repeat(without, counts)
            keys, limits = keys[heard], limits[heard]
            counts[without] = 0
        return _sorted_by_key(keys, limits, counts)


@dataclass(frozen=True, slots=True)
class Candidates:
    """Entries are (key, record). ``first_entry`` has where each record's entries begin, in the order of records.

    ``position`` is where an entry stands when sorted by key and then by record, ``record_at`` the record that stands
    there, and ``before`` how many earlier ones of its key an entry meets.
    """

    first_entry: npt.NDArray[np.int64]
    position: npt.NDArray[np.int32]
    record_at: Places
    before: npt.NDArray[np.int32]
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
        older, newer = _with_those_before(self.position[entries], self.before[entries], self.record_at)
        if within is not None:
            together = (within[newer] >= 0) & (within[older] == within[newer])
            older, newer = older[together], newer[together]
        found = np.unique(newer.astype(np.int64) << 32 | older)
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


def _sorted_by_key(keys: npt.NDArray[np.int64], limits: _Limits, counts: npt.NDArray[np.int32]) -> Candidates:
    first_entry = np.concatenate(([0], np.cumsum(counts, dtype=np.int64)))
    # Stable: within a key, the records stay in the order in which they came.
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    begins = np.concatenate(([True], ordered[1:] != ordered[:-1])) if len(keys) else np.empty(0, bool)
    del ordered
    places = np.arange(len(keys), dtype=np.int32)
    rank = places - np.maximum.accumulate(np.where(begins, places, 0))
    limits = limits[order]
    most = np.abs(limits)
    capped_keys = int(np.count_nonzero(rank == most + 1))
    position = np.empty(len(keys), np.int32)
    position[order] = places
    before = np.empty(len(keys), np.int32)
    before[order] = np.where(rank <= most, rank, np.where(limits < 0, most, 0))
    record_at = np.repeat(np.arange(len(counts), dtype=np.int32), counts)[order]
    return Candidates(first_entry, position, record_at, before, capped_keys)
