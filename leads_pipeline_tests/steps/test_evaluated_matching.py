"""A file with its truth, through the pipeline's matching at once and in micro-batches."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa

from leads_pipeline.buffer.files.opening import open_lead_file
from leads_pipeline.clock import FrozenClock
from leads_pipeline.config import Settings
from leads_pipeline.domain.match_keys import MatchFields
from leads_pipeline.errors import ImportFileError
from leads_pipeline.matching.evaluation_report import EvaluationReport
from leads_pipeline.matching.model import Parameters, shipped_parameters
from leads_pipeline.steps import evaluated_matching
from leads_pipeline.steps.deduped_leads import dedupe_leads
from leads_pipeline.steps.evaluated_matching import LabelledFile, evaluate_matching
from leads_pipeline.synthetic import TUNING_SEEDS, hard_leads

COLUMNS = ("first_name", "last_name", "full_name", "email", "phone", "company", "city", "postcode", "date_of_birth")


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    names = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(rows)
    return path


def hard_rows(count: int) -> list[dict[str, str]]:
    return [
        {**{name: lead.payload.get(name, "") for name in COLUMNS}, "person": lead.truth}
        for lead in hard_leads(count, seed=TUNING_SEEDS[1])
    ]


def evaluated(
    path: Path,
    settings: Settings,
    clock: FrozenClock,
    *,
    truth: str = "person",
    own: Mapping[str, str | None] | None = None,
    engine: sa.Engine | None = None,
    replay: int | None = None,
    **options: Any,
) -> EvaluationReport:
    assert engine is not None or replay is None
    return evaluate_matching(
        LabelledFile.of(open_lead_file(path), truth=truth, own=own or {}, country="US", clock=clock),
        settings=settings.matching,
        parameters=shipped_parameters(),
        adapt=options.get("adapt"),
        replay_chunk=replay,
        dedupe=partial(dedupe_leads, settings=settings),
        database=lambda: nullcontext(engine),  # type: ignore[arg-type,return-value]
        progress=options.get("progress", lambda _doing, _done, _total: None),
    )


def test_a_file_is_resolved_at_once_and_in_micro_batches_and_both_are_counted(
    tmp_path: Path, settings: Settings, clock: FrozenClock, engine: sa.Engine
) -> None:
    rows = hard_rows(400)
    report = evaluated(write_csv(tmp_path / "leads.csv", rows), settings, clock, engine=engine, replay=64)
    assert (report.rows, report.unreadable, report.without_truth) == (400, 0, 0)
    assert report.accepted + report.rejected == 400
    assert report.people.groups == len({row["person"] for row in rows})
    assert report.replay is not None
    assert report.agreement is not None
    for run in (report.full, report.replay):
        assert run.pairwise.f1 > 0.8
        assert run.bcubed.f1 > 0.9
        assert run.contacts.groups < report.accepted
        assert run.cost.peak_memory_mib > 20
    assert report.agreement.pairwise.f1 > 0.95
    document = report.to_json()
    assert document["full"]["pairwise"].keys() >= {"precision", "recall", "f1"}
    assert document["replay"]["bcubed"].keys() == {"precision", "recall", "f1"}
    assert document["replay_equals_full"] is report.agreement.are_equal
    assert document["replay"]["chunk"] == 64


def test_one_micro_batch_of_all_leads_gives_what_the_full_resolution_gives(
    tmp_path: Path, settings: Settings, clock: FrozenClock, engine: sa.Engine
) -> None:
    report = evaluated(write_csv(tmp_path / "leads.csv", hard_rows(600)), settings, clock, engine=engine, replay=600)
    assert report.agreement is not None
    assert report.agreement.are_equal
    assert report.full.contacts.groups < report.accepted


def test_rejected_rows_do_not_drop_out_of_the_yardstick(tmp_path: Path, settings: Settings, clock: FrozenClock) -> None:
    found = {"first_name": "Ada", "last_name": "Lovelace", "email": "ada@engine.example", "person": "ada"}
    nothing = {"first_name": "", "last_name": "", "email": "", "person": "ada"}
    report = evaluated(write_csv(tmp_path / "leads.csv", [found, found, nothing, nothing]), settings, clock)
    assert (report.accepted, report.rejected) == (2, 2)
    assert report.rejected_because == {"nothing_identifying": 2}
    assert (report.full.accepted_pairwise.recall, report.full.accepted_pairwise.precision) == (1.0, 1.0)
    assert (report.full.pairwise.true_pairs, report.full.pairwise.found_pairs) == (6, 1)
    assert report.full.pairwise.recall == pytest.approx(1 / 6)


def test_rows_that_do_not_say_whose_they_are_are_matched_but_not_counted(
    tmp_path: Path, settings: Settings, clock: FrozenClock
) -> None:
    one = {"first_name": "Ada", "last_name": "Lovelace", "email": "ada@engine.example", "person": "ada"}
    report = evaluated(
        write_csv(tmp_path / "leads.csv", [one, {**one, "person": ""}, {**one, "person": ""}]), settings, clock
    )
    assert report.without_truth == 2
    assert report.full.contacts.groups == 1
    assert (report.full.pairwise.true_pairs, report.full.pairwise.found_pairs) == (0, 0)


def test_the_truth_is_no_field_of_a_lead_whatever_its_column_is_called(
    tmp_path: Path, settings: Settings, clock: FrozenClock
) -> None:
    rows = [
        {"first_name": "Ada", "last_name": "Lovelace", "postcode": "10001", "email": "same@engine.example"},
        {"first_name": "Charles", "last_name": "Babbage", "postcode": "94110", "email": "same@engine.example"},
    ]
    report = evaluated(write_csv(tmp_path / "leads.csv", rows), settings, clock, truth="email")
    assert report.full.contacts.groups == 2  # the address would have joined them, or at least been compared


def test_parquet_with_numbers_and_own_column_names_is_mapped_as_an_import_would(
    tmp_path: Path, settings: Settings, clock: FrozenClock
) -> None:
    table = pa.table(
        {
            "vorname": ["Ada", "Ada", "Grace"],
            "surname": ["Lovelace", "Lovelace", "Hopper"],
            "dob": [date(1980, 12, 10), date(1980, 12, 10), date(1976, 12, 9)],
            "zip": [10001, 10001, 22201],
            "cluster": [7, 7, 9],
        }
    )
    path = tmp_path / "people.parquet"
    pq.write_table(table, path)
    report = evaluated(path, settings, clock, truth="cluster", own={"vorname": "first_name"})
    assert report.people.groups == 2
    assert report.full.pairwise.f1 == 1.0


def test_the_model_is_adapted_before_anything_is_resolved(
    tmp_path: Path, settings: Settings, clock: FrozenClock
) -> None:
    seen: list[int] = []

    def adapt(fields: Sequence[MatchFields], drawn_from: int) -> Parameters:
        seen.extend((len(fields), drawn_from))
        return replace(shipped_parameters(), version="fitted")

    path = write_csv(tmp_path / "leads.csv", hard_rows(50))
    report = evaluated(path, settings, clock, adapt=adapt)
    assert (seen, report.is_adapted) == ([report.accepted, report.accepted], True)
    assert report.training is not None
    assert report.model == "fitted"
    assert report.to_json()["model"]["adapted_to_the_file"] is True


def test_a_large_file_is_resolved_by_the_model_as_it_is(
    tmp_path: Path, settings: Settings, clock: FrozenClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluated_matching, "MOST_FITTED", 20)
    path = write_csv(tmp_path / "leads.csv", hard_rows(50))
    report = evaluated(path, settings, clock, adapt=lambda _fields, _drawn_from: pytest.fail("fitted"))
    assert report.accepted > 20
    assert (report.is_adapted, report.model) == (False, shipped_parameters().version)


def test_progress_is_told_and_ends_where_it_said(
    tmp_path: Path, settings: Settings, clock: FrozenClock, engine: sa.Engine
) -> None:
    told: list[tuple[str, int, int]] = []
    path = write_csv(tmp_path / "leads.csv", hard_rows(60))
    evaluated(
        path, settings, clock, engine=engine, replay=20,
        progress=lambda doing, done, total: told.append((doing, done, total)),
    )  # fmt: skip
    assert {doing for doing, _done, _total in told} >= {"reading", "full: scoring", "replaying"}
    replaying = [(done, total) for doing, done, total in told if doing == "replaying"]
    assert len(replaying) == 3
    assert replaying[-1][0] == replaying[-1][1]


def test_of_a_long_file_a_sample_is_kept_for_the_model_and_it_is_always_the_same(
    tmp_path: Path, settings: Settings, clock: FrozenClock
) -> None:
    path = write_csv(tmp_path / "leads.csv", hard_rows(300))
    file = LabelledFile.of(open_lead_file(path), truth="person", own={}, country="US", clock=clock)
    samples = [file.counted(lambda *_told: None, sample=40).sample for _ in range(2)]
    assert samples[0] == samples[1]
    assert len(samples[0]) == 40
    everything = file.counted(lambda *_told: None, sample=1_000)
    assert len(everything.sample) == everything.accepted
    assert any(record not in samples[0] for record in everything.sample[:40])
    remaining = iter(everything.sample)
    assert all(record in remaining for record in samples[0])  # a part of all, in their order


@contextmanager
def refused(words: str) -> Iterator[None]:
    with pytest.raises(ImportFileError, match=words):
        yield


def test_a_file_that_cannot_be_evaluated_is_refused_with_what_it_has(
    tmp_path: Path, settings: Settings, clock: FrozenClock
) -> None:
    path = tmp_path / "leads.csv"
    check = partial(evaluated, path, settings, clock)
    path.write_text("first_name,email\nAda,ada@engine.example\n", encoding="utf-8")
    with refused("no column 'person'.*first_name, email"):
        check()
    with refused("there is no field 'nickname'"):
        check(truth="email", own={"first_name": "nickname"})
    with refused("cannot be a field of the lead as well"):
        check(truth="email", own={"email": "email"})
    path.write_text("email,person\nada@engine.example,\n", encoding="utf-8")
    with refused("'person' of .* is empty in every row"):
        check()
    path.write_text("email,person\n", encoding="utf-8")
    with refused("holds no row"):
        check()
    path.write_text("", encoding="utf-8")
    with refused("is empty"):
        check()
