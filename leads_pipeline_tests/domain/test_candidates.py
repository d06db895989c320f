"""Which records are compared."""

from collections.abc import Mapping, Sequence
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leads_pipeline.domain.candidates import LIMIT, LIMITS, NARROW, find_pairs, limit_of
from leads_pipeline.domain.match_keys import MatchFields, MatchKey, match_keys

UNNAMED = "a kind without a limit of its own"
assert UNNAMED not in LIMITS


def known(key: int, count: int) -> dict[int, list[str]]:
    return {key: [f"{key}-{number}" for number in range(count)]}


def compared(keys: Sequence[MatchKey], lists: Mapping[int, Sequence[str] | None], *, cap: int = 100) -> set[str]:
    return {lead_id for _, lead_id in find_pairs([keys], lists, cap=cap).with_known}


@pytest.mark.parametrize("kind", sorted({*LIMITS, UNNAMED} - NARROW))
def test_a_key_finds_all_its_records_or_none_of_them_by_how_many_they_are(kind: str) -> None:
    limit = LIMITS.get(kind, LIMIT)
    assert len(compared([MatchKey(kind, 1)], known(1, limit))) == limit
    assert compared([MatchKey(kind, 1)], known(1, limit + 1)) == set()
    assert compared([MatchKey(kind, 1)], {1: None}) == set()
    assert compared([MatchKey(kind, 1)], known(1, 2), cap=1) == set()


@pytest.mark.parametrize("kind", sorted(NARROW))
def test_a_key_that_says_who_somebody_is_finds_its_newest_records_however_many_they_are(kind: str) -> None:
    limit = limit_of(kind, 100)
    assert compared([MatchKey(kind, 1)], known(1, limit + 20)) == {f"1-{number}" for number in range(limit)}
    assert compared([MatchKey(kind, 1)], known(1, limit + 20), cap=1) == {"1-0"}


def test_every_limit_is_of_a_kind_that_a_record_can_have() -> None:
    everything = MatchFields(
        email_key="anna.becker80@example.com",
        phone_key="+4930901820",
        first_name_key="anna",
        last_name_key="becker",
        company_key="example",
        date_of_birth=date(1980, 2, 3),
        city_key="berlin",
        postcode_key="10115",
        job_title_key="cto",
        external_id_key="import:1",
    )
    assert {key.kind for key in match_keys(everything)} == set(LIMITS)


def test_leads_of_a_chunk_find_each_other_and_are_newer_than_all_that_is_known() -> None:
    keys = [[MatchKey("email", 1)] for _ in range(3)]
    found = find_pairs(keys, {1: ["a", "b"]}, cap=2)
    assert found.in_chunk == {(0, 1), (0, 2), (1, 2)}
    assert sorted(found.with_known) == [(0, "a"), (0, "b"), (1, "a")]
    assert found.capped_keys == 1


@given(
    st.lists(st.lists(st.integers(0, 8), max_size=5, unique=True), max_size=12),
    st.integers(1, 12),
    st.sampled_from(["name", "email", UNNAMED]),
)
def test_one_chunk_compares_what_the_same_leads_one_by_one_would(chunk: list[list[int]], cap: int, kind: str) -> None:
    keys = [[MatchKey(UNNAMED if key % 2 else kind, key) for key in own] for own in chunk]
    at_once = find_pairs(keys, {}, cap=cap)
    one_by_one = set()
    capped = set()
    for place, own in enumerate(keys):
        lists: dict[int, list[str] | None] = {}
        for key in own:
            having = [str(older) for older in reversed(range(place)) if key in keys[older]]
            limit = limit_of(key.kind, cap)
            if len(having) > limit:
                capped.add(key.key_hash)
            lists[key.key_hash] = having[: limit + 1] if len(having) <= limit or key.kind in NARROW else None
        one_by_one |= {(int(older), place) for _, older in find_pairs([own], lists, cap=cap).with_known}
    assert at_once.in_chunk == one_by_one
    assert at_once.capped_keys == len(capped)
