"""Identity resolution alone: how well leads are told apart, how fast, and whether the speed holds as contacts grow.

    python benchmarks/matching.py [--quick] [--json PATH] [--input FILE --truth COLUMN] [--leads N] [--chunk N]

It runs the product's own step on a PostgreSQL of its own, from validated leads on. Beside it stands the floor: the same
leads joined by equal e-mail addresses alone, which is what a CRM does by itself. Accuracy is pairwise, over the leads
that validation accepts.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from machine import describe_machine, write_results
from rich.console import Console
from rich.table import Table

from leads_pipeline.buffer.files.leads import mapping_of, read_leads
from leads_pipeline.config import Settings, parse_settings
from leads_pipeline.domain.ids import BatchId, uuid7
from leads_pipeline.domain.stage import ALL_LANES, Chunk, Lane, Stage
from leads_pipeline.domain.triage import UNWEIGHED
from leads_pipeline.domain.validation import ValidLead, validate
from leads_pipeline.matching.evaluation import PairwiseScore, pairwise
from leads_pipeline.matching.scoring import PairScorer
from leads_pipeline.steps.deduped_leads import dedupe_leads
from leads_pipeline.storage.database import engine_for
from leads_pipeline.storage.embedded import EmbeddedServer
from leads_pipeline.storage.leads import RawLead, insert_validated_leads
from leads_pipeline.storage.migrate import upgrade
from leads_pipeline.storage.pending import Waiting, enqueue
from leads_pipeline.synthetic import generate_leads

TENANT = "benchmark"
NOW = datetime(2026, 1, 15, tzinfo=UTC)
SETTINGS = f"""
version: 1
tenants: {{{TENANT}: {{sources: {{import: {{lane: batch}}}}}}}}
"""


@dataclass(frozen=True)
class Posted:
    """A payload and the person behind it."""

    payload: dict[str, Any]
    truth: str


@dataclass(frozen=True)
class Result:
    leads: int
    accepted: int
    people: int
    contacts: int
    matching: PairwiseScore
    same_email_only: PairwiseScore
    chunk: int
    seconds: float
    chunk_seconds_median_first_tenth: float
    chunk_seconds_median_last_tenth: float
    chunk_seconds_worst: float
    candidates: int
    capped_keys: int
    reviews: int


def invented(count: int) -> list[Posted]:
    """Generated leads without re-posts: capture answers those."""
    leads = generate_leads(count, seed=7)
    return [Posted(dict(lead.payload), lead.truth) for lead in leads if lead.repost_of is None]


def of_file(path: Path, truth: str) -> list[Posted]:
    """The rows of a file, as ``leads import`` would map them."""
    rows = read_leads(path, mapping_of(path, {truth: None}))
    payloads = (dict(row.payload) for row in rows)
    return [Posted(payload, str(payload.pop(truth))) for payload in payloads]


def validated(posts: Sequence[Posted], *, country: str) -> Iterator[tuple[RawLead, ValidLead, str]]:
    """The accepted leads, with ids in the order of arrival."""
    for number, post in enumerate(posts):
        moment = NOW + timedelta(milliseconds=number)
        lead = validate(post.payload, country=country, today=NOW.date())
        if isinstance(lead, ValidLead):
            raw = RawLead(uuid7(moment), 1, "import", Lane.BATCH, moment, post.payload)
            yield raw, lead, post.truth


def run(engine: sa.Engine, settings: Settings, posts: Sequence[Posted], *, chunk_size: int) -> Result:
    """Put all leads at the door, then resolve chunk after chunk."""
    accepted = list(validated(posts, country="US"))
    later = NOW + timedelta(days=1)
    chunk = Chunk(TENANT, ALL_LANES, chunk_size, BatchId(uuid7(later)), "benchmark", later)
    for start in range(0, len(accepted), 5_000):
        part = accepted[start : start + 5_000]
        with engine.begin() as connection:
            insert_validated_leads(connection, [(raw, lead, UNWEIGHED) for raw, lead, _truth in part], chunk)
            enqueue(
                connection,
                Stage.DEDUPED_LEADS,
                [Waiting(raw.lead_id, TENANT, Lane.BATCH, 1, raw.received_at) for raw, _lead, _truth in part],
            )
    scorer = PairScorer.load()
    seconds: list[float] = []
    totals = {"candidates": 0, "capped_keys": 0, "reviews": 0}
    while True:
        started = time.perf_counter()
        report = dedupe_leads(engine, chunk, settings=settings, scorer=scorer)
        if not report.taken:
            break
        seconds.append(time.perf_counter() - started)
        for name in totals:
            totals[name] += report.counts[name]
    truth = {raw.lead_id: person for raw, _lead, person in accepted}
    found = _contacts(engine)
    by_email = {raw.lead_id: lead.email_key or raw.lead_id for raw, lead, _truth in accepted}
    tenth = max(1, len(seconds) // 10)
    return Result(
        leads=len(posts),
        accepted=len(accepted),
        people=len(set(truth.values())),
        contacts=len(set(found.values())),
        matching=pairwise(truth, found),
        same_email_only=pairwise(truth, by_email),
        chunk=chunk_size,
        seconds=sum(seconds),
        chunk_seconds_median_first_tenth=statistics.median(seconds[:tenth]),
        chunk_seconds_median_last_tenth=statistics.median(seconds[-tenth:]),
        chunk_seconds_worst=max(seconds),
        **totals,
    )


def _contacts(engine: sa.Engine) -> dict[UUID, UUID]:
    with engine.connect() as connection:
        rows = connection.execute(
            sa.text("select lead_id, contact_id from deduped_leads where tenant = :t"), {"t": TENANT}
        )
        return {row.lead_id: row.contact_id for row in rows}


def show(result: Result, *, name: str) -> None:
    """A table for people."""
    table = Table(title=f"Identity resolution: {name}", title_justify="left")
    table.add_column("")
    table.add_column("this product", justify="right")
    table.add_column("same e-mail only", justify="right")
    ours, floor = result.matching, result.same_email_only
    for label in ("precision", "recall", "f1"):
        table.add_row(label, f"{getattr(ours, label):.3f}", f"{getattr(floor, label):.3f}")
    table.add_row("contacts", f"{result.contacts:,} for {result.people:,} people", "")
    table.add_row("leads", f"{result.accepted:,} accepted of {result.leads:,}", "")
    table.add_row("seconds", f"{result.seconds:.1f}", "")
    table.add_row("leads a second", f"{result.accepted / result.seconds:,.0f}", "")
    first, last = result.chunk_seconds_median_first_tenth, result.chunk_seconds_median_last_tenth
    table.add_row(
        f"chunk of {result.chunk:,}: first, last tenth", f"{first:.2f} s, {last:.2f} s ({last / first:.1f}x)", ""
    )
    table.add_row("worst chunk", f"{result.chunk_seconds_worst:.2f} s", "")
    table.add_row("candidates a lead", f"{result.candidates / result.accepted:.1f}", "")
    table.add_row("pairs for a person", f"{result.reviews:,}", "")
    Console().print(table)


def main() -> None:
    """Run, print, write."""
    arguments = _arguments()
    settings = parse_settings(SETTINGS, path=Path("leads.yaml"))
    if arguments.input:
        posts, name = of_file(arguments.input, arguments.truth), arguments.input.name
    else:
        count = 3_000 if arguments.quick else arguments.leads
        posts, name = invented(count), f"{count:,} invented leads"
    with tempfile.TemporaryDirectory() as directory:
        server = EmbeddedServer(Path(directory) / "state")
        try:
            engine = engine_for(server.start())
            upgrade(engine, now=NOW)
            result = run(engine, settings, posts, chunk_size=arguments.chunk)
            engine.dispose()
        finally:
            server.remove()
    machine = describe_machine()
    show(result, name=name)
    Console().print(machine)
    if arguments.json:
        write_results(arguments.json, {"input": name, **asdict(result)})


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="3,000 leads")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--input", type=Path, help="a file of leads instead of invented ones")
    parser.add_argument("--truth", help="the column of --input that says who is who")
    parser.add_argument("--leads", type=int, default=20_000, help="how many to invent")
    parser.add_argument("--chunk", type=int, default=1_000, help="leads in one transaction")
    arguments = parser.parse_args()
    if arguments.input and not arguments.truth:
        parser.error("--input needs --truth, the column that says who is who")
    return arguments


if __name__ == "__main__":
    main()
