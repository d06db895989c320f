"""Which records are compared: those that share a key that few records have.

A key finds its man only while few have it: of forty people of one name at most one is he. So every kind of key has a
limit. Beyond it a narrow key (an address, a name with a date of birth) yields its newest records: where so many have
it, they are mostly of one who writes often. Any other yields none: what it could find, a narrower one finds. So what a
lead is compared with hardly grows with the contacts.

Keep out: which keys a record has (``match_keys``), and where those of known records are kept.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from leads_pipeline.domain.match_keys import MatchKey

# Of so many earlier records a key is worth comparing them all, by kind. Chosen by how many true pairs each step up adds
# for every stranger that it costs (the documentation has the table).
LIMITS: Mapping[str, int] = {
    "email": 8, "external_id": 8, "phone": 5, "mailbox": 8, "part_mailbox": 10,
    "name": 10, "name_year": 15, "name_title": 10, "name_phone": 5, "name_digits": 5, "name_work": 15,
    "part_work": 12, "part_city": 15, "part_area": 15, "part_born": 15, "part_year": 5, "part_city_year": 20,
    "born": 5, "area": 15, "city_born": 10, "city_year": 5,
}  # fmt: skip
# Of a kind that is not named there.
LIMIT = 5
# Beyond their limit these yield their newest records. Among a million contacts that is one candidate more for every
# eight leads.
NARROW = frozenset({
    "email", "external_id", "phone", "name_title", "name_year", "name_phone", "name_digits",
    "part_born", "part_city_year", "city_born",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Candidates:
    """What to compare: pairs of places in the chunk, and a place with the id of a known record. In no order.

    ``capped_keys`` have more records than their limit.
    """

    in_chunk: set[tuple[int, int]]
    with_known: list[tuple[int, str]]
    capped_keys: int


@lru_cache(maxsize=1_024)
def limit_of(kind: str, cap: int) -> int:
    """How many earlier records a key of this kind may have; ``cap`` bounds it for all kinds."""
    return min(LIMITS.get(kind, LIMIT), cap)


def find_pairs(
    keys: Sequence[Sequence[MatchKey]],
    known: Mapping[int, Sequence[str] | None],
    *,
    cap: int,
    repeats: Mapping[int, int] | None = None,
) -> Candidates:
    """The pairs to compare for a chunk whose leads, in the order of arrival, have these ``keys``.

    ``known``: for the hash of each key that earlier records have, their ids, the newest first, or None if they are more
    than its limit and it is not narrow. The leads are paired as if they came one by one: those before in the chunk are
    newer than all known ones. ``repeats``: places that look like another before them, and which; a look is kept once,
    so these meet that one, and nobody meets them.
    """
    repeated = repeats or {}
    earlier: dict[int, list[int]] = defaultdict(list)
    in_chunk: set[tuple[int, int]] = set()
    with_known: list[tuple[int, str]] = []
    capped: set[int] = set()
    for place, own in enumerate(keys):
        found: set[str] = set()
        for kind, key in own:
            older, newer = known.get(key, ()), earlier[key]
            if older is None:
                capped.add(key)
            elif older or newer:
                limit = limit_of(kind, cap)
                too_many = len(older) + len(newer) > limit
                if too_many:
                    capped.add(key)
                if not too_many or kind in NARROW:
                    in_chunk.update((other, place) for other in newer[-limit:])
                    found.update(older[: max(limit - len(newer), 0)])
            if place not in repeated:
                newer.append(place)
        if place in repeated:
            in_chunk.add((repeated[place], place))
        with_known += [(place, other) for other in found]
    return Candidates(in_chunk, with_known, len(capped))
