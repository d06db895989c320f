"""A contact's versions reach the CRM in their order, also where a worker dies, stands still or loses its lock."""

import pytest
import sqlalchemy as sa

from leads_pipeline.clock import FrozenClock
from leads_pipeline.config import Settings
from leads_pipeline.crm.port import CrmRequest, CrmResponse
from leads_pipeline.crm.sandbox.running import SandboxServer
from leads_pipeline.storage.claim_owners import GRACE
from leads_pipeline_tests.crm.delivering import add_contacts, change, row_of, settings_for, sync
from leads_pipeline_tests.crm.test_engine import Watched

_CUT_LOCKS = sa.text(
    "select pg_terminate_backend(pid) from pg_locks where locktype = 'advisory' and objsubid = 1 "
    "and database = (select oid from pg_database where datname = current_database())"
)


class Killed(Watched):
    """Dies once its first request has left, which the CRM has not carried out yet."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings, lambda _records: None)
        self.left: list[CrmRequest] = []

    def send(self, request: CrmRequest) -> CrmResponse:
        self.left.append(request)
        raise KeyboardInterrupt

    def carry_out(self) -> None:
        """The CRM gets to it."""
        assert super().send(self.left[0]).status == 200


def _company(sandbox: SandboxServer) -> str:
    [stored] = sandbox.contacts()
    return str(stored["properties"]["company"])


def test_what_a_dead_worker_has_sent_is_carried_out_before_a_newer_version_is_sent(
    engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer
) -> None:
    settings = settings_for(sandbox.base_url, timeout_seconds=30)
    [contact] = add_contacts(engine, company="Old")
    killed = Killed(settings)
    with pytest.raises(KeyboardInterrupt):
        sync(engine, settings, clock, clients={"hubspot": killed})
    change(engine, contact, company="New")
    assert sync(engine, settings, clock).delivered == 0
    clock.advance(2 * GRACE.total_seconds())
    assert sync(engine, settings, clock).delivered == 0
    killed.carry_out()
    clock.advance(30 - 2 * GRACE.total_seconds())
    assert sync(engine, settings, clock).delivered == 1
    assert _company(sandbox) == "New"


def test_a_worker_whose_lock_is_lost_keeps_what_it_is_sending(
    engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer
) -> None:
    settings = settings_for(sandbox.base_url, timeout_seconds=30)
    [contact] = add_contacts(engine, company="Old")
    others: list[int] = []

    class Cut(Watched):
        def send(self, request: CrmRequest) -> CrmResponse:
            if not others:
                with engine.begin() as connection:
                    assert connection.execute(_CUT_LOCKS).scalars().all() == [True]
                change(engine, contact, company="New")
                elsewhere = FrozenClock(clock.now())
                for seconds in (GRACE.total_seconds(), 1, 20):
                    others.append(sync(engine, settings, elsewhere).delivered)
                    elsewhere.advance(seconds)
                others.append(sync(engine, settings, elsewhere).delivered)
            return super().send(request)

    sync(engine, settings, clock, clients={"hubspot": Cut(settings, lambda _records: None)})
    assert others == [0, 0, 0, 0]
    assert _company(sandbox) == "New"


def test_a_worker_that_stood_still_while_its_claim_ran_out_has_the_contact_sent_again(
    engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer
) -> None:
    """Between writing its request down and sending it, as a machine does that is suspended."""
    settings = settings_for(sandbox.base_url)
    [contact] = add_contacts(engine, company="Old", city="Graz")
    others: list[int] = []

    class Suspended(Watched):
        def send(self, request: CrmRequest) -> CrmResponse:
            if not others:
                change(engine, contact, company="New", city=None)
                elsewhere = FrozenClock(clock.now())
                elsewhere.advance(600)
                others.append(sync(engine, settings, elsewhere).delivered)
            return super().send(request)

    sync(engine, settings, clock, clients={"hubspot": Suspended(settings, lambda _records: None)})
    assert others == [1]
    assert _company(sandbox) == "New"
    assert row_of(engine, contact)["state"] == "delivered"
