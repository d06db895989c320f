"""Only what changed is sent: over real HTTP, with requests that get lost and records that vanish."""

from dataclasses import replace

import pytest
import sqlalchemy as sa

from leads_pipeline.clock import FrozenClock
from leads_pipeline.crm.clients import build_clients
from leads_pipeline.crm.sandbox.running import SandboxServer
from leads_pipeline_tests.conftest import NOW
from leads_pipeline_tests.crm.delivering import (
    Contact,
    add_contacts,
    change,
    merge_away,
    people_did,
    row_of,
    settings_for,
    sync,
)


class Watched:
    """HubSpot's client; remembers the records that it was given. ``turn`` may change its verdicts."""

    def __init__(self, settings, turn=lambda _record, verdict: verdict) -> None:
        self._client = build_clients(settings)["hubspot"]
        self.traits, self.send, self.close = self._client.traits, self._client.send, self._client.close
        self._turn = turn
        self.sent: list[dict] = []
        self.complete: list[bool] = []

    def deliver(self, records, *, courier):
        self.sent += [dict(record.properties) for record in records]
        self.complete += [record.complete for record in records]
        by_id = {record.outbox_id: record for record in records}
        return [self._turn(by_id[v.outbox_id], v) for v in self._client.deliver(records, courier=courier)]


def _stored(sandbox: SandboxServer) -> dict[str, str]:
    [stored] = sandbox.contacts()
    return stored["properties"]


def _attempts(engine: sa.Engine, contact: Contact) -> list[tuple[int, str | None, str | None]]:
    with engine.connect() as connection:
        rows = connection.execute(
            sa.text(
                "select version, verdict, code from sync_attempts where contact_id = :id order by sent_at, version"
            ),
            {"id": contact.contact_id},
        )
        return [tuple(row) for row in rows]


def test_only_the_changed_property_is_sent_and_the_crm_s_people_keep_their_edit(
    engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer
) -> None:
    [contact] = add_contacts(engine, company="Engines", city="London")
    settings = settings_for(sandbox.base_url)
    with_everything = Watched(settings)
    sync(engine, settings, clock, clients={"hubspot": with_everything})
    assert with_everything.complete == [True]
    change(engine, contact, company="Mills")
    client = Watched(settings)
    assert sync(engine, settings, clock, clients={"hubspot": client}).delivered == 1
    assert (client.sent, client.complete) == ([{"company": "Mills"}], [False])
    assert (_stored(sandbox)["company"], _stored(sandbox)["city"]) == ("Mills", "London")


def test_a_version_that_changes_nothing_there_is_delivered_without_a_request(
    engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer
) -> None:
    [contact] = add_contacts(engine)
    settings = settings_for(sandbox.base_url)
    sync(engine, settings, clock)
    before = sandbox.report()["requests"]
    change(engine, contact, last_source="webinar")
    report = sync(engine, settings, clock)
    assert (report.unchanged, report.delivered, report.requests) == (1, 0, 0)
    assert sandbox.report()["requests"] == before
    row = row_of(engine, contact)
    assert (row["state"], row["delivered_version"], row["claimed_by"]) == ("delivered", 2, None)
    assert _attempts(engine, contact) == [(1, "delivered", None), (2, "delivered", "UNCHANGED")]


def test_an_unchanged_contact_s_neighbours_are_sent(
    engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer
) -> None:
    one, two = add_contacts(engine, 2)
    settings = settings_for(sandbox.base_url)
    sync(engine, settings, clock)
    change(engine, one, last_source="webinar")
    change(engine, two, first_name="Augusta")
    report = sync(engine, settings, clock)
    assert (report.unchanged, report.delivered, report.requests) == (1, 1, 1)


@pytest.mark.parametrize("kind", ["written_then_500", "http_500"])
def test_after_a_request_that_got_lost_everything_is_sent(
    kind: str, engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer
) -> None:
    """Version 2 may be there or not; version 3 is what version 1 was, and must come to be there again."""
    [contact] = add_contacts(engine, company="Engines")
    settings = settings_for(sandbox.base_url)
    sync(engine, settings, clock)
    change(engine, contact, company="Mills", city="London")
    sandbox.set_faults([{"kind": kind, "count": 1}])
    sync(engine, settings, clock)
    change(engine, contact, company="Engines", city=None)
    clock.advance(2)
    assert sync(engine, settings, clock).delivered == 1
    assert _stored(sandbox)["company"] == "Engines"
    assert _stored(sandbox).get("city", "") == ""


def test_what_a_worker_that_died_may_have_written_is_cleared_when_it_is_no_longer_known(
    engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer
) -> None:
    [contact] = add_contacts(engine, company="Engines")
    settings = settings_for(sandbox.base_url)

    class Killed(BaseException):  # what is an Exception here is an answer that cannot be read
        pass

    class Dies(Watched):
        def deliver(self, records, *, courier):
            super().deliver(records, courier=courier)
            raise Killed

    with pytest.raises(Killed):
        sync(engine, settings, clock, clients={"hubspot": Dies(settings)})
    assert _stored(sandbox)["company"] == "Engines"
    change(engine, contact, company=None)
    clock.advance(3600)
    assert sync(engine, settings, clock).delivered == 1
    assert _stored(sandbox).get("company", "") == ""


def test_a_definite_refusal_leaves_what_is_known_as_it_was(
    engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer
) -> None:
    [contact] = add_contacts(engine, company="Engines")
    settings = settings_for(sandbox.base_url)
    sync(engine, settings, clock)
    known = row_of(engine, contact)["snapshot"]
    change(engine, contact, job_title="Countess")
    sandbox.set_faults([{"kind": "http_503", "count": 1}])
    assert sync(engine, settings, clock).retried == 1
    assert row_of(engine, contact)["snapshot"] == known
    clock.advance(2)
    client = Watched(settings)
    sync(engine, settings, clock, clients={"hubspot": client})
    assert client.sent == [{"jobtitle": "Countess"}]


def test_a_record_that_the_crm_made_anew_of_a_difference_gets_the_rest_at_once(
    engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer
) -> None:
    """Somebody deleted the record in the CRM: an upsert of the difference creates another one with nothing else."""
    [contact] = add_contacts(engine, company="Engines")
    settings = settings_for(sandbox.base_url)
    sync(engine, settings, clock)
    old = row_of(engine, contact)["crm_record_id"]
    people_did(sandbox, "batch/archive", {"inputs": [{"id": old}]})
    change(engine, contact, company="Mills")
    client = Watched(settings, lambda _record, verdict: replace(verdict, created=True))
    report = sync(engine, settings, clock, clients={"hubspot": client})
    row = row_of(engine, contact)
    assert (report.delivered, report.retried, row["state"], row["delivered_version"]) == (1, 1, "delivered", 2)
    assert row["crm_record_id"] != old
    assert _stored(sandbox)["firstname"] == "Ada"
    assert client.complete == [False, True]


def test_a_contact_that_returns_after_its_archive_is_sent_whole(
    engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer
) -> None:
    [contact] = add_contacts(engine)
    settings = settings_for(sandbox.base_url)
    sync(engine, settings, clock)
    with engine.connect() as connection:
        golden = connection.execute(sa.text("select * from golden_contacts")).mappings().one()
    merge_away(engine, contact)
    sync(engine, settings, clock)
    assert list(sandbox.contacts()) == []
    with engine.begin() as connection:
        from leads_pipeline.storage.schema import golden_contacts

        connection.execute(golden_contacts.insert().values({**golden, "version": 3}))
        connection.execute(
            sa.text("update outbox set operation = 'upsert', state = 'waiting', wanted_version = 3, due_at = :now"),
            {"now": NOW},
        )
    sync(engine, settings, clock)
    assert _stored(sandbox)["firstname"] == "Ada"


def test_a_vendor_that_takes_whole_records_gets_them_whole_and_nothing_when_nothing_changed(
    engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer
) -> None:
    [contact] = add_contacts(engine, company="Engines")
    settings = settings_for(sandbox.base_url)
    client = Watched(settings)
    client.traits = replace(client.traits, partial_updates=False)
    sync(engine, settings, clock, clients={"hubspot": client})
    change(engine, contact, company="Mills")
    sync(engine, settings, clock, clients={"hubspot": client})
    assert client.sent[1] == {**client.sent[0], "company": "Mills"}
    change(engine, contact, last_source="webinar")
    assert sync(engine, settings, clock, clients={"hubspot": client}).unchanged == 1


def test_no_value_stands_in_a_snapshot(engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer) -> None:
    [contact] = add_contacts(engine, email="ada@example.com")
    sync(engine, settings_for(sandbox.base_url), clock)
    snapshot = row_of(engine, contact)["snapshot"]
    assert snapshot.keys() >= {"email", "firstname"}
    assert all(isinstance(item, int) for item in snapshot.values())
    assert "ada" not in str(snapshot)
