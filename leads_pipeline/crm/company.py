"""What the destinations of one delivery share, and how they are served side by side.

Keep out: what one of them does; see ``run``.
"""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from leads_pipeline.clock import Clock
from leads_pipeline.config import Settings
from leads_pipeline.crm.claiming import QueueGate
from leads_pipeline.storage.claim_owners import ClaimOwner
from leads_pipeline.storage.latency import Measure


class Company:
    """Who of one delivery is still at work: the other destinations go on looking until all are done.

    Beside the destinations, whoever waits for what is to come (``deliver``'s ``more_to_come``).
    """

    def __init__(self, count: int) -> None:
        self._left = count
        self._lock = threading.Lock()
        self._done = threading.Event()

    def leave(self) -> None:
        """One of them has nothing to do any more."""
        with self._lock:
            self._left -= 1
            if self._left <= 0:
                self._done.set()

    def all_have_left(self, *, within: float) -> bool:
        """Whether nobody is at work any more; waits for it for at most so many seconds."""
        return self._done.wait(within)


@dataclass(frozen=True, slots=True)
class Delivering:
    """What every destination of one delivery is given."""

    engine: sa.Engine
    settings: Settings
    clock: Clock
    runner_id: str
    owner: ClaimOwner
    company: Company
    stopping: threading.Event
    jitter: Callable[[], float]
    prepare: Callable[[str], None]
    passes: QueueGate
    measure: Measure


def run_all(calls: Sequence[Callable[[], Any]], *, stopping: threading.Event) -> None:
    """Run the calls at once. The first failure, or Ctrl-C, stops the others after the batch that they are at."""
    if not calls:
        return
    with ThreadPoolExecutor(max_workers=len(calls), thread_name_prefix="deliver") as pool:
        futures: list[Future[Any]] = [pool.submit(call) for call in calls]
        try:
            for future in futures:
                future.result()
        except BaseException:
            stopping.set()
            raise
