"""What was looked up, and what was billed for it: the proof that nothing is paid twice."""

from collections import Counter


class OutOfCredit(Exception):
    """The account cannot pay for this request; nothing of it is looked up."""


class Ledger:
    """Counts by address or number, in memory only. ``credit`` of ``None`` never ends."""

    def __init__(self, credit: int | None) -> None:
        self._credit = credit
        self.looked_up: Counter[str] = Counter()
        self.billed: Counter[str] = Counter()
        self.verdicts: Counter[str] = Counter()

    @property
    def credit_left(self) -> int | None:
        return None if self._credit is None else self._credit - self.billed.total()

    def demand(self, units: int) -> None:
        """Raise ``OutOfCredit`` if so much could not be paid."""
        if self.credit_left is not None and self.credit_left < units:
            raise OutOfCredit

    def look_up(self, subject: str, verdict: str, *, billed: bool) -> None:
        """One look-up was made; ``verdict`` in the vendor's own word."""
        self.looked_up[subject] += 1
        self.verdicts[verdict] += 1
        if billed:
            self.billed[subject] += 1

    def shown(self) -> dict[str, object]:
        """Numbers only."""
        return {
            "looked_up": self.looked_up.total(),
            "looked_up_twice": sum(times > 1 for times in self.looked_up.values()),
            "billed": self.billed.total(),
            "billed_twice": sum(times > 1 for times in self.billed.values()),
            "credit_left": self.credit_left,
            "verdicts": dict(sorted(self.verdicts.items())),
        }

    def page(self, *, after: str, at_least: int, limit: int) -> dict[str, dict[str, int]]:
        """How often each subject was looked up and billed, in their order, those below ``at_least`` left out."""
        names = sorted(name for name, times in self.looked_up.items() if name > after and times >= at_least)
        return {name: {"looked_up": self.looked_up[name], "billed": self.billed[name]} for name in names[:limit]}
