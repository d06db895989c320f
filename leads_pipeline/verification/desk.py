"""Asks providers: whom now, and for whom. What follows from an answer stands in ``answers``.

A call is written down before it is sent, with the subjects in it, so that a worker may die at any point: what was never
sent is asked again, what was sent and not answered may have been paid for and is settled as ``unknown``
(``answer_lost``), never asked twice. Where an account is in trouble the next provider of the kind is asked.
"""

import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from datetime import datetime, timedelta

import sqlalchemy as sa

from leads_pipeline.clock import Clock
from leads_pipeline.config import VerificationSettings
from leads_pipeline.domain.verification import LookupKind
from leads_pipeline.errors import AccountParked
from leads_pipeline.outbound.gate import Entry, Gate
from leads_pipeline.storage import verdicts as verdict_rows
from leads_pipeline.storage import verification_calls as books
from leads_pipeline.storage import verification_requests as queue
from leads_pipeline.storage.verdicts import Stamp
from leads_pipeline.storage.verification_calls import Call
from leads_pipeline.storage.verification_requests import Subject
from leads_pipeline.verification.account import Account, Trouble
from leads_pipeline.verification.accounts import Accounts
from leads_pipeline.verification.answers import Answers
from leads_pipeline.verification.polling import ANSWER_LEASE, Polling
from leads_pipeline.verification.progress import Progress

# So often a batch may fail as a whole; from then on it is asked in ever smaller parts, as one subject may be why.
WHOLE_ATTEMPTS = 2
NOBODY = "nobody"  # no provider of the kind can be asked
# Of the money, or of what was claimed, somebody has taken some meanwhile: there may be more.
_OTHERS_WERE_QUICKER = ("budget", "claimed")
# For these the next provider is not asked: the account has enough to do, or this call of the step ends.
_SOON_OVER = ("busy", "stopping", "window")
_MOST_THREADS = 64


class Desk:
    """Makes the calls of one call of the step."""

    def __init__(
        self,
        engine: sa.Engine,
        settings: VerificationSettings,
        *,
        clock: Clock,
        progress: Progress,
        simulated: bool,
    ) -> None:
        self._engine = engine
        self._settings = settings
        self._clock = clock
        self._progress = progress
        self._simulated = simulated
        self._stopping = threading.Event()
        self._accounts = Accounts(engine, settings, clock=clock, simulated=simulated)
        self._answers = Answers(engine, clock=clock, progress=progress)
        self._polling = Polling(
            engine,
            clock=clock,
            progress=progress,
            accounts=self._accounts,
            answers=self._answers,
            stopping=self._stopping,
        )
        self._pool = ThreadPoolExecutor(_MOST_THREADS, thread_name_prefix="verification")
        self._under_way: dict[LookupKind, set[Future[None]]] = {kind: set() for kind in LookupKind}

    def finish(self) -> None:
        """Wait for the calls that are under way.

        Raises:
            Exception: what went wrong in one of them.
        """
        for call in [call for calls in self._under_way.values() for call in calls]:
            call.result()

    def close(self) -> None:
        """End the threads, close the connections."""
        self._pool.shutdown()
        self._accounts.close()

    def ask(self, kind: LookupKind) -> bool:
        """Fetch answers that were still being made, then ask the first provider that can be asked.

        That is one batch, or as many single look-ups as may be under way. Their answers are waited for elsewhere, but
        not in a simulation. Says whether it is worth asking again.
        """
        stopped = self._progress.report.stopped
        stopped.pop(str(kind), None)
        fetched = self._polling.fetch(kind)
        reasons: list[str] = []
        for name in self._settings.providers_of(kind):
            account = self._accounts.get(name)
            if account is None:
                reasons.append(f"{name}: {self._accounts.why_not(name)}")
                continue
            now = self._clock.now()
            trouble = account.trouble(now=now)
            if trouble is not None:
                reasons.append(f"{name}: {trouble.reason}")
                continue
            with self._engine.connect() as connection:
                limits = account.affordable(connection, now=now)
                due = queue.kinds_due(connection, [kind], urgencies=list(limits), now=now)
            if not due and len(limits) < len(self._settings.tiers):
                reasons.append(f"{name}: budget")  # what is left of it is kept for tiers of which nothing waits
                continue
            if not due:
                return self._wait_for_one(kind) or fetched
            trouble = self._ask_account(account, kind, limits)
            if trouble is None:
                return True
            if trouble.reason == "nothing_due":
                return self._wait_for_one(kind) or fetched
            if trouble.reason in _OTHERS_WERE_QUICKER:
                return True
            reasons.append(f"{name}: {trouble.reason}")
            if trouble.reason in _SOON_OVER:
                break
        stopped[str(kind)] = "; ".join(reasons) or NOBODY
        return fetched

    def _ask_account(self, account: Account, kind: LookupKind, limits: Mapping[int, int]) -> Trouble | None:
        """Make the next call, or several of one subject each. Says why none could be made."""
        quirks = account.provider.quirks
        while len(self._under_way[kind]) >= quirks.in_flight:
            if not self._wait_for_one(kind):
                return Trouble("busy")
        gate = account.gate(deadline=self._progress.ends, stopping=self._stopping)
        try:
            # The grant first: who is the most urgent is asked when it is there, not before the wait for it.
            entry = gate.enter()
        except AccountParked as parked:
            return Trouble(parked.reason)
        room = account.room(now=self._clock.now())
        if room == 0:
            gate.turn_back(entry)
            return Trouble("breaker")
        probing = room < quirks.in_flight
        single = account.batch_size == 1
        most = min(room, quirks.in_flight - len(self._under_way[kind])) if single else account.batch_size
        stamp = self._progress.stamp()
        with self._engine.begin() as connection:
            capped = {urgency: min(limit, most) for urgency, limit in limits.items()}
            subjects = self._progress.claim(connection, kind, capped, stamp, account.lease)
        fresh = self._sorted_out(subjects, stamp)
        if not fresh:
            gate.turn_back(entry)
            return None if subjects else Trouble("nothing_due")
        if not single:
            company = _company(fresh, account.batch_size)
            self._put_back([subject for subject in fresh if subject not in company], stamp)
            return self._call(account, company, stamp, entry, gate, at_once=probing)
        held: Entry | None = entry
        for done, subject in enumerate(fresh):
            try:
                trouble = self._call(account, [subject], stamp, held or gate.enter(), gate, at_once=probing)
            except AccountParked as parked:
                trouble = Trouble(parked.reason)
                self._put_back([subject], stamp)
            if trouble is not None:
                self._put_back(fresh[done + 1 :], stamp)
                return None if done else trouble  # after a call, what has become of the account is asked anew
            held = None
        return None

    def _wait_for_one(self, kind: LookupKind) -> bool:
        """Wait until one of the calls that are under way is done; no if there is none, or no time for it."""
        calls = self._under_way[kind]
        if not calls or self._progress.left() <= 0:
            return False
        done, _under_way = wait(calls, timeout=self._progress.left(), return_when=FIRST_COMPLETED)
        calls -= done
        for call in done:
            call.result()
        return bool(done)

    def _sorted_out(self, subjects: Sequence[Subject], stamp: Stamp) -> list[Subject]:
        """Who is to be asked for. Who was asked for already is not; the known and the lost are settled here."""
        subjects = self._unknown(subjects)
        named = {subject.call_id for subject in subjects if subject.call_id is not None}
        if not named:
            return list(subjects)
        with self._engine.connect() as connection:
            calls = books.read_calls(connection, named)
        fresh: list[Subject] = []
        waiting: list[Subject] = []
        # Another wrote its call down after this claim was chosen, and before it was taken.
        under_way: dict[datetime, list[Subject]] = {}
        lost: list[tuple[Subject, Call]] = []
        for subject in subjects:
            call = calls.get(subject.call_id) if subject.call_id is not None else None
            if call is None or call.answered:
                fresh.append(subject)
            elif call.poll_reference is not None:
                waiting.append(subject)
            elif (until := call.sent_at + self._lease_of(call)) > stamp.now:
                under_way.setdefault(until, []).append(subject)
            else:
                lost.append((subject, call))
        if waiting:
            with self._engine.begin() as connection:
                queue.wait_for_answer(connection, waiting, batch_id=stamp.batch_id, until=stamp.now)
        for until, theirs in under_way.items():
            with self._engine.begin() as connection:
                queue.wait_for_answer(connection, theirs, batch_id=stamp.batch_id, until=until)
        if lost:
            self._answers.give_up(lost)
        return fresh

    def _unknown(self, subjects: Sequence[Subject]) -> Sequence[Subject]:
        """Those of whom nothing is known.

        A lead may be validated while its namesake is asked for: it looked into the cache before the verdict was there.
        """
        if not subjects:
            return subjects
        wanted = [(subject.tenant, subject.kind, subject.hash) for subject in subjects]
        with self._engine.begin() as connection:
            known = verdict_rows.read_remembered(connection, wanted, now=self._clock.now())
            if not known:
                return subjects
            self._progress.settle(connection, known)
        self._progress.note(counts={"lookups_known": len(known)})
        done = {(item.tenant, item.kind, item.hash) for item in known}
        return [subject for subject in subjects if (subject.tenant, subject.kind, subject.hash) not in done]

    def _lease_of(self, call: Call) -> timedelta:
        account = self._accounts.get(call.provider)
        return ANSWER_LEASE if account is None else account.lease

    def _call(
        self,
        account: Account,
        subjects: Sequence[Subject],
        stamp: Stamp,
        entry: Entry,
        gate: Gate,
        *,
        at_once: bool,
    ) -> Trouble | None:
        """Write the call down, and send it. Says why it may not be sent; then the subjects wait again."""
        texts = list(dict.fromkeys(subject.text for subject in subjects))
        trouble: Trouble | None = None
        with self._engine.begin() as connection:
            call = account.open_call(
                connection,
                len(texts),
                urgency=max(subject.urgency for subject in subjects),
                batch_id=stamp.batch_id,
                runner_id=stamp.runner_id,
            )
            if isinstance(call, Trouble):
                trouble = call
            else:
                named = queue.name_call(
                    connection,
                    subjects,
                    call_id=call.call_id,
                    lease_until=call.sent_at + account.lease,
                    batch_id=stamp.batch_id,
                    runner_id=stamp.runner_id,
                )
                # The wait for the grant may have outlived the lease: what another has claimed since is not ours.
                if len(named) < len(subjects):
                    trouble = Trouble("claimed")
            if trouble is not None:
                connection.rollback()
        if isinstance(call, Trouble) or trouble is not None:
            gate.turn_back(entry)
            self._put_back(subjects, stamp)
            return trouble
        if at_once or self._simulated:
            self._send(account, call, subjects, texts, stamp, entry, gate)
        else:
            kind = subjects[0].kind
            self._under_way[kind].add(self._pool.submit(self._send, account, call, subjects, texts, stamp, entry, gate))
        return None

    def _send(
        self,
        account: Account,
        call: Call,
        subjects: Sequence[Subject],
        texts: Sequence[str],
        stamp: Stamp,
        entry: Entry,
        gate: Gate,
    ) -> None:
        """Send a call that is in the books, and settle what was answered."""
        gate.leaving(entry)
        answer = self._accounts.client(account).ask(texts)
        account.answered(gate, entry, answer)
        self._answers.settle(account, call, subjects, answer, stamp, lookups=len(texts))

    def _put_back(self, subjects: Sequence[Subject], stamp: Stamp) -> None:
        with self._engine.begin() as connection:
            queue.postpone(
                connection,
                subjects,
                batch_id=stamp.batch_id,
                until=None,
                reason="not_asked",
                counts=False,
            )


def _company(subjects: Sequence[Subject], size: int) -> list[Subject]:
    """Whom to ask for together with the first: those that failed as often, the fewer the oftener."""
    shares = [min(max(0, subject.attempts - WHOLE_ATTEMPTS), size.bit_length()) for subject in subjects]
    company = [subject for subject, share in zip(subjects, shares, strict=True) if share == shares[0]]
    return company[: max(1, size >> 2 * shares[0])]
