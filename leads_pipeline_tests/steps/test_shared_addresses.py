"""Contacts that want one e-mail address: the oldest holds it, the others await it and are delivered without."""

import random
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa

from leads_pipeline.config import Settings
from leads_pipeline.domain.mapping import DestinationMapping, MappingRule
from leads_pipeline.domain.stage import ChunkReport, Lane
from leads_pipeline.steps.golden_contacts import refresh_golden_contacts
from leads_pipeline.storage import address_holders, schema
from leads_pipeline.storage.outbox import wanted_contacts
from leads_pipeline_tests.conftest import NOW
from leads_pipeline_tests.steps.rows import TENANT, ask_for, chunk, contact, delivered, member, merge, rows_of

LATER = NOW + timedelta(hours=1)
INFO = "info@firm.com"


def refresh(engine: sa.Engine, settings: Settings, *, now: datetime = NOW, limit: int = 100) -> ChunkReport:
    return refresh_golden_contacts(engine, chunk(now=now, limit=limit), settings=settings)


def golden(engine: sa.Engine) -> dict[UUID, dict[str, Any]]:
    return {row["contact_id"]: row for row in rows_of(engine, schema.golden_contacts)}


def holders(engine: sa.Engine) -> dict[UUID, tuple[str | None, str | None]]:
    return {who: (row["email_key"], row["awaited_email_key"]) for who, row in golden(engine).items()}


def wanted(engine: sa.Engine) -> dict[UUID, tuple[int, str]]:
    return {row["contact_id"]: (row["wanted_version"], row["state"]) for row in rows_of(engine, schema.outbox)}


def move(engine: sa.Engine, lead_id: UUID, *, to: UUID, from_: UUID) -> None:
    with engine.begin() as connection:
        connection.execute(
            sa.update(schema.deduped_leads)
            .where(schema.deduped_leads.c.lead_id == lead_id)
            .values(contact_id=to, golden_version=None)
        )
    ask_for(engine, *{to, from_})


@pytest.fixture
def three(engine: sa.Engine) -> tuple[UUID, UUID, UUID]:
    """Contacts, the oldest first."""
    return (
        contact(engine, at=NOW - timedelta(days=2)),
        contact(engine, at=NOW - timedelta(days=1)),
        contact(engine),
    )


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
@pytest.mark.parametrize("limit", [1, 100])
def test_the_oldest_holds_the_address_in_whatever_order_they_come(
    engine: sa.Engine, settings: Settings, three: tuple[UUID, UUID, UUID], order: tuple[int, ...], limit: int
) -> None:
    for place in order:
        member(engine, three[place], email=INFO, first_name=f"Person{place}", last_name="Smith")
        refresh(engine, settings, limit=limit)
    assert holders(engine) == {three[0]: (INFO, None), three[1]: (None, INFO), three[2]: (None, INFO)}
    assert {row["email"] for row in golden(engine).values()} == {INFO}, "analysts see it in all of them"
    versions = {who: row["version"] for who, row in golden(engine).items()}
    assert versions == {who: version for who, (version, _state) in wanted(engine).items()}


def test_only_the_holder_is_delivered_with_the_address(
    engine: sa.Engine, settings: Settings, three: tuple[UUID, UUID, UUID]
) -> None:
    for person in three:
        member(engine, person, email=INFO, phone="+14155552671")
    refresh(engine, settings)
    with engine.connect() as connection:
        contacts = wanted_contacts(connection, three)
    fields = {"email": "email", "phone": "phone", "email_verdict": "email_state"}
    mapping = DestinationMapping([MappingRule(theirs, ours) for ours, theirs in fields.items()])
    sent = {who: mapping.properties_of(row).properties for who, row in contacts.items()}
    assert sent[three[0]] == {"email": INFO, "phone": "+14155552671", "email_state": "unverified"}
    assert sent[three[1]] == sent[three[2]] == {"phone": "+14155552671"}


def test_who_loses_the_address_to_an_older_contact_is_sent_again_so_that_the_crm_clears_it(
    engine: sa.Engine, settings: Settings, three: tuple[UUID, UUID, UUID]
) -> None:
    older, newer, _ = three
    member(engine, newer, email=INFO, lane=Lane.BATCH)
    refresh(engine, settings)
    delivered(engine, newer)
    member(engine, older, email=INFO, lane=Lane.REAL_TIME)
    report = refresh(engine, settings, now=LATER)
    assert report.counts["addresses_passed_on"] == 1
    assert holders(engine) == {older: (INFO, None), newer: (None, INFO)}
    assert wanted(engine)[newer] == (2, "waiting")
    lanes = {row["contact_id"]: row["lane"] for row in rows_of(engine, schema.outbox)}
    assert lanes[newer] == Lane.REAL_TIME, "the CRM refuses it to the one until the other has let it go"
    with engine.connect() as connection:
        row = wanted_contacts(connection, [newer])[newer]
    mapping = DestinationMapping([MappingRule("email", "email")])
    assert mapping.properties_of(row, delivered=("email",)).properties == {"email": ""}


def test_a_new_lead_of_who_lost_the_address_is_not_counted_as_sent_by_that(
    engine: sa.Engine, settings: Settings, three: tuple[UUID, UUID, UUID]
) -> None:
    """The row changed without taking the lead in: its version must not say that it has."""
    older, newer, _ = three
    member(engine, newer, email=INFO)
    refresh(engine, settings)
    waiting = member(engine, newer, email=INFO, phone="+14155552671", received_at=LATER)
    with engine.begin() as connection:
        connection.execute(sa.delete(schema.pending))
    member(engine, older, email=INFO)
    refresh(engine, settings, now=LATER)
    (lead,) = rows_of(engine, schema.deduped_leads, lead_id=waiting)
    assert (lead["golden_version"], golden(engine)[newer]["version"]) == (None, 2)
    ask_for(engine, newer)
    refresh(engine, settings, now=LATER)
    (lead,) = rows_of(engine, schema.deduped_leads, lead_id=waiting)
    assert (lead["golden_version"], golden(engine)[newer]["phone"]) == (3, "+14155552671")


def test_the_next_oldest_gets_the_address_when_the_holder_is_merged_away(
    engine: sa.Engine, settings: Settings, three: tuple[UUID, UUID, UUID]
) -> None:
    first, second, third = three
    survivor = contact(engine, at=NOW - timedelta(days=3))
    member(engine, survivor, email="anna@own.com", received_at=LATER)
    for person in three:
        member(engine, person, email=INFO)
    refresh(engine, settings)
    merge(engine, first, into=survivor)
    report = refresh(engine, settings, now=LATER)
    assert report.counts["addresses_passed_on"] == 1
    assert holders(engine) == {survivor: ("anna@own.com", None), second: (INFO, None), third: (None, INFO)}
    assert wanted(engine)[second] == (2, "waiting")
    assert wanted(engine)[third] == (1, "waiting")


def test_the_next_oldest_gets_the_address_when_the_holder_changes_its_own(
    engine: sa.Engine, settings: Settings, three: tuple[UUID, UUID, UUID]
) -> None:
    first, second, third = three
    for person in three:
        member(engine, person, email=INFO)
    refresh(engine, settings)
    member(engine, first, email="anna@own.com", received_at=LATER)
    refresh(engine, settings, now=LATER)
    assert holders(engine) == {first: ("anna@own.com", None), second: (INFO, None), third: (None, INFO)}


def test_the_next_oldest_gets_the_address_when_a_split_takes_it_from_the_holder(
    engine: sa.Engine, settings: Settings, three: tuple[UUID, UUID, UUID]
) -> None:
    first, second, third = three
    member(engine, first, phone="+14155552671")
    lead_id = member(engine, first, email=INFO)
    member(engine, second, email=INFO)
    refresh(engine, settings)
    move(engine, lead_id, to=third, from_=first)
    refresh(engine, settings, now=LATER)
    assert holders(engine) == {first: (None, None), second: (INFO, None), third: (None, INFO)}


def test_an_undone_merge_leaves_the_address_with_the_older_part(
    engine: sa.Engine, settings: Settings, three: tuple[UUID, UUID, UUID]
) -> None:
    first, second, _ = three
    member(engine, first, email=INFO)
    lead_id = member(engine, first, email=INFO, received_at=LATER)
    refresh(engine, settings)
    move(engine, lead_id, to=second, from_=first)
    refresh(engine, settings, now=LATER)
    assert holders(engine) == {first: (INFO, None), second: (None, INFO)}


def test_contacts_of_another_tenant_share_nothing(engine: sa.Engine, settings: Settings) -> None:
    here, there = contact(engine, at=NOW - timedelta(days=1)), contact(engine, tenant="globex")
    member(engine, here, email=INFO)
    member(engine, there, email=INFO, tenant="globex")
    refresh(engine, settings)
    refresh_golden_contacts(engine, chunk(tenant="globex"), settings=settings)
    assert holders(engine) == {here: (INFO, None), there: (INFO, None)}


ADDRESSES = ("a@firm.com", "b@firm.com", INFO)


class World:
    """Random people, whose leads come, move and are merged."""

    def __init__(self, engine: sa.Engine, seed: int) -> None:
        self.engine = engine
        self.random = random.Random(seed)
        self.living = [contact(engine, at=NOW - timedelta(days=30 - number)) for number in range(6)]
        self.leads: dict[UUID, UUID] = {}
        self.minutes = 0

    def change(self) -> None:
        chosen = self.random.random()
        who = self.random.choice(self.living)
        self.minutes += 1
        if chosen < 0.6 or not self.leads:
            email = self.random.choice(ADDRESSES)
            at = NOW + timedelta(minutes=self.minutes)
            self.leads[member(self.engine, who, email=email, first_name="Anna", last_name="Smith", received_at=at)] = (
                who
            )
        elif chosen < 0.85:
            lead_id = self.random.choice(list(self.leads))
            move(self.engine, lead_id, to=who, from_=self.leads[lead_id])
            self.leads[lead_id] = who
        elif len(self.living) > 2:
            loser, survivor = sorted(self.random.sample(self.living, 2), reverse=True)
            merge(self.engine, loser, into=survivor)
            self.living.remove(loser)
            self.leads = {lead: survivor if owner == loser else owner for lead, owner in self.leads.items()}


def _by_key(rows: dict[UUID, dict[str, Any]]) -> Iterator[tuple[str, list[UUID], list[UUID]]]:
    for key in ADDRESSES:
        holding = [who for who, row in rows.items() if row["email_key"] == key]
        waiting = [who for who, row in rows.items() if row["awaited_email_key"] == key]
        yield key, holding, waiting


@pytest.mark.parametrize("seed", range(6))
def test_after_every_chunk_the_oldest_who_wants_an_address_holds_it_and_the_end_does_not_depend_on_the_chunks(
    engine: sa.Engine, settings: Settings, seed: int
) -> None:
    world = World(engine, seed)
    for _ in range(30):
        world.change()
        if world.random.random() < 0.5:
            before = golden(engine)
            refresh(engine, settings, limit=world.random.randint(1, 3), now=NOW + timedelta(days=1))
            rows = golden(engine)
            for key, holding, waiting in _by_key(rows):
                assert len(holding) == (1 if holding or waiting else 0), key
                assert all(holding[0] < other for other in waiting)
            for who in before.keys() & rows.keys():
                held = (before[who]["email_key"], rows[who]["email_key"])
                assert held[0] == held[1] or rows[who]["version"] > before[who]["version"]
            sent = wanted(engine)
            assert {who: row["version"] for who, row in rows.items()} == {who: sent[who][0] for who in rows}
    while refresh(engine, settings, limit=2).taken:
        pass
    piecemeal = holders(engine)
    with engine.begin() as connection:  # made at once out of nothing
        connection.execute(sa.delete(schema.golden_contacts))
        connection.execute(sa.delete(schema.outbox))
    ask_for(engine, *world.living)
    refresh(engine, settings)
    assert holders(engine) == piecemeal


def test_what_is_read_of_an_address_does_not_grow_with_those_who_share_it(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        connection.execute(
            sa.text(
                """
                insert into golden_contacts (contact_id, tenant, version, email, email_key, awaited_email_key,
                    attribution, consent, provenance, lead_count, first_source, last_source, first_seen_at,
                    last_seen_at, batch_id, runner_id, updated_at)
                select gen_random_uuid(), :tenant, 1, 'x', case when n = 1 then 'x' end, case when n > 1 then 'x' end,
                    '{}', '{}', '{}', 1, 'website', 'website', now(), now(), gen_random_uuid(), 'test', now()
                from generate_series(1, 3000) n
                """
            ),
            {"tenant": TENANT},
        )
    parameters = {"tenant": TENANT, "ids": "{}", "keys": '["x"]'}
    with engine.connect() as connection:
        assert len(address_holders.read_claims(connection, tenant=TENANT, contact_ids=[], keys=["x"])) == 2
        explained = sa.text(f"explain (analyze, timing off, summary off, format json) {address_holders._CLAIMS.text}")
        (plan,) = connection.execute(explained, parameters).scalar_one()

    def nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
        yield node
        for child in node.get("Plans", ()):
            yield from nodes(child)

    read = [node["Actual Rows"] * node["Actual Loops"] for node in nodes(plan["Plan"])]
    assert max(read) <= 2
