"""What a durable acknowledgement costs: the HTTP door against the same server without a database, in one run.

The floor is the same server: the same HTTP parser and loop, the same check of the key, the same reading and judging of
the lead, and then an answer at once. The peer stores each lead with an INSERT of its own, on 16 connections. Floor,
door and peer are measured in turn, several times; figures of one run are compared with each other only. `wrk` posts, a
unique key in each request; it shares the machine's cores with the door and PostgreSQL, so CPU time for each lead says
more than the rate.
"""

import argparse
import asyncio
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import psutil
import sqlalchemy as sa
import uvloop
from capture_servers import ACK, FLOOR, SINGLE, run_server
from machine import describe_machine, write_results
from paced import PacedRun, send_paced
from rich.console import Console
from rich.table import Table

from leads_pipeline.clock import SystemClock
from leads_pipeline.config import CONFIG_VARIABLE, DATABASE_URL_VARIABLE
from leads_pipeline.storage.api_keys import create_api_key
from leads_pipeline.storage.database import engine_for
from leads_pipeline.storage.embedded import EmbeddedServer
from leads_pipeline.storage.migrate import upgrade

LEADS_YAML = """
version: 1
tenants:
  bench: {sources: {form: {lane: real_time}}}
capture:
  rate: {requests: 1000000, seconds: 1}
"""
BATCH = 1_000
# Of the greatest rate: where a service that is sized with some room runs.
PACE = 0.7

# Fixed parts first and last, so that a request is one concatenation; wrk must not cost more than the door.
WRK_SCRIPT = """
local number, prefix, head, middle, tail = 0, "", "", "", ""

function init(args)
  prefix = args[1]
  local lead = args[3]
  local at = string.find(lead, "NUMBER", 1, true)
  middle, tail = string.sub(lead, 1, at - 1), string.sub(lead, at + 6)
  local length = #middle + #tail + #prefix + 9
  head = "POST /v1/leads HTTP/1.1\\r\\nHost: 127.0.0.1\\r\\nAuthorization: Bearer " .. args[2]
    .. "\\r\\nContent-Type: application/json\\r\\nContent-Length: " .. length .. "\\r\\nIdempotency-Key: "
end

function request()
  number = number + 1
  local unique = prefix .. string.format("%09d", number)
  return head .. unique .. "\\r\\n\\r\\n" .. middle .. unique .. tail
end

function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format('{"requests": %d, "microseconds": %d, "refused": %d, "broken": %d, "p50": %d, "p99": %d}\\n',
    summary.requests, summary.duration, errors.status,
    errors.connect + errors.read + errors.write + errors.timeout, latency:percentile(50), latency:percentile(99)))
end
"""


@dataclass(frozen=True)
class Round:
    """One measurement of one server. CPU in microseconds for each request."""

    requests: int
    per_second: float
    p50_ms: float
    p99_ms: float
    server_cpu_us: float
    database_cpu_us: float

    @property
    def cpu_us(self) -> float:
        return self.server_cpu_us + self.database_cpu_us


@dataclass(frozen=True)
class Server:
    """A server in a process of its own."""

    kind: str
    port: int
    process: psutil.Process

    def cpu_seconds(self) -> float:
        times = self.process.cpu_times()
        return float(times.user + times.system)


@dataclass(frozen=True)
class Bench:
    """What every measurement needs."""

    place: Path
    key: str
    database: psutil.Process
    seconds: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the figures to a file")
    parser.add_argument("--quick", action="store_true", help="a short look: fewer and shorter rounds")
    parser.add_argument("--serve", choices=(FLOOR, ACK, SINGLE), help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        run_server(arguments.serve, port=arguments.port)
        return
    if shutil.which("wrk") is None:
        raise SystemExit("this benchmark posts with wrk, which is not installed; on Debian and Ubuntu: apt install wrk")
    rounds, seconds = (2, 1.0) if arguments.quick else (5, 3.0)
    results = measure(rounds=rounds, seconds=seconds)
    show(results)
    if arguments.json:
        write_results(arguments.json, results)


def measure(*, rounds: int, seconds: float) -> dict[str, Any]:
    """Floor, door and peer in turn; then paced; then batches; then count what is stored."""
    with tempfile.TemporaryDirectory(prefix="leads-bench-") as place:
        server = EmbeddedServer(Path(place) / "state")
        engine = engine_for(server.start())
        try:
            upgrade(engine, now=SystemClock().now())
            with engine.begin() as connection:
                key = create_api_key(connection, tenant="bench", source="form", now=SystemClock().now()).text
            (Path(place) / "leads.yaml").write_text(LEADS_YAML, encoding="utf-8")
            (Path(place) / "post.lua").write_text(WRK_SCRIPT, encoding="utf-8")
            os.environ[CONFIG_VARIABLE] = str(Path(place) / "leads.yaml")
            os.environ[DATABASE_URL_VARIABLE] = engine.url.render_as_string(hide_password=False)
            pid = server.status().pid
            assert pid is not None
            bench = Bench(Path(place), key, psutil.Process(pid), seconds)
            with started(FLOOR) as floor, started(ACK) as ack, started(SINGLE) as single:
                results = compare(bench, floor, ack, single, rounds=rounds, drain=lambda: drained(engine))
            stored = results.pop("drained") + drained(engine)
        finally:
            engine.dispose()
            server.remove()
    if stored < results["acknowledged"]:
        raise SystemExit(f"{results['acknowledged']} leads were acknowledged, only {stored} are stored")
    return {**results, "stored": stored}


def drained(engine: sa.Engine) -> int:
    """Empty the buffer, as the pipeline does all the time; how many leads were in it."""
    with engine.begin() as connection:
        found: int = connection.execute(sa.text("select count(*) from buffer")).scalar_one()
        connection.execute(sa.text("truncate buffer"))
    return found


def compare(
    bench: Bench, floor: Server, ack: Server, single: Server, *, rounds: int, drain: Callable[[], int]
) -> dict[str, Any]:
    """Every figure of the run."""
    found: dict[str, list[Round]] = {}
    for server in (floor, ack, single):  # the first requests pay for connections and prepared statements
        found[f"warm {server.kind}"] = [post(bench, server, connections=16, seconds=1.0)]
    for _round in range(rounds):
        for connections, servers in ((64, (floor, ack, single)), (256, (floor, ack))):
            for server in servers:
                found.setdefault(f"{server.kind}_{connections}", []).append(
                    post(bench, server, connections=connections, seconds=bench.seconds)
                )
    greatest = statistics.median(item.per_second for item in found[f"{ACK}_64"])
    waiting = drain()  # with a million leads waiting the p99 was three times as high; a sender seldom meets that
    paced = [
        uvloop.run(paced_run(bench, ack, per_second=PACE * greatest, place=place, seconds=bench.seconds))
        for place in range(rounds)
    ]
    batches = uvloop.run(send_batches(bench, ack))
    acknowledged = sum(item.requests for name, items in found.items() if FLOOR not in name for item in items)
    return {
        **figures_of(found, paced),
        "batch_leads_per_s": batches["leads_per_second"],
        "rounds": {name: median_of(items) for name, items in found.items() if "warm" not in name},
        "drained": waiting,
        "acknowledged": acknowledged + sum(item.answered for item in paced) + batches["acknowledged"],
    }


def figures_of(found: dict[str, list[Round]], paced: list[PacedRun]) -> dict[str, Any]:
    """The figures that the README promises: medians of the ratios of paired rounds, and between what they lay."""
    floor, ack, single = found[f"{FLOOR}_64"], found[f"{ACK}_64"], found[f"{SINGLE}_64"]
    ratios = {
        "ack_over_noop_64": ratios_of(ack, floor, "per_second"),
        "ack_over_noop_256": ratios_of(found[f"{ACK}_256"], found[f"{FLOOR}_256"], "per_second"),
        "cpu_noop_over_ack_64": ratios_of(floor, ack, "cpu_us"),
        "ack_over_single_insert_64": ratios_of(ack, single, "per_second"),
    }
    return {
        **{name: round(statistics.median(each), 2) for name, each in ratios.items()},
        "ranges": {name: [round(min(each), 2), round(max(each), 2)] for name, each in ratios.items()},
        "cpu_us_per_lead_server": round(statistics.median(item.server_cpu_us for item in ack), 1),
        "cpu_us_per_lead_database": round(statistics.median(item.database_cpu_us for item in ack), 1),
        "paced_per_s": round(statistics.median(item.per_second for item in paced)),
        "p50_ms_64_at_70pct": round(statistics.median(item.p50_ms for item in paced), 1),
        "p99_ms_64_at_70pct": round(statistics.median(item.p99_ms for item in paced), 1),
    }


def ratios_of(ours: list[Round], theirs: list[Round], figure: str) -> list[float]:
    """Of each pair of rounds."""
    return [getattr(one, figure) / getattr(other, figure) for one, other in zip(ours, theirs, strict=True)]


def median_of(rounds: list[Round]) -> dict[str, float]:
    names = [*Round.__dataclass_fields__, "cpu_us"]
    return {name: round(statistics.median(getattr(item, name) for item in rounds), 1) for name in names}


# --- the senders -----------------------------------------------------------------------------------------------------


def post(bench: Bench, server: Server, *, connections: int, seconds: float) -> Round:
    """Let ``wrk`` post as fast as it is answered."""
    prefix = f"{time.time_ns():020d}"
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds:.0f}s", "--timeout", "30s", "-s"]
    command += [str(bench.place / "post.lua"), f"http://127.0.0.1:{server.port}", "--", prefix, bench.key, lead()]
    before = (server.cpu_seconds(), cpu_seconds_of(bench.database))
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    server_cpu = server.cpu_seconds() - before[0]
    database_cpu = cpu_seconds_of(bench.database) - before[1]
    said = json.loads(output.strip().splitlines()[-1])
    if said["refused"] or said["broken"]:
        raise SystemExit(f"{server.kind}: {said['refused']} requests were refused, {said['broken']} broke")
    each = 1e6 / said["requests"]
    return Round(
        requests=said["requests"],
        per_second=said["requests"] / (said["microseconds"] / 1e6),
        p50_ms=said["p50"] / 1e3,
        p99_ms=said["p99"] / 1e3,
        server_cpu_us=server_cpu * each,
        database_cpu_us=0.0 if server.kind == FLOOR else database_cpu * each,
    )


async def paced_run(bench: Bench, server: Server, *, per_second: float, place: int, seconds: float) -> PacedRun:
    """64 connections at a steady rate, whether answers come or not."""
    text = lead()

    def request(number: int) -> bytes:
        unique = f"paced-{place}-{time.time_ns()}-{number}"
        body = text.replace("NUMBER", unique).encode()
        return http_post("/v1/leads", bench.key, body, "application/json", extra=f"Idempotency-Key: {unique}\r\n")

    return await send_paced(server.port, request, per_second=per_second, seconds=seconds, connections=64)


async def send_batches(bench: Bench, server: Server) -> dict[str, Any]:
    """NDJSON batches on two connections."""
    until = time.perf_counter() + bench.seconds
    began = time.perf_counter()
    sent = sum(await asyncio.gather(*(_batches_on_one(bench, server.port, until) for _ in range(2))))
    took = time.perf_counter() - began
    return {"leads_per_second": round(sent / took), "acknowledged": sent}


async def _batches_on_one(bench: Bench, port: int, until: float) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**22)
    text = lead()
    sent = 0
    while time.perf_counter() < until:
        body = "\n".join(text.replace("NUMBER", f"batch-{time.time_ns()}-{place}") for place in range(BATCH)).encode()
        writer.write(http_post("/v1/leads/batch", bench.key, body, "application/x-ndjson"))
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        answer = msgspec.json.decode(await reader.readexactly(length))
        if answer.get("accepted") != BATCH:
            raise SystemExit(f"a batch was answered with {head[9:12]!r}")
        sent += BATCH
    writer.close()
    await writer.wait_closed()
    return sent


def http_post(path: str, key: str, body: bytes, kind: str, *, extra: str = "") -> bytes:
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {key}\r\nContent-Type: {kind}\r\n{extra}"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def lead() -> str:
    """493 bytes with 16 fields; NUMBER stands for what makes it unique."""
    fields = {
        "email": "leadNUMBER@example.org",
        "first_name": "Ada",
        "last_name": "Lovelace",
        "phone": "+1 415 555 0142",
        "company": "Analytical Engines Ltd",
        "job_title": "Head of Computation",
        "address": "12 St James's Square",
        "city": "London",
        "postcode": "SW1Y 4JH",
        "country": "GB",
        "message": "We would like to see the engine at work, before the end of the month.",
        "utm_source": "newsletter",
        "utm_medium": "email",
        "campaign": "autumn",
        "landing_page": "https://example.org/engines?ref=autumn",
        "consent": {"granted": True, "purpose": "marketing", "channel": "email"},
    }
    return json.dumps(fields, separators=(",", ":"))


# --- the servers -----------------------------------------------------------------------------------------------------


@contextmanager
def started(kind: str) -> Iterator[Server]:
    """Run a server until the block ends."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, __file__, "--serve", kind, "--port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        for _try in range(600):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            if process.poll() is not None:
                raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
            time.sleep(0.05)  # until the server of another process listens; nothing is measured yet
        yield Server(kind, port, psutil.Process(process.pid))
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
    table = Table("server", "connections", "requests/s", "p50 ms", "p99 ms", "CPU µs server", "database")
    labels = {FLOOR: "at once (floor)", ACK: "after commit", SINGLE: "an INSERT each"}
    for name, row in results["rounds"].items():
        kind, _, connections = name.rpartition("_")
        figures = (row["p50_ms"], row["p99_ms"], row["server_cpu_us"], row["database_cpu_us"])
        table.add_row(labels[kind], connections, f"{row['per_second']:,.0f}", *(f"{figure:,.1f}" for figure in figures))
    console.print(table)
    for name, value in results.items():
        if name in ("rounds", "ranges", "acknowledged", "stored"):
            continue
        lowest, highest = results["ranges"].get(name, (None, None))
        console.print(f"{name:28} {value:,}" + ("" if lowest is None else f"   [{lowest:.2f} to {highest:.2f}]"))
    console.print(f"{results['acknowledged']:,} leads acknowledged, {results['stored']:,} stored")
    console.print(describe_machine())


if __name__ == "__main__":
    main()
