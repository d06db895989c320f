"""What befalls contacts between their claim and their request: it decides what of the batch still goes."""

from collections.abc import Callable, Sequence

import pytest
import sqlalchemy as sa

from leads_pipeline.clock import FrozenClock
from leads_pipeline.config import Settings
from leads_pipeline.crm.port import CrmRecord, CrmRequest, CrmResponse
from leads_pipeline.crm.sandbox.running import SandboxServer
from leads_pipeline.domain.sending_gate import SuppressionKind
from leads_pipeline.storage.outbox_demand import erase
from leads_pipeline_tests.conftest import NOW
from leads_pipeline_tests.crm.delivering import (
    Contact,
    add_contacts,
    change,
    merge_away,
    outbox_rows,
    row_of,
    settings_for,
    states,
    sync,
)
from leads_pipeline_tests.crm.test_engine import Watched
from leads_pipeline_tests.crm.test_suppressions import GRANTED, WITHDRAWN, _list, _say

LISTED = "ada@listed.example"


def _erase(engine: sa.Engine, contact: Contact, _settings: Settings) -> None:
    with engine.begin() as connection:
        erase(connection, [contact.contact_id], tenant="acme", now=NOW)


BEFALLS: dict[str, Callable[[sa.Engine, Contact, Settings], object]] = {
    "listed": lambda engine, _contact, settings: _list(engine, settings, SuppressionKind.EMAIL, LISTED),
    "withdrawn": lambda engine, contact, _settings: _say(engine, contact, WITHDRAWN, version=2),
    "erased": _erase,
    "merged away": lambda engine, contact, _settings: merge_away(engine, contact),
}


class _Befallen(Watched):
    """HubSpot's client; ``befall`` is called once, between the first claim and its request."""

    def __init__(self, settings: Settings, befall: Callable[[], object]) -> None:
        super().__init__(settings, self._once)
        self.befall, self.sent = [befall], []

    def _once(self, _records: Sequence[CrmRecord]) -> None:
        if self.befall:
            self.befall.pop()()

    def send(self, request: CrmRequest) -> CrmResponse:
        self.sent.append(request)
        return super().send(request)


@pytest.mark.parametrize("what", BEFALLS)
def test_who_must_not_be_sent_any_more_is_not_and_the_others_of_the_batch_are(
    what: str, engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer
) -> None:
    [contact] = add_contacts(engine, email=LISTED, consent=GRANTED)
    others = add_contacts(engine, 3)
    settings = settings_for(sandbox.base_url)
    client = _Befallen(settings, lambda: BEFALLS[what](engine, contact, settings))
    sync(engine, settings, clock, clients={"hubspot": client})
    upserts = [request for request in client.sent if request.purpose == "upsert"]
    assert [request.records for request in upserts] == [3]
    assert LISTED not in str([request.body for request in upserts])
    assert states(engine, others) == {"delivered"}
    assert row_of(engine, contact)["delivered_version"] is None or what in ("erased", "merged away")
    with engine.connect() as connection:  # nothing was sent for the grant that was given back
        used = connection.execute(sa.text("select daily ->> 'used' from rate_limits")).scalar_one()
    assert int(used) == len(client.sent)
    clock.advance(10)
    sync(engine, settings, clock)
    assert LISTED not in [record["properties"]["email"] for record in sandbox.contacts()]
    assert row_of(engine, contact)["state"] in ("suppressed", "delivered")


def test_a_change_that_comes_between_claim_and_request_is_what_is_sent(
    engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer
) -> None:
    [contact] = add_contacts(engine, company="Old")
    settings = settings_for(sandbox.base_url)
    client = _Befallen(settings, lambda: change(engine, contact, company="New"))
    report = sync(engine, settings, clock, clients={"hubspot": client})
    assert (report.delivered, report.requests) == (1, 1)
    [there] = sandbox.contacts()
    assert there["properties"]["company"] == "New"
    assert set(sandbox.writes_per_lead_key().values()) == {1}


def test_each_request_of_a_batch_is_looked_at(engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer) -> None:
    """One that is refused as a whole is halved; meanwhile somebody is listed."""
    contacts = [add_contacts(engine, email=f"person{number}@listed.example")[0] for number in range(4)]
    settings = settings_for(sandbox.base_url)
    sandbox.set_faults([{"kind": "refused_400", "match": "person0@"}])

    class Lists(_Befallen):
        def send(self, request: CrmRequest) -> CrmResponse:
            response = super().send(request)
            if len(self.sent) == 1:
                _list(engine, settings, SuppressionKind.EMAIL, "person3@listed.example")
            return response

    client = Lists(settings, lambda: None)
    sync(engine, settings, clock, clients={"hubspot": client})
    assert [request.records for request in client.sent] == [4, 2, 1, 1, 1]
    rows = outbox_rows(engine)
    assert [rows[contact.outbox_id]["state"] for contact in contacts] == ["dead", "delivered", "delivered", "waiting"]
    assert rows[contacts[3].outbox_id]["attempts"] == 0
