"""How identity resolution judges Senzing's truth set: invented people whose records were made to be hard to tell.

    python benchmarks/senzing.py FOLDER [--json PATH]

FOLDER holds the records (``*.jsonl``, Senzing's JSON) and the key (``*key*.csv``). Records of organisations are left
out; of a person's what a lead has is taken: the first name, date of birth, address, phone, e-mail and employer. Rows
that validation rejects count as missed. The model is the shipped one, as a new tenant has it. What differs is printed
pair by pair, with the weights that decided; docs/identity-judgement.md explains the kinds.
"""

import argparse
import csv
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from machine import describe_machine, write_results
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from leads_pipeline.clock import SystemClock
from leads_pipeline.config import MatchingSettings
from leads_pipeline.domain.clustering import Clustering, cluster
from leads_pipeline.domain.match_fields import match_fields
from leads_pipeline.domain.match_rules import compile_rules
from leads_pipeline.domain.validation import ValidLead, validate
from leads_pipeline.matching.evaluation import Labelled, bcubed, limits_of, pairwise, score_set
from leads_pipeline.matching.pairs import count_terms
from leads_pipeline.matching.scoring import PairScorer

COUNTRY = "US"
SETTINGS = MatchingSettings()
# Which of Senzing's features holds what a lead has; the first that a record gives is taken.
FIELDS: Mapping[str, tuple[str, ...]] = {
    "first_name": ("NAME_FIRST",),
    "last_name": ("NAME_LAST",),
    "full_name": ("NAME_FULL",),
    "date_of_birth": ("DATE_OF_BIRTH",),
    "address": ("ADDR_LINE1", "ADDR_FULL"),
    "city": ("ADDR_CITY",),
    "state": ("ADDR_STATE",),
    "postcode": ("ADDR_POSTAL_CODE",),
    "country": ("ADDR_COUNTRY",),
    "phone": ("PHONE_NUMBER",),
    "email": ("EMAIL_ADDRESS",),
    "company": ("EMPLOYER",),
}


@dataclass(frozen=True, slots=True)
class Person:
    """A record of the set as a lead."""

    record_id: str
    truth: str
    payload: dict[str, str]


@dataclass(frozen=True, slots=True)
class Difference:
    """Two records that we and the key see otherwise. ``weight`` is missing where they share no key."""

    kind: str
    records: tuple[str, str]
    rule: str | None
    weight: float | None
    evidence: dict[str, float]


def people(folder: Path) -> list[Person]:
    """The persons of the set, in the order of their ids."""
    (key_file,) = folder.glob("*key*.csv")
    with key_file.open(encoding="utf-8", newline="") as file:
        truth = {(row["DATA_SOURCE"], row["RECORD_ID"]): row["CLUSTER_ID"] for row in csv.DictReader(file)}
    found = []
    for record in _records(folder):
        given: dict[str, str] = {}
        for feature in record["FEATURES"]:
            for name, value in feature.items():
                given.setdefault(name, str(value))
        key = (record["DATA_SOURCE"], record["RECORD_ID"])
        if given.get("RECORD_TYPE") == "PERSON" and key in truth:
            payload = {
                field: value
                for field, names in FIELDS.items()
                if (value := next((given[name] for name in names if name in given), None))
            }
            found.append(Person(f"{key[0][:1]}{key[1]}", truth[key], payload))
    return sorted(found, key=lambda person: person.record_id)


def _records(folder: Path) -> Iterator[dict[str, Any]]:
    for path in sorted(folder.glob("*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            yield json.loads(line)


def judged(persons: Sequence[Person]) -> tuple[dict[str, Any], list[Difference]]:
    """The figures, and what differs."""
    today = SystemClock().now().date()
    leads = {person.record_id: validate(person.payload, country=COUNTRY, today=today) for person in persons}
    usable = [person for person in persons if isinstance(leads[person.record_id], ValidLead)]
    records = [
        Labelled(match_fields(lead), person.truth)
        for person in usable
        if isinstance(lead := leads[person.record_id], ValidLead)
    ]
    scorer = PairScorer.load()
    scored = score_set(records, scorer, max_candidates_per_key=SETTINGS.max_candidates_per_key)
    clustering = cluster(
        range(len(records)), contact_of={}, contact_sizes={}, pairs=scored.edges, limits=limits_of(SETTINGS)
    )
    truth = {person.record_id: person.truth for person in persons}
    groups: dict[str, str] = {person.record_id: person.record_id for person in persons}
    groups |= {person.record_id: str(clustering.group_of[place]) for place, person in enumerate(usable)}
    pairs, cubed = pairwise(truth, groups), bcubed(truth, groups)
    figures = {
        "persons": len(persons),
        "rejected": [person.record_id for person in persons if person not in usable],
        "pairwise": {"precision": pairs.precision, "recall": pairs.recall, "f1": pairs.f1},
        "bcubed": {"precision": cubed.precision, "recall": cubed.recall, "f1": cubed.f1},
        "true_pairs": pairs.true_pairs,
        "found_pairs": pairs.found_pairs,
        "correct_pairs": pairs.correct_pairs,
    }
    return figures, _differences(usable, records, clustering, scorer)


def _differences(
    persons: Sequence[Person], records: Sequence[Labelled], clustering: Clustering, scorer: PairScorer
) -> list[Difference]:
    rules = compile_rules(SETTINGS.rules)
    fields = [record.fields for record in records]
    pairs = [
        (left, right)
        for left, right in combinations(range(len(persons)), 2)
        if (persons[left].truth == persons[right].truth) != (clustering.group_of[left] == clustering.group_of[right])
    ]
    weighed = scorer.score(fields, pairs, frequencies=count_terms(fields), explain_from=-math.inf)
    return [
        Difference(
            "missed" if persons[pair.left].truth == persons[pair.right].truth else "wrong",
            (persons[pair.left].record_id, persons[pair.right].record_id),
            rules.decide(fields[pair.left], fields[pair.right]),
            pair.match_weight,
            pair.evidence,
        )
        for pair in weighed
    ]


def main() -> int:
    """Judge, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="the folder with the records and the key")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    arguments = parser.parse_args()
    figures, differences = judged(people(arguments.folder))
    table = Table(box=SIMPLE_HEAD, title="What differs", title_justify="left")
    for column in ("", "records", "rule", "weight", "evidence"):
        table.add_column(column, overflow="fold")
    for found in sorted(differences, key=lambda item: (item.kind, item.records)):
        evidence = ", ".join(f"{name} {weight:+.1f}" for name, weight in found.evidence.items())
        weight = "" if found.weight is None else f"{found.weight:+.1f}"
        table.add_row(found.kind, " ".join(found.records), found.rule or "", weight, evidence)
    console = Console(width=160)
    console.print(table)
    for name, value in figures.items():
        console.print(f"{name}: {value}")
    console.print(describe_machine())
    if arguments.json:
        write_results(arguments.json, figures)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
