"""A file of any bytes under any name is read or refused in a sentence: nothing else, and no row goes missing."""

import gzip
import io
import json
import os
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from leads_pipeline.buffer.files.opening import open_lead_file
from leads_pipeline.buffer.files.rows import BrokenRow, Row
from leads_pipeline.errors import ImportFileError
from leads_pipeline_tests.buffer.workbooks import write_xlsx
from leads_pipeline_tests.chaos.wild_requests import POISON, json_bodies

pytestmark = [pytest.mark.chaos, pytest.mark.slow, pytest.mark.timeout(1800)]

EXAMPLES = int(os.environ.get("LEADS_FUZZ_EXAMPLES", "100"))
SUFFIXES = ("csv", "tsv", "txt", "ndjson", "jsonl", "json", "parquet", "xlsx", "xls", "ods", "csv.gz", "ndjson.gz", "")
ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "latin-1", "cp1252", "utf-32", "cp437", "shift_jis")

fuzzed = settings(
    max_examples=EXAMPLES,
    derandomize="LEADS_FUZZ_EXAMPLES" not in os.environ,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


def _workbook() -> bytes:
    with tempfile.TemporaryDirectory() as directory:
        rows = [["email", "name"], ["a@example.com", "Ada"], ["b@example.com", 1.5]]
        return write_xlsx(Path(directory) / "file.xlsx", {"Leads": rows}).read_bytes()


def _parquet() -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table({"email": ["a@example.com", "b@example.com"], "n": [1, None]}), sink)
    return sink.getvalue()


WHOLE = (
    _parquet(),
    _workbook(),
    gzip.compress(b"email,name\na@example.com,Ada\n"),
    b'email;name\n"a@example.com";"A ""quoted""\nname"\n',
    b'[{"email": "a@example.com"}, {"email": "b@example.com"}]',
)
cells = st.text(max_size=12) | st.sampled_from(["", '"', '""', "a@example.com", "\x00", "=1+1", "\r", "x" * 3_000])


@st.composite
def tables(draw: st.DrawFn) -> bytes:
    """Separated text, by rules that nobody keeps."""
    delimiter, end = draw(st.sampled_from(",;\t|")), draw(st.sampled_from(["\n", "\r\n", "\r", "\n\n"]))
    rows = draw(st.lists(st.lists(cells, max_size=5), min_size=1, max_size=8))
    lines = [delimiter.join(f'"{cell}"' if draw(st.booleans()) else cell for cell in row) for row in rows]
    text = end.join(["email,name".replace(",", delimiter), *lines])
    return text.encode(draw(st.sampled_from(ENCODINGS)), "replace")


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A file that was whole: cut short, with bytes changed, with bytes behind its end."""
    content = bytearray(draw(st.sampled_from(WHOLE)))
    for _change in range(draw(st.integers(0, 4))):
        content[draw(st.integers(0, len(content) - 1))] = draw(st.integers(0, 255))
    cut = draw(st.integers(0, len(content)) | st.just(len(content)))
    return bytes(content[:cut]) + draw(st.binary(max_size=10))


contents = tables() | damaged() | json_bodies | st.binary(max_size=400)
packed = contents | contents.map(gzip.compress) | contents.map(lambda content: gzip.compress(content)[:-4])


def read(path: Path) -> list[Row | BrokenRow] | None:
    """Every row, or ``None`` if the file was refused with a sentence about it."""
    try:
        file = open_lead_file(path)
        assert len(file.columns) > 0
        found = list(file.rows())
    except ImportFileError:
        return None
    for row in found:
        if not isinstance(row, BrokenRow):
            assert file.rejected(row, "of a test")
    return found


def test_a_file_of_any_bytes_under_any_name_is_read_or_refused(tmp_path: Path) -> None:
    seen = {"read": 0, "refused": 0}

    @fuzzed
    @given(content=packed, suffix=st.sampled_from(SUFFIXES))
    def try_to_read(content: bytes, suffix: str) -> None:
        path = tmp_path / f"file.{suffix}"
        path.write_bytes(content)
        seen["refused" if read(path) is None else "read"] += 1

    try_to_read()
    assert min(seen.values()) > EXAMPLES / 20, seen


def test_every_line_of_ndjson_is_a_row_or_a_broken_row(tmp_path: Path) -> None:
    @fuzzed
    @given(lines=st.lists(st.binary(max_size=60) | json_bodies | st.sampled_from(POISON), max_size=10))
    def count(lines: list[bytes]) -> None:
        sound = json.dumps({"email": "a@example.com"}).encode()
        lines = [sound, *(line.replace(b"\n", b" ").replace(b"\xef\xbb\xbf", b"") for line in lines)]
        path = tmp_path / "file.ndjson"
        path.write_bytes(b"\n".join(lines))
        rows = read(path)
        assert rows is not None
        assert len(rows) == sum(1 for line in lines if line.strip())

    count()


def test_every_line_of_plain_csv_is_a_row_or_a_broken_row(tmp_path: Path) -> None:
    letters = st.characters(codec="utf-8", exclude_categories=["Cc", "Zl", "Zp"], exclude_characters='",;\t|')
    plain = st.text(letters)

    @fuzzed
    @given(rows=st.lists(st.lists(plain.filter(str.strip), min_size=1, max_size=4), max_size=10))
    def count(rows: list[list[str]]) -> None:
        path = tmp_path / "file.csv"
        text = "\n".join(["email,name", "a@example.com,Ada", *(",".join(row) for row in rows)])
        path.write_text(text, encoding="utf-8")
        found = read(path)
        assert found is not None
        assert len(found) == 1 + len(rows)

    count()
