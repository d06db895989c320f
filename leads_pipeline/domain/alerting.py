"""When people are told of trouble, told more urgently, reminded, and told that it is over. Pure.

Trouble has a key. While it lasts it is one alert, however often it is seen; when it is over the key is free, and the
next trouble of that key is a new alert. It is over when it was *seen* to be well for a while: that nobody can tell is
no sign of health. Keep out: where observations come from (``watching.alert_sources``) and how they are worded.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from leads_pipeline.domain.severity import Severity


class Health(StrEnum):
    """What was seen of one thing."""

    TROUBLE = "trouble"
    WELL = "well"
    UNKNOWN = "unknown"  # there is nothing to judge by


class NoticeKind(StrEnum):
    """What a message is about."""

    OPENED = "opened"
    ESCALATED = "escalated"  # a ticket has become a page
    REMINDER = "reminder"
    RECOVERED = "recovered"  # or closed for another reason, which it tells


class NoticeState(StrEnum):
    """Where a message stands."""

    WAITING = "waiting"
    SENDING = "sending"
    SENT = "sent"
    DROPPED = "dropped"


class SendFailure(StrEnum):
    """Why a message could not be sent; besides these ``http_404`` and the like. Never an address or an answer."""

    NO_ADDRESS = "no_address"  # the variable that must hold it is not set
    UNREADABLE = "unreadable_address"  # apprise cannot make a channel of it
    NO_ANSWER = "no_answer"
    TIMED_OUT = "timed_out"
    REFUSED = "refused"
    BROKEN = "sender_broken"  # our own process died, or did not start


class ClosedFor(StrEnum):
    """Why an alert is closed."""

    RECOVERED = "recovered"
    RESOLVED = "resolved"  # by an operator
    GONE = "gone"  # what it was about is not watched any more: removed from leads.yaml


@dataclass(frozen=True, slots=True)
class Trouble:
    """What is wrong. Names and numbers of ours only: no lead, no address, no secret.

    ``facts``: name and value, in the order in which they are told. ``command``: to look with.
    """

    severity: Severity
    title: str
    facts: tuple[tuple[str, str], ...]
    playbook: str
    command: str
    tenant: str | None = None


@dataclass(frozen=True, slots=True)
class Observation:
    """What was seen of the thing that ``key`` names."""

    key: str
    health: Health
    trouble: Trouble | None = None

    @classmethod
    def of(cls, key: str, trouble: Trouble | None) -> "Observation":
        """Trouble, or seen to be well if there is none."""
        return cls(key, Health.WELL if trouble is None else Health.TROUBLE, trouble)


@dataclass(frozen=True, slots=True)
class OpenAlert:
    """An alert that is open.

    ``healthy_since``: since when it is seen to be well, or less urgent than it was told. ``told_at``: when the last
    message about it was written, to whatever channel; ``channels``: for which any was.
    """

    alert_id: UUID
    key: str
    source: str
    severity: Severity
    tenant: str | None
    opened_at: datetime
    last_seen_at: datetime
    healthy_since: datetime | None
    told_at: datetime | None
    channels: frozenset[str] = frozenset()

    @property
    def well_since(self) -> datetime | None:
        """Since when it is seen to be well: no trouble, however small, was seen after that."""
        since = self.healthy_since
        return None if since is None or since < self.last_seen_at else since


@dataclass(frozen=True, slots=True)
class AlertPolicy:
    """``reminders``: after how long an alert of a severity that lasts is told again; without one, never."""

    recovery: timedelta
    reminders: Mapping[Severity, timedelta]


class Step(StrEnum):
    """What becomes of an alert."""

    NOTHING = "nothing"
    OPEN = "open"
    SEEN = "seen"  # once more
    MENDING = "mending"  # well, and not for long enough
    DOUBT = "doubt"  # nobody can tell: being well begins anew
    CLOSE = "close"


@dataclass(frozen=True, slots=True)
class Decision:
    """``notice``: the message that goes out about it, if any; ``severity``: of the alert from now on."""

    step: Step
    severity: Severity | None = None
    notice: NoticeKind | None = None
    closed_for: ClosedFor | None = None


def decide(alert: OpenAlert | None, seen: Observation | None, *, policy: AlertPolicy, now: datetime) -> Decision:
    """What follows from what was seen. ``seen`` of ``None``: the source looked, and knows of no such thing any more."""
    trouble = seen.trouble if seen is not None else None
    if alert is None:
        if trouble is None:
            return Decision(Step.NOTHING)
        return Decision(Step.OPEN, trouble.severity, NoticeKind.OPENED)
    if trouble is not None:
        return _lasting(alert, trouble, policy=policy, now=now)
    if seen is not None and seen.health is Health.UNKNOWN:
        return Decision(Step.DOUBT, alert.severity, _reminder(alert, policy=policy, now=now))
    since = alert.well_since or now
    if now - since < policy.recovery:
        return Decision(Step.MENDING, alert.severity)
    closed_for = ClosedFor.GONE if seen is None else ClosedFor.RECOVERED
    return Decision(Step.CLOSE, alert.severity, NoticeKind.RECOVERED, closed_for)


def _lasting(alert: OpenAlert, trouble: Trouble, *, policy: AlertPolicy, now: datetime) -> Decision:
    """Urgency rises at once, and falls without a word once it was seen to be less for as long as a recovery takes.

    Whoever was woken is told of the end, not of a half. But what an outage has spent keeps a promise at risk for days:
    the next outage in these days must wake somebody, too.
    """
    if trouble.severity is Severity.PAGE and alert.severity is Severity.TICKET:
        return Decision(Step.SEEN, Severity.PAGE, NoticeKind.ESCALATED)
    eased_since = None if trouble.severity is alert.severity else alert.healthy_since
    if eased_since is not None and now - eased_since >= policy.recovery:
        return Decision(Step.SEEN, trouble.severity)
    return Decision(Step.SEEN, alert.severity, _reminder(alert, policy=policy, now=now))


def _reminder(alert: OpenAlert, *, policy: AlertPolicy, now: datetime) -> NoticeKind | None:
    every = policy.reminders.get(alert.severity)
    if every is None or now - (alert.told_at or alert.opened_at) < every:
        return None
    return NoticeKind.REMINDER


FIRST_RETRY = timedelta(seconds=15)


def next_try(attempts: int, *, longest: timedelta) -> timedelta:
    """How long to wait after so many tries that failed."""
    wait: timedelta = FIRST_RETRY * 2 ** min(attempts - 1, 20)
    return min(wait, longest)
