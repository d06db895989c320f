"""A match weight as a waterfall: from the prior, comparison by comparison, to the sum. As text and as a chart file.

The chart is drawn here, so a file needs nothing else: SVG, or an HTML page that holds it, opens without a network.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from leads_pipeline.matching.explanation import Explanation

FORMATS = (".html", ".svg", ".json")

_WORDS = {"born": "date of birth", "place": "address or place", "email": "e-mail"}
_BAR = 22


@dataclass(frozen=True, slots=True)
class Step:
    """One bar: from one sum to the next."""

    label: str
    level: str
    weight: float
    start: float

    @property
    def end(self) -> float:
        return self.start + self.weight


def steps_of(explanation: Explanation) -> list[Step]:
    """The prior, then each comparison in the model's order."""
    found: list[Step] = []
    total = 0.0
    if explanation.prior is not None:
        found.append(Step("before comparing", "two leads, nothing known", explanation.prior, 0.0))
        total = explanation.prior
    for item in explanation.comparisons:
        found.append(Step(words(item.name), words(item.level or ""), item.weight, total))
        total += item.weight
    return found


def words(name: str) -> str:
    """A name of the model's in plain words."""
    return _WORDS.get(name, name.replace("_", " "))


def as_text(explanation: Explanation) -> list[str]:
    """Lines of at most 80 characters."""
    steps = steps_of(explanation)
    low, high = _range(explanation, steps)
    lines = []
    for step in steps:
        bar = _bar(step.start, step.end, low, high)
        lines.append(f"  {step.label:16.16}  {step.level:26.26}  {step.weight:+7.2f}  {bar}")
    reached = "".join(_marks(explanation, low, high))
    lines.append(f"  {'sum':16}  {_verdict(explanation):26.26}  {explanation.weight:+7.2f}  {reached}")
    chance = explanation.probability
    lines.append(
        f"  merged from {explanation.merge_weight:g}, asked from {explanation.review_weight:g}; "
        f"the model's probability is {_percent(chance)}"
    )
    if not explanation.cut_offs_known:
        lines.append("  (these are today's cut-offs: those of that day were not kept)")
    return lines


def write_chart(path: Path, explanations: Sequence[tuple[str, Explanation]]) -> None:
    """Write one waterfall for each title; the file's ending says the format.

    Raises:
        ValueError: the ending is none of ``FORMATS``, or a JSON or SVG file is to hold none.
    """
    match path.suffix.lower():
        case ".svg":
            text = as_svg(explanations)
        case ".html":
            text = (
                '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>Match weights</title></head>\n'
                f'<body style="margin:2em;font-family:sans-serif">\n{as_svg(explanations)}</body></html>\n'
            )
        case ".json":
            text = json.dumps([_as_json(title, item) for title, item in explanations], indent=2) + "\n"
        case other:
            raise ValueError(f"a chart ends in {', '.join(FORMATS)}, not in {other or 'nothing'}")
    path.write_text(text, encoding="utf-8")


_WIDTH, _LEFT, _RIGHT, _ROW = 960, 330, 70, 26
_FOR, _AGAINST, _SUM = "#2a7f62", "#b3452c", "#33415c"


def as_svg(explanations: Sequence[tuple[str, Explanation]]) -> str:
    """One picture, the waterfalls one below the other."""
    parts: list[str] = []
    top = 0
    for title, explanation in explanations:
        drawn, height = _drawn(title, explanation, top)
        parts += drawn
        top += height
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {top}" width="{_WIDTH}" '
        f'font-family="sans-serif" font-size="13">\n<rect width="100%" height="100%" fill="white"/>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def _drawn(title: str, explanation: Explanation, top: int) -> tuple[list[str], int]:
    steps = steps_of(explanation)
    low, high = _range(explanation, steps)

    def x(weight: float) -> float:
        return round(_LEFT + (weight - low) / (high - low) * (_WIDTH - _LEFT - _RIGHT), 1)

    bottom = top + 40 + _ROW * (len(steps) + 1)
    parts = [f'<text x="10" y="{top + 22}" font-weight="bold">{escape(title)}</text>']
    for cut_off, name in ((explanation.review_weight, "ask"), (explanation.merge_weight, "merge")):
        parts.append(
            f'<line x1="{x(cut_off)}" x2="{x(cut_off)}" y1="{top + 34}" y2="{bottom}" stroke="#888" '
            'stroke-dasharray="4 3"/>'
        )
        anchor = "end" if name == "ask" else "start"
        parts.append(
            f'<text x="{x(cut_off)}" y="{bottom + 14}" text-anchor="{anchor}" fill="#666" font-size="11">'
            f" {name} {cut_off:g} </text>"
        )
    rows = [*steps, Step("sum", _verdict(explanation), explanation.weight, 0.0)]
    for place, step in enumerate(rows):
        y = top + 38 + place * _ROW
        colour = _SUM if place == len(steps) else _FOR if step.weight >= 0 else _AGAINST
        left, right = sorted((x(step.start), x(step.end)))
        said = f"{step.label}: {step.level}" if step.level else step.label
        parts += [
            f'<text x="{_LEFT - 12}" y="{y + 15}" text-anchor="end">{escape(said)}</text>',
            f'<rect x="{left}" y="{y + 3}" width="{max(right - left, 1):.1f}" height="16" fill="{colour}"/>',
            f'<text x="{right + 5}" y="{y + 15}" fill="{colour}">{step.weight:+.2f}</text>',
        ]
    parts.append(
        f'<text x="10" y="{bottom + 14}" fill="#666" font-size="11">log2 of the odds; probability '
        f"{_percent(explanation.probability)} by {escape(explanation.model)}</text>"
    )
    return parts, bottom + 34 - top


def _as_json(title: str, explanation: Explanation) -> dict[str, object]:
    return {
        "title": title,
        "leads": [str(lead) for lead in explanation.leads or ()],
        "model": explanation.model,
        "prior": explanation.prior,
        "comparisons": [
            {"name": item.name, "level": item.level, "weight": item.weight} for item in explanation.comparisons
        ],
        "match_weight": explanation.weight,
        "probability": explanation.probability,
        "merge_weight": explanation.merge_weight,
        "review_weight": explanation.review_weight,
        "not_compared": [
            {"name": item.name, "needed": item.needed, "lacking": [str(lead) for lead in item.lacking], "why": item.why}
            for item in explanation.silent
        ],
    }


def _range(explanation: Explanation, steps: Sequence[Step]) -> tuple[float, float]:
    sums = [0.0, explanation.weight, explanation.merge_weight, *(step.end for step in steps)]
    return min(sums), max(*sums, min(sums) + 1)


def _bar(start: float, end: float, low: float, high: float) -> str:
    one, other = sorted((_column(start, low, high), _column(end, low, high)))
    return " " * one + ("█" if end >= start else "░") * max(other - one, 1)


def _marks(explanation: Explanation, low: float, high: float) -> list[str]:
    line = list(_bar(0.0, explanation.weight, low, high).ljust(_BAR + 1))
    line[_column(explanation.merge_weight, low, high)] = "│"
    return line


def _column(weight: float, low: float, high: float) -> int:
    return round((weight - low) / (high - low) * _BAR)


def _verdict(explanation: Explanation) -> str:
    if explanation.weight >= explanation.merge_weight:
        return "enough to merge"
    if explanation.weight >= explanation.review_weight:
        return "a person is asked"
    return "not enough, says the model"


def _percent(share: float) -> str:
    """No model knows better than to one in ten thousand."""
    if share > 0.9999:
        return "over 99.99%"
    return f"{share:.2%}" if share >= 0.0001 else "below 0.01%"
