"""How urgently a contact must reach its destinations, by what its new lead is worth and what is known of it.

Rules only make a lead more urgent than the lane in which it came: what a person waits for goes on going first. Pure.
Keep out: how lanes share a destination (``domain.lane_shares``).
"""

from collections.abc import Collection, Sequence
from typing import Protocol

from leads_pipeline.domain.stage import Lane


class UrgentWhen(Protocol):
    """What ``config.UrgentWhen`` says; all of it must hold."""

    @property
    def value_at_least(self) -> int | None: ...
    @property
    def risk_below(self) -> int | None: ...
    @property
    def email_verdict(self) -> Collection[str]: ...


class UrgentRule(Protocol):
    """What ``config.UrgentRule`` says."""

    @property
    def lane(self) -> str: ...
    @property
    def when(self) -> UrgentWhen: ...


def sync_lane(
    lane: Lane, *, value: int | None, risk: int | None, email_verdict: str | None, rules: Sequence[UrgentRule]
) -> Lane:
    """The lane of a lead that came in ``lane``: the most urgent of that and of the rules that hold.

    A lead without a score meets no rule that asks for one.
    """
    lanes = [lane]
    for rule in rules:
        when = rule.when
        valuable = when.value_at_least is None or (value is not None and value >= when.value_at_least)
        safe = when.risk_below is None or (risk is not None and risk < when.risk_below)
        verified = not when.email_verdict or email_verdict in when.email_verdict
        if valuable and safe and verified:
            lanes.append(Lane(rule.lane))
    return min(lanes, key=list(Lane).index)
