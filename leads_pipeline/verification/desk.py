"""Asks providers: whom now, for whom, and what follows from each answer.

A call is written down before it is sent, with the subjects in it, so that a worker may die at any point: what was never
sent is asked again, what was sent and not answered may have been paid for and is settled as ``unknown``
(``answer_lost``), never asked twice. Where an account is in trouble the next provider of the kind is asked.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from uuid import UUID

import sqlalchemy as sa

from leads_pipeline.clock import Clock
from leads_pipeline.config import VerificationSettings
from leads_pipeline.domain.verification import LookupKind, LookupVerdict, Standing
from leads_pipeline.errors import AccountParked, ConfigError
from leads_pipeline.outbound.gate import Entry, Gate
from leads_pipeline.storage import verification_calls as books
from leads_pipeline.storage import verification_requests as queue
from leads_pipeline.storage.verdicts import Stamp, SubjectVerdict
from leads_pipeline.storage.verification_calls import Call
from leads_pipeline.storage.verification_requests import Subject
from leads_pipeline.telemetry import get_logger
from leads_pipeline.verification.account import Account
from leads_pipeline.verification.client import ProviderClient
from leads_pipeline.verification.port import Outcome, ProviderAnswer
from leads_pipeline.verification.progress import MOST_ATTEMPTS, Progress

_log = get_logger(__name__)

# From this attempt on a subject is asked for alone: it may be what a whole batch is refused for.
ALONE_FROM_ATTEMPT = 3
NOBODY = "nobody"  # no provider of the kind can be asked
# The subject itself may be why; everything else is the account's trouble.
_BURNS_ATTEMPTS = frozenset({Outcome.ANSWERED, Outcome.REJECTED, Outcome.BROKEN})


class Desk:
    """The accounts of one call of the step, opened as they are needed."""

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
        self._accounts: dict[str, Account] = {}
        self._clients: dict[str, ProviderClient] = {}
        self._unusable: dict[str, str] = {}

    def close(self) -> None:
        """Close the connections."""
        for client in self._clients.values():
            client.close()

    def ask(self, kind: LookupKind) -> bool:
        """One batch, or as many single look-ups as may be under way, to the first provider that can be asked."""
        reasons: list[str] = []
        for name in self._settings.providers_of(kind):
            account = self._account(name)
            if account is None:
                reasons.append(f"{name}: {self._unusable[name]}")
                continue
            now = self._clock.now()
            trouble = account.trouble(now=now)
            if trouble is not None:
                reasons.append(f"{name}: {trouble.reason}")
                continue
            with self._engine.connect() as connection:
                urgencies = account.affordable(connection, now=now)
                if not queue.kinds_due(connection, [kind], urgencies=list(urgencies), now=now):
                    return False
            if not account.may_send(now=now):
                reasons.append(f"{name}: breaker")
                continue
            return self._ask_account(account, kind, urgencies)
        self._progress.report.stopped[str(kind)] = "; ".join(reasons) or NOBODY
        return False

    def _account(self, name: str) -> Account | None:
        if name not in self._accounts and name not in self._unusable:
            settings = self._settings.providers[name]
            try:
                key = settings.key.resolve() if settings.key is not None else None
            except ConfigError:
                self._unusable[name] = "no key"
                _log.error("verification_key_missing", provider=name)
                return None
            account = Account(name, self._settings, engine=self._engine, clock=self._clock, simulated=self._simulated)
            self._accounts[name] = account
            self._clients[name] = ProviderClient(account.provider, settings, key)
        return self._accounts.get(name)

    def _ask_account(self, account: Account, kind: LookupKind, urgencies: dict[int, int]) -> bool:
        gate = account.gate(deadline=self._progress.ends, stopping=self._stopping)
        try:
            # The grant first: who is the most urgent is asked when it is there, not before the wait for it.
            entry = gate.enter()
        except AccountParked as parked:
            self._progress.report.stopped[str(kind)] = f"{account.name}: {parked.reason}"
            return False
        stamp = self._progress.stamp()
        single = account.batch_size == 1
        room = account.provider.quirks.in_flight if single else account.batch_size
        with self._engine.begin() as connection:
            limit = min(room, max(urgencies.values()))
            subjects = self._progress.claim(connection, kind, list(urgencies), limit, stamp, account.lease)
        fresh, waiting = self._sorted_out(subjects)
        for call, group in waiting:
            self._poll(account, call, group, stamp)
        groups = _groups(fresh, account.batch_size)
        if not groups:
            gate.turn_back(entry)
            return bool(subjects)
        if len(groups) == 1:
            self._call(account, groups[0], stamp, lambda: entry, gate)
            return True
        entries = [entry]
        with ThreadPoolExecutor(min(len(groups), account.provider.quirks.in_flight)) as pool:
            list(
                pool.map(
                    lambda group: self._call(
                        account, group, stamp, lambda: entries.pop() if group is groups[0] else gate.enter(), gate
                    ),
                    groups,
                )
            )
        return True

    def _sorted_out(self, subjects: Sequence[Subject]) -> tuple[list[Subject], list[tuple[Call, list[Subject]]]]:
        """Who is to be asked for, and whose answer an earlier call is still being made; the lost are settled here."""
        named = {subject.call_id for subject in subjects if subject.call_id is not None}
        if not named:
            return list(subjects), []
        with self._engine.connect() as connection:
            calls = books.read_calls(connection, named)
        fresh: list[Subject] = []
        waiting: dict[UUID, list[Subject]] = {}
        lost: list[Subject] = []
        for subject in subjects:
            call = calls.get(subject.call_id) if subject.call_id is not None else None
            if call is None or call.answered:
                fresh.append(subject)
            elif call.poll_reference is not None and call.provider in self._accounts:
                waiting.setdefault(call.call_id, []).append(subject)
            else:
                lost.append(subject)
        if lost:
            self._give_up(lost, calls)
        return fresh, [(calls[call_id], group) for call_id, group in waiting.items()]

    def _give_up(self, lost: Sequence[Subject], calls: Mapping[UUID, Call]) -> None:
        """Their call was sent by a worker that died: nobody knows whether it was paid, so it is not paid again."""
        answer = ProviderAnswer(Outcome.LOST)
        with self._engine.begin() as connection:
            for call_id in sorted({subject.call_id for subject in lost if subject.call_id is not None}):
                call = calls[call_id]
                if call.provider in self._settings.providers:
                    account = self._account(call.provider)
                    if account is not None:
                        account.close_call(connection, call, answer, lookups=call.lookups, by_us=True)
            verdict = LookupVerdict(Standing.UNKNOWN, ("answer_lost",))
            self._progress.settle(
                connection,
                [
                    SubjectVerdict(
                        item.tenant,
                        item.kind,
                        item.hash,
                        verdict,
                        calls[item.call_id].provider if item.call_id else "",
                        call_id=item.call_id,
                    )
                    for item in lost
                ],
            )
        self._progress.note(counts={"answers_lost": len(lost)})

    def _call(
        self,
        account: Account,
        subjects: Sequence[Subject],
        stamp: Stamp,
        enter: Callable[[], Entry],
        gate: Gate,
    ) -> None:
        """Write the call down, send it, and settle what was answered."""
        texts = list(dict.fromkeys(subject.text for subject in subjects))
        try:
            entry = enter()
        except AccountParked:
            self._put_back(subjects, stamp)
            return
        with self._engine.begin() as connection:
            call = account.open_call(
                connection,
                len(texts),
                urgency=max(subject.urgency for subject in subjects),
                batch_id=stamp.batch_id,
                runner_id=stamp.runner_id,
            )
            # The wait for the grant may have outlived the lease: what another has claimed since is not ours to ask for.
            named = (
                queue.name_call(
                    connection,
                    subjects,
                    call_id=call.call_id,
                    lease_until=call.sent_at + account.lease,
                    batch_id=stamp.batch_id,
                    runner_id=stamp.runner_id,
                )
                if call is not None
                else set()
            )
            if call is None or len(named) < len(subjects):
                connection.rollback()
                call = None
        if call is None:
            gate.turn_back(entry)
            self._put_back(subjects, stamp)
            return
        answer = self._clients[account.name].ask(texts)
        account.answered(gate, entry, answer)
        self._after(account, call, subjects, answer, stamp, lookups=len(texts))

    def _poll(self, account: Account, call: Call, subjects: Sequence[Subject], stamp: Stamp) -> None:
        """Ask for an answer that was still being made. A provider that takes too long has lost it."""
        texts = list(dict.fromkeys(subject.text for subject in subjects))
        owner = self._account(call.provider) or account
        assert call.poll_reference is not None  # how it came to be among these
        answer = self._clients[owner.name].poll(call.poll_reference, texts)
        patience = timedelta(seconds=owner.provider.quirks.poll_patience_seconds)
        if answer.outcome is not Outcome.ANSWERED:
            if stamp.now - call.sent_at >= patience:
                self._after(owner, call, subjects, ProviderAnswer(Outcome.LOST), stamp, lookups=call.lookups)
                return
            # Not paid again, whatever is wrong: asked for once more until its patience ends.
            pause = answer.retry_after if answer.retry_after is not None else owner.provider.quirks.poll_seconds
            with self._engine.begin() as connection:
                queue.wait_for_answer(
                    connection,
                    subjects,
                    batch_id=stamp.batch_id,
                    until=self._clock.now() + timedelta(seconds=pause),
                )
            return
        self._after(owner, call, subjects, answer, stamp, lookups=call.lookups)

    def _after(
        self,
        account: Account,
        call: Call,
        subjects: Sequence[Subject],
        answer: ProviderAnswer,
        stamp: Stamp,
        *,
        lookups: int,
    ) -> None:
        """What an answer means for the books and for every subject of the call, in one transaction."""
        quirks = account.provider.quirks
        by_text = {text.lower(): verdict for text, verdict in answer.verdicts.items()}
        price = books.micros(account.settings.cost_per_lookup) if answer.billed != 0 else 0
        now = self._clock.now()
        found: list[SubjectVerdict] = []
        again: list[Subject] = []
        for subject in subjects:
            verdict = by_text.get(subject.text.lower())
            if answer.outcome is Outcome.LOST:
                verdict = LookupVerdict(Standing.UNKNOWN, ("answer_lost",))
            elif verdict is None and subject.attempts >= MOST_ATTEMPTS and answer.outcome in _BURNS_ATTEMPTS:
                verdict = LookupVerdict(Standing.UNKNOWN, ("provider_failed",))
            if verdict is None:
                again.append(subject)
            else:
                found.append(
                    SubjectVerdict(
                        subject.tenant, subject.kind, subject.hash, verdict, account.name, price, call.call_id
                    )
                )
        with self._engine.begin() as connection:
            account.close_call(connection, call, answer, lookups=lookups)
            self._progress.settle(connection, found)
            if answer.outcome is Outcome.POLL:
                pause = answer.retry_after if answer.retry_after is not None else quirks.poll_seconds
                queue.wait_for_answer(connection, again, batch_id=stamp.batch_id, until=now + timedelta(seconds=pause))
            elif answer.outcome in _BURNS_ATTEMPTS:
                self._progress.try_again(connection, again, stamp, reason=str(answer.outcome))
            else:
                # The account's trouble, not theirs: whoever can be asked next takes them at once.
                queue.postpone(
                    connection,
                    again,
                    batch_id=stamp.batch_id,
                    until=now,
                    reason=str(answer.outcome),
                    counts=False,
                )
        self._progress.note(calls=1, lookups=lookups if answer.outcome is Outcome.ANSWERED else 0)
        self._progress.note(counts={f"call_{answer.outcome}": 1, f"asked_{account.name}": 1})

    def _put_back(self, subjects: Sequence[Subject], stamp: Stamp) -> None:
        with self._engine.begin() as connection:
            queue.postpone(
                connection,
                subjects,
                batch_id=stamp.batch_id,
                until=self._clock.now(),
                reason="not_asked",
                counts=False,
            )


def _groups(subjects: Sequence[Subject], size: int) -> list[list[Subject]]:
    """The calls to make: full batches, and alone what has failed in company."""
    together = [subject for subject in subjects if subject.attempts < ALONE_FROM_ATTEMPT]
    alone = [[subject] for subject in subjects if subject.attempts >= ALONE_FROM_ATTEMPT]
    return [together[start : start + size] for start in range(0, len(together), size)] + alone
