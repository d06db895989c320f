"""A demo's input: invented leads with known truth, or a real file with a column that says who is who."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from leads_pipeline.buffer.files.leads import mapping_of, read_leads, read_map_file
from leads_pipeline.demo.door import DemoLead
from leads_pipeline.demo.place import FILE_SOURCE
from leads_pipeline.domain.import_mapping import ColumnMapping
from leads_pipeline.errors import ImportFileError


def invented_leads(count: int, *, seed: int) -> list[DemoLead]:
    """``count`` generated leads; the same seed gives the same leads."""
    from leads_pipeline.synthetic import generate_leads  # noqa: PLC0415 - its name pools are loaded only when used

    return [
        DemoLead(lead.source, _with_consent(dict(lead.payload), lead.consent), lead.truth)
        for lead in generate_leads(count, seed=seed)
    ]


def leads_of_file(
    path: Path, *, truth_column: str | None, map_file: Path | None, on_broken: Callable[[str], None]
) -> tuple[list[DemoLead], ColumnMapping]:
    """The leads of a file in its order, and how its columns were understood.

    The truth column is taken out: nothing that is posted says who is who. ``on_broken`` is told of each unreadable row.

    Raises:
        ImportFileError: the file cannot be read, or has no column ``truth_column``.
    """
    own = read_map_file(map_file) if map_file else {}
    columns = [use.column for use in mapping_of(path).uses]
    if truth_column is not None:
        if truth_column not in columns:
            raise ImportFileError(f"{path.name} has no column {truth_column!r}; it has {', '.join(columns)}")
        own[truth_column] = None
    mapping = mapping_of(path, own)
    leads = []
    for row in read_leads(path, mapping, on_broken=lambda broken: on_broken(f"line {broken.line}: {broken.reason}")):
        payload = dict(row.payload)
        truth = payload.pop(truth_column, None) if truth_column else None
        leads.append(DemoLead(FILE_SOURCE, _with_consent(payload, row.consent), None if truth is None else str(truth)))
    return leads, mapping


def _with_consent(payload: dict[str, Any], consent: list[Any]) -> dict[str, Any]:
    return {**payload, "consent": consent} if consent else payload
