"""The canonical fields are one list."""

import re

from leads_pipeline.domain.lead import CANONICAL_FIELDS, FIELD_NAMES
from leads_pipeline.storage.schema import validated_leads


def test_no_field_and_no_alias_is_named_twice():
    names = [
        *FIELD_NAMES,
        *(alias for field in CANONICAL_FIELDS for alias in field.aliases if alias not in FIELD_NAMES),
    ]

    assert len(names) == len(set(names))


def test_aliases_are_written_as_column_names_are_compared():
    odd = [alias for field in CANONICAL_FIELDS for alias in field.aliases if not re.fullmatch(r"[a-z0-9]+", alias)]

    assert odd == []


def test_every_field_has_a_place_among_validated_leads():
    """Attribution fields share one column; each of the others has its own."""
    attribution = {"lead_source", "campaign", "utm_source", "utm_medium", "landing_page"}

    assert set(FIELD_NAMES) - attribution - set(validated_leads.c.keys()) == set()


def test_a_field_is_personal_here_exactly_if_its_column_is():
    for field in CANONICAL_FIELDS:
        column = validated_leads.c.get(field.name)
        if column is not None:
            assert column.info.get("personal", False) == field.personal, field.name
