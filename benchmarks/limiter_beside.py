"""The limiter beside another application on the same account: a vendor that counts both, and our processes.

Run by benchmarks/limiter.py. The vendor is a process of its own; the other application asks it from within, at times
that are drawn beforehand, beginning one longest window before ours. Ours ask over TCP, each request 20 ms long. An
answer says whether it was taken and what is left of each window.
"""

import asyncio
import json
import math
import os
import random
import socket
import subprocess
import sys
import threading
import time
from bisect import bisect_left, bisect_right, insort
from collections import deque
from collections.abc import Sequence
from typing import Any

from leads_pipeline.clock import SystemClock
from leads_pipeline.config import RequestLimits, WindowLimit
from leads_pipeline.domain.delivery import QuotaReading, Unit
from leads_pipeline.errors import AccountParked
from leads_pipeline.outbound.gate import Gate
from leads_pipeline.outbound.limiter import Limiter
from leads_pipeline.storage.database import engine_for

WAY_SECONDS = 0.01  # of a request, and of its answer
SHARE = 0.3  # what the other application takes of the longest window


def other_s_instants(kind: str, *, rate: float, seconds: float) -> list[float]:
    """When it asks, in seconds from 0 on: ``none``, ``evenly``, in ``bursts`` every two seconds, by ``chance``."""
    if kind == "none":
        return []
    if kind == "evenly":
        return [place / rate for place in range(int(rate * seconds))]
    if kind == "bursts":
        size = round(2 * rate)
        return [2 * burst + 0.3 + place * 0.005 for burst in range(int(seconds / 2)) for place in range(size)]
    drawn, instants, now = random.Random(7), [], 0.0
    while now < seconds:
        now += drawn.expovariate(rate)
        instants.append(now)
    return instants


class Vendor:
    """Counts what arrives in sliding windows; refuses what is too much, which does not count."""

    def __init__(self, windows: Sequence[tuple[int, int]]) -> None:
        self._windows = windows
        self._taken: list[deque[float]] = [deque() for _window in windows]
        self.log: list[tuple[float, str, bool]] = []

    def ask(self, who: str) -> tuple[bool, list[int]]:
        now = time.time()
        for taken, (_most, seconds) in zip(self._taken, self._windows, strict=True):
            while taken and taken[0] <= now - seconds:
                taken.popleft()
        free = all(len(taken) < most for taken, (most, _seconds) in zip(self._taken, self._windows, strict=True))
        if free:
            for taken in self._taken:
                taken.append(now)
        self.log.append((now, who, free))
        return free, [most - len(taken) for taken, (most, _seconds) in zip(self._taken, self._windows, strict=True)]


async def serve(vendor: Vendor, instants: Sequence[float], *, begin_at: float) -> None:
    """Answer until somebody asks for the log."""
    done = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            if line == b"log\n":
                writer.write(json.dumps(vendor.log).encode() + b"\n")
                await writer.drain()
                writer.close()
                done.set()
                return
            writer.write(json.dumps(vendor.ask("us")).encode() + b"\n")
            await writer.drain()

    async def other() -> None:
        for instant in instants:
            await asyncio.sleep(begin_at + instant - time.time())
            vendor.ask("other")

    server = await asyncio.start_server(answer, "127.0.0.1", 0, limit=2**24)
    print(server.sockets[0].getsockname()[1], flush=True)
    asking = asyncio.create_task(other())
    await done.wait()
    asking.cancel()


def work(database_url: str, port: int, limits: RequestLimits, *, starts_at: float, ends_at: float) -> None:
    """One process of ours: a request after the other, each through the limiter."""
    clock = SystemClock()
    limiter = Limiter(engine_for(database_url, pool_size=1), account="shared", limits=limits)
    connection = socket.create_connection(("127.0.0.1", port))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    lines = connection.makefile("rb")
    limiter.peek()
    time.sleep(max(0.0, starts_at - time.time()))
    gate = Gate(limiter, clock=clock, deadline=clock.monotonic() + ends_at - time.time(), stopping=threading.Event())
    try:
        while time.time() < ends_at:
            entry = gate.enter()
            time.sleep(WAY_SECONDS)
            connection.sendall(b"us\n")
            taken, left = json.loads(lines.readline())
            time.sleep(WAY_SECONDS)
            readings = tuple(
                QuotaReading(Unit.REQUESTS, window.seconds, window.most, remaining)
                for window, remaining in zip(limits.windows, left, strict=True)
            )
            gate.answered(entry, throttled=not taken, readings=readings)
    except AccountParked:
        pass


def allowed_beside(others: Sequence[float], windows: Sequence[WindowLimit], *, begin: float, end: float) -> int:
    """How many requests fit between others' requests, each at the first instant at which no window is over, ever."""
    taken, granted, now = sorted(others), 0, begin

    def too_early(now: float) -> float | None:
        for window in windows:
            until = bisect_left(taken, now + window.seconds)
            for last in [now, *taken[bisect_right(taken, now) : until]]:
                first = bisect_right(taken, last - window.seconds)
                if bisect_right(taken, last) - first >= window.most:
                    later = taken[first] + window.seconds if last == now else last
                    return max(later, math.nextafter(now, math.inf))
        return None

    while True:
        while (later := too_early(now)) is not None:
            now = later
        if now >= end:
            return granted
        insort(taken, now)
        granted += 1


def beside(
    database_url: str, kind: str, windows: tuple[WindowLimit, ...], *, processes: int, seconds: float, head_start: float
) -> dict[str, Any]:
    """Our processes beside another application of a ``kind``; what the vendor counted while there was always work."""
    longest = max(windows, key=lambda window: window.seconds)
    ahead = max(head_start, longest.seconds)
    begin_at = time.time()
    starts_at = begin_at + ahead
    environment = {**os.environ, "LIMITER_DATABASE_URL": database_url}
    vendor = subprocess.Popen(
        [sys.executable, __file__, "--vendor", kind, str(begin_at), str(SHARE * longest.most / longest.seconds),
         str(ahead + seconds + 5), json.dumps([(window.most, window.seconds) for window in windows])],
        stdout=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip
    assert vendor.stdout is not None
    port = int(vendor.stdout.readline())
    limits = RequestLimits(windows=windows, daily=None)
    command = [sys.executable, __file__, "--worker", str(port), limits.model_dump_json()]
    command += [str(starts_at), str(starts_at + seconds)]
    running = [subprocess.Popen(command, env=environment) for _process in range(processes)]
    for process in running:
        process.wait(timeout=ahead + seconds + 60)
    with socket.create_connection(("127.0.0.1", port)) as connection, connection.makefile("rb") as lines:
        connection.sendall(b"log\n")
        log = json.loads(lines.readline())
    vendor.wait(timeout=30)
    if any(process.returncode != 0 for process in running):
        raise SystemExit(f"a process of the limiter beside {kind!r} failed")
    ours = [(instant, taken) for instant, who, taken in log if who == "us" and instant < starts_at + seconds]
    theirs = [instant for instant, who, taken in log if who == "other" and taken]
    accepted = sum(taken for _instant, taken in ours)
    allowed = allowed_beside(theirs, windows, begin=starts_at, end=starts_at + seconds)
    during = [(instant, taken) for instant, who, taken in log if who == "other" and starts_at <= instant]
    return {
        "other": kind,
        "allowed": allowed,
        "accepted": accepted,
        "of_allowed": accepted / allowed,
        "refused": len(ours) - accepted,
        "other_accepted": sum(taken for _instant, taken in during),
        "other_refused": sum(not taken for _instant, taken in during),
    }


if __name__ == "__main__":
    if sys.argv[1] == "--vendor":
        wanted, began, rate, lasts, told = sys.argv[2:7]
        drawn = other_s_instants(wanted, rate=float(rate), seconds=float(lasts))
        asyncio.run(serve(Vendor(json.loads(told)), drawn, begin_at=float(began)))
    else:
        work(
            os.environ["LIMITER_DATABASE_URL"],
            int(sys.argv[2]),
            RequestLimits.model_validate_json(sys.argv[3]),
            starts_at=float(sys.argv[4]),
            ends_at=float(sys.argv[5]),
        )
