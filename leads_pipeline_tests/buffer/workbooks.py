"""Small workbooks, written by hand: the tests need no library that writes them."""

import struct
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

_MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_PACKAGE = "http://schemas.openxmlformats.org/package/2006"
_XML = '<?xml version="1.0" encoding="UTF-8"?>'


@dataclass(frozen=True)
class Dated:
    """A number that the sheet shows as a date, or with the time of day."""

    serial: float
    with_time: bool = False


Cell = str | int | float | bool | Dated | None


def write_xlsx(path: Path, sheets: Mapping[str, Sequence[Sequence[Cell]]], *, far: str = "") -> Path:
    """A workbook of Excel. Text that begins with # is an error value. ``far`` is a place for one more number."""
    numbers = range(1, len(sheets) + 1)
    names = "".join(
        f'<sheet name="{name}" sheetId="{n}" r:id="rId{n}"/>' for n, name in zip(numbers, sheets, strict=True)
    )
    relations = "".join(
        f'<Relationship Id="rId{n}" Type="{_OFFICE}/worksheet" Target="worksheets/sheet{n}.xml"/>' for n in numbers
    )
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(
            "[Content_Types].xml",
            f'{_XML}<Types xmlns="{_PACKAGE}/content-types">'
            '<Default Extension="xml" ContentType="application/xml"/></Types>',
        )
        archive.writestr(
            "_rels/.rels",
            f'{_XML}<Relationships xmlns="{_PACKAGE}/relationships">'
            f'<Relationship Id="rId1" Type="{_OFFICE}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
        )
        archive.writestr(
            "xl/workbook.xml",
            f'{_XML}<workbook xmlns="{_MAIN}" xmlns:r="{_OFFICE}"><sheets>{names}</sheets></workbook>',
        )
        archive.writestr(
            "xl/_rels/workbook.xml.rels",
            f'{_XML}<Relationships xmlns="{_PACKAGE}/relationships">{relations}'
            f'<Relationship Id="rIdStyles" Type="{_OFFICE}/styles" Target="styles.xml"/></Relationships>',
        )
        archive.writestr(
            "xl/styles.xml",
            f'{_XML}<styleSheet xmlns="{_MAIN}"><cellXfs count="3"><xf numFmtId="0"/><xf numFmtId="14"/>'
            '<xf numFmtId="22"/></cellXfs></styleSheet>',
        )
        for number, rows in zip(numbers, sheets.values(), strict=True):
            lines = "".join(_row(at, row) for at, row in enumerate(rows, start=1))
            lines += f"<row>{_cell(far, 1)}</row>" if far else ""
            archive.writestr(
                f"xl/worksheets/sheet{number}.xml",
                f'{_XML}<worksheet xmlns="{_MAIN}"><sheetData>{lines}</sheetData></worksheet>',
            )
    return path


def write_ods(path: Path, rows: Sequence[Sequence[str | int | float]]) -> Path:
    """A workbook of LibreOffice with one sheet."""
    cells = ""
    for row in rows:
        cells += "<table:table-row>"
        for cell in row:
            text = f"<text:p>{escape(str(cell))}</text:p>"
            if isinstance(cell, str):
                cells += f'<table:table-cell office:value-type="string">{text}</table:table-cell>'
            else:
                cells += f'<table:table-cell office:value-type="float" office:value="{cell}">{text}</table:table-cell>'
        cells += "</table:table-row>"
    urn = "urn:oasis:names:tc:opendocument:xmlns"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet")
        archive.writestr(
            "META-INF/manifest.xml",
            f'{_XML}<manifest:manifest xmlns:manifest="{urn}:manifest:1.0"></manifest:manifest>',
        )
        archive.writestr(
            "content.xml",
            f'{_XML}<office:document-content xmlns:office="{urn}:office:1.0" xmlns:table="{urn}:table:1.0" '
            f'xmlns:text="{urn}:text:1.0"><office:body><office:spreadsheet><table:table table:name="Leads">{cells}'
            "</table:table></office:spreadsheet></office:body></office:document-content>",
        )
    return path


def write_xlsb(path: Path, rows: Sequence[Sequence[str | float]]) -> Path:
    """A binary workbook of Excel with one sheet, of the records of [MS-XLSB] that a reader needs."""
    book = _record(131) + _record(143)
    book += _record(156, struct.pack("<II", 0, 1) + _wide("rId1") + _wide("Leads")) + _record(144) + _record(132)
    extent = struct.pack("<IIII", 0, len(rows) - 1, 0, max(map(len, rows)) - 1)
    sheet = _record(129) + _record(148, extent) + _record(145)
    for number, row in enumerate(rows):
        sheet += _record(0, struct.pack("<I", number) + bytes(13))
        for column, cell in enumerate(row):
            place = struct.pack("<II", column, 0)
            sheet += (
                _record(6, place + _wide(cell))
                if isinstance(cell, str)
                else _record(5, place + struct.pack("<d", cell))
            )
    sheet += _record(146) + _record(130)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(
            "xl/_rels/workbook.bin.rels",
            f'{_XML}<Relationships xmlns="{_PACKAGE}/relationships">'
            f'<Relationship Id="rId1" Type="{_OFFICE}/worksheet" Target="worksheets/sheet1.bin"/></Relationships>',
        )
        archive.writestr("xl/workbook.bin", book)
        archive.writestr("xl/worksheets/sheet1.bin", sheet)
    return path


def _record(kind: int, content: bytes = b"") -> bytes:
    head = bytes([kind]) if kind < 128 else bytes([kind & 0x7F | 0x80, kind >> 7])
    size = len(content)
    length = bytearray()
    while True:
        size, part = size >> 7, size & 0x7F
        length.append(part | 0x80 if size else part)
        if not size:
            return head + bytes(length) + content


def _wide(text: str) -> bytes:
    return struct.pack("<I", len(text)) + text.encode("utf-16-le")


def _row(number: int, cells: Sequence[Cell]) -> str:
    found = "".join(_cell(f"{chr(65 + at)}{number}", cell) for at, cell in enumerate(cells) if cell is not None)
    return f'<row r="{number}">{found}</row>' if found else ""


def _cell(place: str, cell: Cell) -> str:
    if isinstance(cell, bool):
        return f'<c r="{place}" t="b"><v>{int(cell)}</v></c>'
    if isinstance(cell, Dated):
        return f'<c r="{place}" s="{2 if cell.with_time else 1}"><v>{cell.serial}</v></c>'
    if isinstance(cell, str):
        if cell.startswith("#"):
            return f'<c r="{place}" t="e"><v>{cell}</v></c>'
        return f'<c r="{place}" t="inlineStr"><is><t>{escape(cell)}</t></is></c>'
    return f'<c r="{place}"><v>{cell!r}</v></c>'
