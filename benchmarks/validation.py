"""Reading posts, validation and survivorship: leads a second on one core, beside copying the same leads as JSON.

    python benchmarks/validation.py [--quick] [--json PATH]

The floor is what any step must pay to touch a lead at all in Python: reading it from JSON and writing it again. CPU
time, best of several passes, because a shared machine makes wall time say little. The first pass is given apart: it
pays for the domains and companies that later passes remember. Reading a post is its way to canonical fields and the
count of its fields: of a source whose posts are canonical, and of one with a mapping.
"""

import argparse
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from machine import describe_machine, write_results

from leads_pipeline.config import FieldMappingSettings, SourceSettings
from leads_pipeline.domain.survivorship import GOLDEN_FIELDS, Member, survive
from leads_pipeline.domain.validation import Rejection, ValidLead, validate
from leads_pipeline.sources.reading import PostReader
from leads_pipeline.storage.source_fields import FieldCount
from leads_pipeline.synthetic.leads import generate_leads

NOW = datetime(2026, 1, 15, tzinfo=UTC)
PASSES = 5
MEMBERS_PER_CONTACT = 4
CHUNK = 1_000
MAPPED = SourceSettings(
    mapping={
        "campaign": FieldMappingSettings(path=("campaign", "utm_campaign")),
        "lead_source": FieldMappingSettings(default="benchmark"),
    }
)


def cpu_seconds(work: Callable[[], object]) -> float:
    """The CPU time of one call."""
    started = time.process_time()
    work()
    return time.process_time() - started


def members_of(verdicts: list[ValidLead | Rejection]) -> list[list[Member]]:
    """Contacts of a few leads each. Who belongs to whom is no matter here; how many leads a contact has, is."""
    members = [
        Member(
            lead_id=UUID(int=number),
            revision=1,
            received_at=NOW,
            source="website",
            priority=50,
            values={name: getattr(verdict, name) for name in GOLDEN_FIELDS},
            flags=frozenset(verdict.flags),
        )
        for number, verdict in enumerate(verdicts)
        if isinstance(verdict, ValidLead)
    ]
    return [members[start : start + MEMBERS_PER_CONTACT] for start in range(0, len(members), MEMBERS_PER_CONTACT)]


def read(payloads: list[dict[str, Any]], source: SourceSettings) -> None:
    """Read posts as validation does, in chunks, and count their fields."""
    for start in range(0, len(payloads), CHUNK):
        reader, count = PostReader(source), FieldCount()
        for payload in payloads[start : start + CHUNK]:
            _lead, names = reader.read(payload)
            count.add("source", names)
        count.rows({"source": reader.uses})


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="1,000 leads instead of 20,000")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    arguments = parser.parse_args()
    payloads = [lead.payload for lead in generate_leads(1_000 if arguments.quick else 20_000, seed=1)]
    lines = [json.dumps(payload) for payload in payloads]
    verdicts: list[ValidLead | Rejection] = []

    def copy() -> None:
        for line in lines:
            json.dumps(json.loads(line))

    def judge() -> None:
        verdicts[:] = [validate(payload, country="US", today=NOW.date()) for payload in payloads]

    first = cpu_seconds(judge)
    contacts = members_of(verdicts)

    def fold() -> None:
        for members in contacts:
            survive(members)

    seconds = {
        "copy as JSON": min(cpu_seconds(copy) for _pass in range(PASSES)),
        "read, canonical": min(cpu_seconds(lambda: read(payloads, SourceSettings())) for _pass in range(PASSES)),
        "read, mapped": min(cpu_seconds(lambda: read(payloads, MAPPED)) for _pass in range(PASSES)),
        "validate, first pass": first,
        "validate": min(cpu_seconds(judge) for _pass in range(PASSES)),
        "survivorship": min(cpu_seconds(fold) for _pass in range(PASSES)),
    }
    floor = seconds["copy as JSON"]
    rejected = sum(isinstance(verdict, Rejection) for verdict in verdicts)
    print(describe_machine())
    print(f"{len(payloads)} leads, {rejected} rejected, {len(contacts)} contacts of {MEMBERS_PER_CONTACT} leads")
    print(f"{'':<24}{'CPU s':>8}{'leads/s':>12}{'x floor':>10}")
    for name, spent in seconds.items():
        print(f"{name:<24}{spent:>8.2f}{len(payloads) / spent:>12,.0f}{spent / floor:>10.1f}")
    if arguments.json:
        figures = {
            name: {"cpu_seconds": spent, "leads_per_second": len(payloads) / spent, "ratio_to_floor": spent / floor}
            for name, spent in seconds.items()
        }
        write_results(arguments.json, {"leads": len(payloads), "rejected": rejected, **figures})


if __name__ == "__main__":
    main()
