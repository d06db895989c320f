"""A batch is cut into leads at a cost that no body can drive up."""

import pytest

from leads_pipeline.capture.bodies import MOST_TOKENS, split_array, split_ndjson
from leads_pipeline.capture.refusals import Code, Refused

DEEP = b"[" * 2_000 + b"]" * 2_000


def test_an_item_that_json_cannot_read_is_cut_out_and_its_neighbours_stay() -> None:
    assert split_array(b' [{"a": "],["}, ' + DEEP + b', {"b": [1, 2]}] ', most=3) == [
        b'{"a": "],["}', DEEP, b'{"b": [1, 2]}'
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"[" * 16_000_000, Code.BODY_TOO_LARGE),
        (b"[[" + b"," * 16_000_000, Code.BODY_TOO_LARGE),
        (b"[" + b"1," * 8_000_000 + b"1]", Code.TOO_MANY_LEADS),
        (b"[1,2,3,4]", Code.TOO_MANY_LEADS),
        (b"[1,2,3,4," + DEEP + b"]", Code.TOO_MANY_LEADS),
        (b"[1,,2]", Code.MALFORMED_JSON),
        (b"[1,2", Code.MALFORMED_JSON),
        (b"[1]]", Code.MALFORMED_JSON),
        (b'{"a": 1}', Code.NOT_AN_ARRAY),
        (b"{", Code.MALFORMED_JSON),
    ],
    ids=range(10),
)
def test_what_cannot_be_cut_is_refused(body: bytes, code: Code) -> None:
    refused = split_array(body, most=3)
    assert isinstance(refused, Refused)
    assert refused.code is code


def test_commas_in_texts_are_no_items() -> None:
    lead = b'{"message": "' + b"," * (MOST_TOKENS + 1) + b'"}'
    assert split_array(b"[" + lead + b"]", most=3) == [lead]


def test_lines_are_leads_and_blank_ones_are_none() -> None:
    assert split_ndjson(b"\xef\xbb\xbf {}\r\n\n \t\r\n{}\n" + b" \n" * 1_000_000, most=2) == [b"{}\r", b"{}"]
    refused = split_ndjson(b"1\n" * 8_000_000, most=3)
    assert isinstance(refused, Refused)
    assert refused.code is Code.TOO_MANY_LEADS
