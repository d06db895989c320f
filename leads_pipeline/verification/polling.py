"""Answers that a provider is still making: fetched when they may be ready, whoever asked for them.

Nothing is paid for that, so it is tried until the provider's patience ends; then the answer counts as lost.
"""

import threading
from collections.abc import Sequence
from datetime import timedelta

import sqlalchemy as sa

from leads_pipeline.clock import Clock
from leads_pipeline.domain.verification import LookupKind
from leads_pipeline.errors import AccountParked
from leads_pipeline.storage import verification_calls as books
from leads_pipeline.storage import verification_requests as queue
from leads_pipeline.storage.verdicts import Stamp
from leads_pipeline.storage.verification_calls import Call
from leads_pipeline.storage.verification_requests import Subject
from leads_pipeline.verification.account import Account
from leads_pipeline.verification.accounts import Accounts
from leads_pipeline.verification.answers import Answers
from leads_pipeline.verification.port import Outcome
from leads_pipeline.verification.progress import Progress

# Answers of an account that leads.yaml does not name any more, or without its key.
ANSWER_LEASE = timedelta(minutes=1)
_NO_ACCOUNT_SECONDS = 60.0
_NO_ACCOUNT_PATIENCE = timedelta(hours=1)


class Polling:
    """Fetches the answers of one call of the step."""

    def __init__(
        self,
        engine: sa.Engine,
        *,
        clock: Clock,
        progress: Progress,
        accounts: Accounts,
        answers: Answers,
        stopping: threading.Event,
    ) -> None:
        self._engine = engine
        self._clock = clock
        self._progress = progress
        self._accounts = accounts
        self._answers = answers
        self._stopping = stopping

    def fetch(self, kind: LookupKind) -> bool:
        """Ask for the answers that were still being made and may be ready now. Nothing is paid for that."""
        now = self._clock.now()
        with self._engine.connect() as connection:
            calls = books.answers_due(connection, kind, now=now)
        for call in calls:
            account = self._accounts.get(call.provider)
            stamp = self._progress.stamp()
            with self._engine.begin() as connection:
                subjects = self._progress.claim_answers(
                    connection, kind, call.call_id, stamp, ANSWER_LEASE if account is None else account.lease
                )
            if not subjects:
                continue  # another worker was quicker
            if account is None:
                self._poll_later(subjects, call, stamp, seconds=_NO_ACCOUNT_SECONDS, patience=_NO_ACCOUNT_PATIENCE)
            else:
                self._poll(account, call, subjects, stamp)
        return bool(calls)

    def _poll(self, account: Account, call: Call, subjects: Sequence[Subject], stamp: Stamp) -> None:
        """Ask for an answer that was still being made. A provider that takes too long has lost it."""
        texts = list(dict.fromkeys(subject.text for subject in subjects))
        quirks = account.provider.quirks
        assert call.poll_reference is not None  # how it came to be among these
        gate = account.gate(deadline=self._progress.ends, stopping=self._stopping)
        patience = timedelta(seconds=quirks.poll_patience_seconds)
        try:
            entry = gate.enter() if quirks.polls_are_limited else None
        except AccountParked as parked:
            pause = (parked.until - self._clock.now()).total_seconds()
            self._poll_later(subjects, call, stamp, seconds=pause, patience=patience)
            return
        answer = self._accounts.client(account).poll(call.poll_reference, texts)
        if entry is not None:
            account.answered(gate, entry, answer)
        self._progress.note(counts={f"poll_{answer.outcome}": 1})
        if answer.outcome is Outcome.ANSWERED:
            self._answers.settle(account, call, subjects, answer, stamp, lookups=call.lookups)
            return
        if answer.outcome is Outcome.POLL and answer.poll_reference is not None:
            with self._engine.begin() as connection:
                books.write_poll(
                    connection, call.call_id, reference=answer.poll_reference, http_status=answer.http_status
                )
        # Not paid again, whatever is wrong: asked for once more until its patience ends.
        pause = answer.retry_after if answer.retry_after is not None else quirks.poll_seconds
        self._poll_later(subjects, call, stamp, seconds=pause, patience=patience)

    def _poll_later(
        self, subjects: Sequence[Subject], call: Call, stamp: Stamp, *, seconds: float, patience: timedelta
    ) -> None:
        now = self._clock.now()
        if now - call.sent_at >= patience:
            self._answers.give_up([(subject, call) for subject in subjects])
            return
        with self._engine.begin() as connection:
            queue.wait_for_answer(
                connection, subjects, batch_id=stamp.batch_id, until=now + timedelta(seconds=max(seconds, 0))
            )
