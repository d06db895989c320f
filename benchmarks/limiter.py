"""The limiter under eight processes, beside a token bucket and a perfect limiter; beside another application; its cost.

    python benchmarks/limiter.py [--quick] [--json PATH]

Every process takes each grant that it can get. "of ideal" compares their number with what a perfect limiter would
grant; "most in" is the fullest window as the callers saw it. The token bucket is the usual one, burst = limit, in one
locked row.

Then a vendor in a process of its own counts what arrives (``limiter_beside``): from our eight processes, each of whose
requests takes 20 ms, and from another application, which takes 30 % of the quota evenly, in bursts or by chance and was
there before us. The vendor says in each answer what is left of its windows. "of allowed" compares what it took of us
with what a perfect limiter that knew the other application's requests beforehand could have sent.

A grant's cost is compared with an empty transaction (`select 1` and commit) on the same connection, and with the least
that any shared limiter must pay: the commit of one updated row, which waits for the disk. CPU is this process's and the
database's for it.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import sqlalchemy as sa

from leads_pipeline.clock import SystemClock
from leads_pipeline.config import DailyLimit, RequestLimits, WindowLimit
from leads_pipeline.domain.delivery import QuotaReading, Unit
from leads_pipeline.errors import AccountParked
from leads_pipeline.outbound.gate import Gate
from leads_pipeline.outbound.limiter import Grant, Limiter, Seen
from leads_pipeline.outbound.limiter_state import SlotLog
from leads_pipeline.storage.database import engine_for

PROCESSES = 8
# Long enough for every process to have imported what it needs.
HEAD_START_SECONDS = 8.0

TAKE_TOKEN = sa.text(
    """
    with locked as materialized (select tokens, refilled_at from token_bucket for update),
    refilled as (
        select least(:burst, tokens + :rate * extract(epoch from clock_timestamp() - refilled_at)) as tokens from locked
    )
    update token_bucket set refilled_at = clock_timestamp(),
        tokens = refilled.tokens - case when refilled.tokens >= 1 then 1 else 0 end
    from refilled returning refilled.tokens
    """
)


@dataclass(frozen=True)
class Scale:
    """How long, and against which windows."""

    windows: tuple[WindowLimit, ...]
    seconds: float
    costs: int
    beside: float
    others: tuple[str, ...]

    @property
    def limits(self) -> RequestLimits:
        return RequestLimits(windows=self.windows, daily=None)


FULL = Scale(
    (WindowLimit(requests=100, seconds=2), WindowLimit(requests=300, seconds=10)),
    21.0,
    2_000,
    31.0,
    ("none", "evenly", "bursts", "chance"),
)
QUICK = Scale(
    (WindowLimit(requests=50, seconds=1), WindowLimit(requests=100, seconds=3)), 6.5, 200, 7.0, ("none", "evenly")
)


def most_in_any(instants: Sequence[float], seconds: float) -> int:
    """The largest number of ``instants`` (ascending) in any ``seconds`` on end."""
    most = first = 0
    for last, instant in enumerate(instants):
        while instant - instants[first] >= seconds:
            first += 1
        most = max(most, last - first + 1)
    return most


def ideal_grants(windows: Sequence[WindowLimit], *, seconds: float) -> int:
    """What a perfect limiter grants to an endless queue within ``seconds``: each at the first instant that is free."""
    granted: list[float] = []
    while True:
        free = [granted[-item.requests] + item.seconds for item in windows if len(granted) >= item.requests]
        instant = max([*free, granted[-1] if granted else 0.0])
        if instant >= seconds:
            return len(granted)
        granted.append(instant)


def take_from_limiter(engine: sa.Engine, limits: RequestLimits, *, ends_at: float) -> list[float]:
    """The Unix seconds at which requests could have left, as delivery takes its grants."""
    clock = SystemClock()
    limiter = Limiter(engine, account="hammered", limits=limits)
    deadline = clock.monotonic() + ends_at - time.time()
    gate = Gate(limiter, clock=clock, deadline=deadline, stopping=threading.Event())
    taken: list[float] = []
    try:
        while time.time() < ends_at:
            entry = gate.enter()
            taken.append(time.time())
            gate.answered(entry)
    except AccountParked:
        pass
    return [instant for instant in taken if instant < ends_at]


def take_from_bucket(engine: sa.Engine, limits: RequestLimits, *, ends_at: float) -> list[float]:
    """The same from a token bucket that knows one window, the longest."""
    window = max(limits.windows, key=lambda item: item.seconds)
    values = {"burst": window.requests, "rate": window.requests / window.seconds}
    taken: list[float] = []
    while time.time() < ends_at:
        with engine.begin() as connection:
            tokens = connection.execute(TAKE_TOKEN, values).scalar_one()
        if tokens >= 1:
            taken.append(time.time())
        else:
            time.sleep(float(1 - tokens) / values["rate"])
    return [instant for instant in taken if instant < ends_at]


LIMITERS: dict[str, Callable[..., list[float]]] = {
    "leads_pipeline": take_from_limiter,
    "token bucket": take_from_bucket,
}


def hammer(database_url: str, name: str, limits: RequestLimits, *, seconds: float) -> list[float]:
    """Let ``PROCESSES`` processes take what they can get; ascending Unix seconds."""
    starts_at = time.time() + HEAD_START_SECONDS
    command = [sys.executable, __file__, "--worker", name, limits.model_dump_json()]
    command += [str(starts_at), str(starts_at + seconds)]
    # The URL holds a password, and a command line is everybody's to read.
    environment = {**os.environ, "LIMITER_DATABASE_URL": database_url}
    running = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) for _process in range(PROCESSES)
    ]
    answers = [process.communicate(timeout=seconds + 60)[0] for process in running]
    if any(process.returncode != 0 for process in running):
        raise SystemExit(f"a process of the limiter {name!r} failed")
    return sorted(instant for answer in answers for instant in json.loads(answer))


def worker(name: str, limits: str, starts_at: float, ends_at: float) -> None:
    """One process: wait for the start, take grants, print them."""
    engine = engine_for(os.environ["LIMITER_DATABASE_URL"], pool_size=1)
    time.sleep(max(0.0, starts_at - time.time()))
    print(json.dumps(LIMITERS[name](engine, RequestLimits.model_validate_json(limits), ends_at=ends_at)))


def milliseconds(call: Callable[[], object], *, times: int, backend: int) -> dict[str, float]:
    """Median and 99th percentile of one call, and its CPU here and in the database's process ``backend``."""
    found = []
    database = psutil.Process(backend)

    def used() -> float:
        spent = database.cpu_times()
        return time.process_time() + spent.user + spent.system

    before = used()
    for _time in range(times):
        started = time.perf_counter()
        call()
        found.append((time.perf_counter() - started) * 1000)
    cpu = (used() - before) * 1000 / times
    found.sort()
    return {"p50_ms": statistics.median(found), "p99_ms": found[int(len(found) * 0.99)], "cpu_ms": cpu}


def costs(url: str, *, times: int) -> dict[str, dict[str, float]]:
    """What a grant costs when nobody waits, empty and with full logs, and what an empty transaction costs."""
    engine = engine_for(url, pool_size=1)
    many = 10_000_000
    short = (WindowLimit(requests=many, seconds=2), WindowLimit(requests=many, seconds=10))
    rolling = WindowLimit(requests=many, seconds=86_400)
    limiters = {
        "grant": Limiter(engine, account="new", limits=RequestLimits(windows=short, daily=None)),
        "grant, full logs of 2 and 10 s": Limiter(
            engine, account="full", limits=RequestLimits(windows=short, daily=DailyLimit(requests=many))
        ),
        "grant, full logs of 2, 10 s and 24 h": Limiter(
            engine, account="fuller", limits=RequestLimits(windows=(*short, rolling), daily=DailyLimit(requests=many))
        ),
    }
    with engine.connect() as connection:
        backend = connection.execute(sa.text("select pg_backend_pid()")).scalar_one()

    def nothing() -> None:
        with engine.begin() as connection:
            connection.execute(sa.text("select 1"))

    def update() -> None:
        with engine.begin() as connection:
            connection.execute(sa.text("update token_bucket set refilled_at = clock_timestamp()"))

    def grant(limiter: Limiter) -> Grant:
        answer = limiter.acquire()
        if not isinstance(answer, Grant):
            raise SystemExit("the limiter refused although its window was not full")
        return answer

    found = {
        "empty transaction": milliseconds(nothing, times=times, backend=backend),
        "one updated row": milliseconds(update, times=times, backend=backend),
    }
    for name, limiter in limiters.items():
        grant(limiter)
        if "full" in name:
            fill(engine, limiter.account)
        found[name] = milliseconds(lambda: grant(limiter), times=times, backend=backend)  # noqa: B023 - called at once
        found[name]["log_bytes"] = log_bytes(engine, limiter.account)
    granted = grant(limiters["grant, full logs of 2, 10 s and 24 h"])
    told = (QuotaReading(Unit.REQUESTS, 10, many, 100), QuotaReading(Unit.REQUESTS, None, many, 100))
    found["answer with two readings, the same"] = milliseconds(
        lambda: limiter.answered(granted, Seen(readings=told)), times=times, backend=backend
    )
    engine.dispose()
    return found


def fill(engine: sa.Engine, account: str) -> None:
    """Put a grant into each slot of each log of an account."""
    now = int(time.time() * 1000)
    with engine.begin() as connection:
        update = sa.text("update rate_limits set grants = cast(:logs as jsonb) where account = :account")
        read = sa.text("select grants from rate_limits where account = :account")
        logs = {}
        for key in connection.execute(read, {"account": account}).scalar_one():
            slot = int(key.rsplit("/", 1)[1]) * 2
            times = tuple(now - slot * place for place in range(499, -1, -1))
            logs[key] = SlotLog(times, tuple(100 + place % 100 for place in range(500))).write()
        connection.execute(update, {"logs": json.dumps(logs), "account": account})


def log_bytes(engine: sa.Engine, account: str) -> int:
    """How large an account's logs are, before PostgreSQL compresses them."""
    size = sa.text("select octet_length(grants::text) from rate_limits where account = :account")
    with engine.connect() as connection:
        return int(connection.execute(size, {"account": account}).scalar_one())


def forget(url: str) -> None:
    """Let every limiter begin anew."""
    engine = engine_for(url, pool_size=1)
    with engine.begin() as connection:
        connection.execute(sa.text("delete from rate_limits"))
    engine.dispose()


def main() -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="six seconds instead of 21, and less of all")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    arguments = parser.parse_args()
    from limiter_beside import beside
    from machine import describe_machine, write_results

    from leads_pipeline.storage.embedded import EmbeddedServer
    from leads_pipeline.storage.migrate import upgrade

    scale = QUICK if arguments.quick else FULL
    ideal = ideal_grants(scale.windows, seconds=scale.seconds)
    rows: list[dict[str, Any]] = []
    shared: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as directory:
        server = EmbeddedServer(Path(directory))
        try:
            url = server.start()
            engine = engine_for(url)
            upgrade(engine, now=SystemClock().now())
            with engine.begin() as connection:
                connection.execute(sa.text("create table token_bucket (tokens float8, refilled_at timestamptz)"))
                burst = max(scale.windows, key=lambda item: item.seconds).requests
                connection.execute(
                    sa.text("insert into token_bucket values (:tokens, clock_timestamp())"), {"tokens": burst}
                )
            for name in LIMITERS:
                granted = hammer(url, name, scale.limits, seconds=scale.seconds)
                fullest = {str(item.seconds): most_in_any(granted, item.seconds) for item in scale.windows}
                rows.append(
                    {"limiter": name, "grants": len(granted), "of_ideal": len(granted) / ideal, "most": fullest}
                )
            engine.dispose()
            for kind in scale.others:
                forget(url)
                shared.append(
                    beside(
                        url,
                        kind,
                        scale.windows,
                        processes=PROCESSES,
                        seconds=scale.beside,
                        head_start=HEAD_START_SECONDS,
                    )
                )
            cost = costs(url, times=scale.costs)
        finally:
            server.remove()
    print(f"{describe_machine()}; {PROCESSES} processes, {scale.seconds:.0f} s, a perfect limiter grants {ideal}\n")
    header = "".join(f"{f'most in {item.seconds} s (limit {item.requests})':>28}" for item in scale.windows)
    print(f"{'limiter':<18}{'grants':>8}{'of ideal':>10}{header}")
    for row in rows:
        fullest = "".join(f"{row['most'][str(item.seconds)]:>28}" for item in scale.windows)
        print(f"{row['limiter']:<18}{row['grants']:>8}{row['of_ideal']:>10.2f}{fullest}")
    print(f"\n{'beside another application':<28}{'of allowed':>12}{'sent':>8}{'refused':>9}{'its own, refused':>24}")
    for row in shared:
        its = f"{row['other_accepted']}, {row['other_refused']}"
        print(f"{row['other']:<28}{row['of_allowed']:>12.3f}{row['accepted']:>8}{row['refused']:>9}{its:>24}")
    floor = cost["empty transaction"]["p50_ms"]
    print(f"\n{'':<40}{'p50 ms':>8}{'p99 ms':>8}{'of floor':>10}{'CPU ms':>8}{'log bytes':>11}")
    for name, found in cost.items():
        print(f"{name:<40}{found['p50_ms']:>8.2f}{found['p99_ms']:>8.2f}{found['p50_ms'] / floor:>10.1f}"
              f"{found['cpu_ms']:>8.2f}{found.get('log_bytes', ''):>11}")  # fmt: skip
    if arguments.json:
        write_results(arguments.json, {"ideal": ideal, "limiters": rows, "beside": shared, "costs": cost})


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        worker(sys.argv[2], sys.argv[3], float(sys.argv[4]), float(sys.argv[5]))
    else:
        main()
