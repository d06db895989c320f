"""What follows from a provider's answer: for the books, for every subject of the call, for the leads that wait.

All of it is one transaction. Keep out: whom to ask (``desk``), and when to fetch an answer that is still being made
(``polling``).
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta

import sqlalchemy as sa

from leads_pipeline.clock import Clock
from leads_pipeline.domain.verification import LookupVerdict, Standing
from leads_pipeline.storage import verification_calls as books
from leads_pipeline.storage import verification_requests as queue
from leads_pipeline.storage.verdicts import Stamp, SubjectVerdict
from leads_pipeline.storage.verification_calls import Call
from leads_pipeline.storage.verification_requests import Subject
from leads_pipeline.verification.account import Account
from leads_pipeline.verification.port import Outcome, ProviderAnswer
from leads_pipeline.verification.progress import MOST_ATTEMPTS, MOST_FAILURES, Progress

# The subject itself may be why: after so many attempts nobody can tell. All else is the account's trouble.
# Whom an answer leaves out may have been paid for, under another spelling: nobody is asked for it again.
_MOST = {Outcome.ANSWERED: 0, Outcome.REJECTED: MOST_ATTEMPTS, Outcome.BROKEN: MOST_FAILURES}
_NO_END = 1_000_000
_DEADLOCK = "40P01"  # of PostgreSQL: this transaction was undone, another goes on


class Answers:
    """Safe to share between threads."""

    def __init__(self, engine: sa.Engine, *, clock: Clock, progress: Progress) -> None:
        self._engine = engine
        self._clock = clock
        self._progress = progress

    def settle(
        self,
        account: Account,
        call: Call,
        subjects: Sequence[Subject],
        answer: ProviderAnswer,
        stamp: Stamp,
        *,
        lookups: int,
    ) -> None:
        """Write what an answer means: verdicts, or when its subjects are asked for again."""
        quirks = account.provider.quirks
        by_text = {text.lower(): verdict for text, verdict in answer.verdicts.items()}
        texts = list(dict.fromkeys(subject.text.lower() for subject in subjects))
        prices = _prices(answer, texts, by_text, price=books.micros(account.settings.cost_per_lookup))
        now = self._clock.now()
        found: list[SubjectVerdict] = []
        again: list[Subject] = []
        for subject in subjects:
            verdict = by_text.get(subject.text.lower())
            if answer.outcome is Outcome.LOST:
                verdict = LookupVerdict(Standing.UNKNOWN, ("answer_lost",))
            elif verdict is None and subject.attempts >= _MOST.get(answer.outcome, _NO_END):
                verdict = LookupVerdict(Standing.UNKNOWN, ("provider_failed",))
            if verdict is None:
                again.append(subject)
            else:
                found.append(
                    SubjectVerdict(
                        subject.tenant,
                        subject.kind,
                        subject.hash,
                        verdict,
                        account.name,
                        prices.pop(subject.text.lower(), 0),  # of two tenants' equal addresses the first bears it
                        call.call_id,
                    )
                )

        def write(connection: sa.Connection) -> None:
            account.close_call(connection, call, answer, lookups=lookups)
            self._progress.settle(connection, found)
            if answer.outcome is Outcome.POLL:
                pause = answer.retry_after if answer.retry_after is not None else quirks.poll_seconds
                queue.wait_for_answer(connection, again, batch_id=stamp.batch_id, until=now + timedelta(seconds=pause))
            elif answer.outcome in _MOST:
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

        self._once_more_if_deadlocked(write)
        self._progress.note(calls=1, lookups=lookups if answer.outcome is Outcome.ANSWERED else 0)
        self._progress.note(counts={f"call_{answer.outcome}": 1, f"asked_{account.name}": 1})

    def _once_more_if_deadlocked(self, write: Callable[[sa.Connection], None]) -> None:
        """What was answered is paid for: it is not lost because two workers' transactions met."""
        for last in (False, False, True):
            try:
                with self._engine.begin() as connection:
                    write(connection)
            except sa.exc.OperationalError as error:
                if last or getattr(error.orig, "sqlstate", None) != _DEADLOCK:
                    raise
            else:
                return

    def give_up(self, lost: Sequence[tuple[Subject, Call]]) -> None:
        """Nobody knows what became of their call, and whether it was paid: it is not made again."""
        verdict = LookupVerdict(Standing.UNKNOWN, ("answer_lost",))
        with self._engine.begin() as connection:
            for call_id in sorted({call.call_id for _subject, call in lost}):
                books.write_lost(connection, call_id, now=self._clock.now())
            self._progress.settle(
                connection,
                [
                    SubjectVerdict(item.tenant, item.kind, item.hash, verdict, call.provider, call_id=call.call_id)
                    for item, call in lost
                ],
            )
        self._progress.note(counts={"answers_lost": len(lost)})


def _prices(
    answer: ProviderAnswer, texts: Sequence[str], verdicts: Mapping[str, LookupVerdict], *, price: int
) -> dict[str, int]:
    """What each look-up cost, so that the rows add up to the ledger.

    A vendor says how many it bills, not which: those that tell nothing are the free ones, wherever some are free.
    """
    if answer.outcome is Outcome.LOST:
        return dict.fromkeys(texts, price)
    if answer.outcome is not Outcome.ANSWERED:
        return {}
    judged = sorted((text for text in texts if text in verdicts), key=lambda text: _is_unknown(verdicts[text]))
    billed = judged if answer.billed is None else judged[: answer.billed]
    left_out = [text for text in texts if text not in verdicts]
    return dict.fromkeys([*billed, *left_out], price)


def _is_unknown(verdict: LookupVerdict) -> bool:
    return verdict.standing is Standing.UNKNOWN
