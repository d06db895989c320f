"""A process that takes every grant it can get and prints when it could have sent.

python -m leads_pipeline_tests.crm.hammer DATABASE_URL LIMITS_JSON FROM UNTIL (Unix seconds)
"""

import json
import sys
import threading
import time
from collections.abc import Sequence

from leads_pipeline.clock import SystemClock
from leads_pipeline.config import RequestLimits
from leads_pipeline.crm.gate import Gate
from leads_pipeline.crm.limiter import Limiter
from leads_pipeline.crm.port import CrmResponse
from leads_pipeline.errors import CrmParked
from leads_pipeline.storage.database import engine_for


def most_in_any(instants: Sequence[float], seconds: float) -> int:
    """The largest number of ``instants`` (ascending) in any ``seconds`` on end."""
    most = first = 0
    for last, instant in enumerate(instants):
        while instant - instants[first] >= seconds:
            first += 1
        most = max(most, last - first + 1)
    return most


def ideal_grants(windows: Sequence[tuple[int, float]], *, seconds: float) -> int:
    """What a perfect limiter grants to an endless queue within ``seconds``: each at the first instant that is free."""
    granted: list[float] = []
    while True:
        free = max(
            (granted[-requests] + length for requests, length in windows if len(granted) >= requests), default=0.0
        )
        instant = max(free, granted[-1] if granted else 0.0)
        if instant >= seconds:
            return len(granted)
        granted.append(instant)


def main(database_url: str, limits: str, starts_at: float, ends_at: float) -> list[float]:
    """The Unix seconds at which a request could have left."""
    clock = SystemClock()
    engine = engine_for(database_url, pool_size=1)
    limiter = Limiter(engine, account="hammered", limits=RequestLimits.model_validate_json(limits))
    clock.sleep(max(0.0, starts_at - time.time()))
    deadline = clock.monotonic() + ends_at - time.time()
    gate = Gate(limiter, clock=clock, deadline=deadline, stopping=threading.Event())
    taken: list[float] = []
    try:
        while time.time() < ends_at:
            entry = gate.enter()
            taken.append(time.time())
            gate.answered(entry, CrmResponse(status=200, body=None))
    except CrmParked:
        pass
    return [instant for instant in taken if instant < ends_at]


if __name__ == "__main__":
    url, limits_json, begin, end = sys.argv[1:]
    print(json.dumps(main(url, limits_json, float(begin), float(end))))  # noqa: T201
