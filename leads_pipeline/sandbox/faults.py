"""Failures on demand: which request, or which record of a batch, goes wrong, how often and how slowly.

A rule touches only requests that the token and the limits let pass. The first rule that applies and whose dice fall
wins; so rules with a ``count`` are a script, in their order: twice 500, then a broken connection, then all is well. A
rule may hold for a time only, counted from when it was given. Add a kind here, in the gate of the sandbox that knows
it, and in docs/sandbox.md.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from random import Random
from typing import Annotated, Any

import msgspec

from leads_pipeline.clock import Clock
from leads_pipeline.errors import LeadsError


class FaultKind(StrEnum):
    """What goes wrong."""

    SLOW = "slow"  # nothing but latency
    REFUSED_400 = "refused_400"  # a whole request, without saying what is wrong with it
    HTTP_500 = "http_500"
    HTTP_502 = "http_502"
    HTTP_503 = "http_503"
    HTTP_429 = "http_429"  # although there is quota left
    QUOTA_SPENT = "quota_spent"  # the day's, in the vendor's own words, although there is some left
    AUTH = "auth"
    FORBIDDEN_403 = "forbidden_403"
    LOCKED_423 = "locked_423"
    TIMEOUT = "timeout"  # nothing is written, nothing is answered
    RESET_CONNECTION = "reset_connection"  # nothing is written, the connection breaks
    SILENT_200 = "silent_200"  # 200 with neither results nor errors, nothing is written
    WRITTEN_THEN_500 = "written_then_500"
    WRITTEN_THEN_RESET = "written_then_reset"
    WRITTEN_THEN_TIMEOUT = "written_then_timeout"
    PER_RECORD_ERROR = "per_record_error"  # one input of a batch is refused; rate, count and match are per record
    UNREPORTED = "unreported"  # one input of a batch is written and the answer does not speak of it; per record too
    THROTTLE = "throttle"  # in the vendor's own words, although there is quota left
    OUT_OF_CREDIT = "out_of_credit"
    ANSWERED_THEN_LOST = "answered_then_lost"  # looked up and billed, the connection breaks


# These befall single inputs of a batch, all others whole requests.
_OF_RECORDS = (FaultKind.PER_RECORD_ERROR, FaultKind.UNREPORTED)

# The client gets no answer at all from these.
UNANSWERED = (
    FaultKind.TIMEOUT,
    FaultKind.RESET_CONNECTION,
    FaultKind.WRITTEN_THEN_RESET,
    FaultKind.WRITTEN_THEN_TIMEOUT,
    FaultKind.ANSWERED_THEN_LOST,
)


class FaultRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One way to fail. ``count`` of ``None`` is for ever; ``match`` is looked for in ids and property values.

    ``each``: a rule about single records counts for each of them by itself, so that each goes through the same script.

    It holds from ``from_seconds`` after it was given and before ``until_seconds``; ``None``: without end.
    """

    kind: FaultKind
    rate: Annotated[float, msgspec.Meta(ge=0, le=1)] = 1.0
    latency_ms: Annotated[int, msgspec.Meta(ge=0, le=600_000)] = 0
    count: Annotated[int, msgspec.Meta(ge=1)] | None = None
    endpoint: str | None = None
    match: Annotated[str, msgspec.Meta(min_length=1)] | None = None
    each: bool = False
    category: str = "VALIDATION_ERROR"
    from_seconds: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    until_seconds: Annotated[float, msgspec.Meta(gt=0)] | None = None


class FaultRuleInvalid(LeadsError):
    """A rule that the sandbox was given says something that it does not know."""


@dataclass(slots=True)
class _Armed:
    rule: FaultRule
    armed_at: float
    fired: int = 0
    fired_for: Counter[str] = field(default_factory=Counter)  # of ``each``, by the record's key

    def spent(self, key: str = "") -> bool:
        fired = self.fired_for[key] if self.rule.each else self.fired
        return self.rule.count is not None and fired >= self.rule.count

    def in_force(self, tick: float) -> bool:
        """Whether it is the rule's time. A request at the very end is spared, so that rules can follow each other."""
        until = self.rule.until_seconds
        return self.rule.from_seconds <= tick - self.armed_at and (until is None or tick - self.armed_at < until)


def parse_rules(body: bytes, *, kinds: Collection[FaultKind], endpoints: Collection[str]) -> list[FaultRule]:
    """The rules in a JSON list.

    Raises:
        FaultRuleInvalid: not JSON, a kind or endpoint that this sandbox has not, an unknown key, a value out of range.
    """
    try:
        rules = msgspec.json.decode(body, type=list[FaultRule])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise FaultRuleInvalid(f"the fault rules were not taken: {error}; kinds: {', '.join(kinds)}") from error
    for rule in rules:
        if rule.kind not in kinds:
            known = ", ".join(kinds)
            raise FaultRuleInvalid(f"the fault rules were not taken: {rule.kind} is none of {known}")
        if rule.endpoint is not None and rule.endpoint not in endpoints:
            known = ", ".join(sorted(endpoints))
            raise FaultRuleInvalid(f"the fault rules were not taken: no endpoint {rule.endpoint!r}; there are: {known}")
        if rule.until_seconds is not None and rule.until_seconds <= rule.from_seconds:
            raise FaultRuleInvalid("the fault rules were not taken: until_seconds is not after from_seconds")
        if rule.each and rule.kind not in _OF_RECORDS:
            of_records = ", ".join(_OF_RECORDS)
            raise FaultRuleInvalid(f"the fault rules were not taken: each is for {of_records} only, not {rule.kind}")
    return rules


class FaultInjector:
    """The rules in force, with how often each has fired."""

    def __init__(self, random: Random, *, clock: Clock) -> None:
        self._random = random
        self._clock = clock
        self._armed: list[_Armed] = []

    def arm(self, rules: list[FaultRule]) -> None:
        """Replace every rule; counts and times begin anew."""
        now = self._clock.monotonic()
        self._armed = [_Armed(rule, now) for rule in rules]

    def shown(self) -> list[dict[str, Any]]:
        """The rules as they were given, each with ``fired``."""
        return [{**msgspec.to_builtins(item.rule), "fired": item.fired} for item in self._armed]

    def for_request(self, endpoint: str, *, body: bytes) -> FaultRule | None:
        """The fault that befalls this request, if any; it counts as fired."""
        for item in self._armed:
            if item.rule.kind in _OF_RECORDS or not self._applies(item, endpoint):
                continue
            if item.rule.match is not None and item.rule.match.lower() not in body.decode("utf-8", "replace").lower():
                continue
            if self._fires(item):
                return item.rule
        return None

    def for_record(self, endpoint: str, values: Sequence[str]) -> FaultRule | None:
        """The fault that befalls one input of a batch, if any; it counts as fired. Its key is first in ``values``."""
        for item in self._armed:
            if item.rule.kind not in _OF_RECORDS or not self._applies(item, endpoint, key=values[0]):
                continue
            if item.rule.match is not None and not any(item.rule.match.lower() in value.lower() for value in values):
                continue
            if self._fires(item, key=values[0]):
                return item.rule
        return None

    def _applies(self, item: _Armed, endpoint: str, *, key: str = "") -> bool:
        return not item.spent(key) and item.rule.endpoint in (None, endpoint) and item.in_force(self._clock.monotonic())

    def _fires(self, item: _Armed, *, key: str = "") -> bool:
        if self._random.random() >= item.rule.rate:
            return False
        item.fired += 1
        if item.rule.each:
            item.fired_for[key] += 1
        return True
