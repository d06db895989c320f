"""Many contacts as one job of Bulk API 2.0: persisted, held by nobody, taken further by whoever comes."""

from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from leads_pipeline.clock import FrozenClock
from leads_pipeline.config import Settings
from leads_pipeline.crm.clients import build_clients
from leads_pipeline.crm.port import CrmClient, CrmRequest, CrmResponse
from leads_pipeline.crm.sandbox.running import SandboxServer, running_sandbox
from leads_pipeline.crm.sandbox.salesforce.options import SalesforceOptions
from leads_pipeline.domain.stage import ALL_LANES, Lane
from leads_pipeline.sandbox.faults import FaultKind
from leads_pipeline.steps.crm_sync_batches import plan_sync
from leads_pipeline.storage.bulk_jobs import open_jobs
from leads_pipeline_tests.crm.delivering import Contact, add_contacts, change, outbox_rows, row_of, states, sync
from leads_pipeline_tests.crm.salesforce_org import SECRET_ENV, keys_held, settings_for

# A job with its limits, its making, its upload, its close, its poll and its three results.
JOB_REQUESTS = 8


@pytest.fixture
def org(clock: FrozenClock, monkeypatch: pytest.MonkeyPatch) -> Iterator[SandboxServer]:
    monkeypatch.setenv(SECRET_ENV, "a-secret")
    with running_sandbox(SalesforceOptions(token="a-secret"), clock=clock) as server:
        yield server


def many(engine: sa.Engine, count: int = 30, **fields: Any) -> list[Contact]:
    return add_contacts(
        engine, count, lane=Lane.BATCH, destination="salesforce", company="Analytical Engines", **fields
    )


class Killed(BaseException):
    """The process dies here."""


class Dying:
    """Salesforce's client in a process that is killed at a request: before it leaves, or after."""

    def __init__(self, settings: Settings, *, place: int, after: bool) -> None:
        self._client: Any = build_clients(settings)["salesforce"]
        self._left, self._after = place, after
        self.traits, self.job_traits = self._client.traits, self._client.job_traits
        self.deliver, self.describe, self.close = self._client.deliver, self._client.describe, self._client.close
        self.advance = self._client.advance

    def send(self, request: CrmRequest) -> CrmResponse:
        dies = self._left == 0
        self._left -= 1
        if dies and not self._after:
            raise Killed
        response: CrmResponse = self._client.send(request)
        if dies:
            raise Killed
        return response


def finish(engine: sa.Engine, settings: Settings, clock: FrozenClock) -> None:
    """Whoever comes after a kill, and after the leases of what was under way."""
    for _ in range(5):
        clock.advance(300)
        sync(engine, settings, clock)


def test_more_due_contacts_than_the_threshold_go_as_one_job(
    engine: sa.Engine, clock: FrozenClock, org: SandboxServer
) -> None:
    contacts = many(engine)
    report = sync(engine, settings_for(org.base_url, above=20), clock)

    assert (report.delivered, report.requests, report.dead) == (30, JOB_REQUESTS, 0)
    assert states(engine, contacts) == {"delivered"}
    assert keys_held(org) == {contact.contact_id: 1 for contact in contacts}
    rows = outbox_rows(engine)
    assert {rows[item.outbox_id]["crm_record_id"] for item in contacts} == {item["id"] for item in org.contacts()}
    assert org.report()["endpoints"]["jobs/create"] == 1
    with engine.connect() as connection:
        assert open_jobs(connection, "salesforce").jobs == 0
        assert connection.execute(sa.text("select count(*) from bulk_jobs where batch is not null")).scalar_one() == 0


def test_the_next_version_is_a_difference_that_goes_by_itself_again(
    engine: sa.Engine, clock: FrozenClock, org: SandboxServer
) -> None:
    settings, contacts = settings_for(org.base_url, above=20), many(engine)
    sync(engine, settings, clock)
    change(engine, contacts[0], first_name="Augusta", company=None)

    assert sync(engine, settings, clock).delivered == 1
    [held] = [item["properties"] for item in org.contacts() if item["properties"].get("FirstName") == "Augusta"]
    # A lead must have a company: what it has stays.
    assert held["Company"] == "Analytical Engines"
    assert org.report()["endpoints"]["collections/upsert"] == 1


def test_up_to_the_threshold_and_in_the_real_time_lane_there_is_no_job(
    engine: sa.Engine, clock: FrozenClock, org: SandboxServer
) -> None:
    many(engine, 20)
    add_contacts(engine, 30, lane=Lane.REAL_TIME, destination="salesforce", company="Analytical Engines")

    assert sync(engine, settings_for(org.base_url, above=20), clock).delivered == 50
    assert "jobs/create" not in org.report()["endpoints"]


def test_a_job_that_takes_its_time_is_asked_about_by_whoever_comes_and_starts_a_run_by_itself(
    engine: sa.Engine, clock: FrozenClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SECRET_ENV, "a-secret")
    with running_sandbox(SalesforceOptions(token="a-secret", job_seconds=300), clock=clock) as org:
        settings, contacts = settings_for(org.base_url, above=20), many(engine)
        assert sync(engine, settings, clock).delivered == 0
        assert states(engine, contacts) == {"in_flight"}

        def planned() -> dict[str, int]:
            plan = plan_sync(engine, settings=settings, lanes=ALL_LANES, limit=100, now=clock.now())
            return dict(plan.by_destination)

        assert planned() == {}
        clock.advance(10)
        assert planned() == {"salesforce": 1}
        assert sync(engine, settings, clock).delivered == 0
        clock.advance(300)
        assert sync(engine, settings, clock).delivered == 30
        assert planned() == {}


def test_each_row_of_a_job_has_its_own_verdict(engine: sa.Engine, clock: FrozenClock, org: SandboxServer) -> None:
    good = many(engine)
    [bad] = many(engine, 1, email="not-an-address")
    [locked] = many(engine, 1, email="locked@example.com")
    [lost] = many(engine, 1, email="lost@example.com")
    org.set_faults(
        [
            {"kind": FaultKind.PER_RECORD_ERROR, "match": "locked@", "category": "UNABLE_TO_LOCK_ROW"},
            {"kind": FaultKind.UNREPORTED, "match": "lost@"},
        ]
    )
    settings = settings_for(org.base_url, above=20)
    report = sync(engine, settings, clock)

    assert (report.delivered, report.retried, report.dead) == (30, 2, 1)
    assert states(engine, good) == {"delivered"}
    assert [row_of(engine, item)["last_verdict"] for item in (bad, locked, lost)] == ["invalid", "locked", "ambiguous"]
    org.set_faults([])
    clock.advance(3600)
    assert sync(engine, settings, clock).delivered == 2
    assert set(keys_held(org).values()) == {1}


def test_a_job_that_salesforce_refuses_for_a_field_parks_the_destination_and_kills_no_contact(
    engine: sa.Engine, clock: FrozenClock, org: SandboxServer
) -> None:
    text = settings_for(org.base_url, above=20).model_dump(mode="json", by_alias=True)
    text["destinations"]["salesforce"]["mapping"]["company"] = "No_Such_Field__c"
    settings = Settings.model_validate(text)
    contacts = many(engine)
    report = sync(engine, settings, clock)

    assert (report.delivered, report.dead) == (0, 0)
    assert states(engine, contacts) == {"waiting"}
    assert "salesforce" in report.parked


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("place", range(JOB_REQUESTS))
def test_a_process_that_is_killed_at_any_request_of_a_job_loses_nothing_and_doubles_nothing(
    engine: sa.Engine, clock: FrozenClock, org: SandboxServer, place: int, after: bool
) -> None:
    settings, contacts = settings_for(org.base_url, above=20), many(engine)
    client: CrmClient = Dying(settings, place=place, after=after)  # type: ignore[assignment]  # it is, and a JobClient
    with pytest.raises(Killed):
        sync(engine, settings, clock, clients={"salesforce": client})
    client.close()

    finish(engine, settings, clock)

    assert states(engine, contacts) == {"delivered"}
    assert keys_held(org) == {contact.contact_id: 1 for contact in contacts}
    assert set(org.writes_per_lead_key().values()) == {1}  # no second job did the same again


def test_a_job_that_hangs_is_aborted_at_its_deadline_and_its_contacts_are_sent_again(
    engine: sa.Engine, clock: FrozenClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SECRET_ENV, "a-secret")
    with running_sandbox(SalesforceOptions(token="a-secret", job_seconds=10**6), clock=clock) as org:
        settings, contacts = settings_for(org.base_url, above=20), many(engine)
        sync(engine, settings, clock)
        clock.advance(3601)
        sync(engine, settings, clock)
        clock.advance(10)
        assert sync(engine, settings, clock).retried == 30
        clock.advance(3600)
        # One at a time below the threshold, as people have set it meanwhile.
        assert sync(engine, settings_for(org.base_url, above="null"), clock).delivered == 30
        assert keys_held(org) == {contact.contact_id: 1 for contact in contacts}


def test_a_limit_that_is_reached_gives_the_contacts_back(
    engine: sa.Engine, clock: FrozenClock, org: SandboxServer
) -> None:
    contacts = many(engine)
    org.set_faults([{"kind": FaultKind.QUOTA_SPENT, "endpoint": "jobs/create"}])
    report = sync(engine, settings_for(org.base_url, above=20), clock)

    assert (report.delivered, report.dead, report.throttled) == (0, 0, 1)
    assert states(engine, contacts) == {"waiting"}
    assert {row["attempts"] for row in outbox_rows(engine).values()} == {0}
