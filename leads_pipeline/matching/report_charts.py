"""Charts of a matching model as SVG, drawn by hand: no script, nothing fetched, readable offline and in print.

Colours come from classes that ``report`` styles. Keep out: what a chart is about in words.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from html import escape
from itertools import groupby

from leads_pipeline.matching.model import Parameters
from leads_pipeline.matching.model_comparison import CutOffs, MovedWeight, level_weights

_WIDTH = 860
_LABELS = 250  # left of it stand the names of levels
_LEFT_PAD, _RIGHT = 34, 60  # room for a number beside the longest bar
_ROW, _GROUP_GAP, _TOP, _FOOT = 20, 26, 26, 34
# Nothing that a database of leads could hold is rarer.
_RAREST = -8
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_CONTACTS = (1_000, 10_000, 100_000, 1_000_000, 10_000_000)


def words(name: str) -> str:
    """A name of ours as a reader would write it."""
    return name.replace("_", " ")


def signed(weight: float, digits: int) -> str:
    """A weight with its sign."""
    return f"{weight:+.{digits}f}".replace("-", "−")


def weights_chart(parameters: Parameters) -> str:
    """One bar per level: how much it adds to the weight of a pair, or takes from it."""
    rows = level_weights(parameters)
    scale = _Scale(min(rows.values()), max(rows.values()), step=5)

    def bar(comparison: str, level: str, y: float) -> Iterator[str]:
        weight = rows[comparison, level]
        start, end = sorted((scale.x(0), scale.x(weight)))
        kind = "for" if weight >= 0 else "against"
        yield f'<rect class="{kind}" x="{start:.1f}" y="{y + 4:.1f}" width="{end - start:.1f}" height="12" rx="2">'
        yield f"<title>{escape(words(comparison))}, {escape(words(level))}: {signed(weight, 2)}</title></rect>"
        place, side = (end + 5, "start") if weight >= 0 else (start - 5, "end")
        yield f'<text class="value" x="{place:.1f}" y="{y + 14}" text-anchor="{side}">{signed(weight, 1)}</text>'

    return _grouped(rows, bar, scale, title="Weight of each level", axis="match weight: log2 of m divided by u")


def shares_chart(parameters: Parameters) -> str:
    """For each level how often it is seen: among pairs of one person (m), and among strangers (u)."""
    shares = {
        (comparison, level): parameters.levels[comparison][level] for comparison, level in level_weights(parameters)
    }
    scale = _Scale(_RAREST, 0, step=1)

    def dumbbell(comparison: str, level: str, y: float) -> Iterator[str]:
        m, u = shares[comparison, level]
        places = {"m": scale.x(_log10(m)), "u": scale.x(_log10(u))}
        middle = y + 10
        yield (
            f'<line class="rung" x1="{places["u"]:.1f}" y1="{middle:.1f}" x2="{places["m"]:.1f}" y2="{middle:.1f}"/>'
        )
        for name, share in (("u", u), ("m", m)):
            yield f'<circle class="{name}" cx="{places[name]:.1f}" cy="{middle:.1f}" r="5">'
            yield f"<title>{escape(words(comparison))}, {escape(words(level))}: {name} = {share:.3g}</title></circle>"

    return _grouped(
        shares,
        dumbbell,
        scale,
        title="How often each level is seen",
        axis="share of pairs; filled: of one person (m), hollow: of strangers (u)",
        tick=_power_of_ten,
    )


def evidence_chart(parameters: Parameters, cut_offs: CutOffs) -> str:
    """With what weight a pair begins, by the number of contacts, and what evidence it needs to be merged."""
    rows = [(f"{contacts:,} contacts", prior_weight(parameters, contacts)) for contacts in _CONTACTS]
    lowest = min(weight for _name, weight in rows)
    scale = _Scale(lowest, cut_offs.merge, step=5)
    height = _TOP + len(rows) * (_ROW + 6) + _FOOT
    parts = _frame(scale, height, tick="{:g}".format)
    for number, (name, weight) in enumerate(rows):
        y = _TOP + number * (_ROW + 6)
        start, end = scale.x(weight), scale.x(cut_offs.merge)
        parts.append(f'<text x="{_LABELS - 12}" y="{y + 14}" text-anchor="end">{name}</text>')
        parts.append(
            f'<rect class="needed" x="{start:.1f}" y="{y + 4}" width="{end - start:.1f}" height="12" rx="2">'
            f"<title>{name}: begins at {signed(weight, 1)}, needs {cut_offs.merge - weight:.1f}</title></rect>"
        )
        parts.append(
            f'<text class="value" x="{start - 5:.1f}" y="{y + 14}" text-anchor="end">{signed(weight, 1)}</text>'
        )
    for name, weight, side in (("review ", cut_offs.review, "end"), (" merge", cut_offs.merge, "start")):
        x = scale.x(weight)
        parts.append(f'<line class="cut" x1="{x:.1f}" y1="{_TOP - 6}" x2="{x:.1f}" y2="{height - _FOOT + 4}"/>')
        parts.append(f'<text class="value" x="{x:.1f}" y="{_TOP - 10}" text-anchor="{side}">{name}</text>')
    parts.append(_axis_title("match weight of a pair about which nothing is known, up to the cut-offs", height))
    return _svg("Evidence that a pair needs", height, parts)


def moves_chart(moved: Sequence[MovedWeight]) -> str:
    """Where each weight was, and where it is now."""
    values = [value for item in moved for value in (item.before, item.after)]
    scale = _Scale(min([*values, 0]), max([*values, 0]), step=5)
    by_name = {(item.comparison, item.level): item for item in moved}
    # Levels of one comparison together, in the order of their largest move.
    order = list(dict.fromkeys(item.comparison for item in moved))
    rows = dict(sorted(by_name.items(), key=lambda row: order.index(row[0][0])))

    def arrow(comparison: str, level: str, y: float) -> Iterator[str]:
        item = rows[comparison, level]
        start, end, middle = scale.x(item.before), scale.x(item.after), y + 10
        kind = "for" if item.after >= item.before else "against"
        told = f"{words(comparison)}, {words(level)}: {signed(item.before, 2)} → {signed(item.after, 2)}"
        yield f'<line class="rung" x1="{start:.1f}" y1="{middle:.1f}" x2="{end:.1f}" y2="{middle:.1f}"/>'
        yield f'<circle class="u" cx="{start:.1f}" cy="{middle:.1f}" r="4"/>'
        yield f'<circle class="{kind}" cx="{end:.1f}" cy="{middle:.1f}" r="5"><title>{escape(told)}</title></circle>'

    return _grouped(rows, arrow, scale, title="Weights that moved", axis="match weight; hollow: before, filled: after")


def prior_weight(parameters: Parameters, contacts: int) -> float:
    """log2 of the odds that two records are one person before anything is compared, among so many contacts."""
    odds = math.log2(parameters.prior / (1 - parameters.prior))
    return odds + math.log2(parameters.prior_contacts / contacts)


class _Scale:
    """From a value to a place on the x-axis, rounded out to whole steps."""

    def __init__(self, least: float, most: float, *, step: int) -> None:
        low, high = math.floor(least / step), math.ceil(most / step)
        self.ticks = range(low * step, max(high, low + 1) * step + 1, step)
        self._least, self._span = self.ticks[0], self.ticks[-1] - self.ticks[0]

    def x(self, value: float) -> float:
        return _LABELS + _LEFT_PAD + (_WIDTH - _LABELS - _LEFT_PAD - _RIGHT) * (value - self._least) / self._span


def _grouped(
    rows: Mapping[tuple[str, str], object],
    draw: Callable[[str, str, float], Iterator[str]],
    scale: _Scale,
    *,
    title: str,
    axis: str,
    tick: Callable[[int], str] = "{:g}".format,
) -> str:
    """Rows under the name of their comparison."""
    groups = [(name, [level for _name, level in found]) for name, found in groupby(rows, key=lambda row: row[0])]
    height = _TOP + sum(_GROUP_GAP + _ROW * len(levels) for _name, levels in groups) + _FOOT
    parts = _frame(scale, height, tick=tick)
    y = _TOP
    for comparison, levels in groups:
        parts.append(f'<text class="group" x="8" y="{y + 17}">{escape(words(comparison))}</text>')
        y += _GROUP_GAP
        for level in levels:
            parts.append(f'<text x="{_LABELS - 12}" y="{y + 14}" text-anchor="end">{escape(words(level))}</text>')
            parts += draw(comparison, level, y)
            y += _ROW
    parts.append(_axis_title(axis, height))
    return _svg(title, height, parts)


def _frame(scale: _Scale, height: int, *, tick: Callable[[int], str]) -> list[str]:
    parts = []
    for value in scale.ticks:
        x = scale.x(value)
        kind = "zero" if value == 0 else "grid"
        parts.append(f'<line class="{kind}" x1="{x:.1f}" y1="{_TOP}" x2="{x:.1f}" y2="{height - _FOOT}"/>')
        parts.append(
            f'<text class="tick" x="{x:.1f}" y="{height - _FOOT + 14}" text-anchor="middle">{tick(value)}</text>'
        )
    return parts


def _axis_title(text: str, height: int) -> str:
    middle = _LABELS + (_WIDTH - _LABELS - _RIGHT) / 2
    return f'<text class="tick" x="{middle:.0f}" y="{height - 4}" text-anchor="middle">{escape(text)}</text>'


def _svg(title: str, height: int, parts: Sequence[str]) -> str:
    box = f'viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{escape(title)}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {box}>{"".join(parts)}</svg>'


def _log10(share: float) -> float:
    return max(_RAREST, math.log10(share))


def _power_of_ten(exponent: int) -> str:
    return "1" if exponent == 0 else "10" + str(exponent).translate(_SUPERSCRIPT)
