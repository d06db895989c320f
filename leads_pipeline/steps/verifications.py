"""From ``verification_requests`` to ``verifications``: DNS and providers are asked, inside their limits and budgets.

Nothing is asked within a transaction. A claim is a lease; a call is written down before it is sent, with the subjects
in it, so that a worker may die at any point: what was never sent is asked again, what was sent and not answered may
have been paid for and is settled as ``unknown`` (``answer_lost``), never asked twice. The most urgent tier goes first.
Where an account is in trouble the next provider is asked; where none can be, leads go on when their patience ends.
"""

import random as randomness
import threading
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

import sqlalchemy as sa

from leads_pipeline.clock import Clock
from leads_pipeline.config import VerificationSettings
from leads_pipeline.domain.verification import LookupKind, Standing
from leads_pipeline.storage import verdicts as verdict_rows
from leads_pipeline.storage import verification_requests as queue
from leads_pipeline.storage.unserved_lookups import skip
from leads_pipeline.storage.verdicts import BY_DNS, SubjectVerdict
from leads_pipeline.storage.verification_calls import answers_due
from leads_pipeline.storage.verification_requests import Subject
from leads_pipeline.storage.verification_switches import active_switches, tiers_in_force
from leads_pipeline.verification.account import Account
from leads_pipeline.verification.desk import Desk
from leads_pipeline.verification.mx_lookup import look_up_mx
from leads_pipeline.verification.progress import MOST_FAILURES, Progress, VerificationReport

__all__ = ["VerificationReport", "kinds_to_look_up", "verify_leads"]

# Domains asked for at once.
MX_BATCH = 200
MX_LEASE = timedelta(minutes=1)  # and as long as DNS may take
_OWN_SERVERS = 3  # most that a machine names
# Requests of a tier that was switched down, let go at once.
SKIPPED_AT_ONCE = 5_000
# How long a mailbox that DNS has just set free may wait to be noticed.
_NAP_SECONDS = 0.1


def verify_leads(
    engine: sa.Engine,
    *,
    settings: VerificationSettings,
    clock: Clock,
    runner_id: str,
    budget_seconds: float,
    kinds: Collection[LookupKind] = tuple(LookupKind),
    random: Callable[[], float] = randomness.random,
    simulated: bool = False,
) -> VerificationReport:
    """Look up what is due of these kinds, the most urgent first, for as long as ``budget_seconds`` allow.

    A call that is under way then is waited for: a provider may take its whole time-out, DNS does not. ``simulated``:
    limits go by ``clock``, not by the database's clock, and everything is done by one thread.
    """
    progress = Progress(
        clock=clock, cache=settings.cache, runner_id=runner_id, budget_seconds=budget_seconds, random=random
    )
    desk = Desk(engine, settings, clock=clock, progress=progress, simulated=simulated)
    try:
        _Work(engine, settings, clock, progress, desk, simulated=simulated).run(kinds)
        desk.finish()
    finally:
        desk.close()
    return progress.report


def kinds_to_look_up(engine: sa.Engine, *, settings: VerificationSettings, clock: Clock) -> list[LookupKind]:
    """The kinds of which something is due that somebody can be asked for now: what a sensor starts a run for."""
    kinds = [kind for kind in LookupKind if settings.can_look_up(kind)]
    if not kinds:
        return []
    now = clock.now()
    with engine.connect() as connection:
        due = queue.kinds_due(connection, kinds, urgencies=range(len(settings.tiers)), now=now)
        answers = [kind for kind in kinds if answers_due(connection, kind, now=now)]
        unwanted = _unwanted(connection, settings, now)
    askable = [kind for kind in due if kind is LookupKind.MX or _askable(engine, kind, settings, clock)]
    return [kind for kind in kinds if kind in askable or kind in answers or kind in unwanted]


def _askable(engine: sa.Engine, kind: LookupKind, settings: VerificationSettings, clock: Clock) -> bool:
    """Whether an account can be asked for something that is due in a tier for which its budgets pay."""
    now = clock.now()
    for name in settings.providers_of(kind):
        account = Account(name, settings, engine=engine, clock=clock)
        if account.trouble(now=now) is None:
            with engine.connect() as connection:
                urgencies = list(account.affordable(connection, now=now))
                if queue.kinds_due(connection, [kind], urgencies=urgencies, now=now):
                    return True
    return False


def _unwanted(connection: sa.Connection, settings: VerificationSettings, now: datetime) -> set[LookupKind]:
    """The kinds of which something is due in a tier that is switched down: it is to be let go, whoever can be asked."""
    in_force = tiers_in_force(settings.tiers, active_switches(connection, now=now))
    found: set[LookupKind] = set()
    for place, (tier, treated_as) in enumerate(in_force.items()):
        dropped = [
            LookupKind(kind) for kind in settings.lookups_of(tier) if kind not in settings.lookups_of(treated_as)
        ]
        found.update(queue.kinds_due(connection, dropped, urgencies=[place], now=now))
    return found


class _Work:
    """One call of the step."""

    def __init__(
        self,
        engine: sa.Engine,
        settings: VerificationSettings,
        clock: Clock,
        progress: Progress,
        desk: Desk,
        *,
        simulated: bool,
    ) -> None:
        self._engine = engine
        self._settings = settings
        self._clock = clock
        self._progress = progress
        self._desk = desk
        self._simulated = simulated
        self._dns_at_work = threading.Event()

    def run(self, wanted: Collection[LookupKind]) -> None:
        kinds = [kind for kind in wanted if self._settings.can_look_up(kind)]
        self._skip_switched_down()
        self._adopt_orphans(kinds)
        if self._simulated:  # a clock that is moved by whoever sleeps is one thread's
            while self._progress.left() > 0 and sum(self._round(kind) for kind in kinds):
                pass
        elif kinds:
            # Each kind at its own pace: who waits for a provider's quota must not keep DNS waiting.
            if LookupKind.MX in kinds:
                self._dns_at_work.set()
            with ThreadPoolExecutor(len(kinds)) as pool:
                list(pool.map(self._all_of, kinds))

    def _all_of(self, kind: LookupKind) -> None:
        """Ask until nothing of the kind is due; mailboxes become due as long as DNS is at work."""
        try:
            while self._progress.left() > 0:
                more_may_come = kind is LookupKind.MAILBOX and self._dns_at_work.is_set()
                if self._round(kind):
                    continue
                if not more_may_come or str(kind) in self._progress.report.stopped:
                    return
                self._clock.sleep(_NAP_SECONDS)
        finally:
            if kind is LookupKind.MX:
                self._dns_at_work.clear()

    def _round(self, kind: LookupKind) -> bool:
        """Ask once. Says whether it is worth asking again."""
        return self._ask_dns() if kind is LookupKind.MX else self._desk.ask(kind)

    # -- tiers that are switched down

    def _skip_switched_down(self) -> None:
        now = self._clock.now()
        with self._engine.connect() as connection:
            in_force = tiers_in_force(self._settings.tiers, active_switches(connection, now=now))
        for tier, treated_as in in_force.items():
            if tier != treated_as:
                self._skip(tier, set(self._settings.lookups_of(tier)) - set(self._settings.lookups_of(treated_as)))
        if self._settings.can_look_up(LookupKind.MAILBOX) and not self._settings.can_look_up(LookupKind.MX):
            # Mailboxes would wait for ever for domains that nobody asks about any more.
            self._skip(None, {str(LookupKind.MX)})

    def _skip(self, tier: str | None, dropped: set[str]) -> None:
        while dropped and self._progress.left() > 0:
            with self._engine.begin() as connection:
                skipped = skip(connection, tier, sorted(dropped), limit=SKIPPED_AT_ONCE, stamp=self._progress.stamp())
            self._progress.note_settled(skipped)
            self._progress.note(counts={"skipped": skipped.verdicts})
            if skipped.verdicts < SKIPPED_AT_ONCE:
                break

    def _adopt_orphans(self, kinds: Sequence[LookupKind]) -> None:
        """What was asked for in a tier that leads.yaml does not have any more is asked for in the last."""
        last, urgency = self._settings.last_tier, len(self._settings.tiers) - 1
        for kind in kinds:
            with self._engine.begin() as connection:
                queue.adopt_orphans(connection, kind, last_tier=last, urgency=urgency, limit=SKIPPED_AT_ONCE)

    # -- DNS

    def _ask_dns(self) -> bool:
        stamp = self._progress.stamp()
        # Where all are silent every server's time-out passes, one after the other, and then that is the answer.
        mx = self._settings.mx
        longest = mx.timeout_seconds * (max(len(mx.resolvers), _OWN_SERVERS) + 2)
        with self._engine.begin() as connection:
            limits = dict.fromkeys(range(len(self._settings.tiers)), MX_BATCH)
            subjects = self._progress.claim(
                connection, LookupKind.MX, limits, stamp, MX_LEASE + timedelta(seconds=longest)
            )
        if not subjects:
            return False
        report = look_up_mx(
            self._engine,
            {subject.text for subject in subjects},
            settings=self._settings.mx,
            clock=self._clock,
            budget_seconds=max(0.1, min(self._progress.left(), longest)),
        )
        self._progress.note(lookups=report.asked, counts={"dns_asked": report.asked, "dns_cached": report.from_cache})
        found: list[SubjectVerdict] = []
        again: list[Subject] = []
        unasked: list[Subject] = []
        for subject in subjects:
            verdict = report.verdicts.get(subject.text)
            if verdict is None:  # the time was up
                unasked.append(subject)
            elif verdict.standing is Standing.UNKNOWN and subject.attempts < MOST_FAILURES:
                again.append(subject)
            else:
                found.append(SubjectVerdict(subject.tenant, subject.kind, subject.hash, verdict, BY_DNS))
        with self._engine.begin() as connection:
            self._progress.settle(connection, found)
            verdict_rows.unblock_mailboxes(connection, [(item.tenant, item.hash) for item in again])
            # A failure is remembered for a while: before, nobody would be asked.
            pause = self._settings.mx.failure_seconds
            self._progress.try_again(connection, again, stamp, reason="dns_failure", at_least=pause)
            queue.postpone(
                connection, unasked, batch_id=stamp.batch_id, until=stamp.now, reason="not_asked", counts=False
            )
        return bool(found)
