"""The port that every verification provider implements.

A provider turns addresses into one HTTP request and the answer into one verdict per address; it sends nothing, holds no
state and asks for no time. What is odd about a vendor is data (``Quirks``) that the step, the limiter and the sandbox
read. Add a provider as a module in ``providers`` that passes ``leads_pipeline_tests/verification/test_providers.py``,
and a line in ``registry``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal, Protocol

from leads_pipeline.config import WindowLimit
from leads_pipeline.domain.verification import LookupKind, LookupVerdict
from leads_pipeline.outbound.transport import HttpAnswer


class Outcome(StrEnum):
    """What became of one request as a whole."""

    ANSWERED = "answered"
    POLL = "poll"  # the answer is still being made: ask for it with ``poll_reference``, nothing more is paid
    THROTTLED = "throttled"  # nothing was looked up, nothing is paid
    OUT_OF_CREDIT = "out_of_credit"  # the account is empty: a person must act
    REFUSED = "refused"  # the key or the set-up: a person must act
    REJECTED = "rejected"  # the vendor does not understand this request; asked again it will not either
    BROKEN = "broken"  # the vendor failed and says so (5xx): nothing is paid, it may be asked again
    NOT_SENT = "not_sent"  # no connection: the vendor never saw it
    LOST = "lost"  # it was sent, nobody knows what became of it: it may have been paid (a lost poll is not)


# After these the account itself is in trouble, whatever was asked.
ACCOUNT_WIDE = frozenset({Outcome.THROTTLED, Outcome.OUT_OF_CREDIT, Outcome.REFUSED})
# The breaker counts these.
FAILURES = frozenset({Outcome.BROKEN, Outcome.NOT_SENT, Outcome.LOST})


@dataclass(frozen=True, slots=True)
class Quirks:
    """What is particular about a vendor.

    ``key_in`` says where the key goes: ``query:NAME``, ``body:NAME``, ``form:NAME``, ``header:NAME``, ``bearer`` or
    ``basic`` (user name from the settings). ``spread``: calls are spaced evenly over the window, so that whoever comes
    after a burst does not wait for the window's end. ``block_seconds``: how long the vendor refuses after a throttle
    for which it names no time.
    """

    vendor: str
    kind: LookupKind
    base_url: str
    batch_size: int
    windows: tuple[WindowLimit, ...]
    key_in: str
    in_flight: int = 4
    spread: bool = False
    daily: int | None = None  # look-up calls between two midnights, where the vendor counts them
    block_seconds: float = 60.0
    polls_are_limited: bool = True  # a poll counts in ``windows`` like a look-up
    poll_seconds: float = 5.0  # between two questions for an answer that is still being made
    poll_patience_seconds: float = 600.0
    maybe_paid: frozenset[int] = frozenset({408, 504, 520, 524})  # after these nobody knows whether it was looked up


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """One request, without the key. ``path`` with its query holds addresses: it must never be logged."""

    method: Literal["GET", "POST"]
    path: str = field(repr=False)
    query: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: Mapping[str, Any] | None = field(default=None, repr=False)  # as JSON
    form: Mapping[str, str] | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class ProviderAnswer:
    """What a provider's answer says.

    ``verdicts``: for ANSWERED, by subject, as it was asked; a subject that is missing was not judged, and counts as
    billed: the vendor may have named it otherwise.
    ``billed`` is how many look-ups the vendor says or is known to bill; ``None``: all that were judged.
    """

    outcome: Outcome
    verdicts: Mapping[str, LookupVerdict] = field(default_factory=dict, repr=False)
    retry_after: float | None = None  # seconds, if known: of a throttle, or until the next poll; 0 is at once
    until_midnight: bool = False  # the day's quota is gone
    poll_reference: str | None = None
    billed: int | None = None
    code: str | None = None  # the vendor's own code of an error; nothing personal
    http_status: int | None = None  # for the ledger; set by the client, None without an answer


class Provider(Protocol):
    """One vendor's API."""

    quirks: Quirks

    def request(self, subjects: Sequence[str]) -> HttpRequest:
        """The request that looks these up, at most ``quirks.batch_size``."""
        ...

    def poll(self, reference: str, subjects: Sequence[str]) -> HttpRequest:
        """The request that asks for an answer that was still being made. ``subjects``: as they were asked.

        Raises:
            NotImplementedError: the vendor answers at once, always.
        """
        ...

    def read(self, answer: HttpAnswer, subjects: Sequence[str]) -> ProviderAnswer:
        """What an answer says. Never raises for anything that a vendor can send."""
        ...
