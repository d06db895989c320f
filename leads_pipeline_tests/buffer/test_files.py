"""Kinds of files and their encodings: what each row becomes, and what is refused with which words."""

import gzip
import json
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from leads_pipeline.buffer.files import csv_text
from leads_pipeline.buffer.files.content import Content
from leads_pipeline.buffer.files.csv_text import CsvFile, values_of
from leads_pipeline.buffer.files.encodings import likely_encoding
from leads_pipeline.buffer.files.opening import open_lead_file
from leads_pipeline.buffer.files.rows import BrokenRow, FileRow, LeadFile
from leads_pipeline.errors import ImportFileError
from leads_pipeline_tests.buffer.workbooks import Dated, write_ods, write_xlsb, write_xlsx

CSV = "email,first_name\nada@example.org,Ada\nbob@example.org,Bob\n"
FIXTURES = Path(__file__).parent / "fixtures"


def rows_of(file: LeadFile) -> list[tuple[int, dict[str, Any]]]:
    """Every row, which all must be readable."""
    rows = []
    for row in file.rows():
        assert not isinstance(row, BrokenRow), row.reason
        rows.append((row.line, dict(values_of(row, file.columns))))
    return rows


def written(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


# --- workbooks -------------------------------------------------------------------------------------------------------


def test_a_sheet_keeps_whole_numbers_whole_and_its_dates_are_iso(tmp_path: Path) -> None:
    path = write_xlsx(
        tmp_path / "people.xlsx",
        {
            "Notes": [],
            "Leads": [
                [None],
                ["email", "phone", "dob", "seen", "score", "vip"],
                ["zoë@example.org", 43123456789, Dated(29000), Dated(45000.75, with_time=True), 1.5, True],
                [],
                ["b@example.org", 4.3123456789e10, None, Dated(45000.0, with_time=True), 7.0, False],
            ],
        },
    )
    file = open_lead_file(path)
    assert file.columns == ("email", "phone", "dob", "seen", "score", "vip")
    assert rows_of(file) == [
        (
            3,
            {
                "email": "zoë@example.org",
                "phone": 43123456789,
                "dob": "1979-05-25",
                "seen": "2023-03-15T18:00:00",
                "score": 1.5,
                "vip": True,
            },
        ),
        (5, {"email": "b@example.org", "phone": 43123456789, "seen": "2023-03-15", "score": 7, "vip": False}),
    ]
    assert all(type(values["phone"]) is int for _line, values in rows_of(file))


def test_the_sheet_is_the_first_with_a_row_or_the_one_that_is_named_or_counted(tmp_path: Path) -> None:
    path = write_xlsx(
        tmp_path / "book.xlsx",
        {"Empty": [], "One": [["mail"], ["a"]], "2024": [["mail"], ["b"]], "4": [["mail"], ["c"]]},
    )

    def read(sheet: str | None) -> Any:
        return rows_of(open_lead_file(path, sheet=sheet))[0][1]["mail"]

    assert [read(sheet) for sheet in (None, "One", "2", "2024", "3", "4")] == ["a", "a", "a", "b", "b", "c"]
    assert "not read: Empty, 2024, 4" in open_lead_file(path).notes[0]
    with pytest.raises(ImportFileError, match=r"no sheet 'Two'; it has: Empty, One, 2024, 4"):
        open_lead_file(path, sheet="Two")
    with pytest.raises(ImportFileError, match="the sheet 'Empty' is empty"):
        open_lead_file(path, sheet="Empty")
    with pytest.raises(ImportFileError, match="--sheet is for excel"):
        open_lead_file(written(tmp_path / "people.csv", CSV), sheet="1")


def test_a_cell_without_a_column_is_a_broken_row(tmp_path: Path) -> None:
    path = write_xlsx(tmp_path / "book.xlsx", {"S": [["email", "name"], ["a", "b", "stray"], ["c", "d"]]})
    broken, good = open_lead_file(path).rows()
    assert isinstance(broken, BrokenRow)
    assert "to the right of the 2 columns" in broken.reason
    assert not isinstance(good, BrokenRow)


def test_open_document_and_old_and_binary_excel_are_read_too(tmp_path: Path) -> None:
    xlsb = write_xlsb(tmp_path / "people.xlsb", [["email", "phone"], ["ada@example.org", 43123456789.0]])
    assert rows_of(open_lead_file(xlsb)) == [(2, {"email": "ada@example.org", "phone": 43123456789})]
    ods = write_ods(tmp_path / "people.ods", [["email", "phone"], ["ada@example.org", 43123456789]])
    assert rows_of(open_lead_file(ods)) == [(2, {"email": "ada@example.org", "phone": 43123456789})]
    xls = open_lead_file(FIXTURES / "people.xls")
    assert rows_of(xls) == [(2, {"email": "zoë@example.org", "phone": 43123456789, "dob": "1979-05-25"})]


@pytest.mark.parametrize("place", ["XFD1048576", "CV1048576"])
def test_a_cell_at_the_end_of_the_world_does_not_take_all_memory(tmp_path: Path, place: str) -> None:
    path = write_xlsx(tmp_path / "far.xlsx", {"S": [["email"], ["a@example.org"]]}, far=place)
    with pytest.raises(ImportFileError, match=r"far\.xlsx spans more than 100,000,000 cells"):
        open_lead_file(path)


def test_a_workbook_without_its_ending_is_known_by_its_content(tmp_path: Path) -> None:
    path = write_xlsx(tmp_path / "upload", {"S": [["email"], ["a@example.org"]]})
    assert open_lead_file(path).kind == "workbook"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.xlsx", b"PK\x03\x04rest", "cannot be read as a workbook"),
        ("a.xls", b"\xd0\xcf\x11\xe0rest", "cannot be read as a workbook"),
        ("a.zip", b"PK\x03\x04rest", "is a ZIP archive"),
        ("a.xlsx", b"email\na@example.org\n", "named like a workbook"),
        ("a.csv", bytes(range(256)) * 40, "is not text"),
        ("a.csv.gz", b"\x1f\x8bjunkjunkjunk", "cannot be unpacked"),
        ("a.csv.gz", gzip.compress(CSV.encode() * 5, mtime=0)[:-20], "breaks off in the middle of its gzip data"),
        ("a.csv.gz", gzip.compress(b"", mtime=0), "is empty"),
        ("a.csv", b"\xfd7zXZ\x00", "unxz"),
        ("a.json", b'[{"email": "a"} {"email": "b"}]', "behind element 1"),
        ("a.json", b'[{"email": "a"}, {"email"', "element 2 of its array is not valid JSON"),
        ("a.json", b"[]", "no JSON object in its array"),
        ("a.json", b'[{"email": "a"}] x', "goes on behind"),
        ("a.json", b'[{"email": "\xff"}]', "not UTF-8"),
    ],
)
def test_what_cannot_be_read_is_refused_with_what_to_do(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    with pytest.raises(ImportFileError, match=message):
        rows_of(file := open_lead_file(written(tmp_path / name, content))), file.columns


# --- gzip, JSON ------------------------------------------------------------------------------------------------------


def test_every_kind_may_be_packed_with_gzip_whatever_it_is_called(tmp_path: Path) -> None:
    xlsx = write_xlsx(tmp_path / "a.xlsx", {"S": [["email", "first_name"], ["ada@example.org", "Ada"]]})
    parquet = tmp_path / "a.parquet"
    duckdb.sql(f"copy (select 'ada@example.org' as email, 'Ada' as first_name) to '{parquet}' (format parquet)")
    ndjson = b'{"email": "ada@example.org", "first_name": "Ada"}\n'
    contents = {
        "CSV": CSV.encode(),
        "NDJSON": ndjson,
        "JSON": b"[" + ndjson + b"]",
        "workbook": xlsx.read_bytes(),
        "Parquet": parquet.read_bytes(),
    }
    for kind, content in contents.items():
        file = open_lead_file(written(tmp_path / "upload", gzip.compress(content)))
        assert file.kind == kind
        assert rows_of(file)[0][1] == {"email": "ada@example.org", "first_name": "Ada"}


def test_a_json_array_is_read_piece_by_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    leads = [{"email": f"{number}@example.org", "note": "[ü, {\n} ]"} for number in range(200)]
    path = written(tmp_path / "people.json", "\ufeff" + json.dumps(leads, indent=2, ensure_ascii=False))
    for block in (1, 7, 100_000):
        monkeypatch.setattr("leads_pipeline.buffer.files.ndjson._BLOCK_BYTES", block)
        assert rows_of(open_lead_file(path)) == list(enumerate(leads, start=1))


def test_an_element_that_is_no_lead_costs_only_itself(tmp_path: Path) -> None:
    path = written(tmp_path / "people.json", '[{"email": "a"}, 7, {"email": NaN}, {"email":\n"b"}, {"phone": ["x"]}]')
    rows = list(open_lead_file(path).rows())
    assert [row.line for row in rows if isinstance(row, BrokenRow)] == [2, 3, 5]
    assert all(b"\n" not in row.raw for row in rows if isinstance(row, BrokenRow))


def test_a_name_that_looks_like_a_pattern_is_that_file_and_no_other(tmp_path: Path) -> None:
    for name in ("written", "people1", "people[1]"):
        path = tmp_path / "written.parquet"
        duckdb.sql(f"copy (select '{name}' as first_name) to '{path}' (format parquet)")
        path.rename(tmp_path / f"{name}.parquet")
    [row] = open_lead_file(tmp_path / "people[1].parquet").rows()
    assert isinstance(row, FileRow)
    assert row.values == {"first_name": "people[1]"}


def test_a_person_may_say_what_the_file_is(tmp_path: Path) -> None:
    path = written(tmp_path / "upload.txt", "email\tfirst,name\nada@example.org\tA,B\n")
    assert open_lead_file(path, file_format="tsv").columns == ("email", "first,name")
    with pytest.raises(ImportFileError, match="cannot be read as Parquet"):
        open_lead_file(path, file_format="parquet")


# --- CSV -------------------------------------------------------------------------------------------------------------

_CELLS = st.text(st.sampled_from("ab,;\"' \n\ré日"), max_size=6)


@given(rows=st.lists(st.lists(_CELLS, min_size=3, max_size=3), max_size=8))
def test_what_a_csv_writer_wrote_is_read_as_it_was(rows: list[list[str]], tmp_path_factory: Any) -> None:
    import csv
    import io

    out = io.StringIO(newline="")
    writer = csv.writer(out, quoting=csv.QUOTE_ALL)
    writer.writerow(["email", "first", "second"])
    writer.writerows(rows)
    path = written(tmp_path_factory.getbasetemp() / "round.csv", out.getvalue())
    expected = [dict(zip(("email", "first", "second"), row, strict=True)) for row in rows]
    found = [values for _line, values in rows_of(open_lead_file(path, file_format="csv"))]
    assert found == [{name: cell for name, cell in row.items() if cell} for row in expected]


@given(
    lines=st.lists(
        st.sampled_from(["a,b", "a", 'a,"b', 'b",c', '"a,b"', 'a,"b"x', '"a\n', "", 'a,""', "é,b"]), max_size=12
    )
)
def test_the_quick_way_reads_what_the_careful_one_reads(lines: list[str], tmp_path_factory: Any) -> None:
    path = written(tmp_path_factory.getbasetemp() / "lines.csv", "first,second\n" + "\n".join(lines) + "\n")
    file = CsvFile(Content.of(path), delimiter=",")
    careful = _carefully(path, width=2)
    found = [(row.line, None if isinstance(row, BrokenRow) else row.cells) for row in file.rows()]  # type: ignore[union-attr]
    assert found == careful


def _carefully(path: Path, *, width: int) -> list[tuple[int, list[str] | None]]:
    """Record by record: the first line, then as many more as close its quotes; else one broken line."""
    import csv
    import io

    lines = list(io.StringIO(path.read_text(), newline=""))
    found: list[tuple[int, list[str] | None]] = []
    at = 1
    while at < len(lines):
        if not lines[at].strip():
            at += 1
            continue
        for end in range(at + 1, len(lines) + 1):
            try:
                records = list(csv.reader(["".join(lines[at:end])], strict=True))
            except csv.Error:
                continue
            if len(records) == 1 and len(records[0]) == width:
                found.append((at + 1, records[0]))
                at = end
                break
            found.append((at + 1, None))
            at += 1
            break
        else:
            found.append((at + 1, None))
            at += 1
    return found


def test_a_line_without_end_is_one_broken_row_and_does_not_fill_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(csv_text, "MAX_LINE_LETTERS", 1_000)
    path = written(tmp_path / "a.csv", CSV + "x" * 5_000 + "\neve@example.org,Eve\n")
    rows = list(open_lead_file(path).rows())
    assert [row.line for row in rows] == [2, 3, 4, 5]
    [broken] = [row for row in rows if isinstance(row, BrokenRow)]
    assert broken.reason == "is longer than 1,000 letters; its beginning is kept"
    assert len(broken.raw) == 1_000


def test_a_cell_that_is_too_long_is_named_as_that(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", CSV + "x" * 140_000 + ",y\n")
    assert [row.reason for row in open_lead_file(path).rows() if isinstance(row, BrokenRow)] == [
        "has a cell longer than 131,072 letters"
    ]


# --- encodings -------------------------------------------------------------------------------------------------------

NAMES = {
    "german": "Jörg Müller, Köln|Zoë Weiß, Düsseldorf|Größe und Straße",
    "french": "François Lefèvre, Orléans|Éloïse Benoît|Hélène Çelik, L’Haÿ-les-Roses",
    "spanish": "José Núñez, Málaga|Íñigo García, Logroño|María Peña",
    "portuguese": "João Conceição, São Paulo|Simões, Guimarães|Luís Antônio",
    "swedish": "Åsa Öberg, Göteborg|Björn Nyström, Malmö",
    "polish": "Wałęsa Łukasz, Łódź|Żółć Gęślą, Kraków|Michał Dąbrowski, Poznań",
    "czech": "Dvořák Jiří, Plzeň|Šárka Černá, České Budějovice|Tomáš Růžička, Třebíč",
    "hungarian": "Erdős Pál, Győr|Szűcs Ödön, Hódmezővásárhely",
    "turkish": "Ayşe Yılmaz, İstanbul|Çağrı Öztürk, Eskişehir",
    "russian": "Иванов Сергей, Москва|Екатерина Смирнова, Санкт-Петербург|Пётр Кузнецов",
    "greek": "Γιώργος Παπαδόπουλος, Αθήνα|Ελένη Νικολάου, Θεσσαλονίκη",
    "icelandic": "Þórður Jónsson, Reykjavík|Guðrún Ýr",
    "japanese": "山田太郎, 東京|佐藤花子, 大阪市北区",
    "chinese": "王小明, 北京|李雷, 上海市",
}
RECOGNISED = [
    ("german", "cp1252"), ("french", "cp1252"), ("spanish", "cp1252"), ("portuguese", "cp1252"), ("swedish", "cp1252"),
    ("polish", "cp1250"), ("polish", "iso8859_2"), ("czech", "cp1250"), ("czech", "iso8859_2"), ("hungarian", "cp1250"),
    ("turkish", "cp1254"), ("german", "cp850"), ("french", "mac_roman"), ("russian", "cp1251"), ("russian", "koi8_r"),
    ("greek", "cp1253"), ("chinese", "gb18030"),
]  # fmt: skip
NOT_TOLD_APART = [("icelandic", "cp1252"), ("german", "mac_roman"), ("japanese", "shift_jis"), ("russian", "cp866")]


@pytest.mark.parametrize(("language", "encoding"), RECOGNISED)
def test_names_in_an_old_encoding_are_read_right(tmp_path: Path, language: str, encoding: str) -> None:
    names = NAMES[language].split("|")
    body = "email;name\n" + "".join(f"{n}@example.org;{name}\n" for n, name in enumerate(names))
    file = open_lead_file(written(tmp_path / "a.csv", body.encode(encoding)))
    assert [values["name"] for _line, values in rows_of(file)] == names
    assert "is assumed" in file.notes[0]
    assert names[0] in file.notes[1]


@pytest.mark.parametrize(("language", "encoding"), NOT_TOLD_APART)
def test_an_encoding_that_is_not_certain_is_refused_and_can_be_named(
    tmp_path: Path, language: str, encoding: str
) -> None:
    names = NAMES[language].split("|")
    path = written(tmp_path / "a.csv", ("email;name\n" + "".join(f"x;{name}\n" for name in names)).encode(encoding))
    with pytest.raises(ImportFileError, match="--encoding"):
        open_lead_file(path)
    assert [values["name"] for _line, values in rows_of(open_lead_file(path, encoding=encoding))] == names


@pytest.mark.parametrize("encoding", [encoding for _language, encoding in RECOGNISED])
@pytest.mark.parametrize("language", NAMES)
def test_no_guess_is_a_wrong_one(language: str, encoding: str) -> None:
    try:
        text = NAMES[language].replace("|", "\n").encode(encoding)
    except UnicodeEncodeError:
        return  # the encoding has not these letters: nobody wrote such a file
    try:
        guessed = likely_encoding("a.csv", text)
    except ImportFileError:
        return
    assert text.decode(guessed.name) == text.decode(encoding)


def test_the_letters_decide_however_far_into_the_file_they_stand(tmp_path: Path) -> None:
    body = (
        CSV.encode()
        + b"plain@example.org,Plain\n" * 60_000
        + "z@example.org,Zoë\nj@example.org,Jörg\n".encode("cp1252")
    )
    file = open_lead_file(written(tmp_path / "a.csv", body))
    assert [values["first_name"] for _line, values in rows_of(file)][-2:] == ["Zoë", "Jörg"]


def test_utf16_without_a_mark_and_utf8_with_letters_to_look_at(tmp_path: Path) -> None:
    body = "email,name\nada@example.org,Zoë\n"
    for encoding in ("utf_16_le", "utf_16_be"):
        file = open_lead_file(written(tmp_path / "a.csv", body.encode(encoding)))
        assert rows_of(file)[0][1]["name"] == "Zoë"
        assert "UTF-16 is assumed" in file.notes[0]
    assert open_lead_file(written(tmp_path / "b.csv", body)).notes == ("letters to look at: Zoë",)


def test_a_named_encoding_goes_before_what_is_found(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", "email,name\nada@example.org,Zoë\n".encode("cp1252"))
    assert rows_of(open_lead_file(path, encoding="Latin-1"))[0][1]["name"] == "Zoë"
    with pytest.raises(ImportFileError, match="no encoding 'klingon'; usual ones: utf-8"):
        open_lead_file(path, encoding="klingon")
    with pytest.raises(ImportFileError, match="no encoding 'rot13'"):
        open_lead_file(path, encoding="rot13")
    broken = list(open_lead_file(path, encoding="utf-8").rows())
    assert isinstance(broken[0], BrokenRow)
    assert broken[0].reason == "is not UTF-8 text"
