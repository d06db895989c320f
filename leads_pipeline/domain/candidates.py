"""Which records are compared: those that share a telling key, or two keys that tell little.

What a key tells depends on its kind and on how many records share it: a name that forty people have still finds one in
a hundred of them again, the first letters of a mailbox at one company hardly anybody. Two keys that tell little by
themselves tell as much as a rare one. Keep out: which keys a record has (``match_keys``), and where those of known
records are kept.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from leads_pipeline.domain.match_keys import MatchKey

# A key of up to so many records is enough by itself, by kind, and in general. Chosen by how many true pairs the lists
# of a kind and length add that no other key finds, for each candidate that they cost (hard invented leads, 250,000
# contacts: above these it is less than one in 500, docs/identity.md).
FEW_BY_KIND: Mapping[str, int] = {
    "name": 100,
    "part_company": 50,
    "phone": 50,
    "email": 50,
    "external_id": 50,
    "mailbox_start": 10,
    "mailbox_site": 20,
    "area": 3,
    "city_year": 3,
}
FEW = 10
# Of one clue in several forms: they say no more together than one of them.
_ONE_CLUE: Mapping[str, str] = dict.fromkeys(("email", "mailbox", "mailbox_start", "mailbox_site"), "mailbox")


@dataclass(frozen=True, slots=True)
class Candidates:
    """What to compare: pairs of places in the chunk, and a place with the id of a known record. In no order.

    ``capped_keys`` yielded only their newest records.
    """

    in_chunk: set[tuple[int, int]]
    with_known: list[tuple[int, str]]
    capped_keys: int


def clue_of(kind: str) -> str:
    """What keys of this kind are about: two that are about the same are one hint."""
    return _ONE_CLUE.get(kind, kind)


def find_pairs(keys: Sequence[Sequence[MatchKey]], known: Mapping[int, Sequence[str]], *, cap: int) -> Candidates:
    """The pairs to compare for a chunk whose leads, in the order of arrival, have these ``keys``.

    ``known``: for the hash of each key that earlier records have, their ids, the newest first, ``cap`` at most. The
    leads are paired as if they came one by one: those before in the chunk are newer than all known ones, and the cap is
    for both.
    """
    earlier: dict[int, list[int]] = defaultdict(list)
    in_chunk: set[tuple[int, int]] = set()
    with_known: list[tuple[int, str]] = []
    capped = {key for key, ids in known.items() if len(ids) >= cap}
    for place, own in enumerate(keys):
        found: set[int | str] = set()
        hints: dict[str, set[int | str]] = {}
        for kind, key in own:
            older, newer = known.get(key), earlier[key]
            if older or newer:
                shared: list[int | str] = [*newer[-cap:], *(older or ())[: max(cap - len(newer), 0)]]
                if len(shared) <= FEW_BY_KIND.get(kind, FEW):
                    found.update(shared)
                else:
                    hints.setdefault(clue_of(kind), set()).update(shared)
            newer.append(place)
            if len(newer) > cap:
                capped.add(key)
        hinted: set[int | str] = set()
        for clue in hints.values():
            found.update(hinted & clue)
            hinted |= clue
        for other in found:
            if isinstance(other, int):
                in_chunk.add((other, place))
            else:
                with_known.append((place, other))
    return Candidates(in_chunk, with_known, len(capped))
