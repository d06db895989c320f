"""The limiter under four processes, beside a token bucket and a perfect limiter, and what one grant costs.

    python benchmarks/limiter.py [--quick] [--json PATH]

Every process takes each grant that it can get. "of ideal" compares their number with what a perfect limiter would
grant; "most in" is the fullest window as the callers saw it. The token bucket is the usual one, burst = limit, in one
locked row. A grant's cost is compared with an empty transaction (`select 1` and commit) on the same connection, and
with the least that any shared limiter must pay: the commit of one updated row, which waits for the disk.
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

import sqlalchemy as sa

from leads_pipeline.clock import SystemClock
from leads_pipeline.config import RequestLimits, WindowLimit
from leads_pipeline.errors import AccountParked
from leads_pipeline.outbound.gate import Gate
from leads_pipeline.outbound.limiter import Grant, Limiter
from leads_pipeline.storage.database import engine_for

PROCESSES = 4
# Long enough for every process to have imported what it needs.
HEAD_START_SECONDS = 5.0

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

    @property
    def limits(self) -> RequestLimits:
        return RequestLimits(windows=self.windows, daily=None)


FULL = Scale((WindowLimit(requests=100, seconds=2), WindowLimit(requests=300, seconds=10)), 21.0, 2_000)
QUICK = Scale((WindowLimit(requests=50, seconds=1), WindowLimit(requests=100, seconds=3)), 6.5, 200)


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


def milliseconds(call: Callable[[], object], *, times: int) -> dict[str, float]:
    """Median and 99th percentile of one call."""
    found = []
    for _time in range(times):
        started = time.perf_counter()
        call()
        found.append((time.perf_counter() - started) * 1000)
    found.sort()
    return {"p50_ms": statistics.median(found), "p99_ms": found[int(len(found) * 0.99)]}


def costs(engine: sa.Engine, *, times: int) -> dict[str, dict[str, float]]:
    """What a grant costs when nobody waits, empty and with a full log, and what an empty transaction costs."""
    window = WindowLimit(requests=1_000_000, seconds=10)
    limiter = Limiter(engine, account="costs", limits=RequestLimits(windows=(window,), daily=None))

    def nothing() -> None:
        with engine.begin() as connection:
            connection.execute(sa.text("select 1"))

    def update() -> None:
        with engine.begin() as connection:
            connection.execute(sa.text("update token_bucket set refilled_at = clock_timestamp()"))

    def grant() -> None:
        if not isinstance(limiter.acquire(), Grant):
            raise SystemExit("the limiter refused although its window was not full")

    now = int(time.time() * 1000)
    full = json.dumps({"10": [[now - 20 * slot, 100] for slot in range(499, 0, -1)]})
    found = {
        "empty transaction": milliseconds(nothing, times=times),
        "one updated row": milliseconds(update, times=times),
        "grant": milliseconds(grant, times=times),
    }
    with engine.begin() as connection:
        connection.execute(
            sa.text("update rate_limits set grants = cast(:log as jsonb) where account = 'costs'"), {"log": full}
        )
    return found | {"grant, after 50,000 in its window": milliseconds(grant, times=times)}


def main() -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="six seconds instead of 21")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    arguments = parser.parse_args()
    from machine import describe_machine, write_results

    from leads_pipeline.storage.embedded import EmbeddedServer
    from leads_pipeline.storage.migrate import upgrade

    scale = QUICK if arguments.quick else FULL
    ideal = ideal_grants(scale.windows, seconds=scale.seconds)
    rows: list[dict[str, Any]] = []
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
            cost = costs(engine, times=scale.costs)
            engine.dispose()
        finally:
            server.remove()
    print(f"{describe_machine()}; {PROCESSES} processes, {scale.seconds:.0f} s, a perfect limiter grants {ideal}\n")
    header = "".join(f"{f'most in {item.seconds} s (limit {item.requests})':>28}" for item in scale.windows)
    print(f"{'limiter':<18}{'grants':>8}{'of ideal':>10}{header}")
    for row in rows:
        fullest = "".join(f"{row['most'][str(item.seconds)]:>28}" for item in scale.windows)
        print(f"{row['limiter']:<18}{row['grants']:>8}{row['of_ideal']:>10.2f}{fullest}")
    floor = cost["empty transaction"]["p50_ms"]
    print(f"\n{'':<36}{'p50 ms':>8}{'p99 ms':>8}{'of floor':>10}")
    for name, found in cost.items():
        print(f"{name:<36}{found['p50_ms']:>8.2f}{found['p99_ms']:>8.2f}{found['p50_ms'] / floor:>10.1f}")
    if arguments.json:
        write_results(arguments.json, {"ideal": ideal, "limiters": rows, "costs": cost})


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        worker(sys.argv[2], sys.argv[3], float(sys.argv[4]), float(sys.argv[5]))
    else:
        main()
