"""A record of the CRM goes to the survivor of a merge where that keeps what people made, and comes back if undone."""

from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from leads_pipeline.clock import FrozenClock
from leads_pipeline.config import Settings
from leads_pipeline.crm.clients import build_clients
from leads_pipeline.crm.sandbox.hubspot.options import HubSpotOptions
from leads_pipeline.crm.sandbox.running import SandboxServer, running_sandbox
from leads_pipeline.storage import outbox_demand
from leads_pipeline.storage.conservation import conservation
from leads_pipeline_tests.crm.delivering import TOKEN, people_did, settings_for, sync
from leads_pipeline_tests.e2e.test_undo_in_the_crm import ANNA, BERT, deliver_all
from leads_pipeline_tests.steps.identity_play import Play
from leads_pipeline_tests.steps.rows import TENANT


class Scene:
    """Anna, whose record we made, and Bert, whose record people made and we took over."""

    def __init__(self, engine: sa.Engine, sandbox: SandboxServer) -> None:
        self.engine, self.sandbox = engine, sandbox
        self.settings: Settings = settings_for(sandbox.base_url)
        self.play = Play(engine, self.settings)
        made = {"properties": {"email": BERT["email"], "jobtitle": "Known to the sales team"}}
        [self.theirs] = [item["id"] for item in people_did(sandbox, "batch/create", {"inputs": [made]})["results"]]
        self.anna, self.bert = self.play.arrive(**ANNA), self.play.arrive(**BERT)

    def deliver(self) -> None:
        deliver_all(self.play, self.settings)

    def key_of(self, lead: Any) -> str:
        return str(self.play.contact_of()[lead])

    def keys(self) -> dict[str, str]:
        """Our key on each of the CRM's records."""
        return {item["id"]: item["properties"].get("lead_key", "") for item in self.sandbox.contacts()}

    def row(self, lead: Any) -> sa.RowMapping:
        with self.engine.connect() as connection:
            rows = connection.execute(
                sa.text("select * from outbox where contact_id = :id"), {"id": self.play.contact_of()[lead]}
            )
            return rows.mappings().one()

    def check(self) -> None:
        with self.engine.connect() as connection:
            (account,) = conservation(connection, destinations={TENANT: ["hubspot"]})
        assert account.conserved
        assert {str(state) for state, count in account.states.items() if count} <= {"delivered", "merged"}
        assert sync(self.engine, self.settings, FrozenClock(self.play.now)).requests == 0


@pytest.fixture
def scene(engine: sa.Engine) -> Any:
    with running_sandbox(HubSpotOptions(token=TOKEN).without_limits()) as sandbox:
        yield Scene(engine, sandbox)


def test_the_survivor_takes_over_what_people_made_and_our_own_record_is_archived(scene: Scene) -> None:
    scene.deliver()
    assert scene.row(scene.bert)["taken_over"] is True
    scene.play.merge(scene.anna, scene.bert)
    survivor = scene.row(scene.anna)
    assert survivor["claims_record"] == scene.theirs
    scene.deliver()
    assert scene.keys() == {scene.theirs: scene.key_of(scene.anna)}
    after = scene.row(scene.anna)
    assert (after["crm_record_id"], after["claims_record"], after["taken_over"]) == (scene.theirs, None, True)
    [kept] = scene.sandbox.contacts()
    assert kept["properties"]["jobtitle"] == "Known to the sales team"
    scene.check()


def test_a_survivor_without_a_record_takes_over_the_other_s(scene: Scene) -> None:
    with scene.engine.begin() as connection:  # the survivor was not sent yet
        connection.execute(
            sa.text("update outbox set due_at = :later where contact_id = :id"),
            {"later": scene.play.now + timedelta(days=1), "id": scene.play.contact_of()[scene.anna]},
        )
    scene.deliver()
    assert set(scene.keys()) == {scene.theirs}
    scene.play.merge(scene.anna, scene.bert)
    scene.deliver()
    assert scene.keys() == {scene.theirs: scene.key_of(scene.anna)}
    assert list(scene.sandbox.contacts(archived=True)) == []  # nothing was archived and made anew
    assert scene.row(scene.anna)["taken_over"] is True
    scene.check()


@pytest.mark.parametrize("delivered", [False, True], ids=["before it was sent", "after it was sent"])
def test_an_undone_merge_leaves_each_contact_a_record(scene: Scene, delivered: bool) -> None:
    scene.deliver()
    before = scene.keys()
    merged = scene.play.merge(scene.anna, scene.bert)
    if delivered:
        scene.deliver()
    scene.play.undo(merged.merge_id)
    scene.deliver()
    assert sorted(scene.keys().values()) == sorted([scene.key_of(scene.anna), scene.key_of(scene.bert)])
    emails = {item["properties"]["lead_key"]: item["properties"]["email"] for item in scene.sandbox.contacts()}
    assert emails == {scene.key_of(scene.anna): ANNA["email"], scene.key_of(scene.bert): BERT["email"]}
    if not delivered:
        assert scene.keys() == before
        assert scene.row(scene.bert)["taken_over"] is True
    scene.check()


def test_a_merge_undone_while_the_record_is_handed_on_leaves_each_contact_a_record(scene: Scene) -> None:
    scene.deliver()
    merged = scene.play.merge(scene.anna, scene.bert)
    client = build_clients(scene.settings)["hubspot"]
    undone: list[object] = []

    class UndoneMeanwhile:
        send, close, traits = client.send, client.close, client.traits

        def deliver(self, records: Any, *, courier: Any) -> Any:
            if not undone:
                undone.append(scene.play.undo(merged.merge_id))
            return client.deliver(records, courier=courier)

    sync(scene.engine, scene.settings, FrozenClock(scene.play.now), clients={"hubspot": UndoneMeanwhile()})
    client.close()
    scene.play.now += timedelta(hours=1)
    scene.deliver()
    assert sorted(scene.keys().values()) == sorted([scene.key_of(scene.anna), scene.key_of(scene.bert)])
    scene.check()


def test_a_record_that_people_deleted_meanwhile_is_made_anew(scene: Scene) -> None:
    scene.deliver()
    scene.play.merge(scene.anna, scene.bert)
    people_did(scene.sandbox, "batch/archive", {"inputs": [{"id": scene.theirs}]})
    scene.deliver()
    assert list(scene.keys().values()) == [scene.key_of(scene.anna)]
    scene.check()


def test_a_survivor_that_is_erased_first_takes_the_record_with_it(scene: Scene) -> None:
    scene.deliver()
    scene.play.merge(scene.anna, scene.bert)
    with scene.engine.begin() as connection:
        connection.execute(sa.text("delete from golden_contacts"))
        survivor = scene.play.contact_of()[scene.anna]
        assert outbox_demand.erase(connection, [survivor], tenant=TENANT, now=scene.play.now) == (2, 0)
    scene.deliver()
    assert [*scene.sandbox.contacts(), *scene.sandbox.contacts(archived=True)] == []


@pytest.mark.parametrize("undone", [False, True], ids=["merged", "merged and parted again"])
def test_whoever_is_erased_takes_along_the_records_that_they_had_before(scene: Scene, undone: bool) -> None:
    """Anna's own record, which gave way to Bert's; and what was archived of Carl, who was merged into her, too."""
    carl = scene.play.arrive(full_name="Carl Younger", email="carl@younger.example")
    scene.deliver()
    merged = scene.play.merge(scene.anna, scene.bert)
    scene.deliver()
    if undone:
        scene.play.undo(merged.merge_id)
        scene.deliver()
    scene.play.merge(scene.anna, carl)
    scene.deliver()
    assert len(list(scene.sandbox.contacts(archived=True))) == 2
    bert = scene.key_of(scene.bert)
    with scene.engine.begin() as connection:
        survivor = scene.play.contact_of()[scene.anna]
        connection.execute(sa.text("delete from golden_contacts where contact_id = :id"), {"id": survivor})
        outbox_demand.erase(connection, [survivor], tenant=TENANT, now=scene.play.now)
    scene.deliver()
    left = [*scene.sandbox.contacts(), *scene.sandbox.contacts(archived=True)]
    assert [item["properties"]["lead_key"] for item in left] == ([bert] if undone else [])
    with scene.engine.connect() as connection:
        erased = connection.execute(sa.text("select former_records from outbox where operation = 'erase'")).scalars()
        assert {tuple(item) for item in erased} == {()}


def test_a_survivor_that_is_merged_away_first_leaves_what_people_made(scene: Scene) -> None:
    scene.deliver()
    carl = scene.play.arrive(full_name="Carl Older", email="carl@older.example")
    scene.deliver()
    scene.play.merge(scene.anna, scene.bert)
    scene.play.merge(carl, scene.anna)
    scene.deliver()
    keys = scene.keys()
    assert [key for key in keys.values() if key] == [scene.key_of(carl)]
    assert scene.theirs in keys
    scene.check()
