"""Golden contacts to the CRMs: plan what is due, then deliver it inside every account's limits.

A plan claims nothing and names no contact: it says which destinations and lanes have something. Delivery claims one
batch at a time, when its request is near; sends the contact as it is now, never as it was; and settles every record on
its own verdict. What comes while it runs takes its turn. Killed anywhere, it leaves claims that run out seconds later:
what was sent is sent again, by our own key, which changes nothing.
"""

import random
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial

import sqlalchemy as sa

from leads_pipeline.clock import Clock
from leads_pipeline.config import Settings
from leads_pipeline.crm.claiming import QueueGate, every_queue
from leads_pipeline.crm.clients import build_each
from leads_pipeline.crm.company import Company, Delivering, run_all
from leads_pipeline.crm.health import Health
from leads_pipeline.crm.parking import SET_UP, Forecasts, Parked, Parking, open_doors, parked_now
from leads_pipeline.crm.port import CrmClient
from leads_pipeline.crm.quality_gate import anything_goes_on, split_doors
from leads_pipeline.crm.report import DestinationReport
from leads_pipeline.crm.run import DestinationRun
from leads_pipeline.domain.quota_budget import BudgetPlan
from leads_pipeline.domain.stage import Lane
from leads_pipeline.errors import ConfigError
from leads_pipeline.storage.bulk_jobs import jobs_due
from leads_pipeline.storage.claim_owners import claim_owner, release_dead_claims
from leads_pipeline.storage.latency import Measure, measure_latency
from leads_pipeline.storage.outbox_queues import count_due
from leads_pipeline.telemetry import get_logger

log = get_logger(__name__)

# How often it is asked whether more is to come.
_COMING_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class SyncPlan:
    """The lanes to serve, and how many contacts are due at each destination that may be asked for one of them.

    ``by_destination`` counts no further than the plan's limit; a bulk job that is to be asked about counts as one.
    ``follow``: whoever carries it out stays while urgent leads are on their way, so that the first of them need not
    wait for a run to start.
    """

    lanes: tuple[Lane, ...]
    by_destination: Mapping[str, int]
    parked: Parking = field(default_factory=Parking)
    follow: bool = False


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
    requests_by_lane: Mapping[str, int] = field(default_factory=dict)
    destinations: Mapping[str, DestinationReport] = field(default_factory=dict)  # those that were asked, or had records
    throttled: int = 0
    waited_seconds: float = 0.0  # added up over the threads
    quota_remaining: Mapping[str, int] = field(default_factory=dict)  # "<destination> window" and "… daily"
    budgets: Mapping[str, BudgetPlan] = field(default_factory=dict)  # by destination: what is left, for whom, till when
    parked: Mapping[str, Parked] = field(default_factory=dict)  # by destination, or "<destination> <lane>"

    @property
    def spared(self) -> int:
        """Records that were settled without a request."""
        return self.unchanged + self.suppressed + self.cancelled

    @property
    def calls_per_record(self) -> float:
        """Requests for each record that was sent."""
        return self.requests / self.records if self.records else 0.0

    @property
    def parked_until(self) -> datetime | None:
        """When the first parked destination may be asked again."""
        return min((item.until for item in self.parked.values()), default=None)


def plan_sync(
    engine: sa.Engine,
    *,
    settings: Settings,
    lanes: Sequence[Lane],
    limit: int,
    now: datetime,
    forecasts: Forecasts | None = None,
) -> SyncPlan:
    """What is due at ``now``, counted up to ``limit`` per destination. Claims nothing.

    What could not be asked for within one run is left out, and named as parked; ``forecasts``: see ``parked_now``. At a
    closed quality gate only what it does not hold is due.
    """
    parked = parked_now(engine, settings=settings, now=now, forecasts=forecasts)
    doors = open_doors(settings, parked=parked, lanes=lanes)
    found: dict[str, int] = {}
    with engine.begin() as connection:
        release_dead_claims(connection, now=now)
        split = split_doors(connection, doors, settings=settings, now=now)
        for name in settings.destinations:
            for served, tenants in _by_tenants(split.opened, name).items():
                if (room := limit - found.get(name, 0)) > 0:
                    found[name] = found.get(name, 0) + count_due(
                        connection, destination=name, lanes=served, tenants=tenants, most=room, now=now
                    )
        for name in anything_goes_on(connection, split.held, settings=settings, now=now):
            found[name] = found.get(name, 0) + 1
        for name, jobs in jobs_due(connection, now=now).items():
            if name in settings.destinations and name not in parked.destinations:
                found[name] = found.get(name, 0) + jobs
    return SyncPlan(tuple(lanes), {name: count for name, count in found.items() if count}, parked)


def _by_tenants(doors: Sequence[tuple[str, str, Lane]], destination: str) -> dict[tuple[Lane, ...], set[str]]:
    """The tenants with the same lanes open at a destination, by these lanes: all of them, unless a gate is closed."""
    lanes: dict[str, list[Lane]] = {}
    for tenant, name, lane in doors:
        if name == destination:
            lanes.setdefault(tenant, []).append(lane)
    found: dict[tuple[Lane, ...], set[str]] = {}
    for tenant, served in lanes.items():
        found.setdefault(tuple(served), set()).add(tenant)
    return found


def deliver(
    engine: sa.Engine,
    plan: SyncPlan,
    *,
    settings: Settings,
    clock: Clock,
    runner_id: str,
    clients: Mapping[str, CrmClient] | None = None,
    jitter: Callable[[], float] = random.random,
    prepare: Callable[[str], None] = lambda _destination: None,
    more_to_come: Callable[[], bool] | None = None,
    passes: QueueGate = every_queue,
    measure: Measure = measure_latency,
) -> SyncReport:
    """Carry out ``plan``: every destination by itself, ``limits.in_flight`` requests at once, until nothing is due.

    While one of them is still at work, or ``more_to_come`` says that something is on its way, the others, also those of
    which the plan had nothing, send what becomes due. ``prepare`` is called of each destination that has something due,
    before its first batch; while it lasts the others go on. ``passes`` says of a tenant's lane whether its contacts may
    be sent now; what it holds stays due, and removals are never held.

    Takes no new batch after ``pipeline.run_seconds``, nor for a destination that is parked: its daily quota is spent,
    it asks for a pause that is too long to wait for, it fails, or it refuses our credentials. A lane for which the rest
    of a quota is not meant is left out alone, and so is a destination whose token is missing, or at which this product
    itself fails. What is not sent stays due.

    Raises:
        ConfigError: no destination can be asked, for want of a token.
    """
    parked = dict(plan.parked.destinations)
    due = plan.by_destination.keys() if more_to_come is None else settings.destinations.keys() - parked.keys()
    if not due & settings.destinations.keys():
        return SyncReport(parked=plan.parked.named())
    chosen = dict(clients or {})
    if clients is None:
        chosen, unset = _clients(engine, settings, clock=clock)
        parked |= unset
    served = [name for name in settings.destinations if name in chosen]
    try:
        with claim_owner(engine) as owner:
            company = Company(len(served) + (more_to_come is not None))
            work = Delivering(
                engine, settings, clock, runner_id, owner, company, threading.Event(), jitter, prepare, passes, measure
            )
            runs = [
                DestinationRun(name, work, client=chosen[name], lanes=plan.lanes, parked=parked.get(name))
                for name in served
            ]
            calls = [run.deliver for run in runs]
            if more_to_come is not None:
                calls.append(partial(_wait_for_more, more_to_come, work))
            run_all(calls, stopping=work.stopping)
    finally:
        if clients is None:
            for client in chosen.values():
                client.close()
    return _report(runs, parked={**plan.parked.named(), **parked})


def _clients(engine: sa.Engine, settings: Settings, *, clock: Clock) -> tuple[dict[str, CrmClient], dict[str, Parked]]:
    """The clients that can be built; the other destinations are left alone for a minute."""
    clients: dict[str, CrmClient] = {}
    unset: dict[str, ConfigError] = {}
    for name, built in build_each(settings, engine).items():
        if isinstance(built, ConfigError):
            unset[name] = built
        else:
            clients[name] = built
    if unset and not clients:
        raise next(iter(unset.values()))
    parked: dict[str, Parked] = {}
    for name, error in unset.items():
        log.error("crm_destination_not_set_up", destination=name, why=str(error))
        parked[name] = Health(engine, name, policy=settings.delivery.breaker, clock=clock).give_up(SET_UP)
    return clients, parked


def _wait_for_more(more_to_come: Callable[[], bool], work: Delivering) -> None:
    """Keep the company together while something is on its way, for ``pipeline.run_seconds`` at most."""
    deadline = work.clock.monotonic() + work.settings.pipeline.run_seconds
    try:
        while not work.stopping.is_set() and work.clock.monotonic() < deadline and more_to_come():
            work.clock.sleep(_COMING_SECONDS)
    finally:
        work.company.leave()


def _report(runs: Sequence[DestinationRun], *, parked: Mapping[str, Parked]) -> SyncReport:
    counts: Counter[str] = Counter()
    lanes: Counter[str] = Counter()
    quota: dict[str, int] = {}
    for run in runs:
        counts.update(run.tally.counts)
        lanes.update(run.tally.lanes)
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
        requests_by_lane=dict(lanes),
        destinations={run.name: run.report() for run in runs if run.tally.counts},
        throttled=counts["throttled"],
        waited_seconds=sum(run.gate.waited_seconds for run in runs),
        quota_remaining=quota,
        budgets={run.name: run.budget() for run in runs},
        parked={
            **parked,
            **{f"{run.name} {lane}": item for run in runs for lane, item in run.parked_lanes.items()},
            **{run.name: run.parked for run in runs if run.parked is not None},
        },
    )
