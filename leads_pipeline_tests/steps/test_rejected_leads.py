"""What an operator does with rejected leads, and that none gets lost by it."""

import threading
from typing import Any
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
import structlog

from leads_pipeline.config import Settings, parse_settings
from leads_pipeline.domain.stage import LeadState, Stage
from leads_pipeline.domain.validation import Rejection, ValidLead
from leads_pipeline.errors import LeadsError
from leads_pipeline.steps.rejected_leads import Decision, Outcome, discard, fix, foresee, retry
from leads_pipeline.steps.validated_leads import validate_leads
from leads_pipeline.storage import schema
from leads_pipeline.storage.conservation import Conservation, conservation, missing_leads
from leads_pipeline.storage.journey import lead_journey
from leads_pipeline.storage.rejected import RejectedFilter, each_rejected, standing_of
from leads_pipeline_tests.conftest import LEADS_YAML, NOW
from leads_pipeline_tests.steps.rows import chunk, raw_lead, rows_of

USELESS = {"email": "anna.at.firm", "first_name": "Anna", "phone": "none"}
DESTINATIONS = {"acme": ("hubspot",), "globex": ("hubspot",)}


def judge(engine: sa.Engine, settings: Settings) -> None:
    while validate_leads(engine, chunk(limit=500), settings=settings).taken:
        pass


def rejected(engine: sa.Engine, settings: Settings, payload: dict[str, Any] = USELESS, **how: Any) -> UUID:
    """A lead that validation has rejected."""
    lead_id = raw_lead(engine, payload, **how)
    with engine.begin() as connection:
        connection.execute(
            sa.insert(schema.capture_batches).values(
                batch_id=uuid4(), tenant="acme", source="website", lane="real_time", captured=1, committed_at=NOW
            )
        )
    judge(engine, settings)
    return lead_id


def account(engine: sa.Engine) -> Conservation:
    with engine.connect() as connection:
        [found] = conservation(connection, destinations=DESTINATIONS)
    assert found.conserved
    return found


def states(engine: sa.Engine) -> dict[LeadState, int]:
    return {state: leads for state, leads in account(engine).states.items() if leads}


def test_a_fixed_lead_is_judged_again_under_its_own_id_and_what_was_sent_stays(
    engine: sa.Engine, settings: Settings
) -> None:
    lead_id = rejected(engine, settings)
    sent = rows_of(engine, schema.raw_leads)

    decision = fix(
        engine, lead_id, {"email": "anna@firm.com", "phone": None}, actor="grace", reason="she called", now=NOW
    )

    assert (decision.outcome, decision.revision, decision.changed) == (Outcome.WAITS, 2, True)
    assert states(engine) == {LeadState.PENDING: 1}
    judge(engine, settings)
    (lead,) = rows_of(engine, schema.validated_leads)
    assert (lead["lead_id"], lead["revision"], lead["email"], lead["first_name"], lead["phone_raw"]) == (
        lead_id, 2, "anna@firm.com", "Anna", None,
    )  # fmt: skip
    assert rows_of(engine, schema.raw_leads) == sent
    (correction,) = rows_of(engine, schema.lead_corrections)
    assert (correction["revision"], correction["action"], correction["actor"], correction["reason"]) == (
        2, "fix", "grace", "she called",
    )  # fmt: skip
    (waiting,) = rows_of(engine, schema.pending)
    assert (waiting["stage"], waiting["subject_id"], waiting["revision"]) == (Stage.DEDUPED_LEADS, lead_id, 2)
    assert states(engine) == {LeadState.PENDING: 1}


def test_a_fix_that_does_not_help_is_rejected_again_and_the_next_one_builds_on_it(
    engine: sa.Engine, settings: Settings
) -> None:
    lead_id = rejected(engine, settings, {"first_name": "Anna"})
    fix(engine, lead_id, {"company": "Engines", "first_name": "test"}, actor="grace", now=NOW)
    judge(engine, settings)
    assert states(engine) == {LeadState.REJECTED: 1}
    assert [row["revision"] for row in rows_of(engine, schema.rejected_leads)] == [1, 2]

    assert fix(engine, lead_id, {"first_name": "Ada"}, actor="grace", now=NOW).revision == 3
    judge(engine, settings)

    (lead,) = rows_of(engine, schema.validated_leads)
    assert (lead["revision"], lead["first_name"], lead["company"]) == (3, "Ada", "Engines")


def test_a_field_that_was_taken_away_can_be_given_back(engine: sa.Engine, settings: Settings) -> None:
    lead_id = rejected(engine, settings, {"email": "anna.at.firm"})
    for fields in ({"email": None}, {"email": "anna@firm.com"}):
        fix(engine, lead_id, fields, actor="grace", now=NOW)
        judge(engine, settings)
    assert [row["email"] for row in rows_of(engine, schema.validated_leads)] == ["anna@firm.com"]


def test_corrections_go_over_what_the_sources_mapping_gives_as_it_is_now(engine: sa.Engine, tmp_state: Any) -> None:
    def mapped(path: str) -> Settings:
        text = LEADS_YAML.replace(
            "website: {lane: real_time, priority: 60}",
            f"website: {{lane: real_time, priority: 60, mapping: {{email: {path}, company: firm}}}}",
        )
        return parse_settings(text, path=tmp_state / "leads.yaml")

    lead_id = rejected(engine, mapped("mial"), {"mail": "anna@firm.com", "firm": "Engines"})
    retry(engine, [lead_id], actor="grace", now=NOW)
    judge(engine, mapped("mial"))
    assert states(engine) == {LeadState.REJECTED: 1}

    fix(engine, lead_id, {"company": "Analytical Engines"}, actor="grace", now=NOW)
    judge(engine, mapped("mail"))

    (lead,) = rows_of(engine, schema.validated_leads)
    assert (lead["email"], lead["company"]) == ("anna@firm.com", "Analytical Engines")


def test_a_lead_that_is_judged_again_counts_once_among_its_sources_posts(engine: sa.Engine, settings: Settings) -> None:
    lead_id = rejected(engine, settings)
    before = rows_of(engine, schema.source_fields)
    retry(engine, [lead_id], actor="grace", now=NOW)
    judge(engine, settings)
    assert len(rows_of(engine, schema.rejected_leads)) == 2
    assert rows_of(engine, schema.source_fields) == before


def test_a_fix_of_a_lead_that_was_meanwhile_accepted_leaves_it_alone(engine: sa.Engine, settings: Settings) -> None:
    lead_id = rejected(engine, settings)
    fix(engine, lead_id, {"email": "anna@firm.com"}, actor="grace", now=NOW)
    judge(engine, settings)
    before = rows_of(engine, schema.validated_leads), rows_of(engine, schema.lead_corrections)

    decisions = [
        fix(engine, lead_id, {"email": "other@firm.com"}, actor="ada", now=NOW),
        *retry(engine, [lead_id], actor="ada", now=NOW),
        *discard(engine, [lead_id], actor="ada", reason="x", now=NOW),
    ]

    assert {(item.outcome, item.why) for item in decisions} == {(Outcome.LEFT_ALONE, "left alone: it was accepted")}
    judge(engine, settings)
    assert (rows_of(engine, schema.validated_leads), rows_of(engine, schema.lead_corrections)) == before
    assert rows_of(engine, schema.lead_dispositions) == []


def test_repeating_a_wish_changes_nothing_while_the_lead_waits(engine: sa.Engine, settings: Settings) -> None:
    lead_id = rejected(engine, settings)
    [first] = retry(engine, [lead_id], actor="grace", now=NOW)
    [second] = retry(engine, [lead_id], actor="grace", now=NOW)
    assert (first.outcome, second.why) == (Outcome.WAITS, "left alone: it waits to be judged")
    assert len(rows_of(engine, schema.lead_corrections)) == 1


def test_of_two_operators_at_once_one_is_heard_and_the_other_is_told(engine: sa.Engine, settings: Settings) -> None:
    leads = [rejected(engine, settings) for _number in range(5)]
    start = threading.Barrier(2)
    heard: dict[str, list[Decision]] = {}

    def work(actor: str) -> None:
        start.wait()
        heard[actor] = [fix(engine, lead_id, {"email": f"{actor}@firm.com"}, actor=actor, now=NOW) for lead_id in leads]

    threads = [threading.Thread(target=work, args=(actor,)) for actor in ("grace", "ada")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sum(decision.changed for decisions in heard.values() for decision in decisions) == 5
    judge(engine, settings)
    for row in rows_of(engine, schema.validated_leads):
        [correction] = rows_of(engine, schema.lead_corrections, lead_id=row["lead_id"])
        assert row["email"] == f"{correction['actor']}@firm.com"
    assert states(engine) == {LeadState.PENDING: 5}


def test_one_who_waits_for_anothers_decision_sees_it(engine: sa.Engine, settings: Settings) -> None:
    """The lock is taken before anything is read: a snapshot from before the other's commit would fix twice."""
    lead_id = rejected(engine, settings)
    decided: list[Decision] = []
    with engine.begin() as connection:
        standing = standing_of(connection, lead_id, for_update=True)
        assert standing is not None
        assert standing.is_rejected
        other = threading.Thread(
            target=lambda: decided.append(discard(engine, [lead_id], actor="ada", reason="x", now=NOW)[0])
        )
        other.start()
        blocked = sa.text(
            "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"
        )
        while other.is_alive() and not connection.execute(blocked).scalar_one():
            connection.execute(sa.text("select pg_stat_clear_snapshot()"))
        connection.execute(
            sa.insert(schema.lead_dispositions).values(
                lead_id=lead_id, tenant="acme", state="discarded", actor="grace", reason="y", decided_at=NOW
            )
        )
    other.join()
    assert decided == [Decision(lead_id, Outcome.LEFT_ALONE, "left alone: it is discarded")]
    assert [row["actor"] for row in rows_of(engine, schema.lead_dispositions)] == ["grace"]


def test_a_discarded_lead_stays_accounted_for_and_is_judged_no_more(engine: sa.Engine, settings: Settings) -> None:
    lead_id = rejected(engine, settings)
    [decision] = discard(engine, [lead_id], actor="grace", reason="made up", now=NOW)
    assert (decision.outcome, decision.changed) == (Outcome.DISCARDED, True)
    assert states(engine) == {LeadState.DISCARDED: 1}
    (row,) = rows_of(engine, schema.lead_dispositions)
    assert (row["lead_id"], row["actor"], row["reason"]) == (lead_id, "grace", "made up")
    assert retry(engine, [lead_id], actor="grace", now=NOW)[0].why == "left alone: it is discarded"
    assert not discard(engine, [lead_id], actor="grace", reason="made up", now=NOW)[0].changed
    assert rows_of(engine, schema.pending) == []


def test_a_thousand_leads_are_judged_again_by_filter_and_none_twice(engine: sa.Engine, settings: Settings) -> None:
    for number in range(1_000):
        raw_lead(engine, {"email": f"p{number}.at.firm"}, source="website" if number % 2 else "webinar")
    with engine.begin() as connection:
        connection.execute(
            sa.insert(schema.capture_batches).values(
                batch_id=uuid4(), tenant="acme", source="website", lane="real_time", captured=1_000, committed_at=NOW
            )
        )
    judge(engine, settings)
    wanted = RejectedFilter(rule="email_invalid", source="webinar")

    seen: list[UUID] = []
    for lead_id in each_rejected(engine, wanted):
        seen.append(lead_id)
        retry(engine, [lead_id], actor="grace", now=NOW)
        if len(seen) % 300 == 0:
            judge(engine, settings)  # meanwhile, as the chain does: rejected again, they are not met again

    assert (len(seen), len(set(seen))) == (500, 500)
    found = account(engine)
    assert (found.states[LeadState.PENDING], found.states[LeadState.REJECTED]) == (200, 800)
    judge(engine, settings)
    assert states(engine) == {LeadState.REJECTED: 1_000}
    assert max(row["revision"] for row in rows_of(engine, schema.rejected_leads)) == 2


@pytest.mark.parametrize("quarantine", ["robot", "test", "echo", "not_fetched"])
def test_what_the_door_set_aside_is_judged_only_when_it_is_released(
    engine: sa.Engine, settings: Settings, quarantine: str
) -> None:
    lead_id = rejected(engine, settings, {"email": "anna@firm.com"}, context={"quarantine": quarantine})
    for decision in (
        *retry(engine, [lead_id], actor="grace", now=NOW),
        fix(engine, lead_id, {"first_name": "Anna"}, actor="grace", now=NOW),
    ):
        assert decision.outcome is Outcome.SET_ASIDE
        assert quarantine in decision.why
        assert "--release" in decision.why
    assert rows_of(engine, schema.lead_corrections) == []

    assert retry(engine, [lead_id], actor="grace", release=True, now=NOW)[0].changed
    judge(engine, settings)

    assert [row["email"] for row in rows_of(engine, schema.validated_leads)] == ["anna@firm.com"]
    (raw,) = rows_of(engine, schema.raw_leads)
    assert raw["context"]["quarantine"] == quarantine  # what it was taken for, its risk can still tell


def test_a_lead_is_released_once_and_for_all(engine: sa.Engine, settings: Settings) -> None:
    lead_id = rejected(engine, settings, {"first_name": "Anna"}, context={"quarantine": "robot"})
    retry(engine, [lead_id], actor="grace", release=True, now=NOW)
    judge(engine, settings)
    assert [row["reasons"][0]["rule"] for row in rows_of(engine, schema.rejected_leads)] == [
        "robot", "nothing_identifying",
    ]  # fmt: skip
    assert fix(engine, lead_id, {"email": "anna@firm.com"}, actor="grace", now=NOW).changed
    judge(engine, settings)
    assert len(rows_of(engine, schema.validated_leads)) == 1


def test_a_body_that_cannot_be_read_is_not_released_but_a_person_may_say_what_it_says(
    engine: sa.Engine, settings: Settings
) -> None:
    payload = {"raw_body": '{"email": "anna@firm.com", "company": "An "engine""}'}
    lead_id = rejected(engine, settings, payload, context={"quarantine": "unreadable_body"})

    [refused] = retry(engine, [lead_id], actor="grace", release=True, now=NOW)

    assert refused.outcome is Outcome.UNREADABLE
    assert "fix --set" in refused.why
    assert "template" in refused.why
    assert fix(engine, lead_id, {"email": "anna@firm.com"}, actor="grace", now=NOW).changed
    judge(engine, settings)
    (lead,) = rows_of(engine, schema.validated_leads)
    assert (lead["email"], lead["company"]) == ("anna@firm.com", None)


def test_only_fields_of_a_lead_can_be_corrected(engine: sa.Engine, settings: Settings) -> None:
    lead_id = rejected(engine, settings)
    with pytest.raises(
        LeadsError, match=r"no field of a lead: e-mail, mail; its fields are email, phone, .*utm_medium"
    ):
        fix(engine, lead_id, {"mail": "anna@firm.com", "e-mail": "x", "phone": "1"}, actor="grace", now=NOW)
    with pytest.raises(LeadsError, match="email must not hold half of a surrogate pair"):
        fix(engine, lead_id, {"email": "anna\udcff@firm.com"}, actor="grace", now=NOW)
    assert rows_of(engine, schema.lead_corrections) == []


def test_a_lead_that_does_not_exist_is_said_to(engine: sa.Engine) -> None:
    missing = uuid4()
    decisions = [
        fix(engine, missing, {"email": "anna@firm.com"}, actor="grace", now=NOW),
        *retry(engine, [missing], actor="grace", now=NOW),
        *discard(engine, [missing], actor="grace", reason="x", now=NOW),
    ]
    assert {item.outcome for item in decisions} == {Outcome.UNKNOWN}


def test_what_validation_would_say_is_what_it_says_and_asking_writes_nothing(
    engine: sa.Engine, settings: Settings
) -> None:
    lead_id = rejected(engine, settings, {"email": "anna.at.firm", "first_name": "Anna", "phone": "020 7946 0958"})
    fix(engine, lead_id, {"company": "n/a"}, actor="grace", now=NOW)
    judge(engine, settings)

    with engine.connect() as connection:
        useless = foresee(connection, lead_id, {"email": "anna@"}, settings=settings)
        useful = foresee(connection, lead_id, {"country": "GB"}, settings=settings)

    assert isinstance(useless, Rejection)
    assert [finding.name for finding in useless.reasons] == [
        "nothing_identifying", "email_invalid", "phone_invalid", "company_placeholder",
    ]  # fmt: skip
    assert len(rows_of(engine, schema.lead_corrections)) == 1
    fix(engine, lead_id, {"country": "GB"}, actor="grace", now=NOW)
    judge(engine, settings)
    (lead,) = rows_of(engine, schema.validated_leads)
    assert isinstance(useful, ValidLead)
    assert (useful.phone, list(useful.flags)) == (lead["phone"], lead["flags"])
    assert lead["phone"] == "+442079460958"


def test_validation_is_not_foreseen_for_what_it_would_not_be_asked(engine: sa.Engine, settings: Settings) -> None:
    robot = rejected(engine, settings, {"email": "anna@firm.com"}, context={"quarantine": "robot"})
    with engine.connect() as connection:
        refused = foresee(connection, robot, {"first_name": "Anna"}, settings=settings)
        released = foresee(connection, robot, {"first_name": "Anna"}, settings=settings, release=True)
        unknown = foresee(connection, uuid4(), {"first_name": "Anna"}, settings=settings)
    assert isinstance(refused, Decision)
    assert refused.outcome is Outcome.SET_ASIDE
    assert isinstance(released, ValidLead)
    assert isinstance(unknown, Decision)
    assert unknown.outcome is Outcome.UNKNOWN


def test_a_retried_lead_that_nothing_waits_for_is_missing_until_it_is_retried_again(
    engine: sa.Engine, settings: Settings
) -> None:
    lead_id = rejected(engine, settings)
    retry(engine, [lead_id], actor="grace", now=NOW)
    with engine.begin() as connection:
        connection.execute(sa.text("delete from pending"))
        [missing] = missing_leads(connection, destinations=DESTINATIONS)
    assert (missing.lead_id, missing.trail) == (lead_id, "pending")
    assert retry(engine, [lead_id], actor="grace", now=NOW)[0].revision == 3
    assert states(engine) == {LeadState.PENDING: 1}


def test_the_journey_and_the_log_name_fields_and_never_values(engine: sa.Engine, settings: Settings) -> None:
    lead_id = rejected(engine, settings)
    with structlog.testing.capture_logs() as logged:
        fix(engine, lead_id, {"email": "anna@firm.com", "phone": None}, actor="grace", reason="she called", now=NOW)
        judge(engine, settings)
    with engine.connect() as connection:
        journey = lead_journey(connection, lead_id)
    assert journey is not None
    [corrected] = [event for event in journey.events if event.table == "lead_corrections"]
    assert (corrected.event, corrected.details) == (
        "corrected", {"revision": 2, "actor": "grace", "reason": "she called", "fields": ["email", "phone"]},
    )  # fmt: skip
    assert [entry["event"] for entry in logged] == ["rejected_lead_fixed"]
    assert "anna@firm.com" not in repr((journey, logged))
