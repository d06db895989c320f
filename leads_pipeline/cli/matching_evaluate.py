"""``leads matching evaluate``: a file whose truth is known, through the pipeline's own matching."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from leads_pipeline.cli._files import OutputFile
from leads_pipeline.cli._progress import ProgressLines
from leads_pipeline.clock import SystemClock
from leads_pipeline.config import load_settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from leads_pipeline.config import MatchingSettings
    from leads_pipeline.domain.match_keys import MatchFields
    from leads_pipeline.matching.evaluation import BCubedScore, PairwiseScore
    from leads_pipeline.matching.evaluation_report import EvaluationReport, RunFigures
    from leads_pipeline.matching.model import Parameters
    from leads_pipeline.steps.evaluated_matching import Adapt, LabelledFile

_FORMATS = ("csv", "tsv", "excel", "parquet", "ndjson", "json")
_COUNTRY_LETTERS = 2


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--truth", required=True, metavar="COLUMN", help="The column that says who is who.")
@click.option("--replay", type=click.IntRange(min=1), metavar="N", help="Also in micro-batches of N leads.")
@click.option("--json", "json_file", type=OutputFile(), help="Write the figures there.")
@click.option(
    "--map", "maps", multiple=True, metavar="COLUMN=FIELD|FILE",
    help="A column and the field that it means (none: no field), once for each; or a YAML file as of leads import.",
)  # fmt: skip
@click.option(
    "--model", type=click.Choice(["adapted", "shipped"]), default="adapted", show_default=True,
    help="The shipped model fitted to the file (of up to 200,000 leads) without its truth, or as it is.",
)  # fmt: skip
@click.option("--seed", default=1, show_default=True, help="Of the random pairs that the model is fitted to.")
@click.option(
    "--country", default="US", show_default=True, metavar="CODE", help="The home market, for phones and dates."
)
@click.option("--format", "file_format", type=click.Choice(_FORMATS), help="What the file is, if it is not found out.")
@click.option("--sheet", metavar="NAME|N", help="Of a workbook: the sheet. The first with a row, if not given.")
@click.option("--encoding", metavar="NAME", help="Of CSV: windows-1252, utf-16, … Found out, if not given.")
@click.pass_obj
def evaluate(
    config_file: str | None,
    *,
    file: Path,
    truth: str,
    replay: int | None,
    json_file: Path | None,
    maps: tuple[str, ...],
    model: str,
    seed: int,
    country: str,
    file_format: str | None,
    sheet: str | None,
    encoding: str | None,
) -> None:
    """Tell the leads of FILE apart and say how well: precision, recall and F1, pairwise and B-cubed.

    The rows are mapped, validated and resolved as leads are that come in, by the rules and cut-offs of leads.yaml; the
    column with the truth is only for counting. Nothing is stored: --replay uses a database that is dropped again.
    """
    from leads_pipeline.buffer.files.opening import open_lead_file
    from leads_pipeline.matching.model import shipped_parameters
    from leads_pipeline.steps.deduped_leads import dedupe_leads
    from leads_pipeline.steps.evaluated_matching import LabelledFile, evaluate_matching
    from leads_pipeline.storage.embedded import EmbeddedServer
    from leads_pipeline.storage.scratch_database import scratch_database

    if len(country) != _COUNTRY_LETTERS or not country.isalpha():
        raise click.BadParameter(f"{country!r} is no country code of two letters, such as US", param_hint="--country")
    settings = load_settings(config_file)
    clock = SystemClock()
    own = _own_mapping(maps)
    opened = open_lead_file(file, file_format=file_format, sheet=sheet, encoding=encoding)
    labelled = LabelledFile.of(opened, truth=truth, own=own, country=country.upper(), clock=clock)
    console = Console()
    _print_columns(console, labelled)
    with ProgressLines(console) as bar:
        report = evaluate_matching(
            labelled,
            settings=settings.matching,
            parameters=shipped_parameters(),
            adapt=_adapting(settings.matching, seed=seed) if model == "adapted" else None,
            replay_chunk=replay,
            dedupe=partial(dedupe_leads, settings=settings),
            database=lambda: scratch_database(EmbeddedServer(settings.state_path), now=clock.now()),
            progress=bar.advance,
        )
    _print_report(console, report)
    if json_file is not None:
        _write(json_file, report)


def _adapting(settings: "MatchingSettings", *, seed: int) -> "Adapt":
    from leads_pipeline.matching.model import shipped_parameters
    from leads_pipeline.matching.training import adapt

    base = shipped_parameters()

    def fitted(records: "Sequence[MatchFields]", drawn_from: int) -> "Parameters":
        return adapt(
            records,
            base,
            seed=seed,
            version=f"{base.version} fitted to the file",
            max_candidates_per_key=settings.max_candidates_per_key,
            drawn_from=drawn_from,
        )

    return fitted


def _own_mapping(maps: tuple[str, ...]) -> dict[str, str | None]:
    from leads_pipeline.buffer.files.leads import read_map_file

    own: dict[str, str | None] = {}
    for item in maps:
        column, equals, target = item.rpartition("=")
        if equals:
            own[column.strip()] = target.strip() or None
        else:
            own.update(read_map_file(Path(item)))
    return own


def _print_columns(console: Console, labelled: "LabelledFile") -> None:
    fields = {use.column: use.field for use in labelled.mapping.uses if use.field}
    told = ", ".join(column if column == name else f"{column} as {name}" for column, name in fields.items())
    console.print(f"columns: {told or 'none is a field of a lead'}; the truth is {labelled.truth}", markup=False)


def _print_report(console: Console, report: "EvaluationReport") -> None:
    _print_rows(console, report)
    took = f" without its truth, in {report.training.seconds:.1f} s" if report.training is not None else ""
    console.print(f"model {report.model}{took}", markup=False)
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in ("", "measure", "precision", "recall", "F1"):
        table.add_column(column, justify="right" if column in ("precision", "recall", "F1") else "left")
    _add_run(table, "full", report.full, with_accepted=report.rejected > 0)
    if report.replay is not None:
        _add_run(table, f"replay by {report.replay_chunk:,}", report.replay, with_accepted=report.rejected > 0)
    console.print(table)
    if report.agreement is not None and report.agreement.are_equal:
        console.print("replay and full agree: every lead is with the same others")
    elif report.agreement is not None:
        console.print(
            f"replay and full differ: {report.agreement.rows_grouped_differently:,} rows are with others; the pairwise "
            f"F1 of one to the other is {report.agreement.pairwise.f1:.4f}"
        )


def _print_rows(console: Console, report: "EvaluationReport") -> None:
    console.print(
        f"{report.file}: {report.rows:,} rows of {report.people.groups:,} people; {report.accepted:,} accepted, "
        f"{report.rejected:,} rejected",
        markup=False,
    )
    for reason, count in report.rejected_because.items():
        console.print(f"  rejected because of {reason}: {count:,}", markup=False)
    if report.rejected:
        console.print("  in the figures of all rows, each rejected one is alone")
    if report.unreadable:
        console.print(f"  {report.unreadable:,} rows could not be read and are not counted")
    if report.without_truth:
        console.print(f"  {report.without_truth:,} rows do not say whose they are: matched, but not counted")


def _add_run(table: Table, name: str, run: "RunFigures", *, with_accepted: bool) -> None:
    measures: list[tuple[str, PairwiseScore | BCubedScore]] = [("pairwise", run.pairwise), ("B-cubed", run.bcubed)]
    if with_accepted:
        measures += [
            ("pairwise, accepted rows", run.accepted_pairwise),
            ("B-cubed, accepted rows", run.accepted_bcubed),
        ]
    for place, (measure, score) in enumerate(measures):
        figures = (f"{score.precision:.3f}", f"{score.recall:.3f}", f"{score.f1:.3f}")
        table.add_row("" if place else name, measure, *figures)
    contacts = f"{run.contacts.groups:,} contacts, at most {run.contacts.largest:,} leads"
    seconds, memory = f"{run.cost.seconds:.1f} s", f"{run.cost.peak_memory_mib:,.0f} MiB"
    table.add_row("", contacts, seconds, memory, "", end_section=True)


def _write(json_file: Path, report: "EvaluationReport") -> None:
    import json

    try:
        json_file.write_text(json.dumps(report.to_json(), indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise click.FileError(str(json_file), error.strerror or "cannot be written") from error
