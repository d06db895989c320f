"""What a durable acknowledgement costs: the HTTP door against the same stack without a database, in one run.

The floor is uvicorn, Starlette, the same reading of the lead and the same answer. Floor and door are measured in turn,
several times; figures of one run are compared with each other only. The senders, the door and PostgreSQL share the
machine's cores, so CPU time for each lead says more than the rate.
"""

import argparse
import asyncio
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
import psutil
import sqlalchemy as sa
import uvicorn
from machine import describe_machine, write_results
from rich.console import Console
from rich.table import Table
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from leads_pipeline.clock import SystemClock
from leads_pipeline.config import CONFIG_VARIABLE, DATABASE_URL_VARIABLE
from leads_pipeline.domain.ids import uuid7
from leads_pipeline.domain.posted_lead import decode_lead
from leads_pipeline.storage.api_keys import create_api_key
from leads_pipeline.storage.database import engine_for
from leads_pipeline.storage.embedded import EmbeddedServer
from leads_pipeline.storage.migrate import upgrade

LEADS_YAML = """
version: 1
tenants:
  bench: {sources: {form: {lane: real_time}}}
"""
BATCH = 1_000
_numbers = count()


@dataclass(frozen=True)
class Round:
    """One measurement of one server."""

    leads_per_second: float
    p50_ms: float
    p99_ms: float
    server_cpu_us: float
    database_cpu_us: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the figures to a file")
    parser.add_argument("--quick", action="store_true", help="a short look: fewer and shorter rounds")
    parser.add_argument("--floor", type=int, metavar="PORT", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.floor:
        uvicorn.run(floor(), host="127.0.0.1", port=arguments.floor, log_config=None, access_log=False)
        return
    rounds, seconds = (2, 1.0) if arguments.quick else (5, 3.0)
    results = asyncio.run(measure(rounds=rounds, seconds=seconds, connections=(1, 64)))
    show(results)
    if arguments.json:
        write_results(arguments.json, results)


def floor() -> Starlette:
    """The same stack, answering without a database."""

    async def post_lead(request: Request) -> Response:
        decode_lead(await request.body())
        answer = {"lead_id": str(uuid7(SystemClock().now())), "status": "accepted"}
        return Response(msgspec.json.encode(answer), status_code=202, media_type="application/json")

    async def healthz(_request: Request) -> Response:
        return Response(b"{}")

    return Starlette(routes=[Route("/v1/leads", post_lead, methods=["POST"]), Route("/healthz", healthz)])


async def measure(*, rounds: int, seconds: float, connections: tuple[int, ...]) -> dict[str, Any]:
    """Floor and door in turn, with few and with many connections; then batches; then count what is stored."""
    with tempfile.TemporaryDirectory(prefix="leads-bench-") as place:
        server = EmbeddedServer(Path(place) / "state")
        engine = engine_for(server.start())
        try:
            upgrade(engine, now=SystemClock().now())
            with engine.begin() as connection:
                key = create_api_key(connection, tenant="bench", source="form", now=SystemClock().now()).text
            (Path(place) / "leads.yaml").write_text(LEADS_YAML, encoding="utf-8")
            environment = {
                **os.environ,
                CONFIG_VARIABLE: str(Path(place) / "leads.yaml"),
                DATABASE_URL_VARIABLE: engine.url.render_as_string(hide_password=False),
            }
            pid = server.status().pid
            assert pid is not None
            database = psutil.Process(pid)
            with started(floor_command, environment) as bare, started(door_command, environment) as door:
                figures = await compare(bare, door, database, key, rounds=rounds, seconds=seconds, widths=connections)
                batches = await send_batches(door, key, seconds=seconds)
            with engine.connect() as connection:
                stored = connection.execute(sa.text("select count(*) from buffer")).scalar_one()
        finally:
            engine.dispose()
            server.remove()
    acknowledged = figures.pop("acknowledged") + batches["acknowledged"]
    if stored < acknowledged:
        raise SystemExit(f"{acknowledged} leads were acknowledged, only {stored} are stored")
    return {**figures, "batch": batches, "acknowledged": acknowledged, "stored": stored}


async def compare(
    bare: "Server",
    door: "Server",
    database: psutil.Process,
    key: str,
    *,
    rounds: int,
    seconds: float,
    widths: tuple[int, ...],
) -> dict[str, Any]:
    """Medians for each number of connections, and the ratios of the paired rounds."""
    found: dict[str, Any] = {}
    acknowledged = 0
    for server in (bare, door):  # the first requests pay for connections and prepared statements
        acknowledged += (server is door) * len(await send_for(server, key, seconds=0.5, connections=8))
    for width in widths:
        floors: list[Round] = []
        doors: list[Round] = []
        for _round in range(rounds):
            for server, into in ((bare, floors), (door, doors)):
                before = (server.cpu_seconds(), cpu_seconds_of(database))
                began = time.perf_counter()
                delays = await send_for(server, key, seconds=seconds, connections=width)
                took = time.perf_counter() - began
                acknowledged += (server is door) * len(delays)
                into.append(
                    _round_of(delays, took, server.cpu_seconds() - before[0], cpu_seconds_of(database) - before[1])
                )
        found[f"connections_{width}"] = {
            "floor": _median(floors),
            "door": _median(doors),
            "rate_ratio": _ratio([d.leads_per_second / f.leads_per_second for f, d in zip(floors, doors, strict=True)]),
            "server_cpu_ratio": _ratio([d.server_cpu_us / f.server_cpu_us for f, d in zip(floors, doors, strict=True)]),
        }
    return {**found, "acknowledged": acknowledged}


def _round_of(delays: list[float], took: float, server_cpu: float, database_cpu: float) -> Round:
    cuts = statistics.quantiles(delays, n=100)
    each = 1e6 / len(delays)
    return Round(len(delays) / took, cuts[49] * 1e3, cuts[98] * 1e3, server_cpu * each, database_cpu * each)


def _median(rounds: list[Round]) -> dict[str, float]:
    names = Round.__dataclass_fields__
    return {name: round(statistics.median(getattr(item, name) for item in rounds), 2) for name in names}


def _ratio(ratios: list[float]) -> dict[str, float]:
    return {
        "median": round(statistics.median(ratios), 2),
        "lowest": round(min(ratios), 2),
        "highest": round(max(ratios), 2),
    }


# --- the senders: raw HTTP over kept connections, because a client library would cost more than the door --------------


async def send_for(server: "Server", key: str, *, seconds: float, connections: int) -> list[float]:
    """Post one lead after the other on each connection; how long each waited for its answer."""
    until = time.perf_counter() + seconds
    found = await asyncio.gather(*(_send_on_one(server.port, key, until) for _ in range(connections)))
    return [delay for delays in found for delay in delays]


async def _send_on_one(port: int, key: str, until: float) -> list[float]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    delays: list[float] = []
    while time.perf_counter() < until:
        began = time.perf_counter()
        writer.write(_request("/v1/leads", key, _lead(), "application/json"))
        status, _body = await _answer(reader)
        if status != 202:
            raise SystemExit(f"a lead was answered with {status}")
        delays.append(time.perf_counter() - began)
    writer.close()
    await writer.wait_closed()
    return delays


async def send_batches(door: "Server", key: str, *, seconds: float) -> dict[str, Any]:
    """NDJSON batches on two connections."""
    until = time.perf_counter() + seconds
    began = time.perf_counter()
    sent = sum(await asyncio.gather(*(_batches_on_one(door.port, key, until) for _ in range(2))))
    took = time.perf_counter() - began
    return {"batch_size": BATCH, "leads_per_second": round(sent / took), "acknowledged": sent}


async def _batches_on_one(port: int, key: str, until: float) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**22)
    sent = 0
    while time.perf_counter() < until:
        body = b"\n".join(_lead() for _ in range(BATCH))
        writer.write(_request("/v1/leads/batch", key, body, "application/x-ndjson"))
        status, answer = await _answer(reader)
        if status != 202 or msgspec.json.decode(answer)["accepted"] != BATCH:
            raise SystemExit(f"a batch was answered with {status}")
        sent += BATCH
    writer.close()
    await writer.wait_closed()
    return sent


def _lead() -> bytes:
    number = next(_numbers)
    return msgspec.json.encode(
        {
            "email": f"lead{number}.{os.getpid()}@example.org",
            "first_name": "Ada",
            "last_name": f"Lovelace {number}",
            "phone": f"+1 415 555 {number % 10_000:04}",
            "company": "Analytical Engines Ltd",
            "job_title": "Head of Computation",
            "address": "12 St James's Square",
            "city": "London",
            "postcode": "SW1Y 4JH",
            "country": "GB",
            "message": "We would like to see the engine at work, if possible before the end of the month.",
            "utm_source": "newsletter",
            "utm_medium": "email",
            "campaign": "autumn",
            "landing_page": "https://example.org/engines?ref=autumn",
            "consent": {"granted": True, "purpose": "marketing", "channel": "email"},
        }
    )


def _request(path: str, key: str, body: bytes, kind: str) -> bytes:
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {key}\r\nContent-Type: {kind}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def _answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
    return int(head[9:12]), await reader.readexactly(length)


# --- the servers -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Server:
    """A server in a process of its own."""

    port: int
    process: psutil.Process

    def cpu_seconds(self) -> float:
        times = self.process.cpu_times()
        return float(times.user + times.system)


def floor_command(port: int) -> list[str]:
    return [sys.executable, __file__, "--floor", str(port)]


def door_command(port: int) -> list[str]:
    return [sys.executable, "-m", "leads_pipeline", "capture", "serve", "--port", str(port)]


@contextmanager
def started(command: Callable[[int], list[str]], environment: dict[str, str]) -> Iterator[Server]:
    """Run a server until the block ends."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen(command(port), env=environment, stdout=subprocess.DEVNULL)
    try:
        for _try in range(600):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            if process.poll() is not None:
                raise SystemExit(f"{' '.join(command(port))} ended with {process.returncode}")
            time.sleep(0.05)
        yield Server(port, psutil.Process(process.pid))
    finally:
        process.terminate()
        process.wait(timeout=30)


def cpu_seconds_of(postmaster: psutil.Process) -> float:
    """CPU time of PostgreSQL with its running backends."""
    total = 0.0
    for process in [postmaster, *postmaster.children()]:
        times = process.cpu_times()
        total += times.user + times.system
    return total


def show(results: dict[str, Any]) -> None:
    console = Console(highlight=False, soft_wrap=True)
    table = Table("senders", "acknowledged", "leads/s", "p50 ms", "p99 ms", "CPU µs", "with database")
    widths = {name.removeprefix("connections_"): found for name, found in results.items() if "connections_" in name}
    for width, found in widths.items():
        for kind, label in (("floor", "at once (floor)"), ("door", "after commit")):
            row = found[kind]
            database = row["database_cpu_us"] if kind == "door" else 0
            figures = (row["p50_ms"], row["p99_ms"], row["server_cpu_us"], row["server_cpu_us"] + database)
            table.add_row(width, label, f"{row['leads_per_second']:,.0f}", *(f"{figure:,.1f}" for figure in figures))
    console.print(table)
    for width, found in widths.items():
        rate, cpu = found["rate_ratio"], found["server_cpu_ratio"]
        console.print(
            f"{width} senders: {rate['median']} of the floor's rate [{rate['lowest']} to {rate['highest']}], "
            f"{cpu['median']} times its CPU time [{cpu['lowest']} to {cpu['highest']}]"
        )
    batch = results["batch"]
    console.print(f"batches of {batch['batch_size']:,} (NDJSON): {batch['leads_per_second']:,} leads/s, durable")
    console.print(f"{results['acknowledged']:,} leads acknowledged, {results['stored']:,} stored")
    console.print(describe_machine())


if __name__ == "__main__":
    main()
