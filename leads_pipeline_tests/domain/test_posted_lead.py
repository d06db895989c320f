"""What may pass the door: everything that can be stored and read again, and nothing else."""

import json
import math
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from leads_pipeline.domain.posted_lead import MAX_DEPTH, Fault, PostedLead, Unreadable, decode_lead, read_lead

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)
leads = st.dictionaries(st.text(max_size=8) | st.sampled_from(["email", "phone", "consent"]), values, max_size=6)


@given(leads)
@settings(max_examples=300)
def test_what_is_taken_can_be_stored_and_what_is_refused_could_not(lead: dict[str, Any]) -> None:
    text = json.dumps(lead)
    read = read_lead(lead)
    if isinstance(read, PostedLead):
        assert "\\u0000" not in text.replace("\\\\", "")
        assert json.loads(read.canonical_bytes())["payload"] == read.payload
        assert decode_lead(json.dumps(lead).encode()) == read
    elif read.fault is Fault.NUL_CHARACTER:
        assert "\\u0000" in text
    elif read.fault is Fault.NUMBER_OUT_OF_RANGE:
        assert "NaN" in text or "Infinity" in text


@given(st.binary(max_size=200))
def test_no_bytes_make_the_door_fall_over(raw: bytes) -> None:
    assert isinstance(decode_lead(raw), PostedLead | Unreadable)


@given(leads)
def test_the_same_content_has_the_same_bytes_in_any_order(lead: dict[str, Any]) -> None:
    read, turned = read_lead(lead), read_lead(dict(reversed(lead.items())))
    if isinstance(read, PostedLead) and isinstance(turned, PostedLead):
        assert read.canonical_bytes() == turned.canonical_bytes()


def test_nesting_is_taken_to_its_limit_and_no_further() -> None:
    def nested(levels: int) -> dict[str, Any]:
        value: Any = 1
        for _ in range(levels):
            value = [value]
        return {"x": value}

    assert isinstance(read_lead(nested(MAX_DEPTH - 1)), PostedLead)
    assert read_lead(nested(MAX_DEPTH)) == Unreadable(Fault.TOO_DEEP)


def test_numbers_beyond_a_double_are_no_numbers() -> None:
    assert decode_lead(b'{"x": 1e400}') == Unreadable(Fault.NUMBER_OUT_OF_RANGE)
    assert read_lead({"x": math.nan}) == Unreadable(Fault.NUMBER_OUT_OF_RANGE)
    assert decode_lead(b'{"x": NaN}') == Unreadable(Fault.MALFORMED_JSON)
    assert isinstance(decode_lead(b'{"x": 1e300}'), PostedLead)


def test_more_statements_than_anyone_makes_are_refused() -> None:
    read = read_lead({"email": "a", "consent": [True] * 101})
    assert isinstance(read, Unreadable)
    assert read.fields[0].field == "consent"
