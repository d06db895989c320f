"""Whose a token is, and until when it holds.

Applications are known by numbers in the order of their tokens; no token ever shows in a report or in a log.
"""

from random import Random

from leads_pipeline.crm.sandbox.options import SandboxOptions

UNKNOWN = 0  # no application: the token is missing, wrong or expired
PLAYED = 255  # the application that the sandbox plays itself
_MOST = 200  # applications that are told apart; further ones are taken for the last


class Tokens:
    """Tokens that are known from the start hold for ever, those that the sandbox gives out for a time."""

    def __init__(self, options: SandboxOptions, *, random: Random) -> None:
        self._any = options.token is None
        self._seconds = options.token_seconds
        self._random = random
        self._applications = {token: number for number, token in enumerate(_lasting(options), start=1)}
        self._given: dict[str, tuple[int, float]] = {}  # the application, and the tick at which it ends

    def application_of(self, token: str | None, *, tick: float) -> int:
        """Who asks, or ``UNKNOWN``. With no token demanded, each new one is an application of its own."""
        if not token:
            return UNKNOWN
        if token in self._given:
            application, ends = self._given[token]
            return application if tick < ends else UNKNOWN
        if self._any and token not in self._applications:
            self._applications[token] = min(len(self._applications) + 1, _MOST)
        return self._applications.get(token, UNKNOWN)

    def give(self, application: int, *, tick: float) -> tuple[str, float]:
        """A new token of an application, and for how many seconds it holds."""
        token = f"given-{self._random.getrandbits(96):024x}"
        self._given[token] = (application, tick + self._seconds)
        return token, self._seconds

    def end(self, token: str) -> None:
        """End one token that was given out."""
        application, _ends = self._given[token]
        self._given[token] = (application, float("-inf"))

    def expire(self) -> int:
        """End every token that was given out, at once; returns how many there were."""
        for token, (application, _ends) in self._given.items():
            self._given[token] = (application, float("-inf"))
        return len(self._given)


def _lasting(options: SandboxOptions) -> tuple[str, ...]:
    return (*(() if options.token is None else (options.token,)), *options.other_tokens)
