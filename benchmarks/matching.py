"""Identity resolution: how well leads are told apart, what a micro-batch costs as contacts grow, and the full rebuild.

    python benchmarks/matching.py [--quick | --full] [--only PART] [--json PATH] [--input FILE --truth COLUMN]

The one command for all parts, each a script of this folder that also runs alone:

accuracy  matching_accuracy.py: on hard invented leads, with plain Splink beside us
resolve   resolve.py: 100 leads, and chunks of thousands, against 10,000 to 1,000,000 contacts
rebuild   rebuild.py: the full re-resolution against plain Splink with the same settings
peers     matching_peers.py: goldenmatch, recordlinkage and dedupe, in an environment made for them

``--quick`` takes small sizes, to see that everything runs; ``--full`` adds a million leads to the accuracy; with
``--input`` the accuracy is of a file, and nothing else is run. Each part is a process of its own, so that its memory is
its own.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from machine import describe_machine, write_results
from rich.console import Console
from rich.table import Table

FOLDER = Path(__file__).parent
# What is promised, by its key in the figures, and its bound.
PROMISES = {
    "growth_10k_1m": "at most 1.3",
    "cap_recall_loss": "at most 0.01",
    "resolve_per_s_250k": "at least 2,000",
    "resolve_per_s_1m": "at least 1,000",
    "rebuild_over_splink_time": "at most 1.1",
    "rebuild_over_splink_memory": "at most 1.5",
}


@dataclass(frozen=True)
class Part:
    """A script, with its arguments for small, usual and large sizes."""

    script: str
    quick: tuple[str, ...] = ("--quick",)
    usual: tuple[str, ...] = ()
    full: tuple[str, ...] = ()

    def arguments(self, *, quick: bool, full: bool) -> tuple[str, ...]:
        if quick:
            return self.quick
        return self.full if full else self.usual


PARTS = {
    "accuracy": Part(
        "matching_accuracy.py",
        quick=("--sizes", "2000"),
        usual=("--sizes", "10000", "100000"),
        full=("--sizes", "10000", "100000", "1000000"),
    ),
    "resolve": Part("resolve.py"),
    "rebuild": Part("rebuild.py"),
    "peers": Part("matching_peers.py"),
}


def run(part: Part, arguments: Sequence[str]) -> dict[str, Any] | None:
    """The results that the part's script wrote, or ``None`` with a loud word if it failed."""
    with tempfile.TemporaryDirectory() as directory:
        written = Path(directory) / "results.json"
        command = [sys.executable, str(FOLDER / part.script), *arguments]
        finished = subprocess.run([*command, "--json", str(written)], check=False)
        if finished.returncode or not written.exists():
            Console().print(f"{part.script} failed ({finished.returncode}): no figures of it", style="bold red")
            return None
        results: dict[str, Any] = json.loads(written.read_text(encoding="utf-8"))["results"]
        return results


def promises(results: dict[str, Any]) -> dict[str, float]:
    """Each promised figure that a part measured, wherever it stands in the part's results."""
    found: dict[str, float] = {}

    def look(document: Any) -> None:
        if isinstance(document, dict):
            for name, value in document.items():
                if name in PROMISES and isinstance(value, int | float):
                    found.setdefault(name, value)
                else:
                    look(value)
        elif isinstance(document, list):
            for item in document:
                look(item)

    look(results)
    return {name: found[name] for name in PROMISES if name in found}


def main() -> int:
    """Run the parts, print what was promised, write everything."""
    arguments = _arguments()
    results: dict[str, Any] = {}
    failed = []
    for name, part_arguments in _parts(arguments).items():
        Console().rule(name)
        found = run(PARTS[name], part_arguments)
        if found is None:
            failed.append(name)
        else:
            results[name] = found
    promised = promises(results)
    if promised:
        table = Table(title="What is promised", title_justify="left")
        for column in ("", "measured", "promised"):
            table.add_column(column)
        for name, value in promised.items():
            table.add_row(name, f"{value:,.3f}", PROMISES[name])
        Console().print(table)
    Console().print(describe_machine())
    if arguments.json:
        write_results(arguments.json, {**promised, **results})
    return 1 if failed else 0


def _parts(arguments: argparse.Namespace) -> dict[str, tuple[str, ...]]:
    """The parts that are asked for, each with its arguments."""
    if arguments.input:
        return {"accuracy": ("--input", str(arguments.input), "--truth", arguments.truth)}
    names = [arguments.only] if arguments.only else list(PARTS)
    return {name: PARTS[name].arguments(quick=arguments.quick, full=arguments.full) for name in names}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="small sizes")
    size.add_argument("--full", action="store_true", help="with a million leads")
    parser.add_argument("--only", choices=list(PARTS), help="one part")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--input", type=Path, help="a file of leads instead of invented ones, for the accuracy")
    parser.add_argument("--truth", help="the column of --input that says who is who")
    arguments = parser.parse_args()
    if arguments.input and not arguments.truth:
        parser.error("--input needs --truth, the column that says who is who")
    return arguments


if __name__ == "__main__":
    sys.exit(main())
