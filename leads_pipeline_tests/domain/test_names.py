"""Names of people."""

from unittest.mock import patch

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from nameparser import HumanName

from leads_pipeline.domain import names
from leads_pipeline.domain.names import NameFault, PersonName, parse_name, part_full_name


def named(*, first: str | None = None, last: str | None = None, full: str | None = None) -> PersonName:
    return parse_name(first=first, last=last, full=full)


@pytest.mark.parametrize(
    ("first", "last", "shown"),
    [
        ("anna", "o'brien", ("Anna", "O'Brien")),
        ("ANNA-MARIA", "McDONALD", ("Anna-Maria", "McDONALD")),
        ("anna", "mcdonald", ("Anna", "McDonald")),
        ("ludwig", "van beethoven", ("Ludwig", "van Beethoven")),
        ("JD", "SMITH", ("JD", "Smith")),
        ("M. Night", "P.Top", ("M. Night", "P.Top")),
        ("Yo-Yo", "Li Ma", ("Yo-Yo", "Li Ma")),
        ("DeShawn", "MacLeod", ("DeShawn", "MacLeod")),
        ("\ufeffAnna\u200b", " Smith\t", ("Anna", "Smith")),
        ("Dr. Anna", "Smith, PhD", ("Anna", "Smith")),
        ("Mr", "Smith Jr.", ("Mr", "Smith")),
        ("élodie", "ÅNGSTRÖM", ("Élodie", "Ångström")),
    ],
)
def test_a_name_is_cased_when_its_sender_did_not_care(first: str, last: str, shown: tuple[str, str]) -> None:
    name = named(first=first, last=last)
    assert (name.first, name.last) == shown


@pytest.mark.parametrize(
    ("first", "last", "keys"),
    [
        ("José", "Muñoz", ("jose", "munoz")),
        ("Anne-Marie", "O’Brien", ("annemarie", "obrien")),
        ("Юлия", "Иванова", ("yuliya", "ivanova")),
        ("Аnna", "Smith", ("anna", "smith")),  # the first letter is Cyrillic
        ("Jürgen", "Groß", ("jurgen", "gross")),
    ],
)
def test_keys_are_latin_letters_only(first: str, last: str, keys: tuple[str, str]) -> None:
    name = named(first=first, last=last)
    assert (name.first_key, name.last_key) == keys


@pytest.mark.parametrize(
    ("full", "parts"),
    [
        ("Anna Smith", ("Anna", "Smith")),
        ("SMITH, JOHN", ("John", "Smith")),
        ("Dr. Juan Q. Xavier de la Vega III", ("Juan", "de la Vega")),
        ("Mr Smith", (None, "Smith")),
        ("Cher", ("Cher", None)),
        ("marketing dept", ("Marketing", "Dept")),
        ("David Dobbins Senior", ("David", "Dobbins")),
        ("Dobbins, David Junior", ("David", "Dobbins")),
        ("王杰", ("杰", "王")),
        ("张秀英", ("秀英", "张")),
        ("欧阳娜娜", ("娜娜", "欧阳")),
    ],
)
def test_a_whole_name_is_parted_where_no_part_was_sent(full: str, parts: tuple[str | None, str | None]) -> None:
    name = named(full=full)
    assert (name.first, name.last, name.full) == (*parts, full)


def test_parts_that_were_sent_are_not_parted_again() -> None:
    name = named(first="Maria Jose", last="Garcia Lopez", full="Somebody Else")
    assert (name.first, name.last, name.full) == ("Maria Jose", "Garcia Lopez", "Somebody Else")


@pytest.mark.parametrize("value", ["test", "asdf", "N/A", "xxx", "-", "?"])
def test_a_placeholder_is_no_name(value: str) -> None:
    name = named(first=value)
    assert name.first is None
    assert name.faults == (NameFault("name_placeholder", "first_name", "placeholder"),)


def test_a_placeholder_in_a_whole_name_is_no_part_of_it() -> None:
    name = named(full="Anna asdf")
    assert (name.first, name.last, name.full) == ("Anna", None, "Anna asdf")
    assert name.faults == (NameFault("name_placeholder", "full_name", "placeholder"),)
    assert named(full="qwerty asdf")[:3] == (None, None, None)


def test_na_is_a_surname_beside_a_first_name_and_nothing_alone() -> None:
    assert named(first="Moon", last="Na").last == "Na"
    assert named(last="Na") == PersonName(
        None, None, None, (NameFault("name_placeholder", "last_name", "placeholder"),)
    )
    assert named(first="NA", last="NULL").full is None


@pytest.mark.parametrize(
    ("value", "value_class"),
    [
        ("anna@firm.com", "email_address"),
        ("Win at http://x.example", "link"),
        ("best-shop.ru now", "link"),
        ("12345", "no_letters"),
    ],
)
def test_what_is_no_name_is_left_out_with_its_class(value: str, value_class: str) -> None:
    assert named(last=value).faults == (NameFault("name_invalid", "last_name", value_class),)


WORDS = st.one_of(
    st.from_regex(r"[A-Za-z]{1,12}", fullmatch=True),
    st.from_regex(r"[A-Za-z]\.?", fullmatch=True),
    st.from_regex(r"[A-ZÄÖÉa-zäößéñ]{2,8}([-'][A-Za-zé]{2,6})?", fullmatch=True),
    st.sampled_from(
        [
            "van",
            "de",
            "Dr",
            "Mr",
            "Jr",
            "PhD",
            "and",
            "Ma",
            "Sir",
            "El",
            "Do",
            "III",
            "Vi",
            "Baron",
            "née",
            "O'Brien",
            "y",
        ]
    ),
    st.sampled_from(sorted(names._SPECIAL_WORDS)),
)


@settings(max_examples=600, deadline=None)
@given(st.lists(WORDS, min_size=2, max_size=3), st.sampled_from(["", ",", " ,"]))
@example(["Anna", "Smith"], "")
@example(["Smith", "Anna"], ",")
@example(["Anna", "Maria", "Smith"], "")
@example(["A.", "Smith"], "")
@example(["Maria", "née", "Smith"], "")
def test_the_short_way_parts_plain_words_as_nameparser_does(words: list[str], comma: str) -> None:
    whole = " ".join([words[0] + comma, *words[1:]])
    with patch.object(names, "_parted_by_rules", return_value=("the long", "way")):
        parted = part_full_name(whole)
    if parted != ("the long", "way"):
        parsed = HumanName(whole)
        assert parted == (parsed.first, parsed.last)
        assert (parsed.title, parsed.suffix, parsed.nickname) == ("", "", "")


@pytest.mark.parametrize(
    "whole", ["Anna Smith", "Smith, Anna", "Anna Maria Smith", "Jürgen Groß", "A. Smith", "Brown , Eva"]
)
def test_what_most_names_look_like_goes_the_short_way(whole: str) -> None:
    with patch.object(names, "_parted_by_rules", side_effect=AssertionError("the long way")):
        part_full_name(whole)


PARTS = st.one_of(
    st.none(),
    st.from_regex(r"[A-Za-z]{1,10}", fullmatch=True),
    st.sampled_from(["mcdonald", "MCDONALD", "JD", "van", "Dr", "Jr", "NA", "Null", "test", "N", "o", "qwerty", "Na"]),
)


@settings(max_examples=600, deadline=None)
@given(PARTS, PARTS)
@example("Moon", "Na")
@example("NA", "NULL")
@example("JD", "mcdonald")
def test_a_simple_name_is_read_as_the_long_way_reads_it(first: str | None, last: str | None) -> None:
    short = named(first=first, last=last)
    with patch.object(names, "_is_simple", return_value=False):
        assert named(first=first, last=last) == short


@settings(max_examples=300, deadline=None)
@given(PARTS, PARTS, st.one_of(st.none(), st.text(max_size=30), st.lists(WORDS, max_size=4).map(" ".join)))
@example(None, None, "A AAA")
def test_reading_what_was_read_changes_nothing(first: str | None, last: str | None, full: str | None) -> None:
    name = named(first=first, last=last, full=full)
    again = named(first=name.first, last=name.last, full=name.full)
    assert (again.first_key, again.last_key) == (name.first_key, name.last_key)


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.none(), st.text(max_size=40)), st.one_of(st.none(), st.text(max_size=40)), st.text(max_size=60))
def test_any_text_gets_a_name_or_a_reason_and_what_is_shown_is_clean(
    first: str | None, last: str | None, full: str
) -> None:
    name = named(first=first, last=last, full=full)
    for shown in (name.first, name.last):
        assert shown is None or (shown == " ".join(shown.split()) and shown.isprintable())
    for key in (name.first_key, name.last_key):
        assert key is None or (key.isascii() and key.isalpha() and key.islower())
