"""From the fields of a source's post to the canonical fields of a lead.

Three say what a field means, in this order: the source's own mapping in leads.yaml; the kind of source, of its own
fields; the common names of a field, which files share (``import_mapping``). A field that the mapping names means what
it says there and nothing else. What means nothing stays with the raw lead, and is named: a new one is schema drift.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from leads_pipeline.domain.import_mapping import first_scalar, usual_field
from leads_pipeline.domain.text import as_text


class FieldRule(Protocol):
    """What ``config.FieldMappingSettings`` says."""

    @property
    def paths(self) -> tuple[str, ...]: ...
    @property
    def default(self) -> str | None: ...
    @property
    def transform(self) -> Sequence[str]: ...


@dataclass(frozen=True, slots=True)
class Mapped:
    """A post read by a mapping.

    ``lead`` has canonical fields only; ``used`` says which field each of them came from (one by default: none).
    ``unused`` are the fields that mean nothing, in their order. A field that would have been taken, had a better one
    been empty, is in neither.
    """

    lead: dict[str, Any]
    used: dict[str, str]
    unused: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Origin:
    field: str
    transform: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FieldPlan:
    """How posts with these fields become leads: made once for all posts that have the same fields.

    ``meanings``: each field, and the canonical field that it is for (``None``: none).
    """

    meanings: Mapping[str, str | None]
    origins: Mapping[str, tuple[_Origin, ...]]  # canonical field → where its value comes from, best first
    defaults: Mapping[str, str]
    unused: tuple[str, ...]

    def apply(self, fields: Mapping[str, Any]) -> Mapped:
        """The lead that a post is. Of several values the first that is not empty is taken, of a list likewise."""
        lead: dict[str, Any] = dict(self.defaults)
        used: dict[str, str] = {}
        for name, origins in self.origins.items():
            for origin in origins:
                value = first_scalar(fields.get(origin.field))
                if value is not None and origin.transform:
                    value = transformed(value, origin.transform)
                if value is not None:
                    lead[name] = value
                    used[name] = origin.field
                    break
        return Mapped(lead, used, self.unused)


def plan_fields(
    fields: Sequence[str], rules: Mapping[str, FieldRule], *, usual: Mapping[str, str], usual_names: bool
) -> FieldPlan:
    """How posts with ``fields`` are read.

    ``rules``: canonical field → what leads.yaml says. ``usual``: the kind's own fields → canonical field, best first.
    ``usual_names``: whether common names of a field are taken for it.
    """
    there = dict.fromkeys(fields)
    meanings: dict[str, str | None] = dict.fromkeys(there)
    origins: dict[str, list[_Origin]] = {name: [] for name in rules}
    for name, rule in rules.items():
        for path in rule.paths:
            if path in there:
                meanings[path] = meanings[path] or name  # of several rules on one field; all of them take it
                origins[name].append(_Origin(path, tuple(rule.transform)))
    claimed = {path for rule in rules.values() for path in rule.paths}
    for name, field in _by_custom([field for field in there if field not in claimed], usual, usual_names=usual_names):
        own = rules.get(name)
        # A rule without a path speaks of the usual field; one with a path cuts up that field's value and no other.
        transform = () if own is None or own.paths else tuple(own.transform)
        meanings[field] = name
        origins.setdefault(name, []).append(_Origin(field, transform))
    return FieldPlan(
        meanings=meanings,
        origins={name: tuple(found) for name, found in origins.items() if found},
        defaults={name: rule.default for name, rule in rules.items() if rule.default is not None},
        unused=tuple(field for field, meaning in meanings.items() if meaning is None),
    )


def map_fields(
    fields: Mapping[str, Any], rules: Mapping[str, FieldRule], *, usual: Mapping[str, str], usual_names: bool
) -> Mapped:
    """One post, by a plan of its own."""
    return plan_fields(tuple(fields), rules, usual=usual, usual_names=usual_names).apply(fields)


def transformed(value: object, names: Sequence[str]) -> str | None:
    """A value after its transforms, in their order; ``None`` if nothing is left or it was no text or number."""
    text = as_text(value)
    for name in names:
        if text is None:
            return None
        text = _TRANSFORMS[name](text)
    return text if text is not None and text.strip() else None


def _by_custom(fields: Sequence[str], usual: Mapping[str, str], *, usual_names: bool) -> list[tuple[str, str]]:
    """(canonical field, field) by the kind's own names and the common ones, best first."""
    own = {field: place for place, field in enumerate(usual)}
    ranked: list[tuple[int, int, int, str, str]] = []
    for position, field in enumerate(fields):
        if field in own:
            ranked.append((0, own[field], position, usual[field], field))
        elif usual_names and (found := usual_field(field)) is not None:
            ranked.append((1, found[1], position, found[0], field))
    return [(name, field) for _sort, _rank, _position, name, field in sorted(ranked)]


def _first_word(text: str) -> str:
    return (text.split() or [""])[0]


def _last_word(text: str) -> str:
    return (text.split() or [""])[-1]


def _after_first_word(text: str) -> str:
    return " ".join(text.split()[1:])


def _digits(text: str) -> str:
    return "".join(character for character in text if character.isdecimal())


# ``config.Transform`` names them; a test compares the two.
_TRANSFORMS: Mapping[str, Callable[[str], str]] = {
    "strip": str.strip,
    "lower": str.lower,
    "upper": str.upper,
    "digits": _digits,
    "first_word": _first_word,
    "last_word": _last_word,
    "after_first_word": _after_first_word,
}
TRANSFORM_NAMES = tuple(_TRANSFORMS)
