"""How long a lead takes from the door to the CRM through sensors and Dagster, beside a run that does nothing.

    python benchmarks/latency.py [--quick] [--json PATH]

Fifty leads a minute for ten minutes (``--quick``: two), posted one by one to the product as `leads dev` runs it. The
floor is the time from an event to the end of an empty Dagster run: five assets that do nothing and a sensor as anybody
writes it, in a location of its own, asked for by the same daemon before and after the leads. Then a run over a
micro-batch of 500 leads against a run of the same job with nothing pending, and what importing the location costs.
"""

import argparse
import os
import random
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from latency_product import SOURCES, Product, running_product
from machine import describe_machine, write_results

LEADS_PER_MINUTE = 50
WANTED_P99, WANTED_500 = 2.5, 2.0

_LATENCIES = sa.text(
    """
    select r.capture_lane as lane, extract(epoch from o.delivered_at - r.received_at)::float8 as seconds
    from raw_leads r join deduped_leads d using (lead_id) join outbox o using (contact_id)
    where r.received_at >= to_timestamp(:since) and o.delivered_at is not null
    """
)
_LAUNCH = """
mutation Launch($job: String!) {
  launchRun(executionParams: {selector: {repositoryLocationName: "leads", repositoryName: "__repository__",
      jobName: $job}, runConfigData: "{}"}) {
    __typename ... on PythonError { message } ... on RunConfigValidationInvalid { errors { message } }
  }
}
"""


def quantile(values: list[float], share: float) -> float:
    """The value that this share of them does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, round(share * (len(ordered) - 1)))]


def person(number: int) -> dict[str, str]:
    """Somebody who is nobody else."""
    name = f"{random.Random(number).getrandbits(64):016x}"
    letters = name.translate(str.maketrans("0123456789", "ghijklmnop"))
    return {
        "email": f"{letters}@example-{number % 50}.com",
        "full_name": f"{letters[:7].title()} {letters[7:].title()}",
    }


def empty_runs(product: Product, kind: str, count: int) -> list[float]:
    """Seconds from an event to the end of the run that it starts, each at a random moment of the sensor's tick."""
    found = []
    moments = random.Random(count)
    for _ in range(count):
        time.sleep(moments.uniform(0, 5))
        began = time.time()
        (product.directory / kind).touch()
        found.append(product.wait_for_run(f"empty_{kind}", since=began)["ended"] - began)
    return found


def under_load(product: Product, minutes: float) -> dict[str, list[float]]:
    """Latencies by lane of leads that come one by one at an even pace."""
    sources, began, total = list(SOURCES), time.time(), round(LEADS_PER_MINUTE * minutes)
    for number in range(total):
        wait = began + number * 60 / LEADS_PER_MINUTE - time.time()
        if wait > 0:
            time.sleep(wait)
        product.post(sources[number % 3 == 2], [person(number)])
    deadline = time.monotonic() + 180
    while True:
        with product.engine.connect() as connection:
            rows = connection.execute(_LATENCIES, {"since": began}).all()
        if len(rows) >= total:
            break
        if time.monotonic() > deadline:
            raise RuntimeError(f"only {len(rows)} of {total} leads reached the CRM; logs in {product.directory}")
        time.sleep(1)
    found: dict[str, list[float]] = {}
    for row in rows:
        found.setdefault(row.lane, []).append(row.seconds)
    return found


def micro_batches(product: Product, repeats: int) -> tuple[list[float], list[float]]:
    """Seconds of runs of near_real_time, from asked for to ended: with 500 leads waiting, and with nothing."""
    full, empty = [], []
    for repeat in range(repeats):
        began = time.time()
        product.post("website", [person(1_000_000 + repeat * 1_000 + number) for number in range(500)])
        run = product.wait_for_run("near_real_time", since=began)
        full.append(run["ended"] - run["made"])
        settle(product)
        began = time.time()
        launched = product.graphql(_LAUNCH, job="near_real_time")["launchRun"]
        if launched["__typename"] != "LaunchRunSuccess":
            raise RuntimeError(str(launched))
        run = product.wait_for_run("near_real_time", since=began)
        empty.append(run["ended"] - run["made"])
    return full, empty


def settle(product: Product) -> None:
    """Wait until no run is under way, so that the next one is measured alone."""
    quiet = 0
    deadline = time.monotonic() + 180
    while quiet < 4 and time.monotonic() < deadline:
        with product.engine.connect() as connection:
            busy = connection.execute(
                sa.text(
                    "select count(*) from public.runs where status in ('QUEUED', 'NOT_STARTED', 'STARTING', 'STARTED')"
                )
            ).scalar_one()
        quiet = 0 if busy else quiet + 1
        time.sleep(0.5)


def imports() -> dict[str, Any]:
    """What loading the code location takes, and which packages take it."""
    program = "from leads_pipeline.definitions import defs; defs()"
    walls = []
    for _ in range(3):
        began = time.monotonic()
        subprocess.run([sys.executable, "-c", program], check=True)
        walls.append(time.monotonic() - began)
    told = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", program], check=True, capture_output=True, text=True
    )
    by_package: Counter[str] = Counter()
    for line in told.stderr.splitlines():
        if found := re.match(r"import time:\s+(\d+) \|\s+\d+ \|\s+(\S+)", line):
            by_package[found[2].partition(".")[0]] += int(found[1])
    total = sum(by_package.values())
    shares = [(name, round(micros / 1e6, 3), round(micros / total, 3)) for name, micros in by_package.most_common(8)]
    return {"seconds": round(statistics.median(walls), 2), "by_package": shares}


def main() -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two minutes of leads")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    arguments = parser.parse_args()
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that all that was started ends with it
    repeats = 3 if arguments.quick else 8
    print(describe_machine(), flush=True)
    with tempfile.TemporaryDirectory(prefix="latency-") as directory, running_product(Path(directory)) as product:
        # The first run of each location compiles, connects and warms the disk; it belongs to nothing that is measured.
        empty_runs(product, "plain", 1)
        product.post("website", [person(-1)])
        product.wait_for_run("near_real_time", since=time.time() - 60)
        settle(product)
        plain, waiting = empty_runs(product, "plain", repeats), empty_runs(product, "waiting", repeats)
        latencies = under_load(product, 2 if arguments.quick else 10)
        settle(product)
        plain += empty_runs(product, "plain", repeats)
        waiting += empty_runs(product, "waiting", repeats)
        full, empty = micro_batches(product, 2 if arguments.quick else 5)
    loading = imports()
    event_to_end, patient = statistics.median(plain), statistics.median(waiting)
    everything = [seconds for values in latencies.values() for seconds in values]
    print(f"\nfrom an event to the end of an empty run, median of {len(plain)}: {event_to_end:.2f} s "
          f"({min(plain):.1f} to {max(plain):.1f}); with a sensor that waits in its tick {patient:.2f} s")  # fmt: skip
    print(f"{'lane':<16}{'leads':>6}{'P50, s':>8}{'P95, s':>8}{'P99, s':>8}")
    rows = {}
    for lane, values in {**latencies, "all": everything}.items():
        rows[lane] = {"leads": len(values), **{f"p{p}": round(quantile(values, p / 100), 2) for p in (50, 95, 99)}}
        print(f"{lane:<16}{len(values):>6}" + "".join(f"{rows[lane][f'p{p}']:>8.2f}" for p in (50, 95, 99)))
    p99 = quantile(everything, 0.99)
    ratios = {
        "p99_over_empty_run": round(p99 / event_to_end, 2),
        "p99_over_waiting_empty_run": round(p99 / patient, 2),
        "run_500_over_empty": round(statistics.median(full) / statistics.median(empty), 2),
    }
    print(f"a run over 500 leads {statistics.median(full):.2f} s, over nothing {statistics.median(empty):.2f} s")
    print(f"the code location is imported in {loading['seconds']:.2f} s: "
          + ", ".join(f"{name} {share:.0%}" for name, _seconds, share in loading["by_package"]))  # fmt: skip
    print(f"p99_over_empty_run {ratios['p99_over_empty_run']} (at most {WANTED_P99}; over one whose sensor waits in "
          f"its tick {ratios['p99_over_waiting_empty_run']})")  # fmt: skip
    print(f"run_500_over_empty {ratios['run_500_over_empty']} (at most {WANTED_500})")
    if arguments.json:
        empties = {"plain_seconds": plain, "waiting_seconds": waiting}
        batches = {"seconds_500": full, "seconds_empty": empty}
        write_results(
            arguments.json, {**ratios, "lanes": rows, "empty": empties, "micro_batch": batches, "imports": loading}
        )


if __name__ == "__main__":
    main()
