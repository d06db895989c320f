"""An import that was killed goes on where it stopped: every row once, and the counts of a run that was not killed."""

import os
import signal
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from leads_pipeline.buffer.files.opening import open_lead_file
from leads_pipeline.buffer.files.rejected import RejectedFile
from leads_pipeline.buffer.files.rows import BrokenRow
from leads_pipeline.buffer.opening import open_lead_buffer
from leads_pipeline.clock import FrozenClock
from leads_pipeline.config import DATABASE_URL_VARIABLE, Settings, parse_settings
from leads_pipeline.domain.import_mapping import map_columns
from leads_pipeline.errors import DatabaseUnavailable, ImportFileError
from leads_pipeline.steps import import_file as step
from leads_pipeline.steps.import_file import ImportSummary, ImportWatcher, import_file
from leads_pipeline.storage.embedded import EmbeddedServer
from leads_pipeline_tests.conftest import LEADS_YAML, NOW
from leads_pipeline_tests.storage.sessions import sessions_end

SCRIPT = Path(__file__).parent / "import_and_die.py"
ROWS = 450


def write_people(path: Path) -> Path:
    """Of 450 rows every 7th is broken, and every 11th repeats the row before the last."""
    lines = ["email,first_name\n"]
    for number in range(ROWS):
        if number % 7 == 3:
            lines.append(f"broken{number}\n")
        elif number % 11 == 5:
            lines.append(lines[-2] if "," in lines[-2] else lines[-1])
        else:
            lines.append(f"{number}@example.org,N{number}\n")
    path.write_text("".join(lines))
    return path


class Imports:
    """Imports into acme's source ``import``, a hundred rows a commit."""

    def __init__(self, engine: sa.Engine, settings: Settings, clock: FrozenClock) -> None:
        self.engine = engine
        self.settings = settings
        self.clock = clock
        self.said: list[str] = []

    def run(self, path: Path, **options: Any) -> ImportSummary:
        parts: dict[str, Any] = {"settings": self.settings, "tenant": "acme", "source": "import", "clock": self.clock}
        parts["watcher"] = ImportWatcher(say=self.said.append)
        return import_file(self.engine, path, **{**parts, **options})

    def one(self, statement: str) -> Any:
        with self.engine.connect() as connection:
            return connection.execute(sa.text(statement)).scalar()


@pytest.fixture
def imports(engine: sa.Engine, settings: Settings, clock: FrozenClock, monkeypatch: pytest.MonkeyPatch) -> Imports:
    monkeypatch.setattr(step, "COMMIT_ROWS", 100)
    return Imports(engine, settings, clock)


@pytest.mark.chaos
@pytest.mark.parametrize(("group", "moment"), [(1, "before"), (3, "before"), (3, "after"), (5, "after")])
def test_a_killed_import_is_resumed_with_every_row_once_and_the_counts_of_one_run(
    imports: Imports, database_url: str, tmp_path: Path, group: int, moment: str
) -> None:
    config = tmp_path / "leads.yaml"
    config.write_text(LEADS_YAML)
    path = write_people(tmp_path / "people.csv")
    with sessions_end(imports.engine):
        died = subprocess.run(
            [sys.executable, str(SCRIPT), str(config), str(path), str(group), moment],
            env={**os.environ, DATABASE_URL_VARIABLE: database_url},
            capture_output=True,
            text=True,
            check=False,
        )
    assert died.returncode == -signal.SIGKILL, died.stderr
    settled = min(ROWS, 100 * (group if moment == "after" else group - 1))
    assert imports.one("select coalesce(sum(captured), 0) from capture_batches") == imports.one(
        "select count(*) from buffer"
    )
    resumed = imports.run(path)
    assert resumed.resumed_at == settled
    assert imports.said == ([f"resuming at row {settled + 1:,}; the rows before it are settled"] if settled else [])

    whole = write_people(tmp_path / "whole.csv")
    whole.write_text(whole.read_text() + "\n")  # another file to the import, with the same rows
    unbroken = imports.run(whole, tenant="globex", source="website")
    assert replace(resumed, resumed_at=0, broken=(), rejected_file=None) == replace(
        unbroken, broken=(), rejected_file=None
    )
    assert resumed.rejected_file is not None
    assert unbroken.rejected_file is not None
    assert resumed.rejected_file.read_text() == unbroken.rejected_file.read_text()
    of_tenant = "select string_agg(payload::text, ';' order by payload::text) from buffer where tenant = '{}'"
    assert imports.one(of_tenant.format("acme")) == imports.one(of_tenant.format("globex"))
    assert imports.one("select count(*) from buffer where tenant = 'acme'") == resumed.accepted


def test_a_finished_file_is_not_read_again_unless_it_is_asked_for(imports: Imports, tmp_path: Path) -> None:
    path = write_people(tmp_path / "people.csv")
    first = imports.run(path)
    assert first.finished_before is None
    again = imports.run(path)
    assert again == replace(first, finished_before=NOW, broken=())
    asked = imports.run(path, again=True)
    assert (asked.accepted, asked.duplicates, asked.rejected) == (0, first.accepted + first.duplicates, first.rejected)
    assert imports.run(path).duplicates == asked.duplicates


def test_another_mapping_source_or_sheet_makes_it_another_import(imports: Imports, tmp_path: Path) -> None:
    path = write_people(tmp_path / "people.csv")
    imports.run(path)
    other_map = map_columns(["email", "first_name"], {"first_name": "company"})
    assert imports.run(path, mapping=other_map).finished_before is None
    assert imports.run(path, source="website").finished_before is None
    renamed = path.rename(tmp_path / "renamed.csv")
    assert imports.run(renamed).finished_before == NOW


def test_two_imports_of_one_file_at_once_count_its_rows_once(imports: Imports, tmp_path: Path) -> None:
    path = write_people(tmp_path / "people.csv")
    others: list[ImportSummary] = []

    def overtake(_done: int, _total: int) -> None:
        if not others:
            others.append(imports.run(path, rejected_file=tmp_path / "other.csv"))

    with pytest.raises(ImportFileError, match="another import of the same file"):
        imports.run(path, watcher=ImportWatcher(progress=overtake))
    assert imports.one("select count(*) from buffer") == others[0].accepted
    assert imports.one("select accepted + duplicates + rejected from import_progress") == ROWS


def test_a_database_that_goes_away_leaves_an_import_that_can_be_resumed(
    imports: Imports, server: EmbeddedServer, database_url: str, tmp_path: Path
) -> None:
    path = write_people(tmp_path / "people.csv")

    def allow_connections(allowed: bool) -> None:
        base, _, name = database_url.rpartition("/")
        with psycopg.connect(f"{base}/postgres", autocommit=True) as connection:
            connection.execute(f"alter database {name} allow_connections {allowed}")

    def cut(_done: int, _total: int) -> None:
        imports.engine.dispose()
        allow_connections(False)

    with pytest.raises(DatabaseUnavailable):
        imports.run(path, watcher=ImportWatcher(progress=cut))
    allow_connections(True)
    resumed = imports.run(path)
    assert resumed.resumed_at == 100
    assert resumed.rows == ROWS
    assert imports.one("select count(*) from buffer") == resumed.accepted


def test_the_rate_is_kept_to(imports: Imports, tmp_path: Path) -> None:
    path = tmp_path / "people.csv"
    path.write_text("email\n" + "".join(f"{number}@example.org\n" for number in range(200)))
    began = imports.clock.monotonic()
    assert imports.run(path, rate=20).accepted == 200
    assert imports.clock.monotonic() - began == pytest.approx(9.0)  # the first group goes out at once
    assert imports.one("select count(*) from capture_batches") == 10


def test_an_import_waits_for_room_in_the_buffer_and_says_so(imports: Imports, tmp_path: Path) -> None:
    path = tmp_path / "people.csv"
    path.write_text("email\n" + "".join(f"{number}@example.org\n" for number in range(300)))
    text = LEADS_YAML + "buffer: {bounds: {max_leads: 150, min_free_disk_bytes: 0}}\n"
    settings = parse_settings(text, path=tmp_path / "leads.yaml")
    why: list[str | None] = []

    def make_room(_seconds: float) -> None:
        with imports.engine.begin() as connection:
            connection.execute(sa.text("delete from buffer"))

    def clock_moves_on(_rows: int) -> None:
        clock.advance(60)  # the buffer is measured at most every second

    clock = FrozenClock(NOW, on_sleep=make_room)
    watcher = ImportWatcher(waiting=why.append, rows=clock_moves_on)
    assert imports.run(path, settings=settings, clock=clock, watcher=watcher).accepted == 300
    assert any(sentence is not None and "of its bound" in sentence for sentence in why)
    assert why[-1] is None


# --- the error file --------------------------------------------------------------------------------------------------


def broken(number: int) -> BrokenRow:
    return BrokenRow(number, "is broken", f"row {number}\n".encode())


@pytest.mark.parametrize("torn", [0, 3, 6])
def test_rows_behind_the_last_commit_are_not_written_twice_to_the_error_file(tmp_path: Path, torn: int) -> None:
    path = tmp_path / "people.csv"
    path.write_text("email\n")
    file = open_lead_file(path)
    destination = tmp_path / "rejected.csv"
    with RejectedFile(file, destination) as rejects:
        rejects.add(broken(1))
        settled = rejects.settle()
        rejects.add(broken(2))
        rejects.add(broken(3))
    whole = destination.read_bytes()
    destination.write_bytes(whole[: len(whole) - torn])  # the kill came in the middle of a write
    with RejectedFile(file, destination, settled_bytes=settled) as rejects:
        for number in (2, 3, 4):
            rejects.add(broken(number))
        assert rejects.settle() == len(whole) + len(b"row 4\n")
    assert destination.read_text() == "email\nrow 1\nrow 2\nrow 3\nrow 4\n"


def test_an_error_file_that_was_taken_away_begins_anew_with_its_header(tmp_path: Path) -> None:
    path = tmp_path / "people.csv"
    path.write_text("email\n")
    destination = tmp_path / "rejected.csv"
    with RejectedFile(open_lead_file(path), destination, settled_bytes=500) as rejects:
        rejects.add(broken(9))
    assert destination.read_text() == "email\nrow 9\n"


# --- with the buffer in Redis ----------------------------------------------------------------------------------------


def test_into_redis_a_failure_between_the_two_stores_doubles_no_row(
    imports: Imports, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LEADS_TEST_REDIS", redis_url)
    text = LEADS_YAML + "buffer: {kind: redis, redis: {url: {env: LEADS_TEST_REDIS}}}\n"
    settings = parse_settings(text, path=tmp_path / "leads.yaml")
    path = write_people(tmp_path / "people.csv")

    class Gone(Exception):
        pass

    def fail_after_two_groups(connection: sa.Connection) -> None:
        position = connection.execute(sa.text("select max(position) from import_progress")).scalar()
        if position == 300:
            raise Gone

    sa.event.listen(imports.engine, "commit", fail_after_two_groups)
    with pytest.raises(Gone):
        imports.run(path, settings=settings)
    sa.event.remove(imports.engine, "commit", fail_after_two_groups)
    resumed = imports.run(path, settings=settings)
    assert resumed.resumed_at == 200
    assert resumed.rows == ROWS
    with closing(open_lead_buffer(settings, imports.engine)) as buffer, imports.engine.connect() as connection:
        waiting = sum(depth.waiting for depth in buffer.depths(connection))
    people = {line for line in path.read_text().splitlines()[1:] if "," in line}
    assert waiting == len(people)
    assert imports.one("select count(*) from buffer") == 0
    again = imports.run(path, settings=settings, again=True)
    assert (again.accepted, again.duplicates + again.rejected) == (0, ROWS)
