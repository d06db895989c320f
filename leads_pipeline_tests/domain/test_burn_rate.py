"""Burn rates, against the figures that the SRE workbook prints (chapter 5, "Alerting on SLOs")."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leads_pipeline.domain.burn_rate import (
    RECOMMENDED,
    BurnAlert,
    Events,
    Guard,
    Judgement,
    Objective,
    SloVerdict,
    budget_in_words,
    budget_left,
    budget_spent_by,
    burn_rate,
    judge,
    time_to_alert,
)
from leads_pipeline.domain.severity import Severity, most_urgent

MONTH = timedelta(days=30)
MINUTE = timedelta(minutes=1)
NO_GUARD = Guard(min_events=1, min_bad=1)


def traffic(*phases: tuple[timedelta, float], per_minute: int = 100) -> "History":
    """Leads at a steady rate, oldest phase first; each phase lasts for a while and has a share of bad ones."""
    return History(phases, per_minute)


class History:
    def __init__(self, phases: tuple[tuple[timedelta, float], ...], per_minute: int) -> None:
        self.phases, self.per_minute = phases, per_minute

    def __call__(self, window: timedelta) -> Events:
        good = bad = 0.0
        left = window
        for lasting, bad_share in reversed(self.phases):
            taken = min(lasting, left)
            leads = taken / MINUTE * self.per_minute
            bad += leads * bad_share
            good += leads * (1 - bad_share)
            left -= taken
        return Events(round(good), round(bad))


def judged(history: History, *, share: float = 0.999, guard: Guard = NO_GUARD, window: timedelta = MONTH) -> Judgement:
    return judge(Objective(share, window, guard=guard), history)


@pytest.mark.parametrize(("burn", "error_rate", "exhausted"), [(1, 0.001, 30), (2, 0.002, 15), (10, 0.01, 3)])
def test_a_budget_lasts_as_long_as_the_workbook_says(burn: float, error_rate: float, exhausted: int):
    """Table 5-4: burn rates of an SLO of 99.9 %, and the days until its budget is spent."""
    found = burn_rate(Events(good=round(1e6 * (1 - error_rate)), bad=round(1e6 * error_rate)), share=0.999)

    assert found == pytest.approx(burn)
    assert MONTH / found == pytest.approx(timedelta(days=exhausted), rel=1e-6)


@pytest.mark.parametrize(("share", "bad"), [(0.9, 200), (0.95, 100), (0.99, 20), (0.995, 10), (0.999, 2)])
def test_a_budget_that_is_spent_twice_too_fast_burns_at_two_and_not_a_hair_less(share: float, bad: int):
    assert burn_rate(Events(1000 - bad, bad), share=share) == 2


def test_a_complete_outage_spends_a_month_of_three_nines_in_43_minutes():
    assert MONTH / burn_rate(Events(0, 1_000), share=0.999) == pytest.approx(timedelta(minutes=43.2), rel=1e-6)


@pytest.mark.parametrize(("alert", "spent"), list(zip(RECOMMENDED, (0.02, 0.05, 0.10), strict=True)))
def test_the_recommended_alerts_begin_at_two_five_and_ten_percent_of_the_budget(alert: BurnAlert, spent: float):
    """Table 5-8."""
    assert budget_spent_by(alert, period=MONTH) == pytest.approx(spent)


def test_the_recommended_alerts_are_those_of_the_workbook():
    assert [(a.burn, a.long / timedelta(hours=1), a.short / MINUTE, a.severity) for a in RECOMMENDED] == [
        (14.4, 1, 5, Severity.PAGE),
        (6, 6, 30, Severity.PAGE),
        (1, 72, 360, Severity.TICKET),
    ]


@pytest.mark.parametrize(
    ("burn", "window", "detected"),
    [
        (1, timedelta(minutes=10), timedelta(seconds=0.6)),  # the workbook's first approach: its target error rate
        (1, timedelta(hours=36), timedelta(minutes=2, seconds=9.6)),  # its second: "2 minutes and 10 seconds"
        (36, timedelta(hours=1), timedelta(minutes=2, seconds=9.6)),  # its fourth: a burn rate of 36
        (14.4, timedelta(hours=1), timedelta(seconds=51.84)),
        (6, timedelta(hours=6), timedelta(minutes=2, seconds=9.6)),
        (1, timedelta(days=3), timedelta(minutes=4, seconds=19.2)),
    ],
)
def test_a_complete_outage_is_detected_as_quickly_as_the_workbook_says(
    burn: float, window: timedelta, detected: timedelta
):
    alert = BurnAlert(burn, window, window / 12, Severity.PAGE)

    assert time_to_alert(alert, share=0.999, bad_share=1.0) == pytest.approx(detected, rel=1e-6)


def test_errors_at_less_than_the_burn_rate_are_never_detected():
    """The workbook's fault of its fourth approach: a burn rate of 35 goes unseen, and spends the budget in 20.5 h."""
    alert = BurnAlert(36, timedelta(hours=1), timedelta(minutes=5), Severity.PAGE)

    assert time_to_alert(alert, share=0.999, bad_share=0.035) is None
    assert pytest.approx(timedelta(hours=20.5), rel=0.01) == MONTH / 35


def test_judging_agrees_with_the_time_to_alert():
    before, after = timedelta(seconds=50), timedelta(seconds=54)

    assert judged(traffic((MONTH, 0), (before, 1.0))).severity is None
    assert judged(traffic((MONTH, 0), (after, 1.0))).severity is Severity.PAGE


def test_a_page_ends_five_minutes_after_its_cause_and_not_an_hour():
    """Figure 5-6: ten minutes with 15 % errors. What follows is told by the short window."""
    trouble = (timedelta(minutes=10), 0.15)

    during = judged(traffic((MONTH, 0), trouble))
    after = judged(traffic((MONTH, 0), trouble, (timedelta(minutes=6), 0)))

    assert (during.verdict, during.severity) == (SloVerdict.BURNING, Severity.PAGE)
    assert after.burns[0].long > 14.4, "the long window alone would still page"
    assert after.severity is not Severity.PAGE


def test_a_slow_burn_is_a_ticket():
    found = judged(traffic((MONTH - timedelta(days=4), 0), (timedelta(days=4), 0.0015)))

    assert (found.verdict, found.severity) == (SloVerdict.BURNING, Severity.TICKET)


def test_errors_within_the_budget_keep_the_promise():
    found = judged(traffic((MONTH, 0.0005)))

    assert (found.verdict, found.severity) == (SloVerdict.KEPT, None)
    assert found.budget_left == pytest.approx(0.5)


def test_an_overspent_budget_is_broken_and_stays_so_after_the_cause_has_ended():
    found = judged(traffic((MONTH - timedelta(hours=8), 0), (timedelta(hours=1), 1.0), (timedelta(hours=7), 0)))

    assert (found.verdict, found.severity) == (SloVerdict.BROKEN, Severity.TICKET)
    assert found.budget_left == pytest.approx(-0.39, abs=0.01)


def test_a_second_outage_pages_although_the_budget_was_spent_already():
    found = judged(
        traffic((MONTH - timedelta(hours=8), 0), (timedelta(hours=1), 1.0), (timedelta(hours=7), 0), (10 * MINUTE, 1.0))
    )

    assert (found.verdict, found.severity) == (SloVerdict.BROKEN, Severity.PAGE)


def test_a_breach_is_no_more_than_the_severity_of_its_promise():
    objective = Objective(0.999, MONTH, guard=NO_GUARD, severity=Severity.TICKET)

    assert judge(objective, traffic((MONTH, 0), (timedelta(hours=1), 1.0))).severity is Severity.TICKET


def test_nothing_to_judge_is_no_praise():
    found = judged(traffic((MONTH, 0), per_minute=0))

    assert (found.verdict, found.value, found.budget_left) == (SloVerdict.NO_DATA, None, None)


def test_one_bad_lead_at_night_wakes_nobody():
    day = {timedelta(days=1): Events(40, 1), MONTH: Events(900, 1)}

    found = judge(Objective(0.99, MONTH), lambda window: day.get(window, Events(2, 1)))

    assert (found.verdict, found.severity) == (SloVerdict.KEPT, None)


def test_few_events_that_are_all_bad_are_not_silenced():
    recent = timedelta(hours=6)

    def within(window: timedelta) -> Events:
        return Events(0, 3) if window <= recent else Events(30, 3)

    assert judge(Objective(0.99, MONTH), within).severity is Severity.PAGE


def test_the_only_lead_of_a_day_is_not_silenced_if_it_is_bad():
    found = judge(
        Objective(0.99, MONTH), lambda window: Events(0, 1) if window <= timedelta(days=1) else Events(500, 1)
    )

    assert (found.verdict, found.severity) == (SloVerdict.BURNING, Severity.PAGE)


def test_a_bad_lead_of_long_ago_breaks_nothing_on_a_day_without_any():
    found = judge(Objective(0.99, MONTH), lambda window: Events(4, 1) if window == MONTH else Events())

    assert (found.verdict, found.severity) == (SloVerdict.KEPT, None)


def test_one_event_proves_nothing_of_what_comes_from_outside():
    objective = Objective(0.95, MONTH, guard=Guard(quiet=None))

    assert judge(objective, lambda _window: Events(0, 1)).verdict is SloVerdict.KEPT
    assert judge(objective, lambda _window: Events(0, 3)).verdict is SloVerdict.BROKEN


def test_a_fault_of_what_has_no_budget_pages():
    objective = Objective(1.0, MONTH)

    assert judge(objective, lambda _window: Events(1_000_000, 1)).verdict is SloVerdict.BROKEN
    assert judge(objective, lambda _window: Events(1_000_000, 1)).severity is Severity.PAGE
    assert judge(objective, lambda _window: Events(1, 0)).verdict is SloVerdict.KEPT


@given(good=st.integers(0, 10**9), bad=st.integers(0, 10**9), share=st.floats(0.5, 0.9999))
def test_the_budget_is_spent_exactly_where_the_share_is_below_the_objective(good: int, bad: int, share: float):
    left = budget_left(Events(good, bad), share=share)

    assert (left is None) == (good + bad == 0)
    if left is not None and abs(left) > 1e-6:
        assert (left < 0) == (good / (good + bad) < share)


@given(st.integers(0, 500), st.integers(0, 500), st.integers(0, 500))
def test_more_bad_events_never_make_a_verdict_better(good: int, bad: int, more: int):
    order = [SloVerdict.NO_DATA, SloVerdict.KEPT, SloVerdict.BURNING, SloVerdict.BROKEN]
    fewer, all_of_them = (
        judge(Objective(0.99, MONTH), lambda _window, n=count: Events(good, n)) for count in (bad, bad + more)
    )

    assert order.index(fewer.verdict) <= order.index(all_of_them.verdict)


def test_the_most_urgent_severity_is_found():
    assert most_urgent([Severity.TICKET, Severity.PAGE]) is Severity.PAGE
    assert most_urgent([]) is None


def test_a_budget_is_told_by_what_is_left_and_one_that_is_overspent_by_how_often():
    assert [budget_in_words(left) for left in (1.0, 0.4, 0.0, -0.4, -43.3)] == [
        "100 % left", "40 % left", "0 % left", "spent 1.4 times over", "spent 44.3 times over",
    ]  # fmt: skip
