"""What follows a verdict."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leads_pipeline.config import RetrySettings
from leads_pipeline.domain.delivery import RecordVerdict, Verdict
from leads_pipeline.domain.retry import RetryBudgets, RetryPolicy, after_verdict, backoff_ceiling, budgets_of, schedule
from leads_pipeline.domain.stage import OutboxState

NOW = datetime(2026, 1, 15, 12, tzinfo=UTC)
BUDGETS = budgets_of(RetrySettings().model_dump())
DEFAULT = BUDGETS.default

policies = st.builds(
    RetryPolicy,
    base_seconds=st.floats(0.1, 60),
    max_seconds=st.floats(60, 10_000),
    max_attempts=st.integers(1, 100),
)
dice = st.floats(0, 1, exclude_max=True)
RETRIED = [Verdict.TRANSIENT, Verdict.CONFLICT, Verdict.LOCKED, Verdict.AMBIGUOUS]


def _step(
    verdict: Verdict,
    *,
    attempts: int = 0,
    failures: dict[str, int] | None = None,
    budgets: RetryBudgets = BUDGETS,
    roll: float = 0.5,
    asked=None,
):
    return after_verdict(
        RecordVerdict(1, verdict, retry_after=asked),
        attempts=attempts,
        failures={verdict: attempts} if failures is None else failures,
        budgets=budgets,
        now=NOW,
        random=lambda: roll,
    )


@pytest.mark.parametrize("verdict", RETRIED)
def test_every_class_is_tried_for_more_than_a_day_however_the_dice_fall(verdict: Verdict) -> None:
    waits = schedule(BUDGETS.of(verdict))
    assert timedelta(seconds=sum(shortest for shortest, _longest in waits)) > timedelta(hours=24)


@pytest.mark.parametrize("verdict", RETRIED)
def test_every_class_ends_within_three_days(verdict: Verdict) -> None:
    waits = schedule(BUDGETS.of(verdict))
    assert timedelta(seconds=sum(longest for _shortest, longest in waits)) < timedelta(days=3)


def test_a_class_takes_what_it_does_not_say_from_all() -> None:
    settings = RetrySettings(base_seconds=5, max_attempts=7, budgets={"conflict": {"max_attempts": 3}})
    budgets = budgets_of(settings.model_dump())
    assert budgets.of(Verdict.TRANSIENT) == RetryPolicy(5, 3600, 7)
    assert budgets.of(Verdict.LOCKED) == RetryPolicy(4, 1800, 110)
    assert budgets.of(Verdict.CONFLICT) == RetryPolicy(6, 86_400, 3)


@given(rolls=st.lists(st.tuples(st.sampled_from(RETRIED), dice), min_size=1))
def test_each_class_is_paid_from_its_own_budget_and_a_record_dies_of_the_first_that_is_spent(rolls) -> None:
    budgets = RetryBudgets(RetryPolicy(1, 60, 4), {Verdict.CONFLICT: RetryPolicy(1, 60, 2)})
    attempts, failures, refused = 0, {}, dict.fromkeys(RETRIED, 0)
    for verdict, roll in rolls:
        step = _step(verdict, attempts=attempts, failures=failures, budgets=budgets, roll=roll)
        refused[verdict] += 1
        attempts, failures = step.attempts, step.failures
        assert (attempts, sum(failures.values())) == (sum(refused.values()), attempts)
        assert (step.state is OutboxState.DEAD) == (refused[verdict] >= budgets.of(verdict).max_attempts)
        if step.state is OutboxState.DEAD:
            break


@given(verdict=st.sampled_from(RETRIED), attempts=st.integers(1, 9), pause=st.sampled_from(["throttled", "auth"]))
def test_a_pause_between_refusals_changes_no_budget(verdict: Verdict, attempts: int, pause: str) -> None:
    step = _step(Verdict(pause), attempts=attempts, failures={verdict: attempts})
    assert (step.attempts, step.failures) == (attempts, {verdict: attempts})


def test_a_row_whose_attempts_were_forgiven_has_all_its_budgets() -> None:
    step = _step(Verdict.CONFLICT, attempts=0, failures={"conflict": 11})
    assert (step.state, step.failures) == (OutboxState.WAITING, {"conflict": 1})


@given(policy=policies)
def test_waits_never_shrink_and_never_pass_the_ceiling(policy: RetryPolicy) -> None:
    waits = [longest for _shortest, longest in schedule(policy)]
    assert len(waits) == policy.max_attempts - 1
    assert all(earlier <= later for earlier, later in pairwise(waits))
    assert all(wait <= policy.max_seconds for wait in waits)


@given(failures=st.integers(1, 10_000), policy=policies)
def test_a_large_count_of_failures_does_not_overflow(failures: int, policy: RetryPolicy) -> None:
    assert 0 < backoff_ceiling(failures, policy=policy) <= policy.max_seconds


@given(verdict=st.sampled_from(RETRIED), attempts=st.integers(0, 10), roll=dice)
def test_a_retry_is_due_within_the_upper_half_of_its_backoff(verdict: Verdict, attempts: int, roll: float) -> None:
    step = _step(verdict, attempts=attempts, roll=roll)
    ceiling = backoff_ceiling(attempts + 1, policy=BUDGETS.of(verdict))
    wait = (step.due_at - NOW).total_seconds()
    assert (step.state, step.attempts) == (OutboxState.WAITING, attempts + 1)
    assert max(ceiling / 2, 2.0 if verdict is Verdict.LOCKED else 0) - 1e-3 <= wait <= max(ceiling, 2.0) + 1e-3


def _life(verdict: Verdict, policy: RetryPolicy, rolls: list[float], asked: float | None = None) -> list[float]:
    """The waits of a record that is refused in one way until it dies; the dice fall as they did, again and again."""
    waits: list[float] = []
    attempts, failures = 0, {}
    while True:
        roll = rolls[len(waits) % len(rolls)]
        budgets = RetryBudgets(policy)
        step = _step(verdict, attempts=attempts, failures=failures, budgets=budgets, roll=roll, asked=asked)
        attempts, failures = step.attempts, dict(step.failures)
        if step.state is OutboxState.DEAD:
            return waits
        waits.append((step.due_at - NOW).total_seconds())


@given(verdict=st.sampled_from(RETRIED), policy=policies, rolls=st.lists(dice, min_size=1))
def test_a_record_lives_as_long_as_its_schedule_says_however_the_dice_fall(
    verdict: Verdict, policy: RetryPolicy, rolls: list[float]
) -> None:
    waits, least = _life(verdict, policy, rolls), 2.0 if verdict is Verdict.LOCKED else 0.0
    allowed = [(max(shortest, least), max(longest, least)) for shortest, longest in schedule(policy)]
    assert len(waits) == len(allowed) == policy.max_attempts - 1
    for wait, (shortest, longest) in zip(waits, allowed, strict=True):
        assert shortest - 1e-5 <= wait <= longest + 1e-5
    shortest_sum, longest_sum = (sum(bounds[side] for bounds in allowed) for side in (0, 1))
    assert shortest_sum - 1e-3 <= sum(waits) <= longest_sum + 1e-3


@given(policy=policies)
def test_the_sum_of_a_schedule_is_that_of_a_doubling_wait_up_to_its_ceiling(policy: RetryPolicy) -> None:
    doubling = 0
    while doubling < policy.max_attempts - 1 and policy.base_seconds * 2**doubling < policy.max_seconds:
        doubling += 1
    expected = policy.base_seconds * (2**doubling - 1) + policy.max_seconds * (policy.max_attempts - 1 - doubling)
    assert sum(longest for _shortest, longest in schedule(policy)) == pytest.approx(expected)
    assert sum(shortest for shortest, _longest in schedule(policy)) == pytest.approx(expected / 2)


@given(verdict=st.sampled_from(RETRIED), policy=policies, roll=dice, asked=st.floats(0, 5000))
def test_a_pause_that_is_asked_for_makes_no_wait_shorter(
    verdict: Verdict, policy: RetryPolicy, roll: float, asked: float
) -> None:
    with_it, without = _life(verdict, policy, [roll], asked), _life(verdict, policy, [roll])
    assert with_it == pytest.approx([max(wait, asked) for wait in without], abs=1e-5)


@given(attempts=st.integers(0, 200), verdicts=st.tuples(*[st.sampled_from(RETRIED)] * 2), rolls=st.tuples(dice, dice))
def test_one_refusal_more_shortens_no_wait_of_its_class(
    attempts: int, verdicts: tuple[Verdict, Verdict], rolls: tuple[float, float]
) -> None:
    """Whatever class the refusals before were of: what counts is how many there were."""
    policy = BUDGETS.of(verdicts[0])
    budgets = RetryBudgets(RetryPolicy(policy.base_seconds, policy.max_seconds, 1000))
    waits = [
        (_step(verdicts[0], attempts=count, failures={verdicts[1]: count}, budgets=budgets, roll=rolls[0]).due_at - NOW)
        for count in (attempts, attempts + 1)
    ]
    assert waits[0] <= waits[1]


def test_two_records_that_failed_together_do_not_come_back_together() -> None:
    assert (
        _step(Verdict.TRANSIENT, attempts=5, roll=0.1).due_at != _step(Verdict.TRANSIENT, attempts=5, roll=0.9).due_at
    )


@given(attempts=st.integers(0, 1000))
def test_only_invalid_dies_at_once(attempts: int) -> None:
    assert _step(Verdict.INVALID).state is OutboxState.DEAD
    for verdict in set(Verdict) - {Verdict.INVALID, Verdict.DELIVERED}:
        assert _step(verdict).state is OutboxState.WAITING


@given(verdict=st.sampled_from([Verdict.THROTTLED, Verdict.AUTH]), attempts=st.integers(0, 10_000))
def test_a_pause_or_refused_credentials_burn_no_attempt(verdict: Verdict, attempts: int) -> None:
    step = _step(verdict, attempts=attempts)
    assert (step.state, step.attempts) == (OutboxState.WAITING, attempts)
    assert step.due_at > NOW


@pytest.mark.parametrize("verdict", RETRIED)
def test_the_last_attempt_of_the_budget_is_final(verdict: Verdict) -> None:
    most = BUDGETS.of(verdict).max_attempts
    assert _step(verdict, attempts=most - 2).state is OutboxState.WAITING
    assert _step(verdict, attempts=most - 1).state is OutboxState.DEAD


@pytest.mark.parametrize("verdict", [Verdict.TRANSIENT, Verdict.THROTTLED])
def test_the_crm_s_own_pause_wins_when_it_is_longer(verdict: Verdict) -> None:
    assert _step(verdict, asked=600).due_at == NOW + timedelta(seconds=600)
    assert _step(verdict, attempts=50, asked=0.1).due_at > NOW + timedelta(seconds=0.2)


def test_a_delivered_record_has_its_budget_back() -> None:
    step = _step(Verdict.DELIVERED, attempts=7)
    assert (step.state, step.attempts) == (OutboxState.DELIVERED, 0)


@pytest.mark.parametrize("verdict", RETRIED)
def test_the_schedules_in_the_docs_are_those_that_are_computed(verdict: Verdict) -> None:
    written = (Path(__file__).resolve().parents[2] / "docs/delivery.md").read_text(encoding="utf-8")
    title = next(part for part in written.partition("## Retries")[2].split("\n**")[1:] if f"`{verdict}`" in part)
    assert "\n".join(_table(BUDGETS.of(verdict))) in title


def _table(policy: RetryPolicy) -> list[str]:
    """The retries up to the ceiling, and the last one."""
    lines, least, most = [], 0.0, 0.0
    waits = list(schedule(policy))
    for number, (shortest, longest) in enumerate(waits, start=1):
        least, most = least + shortest, most + longest
        if number == len(waits) or waits[number - 2] != waits[number - 1]:
            cells = [_plain(shortest), _plain(longest), _plain(least), _plain(most)]
            lines.append(f"| {number} | {' | '.join(cells)} |")
    return lines


def _plain(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:g} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
