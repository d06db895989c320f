"""One of several processes that share an account: takes grants, and notes how many requests were under way at once."""

import os
import sys
import threading

import sqlalchemy as sa

from leads_pipeline.clock import SystemClock
from leads_pipeline.config import RequestLimits
from leads_pipeline.outbound.gate import Gate
from leads_pipeline.outbound.limiter import Limiter
from leads_pipeline.storage.database import engine_for

ENTER = sa.text("insert into under_way values (:process, :request)")
COUNT = sa.text("select count(*) from under_way")
LEAVE = sa.text("delete from under_way where process = :process and request = :request")


def main(processes: int, requests: int, shared: int) -> None:
    """Once all processes are there, send so many requests; write how many were under way at once, at most."""
    engine, clock = engine_for(os.environ["LIMITER_DATABASE_URL"], pool_size=2), SystemClock()
    limiter = Limiter(engine, account="shared", limits=RequestLimits(windows=(), daily=None, shared_in_flight=shared))
    gate = Gate(limiter, clock=clock, deadline=clock.monotonic() + 60, stopping=threading.Event())
    with engine.begin() as connection:
        connection.execute(sa.text("insert into ready values (:process)"), {"process": os.getpid()})
    ready = 0
    while ready < processes:
        with engine.begin() as connection:
            ready = connection.execute(sa.text("select count(*) from ready")).scalar_one()
    most = 0
    for request in range(requests):
        entry = gate.enter()
        values = {"process": os.getpid(), "request": request}
        with engine.begin() as connection:
            connection.execute(ENTER, values)
        with engine.begin() as connection:
            most = max(most, connection.execute(COUNT).scalar_one())
        with engine.begin() as connection:
            connection.execute(LEAVE, values)
        gate.answered(entry)
    sys.stdout.write(str(most))


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:4]))
