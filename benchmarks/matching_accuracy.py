"""How well leads are told apart, on the hard generator or on a file, with plain Splink on the same leads beside us.

    python benchmarks/matching_accuracy.py [--sizes N…] [--replay N] [--json PATH] [--input FILE --truth COLUMN]

Ours goes through ``evaluate_matching``, as ``leads matching evaluate`` does; Splink as ``splink_defaults`` says, in a
process of its own. Figures are pairwise over all rows; leads come from the seeds for reporting, which nothing was tuned
or trained on.
"""

import argparse
import csv
import multiprocessing
import tempfile
from collections.abc import Hashable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from machine import describe_machine, write_results
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from leads_pipeline.buffer.files.leads import mapping_of, read_leads
from leads_pipeline.buffer.files.opening import open_lead_file
from leads_pipeline.clock import SystemClock
from leads_pipeline.config import MatchingSettings, parse_settings
from leads_pipeline.domain.import_mapping import kept_name
from leads_pipeline.domain.match_keys import MatchFields
from leads_pipeline.domain.validation import ValidLead, validate
from leads_pipeline.matching.evaluation import bcubed, pairwise
from leads_pipeline.matching.model import Parameters, shipped_parameters
from leads_pipeline.matching.training import adapt
from leads_pipeline.steps.deduped_leads import dedupe_leads
from leads_pipeline.steps.evaluated_matching import LabelledFile, evaluate_matching
from leads_pipeline.storage.embedded import EmbeddedServer
from leads_pipeline.storage.scratch_database import scratch_database
from leads_pipeline.synthetic import REPORTING_SEEDS, hard_leads

SETTINGS = "version: 1\ntenants: {benchmark: {sources: {import: {lane: batch}}}}\n"
COUNTRY = "US"
TRUTH = "person"
# Beyond this the replay through the step takes longer than everything else together.
MOST_REPLAYED = 10_000
# Of the small sizes every seed for reporting; one is enough where one file has tens of thousands of pairs.
ALL_SEEDS_TO = 10_000


def hard_file(directory: Path, *, count: int, seed: int) -> Path:
    """The hard leads as a file, as somebody would bring them."""
    path = directory / f"hard-{count}-{seed}.csv"
    columns = (
        "first_name", "last_name", "full_name", "email", "phone", "company", "job_title", "date_of_birth", "address",
        "city", "state", "postcode", "country", TRUTH,
    )  # fmt: skip
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, restval="")
        writer.writeheader()
        writer.writerows({**lead.payload, TRUTH: lead.truth} for lead in hard_leads(count, seed=seed))
    return path


def ours(path: Path, *, truth: str, replay: int | None, is_adapted: bool) -> dict[str, Any]:
    """What ``leads matching evaluate`` says with the settings as they are shipped."""
    settings = parse_settings(SETTINGS, path=Path("leads.yaml"))
    clock = SystemClock()
    with tempfile.TemporaryDirectory() as directory:
        server = EmbeddedServer(Path(directory) / "state", durable=False)
        try:
            report = evaluate_matching(
                LabelledFile.of(open_lead_file(path), truth=truth, own={}, country=COUNTRY, clock=clock),
                settings=settings.matching,
                parameters=shipped_parameters(),
                adapt=partial(_fitted, settings.matching) if is_adapted else None,
                replay_chunk=replay,
                dedupe=partial(dedupe_leads, settings=settings),
                database=lambda: scratch_database(server, now=clock.now()),
            )
        finally:
            server.remove()
    return report.to_json()


def _fitted(settings: MatchingSettings, records: Sequence[MatchFields], drawn_from: int) -> Parameters:
    return adapt(
        records,
        shipped_parameters(),
        seed=1,
        version="fitted",
        max_candidates_per_key=settings.max_candidates_per_key,
        drawn_from=drawn_from,
    )


def splink(path: Path, *, truth: str) -> dict[str, Any]:
    """Splink's defaults on the same rows, in a process of its own so that its memory is its own."""
    with ProcessPoolExecutor(max_workers=1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_splink, path, truth).result()


def _splink(path: Path, truth: str) -> dict[str, Any]:
    from splink_defaults import COLUMNS, splink_defaults

    opened = open_lead_file(path)
    mapping = mapping_of(opened, {truth: None})
    today = SystemClock().now().date()
    people: dict[int, Hashable] = {}
    records: list[dict[str, str | None]] = []
    for row in read_leads(opened, mapping):
        payload = dict(row.payload)
        person = payload.pop(kept_name(truth), None)
        if person is not None:
            people[len(records)] = str(person)
        lead = validate(payload, country=COUNTRY, today=today)
        if isinstance(lead, ValidLead):
            records.append({name: _as_text(getattr(lead, column)) for name, column in zip(COLUMNS, _KEYS, strict=True)})
        else:  # Splink has no validation: it sees the row as it stands
            records.append({name: _as_text(payload.get(name)) for name in COLUMNS})
    outcome = splink_defaults(records)
    # The floor: equal addresses alone, which is what a CRM does by itself.
    by_email: dict[int, Hashable] = {place: record["email"] or place for place, record in enumerate(records)}
    return {
        "same_email_pairwise": asdict(pairwise(people, by_email)),
        "pairwise": asdict(pairwise(people, outcome.group_of)),
        "bcubed": asdict(bcubed(people, outcome.group_of)),
        "seconds": round(outcome.seconds, 1),
        "cpu_seconds": round(outcome.cpu_seconds, 1),
        "peak_memory_mib": round(outcome.peak_memory_mib),
    }


# In the order of ``splink_defaults.COLUMNS``.
_KEYS = (
    "first_name_key", "last_name_key", "email_key", "phone_key", "company_key", "date_of_birth", "city_key",
    "postcode_key", "job_title",
)  # fmt: skip


def _as_text(value: object) -> str | None:
    return None if value is None else str(value).strip().lower() or None


def measured(path: Path, *, truth: str, replay: int | None) -> dict[str, Any]:
    """Ours, with the model fitted to the file (as ``leads matching evaluate``) and as shipped, and Splink."""
    return {
        "ours": ours(path, truth=truth, replay=replay, is_adapted=True),
        "ours_shipped_model": ours(path, truth=truth, replay=None, is_adapted=False),
        "splink_defaults": splink(path, truth=truth),
    }


def accuracy(sizes: Sequence[int], *, replay: int | None) -> dict[str, list[dict[str, Any]]]:
    """By size, a result for each seed."""
    results: dict[str, list[dict[str, Any]]] = {}
    for count in sizes:
        seeds = REPORTING_SEEDS if count <= ALL_SEEDS_TO else REPORTING_SEEDS[:1]
        for seed in seeds:
            with tempfile.TemporaryDirectory() as directory:
                path = hard_file(Path(directory), count=count, seed=seed)
                is_first = seed == seeds[0]
                found = measured(path, truth=TRUTH, replay=replay if count <= MOST_REPLAYED and is_first else None)
            results.setdefault(str(count), []).append({"seed": seed, **found})
            show(f"{count:,} hard leads, seed {seed}", found)
    return results


def show(name: str, found: dict[str, Any]) -> None:
    """A table for people."""
    table = Table(title=f"Telling leads apart: {name}", title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for column in ("", "precision", "recall", "F1", "B³ F1", "s", "CPU s", "MiB"):
        table.add_column(column, justify="right" if column else "left", no_wrap=True)
    document = found["ours"]
    rows = [("ours, full", document["full"])]
    if "replay" in document:
        rows.append((f"ours, chunks of {document['replay']['chunk']:,}", document["replay"]))
    rows.append(("ours, shipped model", found["ours_shipped_model"]["full"]))
    rows.append(("Splink's defaults", found["splink_defaults"]))
    for label, run in rows:
        score = run["pairwise"]
        table.add_row(
            label,
            *(f"{score[measure]:.3f}" for measure in ("precision", "recall", "f1")),
            f"{run['bcubed']['f1']:.3f}",
            f"{run['seconds']:.1f}",
            f"{run['cpu_seconds']:.1f}",
            f"{run['peak_memory_mib']:,.0f}",
        )
    score = found["splink_defaults"]["same_email_pairwise"]
    table.add_row("equal e-mail only", *(f"{score[measure]:.3f}" for measure in ("precision", "recall", "f1")))
    Console().print(table)
    if "replay" in document and not document["replay_equals_full"]:
        apart = document["agreement"]["rows_grouped_differently"]
        Console().print(
            f"full and chunks group {apart:,} rows differently; F1 {document['agreement']['pairwise']['f1']:.4f}"
        )
    if document["rejected"]:
        Console().print(f"{document['rejected']:,} of {document['rows']:,} rows were rejected and count as alone")


def main() -> None:
    """Run, print, write."""
    arguments = _arguments()
    if arguments.input:
        results: Any = measured(arguments.input, truth=arguments.truth, replay=arguments.replay)
        show(arguments.input.name, results)
    else:
        results = accuracy(arguments.sizes, replay=arguments.replay)
    Console().print(describe_machine())
    if arguments.json:
        write_results(arguments.json, results)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000], help="how many leads to invent")
    parser.add_argument("--replay", type=int, default=500, help="leads in a micro-batch, for 10,000 leads at most")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--input", type=Path, help="a file of leads instead of invented ones")
    parser.add_argument("--truth", help="the column of --input that says who is who")
    arguments = parser.parse_args()
    if arguments.input and not arguments.truth:
        parser.error("--input needs --truth, the column that says who is who")
    return arguments


if __name__ == "__main__":
    main()
