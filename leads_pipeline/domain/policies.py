"""A rule that acts, at one of its targets: idle → holding → acting → recovering → cooling → idle.

It needs evidence for every step: a value that is missing is neither a breach nor a recovery, and time during which
nothing was measured counts towards neither. The limit and where all is well again lie apart, so that noise between them
changes nothing; an action ends after its longest time whatever is measured, because some hide their own measure. Then
the rule cools down, which is also the probe: what was held back shows whether it is well.

Keep out: where states are kept (``storage.policies``) and what an action does (``domain.orders``).
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

# Between two looks that are further apart nobody knows what was: what had held so far begins anew. The engine looks
# every 30 seconds.
MOST_UNSEEN = timedelta(seconds=150)


class PolicyState(StrEnum):
    """Where a rule stands at one of its targets."""

    IDLE = "idle"
    HOLDING = "holding"  # the condition holds, not yet for long enough
    ACTING = "acting"
    RECOVERING = "recovering"  # it still acts; the value is well, not yet for long enough
    COOLING = "cooling"  # the action has ended: no other begins for a while, and until something is measured


class Ending(StrEnum):
    """Why an action ended."""

    RECOVERED = "recovered"
    LONGEST = "longest"  # after at_most_seconds; the cool-down shows how things are without it
    EXPIRED = "expired"  # nobody renewed it: the engine had stopped
    PAUSED = "paused"  # an operator put the rule aside
    RULE_GONE = "rule_gone"  # leads.yaml does not have the rule, or not like this, any more


class Effect(StrEnum):
    """What follows from a step for the action."""

    NONE = "none"
    BEGIN = "begin"
    KEEP = "keep"
    END = "end"


@dataclass(frozen=True, slots=True)
class Rule:
    """When a rule acts. ``is_above``: breached above ``limit``; all is well beyond ``well``, on the other side."""

    is_above: bool
    limit: float
    well: float
    hold: timedelta
    recover: timedelta
    cool_down: timedelta
    at_most: timedelta

    def is_breached(self, value: float) -> bool:
        """Whether the condition holds."""
        return value > self.limit if self.is_above else value < self.limit

    def is_well(self, value: float) -> bool:
        """Whether the value is on the healthy side."""
        return value < self.well if self.is_above else value > self.well


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a rule stands. ``seen_at``: the last value; ``acting_since``: only of one that acts or recovers."""

    state: PolicyState
    since: datetime
    seen_at: datetime
    acting_since: datetime | None = None

    @property
    def acts(self) -> bool:
        """Whether its order is in force."""
        return self.state in (PolicyState.ACTING, PolicyState.RECOVERING)


@dataclass(frozen=True, slots=True)
class Step:
    """Where a rule stands after a look, and what that means for its action."""

    standing: Standing
    effect: Effect
    ending: Ending | None = None


def idle(now: datetime) -> Standing:
    """A rule of which nothing is remembered."""
    return Standing(PolicyState.IDLE, now, now)


def step(rule: Rule, standing: Standing, value: float | None, now: datetime) -> Step:
    """Look once. ``value`` of ``None``: nothing was measured."""
    if standing.acts:
        return _acting(rule, standing, value, now)
    if standing.state is PolicyState.COOLING:
        # Not for longer because the clock was set back, and until a value shows how things are without the action.
        if value is None or standing.since <= now < standing.since + rule.cool_down:
            return Step(standing, Effect.NONE)
        standing = idle(now)
    if value is None:
        return Step(standing, Effect.NONE)
    if not rule.is_breached(value):
        return Step(idle(now), Effect.NONE)
    since = now
    if standing.state is PolicyState.HOLDING and _is_seen(standing, now):
        since = min(standing.since, now)
    if now - since >= rule.hold:
        return Step(Standing(PolicyState.ACTING, now, now, acting_since=now), Effect.BEGIN)
    return Step(Standing(PolicyState.HOLDING, since, now), Effect.NONE)


def expired(standing: Standing, now: datetime) -> Standing:
    """After an order that nobody renewed: how things are is not known, and is looked at anew."""
    return idle(now) if standing.acts else standing


def _acting(rule: Rule, standing: Standing, value: float | None, now: datetime) -> Step:
    lasted = timedelta(0) if standing.acting_since is None else now - standing.acting_since
    if lasted >= rule.at_most or lasted < -MOST_UNSEEN:  # a clock that was set back must not make it last for longer
        return _ended(Ending.LONGEST, now)
    if value is None:
        return Step(standing, Effect.KEEP)
    if not rule.is_well(value):
        if standing.state is PolicyState.RECOVERING:
            standing = replace(standing, state=PolicyState.ACTING, since=now)
        return Step(replace(standing, seen_at=now), Effect.KEEP)
    since = now
    if standing.state is PolicyState.RECOVERING and _is_seen(standing, now):
        since = min(standing.since, now)
    if now - since >= rule.recover:
        return _ended(Ending.RECOVERED, now)
    return Step(replace(standing, state=PolicyState.RECOVERING, since=since, seen_at=now), Effect.KEEP)


def _ended(ending: Ending, now: datetime) -> Step:
    return Step(Standing(PolicyState.COOLING, now, now), Effect.END, ending)


def _is_seen(standing: Standing, now: datetime) -> bool:
    """Whether what was seen last is recent enough that nothing can have happened since."""
    return now - standing.seen_at <= MOST_UNSEEN
