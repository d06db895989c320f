"""What an operator does with dead letters, and that no lead gets lost by it."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa

from leads_pipeline.clock import FrozenClock
from leads_pipeline.config import Settings
from leads_pipeline.crm.rehearsal import try_in_sandbox
from leads_pipeline.domain.sending_gate import Unsendable
from leads_pipeline.domain.stage import Lane, LeadState, Operation
from leads_pipeline.errors import NotFound
from leads_pipeline.steps.dead_letters import discard, foresee, redrive, rehearse
from leads_pipeline.storage.conservation import Conservation, conservation
from leads_pipeline.storage.dead_letter_actions import ActionRow, DoneBy, actions_of
from leads_pipeline.storage.dead_letters import (
    PAGE,
    LetterFilter,
    as_json,
    attempts_of,
    count_dead_letters,
    each_dead_letter,
    find_dead_letters,
    get_dead_letter,
)
from leads_pipeline_tests.conftest import NOW
from leads_pipeline_tests.defs.rows import Flow, insert

SECOND = timedelta(seconds=1)
GRACE = DoneBy("grace", NOW, "the mailbox exists")


@pytest.fixture
def leads(engine: sa.Engine, clock: FrozenClock) -> dict[str, UUID]:
    """One lead in each state."""
    with engine.begin() as connection:
        return Flow(connection, clock.now()).one_of_each()


def _letter(engine: sa.Engine) -> UUID:
    with engine.connect() as connection:
        [letter] = find_dead_letters(connection, limit=10)
    return letter.dead_letter_id


def _account(engine: sa.Engine) -> Conservation:
    with engine.connect() as connection:
        [found] = [
            item for item in conservation(connection, destinations={"acme": ("hubspot",)}) if item.tenant == "acme"
        ]
    return found


def _row(engine: sa.Engine, letter_id: UUID) -> sa.Row:
    with engine.connect() as connection:
        return connection.execute(
            sa.text(
                "select o.*, l.resolution from outbox o join dead_letters l using (outbox_id) "
                "where dead_letter_id = :id"
            ),
            {"id": letter_id},
        ).one()


def test_a_discarded_letter_s_leads_are_discarded_and_everything_still_adds_up(
    engine: sa.Engine, leads: dict[str, UUID]
) -> None:
    before, letter = _account(engine), _letter(engine)
    assert before.states[LeadState.DEAD] == 1
    [resolution] = discard(engine, [letter], done=DoneBy("grace", NOW, "no such person"))
    assert (resolution.changed, resolution.leads_discarded) == (True, 1)
    after = _account(engine)
    assert after.conserved
    assert after.states.get(LeadState.DEAD, 0) == 0
    assert after.states[LeadState.DISCARDED] == before.states[LeadState.DISCARDED] + 1
    with engine.connect() as connection:
        disposition = connection.execute(
            sa.text("select state, actor, reason from lead_dispositions where lead_id = :id"), {"id": leads["dead"]}
        ).one()
    assert tuple(disposition) == ("discarded", "grace", "no such person")
    assert _row(engine, letter).resolution == "discarded by grace"


def test_what_an_earlier_version_delivered_stays_delivered_when_a_later_one_is_discarded(
    engine: sa.Engine, leads: dict[str, UUID]
) -> None:
    letter = _letter(engine)
    with engine.begin() as connection:
        connection.execute(
            sa.text("update outbox set delivered_version = wanted_version, wanted_version = wanted_version + 1 "
                    "where state = 'dead'")
        )  # fmt: skip
        connection.execute(sa.text("update dead_letters set version = version + 1"))
        connection.execute(sa.text("update golden_contacts set version = version + 1"))
    assert discard(engine, [letter], done=GRACE)[0].leads_discarded == 0
    row = _row(engine, letter)
    assert (row.state, row.wanted_version) == ("delivered", row.delivered_version)
    assert _account(engine).conserved


def test_a_redriven_letter_s_contact_waits_with_a_fresh_budget(engine: sa.Engine, leads: dict[str, UUID]) -> None:
    letter = _letter(engine)
    [resolution] = redrive(engine, [letter], done=GRACE)
    row = _row(engine, letter)
    assert resolution.changed
    assert (row.state, row.attempts, row.due_at, row.resolution) == ("waiting", 0, NOW, "redriven by grace")
    assert _account(engine).conserved
    assert _account(engine).states.get(LeadState.DEAD, 0) == 0


def test_a_letter_is_resolved_once(engine: sa.Engine, leads: dict[str, UUID]) -> None:
    letter = _letter(engine)
    redrive(engine, [letter], done=GRACE)
    assert not redrive(engine, [letter], done=DoneBy("ada", NOW))[0].changed
    assert not discard(engine, [letter], done=DoneBy("ada", NOW, "x"))[0].changed
    assert _row(engine, letter).resolution == "redriven by grace"


def test_a_letter_that_does_not_exist_is_named(engine: sa.Engine) -> None:
    missing = uuid4()
    with pytest.raises(NotFound, match=str(missing)):
        redrive(engine, [missing], done=GRACE)
    with pytest.raises(NotFound, match=str(missing)):
        discard(engine, [missing], done=GRACE)


def test_lists_hold_no_personal_data_and_one_letter_does(engine: sa.Engine, leads: dict[str, UUID]) -> None:
    letter = _letter(engine)
    with engine.begin() as connection:
        connection.execute(sa.text("""update dead_letters set payload = '{"email": "ada@example.com"}'"""))
    with engine.connect() as connection:
        [listed] = find_dead_letters(connection, limit=10)
        whole = get_dead_letter(connection, letter)
    assert (listed.payload, listed.explanation) == ({}, None)
    assert whole is not None
    assert "ada@example.com" in as_json(whole.payload)
    assert "ada@example.com" not in repr(whole)


def _letters(engine: sa.Engine, **wanted: Any) -> int:
    with engine.connect() as connection:
        found = find_dead_letters(connection, LetterFilter(**wanted), limit=10)
        assert len(found) == count_dead_letters(connection, LetterFilter(**wanted))
    return len(found)


def test_letters_can_be_narrowed(engine: sa.Engine, leads: dict[str, UUID]) -> None:
    letter = _letter(engine)
    with engine.begin() as connection:
        connection.execute(sa.text("update dead_letters set reason = 'invalid', code = 'BAD_EMAIL'"))
    matching: dict[str, Any] = {
        "tenant": "acme", "destination": "any", "reason": "invalid", "code": "BAD_EMAIL", "lane": Lane.REAL_TIME,
        "since": NOW, "until": NOW,
    }  # fmt: skip
    other: dict[str, Any] = {
        "tenant": "globex", "destination": "elsewhere", "reason": "conflict", "code": "OTHER", "lane": Lane.BATCH,
        "since": NOW + SECOND, "until": NOW - SECOND,
    }  # fmt: skip
    assert _letters(engine, **matching) == 1
    assert {name: _letters(engine, **{name: value}) for name, value in other.items()} == dict.fromkeys(other, 0)
    redrive(engine, [letter], done=GRACE)
    assert (_letters(engine), _letters(engine, include_resolved=True)) == (0, 1)


def _die(engine: sa.Engine, count: int, destination: str = "hubspot") -> list[UUID]:
    """Dead contacts, one after the other; their letters, oldest first."""
    with engine.begin() as connection:
        flow = Flow(connection, NOW, destinations=(destination,))
        for _ in range(count):
            flow.dead()
        # In the order of their ids.
        connection.execute(
            sa.text(
                "update dead_letters l set destination = o.destination, tenant = o.tenant, "
                "died_at = died_at + l.outbox_id * interval '1 millisecond' "
                "from outbox o where o.outbox_id = l.outbox_id and o.destination = :destination"
            ),
            {"destination": destination},
        )
    return list(each_dead_letter(engine, LetterFilter(destination=destination), limit=count))


def test_whatever_a_filter_names_is_met_page_by_page_and_once(engine: sa.Engine) -> None:
    letters = _die(engine, PAGE + 3)
    assert len(set(letters)) == len(letters) == PAGE + 3
    assert list(each_dead_letter(engine, LetterFilter(), limit=PAGE + 1)) == letters[: PAGE + 1]
    resolutions = redrive(engine, each_dead_letter(engine, LetterFilter(), limit=PAGE + 3), done=GRACE)
    assert [item.dead_letter_id for item in resolutions if item.changed] == letters


def _due(engine: sa.Engine, letters: list[UUID]) -> list[float]:
    """When the letters' contacts are due, in seconds from now."""
    rows = [_row(engine, letter) for letter in letters]
    assert {(row.state, row.lane) for row in rows} == {("waiting", "batch")}
    return [(row.due_at - NOW).total_seconds() for row in rows]


def test_a_rate_spaces_the_letters_of_each_destination_and_goes_on_behind_what_was_spaced_before(
    engine: sa.Engine,
) -> None:
    letters, elsewhere = _die(engine, 5), _die(engine, 2, "elsewhere")
    redrive(engine, letters[:3], done=GRACE, per_second=4)
    redrive(engine, [*letters, *elsewhere], done=GRACE, per_second=2)
    assert _due(engine, letters) == [0, 0.25, 0.5, 1.0, 1.5]
    assert _due(engine, elsewhere) == [0, 0.5]
    with engine.connect() as connection:
        late = sa.text("select count(*) from outbox where waiting_since < due_at")
        assert connection.execute(late).scalar_one() == 0, "what was given up for days has not waited all that time"
    later = DoneBy("grace", NOW + 60 * SECOND)
    [last] = _die(engine, 1)
    redrive(engine, [last], done=later, per_second=2)
    assert _due(engine, [last]) == [60]


def test_what_is_spaced_by_mistake_puts_off_nothing_once_it_waits_no_more(engine: sa.Engine) -> None:
    slip = _die(engine, 3)
    redrive(engine, slip, done=GRACE, per_second=0.01)
    with engine.begin() as connection:
        connection.execute(sa.text("update outbox set due_at = :now where lane = 'batch'"), {"now": NOW})
    letters = _die(engine, 2)
    redrive(engine, letters, done=GRACE, per_second=4)
    assert _due(engine, letters) == pytest.approx([0.25, 0.5])


def test_two_commands_at_once_do_not_add_up_their_rates(engine: sa.Engine) -> None:
    letters = _die(engine, 40)
    with ThreadPoolExecutor(2) as pool:
        halves = [letters[::2], letters[1::2]]
        list(pool.map(lambda half: redrive(engine, half, done=GRACE, per_second=10), halves))
    assert sorted(_due(engine, letters)) == pytest.approx([number / 10 for number in range(40)])


def test_letters_that_are_redriven_by_two_at_once_are_redriven_once(engine: sa.Engine) -> None:
    letters = _die(engine, 60)
    with ThreadPoolExecutor(2) as pool:
        orders = [letters, letters[::-1]]
        done = list(pool.map(lambda order: redrive(engine, order, done=GRACE), orders))
    assert sum(item.changed for resolutions in done for item in resolutions) == 60
    assert _count(engine, "dead_letter_actions") == 60


def _count(engine: sa.Engine, table: str) -> int:
    with engine.connect() as connection:
        return connection.execute(sa.text(f"select count(*) from {table}")).scalar_one()


def _actions(engine: sa.Engine, letter: UUID) -> list[ActionRow]:
    with engine.connect() as connection:
        return actions_of(connection, letter)


def test_each_action_is_written_down_with_who_when_and_why(
    engine: sa.Engine, leads: dict[str, UUID], settings: Settings
) -> None:
    letter = _letter(engine)
    list(foresee(engine, [letter], settings=settings, done=DoneBy("ada", NOW)))
    redrive(engine, [letter], done=GRACE, per_second=2)
    redrive(engine, [letter], done=GRACE, per_second=2)
    looked, sent = _actions(engine, letter)
    assert (looked.action, looked.actor, looked.reason) == ("dry_run", "ada", None)
    assert (sent.action, sent.actor, sent.reason, sent.acted_at) == ("redrive", "grace", "the mailbox exists", NOW)
    assert sent.details["per_second"] == 2
    with engine.begin() as connection:
        connection.execute(sa.text("update outbox set state = 'dead' where state = 'waiting' and lane = 'batch'"))
        connection.execute(sa.text("update dead_letters set resolved_at = null"))
    discard(engine, [letter], done=GRACE)
    assert (_actions(engine, letter)[-1].action, _actions(engine, letter)[-1].details) == ("discard", {"leads": 1})


def test_an_action_that_fails_leaves_neither_its_effect_nor_a_word_of_it(
    engine: sa.Engine, leads: dict[str, UUID]
) -> None:
    letter = _letter(engine)
    with engine.begin() as connection:
        connection.execute(sa.text("alter table dead_letter_actions add check (actor <> 'grace')"))
    for act in (redrive, discard):
        with pytest.raises(sa.exc.IntegrityError):
            act(engine, [letter], done=GRACE)
    assert _row(engine, letter).state == "dead"
    assert _row(engine, letter).resolution is None
    assert _actions(engine, letter) == []


def test_a_dry_run_says_what_would_be_sent_and_what_has_changed_since_and_sends_nothing(
    engine: sa.Engine, settings: Settings
) -> None:
    [letter] = _die(engine, 1)
    with engine.begin() as connection:
        connection.execute(sa.text("update golden_contacts set first_name = 'Ada', city = 'Graz', version = 4"))
        payload = """'{"firstname": "Ada", "city": "Wien", "phone": ""}'"""
        connection.execute(sa.text(f"update dead_letters set payload = {payload}"))
    [foreseen] = foresee(engine, [letter], settings=settings, done=GRACE)
    assert foreseen.version == 4
    assert (foreseen.properties["city"], foreseen.changed) == ("Graz", ("city",))
    assert "Graz" not in repr(foreseen)
    assert _row(engine, letter).state == "dead"
    redrive(engine, [letter], done=GRACE)
    [resolved] = foresee(engine, [letter], settings=settings, done=GRACE)
    assert (resolved.version, resolved.properties) == (None, {})


def test_a_dry_run_says_who_must_not_be_sent_at_all(engine: sa.Engine, settings: Settings) -> None:
    [letter] = _die(engine, 1)
    with engine.begin() as connection:
        withdrawn = """'{"marketing": {"email": {"granted": false}}}'"""
        connection.execute(sa.text(f"update golden_contacts set consent = {withdrawn}"))
    [foreseen] = foresee(engine, [letter], settings=settings, done=GRACE)
    assert (foreseen.refused, foreseen.sendable) == (Unsendable.WITHDRAWN, False)
    [rehearsed] = rehearse(engine, [letter], settings=settings, done=GRACE, sandbox=try_in_sandbox)
    assert rehearsed.verdict is None


def test_a_sandbox_says_what_a_crm_would_and_nothing_of_the_real_one_is_used(
    engine: sa.Engine, settings: Settings
) -> None:
    good, bad, gone = _die(engine, 3)
    of_letter = "from dead_letters l where l.contact_id = g.contact_id and l.dead_letter_id = :id"
    with engine.begin() as connection:
        connection.execute(sa.text(f"update golden_contacts g set email = 'no address' {of_letter}"), {"id": bad})
        delete = of_letter.replace("from", "using")
        connection.execute(sa.text(f"delete from golden_contacts g {delete}"), {"id": gone})
    letters = [good, bad, gone]
    found = list(rehearse(engine, letters, settings=settings, done=GRACE, sandbox=try_in_sandbox))
    assert [item.foreseen.letter.dead_letter_id for item in found] == letters
    assert [item.verdict and str(item.verdict.verdict) for item in found] == ["delivered", "invalid", None]
    assert {_row(engine, letter).state for letter in letters} == {"dead"}
    assert [_count(engine, name) for name in ("crm_sync_batches", "sync_attempts", "rate_limits")] == [0, 0, 0]
    [action] = _actions(engine, bad)
    assert (action.action, action.details["verdict"]) == ("to_sandbox", "invalid")
    assert _actions(engine, gone) == []


def test_a_letter_has_every_attempt_of_its_version_and_what_the_requests_were_answered(
    engine: sa.Engine, leads: dict[str, UUID]
) -> None:
    with engine.connect() as connection:
        letter = get_dead_letter(connection, _letter(engine))
    assert letter is not None
    with engine.begin() as connection:
        for number, version in ((1, letter.version), (2, letter.version), (1, letter.version + 1)):
            batch = uuid4()
            insert(
                connection, "sync_attempts", now=NOW, batch_id=batch, outbox_id=letter.outbox_id, attempt=number,
                contact_id=letter.contact_id, version=version, verdict="transient", code="HTTP_503",
                sent_at=NOW + number * SECOND,
            )  # fmt: skip
            if number == 2:
                insert(
                    connection, "crm_sync_batches", now=NOW, batch_id=batch, http_status=503, correlation_id="abc"
                )  # fmt: skip
    with engine.connect() as connection:
        first, second = attempts_of(connection, letter)
    assert (first.attempt, first.sent_at, first.http_status) == (1, NOW + SECOND, None)
    assert (second.verdict, second.code, second.http_status, second.correlation_id) == (
        "transient", "HTTP_503", 503, "abc",
    )  # fmt: skip


@pytest.mark.parametrize("operation", [Operation.ARCHIVE, Operation.ERASE])
def test_a_letter_of_a_removal_says_so_and_sends_nothing_of_the_person(
    operation: Operation, engine: sa.Engine, settings: Settings
) -> None:
    [letter] = _die(engine, 1)
    with engine.begin() as connection:
        connection.execute(sa.text("update outbox set operation = :operation"), {"operation": operation})
    [foreseen] = foresee(engine, [letter], settings=settings, done=GRACE)
    assert (foreseen.operation, foreseen.sendable, foreseen.properties) == (operation, True, {})
    [rehearsed] = rehearse(engine, [letter], settings=settings, done=GRACE, sandbox=try_in_sandbox)
    assert rehearsed.verdict is None
    with engine.begin() as connection:
        connection.execute(sa.text("update outbox set delivered_version = 1"))
    [given_up] = discard(engine, [letter], done=GRACE)
    assert (given_up.changed, given_up.operation) == (True, operation)
    assert _row(engine, letter).state == "cancelled"  # it is not done


def test_an_open_letter_whose_contact_waits_again_is_not_said_to_be_resolved(engine: sa.Engine) -> None:
    [letter] = _die(engine, 1)
    with engine.begin() as connection:
        connection.execute(sa.text("update outbox set state = 'waiting'"))
    for act in (redrive, discard):
        [left] = act(engine, [letter], done=GRACE)
        assert (left.changed, left.is_open) == (False, True)
