"""What goes into scoring and what comes out. Light: the step imports it without loading Splink."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
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


# Records that agree in all of these are clearly one person's, before anybody was told apart: a whole name with another
# clue, or half of it with the date of birth and a place. Named as in ``record_columns``.
ONE_PERSON: tuple[tuple[str, ...], ...] = (
    *(
        ("first_name", "last_name", clue)
        for clue in ("email", "phone", "born", "company", "address", "postcode", "city")
    ),
    *((name, "born", place) for name in ("first_name", "last_name") for place in ("postcode", "city")),
)

_VALUES_OF = tuple(itemgetter(*names) for names in ONE_PERSON)
_NOTHING: Mapping[str, str | None] = dict.fromkeys(name for names in ONE_PERSON for name in names)


def count_terms(records: Iterable[MatchFields]) -> Frequencies:
    """How common each value is among ``records`` that nobody has told apart yet.

    What ``ONE_PERSON`` says are one person's records count once, as in a full resolution: a file sorted by person would
    otherwise make each of its rare names look common.
    """
    known = list(records)
    terms = [terms_of(record) for record in known]
    bearer_of = _bearers(
        {**_NOTHING, **own, "email": None if record.role_mailbox else record.email_key, "address": record.address_key}
        for own, record in zip(terms, known, strict=True)
    )
    bearers: dict[tuple[str, str], set[int]] = defaultdict(set)
    for bearer, own in zip(bearer_of, terms, strict=True):
        for term in own.items():
            bearers[term].add(bearer)
    return Frequencies(len(set(bearer_of)), {term: len(found) for term, found in bearers.items()})


def _bearers(records: Iterable[Mapping[str, str | None]]) -> list[int]:
    """A number for each record, the same for those that are clearly one person's, directly or over others."""
    root_of: list[int] = []

    def root(place: int) -> int:
        while root_of[place] != place:
            root_of[place] = place = root_of[root_of[place]]
        return place

    first_with: tuple[dict[tuple[str, ...], int], ...] = tuple({} for _ in ONE_PERSON)
    for place, record in enumerate(records):
        root_of.append(place)
        for values_of, first_of in zip(_VALUES_OF, first_with, strict=True):
            values = values_of(record)
            if None not in values and (first := first_of.setdefault(values, place)) != place:
                root_of[root(place)] = root(first)
    return [root(place) for place in range(len(root_of))]


def with_exchanged_names(occurrences: Mapping[tuple[str, str], int]) -> dict[tuple[str, str], int]:
    """``occurrences`` of values, and of each name how often it is seen in the other place, 0 if it was not counted.

    Exchanged names are as rare as they are in the order in which they are commoner.
    """
    other = {"first_name": "last_name", "last_name": "first_name"}
    exchanged = {(other[field], term): 0 for field, term in occurrences if field in other}
    return {**exchanged, **occurrences}


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
        "domain": work_domain(fields.email_key) if fields.email_key else None,
    }
    return {name: term for name, term in terms.items() if term}


def work_domain(email: str) -> str | None:
    """The domain of an address, unless anybody may open a mailbox there: then it says nothing of where one works."""
    domain = email.partition("@")[2]
    return None if KNOWN.is_free(domain) else domain
