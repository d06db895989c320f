"""What goes into scoring and what comes out. Light: the step imports it without loading Splink."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from leads_pipeline.domain.mailbox_lists import KNOWN
from leads_pipeline.domain.match_keys import MatchFields


@dataclass(frozen=True)
class Frequencies:
    """How many of ``contacts`` contacts have a value: (field, value) → occurrences."""

    contacts: int
    occurrences: Mapping[tuple[str, str], int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ScoredPair:
    """Two places in the list of records, the log2 odds that they are one person, and what each comparison added.

    ``evidence`` holds weights by comparison, and ``prior``; never a value. Pairs of no interest have none.
    """

    left: int
    right: int
    match_weight: float
    evidence: dict[str, float]


def count_terms(records: Iterable[MatchFields]) -> Frequencies:
    """How common each value is among ``records`` that nobody has told apart yet.

    Records of one name are taken for one person: a file sorted by person would otherwise make each of its rare names
    look common.
    """
    bearers: dict[tuple[str, str], set[tuple[str | None, str | None]]] = defaultdict(set)
    names = set()
    for record in records:
        name = record.first_name_key, record.last_name_key
        names.add(name)
        for term in terms_of(record).items():
            bearers[term].add(name)
    return Frequencies(len(names), {term: len(found) for term, found in bearers.items()})


class Scorer(Protocol):
    """What the step needs of ``scoring.PairScorer``."""

    @property
    def version(self) -> str: ...

    def score(
        self,
        records: Sequence[MatchFields],
        pairs: Sequence[tuple[int, int]],
        *,
        frequencies: Frequencies,
        explain_from: float = 0.0,
    ) -> list[ScoredPair]: ...


def terms_of(fields: MatchFields) -> dict[str, str]:
    """The values of a record whose frequency matters, by field."""
    terms = {
        "first_name": fields.first_name_key,
        "last_name": fields.last_name_key,
        "phone": fields.phone_key,
        "company": fields.company_key,
        "born": fields.date_of_birth.isoformat() if fields.date_of_birth else None,
        "postcode": fields.postcode_key,
        "city": fields.city_key,
        "job_title": fields.job_title_key,
        "domain": _work_domain(fields.email_key) if fields.email_key else None,
    }
    return {name: term for name, term in terms.items() if term}


def _work_domain(email: str) -> str | None:
    """The domain of an address, unless anybody may open a mailbox there: then it says nothing of where one works."""
    domain = email.partition("@")[2]
    return None if KNOWN.is_free(domain) else domain
