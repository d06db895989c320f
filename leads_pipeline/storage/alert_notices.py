"""The outbox of alerts: what is to be told to which channel, and whether it was.

A notice is claimed under a deadline (``claimed_until``) with ``for update skip locked``, sent outside of any
transaction, and settled; ``attempts`` is the fence: a sender whose claim ran out and was taken by another settles
nothing. Of one alert and channel only the newest notice is ever sent: it tells all that the older ones would have, so
that an end never overtakes a beginning, and a beginning is never told after the end.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import sqlalchemy as sa

from leads_pipeline.domain.alerting import NoticeKind, NoticeState

# Why a notice was dropped that a newer one of its alert and channel has taken the place of.
SUPERSEDED = "told_with_the_next"
NO_CHANNEL = "no_such_channel"
GIVEN_UP = "given_up"


@dataclass(frozen=True, slots=True)
class Notice:
    """A message under way. ``told_before``: the channel was told of the alert before."""

    notice_id: int
    alert_id: UUID
    kind: NoticeKind
    channel: str
    attempts: int
    created_at: datetime
    told_before: bool


# Not what is being sent: that one's sender settles it, or its claim runs out.
_SUPERSEDE = sa.text(
    """
    update alert_notices n set state = 'dropped', claimed_until = null, last_error = :why
    where n.notice_id in (
        select o.notice_id from alert_notices o
        where (o.state = 'waiting' or (o.state = 'sending' and o.claimed_until <= :now))
            and exists (
                select from alert_notices l
                where l.alert_id = o.alert_id and l.channel = o.channel and l.notice_id > o.notice_id
            )
        for update skip locked
    )
    """
)
_CLAIM = sa.text(
    """
    with due as (
        select n.notice_id from alert_notices n
        where (n.due_at <= :now or n.due_at > :latest)
            and (n.state = 'waiting' or (n.state = 'sending' and n.claimed_until <= :now))
            and n.channel = :channel
            and not exists (
                select from alert_notices o
                where o.alert_id = n.alert_id and o.channel = n.channel and o.notice_id < n.notice_id
                    and o.state in ('waiting', 'sending')
            )
        order by n.attempts, n.due_at, n.notice_id limit :limit
        for update skip locked
    )
    update alert_notices n
    set state = 'sending', attempts = n.attempts + 1, claimed_until = :until
    from due where n.notice_id = due.notice_id
    returning n.notice_id, n.alert_id, n.kind, n.channel, n.attempts, n.created_at,
        exists (
            select from alert_notices o where o.alert_id = n.alert_id and o.channel = n.channel and o.state = 'sent'
        ) as told_before
    """
)
_SETTLE = sa.text(
    """
    update alert_notices
    set state = :state, claimed_until = null, due_at = coalesce(cast(:due_at as timestamptz), due_at),
        sent_at = :sent_at, last_error = :error, attempts = attempts - :give_back
    where notice_id = :notice_id and state = 'sending' and attempts = :attempts
    """
)
_DROP_UNKNOWN = sa.text(
    """
    update alert_notices set state = 'dropped', claimed_until = null, last_error = :why
    where state in ('waiting', 'sending') and not (channel = any(:channels))
    """
)
_MOVE = sa.text(
    """
    update alert_notices set due_at = :due_at, last_error = coalesce(:error, last_error)
    where channel = :channel and state = 'waiting' and (
        (cast(:sooner as boolean) and due_at > :due_at) or (not cast(:sooner as boolean) and due_at < :due_at)
    )
    """
)
_DUE = sa.text(
    """
    select exists (
        select from alert_notices where (due_at <= :now or due_at > :latest)
            and (state = 'waiting' or (state = 'sending' and claimed_until <= :now))
    )
    """
)
_OF_ALERT = sa.text(
    """
    select notice_id, kind, channel, state, attempts, created_at, due_at, sent_at, last_error from alert_notices
    where alert_id = :alert_id order by notice_id
    """
)
_CHANNELS = sa.text(
    """
    select channel, count(*) as waiting, min(created_at) as since, max(attempts) as attempts,
        (array_agg(last_error order by notice_id desc) filter (where last_error is not null))[1] as error
    from alert_notices where state in ('waiting', 'sending') group by channel order by channel
    """
)
_LAST_TRIED = sa.text(
    """
    select distinct on (channel) channel, state from alert_notices
    where state = 'sent' or (state = 'dropped' and last_error not in (:superseded, :no_channel))
    order by channel, notice_id desc
    """
)


def any_due(connection: sa.Connection, *, now: datetime, longest: timedelta) -> bool:
    """Whether a notice waits that may be sent now.

    ``longest``: no wait is longer; what is due later than that was written before the clock was set back.
    """
    found: bool = connection.execute(_DUE, {"now": now, "latest": now + longest}).scalar_one()
    return found


def supersede(connection: sa.Connection, *, now: datetime) -> int:
    """Drop what a newer notice of the same alert and channel tells as well. Returns how many."""
    return connection.execute(_SUPERSEDE, {"now": now, "why": SUPERSEDED}).rowcount


def drop_unknown(connection: sa.Connection, *, channels: Sequence[str]) -> int:
    """Drop what is for a channel that leads.yaml does not name any more. Returns how many."""
    return connection.execute(_DROP_UNKNOWN, {"channels": list(channels), "why": NO_CHANNEL}).rowcount


def claim(
    connection: sa.Connection, *, channel: str, until: datetime, limit: int, now: datetime, longest: timedelta
) -> list[Notice]:
    """Take what is due at a channel; two callers never get the same one. ``longest``: as of ``any_due``.

    What was tried least often comes first: a message that a channel never takes must not keep the others waiting.
    """
    values = {"channel": channel, "until": until, "limit": limit, "now": now, "latest": now + longest}
    rows = connection.execute(_CLAIM, values).mappings()
    notices = [Notice(**{**row, "kind": NoticeKind(row["kind"])}) for row in rows]
    return sorted(notices, key=lambda notice: (notice.attempts, notice.notice_id))


def settle_sent(connection: sa.Connection, notice: Notice, *, now: datetime) -> bool:
    """Note that it was sent. Says whether the claim was still ours."""
    return _settle(connection, notice, state=NoticeState.SENT, sent_at=now)


def settle_failed(connection: sa.Connection, notice: Notice, *, error: str, due_at: datetime) -> bool:
    """Try it again later. ``error``: a class of failure, never an address or an answer."""
    return _settle(connection, notice, state=NoticeState.WAITING, error=error, due_at=due_at)


def give_back(connection: sa.Connection, notice: Notice, *, error: str | None, due_at: datetime) -> bool:
    """Let it wait, as it was not tried: its channel failed at another one."""
    return _settle(connection, notice, state=NoticeState.WAITING, error=error, due_at=due_at, untried=True)


def put_off(connection: sa.Connection, channel: str, *, until: datetime, error: str) -> None:
    """The channel fails: let all that waits for it wait. What is written later is tried at once, and so a probe."""
    connection.execute(_MOVE, {"channel": channel, "due_at": until, "sooner": False, "error": error})


def hasten(connection: sa.Connection, channel: str, *, now: datetime) -> None:
    """The channel works: what waits for it is due."""
    connection.execute(_MOVE, {"channel": channel, "due_at": now, "sooner": True, "error": None})


def drop(connection: sa.Connection, notice: Notice, *, error: str) -> bool:
    """Give it up for good."""
    return _settle(connection, notice, state=NoticeState.DROPPED, error=error)


def _settle(
    connection: sa.Connection,
    notice: Notice,
    *,
    state: NoticeState,
    error: str | None = None,
    due_at: datetime | None = None,
    sent_at: datetime | None = None,
    untried: bool = False,
) -> bool:
    values = {
        "notice_id": notice.notice_id,
        "attempts": notice.attempts,
        "state": state,
        "error": error,
        "due_at": due_at,
        "sent_at": sent_at,
        "give_back": 1 if untried else 0,
    }
    return connection.execute(_SETTLE, values).rowcount == 1


@dataclass(frozen=True, slots=True)
class ToldNotice:
    """A notice as it stands, for people."""

    notice_id: int
    kind: str
    channel: str
    state: str
    attempts: int
    created_at: datetime
    due_at: datetime
    sent_at: datetime | None
    last_error: str | None


def notices_of(connection: sa.Connection, alert_id: UUID) -> list[ToldNotice]:
    """Everything that was or is to be told of an alert, the oldest first."""
    return [ToldNotice(**row) for row in connection.execute(_OF_ALERT, {"alert_id": alert_id}).mappings()]


@dataclass(frozen=True, slots=True)
class ChannelQueue:
    """What a channel has not been told yet. ``attempts``: of the notice that was tried most often."""

    channel: str
    waiting: int
    since: datetime
    attempts: int
    error: str | None

    @property
    def untried(self) -> bool:
        """Whether nobody has tried to send any of it."""
        return self.attempts == 0 and self.error is None


def unsent(connection: sa.Connection) -> list[ChannelQueue]:
    """Every channel with something unsent."""
    return [ChannelQueue(**row) for row in connection.execute(_CHANNELS).mappings()]


def given_up(connection: sa.Connection) -> set[str]:
    """The channels of which the last message that was settled was given up."""
    rows = connection.execute(_LAST_TRIED, {"superseded": SUPERSEDED, "no_channel": NO_CHANNEL})
    return {row.channel for row in rows if row.state == NoticeState.DROPPED}
