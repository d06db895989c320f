"""The full re-resolution against plain Splink: the same leads, model, keys and cut-offs, each in a process of its own.

    python benchmarks/rebuild.py [--quick] [--leads N] [--json PATH]

Ours is ``matching.full``, as ``leads matching rebuild`` runs it: candidates, scoring with rules, clustering with votes.
Splink's is ``predict`` and ``cluster_pairwise_predictions_at_threshold`` over the very pairs that ours compares
(``register_blocked_pairs_for_predict``), made as ours are. ``predict`` finds its pairs too, so that is counted on both
sides; the ratio with the pairs as a gift to Splink is printed as well. What comes before is the same for both and
apart: reading (keys, what the model sees of a record) and frequencies. Time is CPU seconds of the process, as the
machine's other load counts less in it than in wall time; memory is the process's largest resident set, of ours with
reading.

Then the whole command on a database of its own: reading from PostgreSQL, the difference, and writing it, apart. On the
same database ``leads matching reindex``.
"""

import argparse
import json
import pickle
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

import duckdb
from machine import describe_machine, write_results
from rich.console import Console
from rich.table import Table

from leads_pipeline.config import MatchingSettings
from leads_pipeline.domain.match_fields import match_fields
from leads_pipeline.domain.match_keys import MatchFields, match_keys
from leads_pipeline.domain.match_rules import compile_rules
from leads_pipeline.domain.validation import ValidLead, validate
from leads_pipeline.matching.full import resolve_everything
from leads_pipeline.matching.full_candidates import KeyCollector
from leads_pipeline.matching.full_groups import same_people
from leads_pipeline.matching.full_scoring import BulkScorer
from leads_pipeline.matching.model import shipped_parameters, splink_settings
from leads_pipeline.matching.pairs import ONE_PERSON
from leads_pipeline.matching.scoring import prior_shift
from leads_pipeline.synthetic.hard_leads import REPORTING_SEEDS, hard_leads

TODAY = datetime(2026, 1, 15, tzinfo=UTC).date()
SOURCE = "import"
FULL, QUICK = 1_000_000, 50_000
TENANT = "benchmark"
# So many leads have a contact of their own that should not.
MISTAKEN = 0.01
KEYS = (
    "email_key", "phone_key", "first_name_key", "last_name_key", "company_key", "date_of_birth", "address_key",
    "city_key", "postcode_key",
)  # fmt: skip
_AT_ONCE = 20_000
_PAIRS_AT_ONCE = 2_000_000


def write_leads(path: Path, *, count: int, seed: int) -> int:
    """Validated leads as matching sees them, and how many there are."""
    written = 0
    with path.open("wb") as file:
        leads = (
            (validate(lead.payload, country="US", today=TODAY), lead.truth) for lead in hard_leads(count, seed=seed)
        )
        known = ((match_fields(lead, source=SOURCE), truth) for lead, truth in leads if isinstance(lead, ValidLead))
        while part := list(islice(known, _AT_ONCE)):
            pickle.dump(part, file)
            written += len(part)
    return written


def read_leads(path: Path) -> Iterator[list[tuple[MatchFields, str]]]:
    """As they were written: what matching sees of a lead, and whose it is."""
    with path.open("rb") as file:
        while True:
            try:
                yield pickle.load(file)
            except EOFError:
                return


class Phases:
    """CPU and wall seconds by phase: told as ``resolve_everything`` tells its progress."""

    def __init__(self) -> None:
        self.found: dict[str, dict[str, float]] = {}
        self._phase = ""
        self._cpu, self._wall = time.process_time(), time.perf_counter()

    def __call__(self, phase: str, _share: float) -> None:
        if phase != self._phase:
            self.end()
            self._phase = phase

    def end(self) -> None:
        cpu, wall = time.process_time(), time.perf_counter()
        if self._phase:
            spent = self.found.setdefault(self._phase, {"cpu": 0.0, "wall": 0.0})
            spent["cpu"] += cpu - self._cpu
            spent["wall"] += wall - self._wall
        self._cpu, self._wall = cpu, wall


def ours(directory: Path) -> dict[str, Any]:
    """The full re-resolution."""
    phases = Phases()
    records = enumerate(fields for part in read_leads(directory / "leads") for fields, _truth in part)
    work = directory / "work"
    work.mkdir()
    with resolve_everything(
        records,
        parameters=shipped_parameters(),
        settings=MatchingSettings(),
        work_directory=work,
        progress=phases,
    ) as resolution:
        phases.end()
        return {"phases": phases.found, "counts": dict(resolution.counts), "peak_mb": _peak_mb()}


def prepare(directory: Path) -> dict[str, Any]:
    """What Splink is given: the records with their frequencies, and the pairs."""
    settings = MatchingSettings()
    work = directory / "splink"
    work.mkdir()
    scorer = BulkScorer(work, shipped_parameters(), compile_rules(settings.rules), memory_limit="2GB")
    collected = KeyCollector(cap=settings.max_candidates_per_key)
    for part in read_leads(directory / "leads"):
        records = [fields for fields, _truth in part]
        collected.add([match_keys(fields) for fields in records])
        scorer.add(records)
    scorer.weigh_values(same_people(scorer.records, scorer.identities(ONE_PERSON)))
    contacts = scorer.contacts
    scorer.close()
    connection = duckdb.connect(str(work / "full.duckdb"))
    connection.execute("create table pairs (match_key varchar, join_key_l integer, join_key_r integer)").fetchall()
    found = 0
    phases = Phases()
    phases("candidates", 0)
    for batch in collected.candidates().batches(pairs=_PAIRS_AT_ONCE):
        connection.register("batch", {"older": batch.older, "newer": batch.newer})
        connection.execute("insert into pairs select '0', older, newer from batch").fetchall()
        found += len(batch.older)
    phases.end()
    connection.close()
    return {"contacts": contacts, "pairs": found, "phases": phases.found}


def splink(directory: Path, *, contacts: int) -> dict[str, Any]:
    """Plain Splink over the same records and pairs."""
    from splink import DuckDBAPI, Linker

    connection = duckdb.connect(
        str(directory / "splink" / "full.duckdb"), config={"temp_directory": str(directory / "splink" / "spill")}
    )
    phases = Phases()
    phases("scoring", 0)
    parameters = shipped_parameters()
    shift = prior_shift(parameters, contacts=contacts)
    settings = splink_settings(parameters)
    settings["retain_intermediate_calculation_columns"] = False
    # A rule must be named, although the pairs are given.
    settings["blocking_rules_to_generate_predictions"] = ["l.record = r.record"]
    interface = DuckDBAPI(connection)
    linker = Linker(interface.register("record", dataset_display_name="record"), settings, log_level=None)
    linker.table_management.register_blocked_pairs_for_predict(
        interface.register("pairs", dataset_display_name="pairs")
    )
    # A weight is shifted by the number of contacts; Splink's cut-off is moved instead.
    least = MatchingSettings().merge_weight - shift
    predicted = linker.inference.predict(threshold_match_weight=least, warning_mode="never")
    phases("clustering", 0)
    clusters = linker.clustering.cluster_pairwise_predictions_at_threshold(predicted, threshold_match_weight=least)
    phases.end()
    groups = connection.execute(f"select count(distinct cluster_id) from {clusters.physical_name}").fetchall()[0][0]
    return {"phases": phases.found, "counts": {"groups": groups}, "peak_mb": _peak_mb()}


def database(directory: Path) -> dict[str, Any]:
    """``leads matching rebuild --apply`` on a database of its own, whose contacts are wrong in places."""
    from leads_pipeline.clock import SystemClock
    from leads_pipeline.domain.ids import uuid7
    from leads_pipeline.steps.rebuilt_identity import Rebuild, apply, compare
    from leads_pipeline.steps.reindexed_records import reindex
    from leads_pipeline.storage.database import engine_for
    from leads_pipeline.storage.embedded import EmbeddedServer
    from leads_pipeline.storage.migrate import upgrade

    server = EmbeddedServer(directory / "state")
    server.start()
    try:
        url = server.url()
        engine = engine_for(url)
        upgrade(engine, now=datetime.now(UTC))
        with engine.begin() as connection:
            fill(connection, directory)
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("analyze")
        phases = Phases()
        rebuild = Rebuild(
            tenant=TENANT,
            settings=MatchingSettings(),
            parameters=shipped_parameters(),
            state_path=directory,
            clock=SystemClock(),
            runner_id=f"benchmark {uuid7(datetime.now(UTC))}",
            progress=phases,
        )
        difference = compare(engine, rebuild)
        peak_mb = _peak_mb()
        phases("writing", 0)
        done = apply(engine, rebuild, difference)
        phases.end()
        again = compare(engine, replace(rebuild, progress=lambda _phase, _share: None))
        # The records were filled in without keys, as a release with other keys would have left them.
        phases("reindexing", 0)
        reindexed = reindex(engine, TENANT)
        phases.end()
        return {
            "phases": phases.found,
            "difference_seconds": difference.seconds["difference"],
            "counts": {"groups": difference.contacts_then, "contacts_now": difference.contacts_now},
            "decisions": done.regrouped.decisions,
            "moved_leads": done.regrouped.moved_leads,
            "asked": done.asked,
            "differences_left": len(again.regroupings),
            "reindexed_leads": reindexed.leads,
            "reindexed_records": reindexed.records,
            "peak_mb_with_reindexing": _peak_mb(),
            "peak_mb": peak_mb,
        }
    finally:
        server.remove()


def fill(connection: Any, directory: Path) -> None:
    """Every lead with its person's contact, but for one in a hundred, which has one of its own."""
    from leads_pipeline.domain.ids import sorted_uuid7s, uuid7
    from leads_pipeline.storage.copying import copy_rows

    rng = random.Random(1)
    contact_of: dict[str, str] = {}
    began = datetime(2026, 1, 1, tzinfo=UTC)
    batch = str(uuid7(began))
    for number, part in enumerate(read_leads(directory / "leads")):
        now = began + timedelta(minutes=number)
        ids = [str(item) for item in sorted_uuid7s(now, len(part))]
        founded: list[tuple[str, str]] = []
        validated, deduped, records = [], [], []
        for lead_id, (fields, truth) in zip(ids, part, strict=True):
            person = truth if rng.random() > MISTAKEN else lead_id
            contact = contact_of.get(person)
            if contact is None:
                contact = contact_of[person] = str(uuid7(now))
                founded.append((contact, lead_id))
            own = [getattr(fields, name) for name in KEYS]
            validated.append(
                (lead_id, 1, TENANT, SOURCE, "batch", "batch", now, *own, fields.state_key, fields.job_title_key,
                 "{}", "[]", "benchmark", batch, "benchmark", now)
            )  # fmt: skip
            deduped.append((lead_id, 1, TENANT, "batch", contact, "new", batch, "benchmark", now))
            records.append((lead_id, TENANT, contact, *own, "[]"))
        stamp = ("batch_id", "runner_id")
        copy_rows(
            connection,
            "validated_leads",
            ("lead_id", "revision", "tenant", "source", "capture_lane", "sync_lane", "received_at", *KEYS, "state",
             "job_title", "attribution", "flags", "rule_version", *stamp, "validated_at"),
            validated,
        )  # fmt: skip
        copy_rows(
            connection,
            "contacts",
            ("contact_id", "tenant", "founding_lead_id", "created_at"),
            [(contact, TENANT, lead_id, now) for contact, lead_id in founded],
        )
        copy_rows(
            connection,
            "deduped_leads",
            ("lead_id", "revision", "tenant", "sync_lane", "contact_id", "decision", *stamp, "deduped_at"),
            deduped,
        )
        copy_rows(connection, "match_records", ("lead_id", "tenant", "contact_id", *KEYS, "flags"), records)


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def rebuild_over_splink(directory: Path, *, leads: int, seed: int) -> dict[str, Any]:
    """Both sides, one after the other, each in a process of its own; figures and their ratios."""
    accepted = write_leads(directory / "leads", count=leads, seed=seed)
    prepared = _in_process("prepare", directory)
    own = _in_process("ours", directory)
    peer = _in_process("splink", directory, "--contacts", str(prepared["contacts"]))
    own_cpu = sum(own["phases"][phase]["cpu"] for phase in ("candidates", "scoring", "clustering"))
    handed_cpu = sum(peer["phases"][phase]["cpu"] for phase in ("scoring", "clustering"))
    peer["phases"] = prepared["phases"] | peer["phases"]
    peer_cpu = sum(spent["cpu"] for spent in peer["phases"].values())
    command = _in_process("database", directory)
    return {
        "leads": accepted,
        "pairs": prepared["pairs"],
        "command": command,
        "ours": own,
        "splink": peer,
        "ours_cpu_seconds": round(own_cpu, 1),
        "splink_cpu_seconds": round(peer_cpu, 1),
        "rebuild_over_splink_time": round(own_cpu / peer_cpu, 3),
        "rebuild_over_splink_time_with_pairs_for_nothing": round(own_cpu / handed_cpu, 3),
        "rebuild_over_splink_memory": round(own["peak_mb"] / peer["peak_mb"], 3),
    }


def _in_process(side: str, directory: Path, *arguments: str) -> dict[str, Any]:
    command = [sys.executable, __file__, "--side", side, "--directory", str(directory), *arguments]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def show(found: dict[str, Any]) -> None:
    """Both sides by phase."""
    table = Table(title=f"{found['leads']:,} leads, {found['pairs']:,} pairs", title_justify="left")
    for column in ("", "phase", "CPU s", "wall s"):
        table.add_column(column)
    for side in ("ours", "splink", "command"):
        for phase, spent in found[side]["phases"].items():
            table.add_row(side, phase, f"{spent['cpu']:.1f}", f"{spent['wall']:.1f}")
        table.add_row(side, "largest resident set", f"{found[side]['peak_mb']:,.0f} MB", "")
        table.add_row(side, "groups", f"{found[side]['counts']['groups']:,}", "")
    console = Console()
    console.print(table)
    command = found["command"]
    console.print(
        f"the command on a database: difference {command['difference_seconds']:.1f} s; {command['decisions']:,} "
        f"decisions written, {command['moved_leads']:,} leads moved; a second run finds "
        f"{command['differences_left']:,} differences"
    )
    seconds = command["phases"]["reindexing"]["wall"]
    console.print(
        f"leads matching reindex: {command['reindexed_leads']:,} leads, {command['reindexed_records']:,} records in "
        f"{seconds:.0f} s, {command['reindexed_leads'] / seconds:,.0f} leads/s"
    )
    console.print(f"rebuild_over_splink_time {found['rebuild_over_splink_time']:.3f} (at most 1.1)")
    given = found["rebuild_over_splink_time_with_pairs_for_nothing"]
    console.print(f"  with the pairs as a gift to Splink {given:.3f}")
    console.print(f"rebuild_over_splink_memory {found['rebuild_over_splink_memory']:.3f} (at most 1.5)")


def main() -> None:
    """Measure, print, write."""
    arguments = _arguments()
    if arguments.side:
        directory = arguments.directory
        if arguments.side == "splink":
            found = splink(directory, contacts=arguments.contacts)
        else:
            found = {"prepare": prepare, "ours": ours, "database": database}[arguments.side](directory)
        sys.stdout.write(json.dumps(found) + "\n")
        return
    leads = arguments.leads or (QUICK if arguments.quick else FULL)
    with tempfile.TemporaryDirectory(prefix="rebuild-") as directory:
        results = rebuild_over_splink(Path(directory), leads=leads, seed=arguments.seed)
    show(results)
    Console().print(describe_machine())
    if arguments.json:
        write_results(arguments.json, results)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK:,} leads")
    parser.add_argument("--leads", type=int, help=f"{FULL:,} by default")
    parser.add_argument("--seed", type=int, default=REPORTING_SEEDS[0])
    parser.add_argument("--json", type=Path, help="write the results to this file")
    parser.add_argument("--side", choices=("prepare", "ours", "splink", "database"), help=argparse.SUPPRESS)
    parser.add_argument("--directory", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--contacts", type=int, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
