"""Companies: one key for one company, two for two."""

import pytest
from cleanco import basename, prepare_default_terms
from hypothesis import example, given, settings
from hypothesis import strategies as st

from leads_pipeline.domain.companies import Company, CompanyFault, company_key, parse_company, without_legal_form


@pytest.mark.parametrize(
    "names",
    [
        ["Acme", "ACME Inc.", "Acme, Inc", "The Acme Company", "acme llc", "Acme GmbH & Co. KG"],
        ["Widget", "Widget Co., Inc."],
        ["IBM", "IBM Corp."],
        ["Romashka", "OOO Romashka", "ООО Ромашка"],
        ["Smith & Sons", "Smith and Sons Ltd", "Smith + Sons"],
        ["トヨタ", "株式会社トヨタ"],
        ["Müller", "Muller AG", "MÜLLER ag"],
    ],
)
def test_legal_forms_and_spelling_make_no_other_company(names: list[str]) -> None:
    assert len({company_key(name) for name in names}) == 1, {name: company_key(name) for name in names}


@pytest.mark.parametrize(
    ("name", "key"),
    [("The Limited", "limited"), ("AB", "ab"), ("Co", "co"), ("HP Inc.", "hp"), ("A/S", "as"), ("SA SA", "sasa")],
)
def test_a_name_that_is_all_legal_form_keeps_it(name: str, key: str) -> None:
    assert company_key(name) == key


def test_a_company_is_shown_as_it_was_sent() -> None:
    assert parse_company("  Acme\u200b   GmbH ") == Company("Acme GmbH", "acme")


@pytest.mark.parametrize("value", ["n/a", "none", "-", "test", "NA"])
def test_a_placeholder_is_no_company(value: str) -> None:
    assert parse_company(value) == CompanyFault("company_placeholder", "placeholder")


def test_words_that_say_that_there_is_no_company_do_not_identify_anybody() -> None:
    assert parse_company("Self-employed") == Company("Self-employed", None)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=60))
def test_any_text_gets_an_answer_and_a_key_has_letters_and_digits_only(raw: str) -> None:
    company = parse_company(raw)
    if isinstance(company, Company) and company.key is not None:
        assert company.key.isascii()
        assert company.key.isalnum()
        assert company.key == company.key.lower()


LEGAL_FORMS = sorted({" ".join(words) for _length, words in prepare_default_terms() if " ".join(words).isascii()})
WORDS = st.one_of(
    st.sampled_from(LEGAL_FORMS),
    st.sampled_from(
        ["Acme", "the", "Co.", "Inc.", "& Sons,", "A", "S.A.", "GmbH & Co. KG", "-", "...", "(UK)", "l.l.c."]
    ),
    st.text(alphabet="abcXYZ019.,-&() _", max_size=8),
)


@settings(max_examples=500, deadline=None)
@given(st.lists(WORDS, max_size=5).map(" ".join), st.booleans())
@example("Widget Co., Inc.", False)
@example("GmbH & Co. KG", False)
@example("Acme Ltd. (UK)", True)
def test_the_short_way_takes_off_what_cleanco_takes_off(name: str, capitals: bool) -> None:
    name = name.upper() if capitals else name
    assert without_legal_form(name) == str(basename(name)).strip()


@settings(max_examples=300, deadline=None)
@given(st.lists(WORDS, max_size=4).map(" ".join))
def test_reading_what_was_read_changes_nothing(raw: str) -> None:
    company = parse_company(raw)
    if isinstance(company, Company):
        assert parse_company(company.name) == company


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Acme", "Acme Labs"),
        ("The Limited", "The Company"),
        ("Smith & Sons", "Smith & Daughters"),
        ("3M", "3N"),
        ("Studio 54", "Studio 55"),
        ("A/S", "S/A B"),
    ],
)
def test_two_companies_stay_two(one: str, other: str) -> None:
    assert company_key(one) != company_key(other)
