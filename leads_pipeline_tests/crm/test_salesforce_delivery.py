"""Deliveries to Salesforce through the engine: limits, locks, tokens, converted leads, shared parents."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
import sqlalchemy as sa
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from leads_pipeline.clock import FrozenClock
from leads_pipeline.config import SalesforceSettings, SecretRef
from leads_pipeline.crm.clients import BUILDERS
from leads_pipeline.crm.port import CrmRecord, CrmRequest, CrmResponse, RecordVerdict, Verdict
from leads_pipeline.crm.sandbox.running import SandboxServer, running_sandbox
from leads_pipeline.crm.sandbox.salesforce.options import SalesforceOptions
from leads_pipeline.domain.stage import Lane, Operation
from leads_pipeline.errors import ConfigError
from leads_pipeline.outbound.access_tokens import MemoryTokens
from leads_pipeline.sandbox.faults import FaultKind
from leads_pipeline_tests.crm.contract import Sending
from leads_pipeline_tests.crm.delivering import Contact, add_contacts, change, outbox_rows, row_of, states, sync
from leads_pipeline_tests.crm.salesforce_org import SECRET_ENV, keys_held, settings_for

SECRET = "a-secret"


@pytest.fixture(autouse=True)
def secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SECRET_ENV, SECRET)


@pytest.fixture
def org(clock: FrozenClock) -> Iterator[SandboxServer]:
    with running_sandbox(SalesforceOptions(token=SECRET), clock=clock) as server:
        yield server


def people(engine: sa.Engine, count: int = 1, **fields: Any) -> list[Contact]:
    values = {"company": "Analytical Engines", **fields}
    return add_contacts(engine, count, destination="salesforce", **values)


def test_contacts_of_two_tenants_become_leads_and_only_what_changed_is_sent_afterwards(
    engine: sa.Engine, clock: FrozenClock, org: SandboxServer
) -> None:
    settings = settings_for(org.base_url)
    contacts = people(engine, 3) + people(engine, 2, tenant="globex")
    assert sync(engine, settings, clock).requests == 1
    change(engine, contacts[0], first_name="Augusta")
    org.set_faults([{"kind": FaultKind.SLOW, "match": contacts[0].email or ""}])  # fires if the address is sent again

    assert sync(engine, settings, clock).delivered == 1
    assert keys_held(org) == {contact.contact_id: 1 for contact in contacts}
    assert {item["properties"]["FirstName"] for item in org.contacts()} == {"Ada", "Augusta"}
    assert org.faults()[0]["fired"] == 0


def test_a_spent_quota_pauses_the_account_and_burns_no_attempt(
    engine: sa.Engine, clock: FrozenClock, org: SandboxServer
) -> None:
    settings, contacts = settings_for(org.base_url), people(engine, 2)
    org.set_faults([{"kind": FaultKind.QUOTA_SPENT, "count": 1}])
    report = sync(engine, settings, clock)

    assert (report.throttled, report.delivered, report.dead) == (1, 0, 0)
    assert states(engine, contacts) == {"waiting"}
    assert {row["attempts"] for row in outbox_rows(engine).values()} == {0}
    before = org.report()["requests"]
    report = sync(engine, settings, clock)
    assert org.report()["requests"] == before  # nobody asks before the pause is over
    assert report.parked["salesforce"].reason == "paused"
    with engine.begin() as connection:  # the pause is over; the limiter goes by the database's clock
        connection.execute(sa.text("delete from rate_limits"))
    clock.advance(60)
    assert sync(engine, settings, clock).delivered == 2


def test_a_403_that_is_no_limit_leaves_the_destination_alone_and_no_contact_dies_of_it(
    engine: sa.Engine, clock: FrozenClock, org: SandboxServer
) -> None:
    contacts = people(engine, 2)
    org.set_faults([{"kind": FaultKind.FORBIDDEN_403}])
    report = sync(engine, settings_for(org.base_url), clock)

    assert (report.throttled, report.dead, set(report.parked)) == (0, 0, {"salesforce"})
    assert states(engine, contacts) == {"waiting"}


@pytest.mark.parametrize("above", ["null", 20], ids=["collections", "job"])
def test_a_record_that_the_user_may_not_edit_stops_nobody_else(
    engine: sa.Engine, clock: FrozenClock, org: SandboxServer, above: str | int
) -> None:
    contacts = add_contacts(engine, 30, lane=Lane.BATCH, destination="salesforce", company="Analytical Engines")
    [bad] = add_contacts(
        engine, 1, lane=Lane.BATCH, destination="salesforce", company="Analytical Engines", email="bad@example.com"
    )
    code = "INSUFFICIENT_ACCESS_OR_READONLY"
    org.set_faults([{"kind": FaultKind.PER_RECORD_ERROR, "match": "bad@", "category": code}])
    report = sync(engine, settings_for(org.base_url, above=above), clock)

    assert (report.delivered, report.dead, dict(report.parked)) == (30, 1, {})
    assert states(engine, contacts) == {"delivered"}
    assert (row_of(engine, bad)["last_verdict"], row_of(engine, bad)["state"]) == ("invalid", "dead")


def test_a_right_that_no_record_has_is_the_destinations(
    engine: sa.Engine, clock: FrozenClock, org: SandboxServer
) -> None:
    contacts = add_contacts(engine, 30, lane=Lane.BATCH, destination="salesforce", company="Analytical Engines")
    code = "INSUFFICIENT_ACCESS_OR_READONLY"
    org.set_faults([{"kind": FaultKind.PER_RECORD_ERROR, "category": code}])
    report = sync(engine, settings_for(org.base_url), clock)

    assert (report.parked["salesforce"].reason, report.parked["salesforce"].code) == ("auth", code)
    assert states(engine, contacts) == {"waiting"}


def test_locked_rows_are_sent_again_alone(engine: sa.Engine, clock: FrozenClock, org: SandboxServer) -> None:
    settings, contacts = settings_for(org.base_url), people(engine, 5)
    [locked] = people(engine, email="locked@example.com")
    rule = {"kind": FaultKind.PER_RECORD_ERROR, "match": "locked@", "category": "UNABLE_TO_LOCK_ROW", "count": 1}
    org.set_faults([rule])
    sync(engine, settings, clock)

    assert (row_of(engine, locked)["last_verdict"], states(engine, contacts)) == ("locked", {"delivered"})
    clock.advance(600)
    report = sync(engine, settings, clock)
    assert (report.records, report.delivered) == (1, 1)
    assert keys_held(org).total() == 6


def test_a_lead_that_was_converted_is_a_conflict_that_names_the_contact(
    engine: sa.Engine, clock: FrozenClock, org: SandboxServer
) -> None:
    settings, [contact] = settings_for(org.base_url), people(engine)
    sync(engine, settings, clock)
    lead_id = row_of(engine, contact)["crm_record_id"]
    made = httpx.post(f"{org.base_url}/_sandbox/leads/{lead_id}/convert", timeout=60).json()["contactId"]
    change(engine, contact, first_name="Augusta")
    seen: list[Any] = []
    client = BUILDERS["salesforce"](settings.destinations["salesforce"], MemoryTokens())
    with closing(client):
        record = _record(contact.contact_id, FirstName="Augusta", crm_record_id=lead_id)
        seen = client.deliver([record], courier=Sending(client))
    sync(engine, settings, clock)

    assert row_of(engine, contact)["last_verdict"] == "conflict"
    [verdict] = seen
    assert (verdict.verdict, verdict.holder_id) == (Verdict.CONFLICT, made)
    assert "object_type: Contact" in verdict.explanation


def test_a_lead_without_a_company_gets_a_placeholder_that_never_overwrites_what_people_wrote(
    engine: sa.Engine, clock: FrozenClock, org: SandboxServer
) -> None:
    settings, [contact] = settings_for(org.base_url), people(engine, company=None)
    sync(engine, settings, clock)
    [held] = org.contacts()
    assert held["properties"]["Company"] == "[not provided]"

    with closing(BUILDERS["salesforce"](settings.destinations["salesforce"], MemoryTokens())) as client:
        typed = {"attributes": {"type": "Lead"}, "id": held["id"], "Company": "What sales wrote"}
        path = "/services/data/v66.0/composite/sobjects"
        body = {"allOrNone": False, "records": [typed]}
        client.send(CrmRequest(purpose="update", method="PATCH", path=path, body=body, records=1))
    change(engine, contact, first_name="Augusta")
    sync(engine, settings, clock)

    [held] = org.contacts()
    assert (held["properties"]["Company"], held["properties"]["FirstName"]) == ("What sales wrote", "Augusta")


def test_the_processes_of_an_account_share_one_token_and_renew_it_once_when_it_is_refused(
    engine: sa.Engine, clock: FrozenClock, org: SandboxServer
) -> None:
    settings = settings_for(org.base_url)
    for _ in range(3):
        people(engine)
        assert sync(engine, settings, clock).delivered == 1  # each builds its own clients
    assert org.report()["endpoints"]["oauth2/token"] == 1

    org.expire_tokens()
    people(engine)
    clock.advance(60)
    assert sync(engine, settings, clock).delivered == 1
    assert (org.report()["endpoints"]["oauth2/token"], org.report()["unauthorized"]) == (2, 1)


def test_a_session_that_has_ended_keeps_nobody_from_the_fields(org: SandboxServer) -> None:
    settings = settings_for(org.base_url).destinations["salesforce"]
    with closing(BUILDERS["salesforce"](settings, MemoryTokens())) as client:
        assert client.describe(courier=client.send).fields["Lead_Key__c"].unique
        org.expire_tokens()
        assert client.describe(courier=client.send).fields["LastName"].max_length == 80


def test_a_user_signs_in_with_a_certificate_and_without_a_secret(
    clock: FrozenClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = rsa.generate_private_key(public_exponent=65_537, key_size=2048)
    public = tmp_path / "public.pem"
    kinds = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    public.write_bytes(key.public_key().public_bytes(*kinds))
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    # As a line of an environment file.
    monkeypatch.setenv("LEADS_SALESFORCE_KEY", pem.replace("\n", "\\n"))
    with running_sandbox(SalesforceOptions(token=SECRET, consumer_key="consumer", certificate=public)) as org:
        verdict = _deliver_by_jwt(org.base_url).verdict
        assert verdict is Verdict.DELIVERED

        other = rsa.generate_private_key(public_exponent=65_537, key_size=2048)
        monkeypatch.setenv(
            "LEADS_SALESFORCE_KEY",
            other.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            ).decode(),
        )
        refused = _deliver_by_jwt(org.base_url)
        assert (refused.verdict, refused.code) == (Verdict.AUTH, "INVALID_GRANT")
        assert "certificate" in (refused.explanation or "")
    monkeypatch.setenv("LEADS_SALESFORCE_KEY", "no key at all")
    with pytest.raises(ConfigError, match="RSA key in PEM"):
        _deliver_by_jwt(org.base_url)


def _deliver_by_jwt(base_url: str) -> RecordVerdict:
    settings = SalesforceSettings(
        vendor="salesforce", account="org", base_url=base_url, client_id="consumer",
        jwt={"user": "integration@acme.com", "private_key": {"env": "LEADS_SALESFORCE_KEY"}},
    )  # fmt: skip
    with closing(BUILDERS["salesforce"](settings, MemoryTokens())) as client:
        [verdict] = client.deliver([_record(UUID(int=1), LastName="Byron", Company="E")], courier=client.send)
    return verdict


def test_a_way_to_sign_in_is_given_once() -> None:
    given = {"vendor": "salesforce", "account": "org", "base_url": "https://acme.my.salesforce.com", "client_id": "c"}
    with pytest.raises(ValueError, match=r"client_secret .* or jwt"):
        SalesforceSettings(**given)
    secret = SecretRef(env="A_SECRET")
    with pytest.raises(ValueError, match="not both"):
        SalesforceSettings(**given, client_secret=secret, jwt={"user": "u", "private_key": {"env": "A_KEY"}})
    assert SalesforceSettings(**given, client_secret=secret, object_type="Contact").mapping["city"] == "MailingCity"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"base_url": "https://login.salesforce.com"}, "MYDOMAIN"),
        ({"base_url": "https://acme.my.salesforce.com/services/data"}, "nothing more"),
        ({"placeholders": {"Company": ""}}, "at least 1 character"),
        ({"bulk": {"poll_seconds": 3600, "deadline_seconds": 60}}, "less than deadline_seconds"),
        ({"bulk": {"most": 100_000}}, "less than or equal to 10000"),
        ({"api_version": "v30.0"}, "v46.0 and later"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_sent(wrong: dict[str, Any], said: str) -> None:
    given = {"vendor": "salesforce", "account": "org", "base_url": "https://acme.my.salesforce.com/", "client_id": "c"}
    secret = SecretRef(env="A_SECRET")
    assert SalesforceSettings(**given, client_secret=secret).api_version == "v66.0"
    with pytest.raises(ValueError, match=said):
        SalesforceSettings(**{**given, **wrong}, client_secret=secret)


@pytest.mark.parametrize(("accounts", "at_once"), [(("A", "A"), 1), (("A", "B"), 2)])
def test_records_of_one_account_are_not_sent_in_two_requests_at_once(
    org: SandboxServer, accounts: tuple[str, str], at_once: int
) -> None:
    settings = settings_for(org.base_url).destinations["salesforce"]
    both = threading.Barrier(at_once, timeout=60)
    inside: list[int] = []
    most: list[int] = []
    with closing(BUILDERS["salesforce"](settings, MemoryTokens())) as client:

        def courier(request: CrmRequest) -> CrmResponse:
            inside.append(1)
            most.append(len(inside))
            both.wait()  # with two requests at once both are in here, else it is one that waits for nobody
            response = client.send(request)
            inside.pop()
            return response

        def send(number: int, account: str) -> Any:
            record = _record(UUID(int=number), LastName="Byron", Company="E", AccountId=account)
            return client.deliver([record], courier=courier)

        with ThreadPoolExecutor(2) as pool:
            list(pool.map(send, (1, 2), accounts))
    assert max(most) == at_once


def _record(contact_id: UUID, *, crm_record_id: str | None = None, **properties: str) -> CrmRecord:
    record = CrmRecord(1, "acme", contact_id, 1, Operation.UPSERT, crm_record_id)
    return replace(record, properties=properties)
