"""Other tools on the same hard leads: goldenmatch, recordlinkage and dedupe, in an environment made for them.

    python benchmarks/matching_peers.py [--quick] [--leads N] [--json PATH] [--keep DIRECTORY]

Each tool runs as its documentation shows it, on the columns that our own matching sees, in a process of its own that is
ended after ``--seconds`` or beyond ``--memory-gib``. dedupe is told of 100 pairs, drawn by itself, whether they are one
person. What cannot be installed or does not finish is said and left out.
"""

import argparse
import csv
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Hashable
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from machine import describe_machine, write_results
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from leads_pipeline.domain.validation import ValidLead, validate
from leads_pipeline.matching.evaluation import bcubed, pairwise
from leads_pipeline.synthetic import REPORTING_SEEDS, hard_leads

# tool: what pip is asked for. Newer BTrees break dedupe 3.0.3 (dedupeio/dedupe#1230).
TOOLS = {
    "goldenmatch": ("goldenmatch>=3.22,<4",),
    "recordlinkage": ("recordlinkage>=0.16,<0.17",),
    "dedupe": ("dedupe>=3.0.3,<4", "BTrees<6.5"),
}
COLUMNS = {
    "first_name": "first_name_key", "last_name": "last_name_key", "email": "email_key", "phone": "phone_key",
    "company": "company_key", "city": "city_key", "postcode": "postcode_key",
}  # fmt: skip
_INSTALL_SECONDS = 600
_TODAY = datetime(2026, 1, 15, tzinfo=UTC).date()


def leads_as_csv(path: Path, *, count: int, seed: int) -> dict[int, Hashable]:
    """Write the valid ones of the hard leads, normalised; the truth by row."""
    truth: dict[int, Hashable] = {}
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["row", "person", *COLUMNS])
        for lead in hard_leads(count, seed=seed):
            valid = validate(lead.payload, country="US", today=_TODAY)
            if isinstance(valid, ValidLead):
                writer.writerow([len(truth), lead.truth, *(getattr(valid, name) or "" for name in COLUMNS.values())])
                truth[len(truth)] = lead.truth
    return truth


def installed(tool: str, directory: Path) -> Path | None:
    """The Python of an environment that has the tool, or ``None`` if it cannot be installed here."""
    python = directory / tool / "bin" / "python"
    if python.exists():
        return python
    Console().print(f"installing {tool} …")
    try:
        subprocess.run([sys.executable, "-m", "venv", str(directory / tool)], check=True, timeout=_INSTALL_SECONDS)
        command = [str(python), "-m", "pip", "install", "--quiet", *TOOLS[tool]]
        subprocess.run(command, check=True, timeout=_INSTALL_SECONDS)
    except (subprocess.SubprocessError, OSError) as error:
        Console().print(f"SKIPPED: {tool} cannot be installed ({type(error).__name__})", style="bold red")
        return None
    return python


def measured(tool: str, python: Path, leads: Path, truth: dict[int, Hashable], limits: argparse.Namespace) -> Any:
    """How well the tool does, or what happened to it."""
    found = leads.with_name(f"{tool}.json")
    script = Path(__file__).with_name("matching_peers_tools.py")
    began = time.perf_counter()
    memory = int(limits.memory_gib * 2**30)
    try:
        finished = subprocess.run(
            [str(python), str(script), tool, str(leads), str(found)],
            check=False, timeout=limits.seconds, capture_output=True, text=True,
            preexec_fn=partial(resource.setrlimit, resource.RLIMIT_AS, (memory, memory)),
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return {"failed": f"no result after {limits.seconds:,.0f} s"}
    if finished.returncode or not found.exists():
        words = finished.stderr.strip().rpartition("\n")[2][:200]
        return {"failed": f"ended with {finished.returncode}: {words}"}
    document = json.loads(found.read_text(encoding="utf-8"))
    groups: dict[int, Hashable] = {int(row): group for row, group in document["groups"].items()}
    for row in truth:
        groups.setdefault(row, ("alone", row))
    return {
        "version": document["version"],
        "pairwise": asdict(pairwise(truth, groups)),
        "bcubed": asdict(bcubed(truth, groups)),
        "seconds": round(time.perf_counter() - began, 1),
        "peak_memory_mib": document["peak_memory_mib"],
    }


def show(results: dict[str, Any], *, count: int) -> None:
    """A table for people."""
    table = Table(title=f"Other tools on {count:,} hard leads", title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for column in ("", "precision", "recall", "F1", "B³ F1", "s", "MiB"):
        table.add_column(column, justify="right" if column else "left", no_wrap=True)
    for tool, found in results.items():
        if "failed" in found:
            Console().print(f"{tool}: {found['failed']}", style="bold red", markup=False)
            continue
        score = found["pairwise"]
        figures = (*(f"{score[name]:.3f}" for name in ("precision", "recall", "f1")), f"{found['bcubed']['f1']:.3f}")
        table.add_row(
            f"{tool} {found['version']}", *figures, f"{found['seconds']:.1f}", f"{found['peak_memory_mib']:,.0f}"
        )
    Console().print(table)


def main() -> None:
    """Install, run, print, write."""
    arguments = _arguments()
    count = 1_000 if arguments.quick else arguments.leads
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        directory = arguments.keep or Path(scratch) / "environments"
        directory.mkdir(parents=True, exist_ok=True)
        leads = Path(scratch) / "leads.csv"
        truth = leads_as_csv(leads, count=count, seed=REPORTING_SEEDS[0])
        for tool in TOOLS:
            python = installed(tool, directory)
            if python is None:
                results[tool] = {"failed": "could not be installed"}
            else:
                results[tool] = measured(tool, python, leads, truth, arguments)
    show(results, count=count)
    Console().print(describe_machine())
    if arguments.json:
        write_results(arguments.json, {"leads": count, **results})


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="1,000 leads")
    parser.add_argument("--leads", type=int, default=10_000, help="how many to invent")
    parser.add_argument("--seconds", type=float, default=300, help="for each tool, at most")
    parser.add_argument("--memory-gib", type=float, default=6, help="address space of each tool, at most")
    parser.add_argument("--keep", type=Path, help="where the environments are kept for another run")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    return parser.parse_args()


if __name__ == "__main__":
    main()
