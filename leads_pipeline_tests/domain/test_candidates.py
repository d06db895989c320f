"""Which records are compared."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from leads_pipeline.domain.candidates import FEW, FEW_BY_KIND, find_pairs
from leads_pipeline.domain.match_keys import MatchKey

ORDINARY = "born"
assert ORDINARY not in FEW_BY_KIND


def known(key: int, count: int) -> dict[int, list[str]]:
    return {key: [f"{key}-{number}" for number in range(count)]}


def compared(keys: Sequence[MatchKey], lists: dict[int, list[str]], *, cap: int = 100) -> set[str]:
    return {lead_id for _, lead_id in find_pairs([keys], lists, cap=cap).with_known}


def test_a_key_that_few_share_is_enough() -> None:
    assert len(compared([MatchKey(ORDINARY, 1)], known(1, FEW))) == FEW
    assert compared([MatchKey(ORDINARY, 1)], known(1, FEW + 1)) == set()


def test_how_many_are_few_depends_on_the_kind() -> None:
    for kind, few in FEW_BY_KIND.items():
        assert len(compared([MatchKey(kind, 1)], known(1, few))) == few
        assert compared([MatchKey(kind, 1)], known(1, few + 1), cap=few + 1) == set()


def test_two_keys_that_many_share_make_a_candidate() -> None:
    both = [f"b{number}" for number in range(3)]
    lists = {1: [*both, *(f"x{n}" for n in range(FEW))], 2: [*(f"y{n}" for n in range(FEW)), *both]}
    assert compared([MatchKey(ORDINARY, 1), MatchKey("other", 2)], lists) == set(both)
    # Two forms of one clue are one.
    forms = [MatchKey("mailbox_start", 1), MatchKey("mailbox", 2)]
    assert compared(forms, {key: ids * 2 for key, ids in lists.items()}) == set()


def test_leads_of_a_chunk_find_each_other_and_are_newer_than_all_that_is_known() -> None:
    keys = [[MatchKey("name", 1)] for _ in range(3)]
    found = find_pairs(keys, {1: ["a", "b"]}, cap=2)
    assert found.in_chunk == {(0, 1), (0, 2), (1, 2)}
    assert sorted(found.with_known) == [(0, "a"), (0, "b"), (1, "a")]
    assert found.capped_keys == 1


@given(
    st.lists(st.lists(st.integers(0, 8), max_size=5, unique=True), max_size=12),
    st.integers(1, 12),
    st.sampled_from(["name", ORDINARY]),
)
def test_one_chunk_compares_what_the_same_leads_one_by_one_would(chunk: list[list[int]], cap: int, kind: str) -> None:
    keys = [[MatchKey(f"{kind}{key}" if key % 2 else kind, key) for key in own] for own in chunk]
    at_once = find_pairs(keys, {}, cap=cap).in_chunk
    one_by_one = set()
    for place, own in enumerate(keys):
        lists = {
            key.key_hash: [str(older) for older in reversed(range(place)) if key in keys[older]][:cap] for key in own
        }
        one_by_one |= {(int(older), place) for _, older in find_pairs([own], lists, cap=cap).with_known}
    assert at_once == one_by_one
