"""A request that the CRM carries out late never has the last word over a newer one."""

from datetime import timedelta

import pytest
import sqlalchemy as sa

from leads_pipeline.clock import FrozenClock
from leads_pipeline.config import Settings
from leads_pipeline.crm.port import CrmRequest, CrmResponse
from leads_pipeline.crm.sandbox.running import SandboxServer
from leads_pipeline.storage.outbox_demand import erase
from leads_pipeline_tests.conftest import NOW
from leads_pipeline_tests.crm.delivering import Contact, add_contacts, change, people_did, row_of, settings_for, sync
from leads_pipeline_tests.crm.test_engine import Watched


def _companies(sandbox: SandboxServer) -> list[str]:
    return [record["properties"]["company"] for record in sandbox.contacts()]


class _Killed(Watched):
    """HubSpot's client in a process that is killed while its first request is under way."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings, lambda _records: None)
        self.under_way: list[CrmRequest] = []

    def send(self, request: CrmRequest) -> CrmResponse:
        self.under_way.append(request)
        raise KeyboardInterrupt

    def arrive(self) -> None:
        for request in self.under_way:
            super().send(request)


def test_what_a_killed_process_had_sent_is_not_overtaken(
    engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer
) -> None:
    settings = settings_for(sandbox.base_url, timeout_seconds=30)
    [contact] = add_contacts(engine, company="Old")
    killed = _Killed(settings)
    with pytest.raises(KeyboardInterrupt):
        sync(engine, settings, clock, clients={"hubspot": killed})
    change(engine, contact, company="New")
    for seconds in (0, 29.9):  # whoever looks first sees that the process is gone
        clock.advance(seconds)
        assert sync(engine, settings, clock).delivered == 0
    killed.arrive()
    clock.advance(0.1)
    assert sync(engine, settings, clock).delivered == 1
    assert _companies(sandbox) == ["New"]


class _Stalls(Watched):
    """HubSpot's client in a process that stands still before its first request, longer than its claims hold."""

    def __init__(self, engine: sa.Engine, settings: Settings, *, later: FrozenClock, contact: Contact) -> None:
        super().__init__(settings, lambda _records: None)
        self._engine, self._settings, self._later, self._contact = engine, settings, later, contact
        self._stalled = False

    def send(self, request: CrmRequest) -> CrmResponse:
        if not self._stalled:
            self._stalled = True
            self.meanwhile()
        return super().send(request)

    def meanwhile(self) -> None:
        change(self._engine, self._contact, company="New")
        sync(self._engine, self._settings, self._later)
        assert row_of(self._engine, self._contact)["state"] == "delivered"


class _StallsWhileErased(_Stalls):
    def meanwhile(self) -> None:
        with self._engine.begin() as connection:
            erase(connection, [self._contact.contact_id], tenant="acme", now=NOW)
        sync(self._engine, self._settings, self._later)
        assert row_of(self._engine, self._contact)["state"] == "delivered"


def test_an_answer_that_comes_after_somebody_else_sent_a_newer_version_has_it_sent_again(
    engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer
) -> None:
    settings = settings_for(sandbox.base_url)
    [contact] = add_contacts(engine, company="Old")
    later = FrozenClock(clock.now() + timedelta(minutes=5))
    stalls = _Stalls(engine, settings, later=later, contact=contact)
    sync(engine, settings, clock, clients={"hubspot": stalls})
    sync(engine, settings, later)
    assert _companies(sandbox) == ["New"]
    row = row_of(engine, contact)
    assert (row["state"], row["last_verdict"], row["claimed_until"]) == ("delivered", "delivered", None)


def test_who_was_erased_while_an_old_request_was_under_way_is_erased_again(
    engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer
) -> None:
    settings = settings_for(sandbox.base_url)
    [contact] = add_contacts(engine, company="Old")
    later = FrozenClock(clock.now() + timedelta(minutes=5))
    stalls = _StallsWhileErased(engine, settings, later=later, contact=contact)
    sync(engine, settings, clock, clients={"hubspot": stalls})
    sync(engine, settings, later)
    assert list(sandbox.contacts()) == []


def test_of_two_tenants_that_take_over_one_record_at_once_one_has_it_and_the_other_is_told(
    engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer
) -> None:
    settings = settings_for(sandbox.base_url)
    people_did(sandbox, "batch/create", {"inputs": [{"properties": {"email": "ada@example.com"}}]})
    [one] = add_contacts(engine, email="ada@example.com")
    others: list[Contact] = []

    class Between(Watched):
        def send(self, request: CrmRequest) -> CrmResponse:
            if request.purpose == "link" and not others:  # the other process has looked, and links first
                others.extend(add_contacts(engine, tenant="globex", email="ada@example.com"))
                assert sync(engine, settings, FrozenClock(clock.now())).delivered == 1
            return super().send(request)

    sync(engine, settings, clock, clients={"hubspot": Between(settings, lambda _records: None)})
    clock.advance(5)
    sync(engine, settings, clock)
    [held] = sandbox.contacts()
    found = {str(contact.contact_id): row_of(engine, contact) for contact in (one, *others)}
    assert found.pop(held["properties"]["lead_key"])["state"] == "delivered"
    [(_contact_id, loser)] = found.items()
    assert (loser["state"], [*loser["failures"]]) == ("waiting", ["conflict"])  # once or twice: jitter decides
