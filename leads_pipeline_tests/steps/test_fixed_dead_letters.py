"""A dead letter's contact, mended through the real steps."""

from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa

from leads_pipeline.config import Settings
from leads_pipeline.errors import LeadsError, NotFound
from leads_pipeline.steps.fixed_dead_letters import fix
from leads_pipeline.steps.validated_leads import validate_leads
from leads_pipeline.storage.conservation import conservation
from leads_pipeline.storage.dead_letter_actions import DoneBy, actions_of
from leads_pipeline_tests.conftest import NOW
from leads_pipeline_tests.defs.rows import insert
from leads_pipeline_tests.steps.identity_play import Play
from leads_pipeline_tests.steps.rows import chunk

ANNA = {"email": "anna@gmial.com", "first_name": "Anna", "last_name": "Lee", "company": "Lee Ltd"}
GRACE = DoneBy("grace", NOW, "TICKET-7")


@pytest.fixture
def play(engine: sa.Engine, settings: Settings) -> Play:
    return Play(engine, settings)


def died(play: Play, contact_id: UUID) -> UUID:
    """The contact was refused; returns its letter."""
    letter = uuid4()
    with play.engine.begin() as connection:
        outbox_id = connection.execute(
            sa.text("update outbox set state = 'dead' where contact_id = :id returning outbox_id"), {"id": contact_id}
        ).scalar_one()
        insert(
            connection, "dead_letters", now=NOW, dead_letter_id=letter, contact_id=contact_id, outbox_id=outbox_id,
            tenant="acme", destination="hubspot",
        )  # fmt: skip
    return letter


def contacts(play: Play) -> list[sa.Row]:
    """The golden contacts with their outbox rows."""
    with play.engine.connect() as connection:
        return list(
            connection.execute(
                sa.text(
                    "select g.*, o.state as outbox_state, o.wanted_version from golden_contacts g "
                    "join outbox o using (contact_id) order by contact_id"
                )
            )
        )


def judged(play: Play) -> None:
    """What waits to be judged goes through the chain."""
    validate_leads(play.engine, chunk(now=play.later()), settings=play.settings)
    play.run()
    play.run()


def test_a_corrected_contact_is_wanted_again_whatever_number_of_leads_said_the_same(play: Play) -> None:
    leads = [play.arrive(**ANNA), play.arrive(**ANNA)]
    [before] = contacts(play)
    letter = died(play, before.contact_id)
    fixed = fix(play.engine, letter, {"email": "anna@gmail.com", "company": None}, settings=play.settings, done=GRACE)
    assert fixed.leads == tuple(sorted(leads))
    judged(play)
    [after] = contacts(play)
    assert (after.contact_id, after.email, after.company) == (before.contact_id, "anna@gmail.com", None)
    assert (after.first_name, after.lead_count, after.outbox_state) == ("Anna", 2, "waiting")
    assert after.wanted_version > before.wanted_version
    with play.engine.connect() as connection:
        [tenant] = conservation(connection, destinations={"acme": ("hubspot",)})
        [action] = actions_of(connection, letter)
    assert tenant.conserved
    assert (action.action, action.actor, action.reason) == ("fix", "grace", "TICKET-7")
    assert action.details == {"fields": ["company", "email"], "leads": [str(lead) for lead in fixed.leads]}


def test_only_the_leads_that_say_the_refused_value_are_corrected(play: Play) -> None:
    wrong = play.arrive(**ANNA, phone="+16502530000")
    play.arrive(**{**ANNA, "company": "Other"})
    [before] = contacts(play)
    letter = died(play, before.contact_id)
    assert fix(play.engine, letter, {"phone": "+16502530001"}, settings=play.settings, done=GRACE).leads == (wrong,)


def test_a_value_that_the_contact_lacks_comes_to_the_lead_that_its_neighbours_came_from(play: Play) -> None:
    addressed = play.arrive(**ANNA, city="Graz", country="AT")
    play.arrive(**ANNA)
    [before] = contacts(play)
    letter = died(play, before.contact_id)
    assert fix(play.engine, letter, {"postcode": "8010"}, settings=play.settings, done=GRACE).leads == (addressed,)
    judged(play)
    [after] = contacts(play)
    assert (after.city, after.postcode) == ("Graz", "8010")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"shoe_size": "44"}, "no field of a contact: shoe_size; its fields are email"),
        ({"message": "hello"}, "no field of a contact: message"),
        ({"email": "anna at home"}, "validation would drop the new value of email"),
        ({"email": None, "first_name": None, "last_name": None}, "validation would reject lead"),
        ({"city": "Gr\x00az"}, "city"),
    ],
)
def test_what_cannot_be_a_correction_is_refused_and_nothing_is_written(
    play: Play, fields: dict[str, str | None], words: str
) -> None:
    play.arrive(**ANNA)
    letter = died(play, contacts(play)[0].contact_id)
    with pytest.raises(LeadsError, match=words) as refused:
        fix(play.engine, letter, fields, settings=play.settings, done=GRACE)
    assert not any(value in str(refused.value) for value in fields.values() if value)
    with play.engine.connect() as connection:
        for table in ("lead_corrections", "dead_letter_actions", "pending"):
            assert connection.execute(sa.text(f"select count(*) from {table}")).scalar_one() == 0


def test_a_letter_that_is_resolved_or_unknown_is_left_alone(play: Play) -> None:
    play.arrive(**ANNA)
    letter = died(play, contacts(play)[0].contact_id)
    with play.engine.begin() as connection:
        connection.execute(sa.text("update dead_letters set resolved_at = died_at"))
    fixed = fix(play.engine, letter, {"city": "Graz"}, settings=play.settings, done=GRACE)
    assert (fixed.already, fixed.leads) == (True, ())
    with pytest.raises(NotFound, match="no dead letter"):
        fix(play.engine, uuid4(), {"city": "Graz"}, settings=play.settings, done=GRACE)


def test_a_letter_of_a_contact_that_was_merged_away_says_so(play: Play) -> None:
    play.arrive(**ANNA)
    letter = died(play, contacts(play)[0].contact_id)
    with play.engine.begin() as connection:
        connection.execute(sa.text("delete from golden_contacts"))
    with pytest.raises(NotFound, match="merged into another"):
        fix(play.engine, letter, {"city": "Graz"}, settings=play.settings, done=GRACE)
