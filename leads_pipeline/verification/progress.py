"""What one call of the step has done so far, shared by those who ask DNS and those who ask providers."""

import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID

import sqlalchemy as sa

from leads_pipeline.clock import Clock
from leads_pipeline.config import VerdictCacheSettings
from leads_pipeline.domain.ids import uuid7
from leads_pipeline.domain.retry import RetryPolicy, backoff_ceiling
from leads_pipeline.domain.verification import LookupKind
from leads_pipeline.storage import verdicts as verdict_rows
from leads_pipeline.storage import verification_requests as queue
from leads_pipeline.storage.verdicts import Settled, Stamp, SubjectVerdict
from leads_pipeline.storage.verification_requests import Subject

# After so many attempts a subject is settled as unknown: the vendor answers, but not about it.
MOST_ATTEMPTS = 8
# The same where the vendor failed: it may be an outage, which is waited for with the breaker's pauses, or the subject.
MOST_FAILURES = 24
_RETRY = RetryPolicy(base_seconds=5, max_seconds=900, max_attempts=MOST_ATTEMPTS)


@dataclass(slots=True)
class VerificationReport:
    """What one call did. ``counts``: by verdict, by outcome of calls, by provider; numbers only.

    ``stopped``: kind → why nobody could be asked any more (budget, breaker …).
    """

    lookups: int = 0
    calls: int = 0
    leads: int = 0
    released: int = 0
    upgraded: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    stopped: dict[str, str] = field(default_factory=dict)

    def totals(self) -> dict[str, int]:
        """Everything that was counted, by name."""
        names = ("lookups", "calls", "leads", "released", "upgraded")
        totals = {f"verification_{name}": int(getattr(self, name)) for name in names if getattr(self, name)}
        return {**totals, **{name: count for name, count in self.counts.items() if count}}


class Progress:
    """The time left, the claims made, the verdicts settled. Safe to share between threads."""

    def __init__(
        self,
        *,
        clock: Clock,
        cache: VerdictCacheSettings,
        runner_id: str,
        budget_seconds: float,
        random: Callable[[], float],
    ) -> None:
        self._clock = clock
        self._cache = cache
        self._runner_id = runner_id
        self._random = random
        self._noting = threading.Lock()
        self.ends = clock.monotonic() + budget_seconds
        self.report = VerificationReport()

    def left(self) -> float:
        """Seconds until the call should end."""
        return self.ends - self._clock.monotonic()

    def stamp(self) -> Stamp:
        """Who writes, and when: now, under a batch id of its own."""
        now = self._clock.now()
        return Stamp(uuid7(now), self._runner_id, now)

    def claim(
        self,
        connection: sa.Connection,
        kind: LookupKind,
        limits: Mapping[int, int],
        stamp: Stamp,
        lease: timedelta,
    ) -> list[Subject]:
        """Claim subjects for this call; see ``storage.verification_requests``."""
        return queue.claim_subjects(
            connection,
            kind,
            limits=limits,
            now=stamp.now,
            lease=lease,
            batch_id=stamp.batch_id,
            runner_id=stamp.runner_id,
        )

    def claim_answers(
        self, connection: sa.Connection, kind: LookupKind, call_id: UUID, stamp: Stamp, lease: timedelta
    ) -> list[Subject]:
        """Claim the subjects of a call whose answer is to be fetched; see ``storage.verification_requests``."""
        return queue.claim_answers(
            connection,
            kind,
            call_id,
            now=stamp.now,
            lease=lease,
            batch_id=stamp.batch_id,
            runner_id=stamp.runner_id,
        )

    def try_again(
        self,
        connection: sa.Connection,
        subjects: Sequence[Subject],
        stamp: Stamp,
        *,
        reason: str,
        at_least: float = 0.0,
    ) -> None:
        """Try these later, after ``at_least`` seconds: the longer, the oftener they were tried, and not all at once."""
        by_attempts: dict[int, list[Subject]] = {}
        for subject in subjects:
            by_attempts.setdefault(subject.attempts, []).append(subject)
        for attempts, group in by_attempts.items():
            wait = max(at_least, backoff_ceiling(attempts, policy=_RETRY) * (1 + self._random()) / 2)
            until = self._clock.now() + timedelta(seconds=wait)
            queue.postpone(connection, group, batch_id=stamp.batch_id, until=until, reason=reason)

    def settle(self, connection: sa.Connection, found: Sequence[SubjectVerdict]) -> None:
        """Write these verdicts for every lead that waits for them."""
        settled = verdict_rows.settle(connection, found, self.stamp(), cache=self._cache)
        standings = Counter(f"{item.kind}_{item.verdict.standing}" for item in found)
        self.note_settled(settled)
        self.note(counts=standings)

    def note_settled(self, settled: Settled) -> None:
        """Add what was settled to the report."""
        with self._noting:
            self.report.leads += settled.verdicts
            self.report.released += settled.released
            self.report.upgraded += settled.upgraded

    def note(self, *, lookups: int = 0, calls: int = 0, counts: Mapping[str, int] | None = None) -> None:
        """Add to the report."""
        with self._noting:
            self.report.lookups += lookups
            self.report.calls += calls
            self.report.counts.update(counts or {})
