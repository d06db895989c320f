"""One tool on one file: run by ``matching_peers.py`` with the Python of the tool's own environment.

    python matching_peers_tools.py TOOL LEADS.csv RESULT.json

Writes the group of each row, the tool's version and the peak of memory.
"""

import csv
import importlib.metadata
import json
import random
import resource
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

FIELDS = ("first_name", "last_name", "email", "phone", "company", "city", "postcode")
# What dedupe may ask about, as its documentation's examples do by hand.
LABELS = 100
_BLOCKS = ("email", "phone", ("first_name", "last_name"), ("last_name", "company"), ("first_name", "company"))


def rows_of(path: Path) -> list[dict[str, str]]:
    """The leads, with empty cells as empty text."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def goldenmatch(path: Path) -> dict[int, int]:
    """With no configuration, as it is advertised."""
    import goldenmatch as gm

    own = path.with_name("goldenmatch.csv")  # without the truth
    with own.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, FIELDS, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows_of(path))
    found = gm.dedupe(str(own))
    return {int(row): int(number) for number, cluster in found.clusters.items() for row in cluster["members"]}


def recordlinkage(path: Path) -> dict[int, int]:
    """Blocking, string similarities and the unsupervised ECM classifier of its guide."""
    import pandas as pd
    import recordlinkage as rl

    frame = pd.DataFrame([{name: row[name] or None for name in FIELDS} for row in rows_of(path)])
    index = rl.Index()
    for columns in _BLOCKS:
        index.block(list(columns) if isinstance(columns, tuple) else columns)
    pairs = index.index(frame)
    compare = rl.Compare()
    for name in ("first_name", "last_name", "company"):
        compare.string(name, name, method="jarowinkler", threshold=0.9)
    compare.string("email", "email", method="levenshtein", threshold=0.9)
    for name in ("phone", "city", "postcode"):
        compare.exact(name, name)
    matches = rl.ECMClassifier(binarize=0.5).fit_predict(compare.compute(pairs, frame))
    return connected(range(len(frame)), matches)


def dedupe(path: Path) -> dict[int, int]:
    """Active learning with ``LABELS`` answers from the truth, then its default threshold."""
    import dedupe as dd

    rows = rows_of(path)
    records: dict[int, dict[str, Any]] = {
        number: {name: row[name] or None for name in FIELDS} for number, row in enumerate(rows)
    }
    people = {id(record): rows[number]["person"] for number, record in records.items()}
    by_value = {tuple(record.values()): rows[number]["person"] for number, record in records.items()}

    def person(record: dict[str, Any]) -> str:
        return people.get(id(record)) or by_value[tuple(record[name] for name in FIELDS)]

    variables = [dd.variables.String(name, has_missing=True) for name in FIELDS]
    deduper = dd.Dedupe(variables, num_cores=1)
    random.seed(1)
    deduper.prepare_training(records, sample_size=1_000)
    for _ in range(LABELS):
        (pair,) = deduper.uncertain_pairs()
        side = "match" if person(pair[0]) == person(pair[1]) else "distinct"
        deduper.mark_pairs({"match": [], "distinct": [], side: [pair]})
    deduper.train(recall=0.95)
    return {
        int(row): number for number, (found, _scores) in enumerate(deduper.partition(records, 0.5)) for row in found
    }


def connected(rows: Iterable[int], pairs: Iterable[tuple[int, int]]) -> dict[int, int]:
    """Connected components: each row's smallest."""
    root = {row: row for row in rows}

    def top(row: int) -> int:
        while root[row] != row:
            root[row] = root[root[row]]
            row = root[row]
        return row

    for one, other in pairs:
        low, high = sorted((top(int(one)), top(int(other))))
        root[high] = low
    return {row: top(row) for row in root}


def peak_memory_mib() -> float:
    """Of this process alone: ``ru_maxrss`` would begin with what started it."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Run the tool that is asked for."""
    tool, leads, result = sys.argv[1:]
    groups = {"goldenmatch": goldenmatch, "recordlinkage": recordlinkage, "dedupe": dedupe}[tool](Path(leads))
    peak = peak_memory_mib()
    document = {"version": importlib.metadata.version(tool), "groups": groups, "peak_memory_mib": round(peak)}
    Path(result).write_text(json.dumps(document), encoding="utf-8")


if __name__ == "__main__":
    main()
