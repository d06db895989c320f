"""The report of a model: whole, offline, and about nobody."""

import re
from dataclasses import replace
from datetime import datetime
from html.parser import HTMLParser
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from leads_pipeline.matching.model import COMPARISONS, Parameters, shipped_parameters
from leads_pipeline.matching.model_comparison import CutOffs, level_weights, moved_weights
from leads_pipeline.matching.report import ReportSubject, model_report, weights_markdown
from leads_pipeline.matching.report_charts import (
    evidence_chart,
    moves_chart,
    prior_weight,
    shares_chart,
    signed,
    weights_chart,
)
from leads_pipeline_tests.conftest import NOW
from leads_pipeline_tests.matching.models import changed

CUT_OFFS = CutOffs(merge=5, review=3)
SHIPPED = shipped_parameters()


def other_phone() -> Parameters:
    m, u = SHIPPED.levels["phone"]["same"]
    return replace(
        changed("2026-01-15.1"),
        levels={**SHIPPED.levels, "phone": {**SHIPPED.levels["phone"], "same": (m, min(1.0, u * 16))}},
    )


def report(
    parameters: Parameters = SHIPPED,
    *,
    trained_at: datetime | None = None,
    figures: dict[str, Any] | None = None,
    active: bool = False,
) -> str:
    return model_report(
        ReportSubject(parameters, SHIPPED, CUT_OFFS, "acme", active, "ada <b>", trained_at, figures or {})
    )


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_the_report_asks_the_network_for_nothing_and_runs_nothing() -> None:
    tags = Tags()
    tags.feed(report())

    assert {"script", "link", "img", "iframe", "object"}.isdisjoint(tag for tag, _attributes in tags.found)
    assert not [given for _tag, given in tags.found if {"src", "href", "onload"} & given.keys()]
    assert "url(" not in report()
    assert "@import" not in report()


def test_every_level_stands_in_the_report_with_its_numbers() -> None:
    text = report()

    for (comparison, level), weight in level_weights(SHIPPED).items():
        assert f"<td>{level.replace('_', ' ')}</td>" in text
        assert f">{signed(weight, 2)}<" in text
        assert f">{SHIPPED.levels[comparison][level][1]:.4g}<" in text


def test_the_shipped_model_is_not_said_to_have_been_trained_on_anybody() -> None:
    assert "comes with the package, trained on invented leads." in report()
    assert "it serves the tenant acme" in report(active=True)
    assert "What differs" not in report()


def test_a_trained_model_says_what_moved_how_it_agrees_and_what_persons_said() -> None:
    judged = {"decided": 40, "merged_rightly": 22, "merged_wrongly": 2, "missed": 1, "precision": 0.9167, "recall": 1.0}
    figures = {
        "records": 98_211,
        "compared_with": "1",
        "agreement": {"pairs": 41_221, "share": 0.984, "decisions": {"merge → review": 33}},
        "reviews": {"new": judged, "active": {**judged, "precision": None}},
    }
    text = report(other_phone(), trained_at=NOW, figures=figures)

    assert "from 98,211 of its records, without labels, by ada &lt;b&gt; on 2026-01-15 12:00 UTC" in text
    assert "On 41,221 pairs with leads that were held out it decides as the model 1 does in 98.4 %." in text
    assert "<td>merge → review</td>" in text
    assert ">91.7 %<" in text
    assert ">–<" in text
    assert "<td>phone</td><td>same</td>" in text


def test_where_nobody_decided_and_nothing_moved_the_report_says_so() -> None:
    text = report(changed("2026-01-15.1"), trained_at=NOW)

    assert "No weight differs by half a bit or more." in text
    assert "Nobody has decided a review yet" in text


@pytest.mark.parametrize(
    "chart",
    [
        weights_chart(SHIPPED),
        shares_chart(SHIPPED),
        evidence_chart(SHIPPED, CUT_OFFS),
        moves_chart(moved_weights(SHIPPED, other_phone())),
    ],
)
def test_a_chart_is_a_whole_picture_whose_marks_lie_inside(chart: str) -> None:
    root = ET.fromstring(chart)
    width, height = (float(value) for value in root.attrib["viewBox"].split()[2:])

    for mark in root.iter():
        for name in ("x", "x1", "x2", "cx"):
            assert 0 <= float(mark.attrib.get(name, 0)) <= width
        assert float(mark.attrib.get("width", 0)) >= 0
        for name in ("y", "y1", "y2", "cy"):
            assert 0 <= float(mark.attrib.get(name, 0)) <= height
    assert root.attrib["aria-label"]


def test_there_is_a_bar_and_a_dumbbell_for_every_level() -> None:
    levels = sum(len(comparison.levels) for comparison in COMPARISONS)

    assert len(re.findall(r'<rect class="(for|against)"', weights_chart(SHIPPED))) == levels
    assert shares_chart(SHIPPED).count('<circle class="m"') == shares_chart(SHIPPED).count('class="u"') == levels


def test_twice_the_contacts_take_one_from_what_a_pair_begins_with() -> None:
    assert prior_weight(SHIPPED, 10_000) - prior_weight(SHIPPED, 20_000) == pytest.approx(1)


def test_where_no_html_is_shown_bars_of_text_say_the_same() -> None:
    lines = weights_markdown(SHIPPED).splitlines()

    assert len(lines) == 2 + len(level_weights(SHIPPED))
    [phone] = [line for line in lines if line.startswith("| phone | same |")]
    [different] = [line for line in lines if line.startswith("| first name | different |")]
    assert "| █" in phone
    assert different.rstrip(" |").endswith("█")
    assert "|  | █" in different
