"""What waits at a door is taken once, in order, and comes back when its taker dies."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa

from leads_pipeline.clock import FrozenClock
from leads_pipeline.domain.ids import BatchId, uuid7
from leads_pipeline.domain.stage import ALL_LANES, Chunk, Lane, Stage
from leads_pipeline.storage.pending import _CLAIMS, Waiting, claim, enqueue, set_aside, tenants_waiting

DOOR = Stage.VALIDATED_LEADS


def waiting(
    clock: FrozenClock,
    *,
    tenant: str = "acme",
    lane: Lane = Lane.REAL_TIME,
    ago: float = 0,
    due_in: float | None = None,
) -> Waiting:
    since = clock.now() - timedelta(seconds=ago)
    due_at = None if due_in is None else clock.now() + timedelta(seconds=due_in)
    return Waiting(uuid7(since), tenant, lane, 1, since, due_at)


def chunk(clock: FrozenClock, *, tenant: str = "acme", limit: int = 100, lanes: tuple[Lane, ...] = ALL_LANES) -> Chunk:
    return Chunk(tenant, lanes, limit, BatchId(uuid7(clock.now())), "test", clock.now())


def put(engine: sa.Engine, *subjects: Waiting, stage: Stage = DOOR) -> None:
    with engine.begin() as connection:
        enqueue(connection, stage, subjects)


def take(engine: sa.Engine, wanted: Chunk, *, stage: Stage = DOOR) -> list[Waiting]:
    with engine.begin() as connection:
        return claim(connection, stage, wanted)


def tenants(engine: sa.Engine, clock: FrozenClock, *, lanes: tuple[Lane, ...] = ALL_LANES) -> list[str]:
    with engine.connect() as connection:
        return tenants_waiting(connection, DOOR, lanes=lanes, now=clock.now())


def ids(subjects: list[Waiting]) -> list[UUID]:
    return [subject.subject_id for subject in subjects]


def test_what_was_put_is_taken_once(engine: sa.Engine, clock: FrozenClock):
    subject = waiting(clock)
    put(engine, subject)

    assert take(engine, chunk(clock)) == [subject]
    assert take(engine, chunk(clock)) == []


def test_a_claim_that_is_rolled_back_leaves_everything_where_it_was(engine: sa.Engine, clock: FrozenClock):
    subject = waiting(clock)
    put(engine, subject)

    with engine.connect() as connection:
        assert claim(connection, DOOR, chunk(clock)) == [subject]
        connection.rollback()

    assert take(engine, chunk(clock)) == [subject]


def test_two_claims_at_once_never_win_the_same_subject(engine: sa.Engine, clock: FrozenClock):
    subjects = [waiting(clock, ago=ago) for ago in range(10)]
    put(engine, *subjects)

    with engine.begin() as first, engine.begin() as second:
        one = claim(first, DOOR, chunk(clock, limit=6))
        other = claim(second, DOOR, chunk(clock, limit=6))

    assert sorted(ids(one) + ids(other)) == sorted(ids(subjects))
    assert not set(ids(one)) & set(ids(other))


def test_urgent_lanes_come_first_and_the_oldest_within_a_lane(engine: sa.Engine, clock: FrozenClock):
    old_batch = waiting(clock, lane=Lane.BATCH, ago=500)
    near = waiting(clock, lane=Lane.NEAR_REAL_TIME, ago=300)
    new_urgent, old_urgent = waiting(clock, ago=1), waiting(clock, ago=9)
    put(engine, old_batch, near, new_urgent, old_urgent)

    taken = [take(engine, chunk(clock, limit=1)) for _time in range(4)]

    assert taken == [[old_urgent], [new_urgent], [near], [old_batch]]


def test_only_the_lanes_and_the_tenant_that_were_asked_for_are_taken(engine: sa.Engine, clock: FrozenClock):
    mine = waiting(clock, lane=Lane.BATCH)
    put(engine, mine, waiting(clock, lane=Lane.REAL_TIME), waiting(clock, tenant="globex", lane=Lane.BATCH))

    assert take(engine, chunk(clock, lanes=(Lane.BATCH,))) == [mine]


def test_doors_do_not_share_a_queue(engine: sa.Engine, clock: FrozenClock):
    subject = waiting(clock)
    put(engine, subject)
    put(engine, subject, stage=Stage.DEDUPED_LEADS)

    assert take(engine, chunk(clock)) == [subject]
    assert take(engine, chunk(clock), stage=Stage.DEDUPED_LEADS) == [subject]


def test_a_subject_that_waits_already_keeps_its_place_and_becomes_more_urgent(engine: sa.Engine, clock: FrozenClock):
    first = waiting(clock, lane=Lane.BATCH, ago=60)
    put(engine, first)
    put(engine, Waiting(first.subject_id, "acme", Lane.NEAR_REAL_TIME, 3, clock.now()))
    put(engine, Waiting(first.subject_id, "acme", Lane.BATCH, 2, clock.now()))

    (taken,) = take(engine, chunk(clock))

    assert taken == Waiting(first.subject_id, "acme", Lane.NEAR_REAL_TIME, 3, first.since)


def test_what_is_due_later_is_left(engine: sa.Engine, clock: FrozenClock):
    put(engine, waiting(clock, due_in=30))

    assert take(engine, chunk(clock)) == []
    clock.advance(30)
    assert len(take(engine, chunk(clock))) == 1


def test_a_clock_that_is_set_back_holds_up_nothing_that_was_never_put_off(engine: sa.Engine, clock: FrozenClock):
    before, late = waiting(clock, ago=7_300), waiting(clock, due_in=30)
    first, second = waiting(clock, ago=2), waiting(clock, ago=1)
    put(engine, second, late, first, before)
    clock.advance(-7_200)

    assert tenants(engine, clock) == ["acme"]
    assert [ids(take(engine, chunk(clock, limit=2))), ids(take(engine, chunk(clock)))] == [
        ids([before, first]),
        ids([second]),
    ]
    assert tenants(engine, clock) == []
    clock.advance(7_230)
    assert ids(take(engine, chunk(clock))) == ids([late])


def test_after_a_clock_was_set_back_urgent_lanes_still_come_first(engine: sa.Engine, clock: FrozenClock):
    urgent, batch = waiting(clock), waiting(clock, lane=Lane.BATCH, ago=7_200)
    put(engine, batch, urgent)
    clock.advance(-3_600)

    assert [ids(take(engine, chunk(clock, limit=1))) for _time in range(2)] == [ids([urgent]), ids([batch])]


def test_what_is_set_aside_while_the_clock_was_set_back_is_put_off(engine: sa.Engine, clock: FrozenClock):
    poison, other = waiting(clock, ago=2), waiting(clock, ago=1)
    put(engine, poison, other)
    clock.advance(-86_400)

    with engine.begin() as connection:
        until = clock.now() + timedelta(hours=1)
        assert set_aside(connection, DOOR, chunk(clock, limit=1), until=until) == poison.subject_id

    assert ids(take(engine, chunk(clock))) == ids([other])
    clock.advance(3_600)
    (taken,) = take(engine, chunk(clock))
    assert (taken.subject_id, taken.since) == (poison.subject_id, clock.now() - timedelta(hours=1))


def test_two_claims_at_once_share_what_is_ahead_of_the_clock(engine: sa.Engine, clock: FrozenClock):
    subjects = [waiting(clock, ago=ago) for ago in range(10)]
    put(engine, *subjects)
    clock.advance(-60)

    with engine.begin() as first, engine.begin() as second:
        one = claim(first, DOOR, chunk(clock, limit=6))
        other = claim(second, DOOR, chunk(clock, limit=6))

    assert (len(one), sorted(ids(one) + ids(other))) == (6, sorted(ids(subjects)))


@pytest.mark.parametrize("ahead", [50_000, 0])
@pytest.mark.parametrize("statement", _CLAIMS)
def test_a_claim_reads_no_more_than_it_takes_however_much_waits(
    engine: sa.Engine, clock: FrozenClock, statement: sa.TextClause, ahead: int
):
    """50,000 leads wait for a look-up, as many are ahead of the clock or none: an index names the first ones."""
    fill = """
        insert into pending (stage, subject_id, tenant, lane, revision, since, due_at)
        select 'validated_leads', gen_random_uuid(), 'acme', 'real_time', 1, since, due_at
        from (
            select cast(:now as timestamptz) - n * interval '1 ms' as since,
                cast(:now as timestamptz) + n * interval '1 ms' as due_at
            from generate_series(1, 50000) n
            union all
            select cast(:now as timestamptz) + n * interval '1 ms', cast(:now as timestamptz) + n * interval '1 ms'
            from generate_series(1, :ahead) n
        ) as rows
    """
    wanted = {"stage": DOOR, "tenant": "acme", "lane": Lane.REAL_TIME, "now": clock.now(), "limit": 100}
    with engine.begin() as connection:
        connection.execute(sa.text(fill), {"now": clock.now(), "ahead": ahead})
        connection.execute(sa.text("analyze pending"))
        [explained] = connection.execute(
            sa.text(f"explain (analyze, timing off, format json) {statement.text}"), wanted
        ).scalar_one()
    assert most_rows_read(explained["Plan"]) <= 200


def most_rows_read(plan: dict[str, Any]) -> int:
    """What the node of a plan that read most has read, with what it threw away."""
    read = (plan["Actual Rows"] + plan.get("Rows Removed by Filter", 0)) * plan["Actual Loops"]
    return max([read, *(most_rows_read(node) for node in plan.get("Plans", ()))])


def test_tenants_are_named_whose_work_is_due_in_the_lanes(engine: sa.Engine, clock: FrozenClock):
    put(
        engine,
        waiting(clock, tenant="acme", lane=Lane.BATCH),
        waiting(clock, tenant="globex"),
        waiting(clock, tenant="initech", due_in=60),
    )

    assert tenants(engine, clock) == ["acme", "globex"]
    assert tenants(engine, clock, lanes=(Lane.REAL_TIME,)) == ["globex"]
    clock.advance(120)
    assert tenants(engine, clock) == ["acme", "globex", "initech"]
