"""A demo's input: invented leads with known truth, or a real file with a column that says who is who."""

from pathlib import Path
from typing import Any

from leads_pipeline.demo.door import DemoLead


def invented_leads(count: int, *, seed: int) -> list[DemoLead]:
    """``count`` generated leads; the same seed gives the same leads."""
    from leads_pipeline.synthetic import generate_leads  # noqa: PLC0415 - name pools are loaded only when used

    return [
        DemoLead(lead.source, _with_consent(lead.payload, lead.consent), lead.truth)
        for lead in generate_leads(count, seed=seed)
    ]


def leads_of_file(path: Path, *, truth_column: str | None, map_file: Path | None) -> tuple[list[DemoLead], list[str]]:
    """The leads of a file, and how its columns were understood, for printing.

    Raises:
        ImportFileError: the file cannot be read, or has no column ``truth_column``.
    """
    raise NotImplementedError


def _with_consent(payload: dict[str, str], consent: list[dict[str, Any]]) -> dict[str, Any]:
    return {**payload, "consent": consent} if consent else dict(payload)
