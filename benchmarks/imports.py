"""What `leads import` costs: a CSV file into the buffer, against a plain COPY of the same rows, in one run.

    python benchmarks/imports.py [--quick] [--rows N] [--json PATH]

The floor is `copy table from stdin` of the same file into a bare table of text columns: no key, no index, no JSON.
Copy and import are measured in turn; figures of one run are compared with each other only.
"""

import argparse
import csv
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil
import sqlalchemy as sa
from machine import describe_machine, write_results
from rich.console import Console
from rich.table import Table

from leads_pipeline.buffer.files.leads import mapping_of, read_leads
from leads_pipeline.clock import SystemClock
from leads_pipeline.config import Settings, parse_settings
from leads_pipeline.steps.import_file import import_file
from leads_pipeline.storage.database import engine_for
from leads_pipeline.storage.embedded import EmbeddedServer
from leads_pipeline.storage.migrate import upgrade
from leads_pipeline.synthetic import generate_leads

TENANT = "bench"
LEADS_YAML = f"""
version: 1
tenants:
  {TENANT}: {{sources: {{import: {{lane: batch}}}}}}
"""
COLUMNS = (
    "external_id", "email", "phone", "first_name", "last_name", "company", "city", "postcode", "country", "utm_source",
)  # fmt: skip
INVENTED = 5_000  # people; beyond that they come again with a number of their own
BLOCK = 1024 * 1024


@dataclass(frozen=True)
class Timing:
    """One pass over all rows."""

    seconds: float
    own_cpu_seconds: float
    database_cpu_seconds: float


def main() -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="50,000 rows, once")
    parser.add_argument("--rows", type=int, help="rows of the file; 1,000,000 unless told")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the figures to a file")
    arguments = parser.parse_args()
    rows = arguments.rows or (50_000 if arguments.quick else 1_000_000)
    with tempfile.TemporaryDirectory() as directory:
        results = measure(Path(directory), rows=rows, rounds=1 if arguments.quick else 2)
    show(results)
    if arguments.json:
        write_results(arguments.json, results)


def measure(directory: Path, *, rows: int, rounds: int) -> dict[str, Any]:
    """Copy and import the same file ``rounds`` times, each into an empty database."""
    path = directory / "leads.csv"
    write_csv(path, rows)
    settings = parse_settings(LEADS_YAML, path=directory / "leads.yaml")
    state = directory / "state"
    state.mkdir()
    server = EmbeddedServer(state)
    copies: list[Timing] = []
    imports: list[Timing] = []
    again: list[Timing] = []
    try:
        server.start()
        for number in range(rounds):
            engine = engine_for(server.drop_and_create_database(f"round_{number}"))
            try:
                upgrade(engine, now=SystemClock().now())
                copies.append(timed(server, lambda engine=engine: copy_plainly(engine, path)))
                imports.append(timed(server, lambda engine=engine: import_all(engine, path, settings, rows)))
                again.append(timed(server, lambda engine=engine: import_again(engine, path, settings, rows)))
            finally:
                engine.dispose()
        reading = timed(server, lambda: read_all(path))
    finally:
        server.remove()
    copied, imported, repeated = (
        rows / statistics.median(t.seconds for t in each) for each in (copies, imports, again)
    )
    return {
        "rows": rows,
        "file_bytes": path.stat().st_size,
        "copy_rows_per_s": round(copied),
        "import_rows_per_s": round(imported),
        "import_again_rows_per_s": round(repeated),
        "read_rows_per_s": round(rows / reading.seconds),
        "import_over_copy": round(imported / copied, 4),
        "copies": [asdict(timing) for timing in copies],
        "imports": [asdict(timing) for timing in imports],
        "imports_again": [asdict(timing) for timing in again],
    }


def write_csv(path: Path, rows: int) -> None:
    """A file of ``rows`` different leads."""
    people = [lead.payload for lead in generate_leads(min(rows, INVENTED), seed=7)]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for number in range(rows):
            person = people[number % len(people)]
            cells = [str(person.get(column, "")) for column in COLUMNS]
            writer.writerow([f"crm-{number}", f"{number}.{cells[1] or 'nobody@example.org'}", *cells[2:]])


def copy_plainly(engine: sa.Engine, path: Path) -> None:
    """The floor."""
    columns = ", ".join(f"{column} text" for column in COLUMNS)
    with engine.begin() as connection:
        connection.exec_driver_sql(f"create table bare ({columns})")
        driver = connection.connection.driver_connection
        assert driver is not None
        with (
            driver.cursor().copy("copy bare from stdin (format csv, header)") as copy,
            path.open("rb") as file,
        ):
            while block := file.read(BLOCK):
                copy.write(block)


def import_all(engine: sa.Engine, path: Path, settings: Settings, rows: int) -> None:
    """The import; every row must be a new lead."""
    summary = import_file(engine, path, settings=settings, tenant=TENANT, source="import", clock=SystemClock())
    if summary.accepted != rows:
        raise SystemExit(f"{summary.accepted:,} of {rows:,} rows were accepted")


def import_again(engine: sa.Engine, path: Path, settings: Settings, rows: int) -> None:
    """The same file once more; every row must be known."""
    summary = import_file(
        engine, path, settings=settings, tenant=TENANT, source="import", clock=SystemClock(), again=True
    )
    if summary.duplicates != rows:
        raise SystemExit(f"{summary.duplicates:,} of {rows:,} rows were duplicates")


def read_all(path: Path) -> None:
    """Reading and mapping alone, without a database."""
    for _lead in read_leads(path, mapping_of(path)):
        pass


def timed(server: EmbeddedServer, work: Callable[[], None]) -> Timing:
    """Run ``work`` and say what it took."""
    database_before, own_before = cpu_of_database(server), time.process_time()
    began = time.perf_counter()
    work()
    seconds = time.perf_counter() - began
    own, database = time.process_time() - own_before, cpu_of_database(server) - database_before
    return Timing(round(seconds, 3), round(own, 3), round(database, 3))


def cpu_of_database(server: EmbeddedServer) -> float:
    """CPU seconds of all of PostgreSQL's processes; those of sessions that ended are the postmaster's."""
    pid = server.status().pid
    assert pid is not None
    postmaster = psutil.Process(pid)
    total = 0.0
    for process in [postmaster, *postmaster.children()]:
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:  # a worker of autovacuum that ended just now: it is among the postmaster's
            continue
        total += times.user + times.system
        if process is postmaster:
            total += times.children_user + times.children_system
    return total


def show(results: dict[str, Any]) -> None:
    """A table for people."""
    console = Console(width=int(os.environ.get("COLUMNS", "100")))
    console.print(describe_machine())
    console.print(f"{results['rows']:,} rows, {results['file_bytes'] / 2**20:,.0f} MiB")
    table = Table("", "rows/s", "seconds", "own CPU µs/row", "database CPU µs/row")
    for name, key, rate in (
        ("plain copy", "copies", "copy_rows_per_s"),
        ("import", "imports", "import_rows_per_s"),
        ("the same file again", "imports_again", "import_again_rows_per_s"),
    ):
        middle = sorted(results[key], key=lambda timing: timing["seconds"])[len(results[key]) // 2]
        table.add_row(
            name,
            f"{results[rate]:,}",
            f"{middle['seconds']:.1f}",
            f"{middle['own_cpu_seconds'] / results['rows'] * 1e6:.1f}",
            f"{middle['database_cpu_seconds'] / results['rows'] * 1e6:.1f}",
        )
    table.add_row("reading and mapping alone", f"{results['read_rows_per_s']:,}", "", "", "")
    console.print(table)
    console.print(f"import ÷ copy: {results['import_over_copy']:.3f}")


if __name__ == "__main__":
    main()
