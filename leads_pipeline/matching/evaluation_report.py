"""The figures of one evaluation, as ``leads matching evaluate`` prints and writes them."""

from collections.abc import Hashable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from leads_pipeline.matching.evaluation import BCubedScore, GroupSizes, PairwiseScore, bcubed, group_sizes, pairwise

Place = int
"""A row of the file: 0, 1, 2 … in its order, without those that cannot be read."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What a run took. ``peak_memory_mib`` is of this process, without the database server's."""

    seconds: float
    cpu_seconds: float
    peak_memory_mib: float


@dataclass(frozen=True, slots=True)
class RunFigures:
    """One way to tell the leads apart.

    ``pairwise`` and ``bcubed`` count all rows whose person is known, a rejected one being a group of its own;
    ``accepted_…`` only those that validation let pass. ``contacts`` are the groups of accepted rows.
    """

    pairwise: PairwiseScore
    bcubed: BCubedScore
    accepted_pairwise: PairwiseScore
    accepted_bcubed: BCubedScore
    contacts: GroupSizes
    cost: Cost

    @classmethod
    def of(cls, truth: Mapping[Place, str], found: Mapping[Place, Hashable], cost: Cost) -> "RunFigures":
        """``truth`` has every row whose person is known, ``found`` every row that was accepted."""
        alone: dict[Place, Hashable] = {place: ("rejected", place) for place in truth if place not in found}
        everything = {**found, **alone}
        return cls(
            pairwise(truth, everything),
            bcubed(truth, everything),
            pairwise(truth, found),
            bcubed(truth, found),
            group_sizes(found),
            cost,
        )

    def to_json(self) -> dict[str, Any]:
        """Two levels: what is measured, and its figures."""
        return {
            "pairwise": asdict(self.pairwise),
            "bcubed": asdict(self.bcubed),
            "accepted_pairwise": asdict(self.accepted_pairwise),
            "accepted_bcubed": asdict(self.accepted_bcubed),
            "contacts": asdict(self.contacts),
            **{name: round(value, 3) for name, value in asdict(self.cost).items()},
        }


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far two ways agree, the one taken as the truth of the other: ``f1`` 1 is the same groups."""

    are_equal: bool
    pairwise: PairwiseScore
    rows_grouped_differently: int

    @classmethod
    def of(cls, one: Mapping[Place, Hashable], other: Mapping[Place, Hashable]) -> "Agreement":
        """Two groupings of the same rows."""
        score = pairwise(one, other)
        are_equal = score.true_pairs == score.found_pairs == score.correct_pairs
        return cls(are_equal, score, 0 if are_equal else _rows_apart(one, other))


@dataclass(frozen=True, slots=True)
class EvaluationReport:
    """Everything that ``leads matching evaluate`` found out.

    ``rows`` = ``accepted`` + ``rejected``; ``unreadable`` ones are beside them. ``rejected_because`` counts reasons, of
    which a row may have several. ``replay`` is ``None`` if none was asked for.
    """

    file: str
    rows: int
    unreadable: int
    without_truth: int
    accepted: int
    rejected: int
    rejected_because: Mapping[str, int]
    people: GroupSizes
    model: str
    is_adapted: bool
    training: Cost | None
    full: RunFigures
    replay: RunFigures | None
    replay_chunk: int | None
    agreement: Agreement | None

    def to_json(self) -> dict[str, Any]:
        """The document of ``--json``. Keys are only added to it."""
        document: dict[str, Any] = {
            "file": self.file,
            "rows": self.rows,
            "unreadable": self.unreadable,
            "without_truth": self.without_truth,
            "accepted": self.accepted,
            "rejected": self.rejected,
            "rejected_because": dict(self.rejected_because),
            "people": asdict(self.people),
            "model": {"version": self.model, "adapted_to_the_file": self.is_adapted},
            "full": self.full.to_json(),
        }
        if self.training is not None:
            document["model"] |= {name: round(value, 3) for name, value in asdict(self.training).items()}
        if self.replay is not None and self.agreement is not None:
            document["replay"] = {"chunk": self.replay_chunk, **self.replay.to_json()}
            document["replay_equals_full"] = self.agreement.are_equal
            document["agreement"] = {
                "pairwise": asdict(self.agreement.pairwise),
                "rows_grouped_differently": self.agreement.rows_grouped_differently,
            }
        return document


def _rows_apart(one: Mapping[Place, Hashable], other: Mapping[Place, Hashable]) -> int:
    """The rows whose companions in the group are not the same."""
    members: dict[Hashable, set[Place]] = {}
    for place, group in one.items():
        members.setdefault(group, set()).add(place)
    others: dict[Hashable, set[Place]] = {}
    for place, group in other.items():
        others.setdefault(group, set()).add(place)
    return sum(members[one[place]] != others[other[place]] for place in one)
