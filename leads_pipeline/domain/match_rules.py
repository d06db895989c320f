"""What needs no probability: rules that say at once that two records are one person.

Keep out: anything with a threshold that data should set; that is the model's business.
"""

from enum import StrEnum

from rapidfuzz.distance import DamerauLevenshtein, JaroWinkler

from leads_pipeline.domain.match_keys import MatchFields, given_name_forms

_ALIKE = 0.85
# Two slips of the keyboard, or day and month exchanged; a parent and a child differ in more.
_MAX_DATE_SLIPS = 2


class Rule(StrEnum):
    """Why two records are one person without asking the model."""

    SAME_EMAIL = "same_email"
    SAME_PHONE_AND_NAME = "same_phone_and_name"


def decided_by_rule(left: MatchFields, right: MatchFields) -> Rule | None:
    """The rule that joins the two, or ``None``.

    An e-mail address is one contact's in every CRM that we deliver to, so it decides alone. A phone number is not: a
    switchboard has a company's people, a line at home a family's, so the whole name must fit it.
    """
    if left.email_key is not None and left.email_key == right.email_key:
        return Rule.SAME_EMAIL
    if left.phone_key is not None and left.phone_key == right.phone_key and _same_bearer(left, right):
        return Rule.SAME_PHONE_AND_NAME
    return None


def _same_bearer(left: MatchFields, right: MatchFields) -> bool:
    names = (left.first_name_key, left.last_name_key, right.first_name_key, right.last_name_key)
    if not all(names) or not _dates_agree(left, right):
        return False
    left_first, left_last, right_first, right_last = (name or "" for name in names)
    if left_last == right_last:
        return given_names_agree(left_first, right_first)
    return left_last == right_first and left_first == right_last


def given_names_agree(left: str, right: str) -> bool:
    """Whether two given names may be one person's: alike, a short form, or an initial."""
    if left == right or not set(given_name_forms(left)).isdisjoint(given_name_forms(right)):
        return True
    if len(left) == 1 or len(right) == 1:
        return left[0] == right[0]
    return JaroWinkler.similarity(left, right) >= _ALIKE


def _dates_agree(left: MatchFields, right: MatchFields) -> bool:
    if left.date_of_birth is None or right.date_of_birth is None:
        return True
    slips = DamerauLevenshtein.distance(left.date_of_birth.isoformat(), right.date_of_birth.isoformat())
    return slips <= _MAX_DATE_SLIPS
