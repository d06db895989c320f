"""Golden contacts to the CRMs: plan what is due, then deliver it inside every account's limits.

A plan claims nothing, so that one which is never carried out costs nothing. Delivery claims one batch at a time, once
its grant is there; sends the contact as it is now, never as it was; and settles every record on its own verdict.
Killed anywhere, it leaves claims that run out: what was sent is sent again, by our own key, which changes nothing.
"""

import random
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial

import sqlalchemy as sa

from leads_pipeline.clock import Clock
from leads_pipeline.config import Settings
from leads_pipeline.crm.clients import build_clients
from leads_pipeline.crm.parking import Parked, open_doors, parked_now
from leads_pipeline.crm.port import CrmClient
from leads_pipeline.crm.run import DestinationRun, run_all
from leads_pipeline.domain.stage import Lane
from leads_pipeline.storage.outbox import DueRow, due_rows, read_rows


@dataclass(frozen=True, slots=True)
class SyncPlan:
    """The outbox rows to send, most urgent lane first, the tenants in turns."""

    outbox_ids: tuple[int, ...]
    by_destination: Mapping[str, int]
    parked: Mapping[str, Parked] = field(default_factory=dict)  # destinations that were left out


@dataclass(frozen=True, slots=True)
class SyncReport:
    """What one delivery did. Records are counted by what became of them; ``throttled`` counts answers.

    ``unchanged`` records were delivered without a request, because the destination held all that was wanted; the
    ``suppressed`` ones must not be sent.
    """

    delivered: int = 0
    unchanged: int = 0
    retried: int = 0
    dead: int = 0
    cancelled: int = 0
    suppressed: int = 0
    records: int = 0
    requests: int = 0
    throttled: int = 0
    waited_seconds: float = 0.0  # added up over the threads
    quota_remaining: Mapping[str, int] = field(default_factory=dict)  # "<destination> window" and "… daily"
    parked: Mapping[str, Parked] = field(default_factory=dict)  # by destination

    @property
    def parked_until(self) -> datetime | None:
        """When the first parked destination may be asked again."""
        return min((item.until for item in self.parked.values()), default=None)


def plan_sync(engine: sa.Engine, *, settings: Settings, lanes: Sequence[Lane], limit: int, now: datetime) -> SyncPlan:
    """The rows that are due at ``now``, at most ``limit``. Claims nothing; two plans may name the same row.

    A destination that could not be asked within one run is left out, and named as parked.
    """
    parked = parked_now(engine, settings=settings, now=now)
    doors = open_doors(settings, parked=parked)
    with engine.connect() as connection:
        rows = due_rows(connection, doors=doors, lanes=lanes, limit=limit, now=now)
    return SyncPlan(
        outbox_ids=tuple(row.outbox_id for row in rows),
        by_destination=dict(Counter(row.destination for row in rows)),
        parked=parked,
    )


def deliver(
    engine: sa.Engine,
    plan: SyncPlan,
    *,
    settings: Settings,
    clock: Clock,
    runner_id: str,
    clients: Mapping[str, CrmClient] | None = None,
    jitter: Callable[[], float] = random.random,
) -> SyncReport:
    """Carry out ``plan``: every destination by itself, archives before upserts, ``limits.in_flight`` requests at once.

    Takes no new batch after ``pipeline.run_seconds``, nor for a destination that is parked: its daily quota is spent,
    it asks for a pause that is too long to wait for, or it refuses our credentials. What is not sent stays due.

    Raises:
        ConfigError: a token's environment variable is not set.
    """
    if not plan.outbox_ids:
        return SyncReport(parked=plan.parked)
    with engine.connect() as connection:
        rows = read_rows(connection, plan.outbox_ids)
    by_destination: dict[str, list[DueRow]] = defaultdict(list)
    for row in rows:
        by_destination[row.destination].append(row)
    stopping = threading.Event()
    chosen = build_clients(settings) if clients is None else clients
    try:
        runs = [
            DestinationRun(
                engine,
                name,
                settings=settings,
                client=chosen[name],
                clock=clock,
                runner_id=runner_id,
                stopping=stopping,
                jitter=jitter,
            )
            for name in by_destination
            if name in settings.destinations
        ]
        run_all([partial(run.deliver, by_destination[run.name]) for run in runs], stopping=stopping)
    finally:
        if clients is None:
            for client in chosen.values():
                client.close()
    return _report(runs, parked=plan.parked)


def _report(runs: Sequence[DestinationRun], *, parked: Mapping[str, Parked]) -> SyncReport:
    counts: Counter[str] = Counter()
    quota: dict[str, int] = {}
    for run in runs:
        counts.update(run.tally.counts)
        for reading in run.tally.readings.values():
            quota[f"{run.name} {'daily' if reading.seconds is None else 'window'}"] = reading.remaining
    return SyncReport(
        delivered=counts["delivered"],
        unchanged=counts["unchanged"],
        retried=counts["retried"],
        dead=counts["dead"],
        cancelled=counts["cancelled"],
        suppressed=counts["suppressed"],
        records=counts["records"],
        requests=counts["requests"],
        throttled=counts["throttled"],
        waited_seconds=sum(run.gate.waited_seconds for run in runs),
        quota_remaining=quota,
        parked={**parked, **{run.name: run.parked for run in runs if run.parked is not None}},
    )
