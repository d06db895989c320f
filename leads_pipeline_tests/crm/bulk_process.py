"""A process that delivers by a bulk job, and that is killed with -9 on its way.

python -m leads_pipeline_tests.crm.bulk_process DATABASE_URL BASE_URL POINT NUMBER

It dies at the NUMBERth time that it comes to POINT.
"""

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from leads_pipeline.clock import FrozenClock
from leads_pipeline.crm import jobs
from leads_pipeline.crm.salesforce.client import Salesforce
from leads_pipeline.storage.database import engine_for
from leads_pipeline.telemetry import configure_logging
from leads_pipeline_tests.conftest import NOW
from leads_pipeline_tests.crm.delivering import sync
from leads_pipeline_tests.crm.salesforce_org import settings_for

# What has just happened.
POINTS: dict[str, tuple[Any, str]] = {
    "written down": (jobs.Jobs, "begin"),  # and the claim is not committed
    "asked": (Salesforce, "send"),  # and the answer is unread
    "noted": (jobs, "note_step"),  # and not committed
    "settled": (jobs, "settle_batch"),  # and not committed
    "ended": (jobs, "end_job"),  # and not committed
}
# More than the contacts of the test are due: they go as one job.
THRESHOLD = 20


def dies_at(point: str, number: int) -> None:
    """Kill this process when it comes there for the ``number``th time."""
    owner, name = POINTS[point]
    plain: Callable[..., Any] = getattr(owner, name)
    left = [number]

    def watched(*arguments: Any, **options: Any) -> Any:
        answer = plain(*arguments, **options)
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return answer

    setattr(owner, name, watched)


def main(database_url: str, base_url: str, point: str, number: str) -> None:
    configure_logging(as_json=True)
    dies_at(point, int(number))
    sync(engine_for(database_url), settings_for(base_url, above=THRESHOLD), FrozenClock(NOW))


if __name__ == "__main__":
    main(*sys.argv[1:])
