"""A batch of contacts as the text of a file, NDJSON or CSV, and a file's text without some contacts. Pure.

Each line says what one contact is at one version; the reader keeps the highest version of each, and of equal ones the
line in the file that was written last. Lines that remove say nothing of the person.
"""

import csv
import io
import json
import re
from collections.abc import Collection, Sequence
from hashlib import blake2b
from typing import Any, Literal

from leads_pipeline.config import FILE_FIELDS
from leads_pipeline.domain.delivery import CrmRecord, PropertyValue
from leads_pipeline.domain.snapshot import is_empty
from leads_pipeline.domain.stage import Operation

Format = Literal["ndjson", "csv"]

# What a line asks of the reader.
UPSERTED, REMOVED, ERASED, CONSENT_WITHDRAWN = "upserted", "removed", "erased", "consent_withdrawn"

# A spreadsheet takes what begins so for a formula.
_FORMULA = re.compile(r"[=+\-@\t\r\n\uff0b\uff0d\uff1d\uff20]")
# Numbers, and phone numbers as we keep them, are none.
_NUMBER = re.compile(r"\+\d{1,15}|-?\d+(\.\d+)?")


def name_of(records: Sequence[CrmRecord], text: bytes, *, format_: Format) -> str:
    """The same name for the same batch: sent again, it takes its own place. Nothing of a person is in it."""
    first = min(records, key=lambda record: record.outbox_id)
    mark = blake2b(text, digest_size=12, key=first.contact_id.bytes)
    return f"contacts-{mark.hexdigest()}.{format_}"


def format_of(name: str) -> Format:
    """The format of a file with a name of ours, whatever leads.yaml says today."""
    return "csv" if name.endswith(".csv") else "ndjson"


def text_of(records: Sequence[CrmRecord], *, format_: Format, properties: Sequence[str]) -> bytes:
    """The records as a file. ``properties``: the columns of every CSV file, in their order."""
    # In one order, so that the same records are the same file however they were claimed.
    ordered = sorted(records, key=lambda record: record.outbox_id)
    if format_ == "ndjson":
        return "".join(_as_json(record) for record in ordered).encode("utf-8", "replace")
    return _as_csv(ordered, properties).encode("utf-8", "replace")


def without(text: bytes, contact_ids: Collection[str], *, format_: Format) -> bytes | None:
    """The text of a file without these contacts; ``None`` if it has none of them, empty if it has nobody else.

    What somebody has damaged goes as well where it names one of them.

    Raises:
        ValueError: the file is damaged so that nobody can say whose a row is.
    """
    if not any(contact_id.encode() in text for contact_id in contact_ids):
        return None
    if format_ == "ndjson":
        lines = text.splitlines(keepends=True)
        kept = [line for line in lines if not _line_is_of(line, contact_ids)]
        return None if len(kept) == len(lines) else b"".join(kept)
    try:
        rows = list(csv.reader(io.StringIO(text.decode("utf-8", "surrogateescape"), newline="")))
    except csv.Error:
        raise ValueError("no CSV") from None
    left = [row for row in rows[1:] if not _row_is_of(row, contact_ids, header=rows[0])]
    if len(left) == len(rows) - 1:
        return None
    return _written([rows[0], *left]).encode("utf-8", "surrogateescape") if left else b""


def _line_is_of(line: bytes, contact_ids: Collection[str]) -> bool:
    try:
        return json.loads(line)["contact_id"] in contact_ids
    except (ValueError, LookupError, TypeError):
        return any(contact_id.encode() in line for contact_id in contact_ids)


def _row_is_of(row: Sequence[str], contact_ids: Collection[str], *, header: Sequence[str]) -> bool:
    """A quotation mark that is missing joins a row to those before it: then an id begins a line within a cell."""
    if len(row) == len(header) and "contact_id" in header:
        return row[header.index("contact_id")] in contact_ids or any(
            f"\n{contact_id}" in cell for contact_id in contact_ids for cell in row
        )
    return any(contact_id in cell for contact_id in contact_ids for cell in row)


def _as_json(record: CrmRecord) -> str:
    document: dict[str, Any] = dict(zip(FILE_FIELDS, _own(record), strict=True))
    if record.operation is Operation.UPSERT:
        document["properties"] = {name: None if is_empty(value) else value for name, value in record.properties.items()}
    # One line is one record: a separator that some readers take for the end of a line is written as an escape.
    text = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
    return text.replace("\u2028", "\\u2028").replace("\u2029", "\\u2029").replace("\x85", "\\u0085") + "\n"


def _as_csv(records: Sequence[CrmRecord], properties: Sequence[str]) -> str:
    more = sorted({name for record in records for name in record.properties} - set(properties))
    names = [*properties, *more]
    rows: list[list[Any]] = [[*FILE_FIELDS, *names]]
    rows += [[*_own(record), *(_cell(record.properties.get(name)) for name in names)] for record in records]
    return _written(rows)


def _own(record: CrmRecord) -> tuple[str, str, int, str]:
    return str(record.contact_id), record.tenant, record.version, _operation(record)


def _operation(record: CrmRecord) -> str:
    match record.operation:
        case Operation.UPSERT:
            return UPSERTED if record.complete else CONSENT_WITHDRAWN
        case Operation.ARCHIVE:
            return REMOVED
        case Operation.ERASE:
            return ERASED


def _cell(value: PropertyValue) -> str:
    """Text that no spreadsheet carries out: an apostrophe stands before what would be a formula."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    text = str(value)
    return f"'{text}" if _FORMULA.match(text.lstrip(" ")) and not _NUMBER.fullmatch(text) else text


def _written(rows: Sequence[Sequence[Any]]) -> str:
    lines = io.StringIO(newline="")
    csv.writer(lines, lineterminator="\r\n").writerows(rows)
    return lines.getvalue()
