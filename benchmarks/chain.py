"""The whole chain on leads whose truth is known, and an empty Dagster run beside it.

    python benchmarks/chain.py [--quick] [--json PATH] [--input FILE --truth COLUMN]

The floor is a run of the same job with nothing to do: what Dagster costs before any lead is touched. Each stage is
given in leads a second and as a multiple of its own empty step.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from machine import describe_machine, write_results

from leads_pipeline.config import load_settings, project_file
from leads_pipeline.domain.stage import Stage
from leads_pipeline.services.stack import Stack
from leads_pipeline.storage.embedded import EmbeddedServer
from leads_pipeline.storage.open import open_database

EMPTY_RUNS = 5


def run_demo(config: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """The demo's figures; its own output passes through."""
    figures = config.parent / "figures.json"
    command = [sys.executable, "-m", "leads_pipeline", "--config", str(config), "demo", "--json", str(figures)]
    if arguments.input:
        command += ["--input", arguments.input]
        if arguments.truth:
            command += ["--truth", arguments.truth]
    else:
        command += ["--leads", "500" if arguments.quick else "5000"]
    subprocess.run(command, check=True)
    found: dict[str, Any] = json.loads(figures.read_text(encoding="utf-8"))
    return found


def empty_runs(config: Path, count: int) -> dict[str, float]:
    """Median seconds of each asset's step in runs that find nothing pending, on the demo's own database."""
    settings = load_settings(str(config))
    engine = open_database(settings)
    try:
        stack = Stack(settings)
        stack.prepare()
        os.environ.update(stack.environment())
        import dagster as dg

        from leads_pipeline.definitions import build_defs
        from leads_pipeline.defs.local_run import run_once

        job = build_defs().resolve_job_def("all_lanes")
        with dg.DagsterInstance.get() as instance:
            runs = [run_once(job, instance).seconds for _run in range(count)]
    finally:
        engine.dispose()
        EmbeddedServer(settings.state_path).stop()
    return {str(stage): statistics.median(run[str(stage)] for run in runs) for stage in Stage}


def main() -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="500 leads and two empty runs")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--input", help="a file of leads instead of invented ones")
    parser.add_argument("--truth", help="the column of --input that says who is who")
    arguments = parser.parse_args()
    if arguments.input:
        arguments.input = str(Path(arguments.input).resolve())
    with tempfile.TemporaryDirectory() as directory:
        config = Path(directory) / "leads.yaml"
        config.write_text(project_file("leads.yaml").read_text(encoding="utf-8"), encoding="utf-8")
        demo_state = config.parent / ".leads" / "demo"
        try:
            figures = run_demo(config, arguments)
            floor = empty_runs(demo_state / "leads.yaml", 2 if arguments.quick else EMPTY_RUNS)
        finally:
            EmbeddedServer(demo_state).remove()
    print(f"\n{describe_machine()}")
    print(f"{'stage':<18}{'seconds':>9}{'leads/s':>9}{'empty step':>12}{'multiple':>10}")
    rows = []
    for stage in Stage:
        seconds, empty = figures["seconds"][stage], floor[stage]
        rows.append(
            {"stage": str(stage), "seconds": seconds, "empty_seconds": round(empty, 3), "multiple": seconds / empty}
        )
        print(f"{stage:<18}{seconds:>9.2f}{figures['captured'] / seconds:>9.0f}{empty:>12.3f}{seconds / empty:>10.0f}")
    print(
        f"crm_sync_batches is paced by the sandbox: {figures['crm']['limit']} requests in any 10 s, "
        f"{figures['crm']['requests']} were needed, {figures['crm']['http_429']} were refused."
    )
    if arguments.json:
        write_results(arguments.json, {"demo": figures, "empty_step_seconds": floor, "stages": rows})


if __name__ == "__main__":
    main()
