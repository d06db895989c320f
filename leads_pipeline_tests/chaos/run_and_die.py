"""Runs the Dagster job in this process and kills the process in one stage, between its claim and its settling.

    python run_and_die.py STAGE

The stages that move leads inside the database die with their writes made and their commit not yet sent. Delivery dies
when the CRM has answered and the verdicts are not yet committed.
"""

import os
import signal
import sys
from typing import Any

import dagster as dg
import httpx
import sqlalchemy as sa

from leads_pipeline import flows
from leads_pipeline.definitions import build_defs
from leads_pipeline.defs.local_run import run_once
from leads_pipeline.domain.stage import Stage

# A lead's row is written by its stage's own transaction; these are the tables that only that stage writes to.
WRITES = {
    Stage.RAW_LEADS: "raw_leads",
    Stage.VALIDATED_LEADS: "validated_leads",
    Stage.DEDUPED_LEADS: "deduped_leads",
    Stage.GOLDEN_CONTACTS: "golden_contacts",
}


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_before_the_commit_of(stage: Stage) -> None:
    """Kill this process when a transaction that added rows to the stage's table is about to commit."""

    def before_commit(connection: sa.Connection) -> None:
        if os.environ["LEADS_TEST_STAGE_NOW"] != stage:
            return
        mine = f"select exists (select from {WRITES[stage]} where xmin::text = pg_current_xact_id()::xid::text)"
        if connection.execute(sa.text(mine)).scalar():
            die()

    sa.event.listen(sa.Engine, "commit", before_commit)
    drain = flows.drain

    def watched(context: flows.FlowContext, now: Stage, **more: Any) -> flows.StageSummary:
        os.environ["LEADS_TEST_STAGE_NOW"] = now
        return drain(context, now, **more)

    flows.drain = watched  # type: ignore[assignment]


def die_after_the_answer() -> None:
    """Kill this process when the CRM's first answer to contacts has arrived; before it is asked which fields it has."""
    send = httpx.Client.send

    def answered(client: httpx.Client, request: httpx.Request, **more: Any) -> httpx.Response:
        response = send(client, request, **more)
        if request.method == "POST":
            response.read()
            die()
        return response

    httpx.Client.send = answered  # type: ignore[method-assign]


def main() -> None:
    stage = Stage(sys.argv[1])
    os.environ["LEADS_TEST_STAGE_NOW"] = ""
    if stage is Stage.CRM_SYNC_BATCHES:
        die_after_the_answer()
    else:
        die_before_the_commit_of(stage)
    with dg.DagsterInstance.get() as instance:
        run_once(build_defs().resolve_job_def("all_lanes"), instance)
    raise SystemExit("still alive")


if __name__ == "__main__":
    main()
