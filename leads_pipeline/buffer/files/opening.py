"""Finds out what kind of file a path is, by its content before its name."""

import zipfile
from pathlib import Path

from leads_pipeline.buffer.files.content import Content
from leads_pipeline.buffer.files.csv_text import CsvFile
from leads_pipeline.buffer.files.ndjson import JsonArrayFile, NdjsonFile
from leads_pipeline.buffer.files.parquet import ParquetFile
from leads_pipeline.buffer.files.rows import LeadFile
from leads_pipeline.errors import ImportFileError

FORMATS = ("csv", "tsv", "excel", "parquet", "ndjson", "json")

_SUFFIXES = {
    ".csv": "csv", ".tsv": "tsv", ".tab": "tsv", ".parquet": "parquet", ".json": "json", ".ndjson": "ndjson",
    ".jsonl": "ndjson", ".xlsx": "excel", ".xlsm": "excel", ".xlsb": "excel", ".xls": "excel", ".ods": "excel",
}  # fmt: skip
_ZIP, _OLE, _ZSTD, _PARQUET = b"PK\x03\x04", b"\xd0\xcf\x11\xe0", b"\x28\xb5\x2f\xfd", b"PAR1"
_PACKED = {
    b"BZh": "bzip2 (bunzip2)", b"\xfd7zXZ": "xz (unxz)", b"7z\xbc\xaf": "7-Zip", b"Rar!": "RAR", _ZSTD: "zstd (unzstd)",
}  # fmt: skip
_BOM = b"\xef\xbb\xbf"


def open_lead_file(
    path: Path,
    *,
    name: str | None = None,
    file_format: str | None = None,
    sheet: str | None = None,
    encoding: str | None = None,
) -> LeadFile:
    """Open a file of one of the ``FORMATS``, also packed with gzip.

    ``name`` is what to call a file that lies elsewhere than people think. ``file_format``, ``sheet`` and ``encoding``
    are a person's word, which goes before what is found.

    Raises:
        ImportFileError: it is not there, or it is none of these; the message says what to do.
    """
    content = Content.of(path, name=name)
    head = content.head()
    if not head:
        raise ImportFileError(f"{content.name} is empty")
    for magic, kind in _PACKED.items():
        if head.startswith(magic):
            raise ImportFileError(f"{content.name} is packed with {kind}; unpack it first, or pack it with gzip")
    found = file_format or _format_of(content, head)
    for option, value, formats in (("--sheet", sheet, ("excel",)), ("--encoding", encoding, ("csv", "tsv"))):
        if value is not None and found not in formats:
            raise ImportFileError(f"{option} is for {' and '.join(formats)}; {content.name} is read as {found}")
    if found == "excel":
        from leads_pipeline.buffer.files.workbook import WorkbookFile  # noqa: PLC0415 - for those who import one

        return WorkbookFile(content, sheet=sheet)
    if found == "parquet":
        return ParquetFile(content)
    if found in ("json", "ndjson"):
        return JsonArrayFile(content) if found == "json" and _begins(head, b"[") else NdjsonFile(content)
    return CsvFile(content, encoding=encoding, delimiter="\t" if found == "tsv" else None)


def _format_of(content: Content, head: bytes) -> str:
    named = _SUFFIXES.get(content.suffix(), "csv")
    if head.startswith(_PARQUET):
        return "parquet"
    if head.startswith(_ZIP):
        if named != "excel" and not _holds_workbook(content):
            raise ImportFileError(f"{content.name} is a ZIP archive; unpack it, and import the files in it")
        return "excel"
    if head.startswith(_OLE):
        return "excel"
    if named in ("parquet", "excel"):
        raise ImportFileError(
            f"{content.name} is named like {'Parquet' if named == 'parquet' else 'a workbook'}, but does not begin "
            "like it; say what it is with --format"
        )
    if named in ("csv", "tsv"):
        is_text = content.suffix() not in _SUFFIXES
        if is_text and _begins(head, b"{"):
            return "ndjson"
        if is_text and _begins(head, b"["):
            return "json"
        return "csv"  # its delimiter is found out: many a .tsv has semicolons
    return named if _begins(head, b"[") or _begins(head, b"{") or named == "ndjson" else "csv"


def _begins(head: bytes, first: bytes) -> bool:
    return head.removeprefix(_BOM).lstrip().startswith(first)


def _holds_workbook(content: Content) -> bool:
    if content.packed:
        return True  # it is unpacked to be looked at; what is no workbook is refused then
    try:
        with zipfile.ZipFile(content.path) as archive:
            names = set(archive.namelist())
    except (OSError, zipfile.BadZipFile):
        return False
    return bool(names & {"xl/workbook.xml", "xl/workbook.bin", "content.xml"})
