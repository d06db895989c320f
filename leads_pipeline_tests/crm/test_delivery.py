"""Delivery to the sandbox over real HTTP: every class of verdict, and what each does to the outbox."""

import json
from datetime import timedelta

import pytest
import sqlalchemy as sa

from leads_pipeline.clock import FrozenClock
from leads_pipeline.crm.sandbox.hubspot.options import HubSpotOptions
from leads_pipeline.crm.sandbox.running import SandboxServer, running_sandbox
from leads_pipeline.domain.retry import AUTH_PAUSE
from leads_pipeline.domain.stage import ALL_LANES
from leads_pipeline.steps.crm_sync_batches import deliver, plan_sync
from leads_pipeline.storage.outbox import claim
from leads_pipeline_tests.crm.delivering import (
    TOKEN,
    add_contacts,
    change,
    merge_away,
    outbox_rows,
    row_of,
    settings_for,
    states,
    sync,
)


def _by_key(sandbox: SandboxServer) -> dict[str, dict[str, str]]:
    return {c["properties"]["lead_key"]: c["properties"] for c in sandbox.contacts() if "lead_key" in c["properties"]}


def test_a_contact_arrives_with_its_mapped_fields_and_its_key(
    engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer
) -> None:
    [contact] = add_contacts(engine, first_name="Grace", job_title="Admiral")
    report = sync(engine, settings_for(sandbox.base_url), clock)
    [stored] = sandbox.contacts()
    assert stored["properties"]["lead_key"] == str(contact.contact_id)
    assert stored["properties"]["email"] == contact.email
    assert (stored["properties"]["firstname"], stored["properties"]["jobtitle"]) == ("Grace", "Admiral")
    row = row_of(engine, contact)
    assert (row["state"], row["delivered_version"], row["crm_record_id"]) == ("delivered", 1, stored["id"])
    assert (report.delivered, report.requests, report.records, report.retried, report.dead) == (1, 1, 1, 0, 0)


def test_five_hundred_contacts_take_five_requests_and_are_written_once_each(
    engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer
) -> None:
    add_contacts(engine, 500)
    report = sync(engine, settings_for(sandbox.base_url), clock)
    assert (report.delivered, report.requests) == (500, 5)
    assert set(sandbox.writes_per_lead_key().values()) == {1}
    with engine.connect() as connection:
        booked = connection.execute(
            sa.text("select count(*), sum(delivered), min(http_status), count(answered_at) from crm_sync_batches")
        ).one()
        tried = connection.execute(
            sa.text("select count(*) from sync_attempts where verdict = 'delivered' and settled_at is not null")
        ).scalar_one()
    assert tuple(booked) == (5, 500, 200, 5)
    assert tried == 500


def test_delivering_again_changes_nothing_and_asks_nothing(
    engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer
) -> None:
    add_contacts(engine, 3)
    sync(engine, settings_for(sandbox.base_url), clock)
    again = sync(engine, settings_for(sandbox.base_url), clock)
    assert (again.delivered, again.requests) == (0, 0)


def test_a_field_that_is_no_longer_known_is_cleared_and_one_that_the_crm_filled_in_is_left(
    engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer
) -> None:
    [contact] = add_contacts(engine, company="Analytical Engines", city=None)
    sync(engine, settings_for(sandbox.base_url), clock)
    [stored] = sandbox.contacts()
    _patch(sandbox, stored["id"], {"city": "London"})
    change(engine, contact, company=None)
    sync(engine, settings_for(sandbox.base_url), clock)
    [stored] = sandbox.contacts()
    assert stored["properties"].get("company", "") == ""
    assert stored["properties"]["city"] == "London"


@pytest.mark.parametrize("kind", ["http_503", "http_500", "http_502", "reset_connection", "silent_200"])
def test_what_a_request_as_a_whole_suffers_is_tried_again_later(
    kind: str, engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer
) -> None:
    contacts = add_contacts(engine, 5)
    sandbox.set_faults([{"kind": kind, "count": 1}])
    first = sync(engine, settings_for(sandbox.base_url), clock)
    assert (first.delivered, first.retried, first.dead) == (0, 5, 0)
    rows = outbox_rows(engine)
    assert states(engine, contacts) == {"waiting"}
    assert all(row["attempts"] == 1 and row["due_at"] > clock.now() for row in rows.values())
    assert sync(engine, settings_for(sandbox.base_url), clock).requests == 0  # not due yet
    clock.advance(2)
    assert sync(engine, settings_for(sandbox.base_url), clock).delivered == 5


@pytest.mark.parametrize("kind", ["written_then_500", "written_then_reset"])
def test_what_was_written_and_not_confirmed_is_sent_again_and_not_doubled(
    kind: str, engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer
) -> None:
    contacts = add_contacts(engine, 5)
    sandbox.set_faults([{"kind": kind, "count": 1}])
    assert sync(engine, settings_for(sandbox.base_url), clock).retried == 5
    assert {row["last_verdict"] for row in outbox_rows(engine).values()} == {"ambiguous"}
    clock.advance(2)
    assert sync(engine, settings_for(sandbox.base_url), clock).delivered == 5
    report = sandbox.report()
    assert (report["contacts"], report["duplicates"]) == (5, 0)
    assert states(engine, contacts) == {"delivered"}


def test_a_time_out_is_ambiguous(engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer) -> None:
    [contact] = add_contacts(engine)
    sandbox.set_faults([{"kind": "written_then_timeout", "count": 1}])
    sync(engine, settings_for(sandbox.base_url, timeout_seconds=1), clock)
    assert row_of(engine, contact)["last_verdict"] == "ambiguous"
    clock.advance(2)
    assert sync(engine, settings_for(sandbox.base_url), clock).delivered == 1
    assert sandbox.report()["contacts"] == 1


def test_a_crm_that_cannot_be_reached_is_transient(engine: sa.Engine, clock: FrozenClock) -> None:
    [contact] = add_contacts(engine)
    report = sync(engine, settings_for("http://127.0.0.1:9"), clock)
    assert report.retried == 1
    assert row_of(engine, contact)["last_verdict"] == "transient"


def test_a_429_pauses_the_account_and_burns_no_attempt(
    engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer
) -> None:
    contacts = add_contacts(engine, 2)
    sandbox.set_faults([{"kind": "http_429", "count": 1}])
    report = sync(engine, settings_for(sandbox.base_url, run_seconds=1), clock)
    assert (report.throttled, report.retried) == (1, 2)
    assert {(row["last_verdict"], row["attempts"]) for row in outbox_rows(engine).values()} == {("throttled", 0)}
    assert all(row["due_at"] >= clock.now() + timedelta(seconds=10) for row in outbox_rows(engine).values())
    clock.advance(11)
    parked = sync(engine, settings_for(sandbox.base_url, run_seconds=1), clock)
    assert parked.requests == 0  # the account's pause runs by the database's clock and has only begun
    assert parked.parked["hubspot"].reason == "paused"
    assert states(engine, contacts) == {"waiting"}


def test_what_an_answer_says_of_the_quota_reaches_the_limiter(engine: sa.Engine, clock: FrozenClock) -> None:
    def remembered() -> sa.Row:
        with engine.connect() as connection:
            return connection.execute(sa.text("select foreign_use, scale, paused_until from rate_limits")).one()

    with running_sandbox(HubSpotOptions(token=TOKEN, requests=100, window_seconds=10, daily=5000)) as limited:
        settings = settings_for(limited.base_url, requests=100, seconds=10, daily=5000)
        add_contacts(engine)
        assert sync(engine, settings, clock).quota_remaining == {"hubspot window": 99, "hubspot daily": 4999}
        assert remembered() == ({}, 1.0, None)
        for number in range(30):
            _create(limited, {"email": f"{number}@example.com"})
        add_contacts(engine)
        sync(engine, settings, clock)
        assert remembered().foreign_use  # another application uses the quota as well
        limited.set_faults([{"kind": "http_429", "count": 1}])
        add_contacts(engine)
        sync(engine, settings_for(limited.base_url, requests=100, seconds=10, daily=5000, run_seconds=1), clock)
    assert remembered().paused_until is not None
    assert remembered().scale < 1  # nothing that is known explains the refusal


@pytest.mark.parametrize("kind", ["auth", "forbidden_403"])
def test_refused_credentials_park_the_destination_and_burn_no_attempt(
    kind: str, engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer
) -> None:
    add_contacts(engine, 250)
    sandbox.set_faults([{"kind": kind}])
    settings = settings_for(sandbox.base_url, in_flight=1)
    report = sync(engine, settings, clock)
    assert report.requests == 1
    assert report.parked["hubspot"].reason == "auth"
    assert report.parked_until == clock.now() + AUTH_PAUSE
    assert {row["attempts"] for row in outbox_rows(engine).values()} == {0}
    plan = plan_sync(engine, settings=settings, lanes=ALL_LANES, limit=1000, now=clock.now())
    assert (plan.by_destination, set(plan.parked.destinations)) == ({}, {"hubspot"})
    sandbox.clear_faults()
    clock.advance(AUTH_PAUSE.total_seconds())
    assert sync(engine, settings, clock).delivered == 250


def test_a_locked_record_waits_at_least_two_seconds(
    engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer
) -> None:
    [contact] = add_contacts(engine)
    sandbox.set_faults([{"kind": "locked_423", "count": 1}])
    sync(engine, settings_for(sandbox.base_url), clock, jitter=lambda: 0.0)
    row = row_of(engine, contact)
    assert (row["last_verdict"], row["due_at"]) == ("locked", clock.now() + timedelta(seconds=2))


def test_an_invalid_record_dies_at_once_with_its_payload_and_its_neighbours_arrive(
    engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer
) -> None:
    good = add_contacts(engine, 20)
    [bad] = add_contacts(engine, email="not-an-address")
    report = sync(engine, settings_for(sandbox.base_url), clock)
    assert (report.delivered, report.dead, report.retried) == (20, 1, 0)
    assert states(engine, good) == {"delivered"}
    assert row_of(engine, bad)["state"] == "dead"
    with engine.connect() as connection:
        letter = connection.execute(sa.text("select * from dead_letters")).one()
    assert (letter.outbox_id, letter.reason, letter.code) == (bad.outbox_id, "invalid", "INVALID_EMAIL")
    assert letter.payload["email"] == "not-an-address"
    assert (letter.version, letter.attempts, letter.resolved_at) == (1, 1, None)
    assert sync(engine, settings_for(sandbox.base_url), clock).requests == 0


def test_a_dead_contact_that_changes_is_sent_again_and_its_letter_is_closed(
    engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer
) -> None:
    [bad] = add_contacts(engine, email="not-an-address")
    sync(engine, settings_for(sandbox.base_url), clock)
    change(engine, bad, email="ada@example.com")
    assert sync(engine, settings_for(sandbox.base_url), clock).delivered == 1
    with engine.connect() as connection:
        assert connection.execute(sa.text("select resolution from dead_letters")).scalars().all() == ["superseded"]


def test_refusals_of_one_class_do_not_use_up_another_s_budget(
    engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer
) -> None:
    [contact] = add_contacts(engine)
    settings = settings_for(sandbox.base_url, max_attempts=2)
    for kind in ("http_503", "locked_423"):
        sandbox.set_faults([{"kind": kind, "count": 1}])
        assert sync(engine, settings, clock).retried == 1
        clock.advance(3600)
    row = row_of(engine, contact)
    assert (row["attempts"], row["failures"]) == (2, {"transient": 1, "locked": 1})
    assert sync(engine, settings, clock).delivered == 1
    assert row_of(engine, contact)["failures"] == {}


def test_a_record_that_fails_for_ever_dies_when_its_budget_is_spent(
    engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer
) -> None:
    [contact] = add_contacts(engine)
    sandbox.set_faults([{"kind": "http_503"}])
    settings = settings_for(sandbox.base_url, max_attempts=3)
    outcomes = []
    for _ in range(3):
        report = sync(engine, settings, clock)
        outcomes.append((report.retried, report.dead))
        clock.advance(3600)
    assert outcomes == [(1, 0), (1, 0), (0, 1)]
    assert row_of(engine, contact)["state"] == "dead"


def test_an_email_that_a_record_without_our_key_holds_is_taken_over(
    engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer
) -> None:
    _create(sandbox, {"email": "ada@example.com", "city": "London"})
    [contact] = add_contacts(engine, email="ada@example.com", first_name="Ada")
    neighbours = add_contacts(engine, 3)
    report = sync(engine, settings_for(sandbox.base_url), clock)
    assert (report.delivered, report.retried, report.requests) == (4, 0, 3)  # upsert, look-up, link
    stored = _by_key(sandbox)[str(contact.contact_id)]
    assert (stored["email"], stored["firstname"], stored["city"]) == ("ada@example.com", "Ada", "London")
    assert sandbox.report()["contacts"] == 1 + len(neighbours)


def test_an_email_that_another_of_our_contacts_holds_is_never_taken_over(
    engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer
) -> None:
    [holder] = add_contacts(engine, email="ada@example.com")
    settings = settings_for(sandbox.base_url)
    sync(engine, settings, clock)
    with engine.begin() as connection:  # our rows say that the address has moved; the CRM has not heard of it
        connection.execute(sa.text("update golden_contacts set email = 'new@example.com', email_key = 'new'"))
    [taker] = add_contacts(engine, email="ada@example.com")
    assert sync(engine, settings, clock).retried == 1
    assert row_of(engine, taker)["last_verdict"] == "conflict"
    assert _by_key(sandbox).keys() == {str(holder.contact_id)}
    change(engine, holder)
    clock.advance(4)
    sync(engine, settings, clock, jitter=lambda: 0.0)
    clock.advance(90)  # a conflict's first wait
    sync(engine, settings, clock)
    assert {key: stored["email"] for key, stored in _by_key(sandbox).items()} == {
        str(holder.contact_id): "new@example.com",
        str(taker.contact_id): "ada@example.com",
    }


def test_a_contact_that_has_a_crm_record_does_not_take_over_a_second_one(
    engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer
) -> None:
    [contact] = add_contacts(engine, email="ada@example.com")
    settings = settings_for(sandbox.base_url)
    sync(engine, settings, clock)
    _create(sandbox, {"email": "new@example.com"})
    change(engine, contact, email="new@example.com")
    report = sync(engine, settings, clock)
    assert (report.retried, report.requests) == (1, 1)
    assert [c["properties"].get("lead_key") for c in sandbox.contacts()] == [str(contact.contact_id), None]


def test_the_lease_of_a_batch_that_needs_many_requests_is_extended(
    engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer
) -> None:
    from leads_pipeline.crm.clients import build_clients

    _create(sandbox, {"email": "ada@example.com"})
    [contact] = add_contacts(engine, email="ada@example.com")
    settings = settings_for(sandbox.base_url, run_seconds=600)
    client = build_clients(settings)["hubspot"]
    stolen = []

    class TakesAMinuteARequest:
        deliver, close, traits = client.deliver, client.close, client.traits

        def send(self, request):
            clock.advance(60)
            with engine.begin() as connection:
                now = clock.now()
                stolen.extend(claim(connection, [contact.outbox_id], token="thief", until=now, now=now))
            return client.send(request)

    report = sync(engine, settings, clock, clients={"hubspot": TakesAMinuteARequest()})
    client.close()
    assert (report.delivered, report.requests, stolen) == (1, 3, [])


def test_a_batch_whose_lease_another_worker_has_taken_over_sends_nothing_more(
    engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer
) -> None:
    """It would write an old version over the newer one that the other worker may have sent meanwhile."""
    from leads_pipeline.crm.clients import build_clients

    _create(sandbox, {"email": "ada@example.com"})
    taken_over, left = add_contacts(engine, email="ada@example.com"), add_contacts(engine)
    settings = settings_for(sandbox.base_url, run_seconds=6000)
    client = build_clients(settings)["hubspot"]

    class TakesAnHour:
        deliver, close, traits = client.deliver, client.close, client.traits

        def send(self, request):
            response = client.send(request)
            clock.advance(3600)
            with engine.begin() as connection:
                now = clock.now()
                until = now + timedelta(hours=2)
                claim(connection, [taken_over[0].outbox_id], token="other", until=until, now=now)
            return response

    report = sync(engine, settings, clock, clients={"hubspot": TakesAnHour()})
    client.close()
    assert report.requests == 1
    assert row_of(engine, taken_over[0])["claimed_by"] == "other"
    assert row_of(engine, left[0])["state"] == "delivered"
    with engine.connect() as connection:
        assert connection.execute(sa.text("select daily ->> 'used' from rate_limits")).scalar_one() == "1"


def test_a_plan_that_was_carried_out_already_asks_nothing_and_costs_no_quota(
    engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer
) -> None:
    add_contacts(engine, 3)
    settings = settings_for(sandbox.base_url)
    plan = plan_sync(engine, settings=settings, lanes=ALL_LANES, limit=10, now=clock.now())
    reports = [deliver(engine, plan, settings=settings, clock=clock, runner_id="test") for _ in range(2)]
    assert [(report.delivered, report.requests) for report in reports] == [(3, 1), (0, 0)]
    with engine.connect() as connection:
        assert connection.execute(sa.text("select daily ->> 'used' from rate_limits")).scalar_one() == "1"


def test_a_row_whose_contact_is_gone_is_cancelled_and_not_sent(
    engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer
) -> None:
    [contact] = add_contacts(engine)
    with engine.begin() as connection:
        connection.execute(sa.text("delete from golden_contacts"))
    report = sync(engine, settings_for(sandbox.base_url), clock)
    assert (report.cancelled, report.requests) == (1, 0)
    assert row_of(engine, contact)["state"] == "cancelled"


def test_a_merged_away_contact_is_archived_before_its_survivor_takes_its_email(
    engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer
) -> None:
    [loser] = add_contacts(engine, email="ada@example.com")
    [survivor] = add_contacts(engine, email="byron@example.com")
    settings = settings_for(sandbox.base_url)
    sync(engine, settings, clock)
    merge_away(engine, loser)
    change(engine, survivor, email="ada@example.com")
    report = sync(engine, settings, clock)
    assert (report.delivered, report.retried, report.dead) == (2, 0, 0)
    assert {key: stored["email"] for key, stored in _by_key(sandbox).items()} == {
        str(survivor.contact_id): "ada@example.com"
    }
    assert row_of(engine, loser)["state"] == "delivered"
    assert sandbox.report()["archived"] == 1


def test_archiving_what_the_crm_does_not_have_is_done(
    engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer
) -> None:
    contacts = add_contacts(engine, 2)
    settings = settings_for(sandbox.base_url)
    sync(engine, settings, clock)
    _archive(sandbox, str(row_of(engine, contacts[0])["crm_record_id"]))
    for contact in contacts:
        merge_away(engine, contact)
    assert sync(engine, settings, clock).delivered == 2
    assert states(engine, contacts) == {"delivered"}


def test_an_old_id_that_leads_to_another_contact_is_not_archived(
    engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer
) -> None:
    """Somebody merges our two records in the CRM: the loser's id now leads to the survivor."""
    loser, survivor = add_contacts(engine, 2)
    settings = settings_for(sandbox.base_url)
    sync(engine, settings, clock)
    ids = {"primaryObjectId": row_of(engine, survivor)["crm_record_id"],
           "objectIdToMerge": row_of(engine, loser)["crm_record_id"]}  # fmt: skip
    _post(sandbox, "/crm/v3/objects/contacts/merge", ids)
    merge_away(engine, loser)
    assert sync(engine, settings, clock).delivered == 1
    assert _by_key(sandbox).keys() == {str(survivor.contact_id)}


def test_a_contact_that_changes_while_it_is_under_way_waits_again_with_a_fresh_budget(
    engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer
) -> None:
    from leads_pipeline.crm.clients import build_clients

    [contact] = add_contacts(engine)
    settings = settings_for(sandbox.base_url)
    client = build_clients(settings)["hubspot"]

    seen = []

    class ChangesMeanwhile:
        send, close, traits = client.send, client.close, client.traits

        def deliver(self, records, *, courier):
            row = row_of(engine, contact)
            seen.append((row["delivered_version"], row["wanted_version"], row["attempts"]))
            verdicts = client.deliver(records, courier=courier)
            if len(seen) == 1:
                change(engine, contact, first_name="Augusta")
            return verdicts

    sync(engine, settings, clock, clients={"hubspot": ChangesMeanwhile()})
    client.close()
    assert seen == [(None, 1, 0), (1, 2, 0)]
    assert _by_key(sandbox)[str(contact.contact_id)]["firstname"] == "Augusta"
    assert row_of(engine, contact)["state"] == "delivered"


def test_the_daily_quota_is_spent_to_the_last_request_and_then_the_destination_is_parked(
    engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer
) -> None:
    add_contacts(engine, 30)
    settings = settings_for(sandbox.base_url, batch_size=10, daily=2)
    report = sync(engine, settings, clock)
    assert (report.delivered, report.requests) == (20, 2)
    assert report.parked["hubspot"].reason == "daily"
    assert report.parked_until is not None
    plan = plan_sync(engine, settings=settings, lanes=ALL_LANES, limit=1000, now=clock.now())
    assert (plan.by_destination, plan.parked.destinations["hubspot"].reason) == ({}, "daily")
    raised = settings_for(sandbox.base_url, batch_size=10, daily=3)
    assert sync(engine, raised, clock).delivered == 10


def test_tenants_that_share_an_account_take_turns(
    engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer
) -> None:
    add_contacts(engine, 100, tenant="acme")
    small = add_contacts(engine, 10, tenant="globex")
    settings = settings_for(sandbox.base_url, batch_size=10, daily=2, in_flight=1)
    assert sync(engine, settings, clock).delivered == 20
    assert states(engine, small) == {"delivered"}


def test_the_crm_s_books_and_ours_agree(engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer) -> None:
    _create(sandbox, {"email": "ada@example.com"})
    before = sandbox.report()["requests"]
    add_contacts(engine, 30)
    add_contacts(engine, email="ada@example.com")
    add_contacts(engine, email="not-an-address")
    report = sync(engine, settings_for(sandbox.base_url, batch_size=10), clock)
    with engine.connect() as connection:
        booked = connection.execute(sa.text("select count(*) from crm_sync_batches")).scalar_one()
    assert booked == report.requests == sandbox.report()["requests"] - before


def _patch(sandbox: SandboxServer, record_id: str, properties: dict[str, str]) -> None:
    _post(sandbox, "/crm/v3/objects/contacts/batch/update", {"inputs": [{"id": record_id, "properties": properties}]})


def _create(sandbox: SandboxServer, properties: dict[str, str]) -> None:
    _post(sandbox, "/crm/v3/objects/contacts/batch/create", {"inputs": [{"properties": properties}]})


def _archive(sandbox: SandboxServer, record_id: str) -> None:
    _post(sandbox, "/crm/v3/objects/contacts/batch/archive", {"inputs": [{"id": record_id}]})


def _post(sandbox: SandboxServer, path: str, body: dict) -> None:
    import urllib.request

    request = urllib.request.Request(
        sandbox.base_url + path,
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json", "Authorization": "Bearer test-token"},
        method="POST",
    )
    with urllib.request.urlopen(request, timeout=60) as response:
        assert response.status < 300
