"""Names of people: parted, cased, and made comparable.

First and last names are taken as they were sent; a whole name is parted only where they are missing, because parting
guesses (double surnames, other orders). Titles and generational suffixes are taken off, as they are no part of what is
compared. Keep out: nicknames, which are the business of matching.
"""

import re
from dataclasses import dataclass
from typing import NamedTuple

from nameparser import HumanName
from nameparser.config import CONSTANTS
from nameparser.config.maiden_markers import MAIDEN_MARKERS

from leads_pipeline.domain.data import words
from leads_pipeline.domain.data.placeholders import NOTHING, NOTHING_OR_NAME
from leads_pipeline.domain.text import cleaned, letters_digits_key, letters_key

_TITLES = words(
    """
    dame dipl dipling diplkfm dott dottssa dr father fr frau fru herr hr ing lady lord madam madame mag miss
    mlle mme monsieur mr mrs ms mx prof professor rev reverend senor senora sir sr sra srta
    """
)
_SUFFIXES = words(
    """
    bsc cpa dds esq ii iii iv jnr jr junior llb llm mba md msc phd senior snr sr
    """
)
_SPELT_OUT = frozenset({"junior", "senior"})
# Written small inside a name: Ludwig van Beethoven.
_PARTICLES = words(
    """
    af al av bin bint da dal das de degli dei del della den der des di do dos du el ibn la las le lo los ten ter
    van vom von y zu zum zur
    """
)
_LINK = re.compile(r"https?://|www\.|[a-z0-9-]{2}\.(?:com|net|org|ru|info|biz|xyz|top|io|co)\b", re.IGNORECASE)
_WORD = re.compile(r"[^\W\d_]+", re.UNICODE)
_LETTERS = "A-Za-zÀ-ÖØ-öø-ɏ"  # Latin ones: of other scripts nameparser knows other orders
_PLAIN_WORD = re.compile(rf"[{_LETTERS}]{{2,}}(?:[-'’][{_LETTERS}]{{2,}})*|[ODod]['’][{_LETTERS}]{{2,}}")
# A Chinese name as it is written, without a space: the family name stands first, and few have two characters.
_HAN = re.compile(
    "(欧阳|歐陽|司马|司馬|诸葛|諸葛|上官|司徒|东方|東方|尉迟|尉遲|公孙|公孫|慕容|令狐|皇甫|夏侯|长孙|長孫|[\u4e00-\u9fff])"
    "([\u4e00-\u9fff]{1,2})"
)
_ROMAN_NUMERAL = re.compile(r"[ivxlcdm]+", re.IGNORECASE)
# The words that mean something to nameparser beside being names.
_SPECIAL_WORDS: frozenset[str] = frozenset().union(
    CONSTANTS.titles,
    CONSTANTS.first_name_titles,
    CONSTANTS.prefixes,
    CONSTANTS.bound_first_names,
    CONSTANTS.conjunctions,
    CONSTANTS.suffix_acronyms,
    CONSTANTS.suffix_not_acronyms,
    MAIDEN_MARKERS,
)
_NO_SIMPLE_NAME = NOTHING | NOTHING_OR_NAME
_NOT_SAID = frozenset({"n/a", "n.a.", "k.a."})


@dataclass(frozen=True, slots=True)
class NameFault:
    """Why a value is no name. ``field`` is the field that held it."""

    rule: str
    field: str
    value_class: str


class PersonName(NamedTuple):
    """What is left after cleaning; a part that was not sent, or was nothing, is ``None``."""

    first: str | None
    last: str | None
    full: str | None
    faults: tuple[NameFault, ...] = ()

    @property
    def first_key(self) -> str | None:
        return letters_key(self.first) if self.first else None

    @property
    def last_key(self) -> str | None:
        return letters_key(self.last) if self.last else None


def parse_name(*, first: str | None, last: str | None, full: str | None) -> PersonName:
    """Clean the parts that were sent, or part the whole name if neither was."""
    if full is None and (first is None or _is_simple(first)) and (last is None or _is_simple(last)):
        return _shown(first, last, whole=None, faults=())
    faults: list[NameFault] = []
    whole = _checked("full_name", full, faults)
    sent_first, sent_last = _checked("first_name", first, faults), _checked("last_name", last, faults)
    if sent_first is None and sent_last is None and whole is not None:
        parted = part_full_name(whole)
        sent_first, sent_last = (_checked("full_name", part, faults) for part in parted)
    given = _without(sent_first, _TITLES, leading=True)
    family = _without(sent_last, _SUFFIXES, leading=False)
    given, family = _without_doubtful(given, family, faults)
    return _shown(given, family, whole=whole, faults=tuple(faults))


def _is_simple(value: str) -> bool:
    """Whether a part is one word of ASCII letters, as most are, and no placeholder: nothing is to be taken off it."""
    return value.isascii() and value.isalpha() and value.lower() not in _NO_SIMPLE_NAME


def _shown(given: str | None, family: str | None, *, whole: str | None, faults: tuple[NameFault, ...]) -> PersonName:
    first, last = _cased(given, family_name=False), _cased(family, family_name=True)
    if first is None or last is None:
        alone = first or last
        return PersonName(first, last, alone and (whole or alone), faults)
    return PersonName(first, last, whole or f"{first} {last}", faults)


def part_full_name(whole: str) -> tuple[str | None, str | None]:
    """Given and family name of a whole name. Middle names are left out, as the parts have no place for them.

    Two or three plain words, or ``Smith, Anna``, are parted as nameparser would, without asking it: it takes a quarter
    of a millisecond.
    """
    if not whole.isascii() and (han := _HAN.fullmatch(whole)):
        return han[2], han[1]
    first, *others = whole.replace(" ,", ",").split()
    if len(others) > 1 and others[-1].lower() in _SPELT_OUT:
        others.pop()  # nameparser takes it for the family name
        whole = " ".join((first, *others))
    if 1 <= len(others) <= 2:
        if first.endswith(","):
            if _is_plain(first[:-1]) and all(_is_plain(word) or _is_initial(word) for word in others):
                return others[0], first[:-1]
        elif (_is_plain(first) or _is_initial(first)) and all(_is_plain(word) for word in others):
            return first, others[-1]
    return _parted_by_rules(whole)


def _is_initial(word: str) -> bool:
    return len(word) == 2 and word[1] == "." and word[0].isascii() and word[0].isalpha()


def _is_plain(word: str) -> bool:
    """Whether nameparser would take the word for a name, wherever it stands."""
    return (
        _PLAIN_WORD.fullmatch(word) is not None
        and word.lower() not in _SPECIAL_WORDS
        and _ROMAN_NUMERAL.fullmatch(word) is None
    )


def _parted_by_rules(whole: str) -> tuple[str | None, str | None]:
    parsed = HumanName(whole)
    first, last = str(parsed.first).strip() or None, str(parsed.last).strip() or None
    titles = [letters_key(word) for word in str(parsed.title).split()]
    if first is None and not all(title in _TITLES for title in titles):
        # "marketing dept": what the parser took for a title is not one; keep the words in their order.
        words = whole.split()
        return words[0], " ".join(words[1:]) or None
    return first, last


def _checked(field: str, value: str | None, faults: list[NameFault]) -> str | None:
    if value is None:
        return None
    text = cleaned(value).strip(' ,;"')
    if not text:
        return None
    if text.isascii() and text.isalpha() and text.lower() not in NOTHING:
        return text  # as most names are: the other rules look for what is no letter
    nothing = letters_digits_key(text)
    if nothing is None or nothing in NOTHING or text.lower() in _NOT_SAID:
        faults.append(NameFault("name_placeholder", field, "placeholder"))
        return None
    if "@" in text:
        faults.append(NameFault("name_invalid", field, "email_address"))
        return None
    if _LINK.search(text):
        faults.append(NameFault("name_invalid", field, "link"))
        return None
    if _WORD.search(text) is None:
        faults.append(NameFault("name_invalid", field, "no_letters"))
        return None
    return text


def _without(value: str | None, words: frozenset[str], *, leading: bool) -> str | None:
    """``value`` without titles before or suffixes after it, unless nothing else is there."""
    if value is None or (" " not in value and "," not in value):
        return value
    parts = value.replace(",", " ").split() if not leading else value.split()
    while len(parts) > 1 and (letters_key(parts[0 if leading else -1]) or "") in words:
        parts.pop(0 if leading else -1)
    return " ".join(parts)


def _without_doubtful(first: str | None, last: str | None, faults: list[NameFault]) -> tuple[str | None, str | None]:
    """Drop "Na" or "Null" where no other name stands beside it: alone it means nothing, beside one it is a surname."""
    doubtful_first = first is not None and letters_digits_key(first) in NOTHING_OR_NAME
    doubtful_last = last is not None and letters_digits_key(last) in NOTHING_OR_NAME
    if doubtful_first and (last is None or doubtful_last):
        faults.append(NameFault("name_placeholder", "first_name", "placeholder"))
        first = None
    if doubtful_last and first is None:
        faults.append(NameFault("name_placeholder", "last_name", "placeholder"))
        last = None
    return first, last


def _cased(value: str | None, *, family_name: bool) -> str | None:
    """Mend names typed all small or all in capitals; leave any other casing, its owner knows best."""
    if value is None or not (value.islower() or value.isupper()):
        return value
    if value.isupper() and sum(map(str.isalpha, value)) < 3:
        return value  # initials: JD
    words = value.lower().split()
    shown = []
    for position, word in enumerate(words):
        small = word in _PARTICLES and position < len(words) - 1 and (family_name or position > 0)
        shown.append(word if small else _WORD.sub(_capitalised, word))
    return " ".join(shown)


def _capitalised(match: re.Match[str]) -> str:
    word, before = match[0], match.string[: match.start()]
    if before.endswith(("'", "’")) and len(word) <= 2 and len(before) > 3:
        return word  # the genitive's s
    if word.startswith("mc") and len(word) > 4:
        return f"Mc{word[2].upper()}{word[3:]}"
    return word[0].upper() + word[1:]
