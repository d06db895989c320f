"""Many contacts as one job of Bulk API 2.0: persisted, held by nobody, taken further by whoever comes."""

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from click.testing import CliRunner

from leads_pipeline.cli import cli
from leads_pipeline.clock import FrozenClock
from leads_pipeline.config import Settings
from leads_pipeline.crm.clients import build_clients
from leads_pipeline.crm.port import CrmClient, CrmRequest, CrmResponse
from leads_pipeline.crm.sandbox.running import SandboxServer, running_sandbox
from leads_pipeline.crm.sandbox.salesforce.options import SalesforceOptions
from leads_pipeline.domain.stage import ALL_LANES, Lane
from leads_pipeline.sandbox.faults import FaultKind
from leads_pipeline.steps.crm_sync_batches import plan_sync
from leads_pipeline.storage.bulk_jobs import open_jobs, take_job
from leads_pipeline.storage.outbox_demand import erase
from leads_pipeline_tests.crm.delivering import Contact, add_contacts, change, outbox_rows, row_of, states, sync
from leads_pipeline_tests.crm.salesforce_org import SECRET_ENV, keys_held, settings_for, yaml_for

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
        assert open_jobs(connection) == []
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


def test_what_is_urgent_goes_before_each_job(engine: sa.Engine, clock: FrozenClock, org: SandboxServer) -> None:
    many(engine, 500)
    [urgent] = add_contacts(engine, lane=Lane.REAL_TIME, destination="salesforce", company="Analytical Engines")
    org.set_faults([{"kind": FaultKind.SLOW, "match": urgent.email, "endpoint": "collections/upsert"}])
    assert sync(engine, settings_for(org.base_url, above=20, most=100), clock).delivered == 501

    asked = [item["endpoint"] for item in org.arrivals() if item["endpoint"] in ("collections/upsert", "jobs/create")]
    # What is left of the urgent contact's request is filled up with others, and three jobs leave one contact over.
    assert asked == ["collections/upsert", "jobs/create", "jobs/create", "jobs/create", "collections/upsert"]
    assert org.faults()[0]["fired"] == 1


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
        with engine.connect() as connection:
            assert [(item.destination, item.jobs, item.records) for item in open_jobs(connection)] == [
                ("salesforce", 1, 30)
            ]
        clock.advance(10)
        assert planned() == {"salesforce": 1}
        assert sync(engine, settings, clock).delivered == 0
        clock.advance(300)
        assert sync(engine, settings, clock).delivered == 30
        assert planned() == {}


def test_a_session_that_ends_while_a_job_is_at_work_is_renewed(
    engine: sa.Engine, clock: FrozenClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SECRET_ENV, "a-secret")
    with running_sandbox(SalesforceOptions(token="a-secret", job_seconds=300), clock=clock) as org:
        settings = settings_for(org.base_url, above=20)
        many(engine)
        sync(engine, settings, clock)
        org.expire_tokens()
        clock.advance(300)
        report = sync(engine, settings, clock)
    assert (report.delivered, dict(report.parked)) == (30, {})


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


def test_a_job_that_salesforce_refuses_for_a_field_is_made_again_without_it_and_kills_no_contact(
    engine: sa.Engine, clock: FrozenClock, org: SandboxServer
) -> None:
    text = settings_for(org.base_url, above=20).model_dump(mode="json", by_alias=True)
    text["destinations"]["salesforce"]["mapping"]["city"] = "No_Such_Field__c"
    settings = Settings.model_validate(text)
    contacts = many(engine, city="Graz")
    report = sync(engine, settings, clock)

    assert (report.delivered, report.dead) == (0, 0)
    assert states(engine, contacts) == {"waiting"}
    clock.advance(10)
    assert sync(engine, settings, clock).delivered == len(contacts)
    row = row_of(engine, contacts[0])
    assert (row["withheld"], row["attempts"]) == ({"No_Such_Field__c": "refused"}, 0)


def test_without_an_access_token_no_job_holds_the_contacts_and_the_destination_is_parked(
    engine: sa.Engine, clock: FrozenClock, org: SandboxServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SECRET_ENV, "of-yesterday")
    contacts = many(engine)
    report = sync(engine, settings_for(org.base_url, above=20), clock)

    assert (report.parked["salesforce"].reason, report.dead) == ("auth", 0)
    assert states(engine, contacts) == {"waiting"}
    assert {row["attempts"] for row in outbox_rows(engine).values()} == {0}
    with engine.connect() as connection:
        assert open_jobs(connection) == []


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


class Befalling(Dying):
    """Salesforce's client; ``befall`` is called at the first request of ``purpose``: once it is answered, or before."""

    def __init__(self, settings: Settings, *, purpose: str, befall: Callable[[], object], after: bool = True) -> None:
        super().__init__(settings, place=-1, after=False)
        self._purpose, self._befall, self._answered = purpose, [befall], after

    def send(self, request: CrmRequest) -> CrmResponse:
        befall = self._befall.pop() if request.purpose == self._purpose and self._befall else None
        if befall is not None and not self._answered:
            befall()
        response = super().send(request)
        if befall is not None and self._answered:
            befall()
        return response


@pytest.mark.parametrize("finishes", [True, False], ids=["finishes", "dies"])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("purpose", ["bulk_create", "bulk_upload", "bulk_close", "bulk_poll", "bulk_results"])
def test_who_is_slower_than_their_lease_leaves_the_job_to_whoever_took_it(
    engine: sa.Engine, clock: FrozenClock, org: SandboxServer, purpose: str, after: bool, finishes: bool
) -> None:
    settings, contacts = settings_for(org.base_url, above=20), many(engine)

    def killed() -> None:
        raise Killed

    def somebody_else() -> None:
        clock.advance(75)  # longer than the lease of a step: two time-outs of five seconds, and a minute
        if finishes:
            sync(engine, settings, clock)
            return
        dying = Befalling(settings, purpose="bulk_results", befall=killed, after=False)
        with pytest.raises(Killed):
            sync(engine, settings, clock, clients={"salesforce": dying})  # type: ignore[dict-item]  # it is a JobClient

    client = Befalling(settings, purpose=purpose, befall=somebody_else, after=after)
    sync(engine, settings, clock, clients={"salesforce": client})  # type: ignore[dict-item]  # it is a JobClient
    finish(engine, settings, clock)

    assert states(engine, contacts) == {"delivered"}
    assert set(org.writes_per_lead_key().values()) == {1}
    with engine.connect() as connection:
        assert open_jobs(connection) == []


@pytest.mark.parametrize("purpose", ["bulk_create", "bulk_upload"])
def test_who_is_erased_before_a_job_is_closed_is_not_in_it(
    engine: sa.Engine, clock: FrozenClock, org: SandboxServer, purpose: str
) -> None:
    settings, [gone, *others] = settings_for(org.base_url, above=20), many(engine)

    def erased() -> None:
        with engine.begin() as connection:
            erase(connection, [gone.contact_id], tenant="acme", now=clock.now())

    client = Befalling(settings, purpose=purpose, befall=erased)
    sync(engine, settings, clock, clients={"salesforce": client})  # type: ignore[dict-item]  # it is a JobClient
    finish(engine, settings, clock)
    assert keys_held(org) == {contact.contact_id: 1 for contact in others}
    assert states(engine, others) == {"delivered"}
    assert str(gone.contact_id) not in org.writes_per_lead_key()
    assert (row_of(engine, gone)["operation"], row_of(engine, gone)["state"]) == ("erase", "delivered")


@pytest.mark.parametrize("purpose", ["bulk_create", "bulk_upload"])
def test_a_job_of_which_nobody_may_go_any_more_is_given_up(
    engine: sa.Engine, clock: FrozenClock, org: SandboxServer, purpose: str
) -> None:
    settings, contacts = settings_for(org.base_url, above=20), many(engine)

    def changed() -> None:
        for contact in contacts:
            change(engine, contact, first_name="Augusta")

    client = Befalling(settings, purpose=purpose, befall=changed)
    sync(engine, settings, clock, clients={"salesforce": client})  # type: ignore[dict-item]  # it is a JobClient
    finish(engine, settings, clock)
    assert {item["properties"]["FirstName"] for item in org.contacts()} == {"Augusta"}
    assert set(org.writes_per_lead_key().values()) == {1}
    with engine.connect() as connection:
        assert open_jobs(connection) == []


@pytest.mark.parametrize(
    ("point", "number"),
    [
        ("written down", 1),
        *(("asked", number) for number in (2, 3, 4, 5, JOB_REQUESTS)),  # made, handed over, closed, done, told
        *(("noted", number) for number in (1, 2, 3)),
        ("settled", 1),
        ("ended", 1),
    ],
)
def test_a_job_outlives_a_process_that_is_killed_with_9(
    engine: sa.Engine, clock: FrozenClock, org: SandboxServer, point: str, number: int
) -> None:
    contacts = many(engine)
    url = engine.url.render_as_string(hide_password=False)
    command = [sys.executable, "-m", "leads_pipeline_tests.crm.bulk_process", url, org.base_url, point, str(number)]
    assert subprocess.run(command, check=False, capture_output=True, timeout=120).returncode == -signal.SIGKILL

    finish(engine, settings_for(org.base_url, above=20), clock)

    assert states(engine, contacts) == {"delivered"}
    assert keys_held(org) == {contact.contact_id: 1 for contact in contacts}
    assert set(org.writes_per_lead_key().values()) == {1}


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


@pytest.mark.parametrize(
    ("kind", "verdict"), [(FaultKind.REFUSED_400, "auth"), (FaultKind.WRITTEN_THEN_RESET, "transient")]
)
def test_contacts_whose_upload_fails_wait_without_a_job(
    engine: sa.Engine, clock: FrozenClock, org: SandboxServer, kind: FaultKind, verdict: str
) -> None:
    contacts = many(engine)
    org.set_faults([{"kind": kind, "endpoint": "jobs/upload"}])
    report = sync(engine, settings_for(org.base_url, above=20), clock)

    assert {row["last_verdict"] for row in outbox_rows(engine).values()} == {verdict}
    assert states(engine, contacts) == {"waiting"}
    assert org.report()["endpoints"]["jobs/create"] == 1
    assert [item.reason for item in report.parked.values()] == (["auth"] if verdict == "auth" else [])


def test_a_job_that_somebody_deleted_before_it_was_closed_is_made_again(
    engine: sa.Engine, clock: FrozenClock, org: SandboxServer
) -> None:
    settings, contacts = settings_for(org.base_url, above=20), many(engine)
    org.set_faults([{"kind": FaultKind.HTTP_503, "endpoint": "jobs/state"}])
    sync(engine, settings, clock)
    with engine.begin() as connection:
        assert connection.execute(sa.text("select step from bulk_jobs")).scalar_one() == "uploaded"
        connection.execute(sa.text("update bulk_jobs set crm_job_id = '7500000000000ZZAAA'"))
    org.set_faults([])
    clock.advance(61)
    assert sync(engine, settings, clock).delivered == 30
    assert states(engine, contacts) == {"delivered"}


@pytest.mark.parametrize("endpoint", ["jobs/state", "jobs/read"])
def test_a_job_that_may_not_be_asked_about_parks_the_destination_and_ends_with_its_claims(
    engine: sa.Engine, clock: FrozenClock, org: SandboxServer, endpoint: str
) -> None:
    settings, [gone, *others] = settings_for(org.base_url, above=20), many(engine)
    org.set_faults([{"kind": FaultKind.FORBIDDEN_403, "endpoint": endpoint}])
    report = sync(engine, settings, clock)
    assert (report.parked["salesforce"].reason, report.parked["salesforce"].code) == ("auth", "HTTP_403")
    with engine.begin() as connection:
        held = sa.text("select count(*) from bulk_jobs where strpos(cast(batch as text), :email) > 0")
        assert connection.execute(held, {"email": gone.email}).scalar_one() == 1
        erase(connection, [gone.contact_id], tenant="acme", now=clock.now())
        # What became of the others is still told.
        assert connection.execute(held, {"email": gone.email}).scalar_one() == 0
        assert connection.execute(held, {"email": others[0].email}).scalar_one() == 1

    clock.advance(7201)  # the job's hour, and the one for which its claims outlive it
    sync(engine, settings, clock)
    with engine.connect() as connection:
        assert open_jobs(connection) == []
        assert connection.execute(sa.text("select count(*) from bulk_jobs where batch is not null")).scalar_one() == 0
    org.set_faults([])
    finish(engine, settings, clock)
    assert keys_held(org) == {contact.contact_id: 1 for contact in others}
    assert states(engine, others) == {"delivered"}


def test_a_limit_that_is_reached_gives_the_contacts_back(
    engine: sa.Engine, clock: FrozenClock, org: SandboxServer
) -> None:
    contacts = many(engine)
    org.set_faults([{"kind": FaultKind.QUOTA_SPENT, "endpoint": "jobs/create"}])
    report = sync(engine, settings_for(org.base_url, above=20), clock)

    assert (report.delivered, report.dead, report.throttled) == (0, 0, 1)
    assert states(engine, contacts) == {"waiting"}
    assert {row["attempts"] for row in outbox_rows(engine).values()} == {0}


def test_what_is_under_way_in_jobs_shows_in_the_status(
    engine: sa.Engine, clock: FrozenClock, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(SECRET_ENV, "a-secret")
    monkeypatch.setenv("LEADS_DATABASE_URL", engine.url.render_as_string(hide_password=False))
    with running_sandbox(SalesforceOptions(token="a-secret", job_seconds=300), clock=clock) as org:
        many(engine)
        sync(engine, settings_for(org.base_url, above=20), clock)
        config = tmp_path / "leads.yaml"
        config.write_text(yaml_for(org.base_url, above=20), encoding="utf-8")
        shown = CliRunner().invoke(cli, ["--config", str(config), "status"])

    assert shown.exit_code == 0, shown.output
    assert "salesforce works on 30 contacts in bulk jobs: 1" in shown.output


def test_of_two_processes_one_takes_a_job_that_is_due(
    engine: sa.Engine, clock: FrozenClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SECRET_ENV, "a-secret")
    with running_sandbox(SalesforceOptions(token="a-secret", job_seconds=300), clock=clock) as org:
        many(engine)
        sync(engine, settings_for(org.base_url, above=20), clock)
    clock.advance(10)
    lease = timedelta(seconds=70)
    with engine.begin() as one, engine.begin() as other:
        taken = take_job(one, "salesforce", lease=lease, now=clock.now())
        assert taken is not None
        assert take_job(other, "salesforce", lease=lease, now=clock.now()) is None
    with engine.begin() as later:
        assert take_job(later, "salesforce", lease=lease, now=clock.now()) is None
        again = take_job(later, "salesforce", lease=lease, now=clock.now() + lease)
    assert again is not None
    assert again.job_id == taken.job_id
