"""Resolves one chunk of a tenant again and again, each time in a process of its own that dies one statement later.

    python dedupe_and_die.py DATABASE_URL LEADS_YAML TENANT NOW

Prints ``killed before N: STATEMENT`` for each death and waits for a line on its input before it goes on; ``done`` when
a process lived to the end. The last death is before the commit.
"""

import os
import signal
import sys
from collections.abc import Callable
from datetime import datetime
from itertools import count
from typing import Any

import sqlalchemy as sa

from leads_pipeline.config import load_settings
from leads_pipeline.domain.ids import BatchId, uuid7
from leads_pipeline.domain.stage import ALL_LANES, Chunk
from leads_pipeline.steps.deduped_leads import dedupe_leads
from leads_pipeline.storage import copying, match_index
from leads_pipeline.storage.database import copy_text, engine_for
from leads_pipeline_tests.steps.plain_scorer import PlainScorer


def die_before(number: int, engine: sa.Engine, told: int) -> None:
    """Kill this process before its ``number``-th statement; 1 is the first. The commit counts as one."""
    seen = count(1)

    def another(statement: str) -> None:
        if next(seen) == number:
            os.write(told, " ".join(statement.split())[:60].encode())
            os.kill(os.getpid(), signal.SIGKILL)

    @sa.event.listens_for(engine, "before_cursor_execute")
    def _statement(_connection: Any, _cursor: Any, statement: str, *_more: Any) -> None:
        another(statement)

    @sa.event.listens_for(engine, "commit")
    def _commit(_connection: sa.Connection) -> None:
        another("commit")

    def copied(connection: sa.Connection, statement: str, text: bytes) -> None:
        another(statement)
        copy_text(connection, statement, text)

    copying.copy_text = copied  # type: ignore[attr-defined]
    match_index.copy_text = copied  # type: ignore[attr-defined]


def in_a_process(work: Callable[[int], None]) -> tuple[int, str]:
    """How a process that does ``work`` ended, and what it wrote to the pipe that it was given."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        work(writing)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        told = pipe.read()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), told


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> None:
    url, yaml, tenant, now = sys.argv[1], sys.argv[2], sys.argv[3], datetime.fromisoformat(sys.argv[4])
    settings = load_settings(yaml)

    for number in count(1):

        def resolve(told: int, number: int = number) -> None:
            engine = engine_for(url, pool_size=1)
            with engine.connect():  # connecting has statements of its own
                pass
            die_before(number, engine, told)
            chunk = Chunk(tenant, ALL_LANES, 100, BatchId(uuid7(now)), "doomed", now)
            dedupe_leads(engine, chunk, settings=settings, scorer=PlainScorer())

        ended, statement = in_a_process(resolve)
        if ended == 0:
            say("done")
            return
        if ended != -signal.SIGKILL:
            raise SystemExit(f"the process for statement {number} ended with {ended}")
        say(f"killed before {number}: {statement}")
        sys.stdin.readline()


if __name__ == "__main__":
    main()
