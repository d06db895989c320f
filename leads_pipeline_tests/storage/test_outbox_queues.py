"""What waits in the outbox, found queue by queue, and which rows go next."""

from datetime import timedelta

import pytest
import sqlalchemy as sa

from leads_pipeline.domain.stage import ALL_LANES, Lane, Operation
from leads_pipeline.storage.outbox import claim
from leads_pipeline.storage.outbox_queues import (
    _FRESHEST,
    _OLDEST,
    _REMOVALS,
    _WAITING,
    Queue,
    count_due,
    one_per_address,
    pick,
    removals_due,
    waiting_queues,
)
from leads_pipeline_tests.conftest import NOW
from leads_pipeline_tests.crm.delivering import Contact, add_contacts, merge_away

HOUR = timedelta(hours=1)
BOTH = ("acme", "globex")


def _queues(engine: sa.Engine, *, tenants: tuple[str, ...] = BOTH) -> list[Queue]:
    with engine.connect() as connection:
        return waiting_queues(connection, destination="hubspot", lanes=ALL_LANES, tenants=tenants, now=NOW)


def _ids(contacts: list[Contact]) -> list[int]:
    return [contact.outbox_id for contact in contacts]


def test_each_tenant_s_lanes_with_something_due_are_found_with_the_oldest(engine: sa.Engine) -> None:
    add_contacts(engine, 3, due_at=NOW - HOUR)
    add_contacts(engine, 2)
    add_contacts(engine, tenant="globex", lane=Lane.BATCH)
    add_contacts(engine, tenant="globex", lane=Lane.NEAR_REAL_TIME, due_at=NOW + HOUR)
    add_contacts(engine, destination="salesforce")
    assert _queues(engine) == [Queue(Lane.BATCH, "globex", NOW), Queue(Lane.REAL_TIME, "acme", NOW - HOUR)]
    assert _queues(engine, tenants=("acme",)) == [Queue(Lane.REAL_TIME, "acme", NOW - HOUR)]


def test_what_is_claimed_and_what_is_to_be_removed_is_in_no_queue(engine: sa.Engine) -> None:
    held, gone, left = add_contacts(engine, 3)
    with engine.begin() as connection:
        claim(connection, [held.outbox_id], token="a", until=NOW + HOUR, now=NOW)
    merge_away(engine, gone)
    assert len(_queues(engine)) == 1
    what = {"destination": "hubspot", "lanes": ALL_LANES, "tenants": BOTH, "now": NOW}
    with engine.connect() as connection:
        assert pick(
            connection, destination="hubspot", lane=Lane.REAL_TIME, shares={"acme": 9}, fresh=False, now=NOW
        ) == [(left.outbox_id, "acme")]
        assert removals_due(connection, operation=Operation.ARCHIVE, most=10, **what) == [
            (gone.outbox_id, Lane.REAL_TIME)
        ]
        assert count_due(connection, most=10, **what) == 2
        assert count_due(connection, most=1, **what) == 1


def test_each_tenant_s_share_is_taken_the_oldest_first_or_the_newest(engine: sa.Engine) -> None:
    old = add_contacts(engine, 2, due_at=NOW - HOUR)
    new = add_contacts(engine, 2)
    other = add_contacts(engine, 2, tenant="globex")
    what = {"destination": "hubspot", "lane": Lane.REAL_TIME, "shares": {"globex": 1, "acme": 2}, "now": NOW}
    with engine.connect() as connection:
        oldest = pick(connection, fresh=False, **what)
        freshest = pick(connection, fresh=True, **what)
    assert oldest == [(other[0].outbox_id, "globex"), (old[0].outbox_id, "acme"), (old[1].outbox_id, "acme")]
    assert {outbox_id for outbox_id, tenant in freshest if tenant == "acme"} == set(_ids(new))


def test_what_was_tried_already_is_not_fresh(engine: sa.Engine) -> None:
    [tried] = add_contacts(engine)
    with engine.begin() as connection:
        connection.execute(sa.text("update outbox set attempts = 1"))
        what = {"destination": "hubspot", "lane": Lane.REAL_TIME, "shares": {"acme": 5}, "now": NOW}
        assert pick(connection, fresh=True, **what) == []
        assert pick(connection, fresh=False, **what) == [(tried.outbox_id, "acme")]


def test_two_that_pick_at_once_share_the_queue_and_do_not_wait_for_each_other(engine: sa.Engine) -> None:
    add_contacts(engine, 4)
    what = {"destination": "hubspot", "lane": Lane.REAL_TIME, "shares": {"acme": 2}, "fresh": False, "now": NOW}
    with engine.connect() as one, engine.connect() as two:
        two.execute(sa.text("set lock_timeout = '1s'"))
        first, second = pick(one, **what), pick(two, **what)
    assert len({*first, *second}) == 4


def test_one_address_goes_once_in_a_request(engine: sa.Engine) -> None:
    ours = add_contacts(engine, email="ada@example.com")
    theirs = add_contacts(engine, tenant="globex", email="ada@example.com")
    others = add_contacts(engine, 2, tenant="globex")
    with engine.connect() as connection:
        assert one_per_address(connection, _ids(ours + theirs + others)) == _ids(ours + others)


@pytest.mark.parametrize(
    ("statement", "index"),
    [(_OLDEST, "ix_outbox_due"), (_FRESHEST, "ix_outbox_fresh"), (_WAITING, "ix_outbox_due"),
     (_REMOVALS, "ix_outbox_removals")],
)  # fmt: skip
def test_no_statement_reads_what_it_does_not_return(statement: sa.TextClause, index: str, engine: sa.Engine) -> None:
    """With a backlog of another tenant, in order of age and without sorting it."""
    add_contacts(engine, 3000, due_at=NOW - HOUR)
    gone = add_contacts(engine, 3, tenant="globex")
    merge_away(engine, gone[0])
    values = {
        "destination": "hubspot", "lane": "real_time", "now": NOW, "most": 10, "tenants": ["globex"],
        "lanes": ["real_time", "batch"], "operation": "archive",
        "shares": '[{"tenant": "globex", "most": 100}]',
    }  # fmt: skip
    with engine.connect() as connection:
        connection.execute(sa.text("analyze outbox"))
        used = {name: value for name, value in values.items() if name in statement._bindparams}
        plan = "\n".join(connection.execute(sa.text(f"explain {statement.text}"), used).scalars())
    assert f"using {index}" in plan
    assert "Seq Scan on outbox" not in plan
    assert "ix_outbox_tenant_state" not in plan  # it knows no lane: one that is empty is read to its end
