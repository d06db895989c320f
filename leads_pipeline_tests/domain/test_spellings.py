"""Names in one form for their several spellings."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leads_pipeline.domain.spellings import sound, spelling


@pytest.mark.parametrize(
    "names",
    [
        ("muller", "mueller"),
        ("meyer", "meier", "maier"),
        ("yuri", "iuri", "juri"),
        ("shevchenko", "sevcenko"),
        ("aleksandr", "alexandr"),
        ("stephan", "stefan"),
        ("schmidt", "schmitt", "schmit"),
        ("lee", "li", "yi", "leigh"),
        ("ashley", "ashleigh"),
        ("hsu", "xu"),
        ("pak", "bak", "park"),
    ],
)
def test_spellings_of_one_name_have_one_form(names: tuple[str, ...]) -> None:
    assert len({spelling(name) for name in names}) == 1


@pytest.mark.parametrize(
    ("one", "other"), [("anna", "hannah"), ("martin", "marten"), ("wang", "zhang"), ("smith", "smythe"), ("kim", "kam")]
)
def test_other_names_keep_another_form(one: str, other: str) -> None:
    assert spelling(one) != spelling(other)


@given(st.text(alphabet="abcdefghijklmnopqrstuvwxyz", min_size=1, max_size=12))
def test_every_name_has_a_form_and_a_sound_in_latin_letters(name: str) -> None:
    assert spelling(name).isascii()
    assert spelling(name).isalpha()
    assert sound(spelling(name))[0].isalpha()
    assert spelling(name) == spelling(name)


@pytest.mark.parametrize(("name", "code"), [("robert", "r163"), ("rupert", "r163"), ("tymczak", "t522"), ("a", "a")])
def test_sound_is_soundex(name: str, code: str) -> None:
    assert sound(name) == code
