"""The micro-batch path of identity resolution against many contacts: what a chunk costs, and what the cap costs.

    python benchmarks/resolve.py [--quick] [--json PATH] [--contacts N …]

A store of N contacts is written with COPY, its contacts as the truth has them, from the leads of the first N people of
the hard generator; the leads that arrive are those that follow in the stream, of known people and of new ones. What is
looked up was read once before, so it is in the server's buffers as far as they reach. CPU is this process's and the
PostgreSQL backend's together, as the machine's other load counts less in it than in wall time.
"""

import argparse
import logging
import statistics
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any
from uuid import UUID

import duckdb
import numpy as np
import psutil
import sqlalchemy as sa
from machine import describe_machine, write_results
from rich.console import Console
from rich.table import Table
from splink import DuckDBAPI, Linker, SettingsCreator, block_on, comparison_library

from leads_pipeline.config import Settings, parse_settings
from leads_pipeline.domain.candidates import find_pairs
from leads_pipeline.domain.ids import BatchId, sorted_uuid7s, uuid7
from leads_pipeline.domain.match_fields import match_fields
from leads_pipeline.domain.match_keys import MatchFields, match_keys
from leads_pipeline.domain.stage import ALL_LANES, Chunk, Lane, Stage
from leads_pipeline.domain.triage import UNWEIGHED
from leads_pipeline.domain.validation import ValidLead, validate
from leads_pipeline.matching.pairs import Frequencies, ScoredPair, count_terms
from leads_pipeline.matching.scoring import PairScorer
from leads_pipeline.steps.deduped_leads import dedupe_leads
from leads_pipeline.storage import identity, match_index
from leads_pipeline.storage.copying import copy_rows
from leads_pipeline.storage.database import engine_for
from leads_pipeline.storage.embedded import EmbeddedServer
from leads_pipeline.storage.leads import RawLead, insert_validated_leads
from leads_pipeline.storage.migrate import upgrade
from leads_pipeline.storage.pending import Waiting, enqueue
from leads_pipeline.synthetic.hard_leads import REPORTING_SEEDS, hard_leads

TENANT = "benchmark"
NOW = datetime(2026, 1, 15, tzinfo=UTC)
TODAY = NOW.date()
SETTINGS = f"""
version: 1
tenants: {{{TENANT}: {{sources: {{import: {{lane: batch}}}}}}}}
"""
SOURCE = "import"
LEADS_PER_CONTACT = 1.8


@dataclass(frozen=True, slots=True)
class Known:
    """A lead as validation passes it on, and the person whom it is about."""

    lead: ValidLead
    fields: MatchFields
    truth: str


def stream(people: int, *, seed: int) -> Iterator[Known]:
    """The valid leads of a population in which at least ``people`` turn up."""
    for lead in hard_leads(round(people * LEADS_PER_CONTACT * 1.15) + 20_000, seed=seed):
        valid = validate(lead.payload, country="US", today=TODAY)
        if isinstance(valid, ValidLead):
            yield Known(valid, match_fields(valid, source=SOURCE), lead.truth)


@dataclass(frozen=True)
class Store:
    """A filled store. ``records_of``: the stored leads of the people who will turn up again."""

    contacts: int
    records: int
    keys: int
    seconds: float
    arriving: Sequence[Known]
    records_of: dict[str, list[UUID]]


_TABLES = {
    "match_records": ("lead_id", "tenant", "contact_id", *identity.MATCH_FIELDS, "flags", "key_hashes"),
    "match_keys": ("key_hash", "lead_id", "tenant"),
    "contacts": ("contact_id", "tenant", "founding_lead_id", "created_at"),
    "deduped_leads": (
        "lead_id",
        "revision",
        "tenant",
        "sync_lane",
        "contact_id",
        "decision",
        "batch_id",
        "runner_id",
        "deduped_at",
    ),
}
# What terms are counted of, as matching.pairs.terms_of names and reads them.
_TERMS = {
    "first_name": "first_name_key", "last_name": "last_name_key", "phone": "phone_key", "company": "company_key",
    "born": "date_of_birth::text", "postcode": "postcode_key", "city": "city_key",
}  # fmt: skip


def fill(engine: sa.Engine, leads: Iterator[Known], *, contacts: int, arriving: int) -> Store:
    """Write ``contacts`` contacts with their leads, and keep the next ``arriving`` leads of the stream for later."""
    started = time.perf_counter()
    copies = _Copies()
    contact_of: dict[str, UUID] = {}
    records_of: dict[str, list[UUID]] = {}
    first: list[Known] = []
    records = keys = 0
    batch = uuid7(NOW)
    with engine.begin() as connection, _without_indexes(connection):
        for number in range(0, 10**9, 10_000):
            moment = NOW - timedelta(days=200) + timedelta(seconds=number // 10)
            part = list(islice(leads, 10_000))
            for place, (lead_id, known) in enumerate(zip(sorted_uuid7s(moment, len(part)), part, strict=True)):
                contact = contact_of.get(known.truth)
                if contact is None:
                    if len(contact_of) == contacts:
                        first = part[place:]
                        break
                    contact = contact_of[known.truth] = uuid7(moment)
                    copies.add("contacts", contact, TENANT, lead_id, NOW)
                records_of.setdefault(known.truth, []).append(lead_id)
                hashes = match_index.stored_keys(TENANT, known.fields)
                stored = "{" + ",".join(map(str, hashes)) + "}"
                copies.add("match_records", lead_id, TENANT, contact, *_values(known.fields), "[]", stored)
                copies.add("deduped_leads", lead_id, 1, TENANT, "batch", contact, "new", batch, "benchmark", NOW)
                for key_hash in hashes:
                    copies.add("match_keys", key_hash, lead_id, TENANT)
                records += 1
                keys += len(hashes)
            copies.send(connection)
            if first:
                break
        for name, column in _TERMS.items():
            connection.execute(
                sa.text(
                    "insert into term_frequencies (term_hash, occurrences, tenant) select cast(cast('x' || left(md5("
                    f"concat_ws(chr(31), tenant, '{name}', {column})), 16) as bit(64)) as bigint), "
                    f"count(distinct contact_id), tenant from match_records where {column} is not null "
                    f"group by tenant, {column}"
                )
            )
        connection.execute(
            sa.text("insert into identity_sizes (tenant, records, contacts) values (:t, :records, :contacts)"),
            {"t": TENANT, "records": records, "contacts": contacts},
        )
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text("vacuum (analyze) match_keys, match_records, contacts, deduped_leads"))
        connection.execute(sa.text("vacuum (analyze) term_frequencies"))
    _read_once(engine)
    following = [*first, *islice(leads, max(0, arriving - len(first)))][:arriving]
    again = {known.truth for known in following}
    kept = {truth: ids for truth, ids in records_of.items() if truth in again}
    return Store(contacts, records, keys, time.perf_counter() - started, following, kept)


def _read_once(engine: sa.Engine) -> None:
    """Fill the server's buffers, as they are where it has run for a while; reading whole tables goes past them."""
    with engine.begin() as connection:
        connection.execute(sa.text("set local enable_seqscan = off"))
        connection.execute(sa.text("set local enable_bitmapscan = off"))
        connection.execute(sa.text("select count(key_hash) from match_keys where key_hash is not null"))
        connection.execute(sa.text("select count(flags) from match_records where lead_id is not null"))


def _values(fields: MatchFields) -> list[object]:
    return [getattr(fields, name) for name in identity.MATCH_FIELDS]


class _Copies:
    """Rows on their way into their tables."""

    def __init__(self) -> None:
        self._rows: dict[str, list[tuple[object, ...]]] = {name: [] for name in _TABLES}

    def add(self, table: str, *values: object) -> None:
        self._rows[table].append(values)

    def send(self, connection: sa.Connection) -> None:
        for table, rows in self._rows.items():
            copy_rows(connection, table, _TABLES[table], rows)
            rows.clear()


@contextmanager
def _without_indexes(connection: sa.Connection) -> Iterator[None]:
    """Indexes are built once, at the end."""
    built: list[str] = []
    for table in _TABLES:
        rows = connection.execute(
            sa.text(
                "select conname, pg_get_constraintdef(oid) as definition from pg_constraint "
                "where conrelid = cast(:t as regclass) and contype = 'p'"
            ),
            {"t": table},
        ).all()
        for row in rows:
            connection.execute(sa.text(f"alter table {table} drop constraint {row.conname}"))
            built.append(f"alter table {table} add constraint {row.conname} {row.definition}")
        indexes = connection.execute(
            sa.text(
                "select indexrelid::regclass::text as name, pg_get_indexdef(indexrelid) as definition "
                "from pg_index where indrelid = cast(:t as regclass)"
            ),
            {"t": table},
        ).all()
        for row in indexes:
            connection.execute(sa.text(f"drop index {row.name}"))
            built.append(row.definition)
    yield
    connection.execute(sa.text("set local maintenance_work_mem = '512MB'"))
    for statement in built:
        connection.execute(sa.text(statement))


def arrive(engine: sa.Engine, leads: Sequence[Known], *, at: datetime) -> list[UUID]:
    """Put leads at the door of ``deduped_leads``."""
    ids = sorted_uuid7s(at, len(leads))
    chunk = _chunk(len(leads), at)
    rows = [
        (RawLead(lead_id, 1, SOURCE, Lane.BATCH, at, {}), known.lead, UNWEIGHED)
        for lead_id, known in zip(ids, leads, strict=True)
    ]
    with engine.begin() as connection:
        insert_validated_leads(connection, rows, chunk)
        enqueue(connection, Stage.DEDUPED_LEADS, [Waiting(lead_id, TENANT, Lane.BATCH, 1, at) for lead_id in ids])
    return ids


def _chunk(limit: int, now: datetime) -> Chunk:
    return Chunk(TENANT, ALL_LANES, limit, BatchId(uuid7(now)), "benchmark", now)


@dataclass(frozen=True)
class Cost:
    """Seconds of one chunk. ``cpu`` is this process's and the backend's; the parts are wall time."""

    wall: float
    cpu: float
    client_cpu: float
    backend_cpu: float
    candidates_wall: float
    scoring_wall: float
    candidates: int


class _Watched:
    """A scorer that tells how long it took."""

    def __init__(self, scorer: PairScorer) -> None:
        self._scorer = scorer
        self.seconds = 0.0

    @property
    def version(self) -> str:
        return self._scorer.version

    def score(
        self,
        records: Sequence[MatchFields],
        pairs: Sequence[tuple[int, int]],
        *,
        frequencies: Frequencies,
        explain_from: float = 0.0,
    ) -> list[ScoredPair]:
        started = time.perf_counter()
        try:
            return self._scorer.score(records, pairs, frequencies=frequencies, explain_from=explain_from)
        finally:
            self.seconds += time.perf_counter() - started


@contextmanager
def _timed_candidates() -> Iterator[list[float]]:
    """How long reading the candidates took: their keys and their records."""
    seconds: list[float] = []
    reading = {"find_candidates": match_index, "read_records": identity}
    plain = {name: getattr(module, name) for name, module in reading.items()}

    def timed(name: str) -> Any:
        def call(*arguments: Any, **more: Any) -> Any:
            started = time.perf_counter()
            try:
                return plain[name](*arguments, **more)
            finally:
                seconds.append(time.perf_counter() - started)

        return call

    for name, module in reading.items():
        setattr(module, name, timed(name))
    try:
        yield seconds
    finally:
        for name, module in reading.items():
            setattr(module, name, plain[name])


def measure(engine: sa.Engine, scorer: PairScorer, leads: Sequence[Known], *, at: datetime, settings: Settings) -> Cost:
    """What the step costs for these leads as one chunk."""
    arrive(engine, leads, at=at)
    with engine.connect() as connection:  # the pool has one connection: the step's backend is this one
        backend = psutil.Process(connection.execute(sa.text("select pg_backend_pid()")).scalar_one())
    watched = _Watched(scorer)
    with _timed_candidates() as fetching:
        cpu, before, wall = time.process_time(), _cpu(backend), time.perf_counter()
        report = dedupe_leads(engine, _chunk(len(leads), at), settings=settings, scorer=watched)
        wall, client = time.perf_counter() - wall, time.process_time() - cpu
        server = _cpu(backend) - before
    assert report.taken == len(leads)
    return Cost(wall, client + server, client, server, sum(fetching), watched.seconds, report.counts["candidates"])


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


@dataclass(frozen=True)
class CapCost:
    """Shares of the true pairs (arriving lead, stored record).

    ``compared`` and ``shared_key``: those that are compared, and that share a key at all. ``recall`` and
    ``recall_without_cap``: those of them that reach the merge weight, and so can join anybody.
    """

    true_pairs: int
    compared: float
    shared_key: float
    recall: float
    recall_without_cap: float
    candidates_per_lead: float

    @property
    def loss(self) -> float:
        return self.recall_without_cap - self.recall


def cost_of_cap(
    engine: sa.Engine, scorer: PairScorer, store: Store, leads: Sequence[Known], *, settings: Settings
) -> CapCost:
    """What bounding the candidates costs: lists cut at the cap, and common keys that are only hints."""
    cap = settings.matching.max_candidates_per_key
    keys = [match_keys(known.fields) for known in leads]
    mates = {lead_id for known in leads for lead_id in store.records_of.get(known.truth, ())}
    with engine.connect() as connection:
        found = match_index.find_candidates(connection, TENANT, {key for own in keys for key in own}, cap=cap)
        records = identity.read_records(connection, TENANT, mates)
        arriving = count_terms(known.fields for known in leads)
        known_terms = match_index.read_frequencies(connection, TENANT, arriving.occurrences)
    place_of = {record.lead_id: place for place, record in enumerate(records, start=len(leads))}
    hashes = {record.lead_id: {key.key_hash for key in match_keys(record.fields)} for record in records}
    true = candidates = 0
    compared: set[tuple[int, int]] = set()
    sharing: list[tuple[int, int]] = []
    for place, (known, own) in enumerate(zip(leads, keys, strict=True)):
        chosen = {lead_id for _, lead_id in find_pairs([own], found, cap=cap).with_known}
        candidates += len(chosen)
        for mate in store.records_of.get(known.truth, ()):
            true += 1
            if hashes[mate].isdisjoint(key.key_hash for key in own):
                continue
            sharing.append((place, place_of[mate]))
            if str(mate) in chosen:
                compared.add(sharing[-1])
    frequencies = Frequencies(store.contacts, {term: max(known_terms.get(term, 0), 1) for term in arriving.occurrences})
    fields = [*(known.fields for known in leads), *(record.fields for record in records)]
    scored = scorer.score(fields, sorted(sharing), frequencies=frequencies, explain_from=float("inf"))
    reached = {(pair.left, pair.right) for pair in scored if pair.match_weight >= settings.matching.merge_weight}
    return CapCost(
        true,
        len(compared) / true,
        len(sharing) / true,
        len(reached & compared) / true,
        len(reached) / true,
        candidates / len(leads),
    )


@dataclass(frozen=True)
class Speed:
    """The whole step, chunk after chunk. ``cpu_per_s``: leads a second of CPU, this process's and the backend's."""

    contacts: int
    chunk: int
    leads: int
    per_s: float
    cpu_per_s: float


def speed(
    engine: sa.Engine, scorer: PairScorer, store: Store, *, chunk: int, chunks: int, settings: Settings, at: datetime
) -> Speed:
    """Leads a second through the step in chunks of ``chunk``; the first is not counted."""
    costs = []
    for number in range(chunks + 1):
        part = store.arriving[number * chunk : (number + 1) * chunk]
        costs.append(measure(engine, scorer, part, at=at + timedelta(seconds=number), settings=settings))
    wall, cpu = (statistics.median(getattr(cost, name) for cost in costs[1:]) for name in ("wall", "cpu"))
    return Speed(store.contacts, chunk, chunk * chunks, chunk / wall, chunk / cpu)


def splink_between(engine: sa.Engine, store: Store, leads: Sequence[Known], *, batches: int, size: int) -> Cost:
    """What Splink's own ``predict_between`` costs for the same question, its frequency tables registered."""
    columns = ["first_name_key", "last_name_key", "email_key", "phone_key", "company_key", "city_key", "postcode_key"]
    with engine.connect() as connection:
        rows = connection.execute(
            sa.text(f"select {', '.join(columns)} from match_records limit :limit"),
            {"limit": store.records},
        ).all()
    logging.disable(logging.WARNING)  # Splink says of every comparison that it is not trained
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _predict_between(columns, rows, [known.fields for known in leads], batches=batches, size=size)
    finally:
        logging.disable(logging.NOTSET)


def _predict_between(
    columns: Sequence[str], existing: Sequence[Any], new: Sequence[MatchFields], *, batches: int, size: int
) -> Cost:
    connection = duckdb.connect()

    def load(name: str, rows: Sequence[Any], first: int) -> None:
        listed = {column: [row[at] for row in rows] for at, column in enumerate(columns)}
        frame = {column: np.array(values, dtype=object) for column, values in listed.items()}
        connection.register("given", {"unique_id": np.arange(first, first + len(rows)), **frame})
        connection.execute(f"create or replace table {name} as select * from given").fetchall()
        connection.unregister("given")

    load("existing", existing, 0)
    settings = SettingsCreator(
        link_type="dedupe_only",
        comparisons=[
            comparison_library.ExactMatch(column).configure(term_frequency_adjustments=True) for column in columns
        ],
        blocking_rules_to_generate_predictions=[
            block_on("email_key"), block_on("phone_key"), block_on("first_name_key", "last_name_key"),
            block_on("last_name_key", "company_key"), block_on("last_name_key", "city_key"),
        ],
    )  # fmt: skip
    costs = []
    api = DuckDBAPI(connection)
    known = api.register("existing", dataset_display_name="existing")
    linker = Linker(known, settings, log_level=None)
    for column in columns:
        linker.table_management.compute_tf_table(column)
    for batch in range(batches + 1):
        name = f"new_{batch}"
        part = new[batch * size : (batch + 1) * size]
        load(name, [[getattr(fields, column) for column in columns] for fields in part], 10**9)
        arriving = api.register(name, dataset_display_name=name)
        cpu, wall = time.process_time(), time.perf_counter()
        found = linker.inference.predict_between(known, arriving, link_type="link_only")
        pairs = len(found.as_record_list())
        costs.append((time.perf_counter() - wall, time.process_time() - cpu, pairs))
    wall, cpu, pairs = (statistics.median(column) for column in zip(*costs[1:], strict=True))
    return Cost(wall, cpu, cpu, 0.0, 0.0, wall, int(pairs))


@contextmanager
def _server() -> Iterator[EmbeddedServer]:
    with tempfile.TemporaryDirectory() as directory:
        server = EmbeddedServer(Path(directory) / "state")
        try:
            server.start()
            yield server
        finally:
            server.remove()


def run(contacts: Sequence[int], *, speeds: dict[int, tuple[str, int, int]], batches: int) -> dict[str, Any]:
    """All figures. ``speeds``: number of contacts → the figure's name, leads in a chunk, chunks."""
    settings = parse_settings(SETTINGS, path=Path("leads.yaml"))
    scorer = PairScorer.load()
    between: dict[int, Cost] = {}
    caps: dict[int, CapCost] = {}
    fast: dict[str, Speed] = {}
    filled: dict[int, float] = {}
    at = NOW + timedelta(hours=1)
    with ExitStack() as servers:
        waiting: dict[int, tuple[sa.Engine, Sequence[Known]]] = {}
        for number in contacts:
            engine = engine_for(servers.enter_context(_server()).url(), pool_size=1)
            servers.callback(engine.dispose)
            upgrade(engine, now=NOW)
            name, chunk, chunks = speeds.get(number, ("", 0, 0))
            first = (chunks + 1) * chunk
            store = fill(
                engine, stream(number, seed=REPORTING_SEEDS[0]), contacts=number, arriving=first + 3_000 + 100 * batches
            )
            filled[number] = store.seconds
            following = store.arriving[first:]
            caps[number] = cost_of_cap(engine, scorer, store, following[:3_000], settings=settings)
            if name:
                fast[name] = speed(engine, scorer, store, chunk=chunk, chunks=chunks, settings=settings, at=at)
            between[number] = splink_between(engine, store, following, batches=min(batches, 5), size=100)
            waiting[number] = engine, following
        small = _hundreds(waiting, scorer, batches=batches, settings=settings, at=at + timedelta(hours=1))
    least, most = min(contacts), max(contacts)
    results: dict[str, Any] = {
        "growth_10k_1m": small[most].cpu / small[least].cpu,
        "cap_recall_loss": max(cap.loss for cap in caps.values()),
        **{name: found.per_s for name, found in fast.items()},
        "contacts": {
            number: {
                "hundred_leads": asdict(small[number]),
                "splink_predict_between": asdict(between[number]),
                "cap": {**asdict(caps[number]), "loss": caps[number].loss},
                "seconds_to_fill": filled[number],
            }
            for number in contacts
        },
        "speeds": {name: asdict(found) for name, found in fast.items()},
    }
    if (least, most) != (10_000, 1_000_000):
        results["growth"] = results.pop("growth_10k_1m")
    show(small, between, caps, fast, results.get("growth_10k_1m", results.get("growth", 0.0)))
    return results


def _hundreds(
    waiting: dict[int, tuple[sa.Engine, Sequence[Known]]],
    scorer: PairScorer,
    *,
    batches: int,
    settings: Settings,
    at: datetime,
) -> dict[int, Cost]:
    """What 100 leads cost by number of contacts, in turns: the machine is faster at one time than at another."""
    costs: dict[int, list[Cost]] = {number: [] for number in waiting}
    for batch in range(batches + 1):
        for number, (engine, leads) in waiting.items():
            part = leads[batch * 100 : (batch + 1) * 100]
            costs[number].append(measure(engine, scorer, part, at=at + timedelta(seconds=batch), settings=settings))
    return {number: _median(found[1:]) for number, found in costs.items()}


def _median(costs: Sequence[Cost]) -> Cost:
    middle = {name: statistics.median(getattr(cost, name) for cost in costs) for name in asdict(costs[0])}
    return Cost(**{**middle, "candidates": int(middle["candidates"])})


def show(
    small: dict[int, Cost], between: dict[int, Cost], caps: dict[int, CapCost], fast: dict[str, Speed], growth: float
) -> None:
    """Tables for people."""
    table = Table(title=f"100 new leads: CPU grows by {growth:.2f}", title_justify="left")
    names = (
        "contacts", "CPU s", "of it PostgreSQL", "wall s", "candidates: wall", "scoring: wall", "pairs",
        "predict_between: CPU s", "wall s",
    )  # fmt: skip
    for name in names:
        table.add_column(name, justify="right")
    for number, cost in small.items():
        other = between[number]
        table.add_row(
            f"{number:,}", f"{cost.cpu:.3f}", f"{cost.backend_cpu:.3f}", f"{cost.wall:.3f}",
            f"{cost.candidates_wall:.3f}", f"{cost.scoring_wall:.3f}", f"{cost.candidates:,}", f"{other.cpu:.3f}",
            f"{other.wall:.3f}",
        )  # fmt: skip
    Console().print(table)
    table = Table(title="What bounding the candidates costs", title_justify="left")
    names = (
        "contacts", "true pairs", "share a key", "compared", "recall", "without a bound", "loss", "candidates a lead"
    )  # fmt: skip
    for name in names:
        table.add_column(name, justify="right")
    for number, cap in caps.items():
        table.add_row(
            f"{number:,}", f"{cap.true_pairs:,}", f"{cap.shared_key:.4f}", f"{cap.compared:.4f}", f"{cap.recall:.4f}",
            f"{cap.recall_without_cap:.4f}", f"{cap.loss:.4f}", f"{cap.candidates_per_lead:.1f}",
        )  # fmt: skip
    Console().print(table)
    table = Table(title="The whole step", title_justify="left")
    for name in ("contacts", "leads in a chunk", "leads a second", "leads a second of CPU"):
        table.add_column(name, justify="right")
    for found in fast.values():
        table.add_row(f"{found.contacts:,}", f"{found.chunk:,}", f"{found.per_s:,.0f}", f"{found.cpu_per_s:,.0f}")
    Console().print(table)


def main() -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="2,000 and 5,000 contacts, to see that it runs")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--contacts", type=int, nargs="+", default=[10_000, 100_000, 250_000, 1_000_000])
    parser.add_argument("--batches", type=int, default=15, help="batches of 100 leads whose median is taken")
    arguments = parser.parse_args()
    contacts = [2_000, 5_000] if arguments.quick else arguments.contacts
    speeds = (
        {5_000: ("resolve_per_s_quick", 500, 1)}
        if arguments.quick
        else {250_000: ("resolve_per_s_250k", 5_000, 5), 1_000_000: ("resolve_per_s_1m", 1_000, 7)}
    )
    results = run(contacts, speeds=speeds, batches=arguments.batches)
    Console().print(describe_machine())
    if arguments.json:
        write_results(arguments.json, results)


if __name__ == "__main__":
    main()
