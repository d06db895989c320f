"""The measures by which rules and promises go, as they go by them: one value for each thing that a measure tells apart.

What Prometheus would count better by itself, from counters and histograms, stands in the other modules. These are taken
once a minute at most; the watch takes them twice.
"""

from collections.abc import Iterator

from leads_pipeline.watching.measures import MEASURES, take_measures
from leads_pipeline.watching.metrics.vocabulary import Family, Kind, Part, Sample, Scrape

_LABELS = ("tenant", "lane", "stage", "destination", "source")

# One question; and all of them together, if so much is left: what has no answer by then is told as not taken.
_QUESTION_SECONDS, _ALL_SECONDS = 2.0, 6.0

_MEASURED = Family(
    "leads_measured",
    Kind.GAUGE,
    "What rules and promises go by, by the names of docs/measurements.md and in their units. No label: of all.",
    ("measure", *_LABELS),
    tuple(MEASURES),
)
_TAKEN = Family(
    "leads_measured_ok", Kind.GAUGE, "1 if a measure was taken, 0 if it failed or there was no time.", ("measure",)
)


def _measured(scrape: Scrape) -> Iterator[Sample]:
    found = take_measures(
        scrape.engine,
        settings=scrape.settings,
        clock=scrape.clock,
        statement_seconds=_QUESTION_SECONDS,
        all_seconds=min(_ALL_SECONDS, scrape.seconds_left()),
    )
    for name in MEASURES:
        values = found.of(name)
        yield _TAKEN.name, (name,), float(values is not None)
        for item in values or ():
            yield _MEASURED.name, (name, *(getattr(item, label) or "" for label in _LABELS)), item.value


PARTS = (Part("measured", (_MEASURED, _TAKEN), _measured, kept_seconds=60.0),)
