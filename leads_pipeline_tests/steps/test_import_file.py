"""Files of leads: what is read, what is refused by itself, and that importing again doubles nothing."""

import gzip
import json
from pathlib import Path
from typing import Any

import duckdb
import pytest
import sqlalchemy as sa
from click.testing import CliRunner

from leads_pipeline.buffer.files.leads import mapping_of, read_leads, read_map_file
from leads_pipeline.clock import FrozenClock
from leads_pipeline.config import DATABASE_URL_VARIABLE, Settings
from leads_pipeline.domain.import_mapping import map_columns
from leads_pipeline.errors import ImportFileError, NotFound
from leads_pipeline.steps.import_file import ImportSummary, ImportWatcher, import_file
from leads_pipeline_tests.conftest import LEADS_YAML, NOW

HEADER = "email,first_name,surname\n"


class Importer:
    """Imports into acme's ``import`` source."""

    def __init__(self, engine: sa.Engine, settings: Settings, clock: FrozenClock, directory: Path) -> None:
        self.engine = engine
        self.settings = settings
        self.clock = clock
        self.directory = directory

    def file(self, name: str, content: str | bytes) -> Path:
        path = self.directory / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def run(self, path: Path, **options: Any) -> ImportSummary:
        parts: dict[str, Any] = {"settings": self.settings, "tenant": "acme", "source": "import", "clock": self.clock}
        return import_file(self.engine, path, **{**parts, **options})

    def buffered(self) -> list[Any]:
        with self.engine.connect() as connection:
            return list(connection.execute(sa.text("select * from buffer order by (context ->> 'row')::int")))

    def emails(self) -> list[str]:
        return [row.payload.get("email") for row in self.buffered()]


@pytest.fixture
def importer(engine: sa.Engine, settings: Settings, clock: FrozenClock, tmp_path: Path) -> Importer:
    return Importer(engine, settings, clock, tmp_path)


def counted(summary: ImportSummary) -> tuple[int, int, int, int]:
    return summary.rows, summary.accepted, summary.duplicates, summary.rejected


def test_a_csv_becomes_leads_with_their_line_and_importing_it_again_doubles_nothing(importer: Importer) -> None:
    path = importer.file("people.csv", HEADER + "ada@example.org,Ada,Lovelace\nbob@example.org,,\n")
    assert counted(importer.run(path)) == (2, 2, 0, 0)
    ada, bob = importer.buffered()
    assert ada.payload == {"email": "ada@example.org", "first_name": "Ada", "last_name": "Lovelace"}
    assert bob.payload == {"email": "bob@example.org"}
    assert (ada.tenant, ada.source, ada.lane, ada.received_at) == ("acme", "import", "batch", NOW)
    assert [row.context for row in (ada, bob)] == [{"row": 2}, {"row": 3}]
    assert counted(importer.run(path, again=True)) == (2, 0, 2, 0)
    grown = importer.file("grown.csv", path.read_bytes() + b"eve@example.org,Eve,\n")
    assert counted(importer.run(grown)) == (3, 1, 2, 0)
    assert len(importer.buffered()) == 3


def test_a_file_larger_than_a_commit_is_imported_whole(importer: Importer) -> None:
    lines = "".join(f"lead{number}@example.org,N,M\n" for number in range(12_345))
    progress: list[tuple[int, int]] = []
    path = importer.file("many.csv", HEADER + lines)
    summary = importer.run(path, watcher=ImportWatcher(progress=lambda done, total: progress.append((done, total))))
    assert counted(summary) == (12_345, 12_345, 0, 0)
    assert len(importer.buffered()) == 12_345
    assert progress[-1] == (path.stat().st_size, path.stat().st_size)
    assert progress == sorted(progress)


BROKEN_ROWS = [
    ("bad@example.org,Too,Many,Cells", "has 4 cells, the header has 3"),
    ("bad@example.org,Few", "has 2 cells, the header has 3"),
    ('bad@example.org,"Open,Quote', "has a quote that is opened and not closed"),
    ('"bad@example.org"x,Quote,Closed', "has a quote that is opened and not closed"),
    ("bad@example.org,N\x00l,Character", "U+0000"),
]


@pytest.mark.parametrize(("row", "reason"), BROKEN_ROWS)
def test_a_broken_row_is_named_by_its_line_and_kept_and_the_rest_is_imported(
    importer: Importer, row: str, reason: str
) -> None:
    before, after = "a@example.org,A,A\n", 'b@example.org,"B",B\n"c@example.org",C,C\n'
    summary = importer.run(importer.file("people.csv", HEADER + before + row + "\n" + after))
    assert counted(summary) == (4, 3, 0, 1)
    assert importer.emails() == ["a@example.org", "b@example.org", "c@example.org"]
    [(line, found)] = summary.broken
    assert line == 3
    assert reason in found
    assert "bad@example.org" not in found
    assert summary.rejected_file == importer.directory / "people.csv.rejected.csv"
    assert summary.rejected_file.read_text() == HEADER + row + "\n"
    assert summary.rejected_file.stat().st_mode & 0o777 == 0o600


def test_bytes_that_are_not_utf8_cost_their_row_and_are_kept_as_they_are(importer: Importer) -> None:
    body = HEADER.encode() + "a@example.org,Zoë,A\n".encode() + b"b@example.org,Zo\xeb,B\n" + b"c@example.org,C,C\n"
    summary = importer.run(importer.file("people.csv", body))
    assert counted(summary) == (3, 2, 0, 1)
    assert summary.broken == ((3, "is not UTF-8 text"),)
    assert summary.rejected_file is not None
    assert summary.rejected_file.read_bytes() == HEADER.encode() + b"b@example.org,Zo\xeb,B\n"


def test_the_error_file_can_be_mended_and_imported(importer: Importer) -> None:
    summary = importer.run(importer.file("people.csv", HEADER + "a@example.org,A,A\nb@example.org,B\n"))
    assert summary.rejected_file is not None
    mended = importer.file("mended.csv", summary.rejected_file.read_text().replace(",B\n", ",B,B\n"))
    assert counted(importer.run(mended)) == (1, 1, 0, 0)


def test_an_unclosed_quote_at_the_end_of_a_long_file_costs_one_row(importer: Importer) -> None:
    lines = [f"lead{number}@example.org,N,M\n" for number in range(1_000)]
    lines[500] = 'lead500@example.org,"N,M\n'
    summary = importer.run(importer.file("people.csv", HEADER + "".join(lines)))
    assert counted(summary) == (1_000, 999, 0, 1)
    assert summary.broken[0][0] == 502


def test_a_cell_may_hold_line_breaks_quotes_and_delimiters(importer: Importer) -> None:
    body = 'email,message\na@example.org,"one\ntwo ""quoted"", three"\nb@example.org,5" pipe\n\nc@example.org,last'
    assert counted(importer.run(importer.file("people.csv", body))) == (3, 3, 0, 0)
    assert [(row.context["row"], row.payload["message"]) for row in importer.buffered()] == [
        (2, 'one\ntwo "quoted", three'),
        (4, '5" pipe'),
        (6, "last"),
    ]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_dialects_are_found_out(importer: Importer, delimiter: str, encoding: str, ending: str) -> None:
    rows = [["email", "first_name", "company"], ["zoë@example.org", "Zoë", "A. & B."], ["b@example.org", "B", "日本"]]
    path = importer.file("people.csv", ending.join(delimiter.join(row) for row in rows).encode(encoding))
    assert counted(importer.run(path)) == (2, 2, 0, 0)
    assert importer.buffered()[1].payload == {"email": "b@example.org", "first_name": "B", "company": "日本"}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("people.csv", b"", "is empty"),
        ("people.csv", b"ada@example.org,Ada\nbob@example.org,Bob\n", "column names"),
        ("people.csv", b"\x28\xb5\x2f\xfdrest", "unzstd"),
        ("people.xlsx", b"PK\x03\x04rest", "save the sheet as CSV"),
        ("people.parquet", b"PAR1 but not really", "cannot be read as Parquet"),
        ("people.parquet", b"email\na@example.org\n", "named like Parquet"),
        ("people.ndjson", b"{}\n{broken\n", "no line that is a JSON object"),
    ],
)
def test_a_file_that_is_no_list_of_leads_is_refused_with_what_to_do(
    importer: Importer, name: str, content: bytes, message: str
) -> None:
    with pytest.raises(ImportFileError, match=message):
        importer.run(importer.file(name, content))


def test_a_missing_file_and_an_unknown_source_say_so(importer: Importer) -> None:
    with pytest.raises(ImportFileError, match="No such file"):
        importer.run(importer.directory / "nowhere.csv")
    with pytest.raises(NotFound, match="carrier_pigeon"):
        importer.run(importer.file("people.csv", HEADER), source="carrier_pigeon")


def test_ndjson_rows_are_judged_one_by_one(importer: Importer) -> None:
    lines = [
        b'{"email": "a@example.org", "score": 1.5, "consent": {"granted": true}}',
        b'{"email": ',
        b"",
        b'{"email": "x\\u0000"}',
        b'"just a string"',
        b'{"email": ["b@example.org", "c@example.org"], "tags": ["x", "y"]}',
        b'{"work email": "d@example.org", "name": {"first": "Dora", "last": "D"}}',
    ]
    summary = importer.run(importer.file("people.jsonl", b"\n".join(lines)))
    assert counted(summary) == (6, 2, 0, 4)
    assert [line for line, _reason in summary.broken] == [2, 4, 5, 6]
    a, d = importer.buffered()
    assert (a.payload, a.consent) == ({"email": "a@example.org", "score": 1.5}, [{"granted": True}])
    assert d.payload == {"email": "d@example.org", "first_name": "Dora", "last_name": "D"}
    assert summary.rejected_file is not None
    assert summary.rejected_file.name == "people.jsonl.rejected.ndjson"
    assert summary.rejected_file.read_bytes() == b"\n".join([lines[1], lines[3], lines[4], lines[5]]) + b"\n"


def test_nested_objects_become_columns_that_map_themselves(importer: Importer) -> None:
    record = {
        "RECORD_ID": "7",
        "FEATURES": [
            {"NAME_LAST": "Smith", "NAME_FIRST": "Bob"},
            {"NAME_LAST": "Smythe"},
            {"EMAIL_ADDRESS": "bob@example.org"},
            {"ADDR_CITY": "Las Vegas", "ADDR_TYPE": "HOME"},
        ],
    }
    importer.run(importer.file("records.jsonl", json.dumps(record)))
    assert importer.buffered()[0].payload == {
        "last_name": "Smith",
        "first_name": "Bob",
        "email": "bob@example.org",
        "city": "Las Vegas",
        "RECORD_ID": "7",
        "FEATURES.NAME_LAST.2": "Smythe",
        "FEATURES.ADDR_TYPE": "HOME",
    }


def test_parquet_is_read_with_its_types(importer: Importer) -> None:
    path = importer.directory / "people.parquet"
    duckdb.sql(
        f"""
        copy (
            select 'ada@example.org' as email, date '1815-12-10' as dob, 1.25::decimal(9, 2) as amount, 7 as visits,
                'nan'::double as score, true as opt_in, ['x', 'y'] as tags, null::varchar as phone
            union all select null, null, null, null, null, null, null, '+43 1 234'
        ) to '{path}' (format parquet)
        """
    )
    assert counted(importer.run(path)) == (2, 2, 0, 0)
    ada, other = importer.buffered()
    assert ada.payload == {
        "email": "ada@example.org",
        "date_of_birth": "1815-12-10",
        "amount": "1.25",
        "visits": 7,
        "tags": ["x", "y"],
    }
    assert [statement["granted"] for statement in ada.consent] == [True]
    assert (other.payload, other.consent, other.context) == ({"phone": "+43 1 234"}, [], {"row": 2})
    assert counted(importer.run(path, again=True)) == (2, 0, 2, 0)


@pytest.mark.parametrize("kind", ["parquet", "json", "ndjson.gz"])
def test_rejected_rows_of_other_kinds_become_lines_of_json_that_can_be_mended(importer: Importer, kind: str) -> None:
    path = importer.directory / f"people.{kind}"
    rows = [{"email": "a@example.org", "n": 1}, {"email": True, "n": 2}]
    if kind == "parquet":
        duckdb.sql(
            f"copy (select * from (values ('a@example.org', ['x']), (null, ['y', chr(0)])) t(email, tags)) "
            f"to '{path}' (format parquet)"
        )
    elif kind == "json":
        path.write_text(json.dumps(rows, indent=2))
    else:
        path.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))
    summary = importer.run(path)
    assert counted(summary) == (2, 1, 0, 1)
    assert summary.rejected_file == importer.directory / f"people.{kind}.rejected.ndjson"
    [line] = summary.rejected_file.read_text().splitlines()
    rejected = json.loads(line)
    if kind == "parquet":
        assert rejected == {"tags": ["y", "\x00"], "rejected_because": "holds the character U+0000"}
    rejected["email"] = "b@example.org"
    rejected.pop("tags", None)
    mended = importer.file("mended.ndjson", json.dumps(rejected))
    assert counted(importer.run(mended)) == (1, 1, 0, 0)
    assert all("rejected_because" not in row.payload for row in importer.buffered())


def test_an_error_file_that_cannot_be_written_stops_the_import(importer: Importer) -> None:
    path = importer.file("people.csv", HEADER + "broken\n")
    with pytest.raises(ImportFileError, match="--rejected"):
        importer.run(path, rejected_file=importer.directory / "missing" / "rejected.csv")
    with pytest.raises(ImportFileError, match="its own error file"):
        importer.run(path, rejected_file=path)
    assert path.read_text() == HEADER + "broken\n"


def test_years_may_be_column_names(importer: Importer) -> None:
    importer.run(importer.file("people.csv", "email,2025,2026\na@example.org,1,2\n"))
    assert importer.buffered()[0].payload == {"email": "a@example.org", "2025": "1", "2026": "2"}


def test_read_leads_yields_lines_fields_and_consent(importer: Importer) -> None:
    path = importer.file("people.csv", "mail,newsletter,cluster\na@example.org,yes,7\nbroken\nb@example.org,,8\n")
    broken: list[int] = []
    leads = list(read_leads(path, mapping_of(path), on_broken=lambda row: broken.append(row.line)))
    assert [(lead.line, lead.payload) for lead in leads] == [
        (2, {"email": "a@example.org", "cluster": "7"}),
        (4, {"email": "b@example.org", "cluster": "8"}),
    ]
    assert [[statement["channel"] for statement in lead.consent] for lead in leads] == [["email"], []]
    assert broken == [3]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- email", "one line 'column: field'"),
        ("mail: [email]", "one line 'column: field'"),
        ("mail: {", "cannot read the column map"),
    ],
)
def test_a_map_that_is_no_map_is_refused(importer: Importer, text: str, message: str) -> None:
    with pytest.raises(ImportFileError, match=message):
        read_map_file(importer.file("map.yaml", text))


def test_the_command_prints_the_mapping_the_counts_and_the_broken_lines(
    importer: Importer, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from leads_pipeline.cli import cli

    monkeypatch.setenv(DATABASE_URL_VARIABLE, database_url)
    monkeypatch.setenv("COLUMNS", "160")
    config = importer.file("leads.yaml", LEADS_YAML)
    path = importer.file("people.csv", "dob,mail,date_of_birth\n1815-12-10,a@example.org,\nbroken\n")
    own = importer.file("map.yaml", "mail: external_id\n")
    arguments = [
        "--config",
        str(config),
        "import",
        str(path),
        "--source",
        "import",
        "--map",
        str(own),
        "--tenant",
        "acme",
    ]
    dry = CliRunner().invoke(cli, [*arguments, "--dry-run"])
    assert "would be stored                    1  0 valid, 1 that validation would set aside" in dry.output
    assert "nothing_identifying: 1" in dry.output
    assert importer.buffered() == []
    done = CliRunner().invoke(cli, arguments)
    assert done.exit_code == 0, done.output
    assert "only where date_of_birth is empty" in done.output
    assert "the map says so" in done.output
    assert "1 accepted, 0 duplicates" in done.output
    assert "line 3: has 1 cells, the header has 3" in done.output
    assert importer.buffered()[0].payload == {"external_id": "a@example.org", "date_of_birth": "1815-12-10"}
    unknown = CliRunner().invoke(cli, [*arguments[:4], "--source", "nowhere", "--tenant", "acme"])
    assert unknown.exit_code == 2
    assert "it has: website, webinar, import" in unknown.output


def test_a_map_that_does_not_fit_names_every_fault() -> None:
    with pytest.raises(ImportFileError, match=r"no column 'mial'.*no field 'e_mail'"):
        map_columns(["mail"], {"mial": "email", "mail": "e_mail"})
