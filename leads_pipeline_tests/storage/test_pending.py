"""What waits at a door is taken once, in order, and comes back when its taker dies."""

from datetime import datetime, timedelta
from uuid import UUID

import sqlalchemy as sa

from leads_pipeline.clock import FrozenClock
from leads_pipeline.domain.ids import BatchId, uuid7
from leads_pipeline.domain.stage import ALL_LANES, Chunk, Lane, Stage
from leads_pipeline.storage.pending import Waiting, claim, enqueue, tenants_waiting

DOOR = Stage.VALIDATED_LEADS


def waiting(clock: FrozenClock, *, tenant: str = "acme", lane: Lane = Lane.REAL_TIME, ago: float = 0) -> Waiting:
    since = clock.now() - timedelta(seconds=ago)
    return Waiting(uuid7(since), tenant, lane, 1, since)


def chunk(clock: FrozenClock, *, tenant: str = "acme", limit: int = 100, lanes: tuple[Lane, ...] = ALL_LANES) -> Chunk:
    return Chunk(tenant, lanes, limit, BatchId(uuid7(clock.now())), "test", clock.now())


def put(engine: sa.Engine, *subjects: Waiting, stage: Stage = DOOR) -> None:
    with engine.begin() as connection:
        enqueue(connection, stage, subjects)


def take(engine: sa.Engine, wanted: Chunk, *, stage: Stage = DOOR) -> list[Waiting]:
    with engine.begin() as connection:
        return claim(connection, stage, wanted)


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
    put(engine, waiting(clock, ago=-30))

    assert take(engine, chunk(clock)) == []
    clock.advance(30)
    assert len(take(engine, chunk(clock))) == 1


def test_tenants_are_named_whose_work_is_due_in_the_lanes(engine: sa.Engine, clock: FrozenClock):
    put(
        engine,
        waiting(clock, tenant="acme", lane=Lane.BATCH),
        waiting(clock, tenant="globex"),
        waiting(clock, tenant="initech", ago=-60),
    )

    def tenants(lanes: tuple[Lane, ...], now: datetime) -> list[str]:
        with engine.connect() as connection:
            return tenants_waiting(connection, DOOR, lanes=lanes, now=now)

    assert tenants(ALL_LANES, clock.now()) == ["acme", "globex"]
    assert tenants((Lane.REAL_TIME,), clock.now()) == ["globex"]
    assert tenants(ALL_LANES, clock.now() + timedelta(minutes=2)) == ["acme", "globex", "initech"]
