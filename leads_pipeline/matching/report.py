"""What a matching model believes, for people: one HTML file that needs no network, with charts and every number.

Keep out: anything about a lead. A model is shares of pairs, and so is its report.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from html import escape
from typing import Any

from leads_pipeline.matching.model import Parameters
from leads_pipeline.matching.model_comparison import CutOffs, MovedWeight, level_weights, moved_weights
from leads_pipeline.matching.report_charts import (
    evidence_chart,
    moves_chart,
    prior_weight,
    shares_chart,
    signed,
    weights_chart,
    words,
)

_STYLE = """
:root { color-scheme: light dark; --ink: #1c2430; --soft: #5b6675; --line: #d8dee6; --paper: #fff; --for: #2563a8;
  --against: #c2571a; --wash: #f4f6f9 }
@media (prefers-color-scheme: dark) { :root { --ink: #e6eaf0; --soft: #9aa6b5; --line: #36404d; --paper: #14191f;
  --for: #6aa6e8; --against: #e88f55; --wash: #1d242c } }
body { margin: 2rem auto; max-width: 920px; padding: 0 1rem; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, sans-serif }
h1 { font-size: 1.5rem; margin-bottom: .2rem } h2 { font-size: 1.15rem; margin-top: 2.2rem }
p.lead { color: var(--soft); margin-top: 0 } table { border-collapse: collapse; width: 100%; margin: .6rem 0 }
th, td { text-align: left; padding: .25rem .6rem; border-bottom: 1px solid var(--line); vertical-align: top }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums } th { font-weight: 600 }
tr.first td { border-top: 2px solid var(--line) } svg { width: 100%; height: auto; background: var(--wash);
  border-radius: 6px; margin: .4rem 0 } svg text { font: 12px system-ui, sans-serif; fill: var(--ink) }
svg .group { font-weight: 600 } svg .tick, svg .value { font-size: 11px; fill: var(--soft) }
svg .grid { stroke: var(--line) } svg .zero { stroke: var(--soft) } svg .for { fill: var(--for) }
svg .against { fill: var(--against) } svg .needed { fill: var(--soft); opacity: .45 }
svg .cut { stroke: var(--against); stroke-dasharray: 4 3 } svg .rung { stroke: var(--soft) }
svg .m { fill: var(--for) } svg .u { fill: var(--wash); stroke: var(--for); stroke-width: 2 }
"""
_WHAT_A_WEIGHT_IS = (
    "Two records agree on each comparison at one of its levels. Its weight is log2 of how much likelier that is for "
    "two records of one person than for two of strangers: +1 doubles the odds, −1 halves them. Where a field is "
    "missing its comparison weighs nothing. Agreement on a rare value weighs more than is shown here, on a common one "
    "less."
)
_BAR = "█"
_BAR_BITS = 1.0


@dataclass(frozen=True, slots=True)
class ReportSubject:
    """A model and what is known of how it was made. ``figures`` is empty for the shipped one."""

    parameters: Parameters
    shipped: Parameters
    cut_offs: CutOffs
    tenant: str | None
    active: bool
    actor: str | None
    trained_at: datetime | None
    figures: Mapping[str, Any]


def model_report(subject: ReportSubject) -> str:
    """The report as one HTML document."""
    parameters = subject.parameters
    title = f"Matching model {parameters.version}"
    sections = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="lead">{escape(_origin(subject))}</p>',
        _in_words(subject),
        "<h2>What each observation weighs</h2>",
        f"<p>{_WHAT_A_WEIGHT_IS}</p>",
        weights_chart(parameters),
        "<h2>How often each level is seen</h2>",
        shares_chart(parameters),
        "<h2>What a pair needs to be merged</h2>",
        f"<p>{_what_growth_does(subject.cut_offs)}</p>",
        evidence_chart(parameters, subject.cut_offs),
        *_learned(subject),
        "<h2>All numbers</h2>",
        _numbers(parameters),
    ]
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head>\n'
        f"<body>\n{chr(10).join(sections)}\n</body></html>\n"
    )


def _what_growth_does(cut_offs: CutOffs) -> str:
    return (
        "The more contacts there are, the more strangers look alike: each doubling takes one from every weight. "
        f"From {cut_offs.merge:g} on a pair is merged, from {cut_offs.review:g} on it is put before a person."
    )


def weights_markdown(parameters: Parameters) -> str:
    """The weights as a table in Markdown with bars of text, for places that show no HTML."""
    lines = ["| comparison | level | weight | for | against |", "|---|---|---:|---|---|"]
    for (comparison, level), weight in level_weights(parameters).items():
        bar = _BAR * max(1, round(abs(weight) / _BAR_BITS))
        sides = (bar, "") if weight >= 0 else ("", bar)
        lines.append(f"| {words(comparison)} | {words(level)} | {signed(weight, 1)} | {sides[0]} | {sides[1]} |")
    return "\n".join(lines)


def _origin(subject: ReportSubject) -> str:
    if subject.trained_at is None:
        serves = f"; it serves the tenant {subject.tenant}" if subject.active and subject.tenant else ""
        return f"The model that comes with the package, trained on invented leads{serves}."
    records = subject.figures.get("records", 0)
    serves = "it serves the tenant" if subject.active else "it does not serve"
    return (
        f"Trained for the tenant {subject.tenant} from {records:,} of its records, without labels, by {subject.actor} "
        f"on {subject.trained_at:%Y-%m-%d %H:%M} UTC; {serves}."
    )


def _in_words(subject: ReportSubject) -> str:
    parameters = subject.parameters
    (against, least), *_between, (speaks, most) = sorted(level_weights(parameters).items(), key=lambda row: row[1])
    start = prior_weight(parameters, parameters.prior_contacts)
    sentences = [
        (
            f"Of two records drawn at random among {parameters.prior_contacts:,} contacts, one pair in "
            f"{round(1 / parameters.prior):,} is one person's: a pair begins at {signed(start, 1)}."
        ),
        (
            f"Most is said for one person by {_named(speaks)} ({signed(most, 1)}), and most against by "
            f"{_named(against)} ({signed(least, 1)})."
        ),
    ]
    alike = subject.figures.get("agreement", {})
    if alike.get("pairs"):
        sentences.append(
            f"On {alike['pairs']:,} pairs with leads that were held out it decides as the model "
            f"{subject.figures.get('compared_with')} does in {100 * alike['share']:.1f} %."
        )
    return "".join(f"<p>{escape(sentence)}</p>" for sentence in sentences)


def _named(level: tuple[str, str]) -> str:
    return ", ".join(words(name) for name in level)


def _learned(subject: ReportSubject) -> list[str]:
    """What only a trained model has: what moved, how it agrees, what persons said."""
    if subject.trained_at is None:
        return []
    moved = moved_weights(subject.shipped, subject.parameters)
    parts = ["<h2>What differs from the shipped model</h2>"]
    if moved:
        parts += [moves_chart(moved), _moves(moved)]
    else:
        parts.append("<p>No weight differs by half a bit or more.</p>")
    alike = subject.figures.get("agreement", {})
    if alike.get("decisions"):
        rows = [(decision, f"{count:,}") for decision, count in alike["decisions"].items()]
        head = (f"{subject.figures.get('compared_with')} → this model", "pairs")
        parts += ["<h2>Decisions on leads that were held out</h2>", _table(head, rows, numbers=1)]
    parts += ["<h2>What persons decided in reviews</h2>", _reviews(subject.figures.get("reviews", {}))]
    return parts


def _moves(moved: Sequence[MovedWeight]) -> str:
    rows = [
        (words(item.comparison), words(item.level), signed(item.before, 2), signed(item.after, 2)) for item in moved
    ]
    return _table(("comparison", "level", "shipped", "this model"), rows, numbers=2)


def _reviews(found: Mapping[str, Mapping[str, Any]]) -> str:
    if not any(judgement.get("decided") for judgement in found.values()):
        return "<p>Nobody has decided a review yet: nothing can be said about how right either model is there.</p>"
    names = {"new": "this model", "active": "the model that served then"}
    rows = [
        (
            names.get(name, name),
            f"{judgement['decided']:,}",
            f"{judgement['merged_rightly']:,}",
            f"{judgement['merged_wrongly']:,}",
            f"{judgement['missed']:,}",
            _percent(judgement["precision"]),
            _percent(judgement["recall"]),
        )
        for name, judgement in found.items()
    ]
    head = ("model", "decided pairs", "merged rightly", "merged wrongly", "missed", "precision", "recall")
    note = "<p>Persons are asked about pairs of which a model was unsure, so these are the hardest ones.</p>"
    return note + _table(head, rows, numbers=6)


def _numbers(parameters: Parameters) -> str:
    rows, last = [], ""
    for (comparison, level), weight in level_weights(parameters).items():
        m, u = parameters.levels[comparison][level]
        name, last = ("" if comparison == last else words(comparison)), comparison
        rows.append((name, words(level), f"{m:.4g}", f"{u:.4g}", signed(weight, 2), _odds(weight)))
    return _table(("comparison", "level", "m", "u", "weight", "in words"), rows, numbers=3, words_last=True)


def _odds(weight: float) -> str:
    times = 2 ** abs(weight)
    shown = f"{times:,.0f}" if times >= 10 else f"{times:.1f}"
    return f"{shown} times {'likelier' if weight >= 0 else 'less likely'} for one person"


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f} %"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: int, words_last: bool = False) -> str:
    """A table whose last ``numbers`` columns are numbers, before a last one of words if there is one."""
    end = len(head) - words_last
    kinds = [' class="number"' if end - numbers <= place < end else "" for place in range(len(head))]
    top = "".join(f"<th{kind}>{escape(text)}</th>" for kind, text in zip(kinds, head, strict=True))
    body = "".join(
        f"<tr{' class=first' if words_last and row[0] else ''}>"
        + "".join(f"<td{kind}>{escape(text)}</td>" for kind, text in zip(kinds, row, strict=True))
        + "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"
