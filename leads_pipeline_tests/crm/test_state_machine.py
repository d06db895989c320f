"""Anything that can be wanted of contacts, in any order, while requests get lost and workers die: the CRM ends up so.

The real outbox on a real database, delivered to the sandbox over HTTP, against a model of who should be there.
"""

import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from random import Random
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, Phase
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from leads_pipeline.crm.clients import build_clients
from leads_pipeline.crm.port import Courier, CrmClient, CrmRecord, CrmRequest, CrmResponse, RecordVerdict
from leads_pipeline.crm.sandbox.hubspot.options import HubSpotOptions
from leads_pipeline.crm.sandbox.running import SandboxServer, running_sandbox
from leads_pipeline.domain.stage import Lane
from leads_pipeline.storage import outbox_demand
from leads_pipeline.storage.outbox_demand import Demand
from leads_pipeline.storage.schema import golden_contacts
from leads_pipeline_tests.conftest import NOW
from leads_pipeline_tests.crm.delivering import BATCH, TOKEN, outbox_rows, people_did, settings_for, sync
from leads_pipeline_tests.crm.simulated_time import SimulatedClock, simulated_time
from leads_pipeline_tests.crm.watched_writes import Write, watch_writes

TENANT = "acme"
HUBSPOT = "hubspot"
PEOPLE = 5
places = st.integers(min_value=0, max_value=PEOPLE - 1)
FAULTS = ("http_500", "http_503", "silent_200", "reset_connection", "written_then_reset", "written_then_500",
          "http_429", "locked_423", "unreported")  # fmt: skip
ACTS = ("change", "merge", "be merged", "undo", "consent", "erase", "late")
POINTS = ("claimed", "written down", "sent", "answered")
# Longer than any record waits for its next attempt at the start of its budget, and than a dead worker's claim.
LONG = timedelta(hours=2)


class Killed(BaseException):
    """What kill -9 does to a worker, but for its process: nothing more is written, and its lock is gone."""


@dataclass(eq=False)
class Person:
    """A contact as it is to be. ``version`` 0: it was never there. ``denied_at``: the version that withdrew consent."""

    contact_id: UUID
    email: str
    version: int = 0
    living: bool = False
    merged_into: "Person | None" = None
    denied_at: int | None = None
    kin: "set[Person]" = field(default_factory=set)  # all who were ever one with them

    @property
    def name(self) -> str:
        return f"version {self.version}"

    @property
    def key(self) -> str:
        return str(self.contact_id)


class Interrupted:
    """HubSpot's client. Once: ``meanwhile`` is done before or after a request; then the worker may die there."""

    def __init__(self, client: CrmClient, *, when: str, meanwhile: Callable[[], None], dies: bool) -> None:
        self._client = client
        self._when = when
        self._meanwhile: Callable[[], None] | None = meanwhile
        self._dies = dies
        self.traits = client.traits

    def describe(self, *, courier: Courier) -> Any:
        return self._client.describe(courier=courier)

    def deliver(self, records: Sequence[CrmRecord], *, courier: Courier) -> list[RecordVerdict]:
        self._at("claimed")
        verdicts = self._client.deliver(records, courier=courier)
        self._at("answered")
        return verdicts

    def send(self, request: CrmRequest) -> CrmResponse:
        self._at("written down")
        response = self._client.send(request)
        self._at("sent")
        return response

    def close(self) -> None:
        self._client.close()

    def _at(self, point: str) -> None:
        if point == self._when and self._meanwhile is not None:
            meanwhile, self._meanwhile = self._meanwhile, None
            meanwhile()
            if self._dies:
                raise Killed


class Deliveries(RuleBasedStateMachine):
    """One tenant with a handful of people, and what is at the CRM of them."""

    def __init__(
        self, engine: sa.Engine, clock: SimulatedClock, sandbox: SandboxServer, writes: list[Write], done: Counter[str]
    ) -> None:
        super().__init__()
        self.engine, self.clock, self.sandbox, self.writes, self.done = engine, clock, sandbox, writes, done
        self.settings = settings_for(sandbox.base_url, in_flight=1, batch_size=3, run_seconds=300)
        self.random = Random(11)
        self.numbers = 0
        self.made_by_people: dict[str, Person] = {}
        self.erased: list[Person] = []
        self.gone: list[str] = []  # the records that erased persons were known to have
        with engine.begin() as connection:
            connection.execute(
                sa.text(
                    "delete from sync_attempts; delete from crm_sync_batches; delete from dead_letters; "
                    "delete from outbox; delete from golden_contacts; delete from circuit_breakers; "
                    "delete from rate_limits"
                )
            )
        sandbox.reset()
        writes.clear()
        clock.advance(3600)
        self.people = [self._somebody() for _ in range(PEOPLE)]
        self._write(self.people[:3])

    # What happens

    @rule(what=st.sampled_from((*ACTS, "come")), place=places, other=places)
    def something_is_decided(self, what: str, place: int, other: int) -> None:
        if what == "come":
            self._write([self._newcomer()])
        else:
            self._act(what, self._living(place), self._living(other))

    @rule(
        when=st.sampled_from(POINTS), what=st.sampled_from(("nothing", *ACTS)), dies=st.booleans(), place=places,
        other=places, new=st.booleans(), fault=st.none() | st.sampled_from(FAULTS),
        seconds=st.sampled_from([7200, 90, 6]),
    )  # fmt: skip
    def something_is_decided_of_somebody_who_is_under_way(
        self, when: str, what: str, dies: bool, place: int, other: int, new: bool, fault: str | None, seconds: int
    ) -> None:
        self.clock.advance(seconds)
        partner = self._living(other)
        person = (None if new else self._living(place)) or self._newcomer()
        self.sandbox.set_faults([{"kind": fault, "count": 1}] if fault else [])
        self._write([person])
        self._deliver(when, dies, partial(self._act, what, person, partner))

    @rule(when=st.sampled_from(POINTS), dies=st.booleans(), seconds=st.sampled_from([7200, 6, 0]), place=places)
    def what_is_due_is_delivered(self, when: str, dies: bool, seconds: int, place: int) -> None:
        self.clock.advance(seconds)
        self._deliver(when, dies, partial(self._act, "undo", self._living(place), None))

    @rule(place=places)
    def people_make_a_record(self, place: int) -> None:
        person = self.people[place]
        self.sandbox.clear_faults()
        known = {item["properties"].get("email") for item in self.sandbox.contacts()}
        if person.version == 0 and person.email not in known:
            body = {"inputs": [{"properties": {"email": person.email, "city": "London"}}]}
            self.made_by_people[people_did(self.sandbox, "batch/create", body)["results"][0]["id"]] = person

    def teardown(self) -> None:
        if not getattr(self, "failed", False):
            self.check()

    # How

    def _somebody(self) -> Person:
        self.numbers += 1
        number = self.numbers
        return Person(UUID(int=number), f"person{number}@example.com")

    def _deliver(self, when: str, dies: bool, acts: Callable[[], None]) -> None:
        """Deliver what is due; in the first batch, at that point, ``acts``, and then the worker may die."""
        client = Interrupted(build_clients(self.settings)[HUBSPOT], when=when, meanwhile=acts, dies=dies)
        try:
            sync(self.engine, self.settings, self.clock, clients={HUBSPOT: client}, jitter=self.random.random)
        except Killed:
            self.done[f"killed, {when}"] += 1
        finally:
            client.close()

    def _newcomer(self) -> Person:
        """Somebody who was never there; people may have made a record of them."""
        waiting = [person for person in self.people if not person.version]
        if not waiting:
            waiting = [self._somebody()]
            self.people += waiting
        return waiting[0]

    def _living(self, place: int) -> Person | None:
        living = [person for person in self.people if person.living]
        return living[place % len(living)] if living else None

    def _act(self, what: str, person: Person | None, other: Person | None) -> None:
        """Decide something of ``person``, or of who was merged into them, if that can be."""
        if person is None or not person.living:
            return
        match what:
            case "change":
                self._write([person])
            case "merge" | "be merged" if other is not None and other.living and other is not person:
                loser, survivor = (person, other) if what == "merge" else (other, person)
                loser.living, loser.merged_into = False, survivor
                kin = loser.kin | survivor.kin | {loser, survivor}
                for one in kin:
                    one.kin = kin
                self._write([survivor], gone={loser: survivor})
            case "undo" if merged := [other for other in self.people if other.merged_into is person]:
                merged[0].merged_into = None
                self._write([merged[0], person])
            case "consent":
                person.denied_at = person.version + 1 if person.denied_at is None else None
                self._write([person])
            case "erase":
                self._erase(person)
            case "late" if self.erased:
                self._want_erased(self.erased[-1])
            case _:
                return
        self.done[what] += 1

    def _erase(self, person: Person) -> None:
        """The person goes, with all who were merged into them; others take their places."""
        same = [other for other in self.people if other is person or _into(other, person)]
        with self.engine.begin() as connection:
            ids = [other.contact_id for other in same]
            self.gone += _held(connection, same)
            outbox_demand.lock_rows(connection, tenant=TENANT, contact_ids=ids)
            connection.execute(golden_contacts.delete().where(golden_contacts.c.contact_id.in_(ids)))
            outbox_demand.erase(connection, ids, tenant=TENANT, now=self.clock.now())
        for other in same:
            other.living = False
        self.erased += same
        self.people = [self._somebody() if other in same else other for other in self.people]

    def _want_erased(self, person: Person) -> None:
        """Somebody who has not heard of it wants an erased contact delivered."""
        with self.engine.begin() as connection:
            self._golden(connection, person)
            late = [Demand(person.contact_id, HUBSPOT, person.version + 10, Lane.REAL_TIME)]
            outbox_demand.demand(connection, late, tenant=TENANT, now=self.clock.now())
            connection.execute(golden_contacts.delete().where(golden_contacts.c.contact_id == person.contact_id))

    def _write(self, people: Sequence[Person], gone: dict[Person, Person] | None = None) -> None:
        """What the golden step does, in its order: lock, take away, withdraw, write, want."""
        gone = gone or {}
        with self.engine.begin() as connection:
            everybody = [person.contact_id for person in (*people, *gone)]
            versions = outbox_demand.lock_rows(connection, tenant=TENANT, contact_ids=everybody)
            lost = [person.contact_id for person in gone]
            connection.execute(golden_contacts.delete().where(golden_contacts.c.contact_id.in_(lost)))
            outbox_demand.withdraw(
                connection,
                {person.contact_id: Lane.REAL_TIME for person in gone},
                survivors={loser.contact_id: survivor.contact_id for loser, survivor in gone.items()},
                hand_on=[HUBSPOT],
                tenant=TENANT,
                now=self.clock.now(),
            )
            for person in people:
                person.version = max(person.version, versions.get(person.contact_id, 0)) + 1
                if person.denied_at is not None and person.denied_at > person.version:
                    person.denied_at = person.version
                person.living = True
                self._golden(connection, person)
            wants = [Demand(person.contact_id, HUBSPOT, person.version, Lane.REAL_TIME) for person in people]
            outbox_demand.demand(connection, wants, tenant=TENANT, now=self.clock.now())

    def _golden(self, connection: sa.Connection, person: Person) -> None:
        consent = {} if person.denied_at is None else {"marketing": {"email": {"granted": False}}}
        values = {
            "tenant": TENANT, "version": person.version, "email": person.email, "email_key": person.email,
            "first_name": person.name, "last_name": "Byron", "attribution": {}, "consent": consent, "provenance": {},
            "lead_count": 1, "first_source": "website", "last_source": "website", "first_seen_at": NOW,
            "last_seen_at": NOW, "batch_id": BATCH, "runner_id": "test", "updated_at": NOW,
        }  # fmt: skip
        connection.execute(golden_contacts.delete().where(golden_contacts.c.contact_id == person.contact_id))
        connection.execute(golden_contacts.insert().values(contact_id=person.contact_id, **values))

    # What must hold

    def check(self) -> None:
        """Once the CRM is well and nothing waits, it holds what it should, and nothing else of us."""
        self.failed = True
        self._drain()
        rows = {str(row["contact_id"]): row for row in outbox_rows(self.engine).values()}
        living = {record["properties"]["lead_key"]: record for record in self._records() if _key(record)}
        wanted = {person.key: person for person in self.people if person.living}
        for key, person in wanted.items():
            row = rows[key]
            if person.denied_at is None:
                assert (row["state"], row["delivered_version"]) == ("delivered", person.version)
                assert (_email(living[key]), living[key]["properties"]["firstname"]) == (person.email, person.name)
                assert living[key]["id"] == row["crm_record_id"]
            else:
                assert row["state"] == "suppressed"
        # Whoever must not be sent changes nothing at the CRM, not even whose the record is that they were to take over.
        left = {
            person.key for person in self.people if (whole := _whole(person)).living and whole.denied_at is not None
        }
        assert living.keys() <= wanted.keys() | left, "nobody is there who should not be"
        for row in rows.values():
            assert row["state"] in ("delivered", "suppressed", "cancelled")
            assert row["claimed_by"] is None
        records = {record["id"] for record in self._records()}
        for crm_record_id, person in self.made_by_people.items():
            assert crm_record_id in records or {person, *person.kin} & set(self.erased), "what people made is kept"
        self._check_erased(rows)
        self._check_order()
        assert self.sandbox.report()["duplicates"] == 0
        with self.engine.connect() as connection:
            assert connection.execute(sa.text("select count(*) from dead_letters")).scalar_one() == 0
        assert sync(self.engine, self.settings, self.clock).requests == 0, "there is nothing left to do"
        self.failed = False

    def _drain(self) -> None:
        self.sandbox.clear_faults()
        for _ in range(12):
            self.clock.advance(LONG.total_seconds())
            sync(self.engine, self.settings, self.clock, jitter=self.random.random)
            if not any(row["state"] in ("waiting", "in_flight") for row in outbox_rows(self.engine).values()):
                return
        waiting = [row for row in outbox_rows(self.engine).values() if row["state"] in ("waiting", "in_flight")]
        raise AssertionError(f"these never arrive: {[dict(row) for row in waiting]}")

    def _check_erased(self, rows: dict[str, sa.RowMapping]) -> None:
        everything = [*self._records(), *self.sandbox.contacts(archived=True)]
        assert {record["id"] for record in everything}.isdisjoint(self.gone), "an erased person's record is there"
        assert {person.key for person in self.erased}.isdisjoint(map(_key, everything)), "one that they had before"
        for person in self.erased:
            assert person.key not in rows or rows[person.key]["operation"] == "erase"

    def _check_order(self) -> None:
        newest: Counter[str] = Counter()
        denied = {person.key: person.denied_at for person in self.people if person.denied_at is not None}
        for write in self.writes:
            version = int(write.properties.get("firstname", "version 0").removeprefix("version "))
            assert not write.key or version >= newest[write.key], "an older version followed a newer one"
            assert write.key not in denied or version < denied[write.key], "sent after consent was withdrawn"
            newest[write.key] = version

    def _records(self) -> list[dict[str, Any]]:
        return list(self.sandbox.contacts())


def _key(record: dict[str, Any]) -> str | None:
    return record["properties"].get("lead_key") or None


def _email(record: dict[str, Any]) -> str:
    return record["properties"]["email"]


def _held(connection: sa.Connection, people: Sequence[Person]) -> list[str]:
    ids = [person.contact_id for person in people]
    rows = connection.execute(
        sa.text("select crm_record_id from outbox where contact_id = any(:ids) and crm_record_id is not null"),
        {"ids": ids},
    )
    return list(rows.scalars())


def _whole(person: Person) -> Person:
    """Whom they have become a part of in the end."""
    while person.merged_into is not None:
        person = person.merged_into
    return person


def _into(person: Person, other: Person) -> bool:
    while person.merged_into is not None:
        person = person.merged_into
        if person is other:
            return True
    return False


def test_the_crm_ends_up_as_wanted_whatever_happens_on_the_way(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: Counter[str] = Counter()
    fixed = "LEADS_FUZZ_EXAMPLES" not in os.environ
    writes = watch_writes(monkeypatch)
    with simulated_time(database_url, NOW) as (engine, clock):
        options = HubSpotOptions(token=TOKEN).without_limits()
        with running_sandbox(options, clock=clock, random=Random(5)) as sandbox:
            run_state_machine_as_test(
                lambda: Deliveries(engine, clock, sandbox, writes, done),
                settings=hypothesis_settings(
                    max_examples=int(os.environ.get("LEADS_FUZZ_EXAMPLES", "15")),
                    stateful_step_count=25,
                    deadline=None,
                    derandomize=fixed,
                    # A failure is told at once; LEADS_FUZZ_EXAMPLES looks for the shortest way to it.
                    phases=[Phase.explicit, Phase.generate] if fixed else list(Phase),
                    suppress_health_check=list(HealthCheck),
                    database=None,
                ),
            )
    # Examples in which nothing of the kind happened would prove nothing of it; random ones may miss some.
    for what in (*(act for act in ACTS), *(f"killed, {point}" for point in POINTS)):
        assert done[what] or not fixed, done
