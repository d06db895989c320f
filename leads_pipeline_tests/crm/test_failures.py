"""Answers that cannot be kept or read, and our own mistakes, cost neither other destinations nor the neighbours."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from leads_pipeline.clock import FrozenClock
from leads_pipeline.config import Settings
from leads_pipeline.config.base import SecretRef
from leads_pipeline.crm.clients import build_clients
from leads_pipeline.crm.failures import UNREADABLE
from leads_pipeline.crm.parking import Parked, parked_now
from leads_pipeline.crm.port import Courier, CrmRecord, CrmRequest, CrmResponse, RecordVerdict, Verdict
from leads_pipeline.crm.sandbox.running import SandboxServer
from leads_pipeline.errors import ConfigError
from leads_pipeline_tests.conftest import NOW
from leads_pipeline_tests.crm.delivering import Contact, add_contacts, row_of, settings_for, states, sync
from leads_pipeline_tests.crm.test_engine import Watched

NUL_AND_HALF_A_PAIR = "1\x00\ud800"


class Answering(Watched):
    """HubSpot's client, whose answers and verdicts are changed."""

    def __init__(
        self,
        settings: Settings,
        *,
        answer: Callable[[CrmResponse], CrmResponse] = lambda response: response,
        verdict: Callable[[RecordVerdict], RecordVerdict] = lambda verdict: verdict,
    ) -> None:
        super().__init__(settings, lambda _records: None)
        self._answer = answer
        self._verdict = verdict

    def send(self, request: CrmRequest) -> CrmResponse:
        return self._answer(super().send(request))

    def deliver(self, records: Sequence[CrmRecord], *, courier: Courier) -> list[RecordVerdict]:
        return [self._verdict(verdict) for verdict in super().deliver(records, courier=courier)]


def _two(sandbox: SandboxServer, **changes: Any) -> Settings:
    """As well a destination ``other``, which is as ``hubspot`` but for these changes."""
    settings = settings_for(sandbox.base_url)
    other = settings.destinations["hubspot"].model_copy(update={"account": "other", **changes})
    tenants = {
        name: tenant.model_copy(update={"destinations": ("hubspot", "other")})
        for name, tenant in settings.tenants.items()
    }
    return settings.model_copy(update={"destinations": {**settings.destinations, "other": other}, "tenants": tenants})


def test_what_a_database_cannot_keep_of_an_answer_is_replaced(
    engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer
) -> None:
    settings = settings_for(sandbox.base_url)
    [contact] = add_contacts(engine)

    def spoilt(response: CrmResponse) -> CrmResponse:
        for item in response.body["results"]:
            item["id"] = NUL_AND_HALF_A_PAIR
        return replace(response, correlation_id=NUL_AND_HALF_A_PAIR)

    client = Answering(settings, answer=spoilt)
    assert sync(engine, settings, clock, clients={"hubspot": client}).delivered == 1
    assert row_of(engine, contact)["crm_record_id"] == "1\ufffd\ufffd"


def _of(contact: Contact, change: Callable[[RecordVerdict], RecordVerdict]) -> Callable[[RecordVerdict], RecordVerdict]:
    return lambda verdict: change(verdict) if verdict.outbox_id == contact.outbox_id else verdict


def _fails(_verdict: RecordVerdict) -> RecordVerdict:
    raise KeyError("no such field")


def _waits_for_ever(verdict: RecordVerdict) -> RecordVerdict:
    return replace(verdict, verdict=Verdict.TRANSIENT, retry_after=math.inf)


@pytest.mark.parametrize("change", [_fails, _waits_for_ever])
def test_a_record_whose_answer_cannot_be_read_or_settled_burns_an_attempt_and_its_neighbours_are_delivered(
    change: Callable[[RecordVerdict], RecordVerdict], engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer
) -> None:
    settings = settings_for(sandbox.base_url, batch_size=40, in_flight=1)
    contacts = add_contacts(engine, 40)
    bad = contacts[13]
    client = Answering(settings, verdict=_of(bad, change))
    report = sync(engine, settings, clock, clients={"hubspot": client})
    assert (report.delivered, report.retried, report.parked) == (39, 1, {})
    row = row_of(engine, bad)
    assert (row["state"], row["last_verdict"], row["attempts"]) == ("waiting", "ambiguous", 1)
    with engine.connect() as connection:
        codes = connection.execute(sa.text("select code from sync_attempts where verdict <> 'delivered'"))
        assert codes.scalars().all() == [UNREADABLE]


def test_where_no_answer_can_be_read_few_requests_are_wasted(
    engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer
) -> None:
    settings = settings_for(sandbox.base_url, in_flight=1)
    contacts = add_contacts(engine, 100)
    report = sync(engine, settings, clock, clients={"hubspot": Answering(settings, verdict=_fails)})
    assert report.retried == 100
    assert report.requests < 35
    assert {row_of(engine, contact)["attempts"] for contact in contacts} == {1}


def test_a_mistake_of_ours_at_one_destination_parks_it_and_the_others_go_on(
    engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer
) -> None:
    settings = _two(sandbox)
    add_contacts(engine)
    others = add_contacts(engine, 3, destination="other")

    def fails(destination: str) -> None:
        if destination == "hubspot":
            raise ZeroDivisionError

    report = sync(engine, settings, clock, prepare=fails)
    assert states(engine, others) == {"delivered"}
    minute = Parked("failure", NOW + timedelta(minutes=1))
    assert report.parked == {"hubspot": minute}
    assert minute.needs_somebody
    assert parked_now(engine, settings=settings, now=NOW).destinations == {"hubspot": minute}
    clock.advance(60)
    assert sync(engine, settings, clock).delivered == 1


def test_a_database_that_is_away_is_no_fault_of_a_destination(
    engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer
) -> None:
    settings = settings_for(sandbox.base_url)
    add_contacts(engine)

    def gone(_destination: str) -> None:
        raise sa.exc.OperationalError("select", {}, psycopg.OperationalError("gone"))

    with pytest.raises(sa.exc.OperationalError):
        sync(engine, settings, clock, prepare=gone)
    assert parked_now(engine, settings=settings, now=NOW).destinations == {}


def test_a_destination_whose_token_is_missing_is_parked_and_the_others_go_on(
    engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer
) -> None:
    settings = _two(sandbox, token=SecretRef(env="LEADS_NO_SUCH_TOKEN"))
    [contact] = add_contacts(engine)
    add_contacts(engine, destination="other")
    report = sync(engine, settings, clock)
    assert row_of(engine, contact)["state"] == "delivered"
    assert report.parked == {"other": Parked("set_up", NOW + timedelta(minutes=1))}
    assert sync(engine, settings, clock).parked == report.parked  # and nobody starts a run for it
    with pytest.raises(ConfigError):
        build_clients(settings)
