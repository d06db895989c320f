"""What an operator does with dead letters, and that no lead gets lost by it."""

from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa

from leads_pipeline.clock import FrozenClock
from leads_pipeline.domain.stage import LeadState
from leads_pipeline.errors import NotFound
from leads_pipeline.steps.dead_letters import discard, redrive
from leads_pipeline.storage.conservation import Conservation, conservation
from leads_pipeline.storage.dead_letters import find_dead_letters, get_dead_letter, payload_json
from leads_pipeline_tests.conftest import NOW
from leads_pipeline_tests.defs.rows import Flow


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
    resolution = discard(engine, letter, actor="grace", reason="no such person", now=NOW)
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
    assert discard(engine, letter, actor="grace", reason="x", now=NOW).leads_discarded == 0
    row = _row(engine, letter)
    assert (row.state, row.wanted_version) == ("delivered", row.delivered_version)
    assert _account(engine).conserved


def test_a_redriven_letter_s_contact_waits_with_a_fresh_budget(engine: sa.Engine, leads: dict[str, UUID]) -> None:
    letter = _letter(engine)
    [resolution] = redrive(engine, [letter], actor="grace", now=NOW)
    row = _row(engine, letter)
    assert resolution.changed
    assert (row.state, row.attempts, row.due_at, row.resolution) == ("waiting", 0, NOW, "redriven by grace")
    assert _account(engine).conserved
    assert _account(engine).states.get(LeadState.DEAD, 0) == 0


def test_a_letter_is_resolved_once(engine: sa.Engine, leads: dict[str, UUID]) -> None:
    letter = _letter(engine)
    redrive(engine, [letter], actor="grace", now=NOW)
    assert not redrive(engine, [letter], actor="ada", now=NOW)[0].changed
    assert not discard(engine, letter, actor="ada", reason="x", now=NOW).changed
    assert _row(engine, letter).resolution == "redriven by grace"


def test_a_letter_that_does_not_exist_is_named(engine: sa.Engine) -> None:
    missing = uuid4()
    with pytest.raises(NotFound, match=str(missing)):
        redrive(engine, [missing], actor="grace", now=NOW)
    with pytest.raises(NotFound, match=str(missing)):
        discard(engine, missing, actor="grace", reason="x", now=NOW)


def test_lists_hold_no_personal_data_and_one_letter_does(engine: sa.Engine, leads: dict[str, UUID]) -> None:
    letter = _letter(engine)
    with engine.begin() as connection:
        connection.execute(sa.text("""update dead_letters set payload = '{"email": "ada@example.com"}'"""))
    with engine.connect() as connection:
        [listed] = find_dead_letters(connection, limit=10)
        whole = get_dead_letter(connection, letter)
    assert (listed.payload, listed.explanation) == ({}, None)
    assert whole is not None
    assert "ada@example.com" in payload_json(whole)
    assert "ada@example.com" not in repr(whole)


def test_lists_can_be_narrowed(engine: sa.Engine, leads: dict[str, UUID]) -> None:
    letter = _letter(engine)
    with engine.connect() as connection:
        found = get_dead_letter(connection, letter)
        assert found is not None
        assert len(find_dead_letters(connection, tenant="acme", destination=found.destination, limit=10)) == 1
        assert find_dead_letters(connection, tenant="globex", limit=10) == []
        assert find_dead_letters(connection, destination="elsewhere", limit=10) == []
        assert find_dead_letters(connection, code="NO_SUCH_CODE", limit=10) == []
    redrive(engine, [letter], actor="grace", now=NOW)
    with engine.connect() as connection:
        assert find_dead_letters(connection, limit=10) == []
        assert len(find_dead_letters(connection, include_resolved=True, limit=10)) == 1
