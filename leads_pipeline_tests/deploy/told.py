"""Which metrics there are, and which of them an expression of Prometheus asks for."""

import re
from pathlib import Path

from leads_pipeline.capture import metrics as door
from leads_pipeline.watching.metrics.taking import FAMILIES
from leads_pipeline.watching.metrics.vocabulary import Kind


def names_told() -> set[str]:
    """Every name under which something of ours, or Prometheus itself, is scraped."""
    names = {"up"}
    for family in FAMILIES:
        names |= parts(family.name) if family.kind is Kind.HISTOGRAM else {family.name}
    text = Path(door.__file__).read_text(encoding="utf-8")
    for kind, name in re.findall(r'(\w+MetricFamily|_histogram)\(\s*"(leads_\w+)"', text):
        names |= {"_histogram": parts(name), "CounterMetricFamily": {f"{name}_total"}}.get(kind, {name})
    return names


def parts(histogram: str) -> set[str]:
    return {f"{histogram}_bucket", f"{histogram}_sum", f"{histogram}_count"}


def metrics_in(expression: str) -> set[str]:
    """The names of ours that an expression asks for."""
    without_labels = re.sub(r"\{[^}]*\}", "", expression)
    return set(re.findall(r"\b(?:up|(?:slo|slo_tenant):leads_[\w:]+|leads_\w+)\b", without_labels))
