"""Imports a file and kills itself with -9 in the middle of the commit of one group.

    python import_and_die.py CONFIG FILE GROUP MOMENT

MOMENT is ``before`` (the rows are written, the transaction is open) or ``after`` (it is committed, and this process has
not been told).
"""

import os
import signal
import sys
from pathlib import Path

import sqlalchemy as sa

from leads_pipeline.clock import SystemClock
from leads_pipeline.config import load_settings
from leads_pipeline.steps import import_file as step
from leads_pipeline.storage.open import open_database


def main() -> None:
    config, file, group, moment = sys.argv[1:]
    step.COMMIT_ROWS = 100
    commits = 0

    def die_in_time(connection: sa.Connection) -> None:
        nonlocal commits
        mine = "select exists (select from buffer where xmin::text = pg_current_xact_id()::xid::text)"
        if not connection.execute(sa.text(mine)).scalar():
            return
        commits += 1
        if commits == int(group):
            if moment == "after":
                connection.connection.driver_connection.commit()  # type: ignore[union-attr]
            os.kill(os.getpid(), signal.SIGKILL)

    sa.event.listen(sa.Engine, "commit", die_in_time)
    settings = load_settings(config)
    step.import_file(
        open_database(settings), Path(file), settings=settings, tenant="acme", source="import", clock=SystemClock()
    )
    raise SystemExit("still alive")


if __name__ == "__main__":
    main()
