"""What each kind of blocking key finds that no other does, and what it costs: how keys and limits were chosen.

    python benchmarks/keys.py [--contacts N] [--leads N] [--input FILE --truth COLUMN] [--json PATH]

The people of the hard generator (a seed for tuning) have left their leads; those that follow in the stream look for
them. Of a file, each row looks among those before it. A pair counts if the model would join it (from the merge weight
on), whether it shares a key or not. For each kind: the share of those pairs that is lost without it, and the candidates
a lead that are saved.
"""

import argparse
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from machine import describe_machine, write_results
from resolve import Known, stream
from rich.console import Console
from rich.progress import track
from rich.table import Table

from leads_pipeline.buffer.files.opening import open_lead_file
from leads_pipeline.clock import SystemClock
from leads_pipeline.config import MatchingSettings
from leads_pipeline.domain.candidates import LIMITS, NARROW, limit_of
from leads_pipeline.domain.match_fields import match_fields
from leads_pipeline.domain.match_keys import match_keys
from leads_pipeline.matching.pairs import Frequencies, count_terms, terms_of
from leads_pipeline.matching.scoring import PairScorer
from leads_pipeline.steps.evaluated_matching import LabelledFile
from leads_pipeline.synthetic.hard_leads import TUNING_SEEDS

SETTINGS = MatchingSettings()


@dataclass(frozen=True)
class Found:
    """By (lead, record): the kinds of key that find it. ``wanted`` pairs are one person's, and the model joins them."""

    leads: int
    true_pairs: int
    wanted: frozenset[tuple[int, int]]
    kinds: dict[tuple[int, int], set[str]]

    def without(self, kind: str | None) -> tuple[float, float]:
        """The share of wanted pairs that is lost without a kind, and the candidates that a lead then has."""
        left = {pair for pair, kinds in self.kinds.items() if kinds - {kind}}
        return 1 - len(self.wanted & left) / len(self.wanted), len(left) / self.leads


@dataclass(frozen=True)
class Index:
    """Places of known leads by key and by person, and the people who have a value."""

    holders: dict[Any, list[int]]
    records_of: dict[str, list[int]]
    bearers: dict[tuple[str, str], set[str]]


def index(known: Sequence[Known], arriving: Sequence[Known]) -> Index:
    """What of ``known`` somebody in ``arriving`` will ask for."""
    wanted_keys = {key for item in arriving for key in match_keys(item.fields)}
    wanted_terms = set(count_terms(item.fields for item in arriving).occurrences)
    made = Index(defaultdict(list), defaultdict(list), defaultdict(set))
    for place, item in enumerate(track(known, "Keys of the known leads")):
        made.records_of[item.truth].append(place)
        for key in wanted_keys.intersection(match_keys(item.fields)):
            made.holders[key].append(place)
        for term in wanted_terms.intersection(terms_of(item.fields).items()):
            made.bearers[term].add(item.truth)
    return made


def look(known: Sequence[Known], arriving: Sequence[Known], scorer: PairScorer, *, earlier: bool = False) -> Found:
    """Look for the people of ``arriving`` among ``known``; with ``earlier``, in the places before their own only."""
    made = index(known, arriving)
    kinds: dict[tuple[int, int], set[str]] = defaultdict(set)
    true: list[tuple[int, int]] = []
    for lead, item in enumerate(arriving):
        end = lead if earlier else len(known)
        true += ((lead, place) for place in made.records_of.get(item.truth, ()) if place < end)
        for key in match_keys(item.fields):
            found, limit = made.holders.get(key, []), limit_of(key.kind, SETTINGS.max_candidates_per_key)
            found = found[: bisect_left(found, end)]
            if len(found) <= limit or key.kind in NARROW:
                for place in found[-limit:]:
                    kinds[lead, place].add(key.kind)
    mates = sorted({place for _lead, place in true})
    scored = scorer.score(
        [*(item.fields for item in arriving), *(known[place].fields for place in mates)],
        [(lead, len(arriving) + bisect_left(mates, place)) for lead, place in sorted(true)],
        frequencies=Frequencies(len(made.records_of), {term: len(people) for term, people in made.bearers.items()}),
        explain_from=float("inf"),
    )
    joined = {
        (pair.left, mates[pair.right - len(arriving)]) for pair in scored if pair.match_weight >= SETTINGS.merge_weight
    }
    return Found(len(arriving), len(true), frozenset(joined), dict(kinds))


def of_file(path: Path, truth: str) -> dict[str, Any]:
    """Each row among those before it."""
    labelled = LabelledFile.of(open_lead_file(path), truth=truth, own={}, country="US", clock=SystemClock())
    rows = [
        Known(lead, match_fields(lead, source="import"), person)
        for _place, person, lead in labelled.judged(lambda _doing, _done, _total: None)
        if lead is not None and person is not None
    ]
    return counted(look(rows, rows, PairScorer.load(), earlier=True), contacts=len({row.truth for row in rows}))


def of_stream(contacts: int, leads: int) -> dict[str, Any]:
    """The leads that follow among those of ``contacts`` people."""
    people: set[str] = set()
    known: list[Known] = []
    following = stream(contacts, seed=TUNING_SEEDS[0])
    for item in following:
        people.add(item.truth)
        if len(people) > contacts:
            break
        known.append(item)
    return counted(look(known, list(islice(following, leads)), PairScorer.load()), contacts=contacts)


def counted(found: Found, *, contacts: int) -> dict[str, Any]:
    """What is lost and saved without each kind."""
    lost, candidates = found.without(None)
    kinds = {}
    for kind in LIMITS:
        lost_without, candidates_without = found.without(kind)
        kinds[kind] = {
            "limit": LIMITS[kind],
            "lost_without_it": lost_without - lost,
            "candidates_for_it": candidates - candidates_without,
        }
    return {
        "contacts": contacts,
        "leads": found.leads,
        "true_pairs": found.true_pairs,
        "wanted_pairs": len(found.wanted),
        "lost": lost,
        "candidates_per_lead": candidates,
        "kinds": kinds,
    }


def show(results: dict[str, Any]) -> None:
    """A table for people."""
    table = Table(
        title=f"{results['contacts']:,} contacts: {results['candidates_per_lead']:.1f} candidates a lead, "
        f"{results['lost']:.4f} of {results['wanted_pairs']:,} wanted pairs lost",
        title_justify="left",
    )
    for name in ("key", "limit", "lost without it", "candidates for it"):
        table.add_column(name, justify="left" if name == "key" else "right")
    for kind, row in results["kinds"].items():
        table.add_row(kind, str(row["limit"]), f"{row['lost_without_it']:.4f}", f"{row['candidates_for_it']:.2f}")
    Console().print(table)


def main() -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--contacts", type=int, default=100_000)
    parser.add_argument("--leads", type=int, default=4_000, help="how many look for their people")
    parser.add_argument("--input", type=Path, help="a file of leads instead")
    parser.add_argument("--truth", help="its column that says who is who")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    arguments = parser.parse_args()
    if arguments.input and not arguments.truth:
        parser.error("--input needs --truth")
    results = (
        of_file(arguments.input, arguments.truth) if arguments.input else of_stream(arguments.contacts, arguments.leads)
    )
    show(results)
    Console().print(describe_machine())
    if arguments.json:
        write_results(arguments.json, results)


if __name__ == "__main__":
    main()
