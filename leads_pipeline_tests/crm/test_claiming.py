"""What waits is looked up again and again, and no more often than it costs."""

import pytest
import sqlalchemy as sa
from pydantic import ValidationError

from leads_pipeline.clock import FrozenClock
from leads_pipeline.config import DeliverySettings
from leads_pipeline.crm.claiming import Claims, QueueGate, Turn, every_queue
from leads_pipeline.domain.stage import ALL_LANES, Lane
from leads_pipeline_tests.crm.delivering import add_contacts


def _claims(engine: sa.Engine, clock: FrozenClock, *, passes: QueueGate = every_queue, size: int = 10) -> Claims:
    return Claims(
        engine,
        "hubspot",
        lanes=ALL_LANES,
        tenants=["acme"],
        size=size,
        settings=DeliverySettings(),
        clock=clock,
        passes=passes,
    )


def test_a_more_urgent_contact_is_seen_a_second_later_and_no_earlier(engine: sa.Engine, clock: FrozenClock) -> None:
    add_contacts(engine, lane=Lane.BATCH)
    claims = _claims(engine, clock)
    assert claims.next() == Turn(Lane.BATCH)
    add_contacts(engine)
    clock.advance(0.9)
    assert claims.next() == Turn(Lane.BATCH)
    clock.advance(0.1)
    assert claims.next() == Turn(Lane.REAL_TIME)


def test_looking_takes_a_twentieth_of_the_time_at_most(engine: sa.Engine, clock: FrozenClock) -> None:
    add_contacts(engine, lane=Lane.BATCH)
    claims = _claims(engine, clock)

    def takes_a_fifth_of_a_second(_connection, _cursor, statement, *_more) -> None:
        if "recursive queue" in statement:
            clock.advance(0.2)

    sa.event.listen(engine, "before_cursor_execute", takes_a_fifth_of_a_second)
    try:
        assert claims.next() == Turn(Lane.BATCH)
        add_contacts(engine)
        clock.advance(3.9)
        assert claims.next() == Turn(Lane.BATCH)
        clock.advance(0.2)
        assert claims.next() == Turn(Lane.REAL_TIME)
    finally:
        sa.event.remove(engine, "before_cursor_execute", takes_a_fifth_of_a_second)


def test_where_nothing_waits_is_looked_at_once_more_before_the_end(engine: sa.Engine, clock: FrozenClock) -> None:
    claims = _claims(engine, clock)
    assert claims.next() is None
    add_contacts(engine)
    assert claims.next() == Turn(Lane.REAL_TIME)


def test_a_lane_that_is_parked_has_no_turn(engine: sa.Engine, clock: FrozenClock) -> None:
    add_contacts(engine, lane=Lane.BATCH)
    claims = _claims(engine, clock)
    assert claims.next(without=[Lane.BATCH]) is None
    assert claims.next() == Turn(Lane.BATCH)


def test_a_queue_that_may_not_pass_has_no_turn_and_fills_no_room(engine: sa.Engine, clock: FrozenClock) -> None:
    """As of a tenant whose batch is held for its quality; what is to be taken away goes all the same."""
    [kept] = add_contacts(engine, lane=Lane.BATCH)
    [sent] = add_contacts(engine, lane=Lane.REAL_TIME)
    may = {"batch": False}
    claims = _claims(engine, clock, passes=lambda tenant, lane: (tenant, lane) != ("acme", Lane.BATCH) or may["batch"])
    turn = claims.next()
    assert turn == Turn(Lane.REAL_TIME)
    with engine.begin() as connection:
        assert claims.pick(connection, turn, now=clock.now()) == [sent.outbox_id]
    may["batch"] = True
    clock.advance(1)
    assert claims.next(without=[Lane.REAL_TIME]) == Turn(Lane.BATCH)
    may["batch"] = False
    with engine.begin() as connection:
        connection.execute(
            sa.text("update outbox set operation = 'archive' where outbox_id = :id"), {"id": kept.outbox_id}
        )
    clock.advance(1)
    turn = claims.next()
    assert turn is not None
    assert turn.removals == (kept.outbox_id,)


def test_a_few_erasures_have_every_second_turn_and_hold_back_nobody(engine: sa.Engine, clock: FrozenClock) -> None:
    """A request for each is what vendors ask for: two hundred of them must not go before a real-time contact."""
    gone = add_contacts(engine, 12, lane=Lane.BATCH)
    with engine.begin() as connection:
        connection.execute(
            sa.text("update outbox set operation = 'erase' where outbox_id = any(:ids)"),
            {"ids": [contact.outbox_id for contact in gone]},
        )
    add_contacts(engine, 3)
    claims, taken = _claims(engine, clock, size=1), []
    while (turn := claims.next()) is not None:
        with engine.begin() as connection:
            picked = claims.pick(connection, turn, now=clock.now())
            taken.append((len(picked), bool(turn.removals), turn.makes_room))
            connection.execute(
                sa.text("update outbox set state = 'delivered' where outbox_id = any(:ids)"), {"ids": picked}
            )
        clock.advance(1)
    assert taken[:4] == [(1, False, False), (1, True, False), (1, False, False), (1, True, False)]
    assert sum(count for count, removals, _room in taken if removals) == 12


def test_a_lane_that_is_left_out_keeps_its_part_and_floors_leave_room_for_each_other() -> None:
    settings = DeliverySettings.model_validate({"lanes": {"batch": {"weight": 4, "floor": 0.3}}})
    assert {name: (lane.weight, lane.floor) for name, lane in settings.lanes.items()} == {
        "real_time": (8, 0.2),
        "near_real_time": (3, 0.1),
        "batch": (4, 0.3),
    }
    with pytest.raises(ValidationError, match="more than 1 together"):
        DeliverySettings.model_validate({"lanes": {"batch": {"floor": 0.8}}})


def test_a_removal_that_comes_after_the_turn_was_chosen_still_goes_first(engine: sa.Engine, clock: FrozenClock) -> None:
    survivor, gone = add_contacts(engine, 2)
    claims = _claims(engine, clock)
    turn = claims.next()
    assert turn == Turn(Lane.REAL_TIME)
    with engine.begin() as connection:
        connection.execute(
            sa.text("update outbox set operation = 'archive' where outbox_id = :id"), {"id": gone.outbox_id}
        )
        assert claims.pick(connection, turn, now=clock.now()) == []
    removal = claims.next()
    assert removal == Turn(Lane.REAL_TIME, (gone.outbox_id,), makes_room=True)
    with engine.begin() as connection:
        assert claims.pick(connection, removal, now=clock.now()) == [gone.outbox_id]
        connection.execute(
            sa.text("update outbox set state = 'delivered' where outbox_id = :id"), {"id": gone.outbox_id}
        )
    assert claims.next() == turn
    with engine.begin() as connection:
        assert claims.pick(connection, turn, now=clock.now()) == [survivor.outbox_id]


def test_a_removal_in_a_lane_that_is_parked_holds_up_nobody(engine: sa.Engine, clock: FrozenClock) -> None:
    (contact,) = add_contacts(engine)
    (gone,) = add_contacts(engine, lane=Lane.BATCH)
    with engine.begin() as connection:
        connection.execute(
            sa.text("update outbox set operation = 'archive' where outbox_id = :id"), {"id": gone.outbox_id}
        )
    claims = _claims(engine, clock)
    turn = claims.next(without=[Lane.BATCH])
    assert turn == Turn(Lane.REAL_TIME)
    with engine.begin() as connection:
        assert claims.pick(connection, turn, now=clock.now()) == [contact.outbox_id]
