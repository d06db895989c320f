"""A merge that was wrong, and what the CRM has of it before, during and after."""

from datetime import timedelta

import pytest
import sqlalchemy as sa

from leads_pipeline.clock import FrozenClock
from leads_pipeline.config import Settings
from leads_pipeline.crm.sandbox.hubspot.options import HubSpotOptions
from leads_pipeline.crm.sandbox.running import SandboxServer, running_sandbox
from leads_pipeline.storage.conservation import conservation
from leads_pipeline_tests.crm.delivering import TOKEN, settings_for, sync
from leads_pipeline_tests.steps.identity_play import Play
from leads_pipeline_tests.steps.rows import TENANT

ANNA = {"full_name": "Anna Kowalczyk", "email": "anna@northwind.com", "company": "Northwind"}
BERT = {"full_name": "Bertil Quist", "email": "b.quist@harbor.com", "company": "Harbor", "phone": "+14155552671"}


def deliver_all(play: Play, settings: Settings) -> None:
    """Deliver until nothing is due; what the CRM refuses for an address that is not free yet is tried again."""
    for _ in range(5):
        report = sync(play.engine, settings, FrozenClock(play.now))
        play.now += timedelta(hours=1)
        if not report.retried:
            return
    pytest.fail("the CRM goes on refusing")


def in_the_crm(sandbox: SandboxServer) -> dict[str, tuple[str, str]]:
    return {
        str(item["properties"]["lead_key"]): (item["properties"]["email"], item["properties"]["lastname"])
        for item in sandbox.contacts()
    }


@pytest.mark.parametrize("archived", [True, False], ids=["after the archive", "before the archive was sent"])
def test_an_undone_merge_gives_the_crm_both_back(engine: sa.Engine, archived: bool) -> None:
    with running_sandbox(HubSpotOptions(token=TOKEN).without_limits()) as sandbox:
        settings = settings_for(sandbox.base_url)
        play = Play(engine, settings)
        anna, bert = play.arrive(**ANNA), play.arrive(**BERT)
        deliver_all(play, settings)
        before = in_the_crm(sandbox)
        assert before == {
            str(play.contact_of()[anna]): ("anna@northwind.com", "Kowalczyk"),
            str(play.contact_of()[bert]): ("b.quist@harbor.com", "Quist"),
        }
        merged = play.merge(anna, bert)
        if archived:
            deliver_all(play, settings)
            assert len(in_the_crm(sandbox)) == 1
        play.undo(merged.merge_id)
        deliver_all(play, settings)
        assert in_the_crm(sandbox) == before
        with engine.connect() as connection:
            (account,) = conservation(connection, destinations={TENANT: ["hubspot"]})
        assert account.conserved
        assert {str(state): count for state, count in account.states.items() if count} == {"delivered": 2}
        assert sync(engine, settings, FrozenClock(play.now)).requests == 0
