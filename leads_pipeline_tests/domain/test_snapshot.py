"""What is left to be sent, after any history of requests that arrived, failed or got lost."""

from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from leads_pipeline.domain.snapshot import acknowledged, difference, is_empty, unsure, value_hash

ADA, BYRON = UUID(int=1), UUID(int=2)
values = st.sampled_from([None, "", "x", "1", 0, 1, True, False, 0.5, 1.0])
properties = st.dictionaries(st.sampled_from("abcd"), values)
fates = st.sampled_from(["arrived", "lost and written", "lost", "refused"])


def test_only_what_changed_is_left() -> None:
    snapshot = acknowledged(ADA, {"firstname": "Ada", "company": "Engines"})
    assert difference({"firstname": "Ada", "company": "Mills"}, snapshot, contact_id=ADA) == {"company": "Mills"}
    assert difference({"firstname": "Ada", "company": "Engines"}, snapshot, contact_id=ADA) == {}


def test_what_may_be_there_is_cleared_and_what_never_was_is_not() -> None:
    snapshot = unsure(acknowledged(ADA, {"firstname": "Ada"}), ["company"])
    wanted = {"firstname": "", "company": None, "city": ""}
    assert difference(wanted, snapshot, contact_id=ADA) == {"firstname": "", "company": None}


def test_what_the_vendor_always_wants_goes_beside_a_difference_and_is_none_by_itself() -> None:
    snapshot = acknowledged(ADA, {"lastname": "Byron", "city": "London"})
    same = {"lastname": "Byron", "city": "London"}
    assert difference(same, snapshot, contact_id=ADA, always={"lastname"}) == {}
    assert difference({**same, "city": "Ockham"}, snapshot, contact_id=ADA, always={"lastname"}) == {
        "lastname": "Byron",
        "city": "Ockham",
    }


def test_a_hash_tells_values_types_properties_and_contacts_apart_and_holds_no_value() -> None:
    hashes = [
        value_hash(ADA, "a", "1"),
        value_hash(ADA, "a", 1),
        value_hash(ADA, "a", True),
        value_hash(ADA, "b", "1"),
        value_hash(BYRON, "a", "1"),
    ]
    assert len(set(hashes)) == len(hashes)
    assert all(0 <= item < 2**63 for item in hashes)


@given(history=st.lists(st.tuples(properties, fates), max_size=6))
def test_the_destination_comes_to_hold_what_is_wanted_whatever_got_lost_before(history) -> None:
    there: dict[str, object] = {}
    snapshot: dict[str, int | None] = {}
    for number, (fields, fate) in enumerate([*history, ({"a": "last", "b": None}, "arrived")]):
        wanted = {**dict.fromkeys(snapshot), **fields}
        sent = difference(wanted, snapshot, contact_id=ADA)
        if fate in ("arrived", "lost and written"):
            there |= sent
        if fate == "arrived":
            snapshot = acknowledged(ADA, wanted)
        elif fate.startswith("lost"):
            snapshot = unsure(snapshot, sent)
        if fate == "arrived":
            assert _filled(there) == _filled(fields), number


def _filled(found):
    return {name: value for name, value in found.items() if not is_empty(value)}
