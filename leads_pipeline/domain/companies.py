"""Companies: shown as sent, compared without their legal form.

Legal forms are cleanco's. It tries all of its three hundred on every name; names in ASCII, nearly all of them, are
looked up by their last word instead, which must agree with it (a property test compares the two).
"""

import re
from collections import defaultdict
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from cleanco import basename, prepare_default_terms

from leads_pipeline.domain.data.placeholders import NO_COMPANY, NOTHING
from leads_pipeline.domain.text import cleaned, letters_digits_key, words_key

# Legal forms that stand before the name; cleanco knows those behind it.
_LEADING_FORMS = frozenset({"ooo", "oao", "zao", "pao", "ao", "pt", "cv", "ip"})
_LEADING_SIGNS = ("株式会社", "有限会社", "合同会社", "(株)", "㈱")
# Words that are no name by themselves: "The Limited" is not "the".
_FILLERS = frozenset(
    {"the", "a", "an", "and", "of", "die", "der", "das", "le", "la", "les", "el", "los", "il", "und", "et", "y"}
)
_MAX_FORMS = 3  # "Widget Co., Inc." loses one legal form a pass
_TAIL = re.compile(r"[^.\w]+$")  # what cleanco takes off the end of a name
_NO_PUNCTUATION = str.maketrans("", "", ".,-")
_NOTHING_SAID = frozenset({"n/a", "n.a.", "na", "no", "null", "nil", "k.a."})


class Company(NamedTuple):
    """``key`` is ``None`` where the words name no company ("self-employed")."""

    name: str
    key: str | None


@dataclass(frozen=True, slots=True)
class CompanyFault:
    """Why a value is no company."""

    rule: str
    value_class: str


@lru_cache(maxsize=16_384)
def parse_company(raw: str) -> Company | CompanyFault:
    """Read one company."""
    name = cleaned(raw).strip(" ,;")
    compared = letters_digits_key(name)
    if compared is None or compared in NOTHING or name.lower() in _NOTHING_SAID:
        return CompanyFault("company_placeholder", "placeholder")
    if compared in NO_COMPANY:
        return Company(name, None)
    return Company(name, company_key(name))


def company_key(name: str) -> str | None:
    """What is compared: letters and digits, without legal forms, a leading article and "and"."""
    bare = name
    for sign in _LEADING_SIGNS:
        bare = bare.removeprefix(sign).removesuffix(sign).strip()
    for _ in range(_MAX_FORMS):
        shorter = without_legal_form(bare)
        if shorter == bare or not _names_something(shorter):
            break
        bare = shorter
    words = words_key(bare.replace("&", " and ").replace("+", " and "))
    if len(words) > 1 and words[0] in _LEADING_FORMS and _names_something(" ".join(words[1:])):
        words = words[1:]
    if len(words) > 1 and words[0] == "the":
        words = words[1:]
    meaning = [word for word in words if word != "and"]
    return "".join(meaning or words) or None


def without_legal_form(name: str) -> str:
    """The name without the legal forms at its end, as cleanco finds them in one pass."""
    if not name.isascii():
        return str(basename(name)).strip()
    words = _TAIL.sub("", name).split()
    compared = [word.translate(_NO_PUNCTUATION) for word in " ".join(words).lower().split()]
    after = -1
    while compared and (found := _form_at_end(compared, after)) is not None:
        after, length = found
        del compared[-length:], words[-length:]
    return _TAIL.sub("", " ".join(words)).strip()


def _form_at_end(words: list[str], after: int) -> tuple[int, int] | None:
    """Place in cleanco's list and length of the form that ``words`` end with: cleanco goes through its list once."""
    for position, form in _forms().get(words[-1], ()):
        if position > after and words[-len(form) :] == form:
            return position, len(form)
    return None


@lru_cache(maxsize=1)
def _forms() -> dict[str, list[tuple[int, list[str]]]]:
    """cleanco's legal forms, in its order, by their last word."""
    forms: defaultdict[str, list[tuple[int, list[str]]]] = defaultdict(list)
    for position, (_length, words) in enumerate(prepare_default_terms()):
        if words:
            forms[words[-1]].append((position, words))
    return dict(forms)


def _names_something(text: str) -> bool:
    """Whether what is left of a name still is one. HP and 3M are; "The" and the "A" of A/S are not."""
    meaning = [word for word in words_key(text) if word not in _FILLERS]
    return len("".join(meaning)) >= 2
