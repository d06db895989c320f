"""Companies: shown as sent, compared without their legal form."""

from dataclasses import dataclass
from functools import lru_cache

from cleanco import basename

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


@dataclass(frozen=True, slots=True)
class Company:
    """``key`` is ``None`` where the words name no company ("self-employed")."""

    name: str
    key: str | None


@dataclass(frozen=True, slots=True)
class CompanyFault:
    """Why a value is no company."""

    rule: str
    value_class: str


def parse_company(raw: str) -> Company | CompanyFault:
    """Read one company."""
    name = cleaned(raw).strip(" ,;")
    compared = letters_digits_key(name)
    if compared is None or compared in NOTHING or name.lower() in ("n/a", "n.a.", "na", "no", "null", "nil", "k.a."):
        return CompanyFault("company_placeholder", "placeholder")
    if compared in NO_COMPANY:
        return Company(name, None)
    return Company(name, company_key(name))


@lru_cache(maxsize=16_384)
def company_key(name: str) -> str | None:
    """What is compared: letters and digits, without legal forms, a leading article and "and"."""
    bare = name
    for sign in _LEADING_SIGNS:
        bare = bare.removeprefix(sign).removesuffix(sign).strip()
    for _ in range(_MAX_FORMS):
        shorter = str(basename(bare)).strip()
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


def _names_something(text: str) -> bool:
    """Whether what is left of a name still is one. HP and 3M are; "The" and the "A" of A/S are not."""
    meaning = [word for word in words_key(text) if word not in _FILLERS]
    return len("".join(meaning)) >= 2
