"""What delivery promises: the whole quota and never more, a launch, many tenants, a large outbox.

    python benchmarks/delivery.py [--part NAME …] [--quick] [--json PATH]

quota    eight processes against 100 requests / 2 s and 300 / 10 s, by the sandbox's own log of arrivals
beside   the same with another application that takes 30 % of the quota
launch   250,000 signups posted, verified minimally, deduped and delivered at 190 requests / 10 s
launch-dagster   the same through Dagster's daemon and its runs
tenants  the same load of 10 and of 1,000 tenants
peers    drt, dlt and HubSpot's own client against the same sandbox, each in an environment of its own
outbox   a claim with 10,000, a million and ten million rows waiting

The sandbox, PostgreSQL, the capture door and every worker are processes of their own on this machine; nothing outside
of it is asked. Each part says how it judges in its own module.
"""

import argparse
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import delivery_launch
import delivery_load
import delivery_peers
import delivery_quota
from machine import describe_machine, write_results


@dataclass(frozen=True)
class Part:
    """A part of the benchmark, at two sizes."""

    full: Callable[[], dict[str, Any]]
    quick: Callable[[], dict[str, Any]]
    show: Callable[[Mapping[str, Any]], None]


def _parts(signups: int | None = None, keep: Path | None = None) -> dict[str, Part]:
    quota, load, launch, peers = delivery_quota, delivery_load, delivery_launch, delivery_peers
    whole = launch.FULL if signups is None else replace(launch.FULL, signups=signups)
    return {
        "quota": Part(
            partial(quota.quota, quota.FULL, beside=False), partial(quota.quota, quota.QUICK, beside=False), quota.show
        ),
        "beside": Part(
            partial(quota.quota, quota.FULL, beside=True), partial(quota.quota, quota.QUICK, beside=True), quota.show
        ),
        "peers": Part(
            partial(peers.peers, replace(peers.FULL, keep=keep)),
            partial(peers.peers, replace(peers.QUICK, keep=keep)),
            peers.show,
        ),
        "tenants": Part(partial(load.tenants, load.FULL), partial(load.tenants, load.QUICK), load.show_tenants),
        "outbox": Part(partial(load.outbox, load.FULL), partial(load.outbox, load.QUICK), load.show_outbox),
        "launch": Part(partial(launch.launch, whole), partial(launch.launch, launch.QUICK), launch.show),
        "launch-dagster": Part(
            partial(launch.launch, whole, dagster=True), partial(launch.launch, launch.QUICK, dagster=True), launch.show
        ),
    }


# What the processes of a measurement do.
WORKERS: dict[str, Callable[..., None]] = {
    "chain": lambda config, *stages: delivery_launch.chain(config, stages),
    "deliver-once": delivery_load.deliver_once,
    "post": lambda path, port: delivery_launch.post(path, int(port)),
}


def main() -> None:
    """Run, print, write."""
    if sys.argv[1:2] == ["--worker"]:
        WORKERS[sys.argv[2]](*sys.argv[3:])
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--part", action="append", choices=tuple(_parts()), help="only this one; several times for several"
    )
    parser.add_argument("--quick", action="store_true", help="small sizes: a short look")
    parser.add_argument("--signups", type=int, help="of the launch, instead of 250,000")
    parser.add_argument("--keep", type=Path, help="where the peers' environments are kept for another run")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    arguments = parser.parse_args()
    parts = _parts(arguments.signups, arguments.keep)
    print(describe_machine(), flush=True)
    results = {}
    for name in arguments.part or parts:
        part = parts[name]
        results[name] = part.quick() if arguments.quick else part.full()
        print(f"\n{name}")
        part.show(results[name])
        sys.stdout.flush()
    if arguments.json:
        write_results(arguments.json, results)


if __name__ == "__main__":
    main()
