"""From the buffer to the next door: how many leads a second one worker moves, out of PostgreSQL and out of Redis.

What is measured is the first step as a run calls it, in chunks of 1,000: leads become raw leads, their consent becomes
events, and they wait at the door of validation, in one durable transaction a chunk. The floor of the same run is a
plain ``insert … select`` of the same leads into an unindexed table, a chunk a durable transaction. Every round measures
the floor, PostgreSQL and Redis in turn; a figure is the median of the rounds. Then the same while a million other leads
wait behind the measured ones. Last, one pass of ``imports.py``, which measures ``leads import`` more closely.
"""

import argparse
import shutil
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import imports
import redis
import sqlalchemy as sa
from machine import describe_machine, write_results
from rich.console import Console
from rich.table import Table

from leads_pipeline.buffer.port import LeadBuffer, NewLead, content_key
from leads_pipeline.buffer.postgresql import PostgresBuffer
from leads_pipeline.buffer.redis_streams import RedisBuffer
from leads_pipeline.clock import SystemClock
from leads_pipeline.domain.ids import BatchId, uuid7
from leads_pipeline.domain.posted_lead import PostedLead
from leads_pipeline.domain.stage import Chunk, Lane
from leads_pipeline.steps.raw_leads import move_raw_leads
from leads_pipeline.storage.database import engine_for
from leads_pipeline.storage.embedded import EmbeddedServer
from leads_pipeline.storage.migrate import upgrade

CHUNK = 1_000
_clock = SystemClock()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the figures to a file")
    parser.add_argument("--quick", action="store_true", help="a short look: fewer rounds, 50,000 waiting")
    arguments = parser.parse_args()
    if shutil.which("redis-server") is None:
        raise SystemExit("redis-server is not on the PATH; install it: apt-get install redis-server")
    rounds, leads, waiting = (3, 5_000, 50_000) if arguments.quick else (5, 20_000, 1_000_000)
    results = measure(rounds=rounds, leads=leads, waiting=waiting)
    with tempfile.TemporaryDirectory(prefix="leads-bench-") as place:
        imported = imports.measure(Path(place), rows=waiting, rounds=1)
    results |= {name: imported[name] for name in ("import_over_copy", "import_rows_per_s", "copy_rows_per_s")}
    show(results)
    if arguments.json:
        write_results(arguments.json, results)


def measure(*, rounds: int, leads: int, waiting: int) -> dict[str, Any]:
    """Rounds with nothing else in the buffers, then rounds with ``waiting`` more leads in each."""
    with tempfile.TemporaryDirectory(prefix="leads-bench-") as place, ExitStack() as stack:
        server = EmbeddedServer(Path(place) / "state")
        engine = engine_for(server.start())
        stack.callback(server.remove)
        stack.callback(engine.dispose)
        upgrade(engine, now=_clock.now())
        with engine.begin() as connection:
            connection.exec_driver_sql("create unlogged table leads.floor_source (like leads.buffer)")
            connection.exec_driver_sql("create table leads.floor_target (like leads.buffer)")
        url = stack.enter_context(redis_server(Path(place) / "redis"))
        buffers: dict[str, LeadBuffer] = {
            "postgres": PostgresBuffer(engine),
            "redis": RedisBuffer(url, prefix="bench", key_seconds=86_400),
        }
        empty = compare(engine, buffers, rounds=rounds, leads=leads)
        for buffer in buffers.values():
            fill(buffer, waiting, tenant="crowd")
            fill(buffer, waiting // 10, tenant="bench", lane=Lane.BATCH)
        full = compare(engine, buffers, rounds=rounds, leads=leads)
        for buffer in buffers.values():
            buffer.close()
    return {
        "chunk": CHUNK,
        "leads_per_round": leads,
        "waiting": waiting + waiting // 10,
        "floor_per_s": empty["floor"],
        "move_per_s_postgres": empty["postgres"],
        "move_per_s_redis": empty["redis"],
        "postgres_over_floor": round(empty["postgres"] / empty["floor"], 3),
        "redis_over_floor": round(empty["redis"] / empty["floor"], 3),
        "move_per_s_postgres_1m": full["postgres"],
        "move_per_s_redis_1m": full["redis"],
        "floor_per_s_1m": full["floor"],
        "postgres_1m_over_empty": round(full["postgres"] / empty["postgres"], 3),
        "redis_1m_over_empty": round(full["redis"] / empty["redis"], 3),
        "rounds": {"empty": empty["rounds"], "waiting": full["rounds"]},
    }


def compare(engine: sa.Engine, buffers: dict[str, LeadBuffer], *, rounds: int, leads: int) -> dict[str, Any]:
    """Leads a second of the floor and of each buffer: medians, and what each round found."""
    found: dict[str, list[float]] = {"floor": [], **{name: [] for name in buffers}}
    for number in range(rounds + 1):
        speeds = {"floor": floor(engine, leads)}
        for name, buffer in buffers.items():
            fill(buffer, leads)
            speeds[name] = leads / timed(lambda buffer=buffer: empty_real_time(engine, buffer, leads))
        if number:  # the first round pays for plans and connections
            for name, speed in speeds.items():
                found[name].append(round(speed))
    return {**{name: round(statistics.median(speeds)) for name, speeds in found.items()}, "rounds": found}


def empty_real_time(engine: sa.Engine, buffer: LeadBuffer, leads: int) -> None:
    """Move all that is in the real-time lane, as a run of that lane does."""
    moved = 0
    while moved < leads:
        now = _clock.now()
        lanes = (Lane.REAL_TIME,)
        report = move_raw_leads(
            engine, Chunk("bench", lanes, CHUNK, BatchId(uuid7(now)), "bench", now), buffers=(buffer,)
        )
        if report.passed == 0:
            raise SystemExit(f"{leads - moved} leads are missing from the buffer")
        moved += report.passed


def floor(engine: sa.Engine, leads: int) -> float:
    """Leads a second of a plain copy from table to table, a chunk a transaction."""
    with engine.begin() as connection:
        connection.exec_driver_sql("truncate leads.floor_source, leads.floor_target")
    buffer = PostgresBuffer(engine)
    fill(buffer, leads)
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "with moved as (delete from buffer where tenant = 'bench' and lane = 'real_time' returning *) "
            "insert into leads.floor_source select * from moved"
        )
        connection.exec_driver_sql("create index if not exists ix_floor on leads.floor_source (lead_id)")
        ids = connection.exec_driver_sql(
            "select lead_id from (select lead_id, row_number() over (order by lead_id) as place "
            f"from leads.floor_source) as numbered where place %% {CHUNK} = 0 order by lead_id"
        ).scalars()
        bounds = list(ids)

    def copy() -> None:
        below = None
        for bound in bounds:
            with engine.begin() as connection:
                connection.exec_driver_sql(
                    "insert into leads.floor_target select * from leads.floor_source "
                    "where lead_id <= %(to)s and lead_id > %(from)s",
                    {"to": bound, "from": below or "00000000-0000-0000-0000-000000000000"},
                )
            below = bound

    return leads / timed(copy)


def timed(work: Callable[[], None]) -> float:
    """Seconds that it took."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


_numbers = iter(range(10**12))


def fill(buffer: LeadBuffer, leads: int, *, tenant: str = "bench", lane: Lane = Lane.REAL_TIME) -> None:
    """Append so many new leads."""
    for begin in range(0, leads, CHUNK):
        now = _clock.now()
        group = [lead(tenant, lane) for _ in range(min(CHUNK, leads - begin))]
        buffer.append(group, now=now)


def lead(tenant: str, lane: Lane) -> NewLead:
    """A lead as a form would send it, half a kilobyte, with one statement of consent."""
    number = next(_numbers)
    now = _clock.now()
    payload: dict[str, Any] = {
        "email": f"lead{number}@example.org",
        "first_name": "Ada",
        "last_name": f"Lovelace {number}",
        "phone": f"+1 415 555 {number % 10_000:04}",
        "company": "Analytical Engines Ltd",
        "job_title": "Head of Computation",
        "city": "London",
        "postcode": "SW1Y 4JH",
        "country": "GB",
        "message": "We would like to see the engine at work, if possible before the end of the month.",
        "utm_source": "newsletter",
        "landing_page": "https://example.org/engines?ref=autumn",
    }
    consent = [{"granted": True, "purpose": "marketing", "channel": "email"}]
    key_hex, body_hex = content_key(PostedLead(payload, consent))
    return NewLead(
        lead_id=uuid7(now),
        tenant=tenant,
        source="form",
        lane=lane,
        received_at=now,
        key_hex=key_hex,
        body_hex=body_hex,
        payload=payload,
        consent=consent,
        context={"ip": "192.0.2.1", "user_agent": "Mozilla/5.0 (X11; Linux x86_64; rv:128.0)"},
    )


@contextmanager
def redis_server(directory: Path) -> Iterator[str]:
    """A durable Redis of the benchmark's own."""
    directory.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    durable = ["--appendonly", "yes", "--appendfsync", "always", "--save", ""]
    process = subprocess.Popen(
        ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--dir", str(directory), *durable],
        stdout=subprocess.DEVNULL,
    )
    try:
        for _try in range(200):
            try:
                redis.Redis(port=port).ping()
                break
            except redis.exceptions.ConnectionError:
                time.sleep(0.05)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        process.terminate()
        process.wait(timeout=30)


def show(results: dict[str, Any]) -> None:
    console = Console(highlight=False, soft_wrap=True)
    table = Table("buffer", "leads/s", "of the floor", f"with {results['waiting']:,} waiting", "ratio")
    table.add_row("plain copy (floor)", f"{results['floor_per_s']:,}", "1", f"{results['floor_per_s_1m']:,}", "")
    for name in ("postgres", "redis"):
        table.add_row(
            name,
            f"{results[f'move_per_s_{name}']:,}",
            f"{results[f'{name}_over_floor']}",
            f"{results[f'move_per_s_{name}_1m']:,}",
            f"{results[f'{name}_1m_over_empty']}",
        )
    console.print(table)
    console.print(f"one worker, chunks of {CHUNK:,}; medians of {len(results['rounds']['empty']['floor'])} rounds")
    imported, copied = results["import_rows_per_s"], results["copy_rows_per_s"]
    console.print(
        f"leads import: {imported:,} rows/s, plain COPY {copied:,}: {results['import_over_copy']:.3f}, in one pass"
    )
    console.print(describe_machine())


if __name__ == "__main__":
    main()
