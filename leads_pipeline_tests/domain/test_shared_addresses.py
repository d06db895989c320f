"""Who holds an address that several contacts want."""

from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from leads_pipeline.domain.shared_addresses import Claim, holders, passed_on

KEYS = st.sampled_from(["a@firm.com", "b@firm.com"])
IDS = st.integers(1, 12).map(lambda number: UUID(int=number))
WANTED = st.dictionaries(IDS, st.none() | KEYS, max_size=12)


@given(WANTED, st.randoms(use_true_random=False))
def test_the_oldest_holds_it_in_whatever_order_they_are_given(wanted: dict[UUID, str | None], random: object) -> None:
    found = holders(wanted, ())
    for key in {key for key in wanted.values() if key is not None}:
        assert found[key] == min(who for who, wants in wanted.items() if wants == key)
    assert found.keys() == {key for key in wanted.values() if key is not None}
    items = list(wanted.items())
    random.shuffle(items)  # type: ignore[attr-defined]
    assert holders(dict(items), ()) == found


def _claims(wanted: dict[UUID, str | None]) -> list[Claim]:
    """How others stand who were decided about before, with the oldest who waits alone: as they are read."""
    held = holders(wanted, ())
    found = [Claim(key, who, 1, True) for key, who in held.items()]
    for key, holder in held.items():
        waiting = sorted(who for who, wants in wanted.items() if wants == key and who != holder)
        found += [Claim(key, who, 1, False) for who in waiting[:1]]
    return found


@given(WANTED, WANTED)
def test_deciding_about_some_beside_the_two_first_of_the_others_is_deciding_about_all(
    some: dict[UUID, str | None], others: dict[UUID, str | None]
) -> None:
    apart = {who: key for who, key in others.items() if who not in some}
    claims = _claims(apart)
    found = holders(some, claims)
    assert found == holders({**apart, **some}, ())
    before = holders(apart, ())
    for claim in passed_on(claims, found):
        assert claim.holds == (before[claim.key] == claim.contact_id) != (found[claim.key] == claim.contact_id)
    kept = {claim.contact_id for claim in claims if claim.holds} - {c.contact_id for c in passed_on(claims, found)}
    assert kept == {who for who in found.values() if who in apart and before.get(apart[who] or "") == who}
