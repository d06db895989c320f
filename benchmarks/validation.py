"""The local checks of a lead: leads a second on one core, with and without the accelerator, up to a million leads.

    python benchmarks/validation.py [--quick] [--json PATH]

Also reading posts and survivorship, beside copying the same leads as JSON: the floor is what any step must pay to touch
a lead at all in Python. CPU time, because a shared machine makes wall time say little; medians of rounds.

``local_per_s`` and ``local_per_s_accelerated`` are whole verdicts on leads that were never seen before, so that nothing
is remembered but what real leads share: mail domains, companies, cities. Rounds of the two take turns.
``email_phone_per_s…`` are their addresses and numbers alone. ``growth_ratio`` is the speed of the last leads of a
million by that of the first, ``growth_mib`` what the process grew by: caches are bounded. Reading a post is its way to
canonical fields and the count of its fields: of a source whose posts are canonical, and of one with a mapping.
"""

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any
from uuid import UUID

import psutil
from machine import describe_machine, write_results

from leads_pipeline.config import FieldMappingSettings, SourceSettings
from leads_pipeline.domain.companies import parse_company
from leads_pipeline.domain.emails import parse_email
from leads_pipeline.domain.names import parse_name
from leads_pipeline.domain.phone_engines import REFERENCE, PhoneEngine, accelerated
from leads_pipeline.domain.phones import parse_phone
from leads_pipeline.domain.survivorship import GOLDEN_FIELDS, Member, survive
from leads_pipeline.domain.validation import Rejection, ValidLead, validate
from leads_pipeline.sources.reading import PostReader
from leads_pipeline.storage.source_fields import FieldCount
from leads_pipeline.synthetic.leads import generate_leads

NOW = datetime(2026, 1, 15, tzinfo=UTC)
COUNTRY = "US"
ROUNDS = 7
MEMBERS_PER_CONTACT = 4
CHUNK = 1_000
BLOCK = 20_000
MAPPED = SourceSettings(
    mapping={
        "campaign": FieldMappingSettings(path=("campaign", "utm_campaign")),
        "lead_source": FieldMappingSettings(default="benchmark"),
    }
)
Payloads = Sequence[Mapping[str, Any]]


def cpu_seconds(work: Callable[[], object]) -> float:
    """The CPU time of one call."""
    started = time.process_time()
    work()
    return time.process_time() - started


def leads(count: int, *, seed: int) -> Payloads:
    """Leads of people and companies that no other seed has."""
    return [lead.payload for lead in generate_leads(count, seed=seed)]


def judge(payloads: Payloads, engine: PhoneEngine) -> list[ValidLead | Rejection]:
    """The verdicts, of which a chunk is kept at once, as in a step; those of the last chunk."""
    today, verdicts = NOW.date(), []
    for start in range(0, len(payloads), CHUNK):
        chunk = payloads[start : start + CHUNK]
        verdicts = [validate(payload, country=COUNTRY, today=today, engine=engine) for payload in chunk]
    return verdicts


def chunk_by_chunk(payloads: Payloads, work: Callable[[Payloads], object]) -> float:
    """The CPU time of ``work`` on chunks that were just read from JSON, as in a step; reading them is not in it."""
    seconds = 0.0
    for start in range(0, len(payloads), CHUNK):
        chunk = json.loads(json.dumps(payloads[start : start + CHUNK]))
        seconds += cpu_seconds(partial(work, chunk))
    return seconds


def read_addresses_and_numbers(payloads: Payloads, engine: PhoneEngine) -> None:
    """What a check of e-mail and phone alone would do."""
    for payload in payloads:
        if "email" in payload:
            parse_email(payload["email"])
        if "phone" in payload:
            parse_phone(payload["phone"], country=COUNTRY, engine=engine)


def local_checks(size: int, engines: Mapping[str, PhoneEngine]) -> dict[str, float]:
    """Leads a second of each engine, whole and of e-mail and phone alone; every round has leads of its own."""
    seconds: dict[str, list[float]] = {}
    warm = leads(size, seed=100)
    for engine in engines.values():
        judge(warm, engine)
    for turn in range(ROUNDS):
        for place, (suffix, engine) in enumerate(engines.items()):
            payloads = leads(size, seed=101 + turn * len(engines) + place)
            # The addresses and numbers first: the whole verdicts then know the domains, as a pipeline soon does.
            alone = chunk_by_chunk(payloads, partial(read_addresses_and_numbers, engine=engine))
            seconds.setdefault(f"email_phone_per_s{suffix}", []).append(alone)
            payloads = leads(size, seed=1_001 + turn * len(engines) + place)
            seconds.setdefault(f"local_per_s{suffix}", []).append(
                chunk_by_chunk(payloads, partial(judge, engine=engine))
            )
    return {name: size / median(spent) for name, spent in seconds.items()}


def shares(payloads: Payloads, engine: PhoneEngine) -> dict[str, float]:
    """Microseconds a lead that each part of a verdict takes, and the rest: text, places, dates, the lead itself."""

    def each(name: str, parse: Callable[[Any], object]) -> float:
        values = [payload[name] for payload in payloads if name in payload]
        return cpu_seconds(lambda: [parse(value) for value in values])

    def names() -> None:
        for payload in payloads:
            get = payload.get
            parse_name(first=get("first_name"), last=get("last_name"), full=get("full_name"))

    parts = {
        "e-mail": each("email", parse_email),
        "phone": each("phone", lambda value: parse_phone(value, country=COUNTRY, engine=engine)),
        "name": cpu_seconds(names),
        "company": each("company", parse_company),
    }
    whole = cpu_seconds(lambda: judge(payloads, engine))
    parts["the rest"] = max(0.0, whole - sum(parts.values()))
    return {name: spent / len(payloads) * 1e6 for name, spent in parts.items()}


def growth(total: int, engine: PhoneEngine) -> dict[str, float]:
    """The speed of the last blocks of ``total`` leads by that of the first ones, and the memory that was kept."""
    process, rates, memory = psutil.Process(), [], []
    for number in range(total // BLOCK):
        payloads = leads(BLOCK, seed=10_000 + number)
        rates.append(BLOCK / chunk_by_chunk(payloads, partial(judge, engine=engine)))
        memory.append(process.memory_info().rss / 2**20)
    few = max(1, min(3, len(rates) // 2))
    return {
        "growth_leads": float(len(rates) * BLOCK),
        "growth_ratio": median(rates[-few:]) / median(rates[:few]),
        "growth_mib": memory[-1] - memory[0],
    }


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


def read(payloads: Payloads, source: SourceSettings) -> None:
    """Read posts as validation does, in chunks, and count their fields."""
    for start in range(0, len(payloads), CHUNK):
        reader, count = PostReader(source), FieldCount()
        for payload in payloads[start : start + CHUNK]:
            _lead, names = reader.read(dict(payload))
            count.add("source", names)
        count.rows({"source": reader.uses})


def neighbours(payloads: Payloads, engine: PhoneEngine) -> dict[str, float]:
    """Seconds of what stands around the checks, and of copying the same leads."""
    lines = [json.dumps(payload) for payload in payloads]
    verdicts = [validate(payload, country=COUNTRY, today=NOW.date(), engine=engine) for payload in payloads]
    contacts = members_of(verdicts)

    def copy() -> None:
        for line in lines:
            json.dumps(json.loads(line))

    def fold() -> None:
        for members in contacts:
            survive(members)

    works: dict[str, Callable[[], None]] = {
        "copy as JSON": copy,
        "read, canonical": lambda: read(payloads, SourceSettings()),
        "read, mapped": lambda: read(payloads, MAPPED),
        "survivorship": fold,
    }
    return {name: median(cpu_seconds(work) for _round in range(ROUNDS)) for name, work in works.items()}


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few leads, and growth to 60,000 only")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    arguments = parser.parse_args()
    fast = accelerated()
    engines = {"": REFERENCE} if fast is None else {"": REFERENCE, "_accelerated": fast}
    engine = fast or REFERENCE
    print(describe_machine())
    figures = local_checks(1_000 if arguments.quick else 10_000, engines)
    payloads = leads(1_000 if arguments.quick else BLOCK, seed=1)
    judge(payloads, engine)
    around = neighbours(payloads, engine)
    floor = around["copy as JSON"] / len(payloads)
    print(f"{'':<32}{'leads/s':>12}{'x floor':>10}")
    for suffix, used in engines.items():
        for what, name in (("all local checks", "local_per_s"), ("e-mail and phone alone", "email_phone_per_s")):
            rate = figures[name + suffix]
            print(f"{what + (' *' if suffix else ''):<32}{rate:>12,.0f}{1 / rate / floor:>10.1f}   {used.name}")
    for what, spent in around.items():
        print(f"{what:<32}{len(payloads) / spent:>12,.0f}{spent / len(payloads) / floor:>10.1f}")
        figures[what.replace(", ", "_").replace(" ", "_").lower() + "_per_s"] = len(payloads) / spent
    if fast is None:
        print("rphonenumbers is not installed, or not comparable: local_per_s_accelerated was not measured")
    parts = shares(leads(len(payloads), seed=2), engine)
    print("microseconds a lead: " + ", ".join(f"{name} {spent:.1f}" for name, spent in parts.items()))
    figures |= growth(60_000 if arguments.quick else 1_000_000, engine)
    print(
        f"after {figures['growth_leads']:,.0f} leads: {figures['growth_ratio']:.2f} times the speed of the first, "
        f"{figures['growth_mib']:+.0f} MiB"
    )
    if arguments.json:
        microseconds = {name.replace("-", "").replace(" ", "_") + "_us": spent for name, spent in parts.items()}
        write_results(arguments.json, {"leads": len(payloads), **figures, **microseconds})


if __name__ == "__main__":
    main()
