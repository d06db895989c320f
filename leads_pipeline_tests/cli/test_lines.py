"""Lines that fit a terminal."""

from uuid import UUID

import pytest

from leads_pipeline.cli._lines import COLUMNS, fitted

ONE, OTHER = UUID(int=2**127), UUID(int=2**127 + 1)


@pytest.mark.parametrize(
    ("line", "begins_at"),
    [
        (f"lead {ONE} joined {OTHER}, and more", 2),
        (f"    {ONE} was merged into {OTHER}, with lead {ONE}", 6),
        (f"lead 12  {ONE}  a-source-of-a-long-name, 2026-11-22 10:26, not in the golden row yet", 9),
        (f"    {'address or place':16}  {'a word and another and ' * 4}", 22),
    ],
)
def test_a_long_line_goes_on_below_its_text_and_loses_no_word(line: str, begins_at: int) -> None:
    first, *others = fitted(line)
    assert others
    assert all(len(part) <= COLUMNS for part in (first, *others))
    assert {len(part) - len(part.lstrip()) for part in others} == {begins_at}
    assert " ".join([first, *others]).split() == line.split()


def test_a_line_that_fits_and_a_word_that_never_will_stay_as_they_are() -> None:
    assert fitted("  two  blanks") == ["  two  blanks"]
    assert fitted("") == [""]
    assert f"  {'x' * 100}" in fitted(f"see {'x' * 100} there")
