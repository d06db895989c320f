"""How well the pipeline tells the leads of a file apart, where a column says who is who.

The rows go through what production does with them: mapped, validated, keyed, scored, clustered; all at once, and, if
asked for, chunk after chunk through ``dedupe_leads`` on a database made for it. Of the user's nothing is read but the
file, and nothing written. The column with the truth is for counting only: neither the model nor a cut-off sees it.
"""

import random
import tempfile
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice
from operator import itemgetter
from pathlib import Path
from typing import Protocol
from uuid import UUID

import sqlalchemy as sa

from leads_pipeline.buffer.files.leads import ReadLead, leads_of
from leads_pipeline.buffer.files.rows import LeadFile
from leads_pipeline.clock import Clock
from leads_pipeline.config import MatchingSettings
from leads_pipeline.domain.ids import BatchId, uuid7
from leads_pipeline.domain.import_mapping import ColumnMapping, kept_name, map_columns
from leads_pipeline.domain.match_fields import match_fields
from leads_pipeline.domain.match_keys import MatchFields
from leads_pipeline.domain.stage import ALL_LANES, Chunk, ChunkReport, Lane, Stage
from leads_pipeline.domain.triage import UNWEIGHED
from leads_pipeline.domain.validation import ValidLead, validate
from leads_pipeline.errors import ImportFileError
from leads_pipeline.matching.evaluation import group_sizes
from leads_pipeline.matching.evaluation_report import Agreement, Cost, EvaluationReport, Place, RunFigures
from leads_pipeline.matching.measured import measured
from leads_pipeline.matching.model import Parameters
from leads_pipeline.matching.pairs import Scorer
from leads_pipeline.storage.leads import RawLead, insert_validated_leads
from leads_pipeline.storage.pending import Waiting, enqueue

TENANT = "evaluation"
SOURCE = "file"
# The progress of reading is told once in so many rows.
_ROWS_AT_ONCE = 5_000
# A model that is fitted to more learns no more; 100,000 records hold thousands of pairs of one person.
MOST_SAMPLED = 100_000
# A sample of a larger file says too little of how many people are in it: fitted to 100,000 of a million invented leads
# the model joined 7 % of pairs wrongly, as it is shipped 3 %.
MOST_FITTED = 200_000

Progress = Callable[[str, int, int], None]
"""What is being done, how far it is, and where that ends."""


class Dedupe(Protocol):
    """``steps.deduped_leads.dedupe_leads`` with its settings."""

    def __call__(self, engine: sa.Engine, chunk: Chunk, *, scorer: Scorer) -> ChunkReport: ...


Adapt = Callable[[Sequence[MatchFields], int], Parameters]
"""Fits the model to records of which nobody says whose they are; they were drawn from so many."""


@dataclass
class LabelledRows:
    """The rows of a file, counted. ``truth`` has those whose person is known, ``sample`` some that were accepted."""

    rows: int = 0
    unreadable: int = 0
    accepted: int = 0
    sample: list[MatchFields] = field(default_factory=list)
    truth: dict[Place, str] = field(default_factory=dict)
    rejected_because: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class LabelledFile:
    """A file with a column that names the person of each row."""

    file: LeadFile
    truth: str
    mapping: ColumnMapping
    country: str
    clock: Clock

    @classmethod
    def of(
        cls, file: LeadFile, *, truth: str, own: Mapping[str, str | None], country: str, clock: Clock
    ) -> "LabelledFile":
        """``own`` is a person's mapping of some columns, ``country`` the home market of validation.

        Raises:
            ImportFileError: the file has no column ``truth``, or ``own`` does not fit its columns.
        """
        if truth not in file.columns:
            columns = ", ".join(file.columns)
            raise ImportFileError(
                f"{file.content.name} has no column {truth!r} to take the truth from; it has: {columns}"
            )
        if own.get(truth) is not None:
            raise ImportFileError(f"the column {truth!r} is the truth and cannot be a field of the lead as well")
        return cls(file, truth, map_columns(file.columns, {**own, truth: None}), country, clock)

    def counted(self, progress: Progress, *, sample: int = 0) -> LabelledRows:
        """Read and validate every row; ``sample`` of the accepted ones are kept in their order, always the same.

        Raises:
            ImportFileError: it cannot be read, holds no row, or no row says whose it is.
        """
        found = LabelledRows()
        drawn: list[tuple[Place, MatchFields]] = []
        rng = random.Random(0)  # noqa: S311 - a sample, no secret
        for place, person, lead in self.judged(progress, found):
            if person is not None:
                found.truth[place] = person
            if lead is None:
                continue
            if len(drawn) < sample:
                drawn.append((place, match_fields(lead, source=SOURCE)))
            elif sample and (at := rng.randrange(found.accepted + 1)) < sample:
                drawn[at] = place, match_fields(lead, source=SOURCE)
            found.accepted += 1
        found.sample = [fields for _place, fields in sorted(drawn, key=itemgetter(0))]
        if not found.rows:
            raise ImportFileError(f"{self.file.content.name} holds no row that can be read")
        if not found.truth:
            raise ImportFileError(f"the column {self.truth!r} of {self.file.content.name} is empty in every row")
        return found

    def leads(self) -> Iterator[tuple[Place, ValidLead]]:
        """The rows that validation accepts."""
        return ((place, lead) for place, _person, lead in self.judged(_silent) if lead is not None)

    def judged(
        self, progress: Progress, counted: LabelledRows | None = None
    ) -> Iterator[tuple[Place, str | None, ValidLead | None]]:
        """Each row that can be read: its place, its person, and the lead if validation accepts it."""
        truth_name = kept_name(self.truth)
        today = self.clock.now().date()
        place = -1
        for answer in leads_of(self.file, self.file.rows(), self.mapping):
            if not isinstance(answer, ReadLead):
                if counted is not None:
                    counted.unreadable += 1
                continue
            place += 1
            payload = dict(answer.payload)
            person = payload.pop(truth_name, None)
            verdict = validate(payload, country=self.country, today=today)
            lead = verdict if isinstance(verdict, ValidLead) else None
            if counted is not None:
                counted.rows += 1
                if not isinstance(verdict, ValidLead):
                    counted.rejected_because.update({finding.name for finding in verdict.reasons})
            if place % _ROWS_AT_ONCE == 0:
                progress("reading", self.file.position, self.file.total)
            yield place, None if person is None else str(person), lead


def evaluate_matching(
    file: LabelledFile,
    *,
    settings: MatchingSettings,
    parameters: Parameters,
    adapt: Adapt | None,
    replay_chunk: int | None,
    dedupe: Dedupe,
    database: Callable[[], AbstractContextManager[sa.Engine]],
    progress: Progress = lambda _doing, _done, _total: None,
) -> EvaluationReport:
    """Tell the leads of ``file`` apart and count how well.

    ``adapt`` fits the model to the file first, without labels; ``None`` leaves ``parameters`` as they are, as does a
    file of more than ``MOST_FITTED`` leads. With ``replay_chunk`` the leads also come to ``dedupe`` in micro-batches of
    so many, in the order of the file, on a database that ``database`` gives for as long. The seconds of both ways
    include reading and validating.

    Raises:
        ImportFileError: the file cannot be evaluated; the message says why.
    """
    clock = file.clock
    rows = file.counted(progress, sample=MOST_SAMPLED if adapt else 0)
    training: Cost | None = None
    if rows.accepted > MOST_FITTED:
        adapt = None
    if adapt is not None:
        progress("adapting the model", 0, 1)
        with measured(clock) as meter:
            parameters = adapt(rows.sample, rows.accepted)
        training = meter.cost
        rows.sample.clear()
    with measured(clock) as meter:
        full = _resolved_at_once(file, settings, parameters, progress, accepted=rows.accepted)
    full_figures = RunFigures.of(rows.truth, full, meter.read())
    replay_figures: RunFigures | None = None
    agreement: Agreement | None = None
    if replay_chunk is not None:
        with database() as engine:
            replay = _Replay(engine, file, dedupe, _scorer(parameters), replay_chunk)
            with measured(clock) as meter:
                found = replay.run(progress, accepted=rows.accepted)
        replay_figures = RunFigures.of(rows.truth, found, meter.read())
        agreement = Agreement.of(full, found)
    return EvaluationReport(
        file=file.file.content.name,
        rows=rows.rows,
        unreadable=rows.unreadable,
        without_truth=rows.rows - len(rows.truth),
        accepted=rows.accepted,
        rejected=rows.rows - rows.accepted,
        rejected_because=dict(rows.rejected_because.most_common()),
        people=group_sizes(rows.truth),
        model=parameters.version,
        is_adapted=adapt is not None,
        training=training,
        full=full_figures,
        replay=replay_figures,
        replay_chunk=replay_chunk,
        agreement=agreement,
    )


def _resolved_at_once(
    file: LabelledFile, settings: MatchingSettings, parameters: Parameters, progress: Progress, *, accepted: int
) -> dict[Place, Hashable]:
    # Splink, DuckDB and NumPy cost a second to import: only an evaluation pays for them.
    from leads_pipeline.matching.full import resolve_everything  # noqa: PLC0415

    def told(phase: str, share: float) -> None:
        # Of reading it is told how many records are there.
        done, total = (round(share), accepted) if phase == "reading" else (round(100 * share), 100)
        progress(f"full: {phase}", done, total)

    with tempfile.TemporaryDirectory(prefix="leads-evaluation-") as directory:
        records = ((place, match_fields(lead, source=SOURCE)) for place, lead in file.leads())
        with resolve_everything(
            records, parameters=parameters, settings=settings, work_directory=Path(directory), progress=told
        ) as found:
            return dict(found.groups())


def _scorer(parameters: Parameters) -> Scorer:
    from leads_pipeline.matching.scoring import PairScorer  # noqa: PLC0415

    return PairScorer(parameters)


@dataclass
class _Replay:
    """The leads of the file as they would have come: validated, and resolved chunk after chunk by the step."""

    engine: sa.Engine
    file: LabelledFile
    dedupe: Dedupe
    scorer: Scorer
    size: int
    _places: dict[UUID, Place] = field(default_factory=dict)

    def run(self, progress: Progress, *, accepted: int) -> dict[Place, Hashable]:
        began = self.file.clock.now()
        leads = self.file.leads()
        while waiting := list(islice(leads, self.size)):
            self._resolve(waiting, began)
            progress("replaying", len(self._places), accepted)
        return self._contacts()

    def _resolve(self, waiting: Sequence[tuple[Place, ValidLead]], began: datetime) -> None:
        # A lead a millisecond: their ids are in the order of the file.
        moments = [began + timedelta(milliseconds=place) for place, _lead in waiting]
        raws = [RawLead(uuid7(moment), 1, SOURCE, Lane.BATCH, moment, "{}") for moment in moments]
        self._places.update((raw.lead_id, place) for raw, (place, _lead) in zip(raws, waiting, strict=True))
        now = moments[-1]
        chunk = Chunk(TENANT, ALL_LANES, self.size, BatchId(uuid7(now)), "evaluation", now)
        valid = [(raw, lead, UNWEIGHED) for raw, (_place, lead) in zip(raws, waiting, strict=True)]
        with self.engine.begin() as connection:
            insert_validated_leads(connection, valid, chunk)
            enqueue(
                connection,
                Stage.DEDUPED_LEADS,
                [Waiting(raw.lead_id, TENANT, Lane.BATCH, 1, raw.received_at) for raw in raws],
            )
        while self.dedupe(self.engine, chunk, scorer=self.scorer).taken:
            pass

    def _contacts(self) -> dict[Place, Hashable]:
        with self.engine.connect() as connection:
            rows = connection.execute(
                sa.text("select lead_id, contact_id from deduped_leads where tenant = :tenant"), {"tenant": TENANT}
            )
            return {self._places[row.lead_id]: row.contact_id for row in rows}


def _silent(_doing: str, _done: int, _total: int) -> None:
    """Say nothing."""
