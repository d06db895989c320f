"""Companies: one key for one company, two for two."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leads_pipeline.domain.companies import Company, CompanyFault, company_key, parse_company


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
