"""The one retry policy: what follows a verdict, and when.

Time and randomness come in as arguments. ``docs/delivery.md`` shows the schedule that ``schedule`` computes, and a test
compares the two. Add a class of verdict here when it needs a budget of its own.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from leads_pipeline.domain.delivery import RecordVerdict, Verdict
from leads_pipeline.domain.stage import OutboxState

# HubSpot asks for at least two seconds before a locked record is tried again.
MIN_LOCKED_SECONDS = 2.0

# A destination whose credentials or set-up are refused is asked again with one batch a minute: 1,440 requests a day,
# under 1 % of the smallest daily quota.
AUTH_PAUSE = timedelta(seconds=60)

# These say nothing about the record, so they may go on for as long as the CRM says so.
_BURNS_NO_ATTEMPT = frozenset({Verdict.THROTTLED, Verdict.AUTH})


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Exponential from ``base_seconds``, never above ``max_seconds``, ``max_attempts`` in all."""

    base_seconds: float
    max_seconds: float
    max_attempts: int


@dataclass(frozen=True, slots=True)
class NextStep:
    """What the outbox row becomes. ``attempts`` counts the attempts that its budget has paid for."""

    state: OutboxState
    attempts: int
    due_at: datetime


def backoff_ceiling(failures: int, *, policy: RetryPolicy) -> float:
    """The longest wait after the ``failures``-th failure (1 is the first), in seconds."""
    # 2 ** 64 is past any ceiling; without the bound a large count would overflow a float.
    return float(min(policy.base_seconds * 2.0 ** min(failures - 1, 64), policy.max_seconds))


def schedule(policy: RetryPolicy) -> Iterator[tuple[float, float]]:
    """The shortest and the longest wait before each retry, in order."""
    for failures in range(1, policy.max_attempts):
        ceiling = backoff_ceiling(failures, policy=policy)
        yield ceiling / 2, ceiling


def after_verdict(
    verdict: RecordVerdict, *, attempts: int, policy: RetryPolicy, now: datetime, random: Callable[[], float]
) -> NextStep:
    """What follows ``verdict`` on a row that had used up ``attempts`` before it. ``random`` gives values in [0, 1).

    The wait is spread over the upper half of the backoff, so that records which failed together do not come back
    together, and none comes back at once. The CRM's own pause wins when it is the longer one.
    """
    if verdict.verdict is Verdict.DELIVERED:
        return NextStep(OutboxState.DELIVERED, 0, now)
    if verdict.verdict is Verdict.INVALID:
        return NextStep(OutboxState.DEAD, attempts + 1, now)
    asked = verdict.retry_after or 0.0
    if verdict.verdict in _BURNS_NO_ATTEMPT:
        floor = AUTH_PAUSE.total_seconds() if verdict.verdict is Verdict.AUTH else policy.base_seconds / 2
        return NextStep(OutboxState.WAITING, attempts, now + timedelta(seconds=max(asked, floor)))
    failures = attempts + 1
    if failures >= policy.max_attempts:
        return NextStep(OutboxState.DEAD, failures, now)
    wait = backoff_ceiling(failures, policy=policy) * (1 + random()) / 2
    if verdict.verdict is Verdict.LOCKED:
        wait = max(wait, MIN_LOCKED_SECONDS)
    return NextStep(OutboxState.WAITING, failures, now + timedelta(seconds=max(wait, asked)))
