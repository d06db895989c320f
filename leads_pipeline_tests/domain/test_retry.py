"""What follows a verdict."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leads_pipeline.config import RetrySettings
from leads_pipeline.domain.delivery import RecordVerdict, Verdict
from leads_pipeline.domain.retry import RetryPolicy, after_verdict, backoff_ceiling, schedule
from leads_pipeline.domain.stage import OutboxState

NOW = datetime(2026, 1, 15, 12, tzinfo=UTC)
DEFAULT = RetryPolicy(**RetrySettings().model_dump())

policies = st.builds(
    RetryPolicy,
    base_seconds=st.floats(0.1, 60),
    max_seconds=st.floats(60, 10_000),
    max_attempts=st.integers(1, 100),
)
dice = st.floats(0, 1, exclude_max=True)
RETRIED = [Verdict.TRANSIENT, Verdict.CONFLICT, Verdict.LOCKED, Verdict.AMBIGUOUS]


def _step(verdict: Verdict, *, attempts: int = 0, policy: RetryPolicy = DEFAULT, roll: float = 0.5, asked=None):
    return after_verdict(
        RecordVerdict(1, verdict, retry_after=asked), attempts=attempts, policy=policy, now=NOW, random=lambda: roll
    )


def test_the_default_schedule_tries_for_more_than_a_day_however_the_dice_fall() -> None:
    assert timedelta(seconds=sum(shortest for shortest, _longest in schedule(DEFAULT))) > timedelta(hours=24)


def test_the_default_schedule_ends_within_three_days() -> None:
    assert timedelta(seconds=sum(longest for _shortest, longest in schedule(DEFAULT))) < timedelta(days=3)


@given(policy=policies)
def test_waits_never_shrink_and_never_pass_the_ceiling(policy: RetryPolicy) -> None:
    waits = [longest for _shortest, longest in schedule(policy)]
    assert len(waits) == policy.max_attempts - 1
    assert all(earlier <= later for earlier, later in pairwise(waits))
    assert all(wait <= policy.max_seconds for wait in waits)


@given(failures=st.integers(1, 10_000), policy=policies)
def test_a_large_count_of_failures_does_not_overflow(failures: int, policy: RetryPolicy) -> None:
    assert 0 < backoff_ceiling(failures, policy=policy) <= policy.max_seconds


@given(verdict=st.sampled_from(RETRIED), attempts=st.integers(0, 58), roll=dice)
def test_a_retry_is_due_within_the_upper_half_of_its_backoff(verdict: Verdict, attempts: int, roll: float) -> None:
    step = _step(verdict, attempts=attempts, roll=roll)
    ceiling = backoff_ceiling(attempts + 1, policy=DEFAULT)
    wait = (step.due_at - NOW).total_seconds()
    assert (step.state, step.attempts) == (OutboxState.WAITING, attempts + 1)
    assert max(ceiling / 2, 2.0 if verdict is Verdict.LOCKED else 0) - 1e-3 <= wait <= max(ceiling, 2.0) + 1e-3


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
    assert _step(verdict, attempts=DEFAULT.max_attempts - 2).state is OutboxState.WAITING
    assert _step(verdict, attempts=DEFAULT.max_attempts - 1).state is OutboxState.DEAD


@pytest.mark.parametrize("verdict", [Verdict.TRANSIENT, Verdict.THROTTLED])
def test_the_crm_s_own_pause_wins_when_it_is_longer(verdict: Verdict) -> None:
    assert _step(verdict, asked=600).due_at == NOW + timedelta(seconds=600)
    assert _step(verdict, attempts=50, asked=0.1).due_at > NOW + timedelta(seconds=0.2)


def test_a_delivered_record_has_its_budget_back() -> None:
    step = _step(Verdict.DELIVERED, attempts=7)
    assert (step.state, step.attempts) == (OutboxState.DELIVERED, 0)


def test_the_schedule_in_the_docs_is_the_one_that_is_computed() -> None:
    written = (Path(__file__).resolve().parents[2] / "docs/delivery.md").read_text(encoding="utf-8")
    assert "\n".join(_table(DEFAULT)) in written


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
