"""Contacts that are merged, or parted again, while a worker has them in its hands: the CRM ends up with what there is.

The real steps of identity on a real database; what the worker suffers comes on top.
"""

from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from uuid import UUID

import pytest
import sqlalchemy as sa

from leads_pipeline.clock import FrozenClock
from leads_pipeline.crm.clients import build_clients
from leads_pipeline.crm.sandbox.hubspot.options import HubSpotOptions
from leads_pipeline.crm.sandbox.running import SandboxServer, running_sandbox
from leads_pipeline.domain.ids import LeadId
from leads_pipeline.storage import outbox_demand
from leads_pipeline.storage.conservation import conservation
from leads_pipeline_tests.crm.delivering import TOKEN, people_did, settings_for, sync
from leads_pipeline_tests.crm.test_state_machine import Interrupted, Killed
from leads_pipeline_tests.steps.identity_play import Play
from leads_pipeline_tests.steps.rows import TENANT

ANNA = {"full_name": "Anna Kowalczyk", "email": "anna@northwind.com", "company": "Northwind"}
BERT = {"full_name": "Bertil Quist", "email": "b.quist@harbor.com", "company": "Harbor"}
# What becomes of the request that is under way: it passes, it gets lost with or without being carried out, it is
# refused for a while, its worker dies.
FATES = (None, "written_then_reset", "reset_connection", "http_503", "dies")


class Scene:
    """Two contacts, and what the CRM has of them."""

    def __init__(self, engine: sa.Engine, sandbox: SandboxServer) -> None:
        self.engine, self.sandbox = engine, sandbox
        self.settings = settings_for(sandbox.base_url, in_flight=1)
        self.play = Play(engine, self.settings)

    def arrive(self) -> None:
        self.anna, self.bert = self.play.arrive(**ANNA), self.play.arrive(**BERT)

    def deliver(self) -> None:
        """Deliver until nothing waits; what was refused or got lost is tried again."""
        for _ in range(8):
            sync(self.engine, self.settings, FrozenClock(self.play.now))
            self.play.now += timedelta(hours=2)
        with self.engine.connect() as connection:
            states = connection.execute(sa.text("select distinct state from outbox")).scalars().all()
        assert set(states) <= {"delivered", "cancelled"}

    def meanwhile(self, when: str, fate: str | None, act: Callable[[], object]) -> None:
        """Deliver what is due; at that point of the first batch ``act``, and then ``fate``."""
        done: list[object] = []
        if fate not in (None, "dies"):
            self.sandbox.set_faults([{"kind": fate, "count": 1}])
        client = Interrupted(
            build_clients(self.settings)["hubspot"],
            when=when,
            meanwhile=lambda: done.append(act()),
            dies=fate == "dies",
        )
        try:
            sync(self.engine, self.settings, FrozenClock(self.play.now), clients={"hubspot": client})
        except Killed:
            pass
        finally:
            client.close()
        assert done, "there was something to deliver"
        self.sandbox.clear_faults()
        self.play.now += timedelta(seconds=1)

    def contact_of(self, lead: LeadId) -> str:
        return str(self.play.contact_of()[lead])

    def merge(self) -> object:
        return self.play.merge(self.play.contact_of()[self.anna], self.play.contact_of()[self.bert])

    def in_the_crm(self) -> dict[str, str]:
        """Who is there by our key, and under which address."""
        return {
            item["properties"]["lead_key"]: item["properties"]["email"]
            for item in self.sandbox.contacts()
            if item["properties"].get("lead_key")
        }

    def check(self, *, apart: bool) -> None:
        """After everything was delivered: what there is, is there, and nobody has anything left to do.

        Whoever is erased then leaves nothing behind, whatever records they had on the way.
        """
        self.deliver()
        golden = {str(contact_id): row["email"] for contact_id, row in self.play.golden().items()}
        assert len(golden) == (2 if apart else 1)
        assert self.in_the_crm() == golden
        assert self.sandbox.report()["duplicates"] == 0
        with self.engine.connect() as connection:
            (account,) = conservation(connection, destinations={TENANT: ["hubspot"]})
            letters = connection.execute(sa.text("select count(*) from dead_letters")).scalar_one()
        assert account.conserved
        assert letters == 0
        assert {str(state) for state, count in account.states.items() if count} <= {"delivered", "merged"}
        assert sync(self.engine, self.settings, FrozenClock(self.play.now)).requests == 0
        self.erase(golden)
        assert [*self.sandbox.contacts(), *self.sandbox.contacts(archived=True)] == []

    def erase(self, contact_ids: Iterable[str]) -> None:
        ids = [UUID(contact_id) for contact_id in contact_ids]
        with self.engine.begin() as connection:
            connection.execute(sa.text("delete from golden_contacts where contact_id = any(:ids)"), {"ids": ids})
            outbox_demand.erase(connection, ids, tenant=TENANT, now=self.play.now)
        self.deliver()


@pytest.fixture
def scene(engine: sa.Engine) -> Iterator[Scene]:
    with running_sandbox(HubSpotOptions(token=TOKEN).without_limits()) as sandbox:
        yield Scene(engine, sandbox)


def test_two_that_are_merged_after_a_worker_died_and_another_failed(scene: Scene) -> None:
    """What the first one wrote must not be forgotten because the second one wrote nothing."""
    scene.arrive()
    scene.meanwhile("sent", "dies", lambda: None)
    sync(scene.engine, scene.settings, FrozenClock(scene.play.now))  # finds that the worker is dead
    scene.play.now += timedelta(minutes=1)
    scene.meanwhile("claimed", "http_503", lambda: None)
    scene.merge()
    scene.check(apart=False)


@pytest.mark.parametrize("fate", ["written_then_reset", "http_503"])
def test_two_that_are_merged_after_their_request_got_lost(scene: Scene, fate: str) -> None:
    scene.arrive()
    scene.meanwhile("claimed", fate, lambda: None)
    scene.merge()
    scene.check(apart=False)


@pytest.mark.parametrize(
    ("when", "fate"),
    [("claimed", None), ("written down", "dies"), *(("sent", fate) for fate in FATES), ("answered", "dies")],
)
def test_two_that_are_merged_while_both_are_sent_for_the_first_time(scene: Scene, when: str, fate: str | None) -> None:
    scene.arrive()
    scene.meanwhile(when, fate, scene.merge)
    scene.check(apart=False)


@pytest.mark.parametrize("fate", FATES)
@pytest.mark.parametrize("under_way", ["anna", "bert"])
def test_two_that_are_merged_while_a_change_of_one_is_sent(scene: Scene, under_way: str, fate: str | None) -> None:
    """The older one survives; the CRM has both already."""
    scene.arrive()
    scene.deliver()
    lead, payload = (scene.anna, ANNA) if under_way == "anna" else (scene.bert, BERT)
    scene.play.correct(lead, revision=2, **{**payload, "company": "Mills"})
    scene.meanwhile("sent", fate, scene.merge)
    scene.check(apart=False)


@pytest.mark.parametrize(("when", "fate"), [("claimed", "dies"), *(("sent", fate) for fate in FATES)])
def test_a_merge_that_is_undone_while_its_archive_is_sent(scene: Scene, when: str, fate: str | None) -> None:
    scene.arrive()
    scene.deliver()
    scene.merge()
    scene.meanwhile(when, fate, lambda: scene.play.undo(scene.play.last_decision()))
    scene.check(apart=True)


@pytest.mark.parametrize(("when", "fate"), [("claimed", "dies"), *(("sent", fate) for fate in FATES)])
def test_a_merge_that_is_undone_while_the_record_changes_hands(scene: Scene, when: str, fate: str | None) -> None:
    """People made Bert's record, so Anna is to take it over."""
    body = {"inputs": [{"properties": {"email": BERT["email"], "jobtitle": "Known to the sales team"}}]}
    people_did(scene.sandbox, "batch/create", body)
    scene.arrive()
    scene.deliver()
    scene.merge()
    scene.meanwhile(when, fate, lambda: scene.play.undo(scene.play.last_decision()))
    scene.deliver()
    titles = [item["properties"].get("jobtitle") for item in scene.sandbox.contacts()]
    assert titles.count("Known to the sales team") == 1
    scene.check(apart=True)


@pytest.mark.parametrize("fate", FATES)
def test_two_that_are_merged_and_parted_again_while_one_request_is_under_way(scene: Scene, fate: str | None) -> None:
    scene.arrive()

    def act() -> None:
        scene.merge()
        scene.play.undo(scene.play.last_decision())

    scene.meanwhile("sent", fate, act)
    scene.check(apart=True)


@pytest.mark.parametrize("fate", FATES)
def test_a_merge_that_is_undone_while_the_survivor_is_sent(scene: Scene, fate: str | None) -> None:
    scene.arrive()
    scene.deliver()
    scene.merge()
    scene.deliver()
    scene.play.correct(scene.anna, revision=2, **{**ANNA, "company": "Mills"})
    scene.meanwhile("sent", fate, lambda: scene.play.undo(scene.play.last_decision()))
    scene.check(apart=True)
