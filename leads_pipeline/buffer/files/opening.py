"""Finds out what kind of file a path is, by its content before its name."""

from pathlib import Path

from leads_pipeline.buffer.files.csv_text import CsvFile
from leads_pipeline.buffer.files.ndjson import NdjsonFile
from leads_pipeline.buffer.files.parquet import ParquetFile
from leads_pipeline.buffer.files.rows import LeadFile
from leads_pipeline.errors import ImportFileError

_CSV_SUFFIXES = (".csv", ".tsv", ".tab")
_FOREIGN = {
    b"\x1f\x8b": "is compressed with gzip; unpack it first (gunzip)",
    b"PK\x03\x04": "is a ZIP archive or a workbook; unpack it, or save the sheet as CSV UTF-8",
    b"\xd0\xcf\x11\xe0": "is an old Excel workbook; save the sheet as CSV UTF-8",
    b"\x28\xb5\x2f\xfd": "is compressed with zstd; unpack it first",
}


def open_lead_file(path: Path) -> LeadFile:
    """Open a CSV, NDJSON or Parquet file.

    Raises:
        ImportFileError: it is not there, or it is none of these; the message says what to do.
    """
    try:
        with path.open("rb") as file:
            head = file.read(4096)
    except OSError as error:
        raise ImportFileError(f"cannot read {path}: {error.strerror}") from error
    for magic, advice in _FOREIGN.items():
        if head.startswith(magic):
            raise ImportFileError(f"{path} {advice}")
    if head.startswith(b"PAR1"):
        return ParquetFile(path)
    if path.suffix.lower() in _CSV_SUFFIXES:
        return CsvFile(path)
    begin = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if begin.startswith(b"{"):
        return NdjsonFile(path)
    if begin.startswith(b"["):
        raise ImportFileError(f"{path} is one JSON array; write one object a line first, for example: jq -c '.[]'")
    if path.suffix.lower() == ".parquet":
        raise ImportFileError(f"{path} is named like Parquet, but does not begin like it")
    return CsvFile(path)
