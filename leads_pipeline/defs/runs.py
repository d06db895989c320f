"""What Dagster's own storage says about earlier runs of a job: is one under way, and how did the last ones go.

The database says whether work waits; this says whether asking again at once would help. Keep out: anything about leads.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import dagster as dg

from leads_pipeline.clock import SystemClock

# A run puts this on itself once it has moved anything. A run that succeeds without it was fruitless.
PROGRESS_TAG = "leads/progress"

# dagster.yaml allows one run per value of this tag, whoever asks for it.
SERIAL_TAG = "leads/serial"

# Of those that may wait dagster.yaml lets two run at once, so that places are left for what may not.
BACKGROUND = {"leads/pace": "background"}

# Work that is long by nature, as a replay of a large day: dagster.yaml would end it as stuck after an hour.
LONG_BACKGROUND = {**BACKGROUND, "dagster/max_runtime": str(12 * 3_600)}

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
# So many failed runs in a row are no passing trouble: from then on one run an hour tries, a check is red, and a person
# who has mended it need not wait for that hour (``leads runs retry``). Never none: a fault may end by itself.
GIVEN_UP_AFTER = 10
PROBE_EVERY = timedelta(hours=1)
_SETBACKS_THAT_MATTER = GIVEN_UP_AFTER + 2
# Under this name a person's wish that a job be asked for at once stands in Dagster's own storage.
_ASKED_AGAIN = "leads/asked_again/{}"
LONGEST_HANDOVER = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Setbacks:
    """The latest runs of a job, one after the other, that failed or moved nothing; ``since``: the end of the last.

    ``failed``: how many of them, from the last one on, failed.
    """

    runs: int
    since: datetime | None
    failed: int = 0

    @property
    def is_given_up(self) -> bool:
        """Whether so many runs failed in a row that only a probe is made now and then."""
        return self.failed >= GIVEN_UP_AFTER

    @property
    def words(self) -> str:
        """Which runs they are."""
        return "the last run" if self.runs == 1 else f"the last {self.runs} runs"

    def pause_ends(self) -> datetime | None:
        """When it makes sense to ask again, or ``None`` for now."""
        if self.since is None or self.runs <= 1:
            return None
        if self.is_given_up:
            return self.since + PROBE_EVERY
        pause: timedelta = FIRST_PAUSE * 2 ** (self.runs - 2)
        return self.since + min(pause, LONGEST_PAUSE)


def note_progress(instance: dg.DagsterInstance, run_id: str) -> None:
    """Remember on the run that it moved something."""
    if instance.has_run(run_id):
        instance.add_run_tags(run_id, {PROGRESS_TAG: "yes"})


def has_unfinished_run(instance: dg.DagsterInstance, job_name: str, *, now: datetime) -> bool:
    """Whether a run of the job is queued, starting or under way."""
    return unfinished_run(instance, job_name, now=now) is not None


def unfinished_run(instance: dg.DagsterInstance, job_name: str, *, now: datetime) -> dg.RunRecord | None:
    """The run of the job that is queued, starting or under way.

    A run that was made and never handed over counts for ``LONGEST_HANDOVER`` only: nobody watches over it, and it would
    silence its sensor for good.
    """
    watched = [status for status in UNFINISHED if status is not dg.DagsterRunStatus.NOT_STARTED]
    made = dg.RunsFilter(
        job_name=job_name, statuses=[dg.DagsterRunStatus.NOT_STARTED], created_after=now - LONGEST_HANDOVER
    )
    for runs in (dg.RunsFilter(job_name=job_name, statuses=watched), made):
        if found := instance.get_run_records(runs, limit=1):
            return found[0]
    return None


def unless_under_way(job_name: str) -> Callable[[dg.ScheduleEvaluationContext], dg.RunRequest | dg.SkipReason]:
    """What a schedule of the job asks for: a run, unless one is under way. Behind one that hangs nothing piles up."""

    def ask(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        if has_unfinished_run(context.instance, job_name, now=SystemClock().now()):
            return dg.SkipReason("the last run is still under way; it takes what has come meanwhile")
        return dg.RunRequest()

    return ask


def reason_to_wait(instance: dg.DagsterInstance, job_name: str, *, now: datetime) -> str | None:
    """Why a sensor should not ask for a run of the job now, or ``None``."""
    if (record := unfinished_run(instance, job_name, now=now)) is not None:
        run = record.dagster_run
        return (
            f"a run is under way ({run.run_id[:8]}, {run.status.value.lower()}, asked for at "
            f"{record.create_timestamp:%H:%M:%S} UTC); it takes what has come meanwhile"
        )
    earlier = setbacks(instance, job_name)
    pause_ends = earlier.pause_ends()
    if pause_ends is None or now >= pause_ends:
        return None
    if earlier.is_given_up:
        return (
            f"given up: the last {earlier.failed} runs or more failed. One an hour tries, the next at "
            f"{pause_ends:%H:%M:%S} UTC; once it is mended, `leads runs retry {job_name} --actor YOU` asks at once"
        )
    return f"{earlier.words} came to nothing; asking again at {pause_ends:%H:%M:%S} UTC"


def setbacks(instance: dg.DagsterInstance, job_name: str) -> Setbacks:
    """How many of the job's latest runs came to nothing, one after the other, since a person last asked for it."""
    records = instance.get_run_records(
        dg.RunsFilter(job_name=job_name, created_after=asked_again_at(instance, job_name)), limit=_SETBACKS_THAT_MATTER
    )
    runs = failed = 0
    for record in records:
        status = record.dagster_run.status
        if status is dg.DagsterRunStatus.SUCCESS and PROGRESS_TAG in record.dagster_run.tags:
            break
        failed += status is dg.DagsterRunStatus.FAILURE and failed == runs
        runs += 1
    ended = records[0].end_time if runs else None
    return Setbacks(runs=runs, since=datetime.fromtimestamp(ended, tz=UTC) if ended else None, failed=failed)


def ask_again(instance: dg.DagsterInstance, job_name: str, *, now: datetime) -> None:
    """Forget the setbacks of a job: its sensor asks for it at its next tick, if anything waits."""
    instance.daemon_cursor_storage.set_cursor_values({_ASKED_AGAIN.format(job_name): now.isoformat()})


def asked_again_at(instance: dg.DagsterInstance, job_name: str) -> datetime | None:
    """When a person last wished that a job be asked for at once."""
    key = _ASKED_AGAIN.format(job_name)
    found = instance.daemon_cursor_storage.get_cursor_values({key}).get(key)
    return datetime.fromisoformat(found) if found else None


def asked_for(due: Iterable[str], earlier: Setbacks) -> dict[str, str]:
    """Why a run is asked for, as its tags: where something is due, and after what."""
    stages = list(due)
    reason = f"due: {', '.join(stages)}"
    if earlier.runs:
        reason += f"; {earlier.words} came to nothing"
    return {"leads/due": ",".join(stages), "leads/reason": reason}
