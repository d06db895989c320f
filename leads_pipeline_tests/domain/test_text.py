"""Text, cleaned."""

import unicodedata

from hypothesis import example, given, settings
from hypothesis import strategies as st

from leads_pipeline.domain.text import (
    as_text,
    cleaned,
    cleaned_lines,
    letters_digits_key,
    letters_key,
    without_query,
    words_key,
)


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=60))
@example("a\u200bb\ufeff \u202ec\u00adAnna\tSmith\u0000")
def test_cleaned_text_is_one_visible_line_and_stays_as_it_is(value: str) -> None:
    text = cleaned(value)
    assert text == " ".join(text.split()) == cleaned(text)
    assert not {unicodedata.category(character) for character in text} & {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def test_the_lines_of_a_message_stay() -> None:
    assert cleaned_lines("  Hello,\r\n\r\nplease\u200b  call\t me. ") == "Hello,\n\nplease call me."


def test_equal_names_with_invisible_differences_have_equal_keys() -> None:
    assert letters_key("A\u0301nna") == letters_key("Ánna") == letters_key("anna") == "anna"
    assert letters_digits_key("３Ｍ") == "3m"
    assert words_key("O’Brien's  Größe 5") == ["obriens", "grosse", "5"]
    assert letters_key("123") is None


def test_only_what_a_person_could_have_typed_is_text() -> None:
    assert [as_text(value) for value in ("a", 5, 5.0, 5.5, True, None, ["a"], {"a": 1})] == [
        "a", "5", "5", "5.5", None, None, None, None
    ]  # fmt: skip


def test_infinity_is_text_like_any_other() -> None:
    assert as_text(float("inf")) == "inf"
    assert as_text(float("nan")) == "nan"


def test_the_address_of_a_page_is_kept_without_what_was_typed_into_its_form() -> None:
    assert without_query("https://www.acme.example/demo?email=ada%40b.co#thanks") == "https://www.acme.example/demo"
    assert without_query("https://ada:secret@acme.example/demo") == "https://acme.example/demo"
    assert without_query("/demo") == "/demo"
