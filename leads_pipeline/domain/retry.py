"""The one retry policy: what follows a verdict, and when.

Time and randomness come in as arguments. ``docs/delivery.md`` shows the schedule that ``schedule`` computes, and a test
compares the two. Add a class of verdict to ``config.delivery.RetryBudgets`` when it needs a budget of its own.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

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
class RetryBudgets:
    """The policy of each class of refusal; ``default`` is that of the classes that have none of their own."""

    default: RetryPolicy
    by_class: Mapping[Verdict, RetryPolicy] = field(default_factory=dict)

    def of(self, verdict: Verdict) -> RetryPolicy:
        """The policy of one class."""
        return self.by_class.get(verdict, self.default)


def budgets_of(retry: Mapping[str, Any]) -> RetryBudgets:
    """What the settings under ``retry`` say; what a class leaves open is as for all."""
    default = {name: value for name, value in retry.items() if name != "budgets"}
    return RetryBudgets(
        RetryPolicy(**default),
        {
            Verdict(name): RetryPolicy(**default | {key: value for key, value in own.items() if value is not None})
            for name, own in retry.get("budgets", {}).items()
        },
    )


@dataclass(frozen=True, slots=True)
class NextStep:
    """What the outbox row becomes. ``attempts`` counts those that were paid for, ``failures`` which budgets paid."""

    state: OutboxState
    attempts: int
    due_at: datetime
    failures: Mapping[str, int] = field(default_factory=dict)


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
    verdict: RecordVerdict,
    *,
    attempts: int,
    failures: Mapping[str, int],
    budgets: RetryBudgets,
    now: datetime,
    random: Callable[[], float],
) -> NextStep:
    """What follows ``verdict`` on a row that had used up ``attempts`` before it. ``random`` gives values in [0, 1).

    ``failures`` says how many of these were of which class: each class has its own budget, and a record dies of the one
    that is spent. The wait grows with all attempts, up to its class's ceiling. It is spread over the upper half of the
    backoff, so that records which failed together do not come back together, and none comes back at once. The CRM's own
    pause wins when it is the longer one. A row without attempts has all its budgets, whatever failed before.
    """
    spent = dict(failures) if attempts else {}
    if verdict.verdict is Verdict.DELIVERED:
        return NextStep(OutboxState.DELIVERED, 0, now)
    asked = verdict.retry_after or 0.0
    policy = budgets.of(verdict.verdict)
    if verdict.verdict in _BURNS_NO_ATTEMPT:
        floor = AUTH_PAUSE.total_seconds() if verdict.verdict is Verdict.AUTH else policy.base_seconds / 2
        return NextStep(OutboxState.WAITING, attempts, now + timedelta(seconds=max(asked, floor)), spent)
    spent[verdict.verdict] = spent.get(verdict.verdict, 0) + 1
    if verdict.verdict is Verdict.INVALID or spent[verdict.verdict] >= policy.max_attempts:
        return NextStep(OutboxState.DEAD, attempts + 1, now, spent)
    wait = backoff_ceiling(attempts + 1, policy=policy) * (1 + random()) / 2
    if verdict.verdict is Verdict.LOCKED:
        wait = max(wait, MIN_LOCKED_SECONDS)
    return NextStep(OutboxState.WAITING, attempts + 1, now + timedelta(seconds=max(wait, asked)), spent)
