"""Which records are compared: those that share a blocking key, the newest of each key first.

Keep out: which keys a record has (``match_keys``), and where those of known records are kept.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CandidatePairs:
    """Pairs of places to compare, in order, and how many keys yielded only their newest records."""

    pairs: list[tuple[int, int]]
    capped_keys: int


def candidate_pairs(keys: Sequence[Sequence[int]], known: Mapping[int, Sequence[int]], *, cap: int) -> CandidatePairs:
    """The pairs to compare for a chunk whose leads, in the order of arrival, have these ``keys``.

    ``known``: for each key that earlier records have, their places, the newest first, ``cap`` at most. The leads are
    paired as if they came one by one: those before in the chunk are newer than all known ones, and the cap is for both.
    """
    earlier: dict[int, list[int]] = defaultdict(list)
    pairs: set[tuple[int, int]] = set()
    capped = {key for key, places in known.items() if len(places) >= cap}
    for place, own in enumerate(keys):
        for key in own:
            mates = earlier[key]
            if mates:
                pairs.update((other, place) for other in mates[-cap:])
            if older := known.get(key):
                pairs.update((place, other) for other in older[: max(cap - len(mates), 0)])
            mates.append(place)
            if len(mates) > cap:
                capped.add(key)
    return CandidatePairs(sorted(pairs), len(capped))
