"""Jobs that a vendor works on by itself, and the contacts that they hold.

A job is written down with the claim of its contacts, in one transaction, and each of its steps before the next one is
begun; so whoever comes next goes on where a killed process stopped. Who takes a job takes it from whoever had it before
and may only be slow: ``taken`` is counted up, and nothing is written for an older count. The contacts stay claimed
until the job ends, when what it holds of them is deleted here. Keep out: what a step is (``crm.jobs``) and what a
vendor does in it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import sqlalchemy as sa

_ADD = sa.text(
    """
    insert into bulk_jobs (job_id, destination, step, records, batch, claimed_by, started_at, next_poll_at, deadline_at)
    values (:job_id, :destination, :step, :records, cast(:batch as jsonb), :claimed_by, :now, :next_poll_at,
        :deadline_at)
    """
)
# Two processes cannot both take one: the row is locked, and not due any more once the other commits.
_TAKE = sa.text(
    """
    with mine as (
        select job_id from bulk_jobs
        where destination = :destination and ended_at is null and next_poll_at <= :now
        order by next_poll_at limit 1
        for update skip locked
    )
    update bulk_jobs set next_poll_at = :until, taken = taken + 1 from mine where bulk_jobs.job_id = mine.job_id
    returning bulk_jobs.job_id, crm_job_id, step, cast(batch as text) as batch, claimed_by, deadline_at, taken
    """
)
_STILL_MINE = "where job_id = :job_id and taken = :taken and ended_at is null"
_KEEP = sa.text(f"update bulk_jobs set next_poll_at = :until {_STILL_MINE}")  # noqa: S608 - no value is spliced in
_NOTE = sa.text(
    f"""
    update bulk_jobs set step = :step, crm_job_id = :crm_job_id, next_poll_at = :next_poll_at {_STILL_MINE}
    """  # noqa: S608 - no value is spliced in
)
_END = sa.text(
    f"update bulk_jobs set step = :step, ended_at = :now, batch = null {_STILL_MINE}"  # noqa: S608 - no value is spliced in
)
_DUE = sa.text(
    """
    select destination, count(*) as jobs from bulk_jobs
    where ended_at is null and next_poll_at <= :now group by destination
    """
)
_OPEN = sa.text(
    """
    select destination, count(*) as jobs, sum(records) as records, min(started_at) as oldest from bulk_jobs
    where ended_at is null group by destination order by destination
    """
)
_NOTE_BATCH = sa.text(
    f"""
    update bulk_jobs set batch = cast(:batch as jsonb), records = :records {_STILL_MINE}
    """  # noqa: S608 - no value is spliced in
)

# The ids stay: what became of the contact is still to be settled, and the erasure follows that.
_FORGET = sa.text(
    """
    update bulk_jobs set batch = batch || jsonb_build_object(
        'records', (
            select jsonb_agg(
                case when record ->> 'contact_id' = any(cast(:contacts as text[]))
                    then record || jsonb_build_object('properties', jsonb_build_object()) else record end
                order by place
            )
            from jsonb_array_elements(batch -> 'records') with ordinality as held(record, place)
        ),
        'wanted', (batch -> 'wanted') - cast(:outbox_ids as text[]),
        'subjects', (batch -> 'subjects') - cast(:contacts as text[])
    )
    where ended_at is null and jsonb_array_length(batch -> 'records') > 0
        and jsonb_exists_any(batch -> 'rows', cast(:outbox_ids as text[]))
    """
)


@dataclass(frozen=True, slots=True)
class StoredJob:
    """A job as it is written down. ``batch`` is JSON of what it holds; ``claimed_by`` the token of its claims.

    ``taken``: for how many times; whoever has an older count has it no more.
    """

    job_id: UUID
    crm_job_id: str | None
    step: str
    batch: str
    claimed_by: str
    deadline_at: datetime
    taken: int = 0


@dataclass(frozen=True, slots=True)
class OpenJobs:
    """How many jobs of a destination have not ended, with how many contacts, and since when the oldest is."""

    destination: str
    jobs: int
    records: int
    oldest: datetime


def add_job(
    connection: sa.Connection, job: StoredJob, *, destination: str, records: int, until: datetime, now: datetime
) -> None:
    """Write a job down that its process is at until ``until``; commit with the claim."""
    connection.execute(
        _ADD,
        {
            "job_id": job.job_id,
            "destination": destination,
            "step": job.step,
            "records": records,
            "batch": job.batch,
            "claimed_by": job.claimed_by,
            "next_poll_at": until,
            "deadline_at": job.deadline_at,
            "now": now,
        },
    )


def take_job(connection: sa.Connection, destination: str, *, lease: timedelta, now: datetime) -> StoredJob | None:
    """A job that is due to be looked at; nobody else looks at it for ``lease``."""
    row = connection.execute(_TAKE, {"destination": destination, "now": now, "until": now + lease}).one_or_none()
    if row is None:
        return None
    return StoredJob(row.job_id, row.crm_job_id, row.step, row.batch, row.claimed_by, row.deadline_at, row.taken)


def keep_job(connection: sa.Connection, job: StoredJob, *, until: datetime) -> bool:
    """Let nobody else look at the job before ``until``; false: somebody does, and it is theirs."""
    return _written(connection, _KEEP, job, until=until)


def note_step(
    connection: sa.Connection, job: StoredJob, *, step: str, crm_job_id: str | None, next_poll_at: datetime
) -> bool:
    """Write down how far a job is, unless it is somebody else's by now; commit before its next request."""
    return _written(connection, _NOTE, job, step=step, crm_job_id=crm_job_id, next_poll_at=next_poll_at)


def end_job(connection: sa.Connection, job: StoredJob, *, step: str, now: datetime) -> bool:
    """The job is over, and what it held of contacts is deleted; commit with the settlement.

    False: it is somebody else's by now. Then its contacts are theirs to settle.
    """
    return _written(connection, _END, job, step=step, now=now)


def note_batch(connection: sa.Connection, job: StoredJob, *, batch: str, records: int) -> bool:
    """Write down that a job holds other contacts by now; commit with what became of those that it held.

    False: it is somebody else's by now, and its contacts as well.
    """
    return _written(connection, _NOTE_BATCH, job, batch=batch, records=records)


def _written(connection: sa.Connection, statement: sa.TextClause, job: StoredJob, **values: object) -> bool:
    return connection.execute(statement, {"job_id": job.job_id, "taken": job.taken, **values}).rowcount == 1


def forget(connection: sa.Connection, contacts: Mapping[int, UUID]) -> None:
    """Take what open jobs hold of these contacts, by outbox id, out of them; who sends one then finds it erased."""
    values = {"outbox_ids": [str(item) for item in contacts], "contacts": [str(item) for item in contacts.values()]}
    connection.execute(_FORGET, values)


def jobs_due(connection: sa.Connection, *, now: datetime) -> dict[str, int]:
    """How many jobs are due to be looked at, by destination."""
    return {row.destination: row.jobs for row in connection.execute(_DUE, {"now": now})}


def open_jobs(connection: sa.Connection) -> list[OpenJobs]:
    """The jobs that have not ended, of each destination that has some."""
    return [OpenJobs(row.destination, row.jobs, row.records, row.oldest) for row in connection.execute(_OPEN)]
