"""Plain Splink as its documentation shows it: what somebody gets who follows its tutorials.

The records are those that our own matching sees, normalised by our validation, which is kind to it: names in lower case
without accents, numbers in E.164. Comparisons from ``splink.comparison_library`` for the columns that are there,
blocking on the usual columns, two rounds of expectation maximisation, connected components at a probability of 0.95.
"""

import logging
import time
import warnings
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
import pyarrow as pa
import splink.comparison_library as cl
from splink import DuckDBAPI, Linker, SettingsCreator, block_on

from leads_pipeline.matching.measured import peak_memory_mib

THRESHOLD = 0.95
COLUMNS = (
    "first_name", "last_name", "email", "phone", "company", "date_of_birth", "city", "postcode", "job_title"
)  # fmt: skip
# A column that fewer records have says nothing worth a comparison.
_LEAST_SHARE = 0.05

_COMPARISONS: dict[str, Callable[[], Any]] = {
    "first_name": lambda: cl.NameComparison("first_name").configure(term_frequency_adjustments=True),
    "last_name": lambda: cl.NameComparison("last_name").configure(term_frequency_adjustments=True),
    "email": lambda: cl.EmailComparison("email"),
    "phone": lambda: cl.LevenshteinAtThresholds("phone", [1]),
    "company": lambda: cl.JaroWinklerAtThresholds("company", [0.92]).configure(term_frequency_adjustments=True),
    "date_of_birth": lambda: cl.DateOfBirthComparison("date_of_birth", input_is_string=True),
    "city": lambda: cl.ExactMatch("city").configure(term_frequency_adjustments=True),
    "postcode": lambda: cl.PostcodeComparison("postcode"),
    "job_title": lambda: cl.ExactMatch("job_title").configure(term_frequency_adjustments=True),
}
# On few records, what the tutorials block on; on many, a name alone would compare a share of all pairs.
_FEW = 5_000
_BLOCKING_OF_FEW = (("first_name",), ("last_name",), ("date_of_birth",))
_BLOCKING: tuple[tuple[str, ...], ...] = (
    ("email",),
    ("phone",),
    ("first_name", "last_name"),
    ("last_name", "company"),
    ("first_name", "company"),
    ("last_name", "date_of_birth"),
    ("first_name", "date_of_birth"),
    ("last_name", "postcode"),
    ("first_name", "postcode"),
    ("date_of_birth", "city"),
    ("substr(last_name, 1, 4)", "substr(first_name, 1, 3)", "city"),
)
# For the prior: rules under which nearly every pair is of one person, and the share of all such pairs that they find.
_DETERMINISTIC: tuple[tuple[str, ...], ...] = (
    ("email",),
    ("phone", "last_name"),
    ("first_name", "last_name", "company"),
    ("first_name", "last_name", "date_of_birth"),
)
_DETERMINISTIC_RECALL = 0.6
_RANDOM_PAIRS = 1e6


@dataclass(frozen=True, slots=True)
class Outcome:
    """``group_of`` by the place of the record; CPU and peak memory are of the process, all steps together."""

    group_of: dict[int, Hashable]
    seconds: float
    cpu_seconds: float
    peak_memory_mib: float


def splink_defaults(records: Sequence[dict[str, str | None]], *, seed: int = 1) -> Outcome:
    """Tell ``records`` (by ``COLUMNS``) apart."""
    began, cpu = time.perf_counter(), time.process_time()
    logging.disable(logging.WARNING)  # Splink tells every step of its training
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            group_of = _resolved(records, seed=seed)
    finally:
        logging.disable(logging.NOTSET)
    return Outcome(group_of, time.perf_counter() - began, time.process_time() - cpu, peak_memory_mib())


def _resolved(records: Sequence[dict[str, str | None]], *, seed: int) -> dict[int, Hashable]:
    present = [
        name for name in COLUMNS if sum(row.get(name) is not None for row in records) >= _LEAST_SHARE * len(records)
    ]
    connection = duckdb.connect()
    columns = {name: pa.array([row.get(name) for row in records], pa.string()) for name in present}
    connection.register("given", pa.table({"unique_id": pa.array(range(len(records)), pa.int64()), **columns}))
    connection.execute("create table lead as select * from given").fetchall()
    settings = SettingsCreator(
        link_type="dedupe_only",
        comparisons=[_COMPARISONS[name]() for name in present],
        blocking_rules_to_generate_predictions=_rules(
            (*_BLOCKING, *(_BLOCKING_OF_FEW if len(records) <= _FEW else ())), present
        ),
    )
    linker = Linker(DuckDBAPI(connection).register("lead", dataset_display_name="lead"), settings)
    linker.training.estimate_probability_two_random_records_match(
        _rules(_DETERMINISTIC, present), recall=_DETERMINISTIC_RECALL
    )
    linker.training.estimate_u_using_random_sampling(max_pairs=_RANDOM_PAIRS, seed=seed)
    for columns_of_rule in _training_rules(present):
        linker.training.estimate_parameters_using_expectation_maximisation(block_on(*columns_of_rule))
    predicted = linker.inference.predict(threshold_match_probability=THRESHOLD, warning_mode="never")
    clusters = linker.clustering.cluster_pairwise_predictions_at_threshold(
        predicted, threshold_match_probability=THRESHOLD
    )
    return {row["unique_id"]: row["cluster_id"] for row in clusters.as_record_list()}


def _rules(wanted: Sequence[tuple[str, ...]], present: Sequence[str]) -> list[Any]:
    return [block_on(*columns) for columns in wanted if all(_column(name) in present for name in columns)]


def _training_rules(present: Sequence[str]) -> list[tuple[str, ...]]:
    """Two rounds that leave every comparison to one of them."""
    other = next(name for name in ("email", "date_of_birth", "phone", "postcode") if name in present)
    return [(other,), ("first_name", "last_name")]


def _column(expression: str) -> str:
    return expression.partition("(")[2].partition(",")[0] or expression
