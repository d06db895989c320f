"""Delivers in many short lives: two processes at a time, each killed with -9 between two steps of one of its batches.

    python deliver_and_die.py DATABASE_URL BASE_URL SEED

A life is a request's time-out after the last one, by a clock of its own; some contacts change while they are on their
way. Writes a line for each death: where, and which contacts' rows it held. Ends with two lives that nobody ends.
"""

import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from random import Random
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from leads_pipeline.clock import FrozenClock
from leads_pipeline.config import Settings
from leads_pipeline.crm import run, settling
from leads_pipeline.crm.batch import ClaimedBatch
from leads_pipeline.crm.courier import BatchCourier
from leads_pipeline.crm.health import Health
from leads_pipeline.crm.hubspot.client import HubSpot
from leads_pipeline.crm.port import CrmRequest, CrmResponse
from leads_pipeline.domain.stage import ALL_LANES, Lane
from leads_pipeline.steps.crm_sync_batches import deliver, plan_sync
from leads_pipeline.storage import outbox_demand
from leads_pipeline.storage.database import engine_for
from leads_pipeline.storage.outbox_demand import Demand
from leads_pipeline.telemetry import configure_logging
from leads_pipeline_tests.conftest import NOW
from leads_pipeline_tests.crm.delivering import settings_for

TIME_OUT = timedelta(minutes=1)

# What is about to happen, or has just happened, to the batch when its process dies.
POINTS: dict[str, tuple[Any, str, bool]] = {
    "claimed, not committed": (run, "claim_batch", True),
    "claimed": (BatchCourier, "__call__", False),
    "granted": (BatchCourier, "_write_down", False),
    "written down": (HubSpot, "send", False),
    "sent": (HubSpot, "send", True),
    "answer written down": (BatchCourier, "__call__", True),
    "settled, not committed": (settling, "settle_batch", True),
    "settled": (Health, "after", False),
}
# The CRM has what it was sent, and the outbox does not know.
SENT = ("sent", "answer written down", "settled, not committed")
# A process dies within so many batches.
MOST_BATCHES = 24
_WAITING = sa.text("select exists (select from outbox where state = 'waiting')")
# So many of a batch, and of the first contacts, change while every so many batches are under way.
CHANGES = 3
OFTEN = 2000
CHANGE_EVERY = 4
WORKERS = 2
LIFE = "a life"  # what its sessions are called


def dies_at(point: str, batch: int) -> None:
    """Kill this process when its ``batch``-th batch is there."""
    owner, name, afterwards = POINTS[point]
    plain: Callable[..., Any] = getattr(owner, name)
    left = [batch]

    def watched(*arguments: Any, **options: Any) -> Any:
        answer = plain(*arguments, **options) if afterwards else None
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return answer if afterwards else plain(*arguments, **options)

    setattr(owner, name, watched)


def live(database_url: str, settings: Settings, *, at: datetime, name: str, doom: tuple[str, int] | None) -> None:
    """One life; it may end in the middle."""
    engine, clock = engine_for(database_url, application_name=LIFE), FrozenClock(at)
    if doom is not None:
        changes_come(engine, Random(name), at=at)
        dies_at(*doom)
    plan = plan_sync(engine, settings=settings, lanes=ALL_LANES, limit=1000, now=at)
    deliver(engine, plan, settings=settings, clock=clock, runner_id=name)


def born(*arguments: Any, **options: Any) -> int:
    """Start a life in a process of its own; its id."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            live(*arguments, **options)
            status = 0
        finally:
            os._exit(status)
    return child


@contextmanager
def connected(database_url: str) -> Iterator[sa.Connection]:
    """A connection that no child inherits."""
    engine = engine_for(database_url)
    try:
        with engine.begin() as connection:
            yield connection
    finally:
        engine.dispose()


def until_noticed(database_url: str) -> None:
    """Wait until PostgreSQL knows that the lives are over: it gives their locks back a moment later."""
    with connected(database_url) as connection:
        statement = sa.text("select count(*) from pg_stat_activity where application_name = :life")
        while connection.execute(statement, {"life": LIFE}).scalar_one():
            connection.execute(sa.text("select pg_stat_clear_snapshot()"))


def held_by(connection: sa.Connection, name: str) -> list[str]:
    """The contacts whose rows a life still holds."""
    rows = connection.execute(
        sa.text("select contact_id from outbox where claimed_by like :token"), {"token": f"{name}/%"}
    )
    return [str(contact_id) for contact_id in rows.scalars()]


def check_claims(connection: sa.Connection, *, life: int, at: datetime) -> None:
    """What earlier lives held is free once their requests can be under way no more: nobody waits for a lease."""
    held = connection.execute(
        sa.text("select count(*) from outbox where claimed_until > :free and claimed_by not like :mine"),
        {"free": at + TIME_OUT, "mine": f"life-{life}-%"},
    ).scalar_one()
    if held:
        raise SystemExit(f"{held} rows wait for the lease of a dead process")


def changes_come(engine: sa.Engine, random: Random, *, at: datetime) -> None:
    """While every few batches are on their way some of their contacts change, and some others."""
    claim, send, under_way, sent = run.claim_batch, HubSpot.send, [], [0]

    def claimed(*arguments: Any, **options: Any) -> ClaimedBatch:
        batch = claim(*arguments, **options)
        under_way[:] = [row.contact_id for row in batch.rows.values()]
        return batch

    def sending(client: HubSpot, request: CrmRequest) -> CrmResponse:
        sent[0] += 1
        if sent[0] % CHANGE_EVERY == 0:
            anybody = [UUID(int=random.randint(1, OFTEN)) for _ in range(CHANGES)]
            with engine.begin() as connection:
                change(connection, [*random.sample(under_way, min(CHANGES, len(under_way))), *anybody], at=at)
        return send(client, request)

    run.claim_batch = claimed
    HubSpot.send = sending


def change(connection: sa.Connection, contacts: list[UUID], *, at: datetime) -> None:
    """A new version of each."""
    outbox_demand.lock_rows(connection, tenant="acme", contact_ids=contacts)
    rows = connection.execute(
        sa.text(
            "update golden_contacts set version = version + 1, first_name = 'version ' || version + 1 "
            "where contact_id = any(:ids) returning contact_id, version"
        ),
        {"ids": contacts},
    )
    wanted = [Demand(row.contact_id, "hubspot", row.version, Lane.REAL_TIME) for row in rows]
    outbox_demand.demand(connection, wanted, tenant="acme", now=at)


def main(database_url: str, base_url: str, seed: str) -> None:
    configure_logging(as_json=True, level=logging.ERROR)
    random = Random(int(seed))
    numbers = {"in_flight": 1, "requests": 1_000_000, "timeout_seconds": TIME_OUT.total_seconds(), "daily": 1_000_000}
    settings = settings_for(base_url, **numbers)
    points = list(POINTS)
    work, at, life, left = True, NOW, 0, 2  # lives that nobody ends: one finds what is held, the next sends it
    while left:
        # Each point comes as often as the others; the batch is left to chance.
        dooms = [(points[(life * WORKERS + worker) % len(points)], random.randint(1, MOST_BATCHES))
                 for worker in range(WORKERS)]  # fmt: skip
        names = [f"life-{life}-{worker}" for worker in range(WORKERS)]
        children = {
            born(database_url, settings, at=at, name=name, doom=doom if work else None): (name, doom)
            for name, doom in zip(names, dooms, strict=True)
        }
        endings = {child: os.waitpid(child, 0)[1] for child in children}
        until_noticed(database_url)
        with connected(database_url) as connection:
            check_claims(connection, life=life, at=at)
            for child, status in endings.items():
                name, (point, batch) = children[child]
                if os.WIFSIGNALED(status):
                    told = {"point": point, "batch": batch, "held": held_by(connection, name)}
                    sys.stdout.write(json.dumps(told) + "\n")
                elif status:
                    raise SystemExit(f"{name} failed")
            left -= not work
            work = work and connection.execute(_WAITING).scalar_one()
        at, life = at + TIME_OUT, life + 1


if __name__ == "__main__":
    main(*sys.argv[1:])
