"""Looking contacts up over HTTP: who may, how they are found, what is told, and that nothing of it is written down."""

import json
import logging
import re
import secrets
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import httpx
import psycopg
import pytest
import sqlalchemy as sa
import structlog

from leads_pipeline.capture.app import create_app
from leads_pipeline.capture.contact_lookup import LOOKUP_SESSION
from leads_pipeline.clock import FrozenClock
from leads_pipeline.config import LookupSettings, Settings
from leads_pipeline.config.settings import LookupRate
from leads_pipeline.domain.contact_lookup import AskedBy, Question
from leads_pipeline.domain.ids import uuid7
from leads_pipeline.steps.golden_contacts import refresh_golden_contacts
from leads_pipeline.storage.api_keys import create_lookup_key
from leads_pipeline.storage.contact_lookup import MOST_LEADS, lookup_statement
from leads_pipeline.storage.embedded import EmbeddedServer
from leads_pipeline.storage.roles import CAPTURE_ROLE, LOOKUP_ROLE
from leads_pipeline_tests.capture.running import Capture, capture_service
from leads_pipeline_tests.conftest import NOW
from leads_pipeline_tests.steps.rows import chunk, contact, member, merge

PATH = "/v1/contacts/lookup"
LATER = NOW + timedelta(hours=1)
UNKNOWN = {
    "known": False, "contact_id": None, "first_name": None, "last_name": None, "company": None, "job_title": None,
    "email_verdict": None, "phone_verdict": None, "phone_line_type": None, "last_seen_at": None, "more_contacts": 0,
    "consent": {}, "do_not_contact": {"email": False, "phone": False},
}  # fmt: skip


@dataclass
class Desk:
    """Somebody with a key of scope lookup."""

    capture: Capture
    key: str

    def ask(self, **question: object) -> httpx.Response:
        return self.capture.client.post(PATH, json=question, headers={"Authorization": f"Bearer {self.key}"})

    def told(self, **question: object) -> dict[str, Any]:
        answer = self.ask(**question)
        assert answer.status_code == 200, answer.text
        told: dict[str, Any] = answer.json()
        assert told.keys() == UNKNOWN.keys()
        return told


def lookup_key(engine: sa.Engine, *, tenant: str = "acme") -> str:
    with engine.begin() as connection:
        return create_lookup_key(connection, tenant=tenant, now=NOW).text


@pytest.fixture
def desk(capture: Capture, engine: sa.Engine) -> Desk:
    return Desk(capture, lookup_key(engine))


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """A home market other than that of the numbers below: nothing is found by chance."""
    return settings


def record(engine: sa.Engine, lead_id: UUID, contact_id: UUID, *, tenant: str = "acme") -> None:
    """What identity resolution keeps of a lead, to find it by."""
    with engine.begin() as connection:
        connection.execute(
            sa.text(
                """
                insert into match_records (lead_id, tenant, contact_id, email_key, phone_key, flags)
                select lead_id, tenant, :contact_id, email_key, phone_key, '[]' from validated_leads
                where lead_id = :lead_id
                """
            ),
            {"lead_id": lead_id, "contact_id": contact_id},
        )


def known(engine: sa.Engine, settings: Settings, contact_id: UUID, *, tenant: str = "acme", **lead: Any) -> UUID:
    lead_id = member(engine, contact_id, tenant=tenant, **lead)
    record(engine, lead_id, contact_id, tenant=tenant)
    refresh_golden_contacts(engine, chunk(tenant=tenant), settings=settings)
    return lead_id


@pytest.fixture
def anna(engine: sa.Engine, settings: Settings) -> tuple[UUID, UUID]:
    """A contact and its lead."""
    person = contact(engine)
    lead_id = known(
        engine, settings, person, email="Anna.Smith@Firm.com", phone="+1 415 555 2671", full_name="Anna Smith",
        company="Acme", job_title="Buyer",
        consent=({"granted": True, "channel": "email"}, {"granted": False, "channel": "phone"}),
    )  # fmt: skip
    return person, lead_id


def test_a_contact_is_told_as_its_golden_record_has_it(desk: Desk, anna: tuple[UUID, UUID]) -> None:
    stated = NOW.isoformat()
    assert desk.told(email="anna.smith@firm.com") == {
        "known": True,
        "contact_id": str(anna[0]),
        "first_name": "Anna",
        "last_name": "Smith",
        "company": "Acme",
        "job_title": "Buyer",
        "email_verdict": "unverified",
        "phone_verdict": "unverified",
        "phone_line_type": None,
        "last_seen_at": NOW.isoformat(),
        "more_contacts": 0,
        "consent": {
            "marketing": {
                "email": {"granted": True, "as_of": stated},
                "phone": {"granted": False, "as_of": stated},
            }
        },
        "do_not_contact": {"email": False, "phone": True},
    }


def test_who_is_not_known_is_answered_in_the_same_shape(desk: Desk, anna: tuple[UUID, UUID]) -> None:
    assert desk.told(email="nobody@firm.com") == UNKNOWN
    assert desk.told(phone="+1 415 555 2672") == UNKNOWN
    assert desk.told(lead_id=str(uuid7(NOW))) == UNKNOWN
    assert desk.told(contact_id=str(uuid7(NOW))) == UNKNOWN


@pytest.mark.parametrize(
    "question",
    [
        {"email": " ANNA.SMITH@firm.com "},
        {"email": "Anna <anna.smith@firm.com>"},
        {"phone": "+14155552671"},
        {"phone": "(415) 555-2671"},  # the tenant's home market dials it so
        {"phone": "001 415 555 2671", "country": "DE"},
        {"phone": "415-555-2671", "country": "United States"},
    ],
)
def test_what_is_asked_is_read_as_validation_reads_a_lead(
    desk: Desk, anna: tuple[UUID, UUID], question: dict[str, str]
) -> None:
    told = desk.told(**question)
    assert told["contact_id"] == str(anna[0])
    by_get = desk.capture.client.get(PATH, params=question, headers={"Authorization": f"Bearer {desk.key}"})
    assert (by_get.status_code, by_get.json()) == (200, told)


def test_a_lead_and_a_contact_are_found_by_their_ids(desk: Desk, anna: tuple[UUID, UUID]) -> None:
    person, lead_id = anna
    assert desk.told(lead_id=str(lead_id))["contact_id"] == str(person)
    assert desk.told(contact_id=str(person).upper())["contact_id"] == str(person)


def test_an_address_that_did_not_survive_still_finds_its_contact(
    desk: Desk, anna: tuple[UUID, UUID], engine: sa.Engine, settings: Settings
) -> None:
    known(engine, settings, anna[0], email="anna@private.net", received_at=LATER)
    for address in ("anna@private.net", "anna.smith@firm.com"):
        assert desk.told(email=address)["contact_id"] == str(anna[0])


def test_a_contact_that_was_merged_away_answers_as_its_survivor(
    desk: Desk, anna: tuple[UUID, UUID], engine: sa.Engine, settings: Settings
) -> None:
    older = contact(engine, at=NOW - timedelta(days=1))
    known(engine, settings, older, email="a.smith@other.com", full_name="Anna Smith", company="Other")
    merge(engine, anna[0], into=older)
    for question in (
        {"email": "anna.smith@firm.com"},  # its record still names the contact that is gone
        {"lead_id": str(anna[1])},
        {"contact_id": str(anna[0])},
        {"contact_id": str(older)},
    ):
        told = desk.told(**question)
        assert told["contact_id"] == str(older)
        assert told["do_not_contact"] == {"email": False, "phone": True}, "before the next run, too"
    refresh_golden_contacts(engine, chunk(now=LATER), settings=settings)
    assert desk.told(email="anna.smith@firm.com")["do_not_contact"]["phone"]


def test_of_several_contacts_the_one_that_holds_the_address_is_told_and_the_others_are_counted(
    desk: Desk, engine: sa.Engine, settings: Settings
) -> None:
    people = [contact(engine, at=NOW - timedelta(days=days)) for days in (3, 2, 1)]
    for number, person in enumerate(people):
        received_at = NOW + timedelta(minutes=number)
        known(engine, settings, person, email="info@firm.com", first_name=f"P{number}", received_at=received_at)
    told = desk.told(email="info@firm.com")
    assert (told["contact_id"], told["more_contacts"]) == (str(people[0]), 2)


def test_of_several_contacts_with_one_number_the_last_heard_of_is_told(
    desk: Desk, engine: sa.Engine, settings: Settings
) -> None:
    people = [contact(engine, at=NOW - timedelta(days=days)) for days in (2, 1)]
    for number, person in enumerate(people):
        received_at = NOW + timedelta(minutes=number)
        known(engine, settings, person, phone="+14155552671", first_name=f"P{number}", last_name="Smith",
              received_at=received_at)  # fmt: skip
    told = desk.told(phone="+14155552671")
    assert (told["contact_id"], told["more_contacts"]) == (str(people[1]), 1)


def test_a_withdrawal_for_any_channel_is_one_for_each(desk: Desk, engine: sa.Engine, settings: Settings) -> None:
    known(engine, settings, contact(engine), email="bob@firm.com", consent=({"granted": False, "channel": "any"},))
    assert desk.told(email="bob@firm.com")["do_not_contact"] == {"email": True, "phone": True}


@pytest.mark.parametrize("question", [{"email": "home@firm.com"}, {"phone": "+14155552671"}])
def test_a_withdrawal_of_whoever_shares_what_was_asked_for_is_told(
    desk: Desk, engine: sa.Engine, settings: Settings, question: dict[str, str]
) -> None:
    people = [contact(engine, at=NOW - timedelta(days=days)) for days in (3, 2, 1)]
    said = ({"granted": True, "channel": "email"}, {"granted": False, "channel": "email"}, None)
    for person, stated in zip(people, said, strict=True):
        known(engine, settings, person, **question, full_name="Anna Smith", consent=(stated,) if stated else ())
    holder = desk.told(contact_id=str(people[0]))
    assert holder["do_not_contact"] == {"email": False, "phone": False}

    asked = desk.told(**question)

    assert asked["more_contacts"] == 2
    assert asked["do_not_contact"] == {"email": True, "phone": False}
    if "email" in question:
        assert (asked["contact_id"], asked["consent"]) == (str(people[0]), holder["consent"])
    assert all(
        desk.told(contact_id=str(person))["do_not_contact"]["email"] is (person == people[1]) for person in people
    )


def test_a_withdrawal_at_another_tenant_or_for_another_purpose_says_nothing(
    desk: Desk, engine: sa.Engine, settings: Settings
) -> None:
    known(engine, settings, contact(engine), email="home@firm.com")
    no = {"granted": False, "channel": "email"}
    known(engine, settings, contact(engine, tenant="globex"), tenant="globex", email="home@firm.com", consent=(no,))
    known(engine, settings, contact(engine), email="home@firm.com", consent=({**no, "purpose": "research"},))
    told = desk.told(email="home@firm.com")
    assert (told["more_contacts"], told["do_not_contact"]) == (1, {"email": False, "phone": False})


@pytest.mark.parametrize("key", ["email_key", "phone_key"])
def test_what_other_tenants_hold_under_a_value_is_not_read(database_url: str, key: str) -> None:
    by = AskedBy.EMAIL if key == "email_key" else AskedBy.PHONE
    statement, parameters = lookup_statement(Question(by, "x"), tenant="acme")
    url = sa.make_url(database_url).set(drivername="postgresql").render_as_string(hide_password=False)
    session = " ".join(f"-c {name}={value}" for name, value in LOOKUP_SESSION.items())
    with psycopg.connect(url, options=f"-c search_path=leads {session}") as connection:
        rows = connection.execute(f"explain {statement}".encode(), parameters).fetchall()
    plan = "\n".join(row[0] for row in rows)
    by_index = plan.split(f"ix_match_records_{key}")[1].split("->")[0]
    [condition] = [line for line in by_index.splitlines() if "Index Cond" in line]
    assert key in condition
    assert "tenant" in condition


def test_a_contact_without_a_golden_record_yet_is_known_already(desk: Desk, engine: sa.Engine) -> None:
    person = contact(engine)
    lead_id = member(engine, person, email="new@firm.com")
    told = desk.told(lead_id=str(lead_id))
    assert told == {**UNKNOWN, "known": True, "contact_id": str(person)}


def test_a_key_sees_its_own_tenant_alone(desk: Desk, engine: sa.Engine, settings: Settings) -> None:
    person = contact(engine, tenant="globex")
    lead_id = known(engine, settings, person, tenant="globex", email="gina@globex.com", phone="+14155552671")
    questions = [
        {"email": "gina@globex.com"}, {"phone": "+14155552671"}, {"lead_id": str(lead_id)}, {"contact_id": str(person)}
    ]  # fmt: skip
    assert [desk.told(**question) for question in questions] == [UNKNOWN] * 4
    other = Desk(desk.capture, lookup_key(engine, tenant="globex"))
    desk.capture.clock.advance(1)  # until the door reads the keys again
    assert {other.told(**question)["contact_id"] for question in questions} == {str(person)}


@pytest.mark.parametrize(
    ("question", "field"),
    [
        ({}, "email"),
        ({"email": "a@firm.com", "phone": "+14155552671"}, "email"),
        ({"email": "not an address"}, "email"),
        ({"email": "test"}, "email"),
        ({"email": ["a@firm.com"]}, "email"),
        ({"email": "a@firm.com", "country": "US"}, "country"),
        ({"email": "a@firm.com", "Zaphod": "x"}, "email"),
        ({"email": "x" * 400}, "email"),
        ({"phone": "12"}, "phone"),
        ({"phone": 14155552671}, "phone"),
        ({"phone": "415 555 2671", "country": "Zaphod"}, "country"),
        ({"phone": "+14155552671", "country": 1}, "country"),
        ({"lead_id": "Zaphod"}, "lead_id"),
        ({"contact_id": "1234"}, "contact_id"),
    ],
)
def test_what_asks_for_no_contact_is_refused_and_not_repeated(
    desk: Desk, question: dict[str, object], field: str
) -> None:
    answer = desk.ask(**question)
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "invalid_lookup")
    assert answer.json()["error"]["field"] == field
    assert "Zaphod" not in answer.text


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"{", "malformed_json"),
        (b"\xff", "malformed_json"),
        (b'{"email": "\\ud800"}', "malformed_json"),
        (b"[]", "not_an_object"),
        (b'{"email": "' + b"x" * 5_000 + b'"}', "body_too_large"),
    ],
)
def test_a_body_that_is_no_question_is_refused(desk: Desk, body: bytes, code: str) -> None:
    headers = {"Authorization": f"Bearer {desk.key}", "Content-Type": "application/json"}
    answer = desk.capture.client.post(PATH, content=body, headers=headers)
    error = answer.json()["error"]
    assert error["code"] == code
    assert "lead" not in error["message"]


def test_only_a_key_of_scope_lookup_may_ask_and_it_may_do_nothing_else(desk: Desk) -> None:
    posting = Desk(desk.capture, desk.capture.key).ask(email="a@firm.com")
    assert (posting.status_code, posting.json()["error"]["code"]) == (403, "wrong_scope")
    for path in ("/v1/leads", "/v1/leads/batch", "/v1/in/acme/website"):
        answer = desk.capture.post({"email": "a@firm.com"}, path, Authorization=f"Bearer {desk.key}")
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "wrong_scope")
    assert desk.capture.client.get("/example", params={"key": desk.key}).status_code == 200


def test_a_key_in_the_address_is_not_taken(desk: Desk) -> None:
    with httpx.Client(base_url=desk.capture.url, trust_env=False, timeout=60) as anybody:
        answer = anybody.get(PATH, params={"email": "a@firm.com", "key": desk.key})
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "bad_key")


def test_no_script_of_a_site_may_ask(settings: Settings, database_url: str, engine: sa.Engine, clock: FrozenClock):
    sources = {**settings.tenants["acme"].sources}
    sources["website"] = sources["website"].model_copy(update={"cors_origins": ("*",)})
    acme = settings.tenants["acme"].model_copy(update={"sources": sources})
    open_to_all = settings.model_copy(update={"tenants": {**settings.tenants, "acme": acme}})
    with capture_service(open_to_all, database_url=database_url, engine=engine, clock=clock) as capture:
        site = {"Origin": "https://www.example.com"}
        assert "access-control-allow-origin" in capture.post({"email": "a@firm.com"}, **site).headers
        asked = {**site, "Access-Control-Request-Method": "POST"}
        preflight = capture.client.request("OPTIONS", PATH, headers=asked)
        answer = capture.client.post(PATH, json={"email": "a@firm.com"}, headers=site)
    assert preflight.status_code == 405
    for said in (preflight, answer):
        assert "access-control-allow-origin" not in said.headers
        assert said.headers["cache-control"] == "no-store"


def limited(settings: Settings, **changes: Any) -> Settings:
    door = settings.capture.model_copy(update={"lookup": LookupSettings(**changes)})
    return settings.model_copy(update={"capture": door})


def test_each_key_has_its_rate(settings: Settings, database_url: str, engine: sa.Engine, clock: FrozenClock):
    narrow = limited(settings, rate=LookupRate(requests=1, seconds=60, burst=1))
    with capture_service(narrow, database_url=database_url, engine=engine, clock=clock) as capture:
        one, other = (Desk(capture, lookup_key(engine)) for _ in range(2))
        assert [one.ask(email="a@firm.com").status_code for _ in range(3)] == [200, 200, 429]
        assert one.ask(email="a@firm.com").headers["retry-after"] == "60"
        assert other.ask(email="a@firm.com").status_code == 200


def test_switched_off_it_is_not_there(settings: Settings, database_url: str, engine: sa.Engine, clock: FrozenClock):
    off = limited(settings, enabled=False)
    with capture_service(off, database_url=database_url, engine=engine, clock=clock) as capture:
        assert Desk(capture, lookup_key(engine)).ask(email="a@firm.com").status_code == 404
        assert PATH not in capture.client.get("/openapi.json").json()["paths"]


@pytest.fixture
def login(server: EmbeddedServer, database_url: str) -> Iterator[Any]:
    """URLs of logins that a DBA has granted nothing but a role."""
    made: list[str] = []

    def make(role: str) -> str:
        name, password = f"login_{secrets.token_hex(4)}", secrets.token_hex(8)
        with psycopg.connect(server.url(), autocommit=True) as connection:
            connection.execute(f"create role {name} login password '{password}' in role {role}")  # type: ignore[arg-type]
        made.append(name)
        return sa.make_url(database_url).set(username=name, password=password).render_as_string(hide_password=False)

    yield make
    with psycopg.connect(server.url(), autocommit=True) as connection:
        for name in made:
            connection.execute(f"drop role {name}")  # type: ignore[arg-type]


def _asked(settings: Settings, clock: FrozenClock, key: str, question: dict[str, str], **urls: str) -> httpx.Response:
    """The answer of a door with these logins, within this process."""
    import asyncio

    async def ask() -> httpx.Response:
        app = create_app(settings, clock=clock, **urls)  # type: ignore[arg-type]
        transport = httpx.ASGITransport(app=app)  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url="http://door") as client:
            app.door.deadlines.start()
            answer = await client.post(PATH, json=question, headers={"Authorization": f"Bearer {key}"})
        app.door.deadlines.stop()
        if app.door.contacts is not None:
            await app.door.contacts.close()
        await app.door.reader.close()
        return answer

    return asyncio.run(ask())


def test_the_doors_own_login_reads_no_contact_and_one_with_the_role_does(
    settings: Settings, engine: sa.Engine, clock: FrozenClock, anna: tuple[UUID, UUID], login: Any
) -> None:
    key, question = lookup_key(engine), {"email": "anna.smith@firm.com"}
    door = login(CAPTURE_ROLE)
    alone = _asked(settings, clock, key, question, database_url=door)
    assert (alone.status_code, alone.json()["error"]["code"]) == (503, "lookup_unavailable")
    assert alone.headers["retry-after"] == "2"
    wrong = _asked(settings, clock, key, question, database_url=door, lookup_url=door)
    assert wrong.json()["error"]["code"] == "lookup_unavailable"
    for by in ({"phone": "+14155552671"}, {"lead_id": str(anna[1])}, {"contact_id": str(anna[0])}, question):
        answer = _asked(settings, clock, key, by, database_url=door, lookup_url=login(LOOKUP_ROLE))
        assert (answer.status_code, answer.json()["contact_id"]) == (200, str(anna[0]))


def test_nothing_that_is_asked_or_told_is_written_down(
    desk: Desk, anna: tuple[UUID, UUID], engine: sa.Engine, caplog: pytest.LogCaptureFixture, capfd: Any
) -> None:
    caplog.set_level(logging.DEBUG)
    with structlog.testing.capture_logs() as events:
        desk.told(email="anna.smith@firm.com")
        desk.capture.client.get(PATH, params={"phone": "+14155552671"}, headers={"Authorization": f"Bearer {desk.key}"})
        desk.ask(email="anna.smith@")
        with engine.begin() as connection:
            connection.execute(sa.text("alter table match_records rename to gone"))
        failed = desk.ask(email="anna.smith@firm.com")
    assert failed.status_code == 500
    printed = capfd.readouterr()
    logged = [entry.getMessage() for entry in caplog.records if not entry.name.startswith(("httpx", "httpcore"))]
    written = json.dumps(events, default=str) + str(logged) + printed.out + printed.err + failed.text
    assert "request failed" in written
    for personal in ("anna", "Anna", "415555", "firm.com"):
        assert personal not in written


def test_a_number_that_thousands_share_is_not_counted_to_the_end(desk: Desk, engine: sa.Engine) -> None:
    with engine.begin() as connection:
        connection.execute(
            sa.text(
                """
                with made as (
                    insert into contacts (contact_id, tenant, founding_lead_id, created_at)
                    select gen_random_uuid(), 'acme', gen_random_uuid(), now() from generate_series(1, 5000)
                    returning contact_id, founding_lead_id
                )
                insert into match_records (lead_id, tenant, contact_id, email_key, phone_key, flags)
                select founding_lead_id, 'acme', contact_id, 'info@firm.com', '+14155552671', '[]' from made
                """
            )
        )
        connection.execute(sa.text("analyze match_records"))
    for question in ({"phone": "+14155552671"}, {"email": "info@firm.com"}):
        assert desk.told(**question)["more_contacts"] == MOST_LEADS - 1


@pytest.mark.parametrize("by", list(AskedBy))
def test_a_plan_that_was_made_while_the_tables_were_empty_goes_from_index_to_index(
    database_url: str, by: AskedBy
) -> None:
    statement, parameters = lookup_statement(Question(by, str(uuid7(NOW))), tenant="acme")
    url = sa.make_url(database_url).set(drivername="postgresql").render_as_string(hide_password=False)
    session = " ".join(f"-c {name}={value}" for name, value in LOOKUP_SESSION.items())
    with psycopg.connect(url, options=f"-c search_path=leads {session}") as connection:
        rows = connection.execute(f"explain {statement}".encode(), parameters).fetchall()
    plan = "\n".join(row[0] for row in rows)
    assert "Seq Scan" not in plan
    scans = re.findall(r"(?:Index|Bitmap Heap|Bitmap Index) .*Scan", plan)
    assert len(scans) >= 2
    for line in plan.splitlines():
        if " Scan using " in line or "Bitmap Index Scan" in line:
            assert "Index Cond" in plan.split(line)[1].split("->")[0], line


def test_a_door_that_is_not_asked_does_not_load_what_reads_addresses(settings: Settings) -> None:
    code = (
        "import sys, leads_pipeline.capture.server, leads_pipeline.capture.contact_lookup\n"
        "print(sorted({name.partition('.')[0] for name in sys.modules} "
        "& {'email_validator', 'phonenumbers', 'rapidfuzz', 'pandas', 'splink', 'dagster'}))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
