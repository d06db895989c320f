"""What a look-up of a contact costs: the HTTP door against a bare indexed select, and against itself as contacts grow.

The bare select is what cannot be saved: one prepared statement for one golden contact by its e-mail key, on one
connection of the same driver. The door also checks a key and a rate, reads the address as validation does, finds every
contact that ever gave it, and answers over HTTP. CPU time is the door's process and the server's backends, so what asks
does not count; the rate is of one worker.
"""

import argparse
import asyncio
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import psycopg
import sqlalchemy as sa
from machine import describe_machine, write_results
from rich.console import Console
from rich.table import Table

from leads_pipeline.clock import SystemClock
from leads_pipeline.config import CONFIG_VARIABLE, DATABASE_URL_VARIABLE
from leads_pipeline.storage.api_keys import create_lookup_key
from leads_pipeline.storage.database import engine_for
from leads_pipeline.storage.embedded import EmbeddedServer
from leads_pipeline.storage.migrate import upgrade

LEADS_YAML = """
version: 1
tenants:
  bench: {sources: {form: {lane: real_time}}}
capture:
  lookup: {rate: {requests: 1000000, seconds: 1}}
"""
CONNECTIONS = 8

# Contact n has the address p<n>@firm<n mod 5000>.net and the number +1 415 2000000 + n.
_FILL = """
with made as (
    select n, gen_random_uuid() as contact_id, gen_random_uuid() as lead_id,
        'p' || n || '@firm' || mod(n, 5000) || '.net' as email, '+1415' || 2000000 + n as phone
    from generate_series({first}, {last}) n
), contacts_made as (
    insert into contacts (contact_id, tenant, founding_lead_id, created_at)
    select contact_id, 'bench', lead_id, now() from made
), records_made as (
    insert into match_records (lead_id, tenant, contact_id, email_key, phone_key, flags)
    select lead_id, 'bench', contact_id, email, phone, '[]' from made
)
insert into golden_contacts (contact_id, tenant, version, email, email_key, phone, first_name, last_name, company,
    attribution, consent, provenance, lead_count, first_source, last_source, first_seen_at, last_seen_at, batch_id,
    runner_id, updated_at)
select contact_id, 'bench', 1, email, email, phone, 'Anna', 'Smith', 'Firm ' || mod(n, 5000), '{{}}',
    '{{"marketing": {{"email": {{"granted": true, "as_of": "2026-01-01T00:00:00+00:00", "lead_id": "x"}}}}}}', '{{}}',
    1, 'form', 'form', now(), now(), gen_random_uuid(), 'bench', now()
from made
"""
_BARE = """
select contact_id, first_name, last_name, company, job_title, email_verdict, phone_verdict, phone_line_type, consent,
    last_seen_at
from golden_contacts where tenant = %(tenant)s and email_key = %(key)s
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer contacts, shorter rounds")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args()
    sizes = (10_000, 100_000) if arguments.quick else (10_000, 100_000, 1_000_000)
    rounds, seconds = (3, 1.0) if arguments.quick else (5, 2.0)
    results = measure(sizes, rounds=rounds, seconds=seconds)
    show(results)
    if arguments.json:
        write_results(arguments.json, results)


def measure(sizes: tuple[int, ...], *, rounds: int, seconds: float) -> dict[str, Any]:
    """Every figure of the run, per number of contacts; the last also as a ratio to the first."""
    found: dict[int, dict[str, float]] = {}
    with tempfile.TemporaryDirectory(prefix="leads-bench-") as place:
        Path(place).chmod(0o755)
        server = EmbeddedServer(Path(place) / "state", durable=False)
        engine = engine_for(server.start())
        try:
            upgrade(engine, now=SystemClock().now())
            with engine.begin() as connection:
                key = create_lookup_key(connection, tenant="bench", now=SystemClock().now()).text
            (Path(place) / "leads.yaml").write_text(LEADS_YAML, encoding="utf-8")
            os.environ[CONFIG_VARIABLE] = str(Path(place) / "leads.yaml")
            os.environ[DATABASE_URL_VARIABLE] = engine.url.render_as_string(hide_password=False)
            pid = server.status().pid
            assert pid is not None
            have = 0
            for size in sizes:
                fill(engine, first=have + 1, last=size)
                have = size
                with door() as (process, port):
                    bench = _Bench(psutil.Process(pid), process, port, key, size)
                    found[size] = bench.figures(engine.url, rounds=rounds, seconds=seconds)
        finally:
            engine.dispose()
            server.remove()
    first, last = found[sizes[0]], found[sizes[-1]]
    return {
        "contacts": {str(size): figures for size, figures in found.items()},
        "growth_cpu": last["lookup_cpu_us"] / first["lookup_cpu_us"],
        "lookup_over_bare_cpu": last["lookup_cpu_us"] / last["bare_cpu_us"],
    }


def fill(engine: sa.Engine, *, first: int, last: int) -> None:
    """Make the contacts ``first`` to ``last``."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for begin in range(first, last + 1, 100_000):
            end = min(begin + 99_999, last)
            connection.exec_driver_sql(_FILL.format(first=begin, last=end))
        connection.exec_driver_sql("vacuum analyze")


@contextmanager
def door() -> Iterator[tuple[psutil.Process, int]]:
    """The HTTP door as a process of its own, and its port."""
    command = [sys.executable, "-m", "leads_pipeline", "capture", "serve", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        try:
            yield psutil.Process(process.pid), int(line.rpartition(":")[2])
        finally:
            process.terminate()


class _Bench:
    def __init__(
        self, postmaster: psutil.Process, door_process: psutil.Process, port: int, key: str, contacts: int
    ) -> None:
        self._postmaster = postmaster
        self._door = door_process
        self._port = port
        self._key = key
        self._contacts = contacts
        self._random = random.Random(7)

    def figures(self, url: sa.URL, *, rounds: int, seconds: float) -> dict[str, float]:
        """Medians of several rounds, bare and door in turn."""
        rows: dict[str, list[float]] = {}
        asyncio.run(self._ask(0.5, self._email))  # the first requests pay for connections, imports and plans
        for _round in range(rounds):
            for name, (rate, cpu) in {
                "bare": self._timed(lambda: asyncio.run(self._bare(url, seconds)), of_door=False),
                "lookup": self._timed(lambda: asyncio.run(self._ask(seconds, self._email))),
                "by_phone": self._timed(lambda: asyncio.run(self._ask(seconds, self._phone))),
                "unknown": self._timed(lambda: asyncio.run(self._ask(seconds, self._nobody))),
            }.items():
                rows.setdefault(f"{name}_per_s", []).append(rate)
                rows.setdefault(f"{name}_cpu_us", []).append(cpu)
        waits = asyncio.run(self._one_by_one(300))
        return {
            **{name: statistics.median(values) for name, values in rows.items()},
            "lookup_p50_ms": 1e3 * statistics.median(waits),
            "lookup_p99_ms": 1e3 * sorted(waits)[int(len(waits) * 0.99)],
        }

    def _timed(self, run: Callable[[], int], *, of_door: bool = True) -> tuple[float, float]:
        """Per second, and CPU microseconds each: of the door and the server, or of this process and the server."""
        before, began = self._cpu(of_door), time.perf_counter()
        count = run()
        return count / (time.perf_counter() - began), 1e6 * (self._cpu(of_door) - before) / count

    def _cpu(self, of_door: bool) -> float:
        own = self._door.cpu_times() if of_door else psutil.Process().cpu_times()
        total = own.user + own.system
        ended = self._postmaster.cpu_times()
        total += ended.children_user + ended.children_system
        for child in self._postmaster.children():
            try:
                times = child.cpu_times()
            except psutil.NoSuchProcess:
                continue
            total += times.user + times.system
        return total

    def _email(self) -> dict[str, str]:
        number = self._random.randint(1, self._contacts)
        return {"email": f"P{number}@firm{number % 5000}.net"}

    def _phone(self) -> dict[str, str]:
        number = 2_000_000 + self._random.randint(1, self._contacts)
        # No exchange is called 211: nobody has such a number.
        return {"phone": f"+1415{number}"} if number // 10_000 != 211 else self._phone()

    def _nobody(self) -> dict[str, str]:
        return {"email": f"nobody{self._random.randint(1, 10**9)}@firm1.net"}

    async def _bare(self, url: sa.URL, seconds: float) -> int:
        text = url.set(drivername="postgresql").render_as_string(hide_password=False)
        options = "-c search_path=leads -c jit=off"
        async with await psycopg.AsyncConnection.connect(
            text, autocommit=True, prepare_threshold=1, options=options
        ) as connection:
            count, until = 0, time.perf_counter() + seconds
            while time.perf_counter() < until:
                parameters = {"tenant": "bench", "key": self._email()["email"].lower()}
                cursor = await connection.execute(_BARE, parameters)
                assert len(await cursor.fetchall()) == 1
                count += 1
            return count

    async def _ask(self, seconds: float, question: Callable[[], dict[str, str]]) -> int:
        until = time.perf_counter() + seconds
        return sum(await asyncio.gather(*(self._connection(until, question) for _ in range(CONNECTIONS))))

    async def _connection(self, until: float, question: Callable[[], dict[str, str]]) -> int:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        count = 0
        while time.perf_counter() < until:
            await self._post(reader, writer, question())
            count += 1
        writer.close()
        return count

    async def _one_by_one(self, count: int) -> list[float]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        waits = []
        for _ in range(count):
            began = time.perf_counter()
            await self._post(reader, writer, self._email())
            waits.append(time.perf_counter() - began)
        writer.close()
        return waits

    async def _post(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, question: dict[str, str]
    ) -> dict[str, Any]:
        body = json.dumps(question).encode()
        head = (
            "POST /v1/contacts/lookup HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            f"Authorization: Bearer {self._key}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        writer.write(head.encode() + body)
        lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        length = next(int(line[15:]) for line in lines if line.lower().startswith("content-length:"))
        answer: dict[str, Any] = json.loads(await reader.readexactly(length))
        if not lines[0].endswith("200 OK"):
            raise SystemExit(f"{lines[0]}: {answer}")
        return answer


def show(results: dict[str, Any]) -> None:
    """The figures for people."""
    console = Console()
    table = Table("contacts", "asked", "per second", "CPU, µs each", title="Look-ups of a contact")
    for size, figures in results["contacts"].items():
        for name in ("bare", "lookup", "by_phone", "unknown"):
            table.add_row(
                f"{int(size):,}", name, f"{figures[f'{name}_per_s']:,.0f}", f"{figures[f'{name}_cpu_us']:,.0f}"
            )
    console.print(table)
    for size, figures in results["contacts"].items():
        console.print(
            f"one after another, {int(size):,} contacts: p50 {figures['lookup_p50_ms']:.2f} ms, "
            f"p99 {figures['lookup_p99_ms']:.2f} ms"
        )
    console.print(
        f"CPU of a look-up, most contacts ÷ fewest: {results['growth_cpu']:.2f}; "
        f"÷ the bare select: {results['lookup_over_bare_cpu']:.2f}"
    )
    console.print(describe_machine())


if __name__ == "__main__":
    main()
