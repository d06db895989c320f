"""What several kinds share in reading a body."""

import json
from typing import Any

import pytest

from leads_pipeline.sources.bodies import MAX_NESTING, NOT_JSON, add_apart, add_repeated, json_of, reference_of, text_of


@pytest.mark.parametrize("body", [b"", b"{", b"NaN", b'{"a": -Infinity}', b"\xff", b"'a'", b"9" * 5_000, b"[" * 50_000])
def test_what_is_not_json_is_none(body: bytes) -> None:
    assert json_of(body) is NOT_JSON


@pytest.mark.parametrize("value", [None, 0, "", [], {}, "\ud800", "a\x00b", 10**4_000, {"a": {"\udc00": [1]}}])
def test_what_is_json_by_its_grammar_is_read_whatever_its_values(value: Any) -> None:
    assert json_of(json.dumps(value).encode()) == value


def test_a_byte_order_mark_is_no_part_of_the_text() -> None:
    assert json_of(b'\xef\xbb\xbf{"a": 1}') == {"a": 1}


@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}")])
def test_json_is_read_to_a_depth_that_everything_behind_can_walk(opening: bytes, closing: bytes) -> None:
    assert json_of(opening * MAX_NESTING + b"1" + closing * MAX_NESTING) is not NOT_JSON
    assert json_of(opening * (MAX_NESTING + 1) + b"1" + closing * (MAX_NESTING + 1)) is NOT_JSON
    assert json_of(b"[" + b"[]," * 1_000 + b"[]]") is not NOT_JSON


@pytest.mark.parametrize(("value", "text"), [("x", "x"), (7, "7"), (0, "0"), (-7, "-7"), (" ", " "), ("Zoë", "Zoë")])
def test_texts_and_whole_numbers_are_ids(value: Any, text: str) -> None:
    assert text_of(value) == text


@pytest.mark.parametrize("value", ["", "a\x00", "\ud800", True, None, 1.5, [], {}, 10**30, -(10**4_000)])
def test_what_could_not_be_stored_or_is_no_name_is_no_id(value: Any) -> None:
    assert text_of(value) is None


def test_a_reference_can_stand_in_an_address_as_it_is() -> None:
    assert reference_of(444) == "444"
    assert reference_of("a-B_9") == "a-B_9"
    for value in ("a/b", "..", "a b", "a?b", "a\n", "ä", "x" * 101):
        assert reference_of(value) is None, value


def test_a_name_that_comes_again_makes_a_list_and_leaves_what_came_alone() -> None:
    found: dict[str, Any] = {}
    given = ["b", "c"]
    for name, value in (("x", "a"), ("x", given), ("x", "d"), ("y", given), ("y", "e")):
        add_repeated(found, name, value)
    assert found == {"x": ["a", "b", "c", "d"], "y": ["b", "c", "e"]}
    assert given == ["b", "c"]


def test_answers_stand_apart_where_their_name_is_taken() -> None:
    found: dict[str, Any] = {"id": 1}
    add_apart(found, {"id": "typed", "email": "x"}, under="answers")
    assert found == {"id": 1, "answers.id": "typed", "email": "x"}
