"""Stuck work is swept: runs that nobody runs any more, claims of processes that are gone.

A run whose process died together with the one that watched over it stays "started" for good in Dagster's books, and
silences its sensor: at most one run of a job is in flight. Its leads are where they were, so it is called failed and
the sensor asks again; should it live after all, nothing is taken twice (rows are claimed with ``skip locked``). Each
sweep is bounded and says what it did. Keep out: what the database's rows do by themselves when a lease runs out.
"""

import json
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import dagster as dg

from leads_pipeline.defs.runs import LONGEST_HANDOVER
from leads_pipeline.defs.shield import shielded
from leads_pipeline.flows import FlowContext
from leads_pipeline.storage.claim_owners import release_dead_claims
from leads_pipeline.storage.half_done_imports import half_done_imports
from leads_pipeline.telemetry import get_logger

log = get_logger(__name__)

SWEPT_TAG = "leads/swept"
# Where Dagster's default launcher writes down which code server a run is a child of.
_CODE_SERVER = ".dagster/grpc_info"
RUNS_AT_ONCE = 20
LONGEST_START = timedelta(minutes=5)
# A stage of a micro-batch takes chunks for 20 seconds; its last chunk and its checks may take minutes under load.
LONGEST_SILENCE_HOT = timedelta(minutes=10)
# Beyond pipeline.run_seconds, in which the other jobs of this location take chunks at one asset.
LONGEST_SILENCE = timedelta(minutes=15)
# Of a run whose code server is gone, as after a restart of all: its process was that server's child.
LONGEST_SILENCE_ORPHANED = timedelta(seconds=45)
IMPORT_SILENCE = timedelta(hours=1)

_BY_STATUS: Mapping[dg.DagsterRunStatus, timedelta] = {
    dg.DagsterRunStatus.NOT_STARTED: LONGEST_HANDOVER,
    dg.DagsterRunStatus.STARTING: LONGEST_START,
    dg.DagsterRunStatus.CANCELING: LONGEST_START,
}
# Jobs that take chunks for a bounded time at a stage, and at how many stages before anything is heard of them: a replay
# tells of each portion, which three stages work off. Training, rebuilding and dbt may be silent for long: they are left
# to run_monitoring.max_runtime_seconds.
_DRAINING_JOBS: Mapping[str, int] = {"delivery": 1, "verification": 1, "batch": 1, "all_lanes": 1, "replay": 3}


@dataclass(frozen=True, slots=True)
class Swept:
    """What one sweep found and did. ``runs``: the ids of those that it ended, by why."""

    runs: dict[str, str]
    claims: int
    half_done_imports: int

    def words(self) -> str:
        """One line for the tick."""
        done = [f"ended run {run_id[:8]}: {why}" for run_id, why in self.runs.items()]
        if self.claims:
            done.append(f"{self.claims} claims of processes that are gone run out at once")
        if self.half_done_imports:
            done.append(f"{self.half_done_imports} imports stopped half-way: import the file again, it is resumed")
        return "; ".join(done) or "nothing is stuck"


def sweep(instance: dg.DagsterInstance, flow: FlowContext) -> Swept:
    """End runs that show no sign of life, and let the claims of dead processes run out."""
    now = flow.clock.now()
    with flow.engine.begin() as connection:
        claims = release_dead_claims(connection, now=now)
        imports = half_done_imports(connection, moved_before=now - IMPORT_SILENCE)
    swept = Swept(_end_silent_runs(instance, flow, now=now), claims, len(imports))
    if swept.runs or swept.claims:
        log.warning("stuck_work_swept", runs=sorted(swept.runs), claims=swept.claims)
    return swept


def _end_silent_runs(instance: dg.DagsterInstance, flow: FlowContext, *, now: datetime) -> dict[str, str]:
    statuses = [*_BY_STATUS, dg.DagsterRunStatus.STARTED]
    ended: dict[str, str] = {}
    for record in instance.get_run_records(dg.RunsFilter(statuses=statuses), ascending=True):
        run = record.dagster_run
        longest = _longest_silence(run, flow)
        silent = now - _last_sign(instance, record)
        orphaned = silent > LONGEST_SILENCE_ORPHANED and is_orphaned(run.tags)
        if not orphaned and (longest is None or silent <= longest):
            continue
        told = f"for {silent.total_seconds() / 60:.0f} minutes" if not orphaned else "since its code server is gone"
        why = f"{run.status.value.lower()} and silent {told}"
        instance.add_run_tags(run.run_id, {SWEPT_TAG: why})
        if run.status is dg.DagsterRunStatus.CANCELING:
            instance.report_run_canceled(run, message=f"Swept: {why}.")
        else:
            instance.report_run_failed(run, message=f"Swept: {why}. What it held is pending again; {_what_then(run)}.")
        ended[run.run_id] = why
        if len(ended) == RUNS_AT_ONCE:
            break
    return ended


def _what_then(run: dg.DagsterRun) -> str:
    if run.job_name == "replay":  # nobody asks for it but people
        return "run its day again, and it goes on where it stopped"
    return "its sensor or schedule asks for a further run"


def _longest_silence(run: dg.DagsterRun, flow: FlowContext) -> timedelta | None:
    if run.status in _BY_STATUS:
        return _BY_STATUS[run.status]
    if run.job_name == "near_real_time":
        return LONGEST_SILENCE_HOT
    if (drains := _DRAINING_JOBS.get(run.job_name)) is not None:
        return LONGEST_SILENCE + drains * timedelta(seconds=flow.settings.pipeline.run_seconds)
    return None


def is_orphaned(tags: Mapping[str, str]) -> bool:
    """Whether the code server that started a run is gone from this machine: nobody listens where it did.

    One that listens by TCP may be another machine's, or another server may have its port: nothing follows from those.
    """
    try:
        at = json.loads(tags.get(_CODE_SERVER, "{}")).get("socket")
    except (ValueError, AttributeError):
        return False
    if not at:
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(at)
        except (ConnectionRefusedError, FileNotFoundError):
            return True
        except OSError:  # it is busy, or not ours to ask
            return False
    return False


def _last_sign(instance: dg.DagsterInstance, record: dg.RunRecord) -> datetime:
    """When the run last wrote an event, or its row was last changed."""
    signs = [record.create_timestamp, record.update_timestamp]
    if newest := instance.get_records_for_run(record.dagster_run.run_id, limit=1, ascending=False).records:
        signs.append(datetime.fromtimestamp(newest[0].timestamp, tz=UTC))
    return max(sign.replace(tzinfo=UTC) if sign.tzinfo is None else sign for sign in signs)


@dg.sensor(
    name="stuck_work",
    default_status=dg.DefaultSensorStatus.RUNNING,
    minimum_interval_seconds=60,
    description="Ends runs that show no sign of life and lets claims of dead processes run out. Asks for no run.",
)
def stuck_work(context: dg.SensorEvaluationContext, flow: dg.ResourceParam[FlowContext]) -> dg.SkipReason:
    """What it did stands in the tick."""
    with shielded("stuck_work sweeps"):
        return dg.SkipReason(sweep(context.instance, flow).words())
