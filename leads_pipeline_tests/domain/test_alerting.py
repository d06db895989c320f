"""When an alert opens, becomes more urgent, reminds and ends; and how it reads."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from leads_pipeline.domain.alert_message import Story, compose, span
from leads_pipeline.domain.alerting import (
    AlertPolicy,
    ClosedFor,
    Decision,
    Health,
    NoticeKind,
    Observation,
    OpenAlert,
    Step,
    Trouble,
    decide,
    next_try,
)
from leads_pipeline.domain.severity import Severity

NOW = datetime(2026, 1, 15, 12, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
POLICY = AlertPolicy(recovery=5 * MINUTE, reminders={Severity.PAGE: timedelta(hours=4)})
STORY = Story(
    alert_id="019bc1a3-3fa0-70d5-9172-a9e3bfa0a054", severity=Severity.PAGE, title="Leads reach the CRM late",
    facts=[("now", "91.2 %")], actions=["shed enrichment, since 12:01 UTC (rule backlog_old)"], tenant=None,
    opened_at=NOW, closed_at=None, closed_for=None, closed_by=None, command="leads slo list",
    playbook="docs/playbooks/deliveries-late.md",
)  # fmt: skip


def trouble(severity: Severity = Severity.PAGE) -> Trouble:
    return Trouble(severity, "Something is wrong", (), "stuck-run", "leads status")


def alert(severity: Severity = Severity.PAGE, healthy_since: datetime | None = None) -> OpenAlert:
    return OpenAlert(UUID(int=1), "run:x", "run", severity, None, NOW, NOW, healthy_since, NOW)


def after(found: OpenAlert | None, seen: Observation | None, *, minutes: float = 0) -> Decision:
    return decide(found, seen, policy=POLICY, now=NOW + minutes * MINUTE)


def test_what_is_well_opens_nothing() -> None:
    assert after(None, Observation("run:x", Health.WELL)).step is Step.NOTHING
    assert after(None, Observation("run:x", Health.UNKNOWN)).step is Step.NOTHING
    assert after(None, None).step is Step.NOTHING


def test_urgency_rises_at_once_and_falls_only_when_it_was_less_for_a_while() -> None:
    seen = Observation.of("run:x", trouble())
    assert after(alert(Severity.TICKET), seen) == Decision(Step.SEEN, Severity.PAGE, NoticeKind.ESCALATED)
    milder = Observation.of("run:x", trouble(Severity.TICKET))
    assert after(alert(), milder) == Decision(Step.SEEN, Severity.PAGE)
    eased = alert(healthy_since=NOW)
    assert after(eased, milder, minutes=4) == Decision(Step.SEEN, Severity.PAGE)
    assert after(eased, milder, minutes=5) == Decision(Step.SEEN, Severity.TICKET)
    assert after(eased, seen, minutes=5) == Decision(Step.SEEN, Severity.PAGE)


def test_what_nobody_watches_any_more_ends_as_such() -> None:
    mended = alert(healthy_since=NOW)
    assert after(mended, None, minutes=5).closed_for is ClosedFor.GONE


@given(st.lists(st.tuples(st.sampled_from(Health), st.integers(1, 240)), max_size=40))
def test_it_never_ends_without_five_minutes_of_health_seen_at_both_ends(looks: list[tuple[Health, int]]) -> None:
    """Whatever is seen and however far apart: an end follows two looks at health with nothing else between them."""
    now, healthy_since, seen_before = NOW, None, Health.TROUBLE
    for health, minutes in looks:
        now += minutes * MINUTE
        seen = Observation.of("run:x", trouble()) if health is Health.TROUBLE else Observation("run:x", health)
        found = alert(healthy_since=healthy_since)
        decision = decide(found, seen, policy=POLICY, now=now)
        if decision.step is Step.CLOSE:
            assert (health, seen_before) == (Health.WELL, Health.WELL)
            assert healthy_since is not None
            assert now - healthy_since >= 5 * MINUTE
            return
        if decision.step is Step.MENDING:
            healthy_since = healthy_since or now
        else:
            assert health is not Health.WELL
            healthy_since = None
        seen_before = health


def test_a_reminder_comes_while_it_lasts_and_while_nobody_can_tell() -> None:
    for seen in (Observation.of("run:x", trouble()), Observation("run:x", Health.UNKNOWN)):
        assert after(alert(), seen, minutes=239).notice is None
        assert after(alert(), seen, minutes=240).notice is NoticeKind.REMINDER
    assert after(alert(Severity.TICKET), Observation("run:x", Health.UNKNOWN), minutes=9_000).notice is None


def test_retries_wait_longer_each_time_up_to_the_longest() -> None:
    waits = [next_try(attempt, longest=timedelta(minutes=30)).total_seconds() for attempt in (1, 2, 3, 8, 9, 5000)]
    assert waits == [15, 30, 60, 1800, 1800, 1800]


def test_a_message_reads_like_this() -> None:
    message = compose(STORY, NoticeKind.REMINDER, told_before=True, now=NOW + 200 * MINUTE)
    assert (message.title, message.tone) == ("[page, still] Leads reach the CRM late", "failure")
    assert message.body == (
        "Leads reach the CRM late.\n"
        "- now: 91.2 %\n"
        "Since 2026-01-15 12:00 UTC, for 3 h 20 min.\n"
        "The system already did:\n"
        "- shed enrichment, since 12:01 UTC (rule backlog_old)\n"
        "Look: leads slo list\n"
        "Playbook: docs/playbooks/deliveries-late.md\n"
        "This alert: leads alerts show bfa0a054"
    )


def test_spans_are_told_as_people_say_them() -> None:
    told = [span(timedelta(seconds=seconds)) for seconds in (0, 59, 60, 3_599, 3_600, 12_000, 172_800, 187_200)]
    assert told == ["0 s", "59 s", "1 min", "59 min", "1 h", "3 h 20 min", "2 d", "2 d 4 h"]
