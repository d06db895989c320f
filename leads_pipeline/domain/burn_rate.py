"""Error budgets, how fast they burn, and what is said of a promise.

After the SRE workbook, chapter 5 ("Alerting on SLOs"): the burn rate is how many times faster than allowed the budget
is spent; somebody is told when a long window burns, and a short one shows that it still does. What a promise has no
budget for is broken by its first fault. Keep out: where events come from (``storage``) and which promises there are
(``config.objectives``).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from leads_pipeline.domain.severity import Severity, most_urgent


class SloVerdict(StrEnum):
    """What a promise has come to.

    ``burning``: its budget is spent faster than allowed. ``broken``: the budget of the window is spent, or a fault came
    of what has no budget. ``no_data``: nothing to judge, which is no praise.
    """

    KEPT = "kept"
    BURNING = "burning"
    BROKEN = "broken"
    NO_DATA = "no_data"


@dataclass(frozen=True, slots=True)
class Events:
    """What happened within a window: what was as promised, and what was not."""

    good: int = 0
    bad: int = 0

    @property
    def total(self) -> int:
        return self.good + self.bad

    @property
    def bad_share(self) -> float:
        return self.bad / self.total if self.total else 0.0

    def __add__(self, other: "Events") -> "Events":
        return Events(self.good + other.good, self.bad + other.bad)


@dataclass(frozen=True, slots=True)
class BurnAlert:
    """Somebody is told while the budget burns ``burn`` times too fast over the long window, and over the short one."""

    burn: float
    long: timedelta
    short: timedelta
    severity: Severity


# The workbook's recommendation (table 5-8): 2 % of a 30-day budget in an hour, 5 % in six hours, 10 % in three days.
# Short windows are a twelfth of the long ones, so that an alert ends soon after its cause.
RECOMMENDED: tuple[BurnAlert, ...] = (
    BurnAlert(14.4, timedelta(hours=1), timedelta(minutes=5), Severity.PAGE),
    BurnAlert(6.0, timedelta(hours=6), timedelta(minutes=30), Severity.PAGE),
    BurnAlert(1.0, timedelta(days=3), timedelta(hours=6), Severity.TICKET),
)


@dataclass(frozen=True, slots=True)
class Guard:
    """When few events prove something.

    Of fewer than ``min_events``, or with fewer than ``min_bad`` bad ones, a share proves nothing: one lead at night
    would page. But where all are bad, ``min_bad`` of them are enough, and where something was bad and nothing good for
    ``quiet``, one is. Without ``quiet`` one never is: what comes from outside may be bad without our doing.
    """

    min_events: int = 20
    min_bad: int = 3
    quiet: timedelta | None = timedelta(days=1)

    def telling(self, events: Events, *, lately: Events) -> bool:
        """Whether the bad share of ``events`` proves something. ``lately``: what happened within ``quiet``."""
        if events.bad == 0:
            return events.total >= self.min_events
        if events.bad >= self.min_bad:
            return events.total >= self.min_events or events.good == 0
        return lately.good == 0 and lately.bad > 0


@dataclass(frozen=True, slots=True)
class Objective:
    """The share of events that must be good within a window. ``share`` 1: no budget, and every fault breaks it."""

    share: float
    window: timedelta
    alerts: Sequence[BurnAlert] = RECOMMENDED
    guard: Guard = Guard()
    severity: Severity = Severity.PAGE

    @property
    def budget(self) -> float:
        """The share of events that may be bad."""
        return 1.0 - self.share

    def windows(self) -> list[timedelta]:
        """Every window whose events ``judge`` asks for, shortest first."""
        asked = {self.window} | ({self.guard.quiet} if self.guard.quiet is not None else set())
        for alert in self.alerts:
            asked |= {alert.long, alert.short}
        return sorted(asked)


@dataclass(frozen=True, slots=True)
class Burn:
    """How fast the budget burns over one pair of windows. ``telling``: there were events enough to say so."""

    alert: BurnAlert
    long: float
    short: float
    events: int
    telling: bool

    @property
    def burning(self) -> bool:
        return self.telling and self.long >= self.alert.burn and self.short >= self.alert.burn


@dataclass(frozen=True, slots=True)
class Judgement:
    """What is said of a promise. ``value``: the share that was good; ``budget_left``: negative when overspent."""

    verdict: SloVerdict
    severity: Severity | None
    events: Events
    value: float | None = None
    budget_left: float | None = None
    burns: tuple[Burn, ...] = ()

    @property
    def burn_rate(self) -> float | None:
        """The worst burn rate of the long windows that are telling."""
        return max((burn.long for burn in self.burns if burn.telling), default=None)


def burn_rate(events: Events, *, share: float) -> float:
    """How many times faster than allowed the budget of ``share`` is spent; 1 spends it just within the window.

    Without a budget: infinite as soon as anything is bad.
    """
    if events.bad == 0:
        return 0.0
    if share >= 1.0:
        return float("inf")
    return round(events.bad_share / (1.0 - share), 9)  # 1 - 0.995 is a little more than 0.005: twice the rate is twice


def budget_left(events: Events, *, share: float) -> float | None:
    """Which part of the budget of these events is left; ``None``: there are none, or no budget."""
    if events.total == 0 or share >= 1.0:
        return None
    return 1.0 - burn_rate(events, share=share)


def budget_in_words(left: float) -> str:
    """A share of an error budget for people: ``40 % left``, and of one that is more than spent how many times."""
    return f"{100 * left:.0f} % left" if left >= 0 else f"spent {1 - left:.1f} times over"


def budget_spent_by(alert: BurnAlert, *, period: timedelta) -> float:
    """The share of a period's budget that is spent when ``alert`` begins: burn rate × window ÷ period."""
    return alert.burn * (alert.long / period)


def time_to_alert(alert: BurnAlert, *, share: float, bad_share: float) -> timedelta | None:
    """How long events are bad at a steady ``bad_share`` until ``alert`` begins; ``None``: it never does.

    The workbook's ``(1 - SLO) ÷ error ratio × window × burn rate``.
    """
    if bad_share / (1.0 - share) < alert.burn:
        return None
    return alert.long * ((1.0 - share) / bad_share * alert.burn)


def judge(objective: Objective, within: Callable[[timedelta], Events]) -> Judgement:
    """What is to be said of an objective. ``within``: the events of each of ``objective.windows()``, until now."""
    events = within(objective.window)
    if objective.share >= 1.0:
        return without_budget(events, severity=objective.severity)
    lately = within(objective.guard.quiet) if objective.guard.quiet is not None else Events()
    burns = tuple(_burn(alert, objective, within, lately) for alert in objective.alerts)
    firing = most_urgent(burn.alert.severity for burn in burns if burn.burning)
    left = budget_left(events, share=objective.share)
    spent = left is not None and left <= 0.0 and objective.guard.telling(events, lately=lately)
    if events.total == 0 and firing is None:
        return Judgement(SloVerdict.NO_DATA, None, events, burns=burns)
    if spent:
        verdict, severity = SloVerdict.BROKEN, firing or Severity.TICKET
    elif firing is not None:
        verdict, severity = SloVerdict.BURNING, firing
    else:
        return Judgement(SloVerdict.KEPT, None, events, 1.0 - events.bad_share, left, burns)
    return Judgement(verdict, severity.at_most(objective.severity), events, 1.0 - events.bad_share, left, burns)


def without_budget(events: Events, *, severity: Severity, value: float | None = None) -> Judgement:
    """What is to be said of a promise that no fault is allowed to break. ``value``: of its own measure."""
    if events.total == 0 and value is None:
        return Judgement(SloVerdict.NO_DATA, None, events)
    told = value if value is not None else 1.0 - events.bad_share
    if events.bad:
        return Judgement(SloVerdict.BROKEN, severity, events, told, 0.0)
    return Judgement(SloVerdict.KEPT, None, events, told, 1.0)


def _burn(alert: BurnAlert, objective: Objective, within: Callable[[timedelta], Events], lately: Events) -> Burn:
    long, short = within(alert.long), within(alert.short)
    return Burn(
        alert,
        burn_rate(long, share=objective.share),
        burn_rate(short, share=objective.share),
        long.total,
        objective.guard.telling(long, lately=lately),
    )
