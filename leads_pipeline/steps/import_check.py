"""What an import of a file would do, found out without storing anything: ``leads import --dry-run``."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from itertools import islice

import sqlalchemy as sa

from leads_pipeline.buffer.files.leads import ReadLead, leads_of
from leads_pipeline.buffer.files.rejected import SHOWN_BROKEN_ROWS
from leads_pipeline.buffer.files.rows import LeadFile
from leads_pipeline.buffer.port import content_key
from leads_pipeline.domain.import_mapping import ColumnMapping
from leads_pipeline.domain.posted_lead import PostedLead
from leads_pipeline.domain.validation import Rejection, validate
from leads_pipeline.storage.database import translated_errors
from leads_pipeline.storage.import_progress import known_keys

_ROWS_AT_ONCE = 5_000
# Of a key so many bytes are remembered: two different rows of a file of a billion rows are taken for one with a
# chance of 3 in a hundred, and a million rows take 70 MB.
_REMEMBERED_BYTES = 8


@dataclass(frozen=True, slots=True)
class ImportCheck:
    """What would become of a file: ``rows`` = ``new`` + ``repeated`` + ``known`` + ``rejected``.

    ``repeated`` rows say the same as an earlier row of the file, ``known`` ones the same as a lead that came before
    (``None``: no database was looked at). ``valid`` and ``invalid`` are of the new ones; ``reasons`` counts why.
    """

    rows: int
    new: int
    repeated: int
    known: int | None
    rejected: int
    broken: tuple[tuple[int, str], ...]
    valid: int
    invalid: int
    reasons: tuple[tuple[str, int], ...]


def check_file(
    file: LeadFile,
    *,
    mapping: ColumnMapping,
    tenant: str,
    source: str,
    country: str,
    today: date,
    engine: sa.Engine | None = None,
    on_progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> ImportCheck:
    """Read a whole file as an import would, and write nothing: neither to a database nor beside the file.

    Raises:
        ImportFileError: the file cannot be read as leads at all.
    """
    counts: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    broken: list[tuple[int, str]] = []
    seen: set[int] = set()
    answers = leads_of(file, file.rows(), mapping)
    while found := list(islice(answers, _ROWS_AT_ONCE)):
        fresh: dict[bytes, ReadLead] = {}
        for row in found:
            if not isinstance(row, ReadLead):
                counts["rejected"] += 1
                if len(broken) < SHOWN_BROKEN_ROWS:
                    broken.append((row.line, row.reason))
                continue
            key = bytes.fromhex(content_key(PostedLead(row.payload, row.consent))[0])
            remembered = int.from_bytes(key[:_REMEMBERED_BYTES])
            if remembered in seen:
                counts["repeated"] += 1
            else:
                seen.add(remembered)
                fresh[key] = row
        if engine is not None:
            with translated_errors("looking for known leads"), engine.connect() as connection:
                known = known_keys(connection, list(fresh), tenant=tenant, source=source)
            counts["known"] += len(known)
            fresh = {key: row for key, row in fresh.items() if key not in known}
        for row in fresh.values():
            verdict = validate(row.payload, country=country, today=today)
            if isinstance(verdict, Rejection):
                counts["invalid"] += 1
                reasons.update({finding.name for finding in verdict.reasons})
            else:
                counts["valid"] += 1
        on_progress(file.position, file.total)
    on_progress(file.total, file.total)
    new = counts["valid"] + counts["invalid"]
    return ImportCheck(
        rows=new + counts["repeated"] + counts["known"] + counts["rejected"],
        new=new,
        repeated=counts["repeated"],
        known=None if engine is None else counts["known"],
        rejected=counts["rejected"],
        broken=tuple(broken),
        valid=counts["valid"],
        invalid=counts["invalid"],
        reasons=tuple(reasons.most_common()),
    )
