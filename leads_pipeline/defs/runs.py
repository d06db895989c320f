"""What Dagster's own storage says about earlier runs of a job: is one under way, and how did the last ones go.

The database says whether work waits; this says whether asking again at once would help. Keep out: anything about leads.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import dagster as dg

# A run puts this on itself once it has moved anything. A run that succeeds without it was fruitless.
PROGRESS_TAG = "leads/progress"

# dagster.yaml allows one run per value of this tag, whoever asks for it.
SERIAL_TAG = "leads/serial"

# Of those that may wait dagster.yaml lets two run at once, so that places are left for what may not.
BACKGROUND = {"leads/pace": "background"}

UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
    dg.DagsterRunStatus.SUSPENDED,
]

FINISHED = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]

# The first setback costs nothing but the next tick, so that a lost connection is soon forgotten; then 10, 20, 40 … s.
FIRST_PAUSE = timedelta(seconds=10)
LONGEST_PAUSE = timedelta(minutes=5)
_SETBACKS_THAT_MATTER = 8
LONGEST_HANDOVER = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Setbacks:
    """The latest runs of a job, one after the other, that failed or moved nothing; ``since``: the end of the last."""

    runs: int
    since: datetime | None

    def pause_ends(self) -> datetime | None:
        """When it makes sense to ask again, or ``None`` for now."""
        if self.since is None or self.runs <= 1:
            return None
        pause: timedelta = FIRST_PAUSE * 2 ** (self.runs - 2)
        return self.since + min(pause, LONGEST_PAUSE)


def note_progress(instance: dg.DagsterInstance, run_id: str) -> None:
    """Remember on the run that it moved something."""
    if instance.has_run(run_id):
        instance.add_run_tags(run_id, {PROGRESS_TAG: "yes"})


def has_unfinished_run(instance: dg.DagsterInstance, job_name: str, *, now: datetime) -> bool:
    """Whether a run of the job is queued, starting or under way.

    A run that was made and never handed over counts for ``LONGEST_HANDOVER`` only: nobody watches over it, and it would
    silence its sensor for good.
    """
    watched = [status for status in UNFINISHED if status is not dg.DagsterRunStatus.NOT_STARTED]
    made = dg.RunsFilter(
        job_name=job_name, statuses=[dg.DagsterRunStatus.NOT_STARTED], created_after=now - LONGEST_HANDOVER
    )
    return any(
        instance.get_run_ids(runs, limit=1) for runs in (dg.RunsFilter(job_name=job_name, statuses=watched), made)
    )


def reason_to_wait(instance: dg.DagsterInstance, job_name: str, *, now: datetime) -> str | None:
    """Why a sensor should not ask for a run of the job now, or ``None``."""
    if has_unfinished_run(instance, job_name, now=now):
        return "a run is under way; it takes what has come meanwhile"
    earlier = setbacks(instance, job_name)
    pause_ends = earlier.pause_ends()
    if pause_ends is not None and now < pause_ends:
        return f"the last {earlier.runs} runs came to nothing; asking again at {pause_ends:%H:%M:%S} UTC"
    return None


def setbacks(instance: dg.DagsterInstance, job_name: str) -> Setbacks:
    """How many of the job's latest runs came to nothing, one after the other."""
    records = instance.get_run_records(dg.RunsFilter(job_name=job_name), limit=_SETBACKS_THAT_MATTER)
    runs = 0
    for record in records:
        succeeded = record.dagster_run.status is dg.DagsterRunStatus.SUCCESS
        if succeeded and PROGRESS_TAG in record.dagster_run.tags:
            break
        runs += 1
    ended = records[0].end_time if runs else None
    return Setbacks(runs=runs, since=datetime.fromtimestamp(ended, tz=UTC) if ended else None)
