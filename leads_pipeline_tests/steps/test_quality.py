"""Holding a source's bad day: what is held, what is let pass, and that no lead is lost on the way."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa

from leads_pipeline.config import Settings
from leads_pipeline.defs.checks import required_destinations
from leads_pipeline.domain.expectations import Group
from leads_pipeline.domain.ids import BatchId, uuid7
from leads_pipeline.domain.stage import Chunk, ChunkReport, Lane, LeadState
from leads_pipeline.errors import LeadsError, NotFound
from leads_pipeline.matching.scoring import PairScorer
from leads_pipeline.steps.deduped_leads import dedupe_leads
from leads_pipeline.steps.quality import Held, hold_back, recheck, release, validate_again
from leads_pipeline.steps.validated_leads import validate_leads
from leads_pipeline.storage.conservation import conservation
from leads_pipeline.storage.quality_holds import HELD_UNTIL, Hold, find_holds
from leads_pipeline_tests.conftest import NOW
from leads_pipeline_tests.defs.rows import Flow

GROUP = Group("acme", "import", NOW.date())


@pytest.fixture
def seeding(engine: sa.Engine) -> Callable[..., Any]:
    @contextmanager
    def seed(**flow: Any) -> Iterator[Flow]:
        with engine.begin() as connection:
            yield Flow(connection, NOW, **{"source": "import", "lane": "batch", **flow})

    return seed


@pytest.fixture(scope="module")
def scorer() -> PairScorer:
    return PairScorer.load()


@pytest.fixture
def dedupe(engine: sa.Engine, settings: Settings, scorer: PairScorer) -> Callable[..., ChunkReport]:
    def run(*, lanes: tuple[Lane, ...] = tuple(Lane), after: float = 0, tenant: str = "acme") -> ChunkReport:
        now = NOW + timedelta(seconds=after)
        chunk = Chunk(tenant, lanes, 100, BatchId(uuid7(now)), "run-2", now)
        return dedupe_leads(engine, chunk, settings=settings, scorer=scorer)

    return run


def hold(engine: sa.Engine, *names: str, examined: tuple[Group, ...] = (GROUP,), group: Group = GROUP) -> Held:
    broken = {group: names} if names else {}
    return hold_back(engine, broken, examined=examined, runner_id="run-1", now=NOW)


def the_hold(engine: sa.Engine) -> Hold:
    with engine.connect() as connection:
        [found] = find_holds(connection)
    return found


def ended(engine: sa.Engine) -> list[tuple[str | None, str | None, str | None]]:
    with engine.connect() as connection:
        return [(h.resolution, h.ended_by, h.reason) for h in find_holds(connection, include_ended=True)]


def at_door(engine: sa.Engine, stage: str = "deduped_leads") -> set[UUID]:
    with engine.connect() as connection:
        return set(
            connection.execute(
                sa.text("select subject_id from pending where stage = :stage"), {"stage": stage}
            ).scalars()
        )


def rows(engine: sa.Engine, statement: str) -> list[Any]:
    with engine.connect() as connection:
        return list(connection.execute(sa.text(statement)))


def test_only_the_bad_source_s_day_is_held(engine, seeding, dedupe):
    with seeding() as flow, seeding(source="partner") as partner, seeding(tenant="globex") as globex:
        bad = flow.at_dedupe(email="none")
        earlier = flow.at_dedupe(received_at=NOW - timedelta(days=1))
        others = [earlier, partner.at_dedupe(), globex.at_dedupe()]
    assert hold(engine, "email_format").newly == (GROUP,)
    assert dedupe().passed == 2
    assert dedupe(tenant="globex").passed == 1
    assert at_door(engine) == {bad}
    assert {row.lead_id for row in rows(engine, "select lead_id from deduped_leads")} == set(others)


def test_the_hot_lanes_of_a_held_source_go_on(engine, seeding, dedupe):
    with seeding() as flow, seeding(lane="near_real_time") as hot:
        bad = flow.at_dedupe()
        hot.at_dedupe()
    hold(engine, "email_format")
    assert dedupe().passed == 1
    assert at_door(engine) == {bad}


def test_leads_that_come_after_the_hold_are_put_back_at_the_door(engine, seeding, dedupe):
    hold(engine, "email_format")
    with seeding() as flow, seeding(source="partner") as partner:
        late = flow.at_dedupe(email="none")
        partner.at_dedupe()
    report = dedupe()
    assert (report.taken, report.passed, report.counts["held_back"]) == (2, 1, 1)
    assert at_door(engine) == {late}
    [row] = rows(engine, "select since, due_at, lane, revision from pending where stage = 'deduped_leads'")
    assert (row.since, row.due_at, row.lane, row.revision) == (NOW, HELD_UNTIL, "batch", 1)
    assert dedupe().taken == 0, "what is held is not taken again and again"


def test_a_due_time_that_somebody_brings_forward_opens_no_door(engine, seeding, dedupe):
    with seeding() as flow:
        bad = flow.at_dedupe()
    hold(engine, "email_format")
    with engine.begin() as connection:
        connection.execute(sa.text("update pending set due_at = :now"), {"now": NOW})
    dedupe()
    assert at_door(engine) == {bad}
    assert rows(engine, "select from deduped_leads") == []


def test_holding_twice_changes_nothing_but_the_rules(engine, seeding):
    with seeding() as flow:
        flow.at_dedupe()
    assert hold(engine, "email_format") == Held((GROUP,), (), (), ())
    assert hold(engine, "phone_share", "email_format") == Held((), (GROUP,), (), ())
    assert the_hold(engine).rules == ("email_format", "phone_share")


def test_a_group_that_breaks_nothing_any_more_passes(engine, seeding, dedupe):
    with seeding() as flow:
        flow.at_dedupe()
    hold(engine, "email_format")
    assert hold(engine) == Held((), (), (), (GROUP,))
    assert ended(engine) == [("passed", "run-1", None)]
    assert dedupe().passed == 1


def test_a_group_that_was_not_examined_stays_held(engine, seeding):
    with seeding() as flow:
        flow.at_dedupe()
    hold(engine, "email_format")
    assert hold(engine, examined=()) == Held((), (), (), ())
    assert the_hold(engine).waiting == 1


def test_a_hold_whose_leads_are_gone_ends(engine, seeding):
    with seeding() as flow:
        flow.at_dedupe()
    hold(engine, "email_format")
    with engine.begin() as connection:
        connection.execute(sa.text("delete from pending"))
    assert hold(engine, examined=()).passed == (GROUP,)
    assert ended(engine) == [("gone", "run-1", None)]


def test_released_leads_are_matched_and_who_released_them_is_kept(engine, seeding, dedupe):
    with seeding() as flow, seeding(source="partner") as partner:
        flow.at_dedupe()
        flow.at_dedupe()
        other = partner.at_dedupe()
    hold(engine, "phone_share")
    hold_back(engine, {Group("acme", "partner", NOW.date()): ["usable"]}, examined=(), runner_id="run-1", now=NOW)
    first = next(found for found in _holds(engine) if found.group == GROUP)
    assert release(engine, first.hold_id, actor="grace", reason="fair without phones", now=NOW) == 2
    assert ("released", "grace", "fair without phones") in ended(engine)
    assert dedupe().passed == 2
    assert at_door(engine) == {other}


def _holds(engine: sa.Engine) -> list[Hold]:
    with engine.connect() as connection:
        return find_holds(connection)


def test_what_was_released_is_held_again_only_for_another_rule(engine, seeding):
    with seeding() as flow:
        flow.at_dedupe()
    hold(engine, "phone_share")
    release(engine, the_hold(engine).hold_id, actor="grace", reason="fair", now=NOW)
    assert hold(engine, "phone_share") == Held((), (), (GROUP,), ())
    assert hold(engine, "phone_share", "email_format") == Held((GROUP,), (), (), ())


def test_another_day_is_not_released_with_it(engine):
    hold(engine, "phone_share")
    release(engine, the_hold(engine).hold_id, actor="grace", reason="fair", now=NOW)
    tomorrow = Group("acme", "import", NOW.date() + timedelta(days=1))
    assert hold(engine, "phone_share", group=tomorrow).newly == (tomorrow,)


def test_a_released_lead_goes_on_waiting_for_its_look_ups(engine, seeding, dedupe):
    until = NOW + timedelta(seconds=30)
    with seeding() as flow:
        lead = flow.at_dedupe()
        flow.insert("verification_requests", lead_id=lead, revision=1, kind="mx", tier="full", patience_until=until)
    hold(engine, "phone_share")
    release(engine, the_hold(engine).hold_id, actor="grace", reason="fair", now=NOW)
    assert dedupe().taken == 0
    assert dedupe(after=30).passed == 1


@pytest.mark.parametrize("call", [release, validate_again])
def test_a_hold_that_has_ended_or_never_was_is_refused(call, engine):
    hold(engine, "phone_share")
    number = the_hold(engine).hold_id
    release(engine, number, actor="grace", reason="fair", now=NOW)
    for hold_id in (number, number + 1):
        with pytest.raises(NotFound, match="leads quality list"):
            call(engine, hold_id, actor="grace", reason="fair", now=NOW)


def test_a_recheck_tells_what_is_still_broken(engine, seeding, settings):
    with seeding() as flow:
        flow.at_dedupe(email="none")
        flow.at_dedupe()
    hold(engine, "usable")
    found = recheck(engine, the_hold(engine).hold_id, settings=settings, actor="grace", now=NOW)
    assert [(item.rule.name, item.unexpected, item.rows) for item in found] == [("email_format", 1, 2)]
    assert the_hold(engine).rules == ("email_format",)


def test_a_recheck_of_leads_that_break_nothing_lets_them_pass(engine, seeding, settings, dedupe):
    with seeding() as flow:
        flow.at_dedupe()
    hold(engine, "usable")
    assert recheck(engine, the_hold(engine).hold_id, settings=settings, actor="grace", now=NOW) == []
    assert ended(engine) == [("passed", "grace", None)]
    assert dedupe().passed == 1


def test_leads_validated_again_come_back_to_their_hold_as_a_new_revision(engine, seeding, settings, dedupe):
    with seeding() as flow:
        lead = flow.at_dedupe(email="none")
        connection = flow.connection
        connection.execute(
            sa.text("update raw_leads set payload = :payload, context = :context"),
            {"payload": '{"email": "ada@example.com"}', "context": '{"row": 1}'},
        )
    hold(engine, "email_format")
    number = the_hold(engine).hold_id
    assert validate_again(engine, number, actor="grace", reason="mapping mended", now=NOW) == 1
    assert (at_door(engine), at_door(engine, "validated_leads")) == (set(), {lead})
    assert the_hold(engine).validating == 1
    [kept] = rows(engine, "select lead_id, revision, action, fields, actor, reason from lead_corrections")
    assert tuple(kept) == (lead, 2, "retry", {}, "grace", "mapping mended")
    with pytest.raises(LeadsError, match="wait to be validated again"):
        recheck(engine, number, settings=settings, actor="grace", now=NOW)
    assert hold(engine, examined=()) == Held((), (), (), ()), "the hold must not end while its leads are on their way"

    chunk = Chunk("acme", (Lane.BATCH,), 100, BatchId(uuid7(NOW)), "run-2", NOW)
    validate_leads(engine, chunk, settings=settings)
    assert dedupe().passed == 0, "they are examined first"
    assert at_door(engine) == {lead}
    assert recheck(engine, number, settings=settings, actor="grace", now=NOW) == []
    assert dedupe().passed == 1
    assert [tuple(row) for row in rows(engine, "select lead_id, revision from deduped_leads")] == [(lead, 2)]


def test_leads_are_accounted_for_as_pending_all_the_way(engine, seeding, settings, dedupe):
    with seeding() as flow:
        for _ in range(3):
            flow.at_dedupe(email="none")

    def account() -> tuple[bool, int]:
        with engine.connect() as connection:
            [found] = conservation(connection, destinations=required_destinations(settings))
        return found.conserved, found.states[LeadState.PENDING]

    hold(engine, "email_format")
    assert account() == (True, 3)
    dedupe()
    assert account() == (True, 3)
    validate_again(engine, the_hold(engine).hold_id, actor="grace", reason=None, now=NOW)
    assert account() == (True, 3)


def test_a_chunk_that_fails_leaves_held_leads_where_they_were(engine, seeding, dedupe):
    hold(engine, "email_format")
    with seeding() as flow, seeding(source="partner") as partner:
        leads = {flow.at_dedupe(), partner.at_dedupe()}
    with engine.begin() as connection:
        connection.execute(
            sa.text(
                "create function die() returns trigger language plpgsql as $$ begin raise 'no'; end $$;"
                "create trigger die before insert on deduped_leads for each row execute function die()"
            )
        )
    with pytest.raises(sa.exc.DBAPIError):
        dedupe()
    assert at_door(engine) == leads
