"""Contacts on their way to Zoho, from the outbox on: tokens, credits, refusals, removals."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from leads_pipeline.clock import FrozenClock
from leads_pipeline.config import Settings, parse_settings
from leads_pipeline.crm.parking import parked_now
from leads_pipeline.crm.rehearsal import try_in_sandbox
from leads_pipeline.crm.sandbox.running import SandboxServer, running_sandbox
from leads_pipeline.crm.sandbox.zoho.options import ZohoOptions
from leads_pipeline.domain.delivery import CrmRecord, Verdict
from leads_pipeline.domain.ids import uuid7
from leads_pipeline.domain.stage import Operation
from leads_pipeline.sandbox.faults import FaultKind
from leads_pipeline_tests.conftest import NOW
from leads_pipeline_tests.crm.delivering import (
    add_contacts,
    change,
    merge_away,
    outbox_rows,
    row_of,
    states,
    sync,
)
from leads_pipeline_tests.crm.played_zoho import ENVIRONMENT, REFRESH_TOKEN, access_token

_YAML = """
version: 1
tenants:
  acme: {{sources: {{website: {{}}}}, destinations: [zoho]}}
destinations:
  zoho:
    vendor: zoho
    account: org
    base_url: {base_url}
    client_id: 1000.client
    client_secret: {{env: LEADS_ZOHO_CLIENT_SECRET}}
    refresh_token: {{env: LEADS_ZOHO_REFRESH_TOKEN}}
    timeout_seconds: 5
    if_unknown: {if_unknown}
    limits:
      windows: [{{credits: {credits}, seconds: 86400}}]
      reserve: 0
      in_flight: {in_flight}
pipeline: {{run_seconds: 60}}
"""


@pytest.fixture(autouse=True)
def _secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def sandbox() -> Iterator[SandboxServer]:
    """An organisation with the free edition's concurrency, and credits enough."""
    with running_sandbox(ZohoOptions(token=REFRESH_TOKEN, unique_email=True)) as server:
        yield server


def settings_for(base_url: str, **changes: object) -> Settings:
    values = {"if_unknown": "{}", "credits": 5000, "in_flight": 4} | changes
    return parse_settings(_YAML.format(base_url=base_url, **values), path=Path("leads.yaml"))


def endpoints(sandbox: SandboxServer) -> dict[str, int]:
    found: dict[str, int] = sandbox.report()["endpoints"]
    return found


def add(engine: sa.Engine, count: int = 1, **more: Any) -> list[Any]:
    return add_contacts(engine, count, destination="zoho", **more)


def test_contacts_arrive_in_batches_and_with_one_token_for_all_who_send(
    engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer
) -> None:
    settings = settings_for(sandbox.base_url)
    contacts = add(engine, 250)
    report = sync(engine, settings, clock)  # each run has clients of its own, as other processes do
    assert (report.delivered, report.throttled) == (250, 0)
    assert states(engine, contacts) == {"delivered"}
    written = {item["properties"]["Lead_Key"]: item["id"] for item in sandbox.contacts()}
    assert written == {str(row["contact_id"]): row["crm_record_id"] for row in outbox_rows(engine).values()}
    change(engine, contacts[0], first_name="Augusta")
    assert sync(engine, settings, clock).delivered == 1
    assert endpoints(sandbox) == {"oauth/token": 1, "upsert": 4}
    assert sandbox.report()["windows"][0]["max_accepted"] == 26  # credits


def test_a_token_that_ends_in_the_middle_is_renewed_once_and_no_attempt_is_burnt(
    engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer
) -> None:
    settings = settings_for(sandbox.base_url)
    sync(engine, settings, clock)
    first, *others = add(engine, 150)
    sandbox._ask("POST", "/_sandbox/tokens/expire")
    report = sync(engine, settings, clock)
    assert (report.delivered, report.retried, report.dead) == (150, 0, 0)
    sandbox._ask("POST", "/_sandbox/tokens/expire")
    change(engine, first, first_name="Augusta")
    assert sync(engine, settings, clock).delivered == 1
    assert states(engine, [first, *others]) == {"delivered"}
    assert endpoints(sandbox)["oauth/token"] == 2
    assert row_of(engine, first)["attempts"] == 0


def test_a_refresh_token_that_is_refused_parks_the_destination_and_nobody_is_to_blame(
    engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LEADS_ZOHO_REFRESH_TOKEN", "1000.revoked")
    settings = settings_for(sandbox.base_url)
    [contact] = add(engine)
    report = sync(engine, settings, clock)
    assert (report.delivered, report.dead) == (0, 0)
    assert report.parked["zoho"].reason == "auth"
    row = row_of(engine, contact)
    assert (row["state"], row["attempts"]) == ("waiting", 0)
    assert "upsert" not in endpoints(sandbox)
    monkeypatch.setenv("LEADS_ZOHO_REFRESH_TOKEN", REFRESH_TOKEN)
    clock.advance(3600)
    assert sync(engine, settings, clock).delivered == 1


def test_credits_that_others_have_spent_park_the_account_and_nothing_is_lost(
    engine: sa.Engine, clock: FrozenClock
) -> None:
    with running_sandbox(ZohoOptions(token=REFRESH_TOKEN, credits=20)) as sandbox:
        settings = settings_for(sandbox.base_url, in_flight=1)
        contacts = add(engine, 300)
        report = sync(engine, settings, clock)
        assert 100 <= report.delivered <= 200
        assert report.dead == 0
        assert states(engine, contacts) == {"delivered", "waiting"}
        # Answers tell how little is left from half on: no row was claimed in vain, nobody's attempt is spent.
        assert report.parked["zoho"].reason == "daily"
        assert parked_now(engine, settings=settings, now=clock.now()).destinations["zoho"].reason == "daily"
        assert sum(row["attempts"] for row in outbox_rows(engine).values()) == 0
        assert (len(list(sandbox.contacts())), sandbox.report()["http_429"]) == (report.delivered, 0)


def test_our_own_limit_of_credits_is_kept_without_a_429(
    engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer
) -> None:
    settings = settings_for(sandbox.base_url, credits=25)
    add(engine, 300)
    report = sync(engine, settings, clock)
    assert report.delivered == 200  # a batch of 100 costs 10
    assert sandbox.report()["windows"][0]["max_accepted"] <= 25
    assert sandbox.report()["http_429"] == 0


def test_processes_together_keep_to_the_requests_at_once(
    engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer
) -> None:
    settings = settings_for(sandbox.base_url, in_flight=8)
    add(engine, 2000)
    sandbox.set_faults([{"kind": "slow", "latency_ms": 30}])
    with ThreadPoolExecutor(2) as processes:  # each with clients and a limiter of its own
        reports = list(processes.map(lambda _process: sync(engine, settings, clock), range(2)))
    assert sum(report.delivered for report in reports) == 2000
    seen = sandbox.report()
    assert (seen["http_429"], seen["endpoints"]["oauth/token"]) == (0, 1)
    assert 1 < seen["max_in_flight"] <= 5


def test_who_has_no_last_name_is_a_dead_letter_that_says_what_helps_or_gets_the_configured_one(
    engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer
) -> None:
    [nameless] = add(engine, last_name=None)
    [named] = add(engine)
    assert sync(engine, settings_for(sandbox.base_url), clock).dead == 1
    assert (row_of(engine, nameless)["state"], row_of(engine, named)["state"]) == ("dead", "delivered")
    with engine.connect() as connection:
        letter = connection.execute(sa.text("select * from dead_letters")).mappings().one()
    assert letter["code"] == "MANDATORY_NOT_FOUND"
    assert "if_unknown" in str(dict(letter))

    [another] = add(engine, last_name=None)
    assert sync(engine, settings_for(sandbox.base_url, if_unknown="{Last_Name: (unknown)}"), clock).delivered == 1
    held = {item["properties"]["Lead_Key"]: item["properties"]["Last_Name"] for item in sandbox.contacts()}
    assert held[str(another.contact_id)] == "(unknown)"


def test_what_people_wrote_where_we_knew_nothing_stays_until_their_record_is_deleted(
    engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer
) -> None:
    settings = settings_for(sandbox.base_url, if_unknown="{Last_Name: (unknown), Company: (none)}")
    [contact] = add(engine, last_name=None, company=None)
    sync(engine, settings, clock)
    [made] = sandbox.contacts()
    module = f"{sandbox.base_url}/crm/v8/Leads"
    people = {"Authorization": f"Zoho-oauthtoken {access_token(sandbox.base_url)}"}
    theirs = {"id": made["id"], "Last_Name": "King", "Company": "Analytical Engines"}
    httpx.put(module, headers=people, json={"data": [theirs]}, timeout=60).raise_for_status()
    change(engine, contact, first_name="Augusta")
    sync(engine, settings, clock)
    change(engine, contact, first_name="Augusta Ada")
    sandbox.set_faults([{"kind": FaultKind.RESET_CONNECTION, "count": 1, "endpoint": "upsert"}])
    for _time in range(2):  # the first gets lost, so that all is sent again
        sync(engine, settings, clock)
        clock.advance(3600)
    [held] = (item["properties"] for item in sandbox.contacts())
    assert (held["First_Name"], held["Last_Name"], held["Company"]) == ("Augusta Ada", "King", "Analytical Engines")

    httpx.delete(module, headers=people, params={"ids": made["id"]}, timeout=60).raise_for_status()
    change(engine, contact, first_name="Ada")
    for _time in range(2):  # the difference first, and then the rest
        sync(engine, settings, clock)
        clock.advance(3600)
    [held] = (item["properties"] for item in sandbox.contacts())
    assert (held["First_Name"], held["Last_Name"], held["Company"]) == ("Ada", "(unknown)", "(none)")
    assert row_of(engine, contact)["state"] == "delivered"


def test_what_was_merged_away_lies_in_the_recycle_bin(
    engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer
) -> None:
    settings = settings_for(sandbox.base_url)
    gone, stays = add(engine, 2)
    sync(engine, settings, clock)
    merge_away(engine, gone)
    assert sync(engine, settings, clock).delivered == 1
    assert [item["properties"]["Lead_Key"] for item in sandbox.contacts()] == [str(stays.contact_id)]
    assert [item["properties"]["Lead_Key"] for item in sandbox.contacts(archived=True)] == [str(gone.contact_id)]


def test_a_rehearsal_has_a_sandbox_and_tokens_of_its_own(sandbox: SandboxServer) -> None:
    destination = settings_for(sandbox.base_url).destinations["zoho"]
    records = [
        CrmRecord(1, "acme", uuid7(NOW), 1, Operation.UPSERT, properties={"Last_Name": "Byron"}),
        CrmRecord(2, "acme", uuid7(NOW), 1, Operation.UPSERT, properties={"First_Name": "Ada"}),
    ]
    verdicts = try_in_sandbox(destination, records)
    assert (verdicts[1].verdict, verdicts[2].code) == (Verdict.DELIVERED, "MANDATORY_NOT_FOUND")
    assert endpoints(sandbox) == {}
