"""What it costs to measure how long leads take: CPU of the pipeline with measuring ÷ without.

    python benchmarks/measuring.py [--quick] [--pairs N] [--json PATH]

The same leads go the whole way, from the buffer to a destination, through two databases of one server: in one they are
measured, in the other every step is given a measure that does nothing. Measuring includes its share of what runs
beside the steps: rows are folded into histograms after every second micro-batch, oftener than the watch does.
The destination is a folder of NDJSON files, the cheapest there is: the share of measuring is not hidden behind HTTP.

A pair is one micro-batch in each database, right after each other, the first of the two by turns. CPU is this process's
and that of PostgreSQL's backends. The figure is the median of the pairs' ratios; the spread is printed beside it.
Micro-batches of 500 leads (`measuring_overhead`), and of 25, where a chunk's fixed cost weighs most.
"""

import argparse
import gc
import logging
import statistics
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import sqlalchemy as sa
from machine import describe_machine, write_results

from leads_pipeline import flows
from leads_pipeline.buffer.port import NewLead
from leads_pipeline.buffer.postgresql import PostgresBuffer
from leads_pipeline.clock import SystemClock
from leads_pipeline.config import parse_settings
from leads_pipeline.domain.ids import uuid7
from leads_pipeline.domain.stage import ALL_LANES, Lane
from leads_pipeline.flows import DRAINED_STAGES, FlowContext, drain
from leads_pipeline.storage.database import engine_for
from leads_pipeline.storage.embedded import EmbeddedServer
from leads_pipeline.storage.latency import fold, measure_latency, measure_nothing
from leads_pipeline.storage.migrate import upgrade
from leads_pipeline.synthetic.leads import SyntheticLead, generate_leads
from leads_pipeline.telemetry import configure_logging

WANTED = 1.03
# The first ones pay for plans, connections and the model.
WARM_UP = 2
SETTINGS = """
version: 1
tenants: {{bench: {{country: US, sources: {{website: {{}}, webinar: {{}}, partner: {{}}}}, destinations: [out]}}}}
destinations:
  out: {{vendor: file, account: out, directory: {directory}}}
verification: {{mx: {{enabled: false}}}}
"""
_clock = SystemClock()


@dataclass(frozen=True)
class Size:
    """A micro-batch, and how often both sides get one."""

    leads: int
    pairs: int
    repeated: int = 1  # micro-batches in one turn: of few leads one alone is too short to be told apart


@dataclass
class Side:
    """One of the two: a database, and the context in which its steps run."""

    context: FlowContext
    folds: bool

    def capture(self, leads: Sequence[SyntheticLead]) -> None:
        """Put leads into the buffer, each with an id of its own."""
        now = _clock.now()
        PostgresBuffer(self.context.engine).append(
            [
                NewLead(
                    lead_id=(lead_id := uuid7(now)),
                    tenant="bench",
                    source=lead.source,
                    lane=Lane.REAL_TIME,
                    received_at=now,
                    key_hex=lead_id.hex.rjust(64, "0"),
                    body_hex="0" * 64,
                    payload=dict(lead.payload),
                    consent=list(lead.consent),
                    context={},
                )
                for lead in leads
            ],
            now=now,
        )

    def move(self) -> None:
        """Take what was captured all the way."""
        for stage in DRAINED_STAGES:
            drain(self.context, stage, lanes=ALL_LANES, runner_id="bench")
        flows.deliver(self.context, flows.plan_sync(self.context, lanes=ALL_LANES), runner_id="bench")


class Cpu:
    """CPU seconds of this process and of the server's backends, those that have ended included."""

    def __init__(self, server: EmbeddedServer) -> None:
        port = server.status().port
        [self._postmaster] = [
            process
            for process in psutil.process_iter(["name"])
            if process.info["name"] == "postgres"
            and any(item.laddr and item.laddr.port == port for item in process.net_connections(kind="tcp"))
            and not any(parent.name() == "postgres" for parent in process.parents())
        ]

    def seconds(self) -> float:
        spent = self._postmaster.cpu_times()
        total = time.process_time() + spent.children_user + spent.children_system
        for child in self._postmaster.children():
            try:
                title = " ".join(child.cmdline())
                if "bench_" in title:  # a client's backend, by its database
                    times = child.cpu_times()
                    total += times.user + times.system
            except psutil.NoSuchProcess:
                continue
        return total


def compare(sides: dict[str, Side], cpu: Cpu, size: Size, *, seed: int) -> dict[str, Any]:
    """The pairs' CPU seconds and ratios."""
    turns = size.pairs + WARM_UP
    leads = generate_leads(turns * size.leads * size.repeated, seed=seed)
    found: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(turns):
        order = list(sides) if turn % 2 else list(reversed(sides))
        batches = [
            leads[first : first + size.leads]
            for first in range(turn * size.leads * size.repeated, (turn + 1) * size.leads * size.repeated, size.leads)
        ]
        for name in order:
            side = sides[name]
            spent = 0.0
            for number, batch in enumerate(batches):
                side.capture(batch)
                gc.collect()
                before = cpu.seconds()
                side.move()
                if side.folds and (number % 2 or size.repeated == 1):
                    fold(side.context.engine, now=_clock.now())
                spent += cpu.seconds() - before
            if turn >= WARM_UP:
                found[name].append(spent)
        for side in sides.values():
            tidy(side.context.engine)
    ratios = [with_ / without for with_, without in zip(found["with"], found["without"], strict=True)]
    quarter, median, three_quarters = statistics.quantiles(ratios, n=4)
    leads_of_a_turn = size.leads * size.repeated
    return {
        "leads": size.leads,
        "pairs": size.pairs,
        "overhead": round(median, 4),
        "quartiles": [round(quarter, 4), round(three_quarters, 4)],
        "cpu_ms_per_lead_with": round(1000 * statistics.median(found["with"]) / leads_of_a_turn, 3),
        "cpu_ms_per_lead_without": round(1000 * statistics.median(found["without"]) / leads_of_a_turn, 3),
        "ratios": [round(ratio, 4) for ratio in ratios],
    }


def tidy(engine: sa.Engine) -> None:
    """What autovacuum would do at some time or other, here between the pairs."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("vacuum analyze")


def measure(sizes: Sequence[Size]) -> list[dict[str, Any]]:
    """Every size, in databases of its own."""
    with tempfile.TemporaryDirectory(prefix="leads-bench-") as place, ExitStack() as stack:
        server = EmbeddedServer(Path(place) / "state")
        server.start()
        stack.callback(server.remove)
        results = []
        for number, size in enumerate(sizes):
            with ExitStack() as both:
                sides: dict[str, Side] = {}
                for name, how in (("with", measure_latency), ("without", measure_nothing)):
                    engine = engine_for(server.drop_and_create_database(f"bench_{name}_{number}"), pool_size=8)
                    both.callback(engine.dispose)
                    upgrade(engine, now=_clock.now() - timedelta(seconds=1))
                    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                        connection.exec_driver_sql("alter system set autovacuum = off")
                        connection.exec_driver_sql("select pg_reload_conf()")
                    out = Path(place) / f"{name}{number}"
                    out.mkdir()
                    settings = parse_settings(SETTINGS.format(directory=out), path=Path(place) / "leads.yaml")
                    sides[name] = Side(FlowContext(engine, settings, _clock, how), folds=name == "with")
                results.append(compare(sides, Cpu(server), size, seed=7 + number))
        return results


def main() -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="nine pairs of each size, of fewer leads")
    parser.add_argument("--pairs", type=int, default=15, help="pairs of each size")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the figures to a file")
    arguments = parser.parse_args()
    pairs = 9 if arguments.quick else max(2, arguments.pairs)
    configure_logging(level=logging.WARNING)
    large, small = measure([Size(500, pairs), Size(25, pairs, repeated=4 if arguments.quick else 10)])
    print(describe_machine())
    print(f"{'micro-batch':>12}{'pairs':>7}{'with, ms/lead':>15}{'without':>9}{'ratio':>8}{'quartiles':>18}")
    for found in (large, small):
        low, high = found["quartiles"]
        print(
            f"{found['leads']:>12}{found['pairs']:>7}{found['cpu_ms_per_lead_with']:>15}"
            f"{found['cpu_ms_per_lead_without']:>9}{found['overhead']:>8}{f'{low} to {high}':>18}"
        )
    print(f"measuring_overhead {large['overhead']} (wanted: at most {WANTED})")
    if arguments.json:
        results = {"measuring_overhead": large["overhead"], "small": small["overhead"], "sizes": [large, small]}
        write_results(arguments.json, results)


if __name__ == "__main__":
    main()
