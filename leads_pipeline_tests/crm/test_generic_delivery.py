"""Webhooks, tables and folders behind the whole engine: contacts, changes, removals, erasures, and workers that die."""

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa

from leads_pipeline.clock import FrozenClock
from leads_pipeline.config import Settings, parse_settings
from leads_pipeline.crm.parking import AUTH, parked_now
from leads_pipeline.sandbox.faults import FaultKind
from leads_pipeline.steps.checked_mappings import check_mappings
from leads_pipeline.storage import outbox_demand
from leads_pipeline.storage.claim_owners import GRACE
from leads_pipeline.storage.schema import golden_contacts
from leads_pipeline_tests.conftest import NOW
from leads_pipeline_tests.crm.contract import Held
from leads_pipeline_tests.crm.delivering import (
    Contact,
    add_contacts,
    change,
    merge_away,
    outbox_rows,
    row_of,
    states,
    sync,
)
from leads_pipeline_tests.crm.played_folder import PlayedFolder, lines
from leads_pipeline_tests.crm.played_receiver import SECRET, receiving
from leads_pipeline_tests.crm.played_table import PlayedTable
from leads_pipeline_tests.crm.test_webhook_contract import PlayedWebhook
from leads_pipeline_tests.storage.sessions import sessions_end

KINDS = ("webhook", "webhook lists", "sql", "file ndjson", "file csv")

_YAML = """
tenants:
  acme: {{sources: {{website: {{}}}}, destinations: [out]}}
destinations:
  out:
    account: out
    {settings}
    timeout_seconds: 5
    limits: {{in_flight: 2}}
    mapping: {mapping}
"""


@dataclass(frozen=True)
class Place:
    """A destination that is played. ``held``: what is there; ``repeated``: events or rows that took effect twice."""

    played: PlayedWebhook | PlayedTable | PlayedFolder
    yaml: str
    repeated: Callable[[], int]

    def settings(self, **more: int) -> Settings:
        text = self.yaml + "".join(f"    {name}: {value}\n" for name, value in more.items())
        return parse_settings(text, path=Path("leads.yaml"))

    def held(self) -> Mapping[UUID, Held]:
        return self.played.held()

    def emails(self) -> dict[UUID, str]:
        return {key: item.properties["email"] for key, item in self.held().items()}


@pytest.fixture(params=KINDS)
def place(
    request: pytest.FixtureRequest, empty_database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Place]:
    kind, _, variant = request.param.partition(" ")
    names = {name: name for name in ("email", "first_name", "last_name", "company")}
    with ExitStack() as stack:
        if kind == "webhook":
            monkeypatch.setenv("LEADS_WEBHOOK_SECRET", SECRET)
            receiver = stack.enter_context(receiving(batches=variant == "lists"))
            settings = f"vendor: webhook\n    url: '{receiver.url}'\n    secret: {{env: LEADS_WEBHOOK_SECRET}}"
            names |= {"consent.marketing.email": "newsletter"}
            yield Place(
                PlayedWebhook(receiver, stack),
                _YAML.format(settings=settings, mapping=names),
                lambda: sum(count - 1 for count in receiver.applied.values()),
            )
        elif kind == "sql":
            table = PlayedTable(empty_database_url, stack, monkeypatch)
            table.owner.execute(f"alter table {table.table} add column newsletter boolean")
            monkeypatch.setenv("LEADS_TABLE_URL", table.url)
            settings = (
                "vendor: sql\n    url: {env: LEADS_TABLE_URL}\n    table: CRM.Contacts EU\n    key_column: Contact Id\n"
                "    archived_column: Archived %s"
            )
            names = {**table.names, "consent.marketing.email": "newsletter"}
            yield Place(table, _YAML.format(settings=settings, mapping=names), lambda: 0)
        else:
            folder = PlayedFolder(tmp_path / "out", stack, format_=variant)
            settings = f"vendor: file\n    directory: {folder.path}\n    format: {variant}"
            names |= {"consent.marketing.email": "newsletter"}
            yield Place(folder, _YAML.format(settings=settings, mapping=names), lambda: _twice(folder.path))


def _twice(folder: Path) -> int:
    """Lines that stand there more than once."""
    found = [(line["contact_id"], line["version"]) for line in lines(folder)]
    return len(found) - len(set(found))


def _sizes(place: Place, size: int) -> dict[str, int]:
    """Settings for batches of a size, where the destination takes batches."""
    is_single = isinstance(place.played, PlayedWebhook) and not place.played.receiver.batches
    return {} if is_single else {"batch_size": size}


def _erase(engine: sa.Engine, contact: Contact) -> None:
    with engine.begin() as connection:
        connection.execute(golden_contacts.delete().where(golden_contacts.c.contact_id == contact.contact_id))
        outbox_demand.erase(connection, [contact.contact_id], tenant="acme", now=NOW)


def test_contacts_change_are_archived_come_back_and_are_erased(
    place: Place, engine: sa.Engine, clock: FrozenClock
) -> None:
    settings = place.settings(**_sizes(place, 10))
    one, two, three = add_contacts(engine, 3, destination="out")
    assert sync(engine, settings, clock).delivered == 3
    assert place.emails() == {item.contact_id: item.email for item in (one, two, three)}
    change(engine, one, email="ada@example.com", company="Engines")
    merge_away(engine, two)
    _erase(engine, three)
    assert sync(engine, settings, clock).delivered == 3
    assert place.emails() == {one.contact_id: "ada@example.com"}
    change(engine, one, company=None)
    assert sync(engine, settings, clock).delivered == 1
    [held] = place.held().values()
    assert "company" not in held.properties
    assert sync(engine, settings, clock).requests == 0
    assert {row["state"] for row in outbox_rows(engine).values()} == {"delivered"}
    assert place.repeated() == 0


def test_what_is_mapped_fits_and_is_sent_after_a_check_as_well(
    place: Place, engine: sa.Engine, clock: FrozenClock
) -> None:
    settings = place.settings(**_sizes(place, 10))
    [checked] = check_mappings(engine, settings=settings, clock=clock, runner_id="test")
    assert (checked.faults, checked.problem) == ((), None)
    [contact] = add_contacts(engine, destination="out")
    sync(engine, settings, clock)
    assert place.emails() == {contact.contact_id: contact.email}
    assert row_of(engine, contact)["withheld"] is None


def test_a_withdrawal_of_consent_is_told_and_nothing_after_it(
    place: Place, engine: sa.Engine, clock: FrozenClock
) -> None:
    settings = place.settings(**_sizes(place, 10))
    said = {"marketing": {"email": {"granted": True, "at": NOW.isoformat()}}}
    [contact] = add_contacts(engine, destination="out", consent=said)
    sync(engine, settings, clock)
    said = {"marketing": {"email": {"granted": False, "at": NOW.isoformat()}}}
    change(engine, contact, company="Must not be sent", consent=said)  # type: ignore[arg-type] - a column like others
    sync(engine, settings, clock)
    assert _newsletter(place, contact) in (False, "false")
    assert "Must not be sent" not in repr(place.held())
    assert row_of(engine, contact)["state"] == "suppressed"
    assert sync(engine, settings, clock).requests == 0


def _newsletter(place: Place, contact: Contact) -> Any:
    if isinstance(place.played, PlayedTable):
        return next(row["newsletter"] for row in place.played.rows() if row[place.played.key] == contact.contact_id)
    return place.held()[contact.contact_id].properties["newsletter"]


@pytest.mark.chaos
@pytest.mark.parametrize(
    ("when", "done"), [("claimed", 0), ("written", 0), ("sent", 0), ("answered", 0), ("settled", 10)]
)
def test_what_a_killed_worker_held_is_sent_again_and_takes_effect_once(
    place: Place, when: str, done: int, engine: sa.Engine, database_url: str, tmp_path: Path
) -> None:
    more = _sizes(place, 10)
    batch, done = (10, done) if more else (1, min(done, 1))
    contacts = add_contacts(engine, 30, destination="out")
    text = place.yaml.replace("in_flight: 2", "in_flight: 1")
    (tmp_path / "leads.yaml").write_text(text + "".join(f"    {name}: {value}\n" for name, value in more.items()))
    command = [sys.executable, "-m", "leads_pipeline_tests.crm.generic_process"]
    with sessions_end(engine):
        killed = subprocess.run([*command, database_url, tmp_path / "leads.yaml", when], timeout=120, check=False)
    assert killed.returncode == -signal.SIGKILL
    clock, settings = FrozenClock(NOW), place.settings(**more)
    assert sync(engine, settings, clock).delivered == 30 - done - batch
    clock.advance(GRACE.total_seconds())
    assert sync(engine, settings, clock).delivered == batch
    assert place.emails() == {item.contact_id: item.email for item in contacts}
    assert place.repeated() == 0
    assert states(engine, contacts) == {"delivered"}


def test_a_stated_limit_holds_for_transactions_and_files_as_for_requests(
    place: Place, engine: sa.Engine, clock: FrozenClock
) -> None:
    text = place.yaml.replace("{in_flight: 2}", "{in_flight: 2, windows: [{requests: 2, seconds: 3600}]}")
    sizes = _sizes(place, 10)
    text += "".join(f"    {name}: {value}\n" for name, value in sizes.items()) + "pipeline: {run_seconds: 1}\n"
    add_contacts(engine, 50, destination="out")
    report = sync(engine, parse_settings(text, path=Path("leads.yaml")), clock)
    assert report.requests == 2
    assert report.delivered == len(place.held()) == (20 if sizes else 2)


def test_a_destination_that_refuses_us_is_parked_and_no_contact_pays_for_it(
    place: Place, engine: sa.Engine, clock: FrozenClock
) -> None:
    contacts = add_contacts(engine, 20, destination="out")
    place.played.fail({"kind": FaultKind.AUTH})
    report = sync(engine, place.settings(**_sizes(place, 10)), clock)
    parked = report.parked["out"]
    assert (parked.reason, parked.code in parked.advice if parked.code else None) == (AUTH, True)
    assert parked.code in ("HTTP_401", "INVALID_AUTHORIZATION_SPECIFICATION", "ENOENT")
    settings = place.settings(**_sizes(place, 10))
    assert parked_now(engine, settings=settings, now=clock.now()).destinations["out"] == parked
    assert {row["attempts"] for row in outbox_rows(engine).values()} == {0}
    place.played.fail()
    clock.advance(60)
    assert sync(engine, settings, clock).delivered == 20
    assert states(engine, contacts) == {"delivered"}
