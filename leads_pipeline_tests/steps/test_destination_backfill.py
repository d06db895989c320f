"""A destination that was added later gets the contacts that were there before it."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
import sqlalchemy as sa

from leads_pipeline.clock import FrozenClock
from leads_pipeline.config import Settings
from leads_pipeline.domain.stage import ALL_LANES, Lane
from leads_pipeline.flows import FlowContext, plan_sync
from leads_pipeline.steps.destination_backfill import Backfill, fill_destinations
from leads_pipeline.storage.conservation import conservation
from leads_pipeline.storage.destination_doors import unfilled_doors
from leads_pipeline_tests.conftest import NOW
from leads_pipeline_tests.defs.rows import Flow

LONG = timedelta(minutes=1)


def _with(settings: Settings, **destinations: tuple[str, ...]) -> Settings:
    """Each named tenant with these destinations; ``other`` is like hubspot."""
    tenants = {
        name: tenant.model_copy(update={"destinations": destinations.get(name, tenant.destinations)})
        for name, tenant in settings.tenants.items()
    }
    known = settings.destinations["hubspot"]
    return settings.model_copy(update={"tenants": tenants, "destinations": {"hubspot": known, "other": known}})


@pytest.fixture
def contacts(engine: sa.Engine, settings: Settings, clock: FrozenClock) -> None:
    """Seven delivered contacts of acme, three of globex; their destinations are filled."""
    with engine.begin() as connection:
        acme, globex = Flow(connection, NOW), Flow(connection, NOW, tenant="globex")
        for _ in range(7):
            acme.delivered()
        for _ in range(3):
            globex.delivered()
    assert _fill(engine, settings, clock) == Backfill(10, 0, done=True)


def _fill(engine: sa.Engine, settings: Settings, clock: FrozenClock, **options: object) -> Backfill:
    given = {"budget": LONG, "page": 3, **options}
    return fill_destinations(engine, settings=settings, clock=clock, **given)  # type: ignore[arg-type]  # a test's options


def _wanted(engine: sa.Engine) -> list[tuple[str, str, str, int]]:
    """(tenant, state, lane, rows) of the added destination."""
    with engine.connect() as connection:
        rows = connection.execute(
            sa.text(
                "select tenant, state, lane, count(*) from outbox where destination = 'other' "
                "group by tenant, state, lane order by tenant"
            )
        )
        return [tuple(row) for row in rows]


def test_an_added_destination_gets_every_contact_of_its_tenants_and_of_no_other(
    engine: sa.Engine, settings: Settings, clock: FrozenClock, contacts: None
) -> None:
    added = _with(settings, acme=("hubspot", "other"))
    before = _account(engine, added)
    filled = _fill(engine, added, clock)
    assert (filled.wanted, filled.done) == (7, True)
    assert _wanted(engine) == [("acme", "waiting", "batch", 7)]
    assert (before, _account(engine, added)) == (False, True)
    assert _fill(engine, added, clock) == Backfill(0, 0, done=True)


def _account(engine: sa.Engine, settings: Settings) -> bool:
    with engine.connect() as connection:
        found = conservation(connection, destinations={n: t.destinations for n, t in settings.tenants.items()})
    return all(tenant.conserved for tenant in found)


def test_a_fill_that_was_cut_off_goes_on_behind_its_last_page(
    engine: sa.Engine, settings: Settings, clock: FrozenClock, contacts: None
) -> None:
    added = _with(settings, acme=("hubspot", "other"))
    pages = [_fill(engine, added, clock, budget=timedelta(0)) for _ in range(3)]
    assert [(page.contacts, page.wanted, page.done) for page in pages] == [(3, 3, False), (3, 3, False), (1, 1, True)]
    assert _wanted(engine) == [("acme", "waiting", "batch", 7)]


def test_a_page_and_how_far_it_came_are_there_together_or_not_at_all(
    engine: sa.Engine, settings: Settings, clock: FrozenClock, contacts: None
) -> None:
    added = _with(settings, acme=("hubspot", "other"))
    with engine.begin() as connection:
        connection.execute(
            sa.text("alter table destination_doors add constraint stop check (filled_after is null) not valid")
        )
    with pytest.raises(sa.exc.IntegrityError):
        _fill(engine, added, clock)
    assert _wanted(engine) == []
    with engine.begin() as connection:
        assert unfilled_doors(connection) == {("acme", "other")}
        connection.execute(sa.text("alter table destination_doors drop constraint stop"))
    assert _fill(engine, added, clock).wanted == 7


def test_two_at_once_want_each_contact_once(
    engine: sa.Engine, settings: Settings, clock: FrozenClock, contacts: None
) -> None:
    added = _with(settings, acme=("hubspot", "other"), globex=("other",))
    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(lambda _: _fill(engine, added, clock, page=1), range(2)))
    _fill(engine, added, clock)
    assert sum(item.wanted for item in done) <= 10
    assert _wanted(engine) == [("acme", "waiting", "batch", 7), ("globex", "waiting", "batch", 3)]


def test_what_is_wanted_already_stays_as_it_is_also_when_a_person_fills_again(
    engine: sa.Engine, settings: Settings, clock: FrozenClock, contacts: None
) -> None:
    with engine.begin() as connection:
        connection.execute(sa.text("delete from outbox where outbox_id = (select min(outbox_id) from outbox)"))
    assert _fill(engine, settings, clock).wanted == 0
    assert _fill(engine, settings, clock, again=["hubspot"]).wanted == 1
    with engine.connect() as connection:
        states = connection.execute(sa.text("select state, count(*) from outbox group by state order by state")).all()
    assert [tuple(row) for row in states] == [("delivered", 9), ("waiting", 1)]


def test_a_destination_that_comes_back_is_filled_with_what_came_meanwhile(
    engine: sa.Engine, settings: Settings, clock: FrozenClock, contacts: None
) -> None:
    added = _with(settings, acme=("hubspot", "other"))
    _fill(engine, added, clock)
    _fill(engine, settings, clock)
    with engine.begin() as connection:
        Flow(connection, NOW).delivered()
    assert _fill(engine, added, clock).wanted == 1


def test_a_plan_with_the_batch_lane_fills_and_one_without_leaves_it(
    engine: sa.Engine, settings: Settings, clock: FrozenClock, contacts: None
) -> None:
    context = FlowContext(engine, _with(settings, acme=("hubspot", "other")), clock)
    plan_sync(context, lanes=[Lane.REAL_TIME])
    assert _wanted(engine) == []
    plan_sync(context, lanes=ALL_LANES)
    assert _wanted(engine) == [("acme", "waiting", "batch", 7)]
