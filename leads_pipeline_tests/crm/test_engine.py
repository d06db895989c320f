"""A destination's run: whose contacts go next, from whose share of the quota, and when it is left alone."""

import threading
from collections.abc import Callable, Sequence
from datetime import timedelta

import sqlalchemy as sa

from leads_pipeline.clock import FrozenClock
from leads_pipeline.config import Settings
from leads_pipeline.crm.clients import build_clients
from leads_pipeline.crm.health import Health
from leads_pipeline.crm.parking import Parked, limiter_of, open_doors, parked_now
from leads_pipeline.crm.port import Courier, CrmRecord, CrmRequest, CrmResponse, RecordVerdict
from leads_pipeline.crm.sandbox.running import SandboxServer
from leads_pipeline.domain.stage import ALL_LANES, Lane
from leads_pipeline.outbound.limiter import Grant, Limiter, Seen
from leads_pipeline.steps.crm_sync_batches import SyncPlan, plan_sync
from leads_pipeline_tests.conftest import NOW
from leads_pipeline_tests.crm.delivering import (
    add_contacts,
    outbox_rows,
    row_of,
    settings_for,
    states,
    sync,
)


class Watched:
    """HubSpot's client; ``before`` is called with the records of each batch before it is sent."""

    def __init__(self, settings: Settings, before: Callable[[Sequence[CrmRecord]], None]) -> None:
        self._client = build_clients(settings)["hubspot"]
        self._before = before
        self.traits = self._client.traits

    def send(self, request: CrmRequest) -> CrmResponse:
        return self._client.send(request)

    def deliver(self, records: Sequence[CrmRecord], *, courier: Courier) -> list[RecordVerdict]:
        self._before(records)
        return self._client.deliver(records, courier=courier)

    def close(self) -> None:
        self._client.close()


def _plan(engine: sa.Engine, settings: Settings, clock: FrozenClock) -> SyncPlan:
    return plan_sync(engine, settings=settings, lanes=ALL_LANES, limit=1000, now=clock.now())


def _booked(engine: sa.Engine) -> list[sa.Row]:
    with engine.connect() as connection:
        return list(connection.execute(sa.text("select lane, tenant, records from crm_sync_batches order by sent_at")))


def test_what_is_kept_for_urgent_contacts_parks_the_other_lanes_alone(
    engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer
) -> None:
    bulk = add_contacts(engine, 100, lane=Lane.BATCH)
    settings = settings_for(sandbox.base_url, batch_size=10, daily=10)  # a tenth of it is the reserve: one request
    report = sync(engine, settings, clock)
    assert (report.delivered, report.requests) == (90, 9)
    assert {name: item.reason for name, item in report.parked.items()} == {"hubspot batch": "reserve"}
    assert {row.lane for row in _booked(engine)} == {"batch"}
    plan = _plan(engine, settings, clock)
    assert (plan.by_destination, set(plan.parked.lanes)) == (
        {}, {("hubspot", Lane.NEAR_REAL_TIME), ("hubspot", Lane.BATCH)}
    )  # fmt: skip
    assert sync(engine, settings, clock).requests == 0
    [urgent] = add_contacts(engine)
    assert _plan(engine, settings, clock).by_destination == {"hubspot": 1}
    # Nine of the others go with it: the request would be as dear without them.
    assert sync(engine, settings, clock).delivered == 10
    assert row_of(engine, urgent)["state"] == "delivered"
    assert [outbox_rows(engine)[contact.outbox_id]["state"] for contact in bulk].count("waiting") == 1
    assert _booked(engine)[-1].lane == "real_time"


def test_a_lane_that_is_parked_is_no_reason_to_start_a_run(
    engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer
) -> None:
    settings = settings_for(sandbox.base_url, daily=1)
    parked = parked_now(engine, settings=settings, now=clock.now())
    doors = open_doors(settings, parked=parked, lanes=ALL_LANES)
    assert doors == [("acme", "hubspot", Lane.REAL_TIME), ("globex", "hubspot", Lane.REAL_TIME)]


def test_what_more_urgent_lanes_will_need_today_is_kept_for_them(
    engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer
) -> None:
    """Twenty near-real-time contacts wait for another application to be done; they will take two requests of four."""
    add_contacts(engine, 40, lane=Lane.BATCH)
    add_contacts(engine, 20, lane=Lane.NEAR_REAL_TIME, due_at=NOW + timedelta(hours=1))
    settings = settings_for(sandbox.base_url, batch_size=10, daily=4)
    assert sync(engine, settings, clock).requests == 2
    plan = _plan(engine, settings, clock)
    assert (plan.by_destination, set(plan.parked.lanes)) == ({}, {("hubspot", Lane.BATCH)})


def test_a_real_time_contact_that_comes_during_a_run_goes_next(
    engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer
) -> None:
    add_contacts(engine, 50, lane=Lane.BATCH)
    settings = settings_for(sandbox.base_url, batch_size=10, in_flight=1)
    urgent: list[int] = []
    sent: list[set[int]] = []

    def comes(records: Sequence[CrmRecord]) -> None:
        sent.append({record.outbox_id for record in records})
        if len(sent) == 2:
            urgent.append(add_contacts(engine)[0].outbox_id)
        clock.advance(1)

    sync(engine, settings, clock, clients={"hubspot": Watched(settings, comes)})
    assert [urgent[0] in batch for batch in sent[:4]] == [False, False, True, False]


def test_lanes_share_the_requests_by_their_weights(
    engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer
) -> None:
    lane_of = {c.outbox_id: lane for lane in ALL_LANES for c in add_contacts(engine, 24, lane=lane)}
    settings = settings_for(sandbox.base_url, batch_size=2, in_flight=1)
    sent: list[set[Lane]] = []
    watched = Watched(settings, lambda records: sent.append({lane_of[record.outbox_id] for record in records}))
    sync(engine, settings, clock, clients={"hubspot": watched})
    assert len(sent) == 36
    assert [sent[:12].count({lane}) for lane in ALL_LANES] == [8, 3, 1]


def test_contacts_of_several_tenants_share_a_request_and_each_is_booked_as_its_tenant_s(
    engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer
) -> None:
    add_contacts(engine, 3, tenant="acme")
    [bad] = add_contacts(engine, tenant="globex", email="not-an-address")
    sync(engine, settings_for(sandbox.base_url), clock)
    assert {row.tenant for row in _booked(engine)} == {None}
    with engine.connect() as connection:
        tried = connection.execute(sa.text("select tenant, count(*) from sync_attempts group by 1 order by 1")).all()
        died = connection.execute(sa.text("select tenant, outbox_id from dead_letters")).all()
    assert [tuple(row) for row in tried] == [("acme", 3), ("globex", 1)]
    assert [tuple(row) for row in died] == [("globex", bad.outbox_id)]


def test_one_address_of_two_tenants_is_in_no_request_twice(
    engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer
) -> None:
    """The CRM has it in one record: the request would be refused, and with it the neighbours."""
    [ours] = add_contacts(engine, email="ada@example.com")
    add_contacts(engine, tenant="globex", email="ada@example.com")
    batches: list[list[int]] = []
    settings = settings_for(sandbox.base_url, in_flight=1)
    watched = Watched(settings, lambda records: batches.append([record.outbox_id for record in records]))
    sync(engine, settings, clock, clients={"hubspot": watched})
    assert batches[0] == [ours.outbox_id]
    assert row_of(engine, ours)["state"] == "delivered"


def test_a_flood_of_one_tenant_leaves_the_others_their_part_of_each_request(
    engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer
) -> None:
    add_contacts(engine, 50, tenant="acme", due_at=NOW - timedelta(seconds=30))
    small = add_contacts(engine, 5, tenant="globex")
    settings = settings_for(sandbox.base_url, batch_size=10, daily=1)
    assert sync(engine, settings, clock).delivered == 10
    assert states(engine, small) == {"delivered"}


def test_while_a_backlog_drains_the_newest_go_first_and_the_oldest_get_their_turn(
    engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer
) -> None:
    old = {c.outbox_id for c in add_contacts(engine, 200, due_at=NOW - timedelta(hours=1))}
    new = {c.outbox_id for c in add_contacts(engine, 100)}
    settings = settings_for(sandbox.base_url, batch_size=10, in_flight=1)
    batches: list[set[int]] = []
    watched = Watched(settings, lambda records: batches.append({record.outbox_id for record in records}))
    sync(engine, settings, clock, clients={"hubspot": watched})
    first = batches[:10]
    assert sum(batch <= new for batch in first) == 8
    assert sum(batch <= old for batch in first) == 2


def test_nothing_is_claimed_while_its_request_is_far_away(engine: sa.Engine, sandbox: SandboxServer) -> None:
    add_contacts(engine, 20)
    settings = settings_for(sandbox.base_url, batch_size=10)
    limits = settings.destinations["hubspot"].limits
    limiter = Limiter(engine, account="sandbox", limits=limits)
    grant = limiter.acquire()
    limiter.answered(grant, Seen(pause_seconds=40))
    seen: list[set[str]] = []
    clock = FrozenClock(NOW, on_sleep=lambda _s: seen.append({r["state"] for r in outbox_rows(engine).values()}))
    report = sync(engine, settings, clock)
    assert len(seen) > 10
    assert seen == [{"waiting"}] * len(seen)
    assert (report.records, report.parked["hubspot"].reason) == (0, "paused")


def test_what_was_claimed_for_a_grant_that_others_got_is_given_back_as_it_was(
    engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer
) -> None:
    """Else it would wait for the next window in the hands of a process that has nothing to send it with."""
    contacts = add_contacts(engine, 3)
    settings = settings_for(sandbox.base_url, requests=1, seconds=10, run_seconds=60, in_flight=1)
    others = limiter_of(engine, "hubspot", settings=settings, forecast=None)

    def is_late(_records: Sequence[CrmRecord]) -> None:
        assert states(engine, contacts) == {"in_flight"}
        assert isinstance(others.acquire(), Grant)

    kept = ("state", "due_at", "attempts", "claimed_by", "claimed_until", "claim_owner", "last_verdict")
    before = [{name: row_of(engine, contact)[name] for name in kept} for contact in contacts]
    report = sync(engine, settings, clock, clients={"hubspot": Watched(settings, is_late)})
    assert [{name: row_of(engine, contact)[name] for name in kept} for contact in contacts] == before
    assert (report.records, report.requests, report.retried) == (0, 0, 0)
    with engine.connect() as connection:
        assert connection.execute(sa.text("select count(*) from sync_attempts")).scalar_one() == 0


def test_one_of_two_destinations_on_an_account_fails_and_the_other_goes_on(
    engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer
) -> None:
    """They share its limits; a breaker is each destination's own: one's token may be refused, or its host be down."""
    settings = settings_for(sandbox.base_url, batch_size=1, in_flight=1)
    down = settings.destinations["hubspot"].model_copy(update={"base_url": "http://127.0.0.1:9"})
    both = {name: tenant.model_copy(update={"destinations": ("hubspot", "down")})
            for name, tenant in settings.tenants.items()}  # fmt: skip
    settings = settings.model_copy(update={"destinations": {**settings.destinations, "down": down}, "tenants": both})
    add_contacts(engine, 8)
    add_contacts(engine, 8, destination="down")
    report = sync(engine, settings, clock)
    assert report.delivered == 8
    assert {name: item.reason for name, item in report.parked.items()} == {"down": "no_answer"}
    assert (report.destinations["down"].breaker, report.destinations["hubspot"].breaker) == (
        "open (no_answer)", "closed"
    )  # fmt: skip


def test_a_client_that_breaks_leaves_no_request_under_way(
    engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer
) -> None:
    class Breaks(Watched):
        def send(self, request: CrmRequest) -> CrmResponse:
            raise RuntimeError("broken")

    add_contacts(engine)
    settings = settings_for(sandbox.base_url)
    destination = settings.destinations["hubspot"]
    limits = destination.limits.model_copy(update={"shared_in_flight": 1})
    settings = settings.model_copy(
        update={"destinations": {"hubspot": destination.model_copy(update={"limits": limits})}}
    )
    report = sync(engine, settings, clock, clients={"hubspot": Breaks(settings, lambda _records: None)})
    assert report.retried == 1
    with engine.connect() as connection:
        assert connection.execute(sa.text("select in_flight from rate_limits")).scalar_one() == {}


def test_a_crm_that_fails_is_left_alone_and_probed_with_one_batch(
    engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer
) -> None:
    add_contacts(engine, 20)
    sandbox.set_faults([{"kind": "http_503"}])
    settings = settings_for(sandbox.base_url, batch_size=1, in_flight=1)
    report = sync(engine, settings, clock)
    assert (report.requests, report.parked["hubspot"]) == (
        5, Parked("server_error", NOW + timedelta(seconds=30))
    )  # fmt: skip
    assert _plan(engine, settings, clock).by_destination == {}
    clock.advance(30)
    probe = sync(engine, settings, clock)
    assert (probe.requests, probe.parked_until) == (1, clock.now() + timedelta(seconds=60))
    sandbox.clear_faults()
    clock.advance(59)
    assert sync(engine, settings, clock).requests == 0
    clock.advance(1)
    assert sync(engine, settings, clock).delivered == 20
    assert _plan(engine, settings, clock).parked.named() == {}


def test_one_of_all_processes_gets_the_probe(engine: sa.Engine, clock: FrozenClock) -> None:
    settings = settings_for("http://127.0.0.1:9", batch_size=1, in_flight=1)
    add_contacts(engine, 10)
    assert sync(engine, settings, clock).parked["hubspot"].reason == "no_answer"
    clock.advance(30)
    several = [Health(engine, "hubspot", policy=settings.delivery.breaker, clock=clock) for _ in range(20)]
    answers = [health.may_send() for health in several]
    assert answers.count(None) == 1
    assert {health.closed for health in several} == {False}


def test_refused_records_say_nothing_against_the_destination(
    engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer
) -> None:
    add_contacts(engine, 12)
    with engine.begin() as connection:
        connection.execute(sa.text("update golden_contacts set email = replace(email, '@', ' ')"))
    report = sync(engine, settings_for(sandbox.base_url, batch_size=1, in_flight=1), clock)
    assert (report.dead, report.parked) == (12, {})


def test_a_destination_that_hangs_holds_up_no_other(
    engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer
) -> None:
    """What becomes due elsewhere while one request takes for ever is sent meanwhile, by the same run."""
    settings = settings_for(sandbox.base_url)
    other = settings.destinations["hubspot"].model_copy(update={"account": "other"})
    both = {name: tenant.model_copy(update={"destinations": ("hubspot", "other")})
            for name, tenant in settings.tenants.items()}  # fmt: skip
    settings = settings.model_copy(update={"destinations": {**settings.destinations, "other": other}, "tenants": both})
    add_contacts(engine)
    delivered = threading.Event()
    arrived: list[bool] = []

    def hangs(_records: Sequence[CrmRecord]) -> None:
        add_contacts(engine, destination="other")
        arrived.append(delivered.wait(60))

    clients = {
        "hubspot": Watched(settings, hangs),
        "other": Watched(settings, lambda _records: delivered.set()),
    }
    assert sync(engine, settings, clock, clients=clients).delivered == 2
    assert arrived == [True]
