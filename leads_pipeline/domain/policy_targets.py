"""What a rule's measure says of each of its targets: filtered, grouped, made one value.

A target is written as ``tenant=acme,lane=batch``; the empty one is everything. Keep out: the states
(``domain.policies``).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

_COMBINED: dict[str, Callable[[Sequence[float]], float]] = {"highest": max, "lowest": min, "sum": math.fsum}


@dataclass(frozen=True, slots=True)
class Sample:
    """One value of a measure, and what it is about by label: tenant, lane, stage, destination, source."""

    labels: Mapping[str, str]
    value: float


@dataclass(frozen=True, slots=True)
class Selection:
    """Which samples of one measure a rule looks at, and how they become one value for each target.

    ``zero_if_unnamed``: a target of which the measurement says nothing has the value 0.
    """

    measure: str
    filters: Mapping[str, frozenset[str]]
    per: tuple[str, ...]
    combine: str
    zero_if_unnamed: bool

    def takes(self, sample: Sample) -> bool:
        """Whether a sample passes the filters."""
        return all(sample.labels.get(name) in allowed for name, allowed in self.filters.items())


def values_of(
    selection: Selection, samples: Sequence[Sample] | None, *, known: Sequence[str] = ()
) -> dict[str, float | None]:
    """The value of each target that was measured, and of those that are ``known`` already.

    ``samples`` of ``None``: the measure could not be taken; then nothing is known of any target.
    """
    if samples is None:
        return dict.fromkeys(known)
    grouped: dict[str, list[float]] = {}
    for sample in samples:
        if math.isfinite(sample.value) and selection.takes(sample):
            grouped.setdefault(target_of(sample.labels, selection.per), []).append(sample.value)
    unnamed = 0.0 if selection.zero_if_unnamed else None
    found: dict[str, float | None] = dict.fromkeys(known, unnamed)
    if not selection.per and selection.zero_if_unnamed:
        found[""] = unnamed
    for target, values in grouped.items():
        found[target] = _COMBINED[selection.combine](values)
    return found


def target_of(labels: Mapping[str, str], per: Sequence[str]) -> str:
    """The target that a sample belongs to."""
    return ",".join(f"{name}={labels[name]}" for name in per if name in labels)


def labels_of(target: str) -> dict[str, str]:
    """What a target is about. Names of ours hold neither comma nor equals sign."""
    return dict(part.split("=", 1) for part in target.split(",") if part)
