"""A dry run: what an import would do, and that it does nothing."""

from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from click.testing import CliRunner

from leads_pipeline.buffer.files.leads import mapping_of
from leads_pipeline.buffer.files.opening import open_lead_file
from leads_pipeline.clock import FrozenClock
from leads_pipeline.config import DATABASE_URL_VARIABLE, Settings
from leads_pipeline.steps import import_check
from leads_pipeline.steps.import_check import ImportCheck, check_file
from leads_pipeline.steps.import_file import import_file
from leads_pipeline_tests.buffer.workbooks import write_xlsx
from leads_pipeline_tests.conftest import LEADS_YAML, NOW

HEADER = "email,first_name,surname\n"
ROWS = (
    HEADER
    + "ada@example.org,Ada,Lovelace\n"
    + "not an address,,\n"
    + "ada@example.org,Ada,Lovelace\n"
    + "broken\n"
    + "eve@example.org,Eve,\n"
)


def check(path: Path, **options: Any) -> ImportCheck:
    file = open_lead_file(path)
    parts: dict[str, Any] = {"tenant": "acme", "source": "import", "country": "US", "today": NOW.date()}
    return check_file(file, mapping=mapping_of(file), **{**parts, **options})


@pytest.fixture
def people(tmp_path: Path) -> Path:
    path = tmp_path / "people.csv"
    path.write_text(ROWS)
    return path


@pytest.mark.parametrize("at_once", [1, 2, 5_000])
def test_every_row_is_counted_once_and_validation_says_why_it_would_set_leads_aside(
    people: Path, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_check, "_ROWS_AT_ONCE", at_once)
    found = check(people)
    assert (found.rows, found.new, found.repeated, found.known, found.rejected) == (5, 3, 1, None, 1)
    assert (found.valid, found.invalid) == (2, 1)
    assert dict(found.reasons) == {"nothing_identifying": 1, "email_invalid": 1}
    assert found.broken == ((5, "has 1 cells, the header has 3"),)


def test_leads_that_came_before_are_known_and_what_it_says_comes_true(
    people: Path, engine: sa.Engine, settings: Settings, clock: FrozenClock, tmp_path: Path
) -> None:
    earlier = tmp_path / "earlier.csv"
    earlier.write_text(HEADER + "eve@example.org,Eve,\n")
    parts: dict[str, Any] = {"settings": settings, "tenant": "acme", "source": "import", "clock": clock}
    import_file(engine, earlier, **parts)
    found = check(people, engine=engine)
    assert (found.rows, found.new, found.repeated, found.known, found.rejected) == (5, 2, 1, 1, 1)
    assert check(people, engine=engine, source="website").known == 0
    with engine.connect() as connection:
        assert connection.execute(sa.text("select count(*) from import_progress")).scalar() == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["earlier.csv", "people.csv"]
    done = import_file(engine, people, **parts)
    assert (done.accepted, done.duplicates, done.rejected) == (found.new, 2, found.rejected)


class Command:
    """``leads import`` in a directory of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        (directory / "leads.yaml").write_text(LEADS_YAML)

    def run(self, *arguments: str, stdin: bytes = b"", exit_code: int = 0) -> str:
        from leads_pipeline.cli import cli

        line = ["--config", str(self.directory / "leads.yaml"), "import", "--tenant", "acme", "--source", "import"]
        done = CliRunner().invoke(cli, [*line, *arguments], input=stdin)
        assert done.exit_code == exit_code, done.output
        return done.output


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.chdir(tmp_path)
    return Command(tmp_path)


def test_without_a_database_a_dry_run_makes_none_and_says_that_only_the_file_was_looked_at(
    command: Command, people: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(DATABASE_URL_VARIABLE, raising=False)
    output = command.run(str(people), "--dry-run")
    assert "would be stored                    3  2 valid, 1 that validation would set aside" in output
    assert "known from before                  ?  not looked up: there is no database yet" in output
    assert "email_invalid: 1" in output
    assert sorted(path.name for path in command.directory.iterdir()) == ["leads.yaml", "people.csv"]
    monkeypatch.setenv(DATABASE_URL_VARIABLE, "postgresql://nobody:secret@127.0.0.1:1/none")
    unreachable = command.run(str(people), "--dry-run")
    assert "not looked up: cannot connect" in unreachable
    assert "secret" not in unreachable


def test_what_was_assumed_about_a_file_is_printed_with_letters_to_look_at(command: Command, tmp_path: Path) -> None:
    path = tmp_path / "old.csv"
    path.write_bytes((HEADER + "a@example.org,Zoë,Müller\n").encode("cp1252"))
    output = command.run(str(path), "--dry-run")
    assert "encoding: Windows-1252 (western Europe) is assumed" in output
    assert "letters to look at: Zoë, Müller" in output
    assert "letters to look at: Zoл, Mьller" in command.run(str(path), "--dry-run", "--encoding", "windows-1251")


def test_standard_input_is_imported_and_its_broken_rows_are_kept_beside(
    command: Command, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(DATABASE_URL_VARIABLE, database_url)
    output = command.run("-", stdin=ROWS.encode())
    assert "5 rows: 3 accepted, 1 duplicates of leads that came before, 1 rejected" in output
    assert (command.directory / "stdin.rejected.csv").read_text() == HEADER + "broken\n"
    again = " ".join(command.run("-", stdin=ROWS.encode()).split())
    assert "standard input was imported to its end on" in again
    assert "--again reads it once more" in again
    assert "0 accepted, 4 duplicates" in command.run("-", "--again", stdin=ROWS.encode())


def test_rejected_rows_of_a_workbook_can_be_mended_and_imported(
    command: Command, engine: sa.Engine, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(DATABASE_URL_VARIABLE, database_url)
    path = write_xlsx(
        tmp_path / "book.xlsx",
        {"S": [["email", "phone"], ["a@example.org", 43123456789], [True, 43987654321], ["b@example.org", 1, "stray"]]},
    )
    assert "1 accepted, 0 duplicates of leads that came before, 2 rejected" in command.run(str(path)).replace("\n", " ")
    rejected = tmp_path / "book.xlsx.rejected.csv"
    assert rejected.read_text() == (
        "email,phone,rejected_because\n"
        'true,43987654321,"has a field of the wrong type: email must be a string or a number, not a boolean"\n'
        "b@example.org,1,stray,has a cell to the right of the 2 columns\n"
    )
    rejected.write_text(rejected.read_text().replace("true,", "c@example.org,").replace(",stray,", ","))
    assert "2 rows: 2 accepted, 0 duplicates" in command.run(str(rejected))
    with engine.connect() as connection:
        payloads = (
            connection.execute(sa.text("select payload from buffer order by payload ->> 'email'")).scalars().all()
        )
    assert payloads[2] == {"email": "c@example.org", "phone": "43987654321"}
    assert len(payloads) == 3


@pytest.mark.parametrize(
    ("arguments", "message", "exit_code"),
    [
        (("nowhere.csv",), "cannot read nowhere.csv: No such file", 1),
        (("/",), "cannot read /: Is a directory", 1),
        (("people.csv", "--encoding", "klingon"), "there is no encoding 'klingon'", 1),
        (("people.csv", "--rate", "0"), "0 is not in the range x>0", 2),
        (("s3://bucket/people.csv",), "Install s3fs", 1),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line(
    command: Command, people: Path, arguments: tuple[str, ...], message: str, exit_code: int, capsys: Any
) -> None:
    from leads_pipeline.cli import main

    with pytest.raises(SystemExit) as exited:
        main(["--config", "leads.yaml", "import", "--tenant", "acme", "--source", "import", *arguments])
    assert exited.value.code == exit_code
    assert message in capsys.readouterr().err
