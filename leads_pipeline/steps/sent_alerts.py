"""Sends what waits in the outbox of alerts: claimed, sent outside of any transaction, settled.

A channel that is dead costs its own time-out and nothing else: each channel has a process and a thread of its own, and
after a failure all that waits for it is put off, longer each time. A sender that dies between claim and settle leaves
a claim that runs out: then the message is sent again, so a message may come twice after a crash, and is never lost.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import sqlalchemy as sa

from leads_pipeline.clock import Clock
from leads_pipeline.config import Settings
from leads_pipeline.domain.alert_message import Message, Story, compose
from leads_pipeline.domain.alerting import SendFailure, next_try
from leads_pipeline.errors import ConfigError, NotFound
from leads_pipeline.outbound.notifier import START_SECONDS, Sendings, send_messages
from leads_pipeline.storage import alert_notices as notices
from leads_pipeline.storage.actions_taken import actions_taken
from leads_pipeline.storage.alert_notices import Notice
from leads_pipeline.storage.alerts import StoredAlert, read_alerts
from leads_pipeline.telemetry import get_logger

log = get_logger(__name__)

# One round of a channel ends within this, however slow it is, and none begins later than that: a sensor's tick is ended
# after 60 s. What has not begun by then is sent by the next tick.
ROUND_SECONDS = 30.0
BEGIN_SECONDS = 10.0
_MOST_AT_ONCE = 20
_CHANNELS_AT_ONCE = 8
# Beyond the time that a round may take: to settle in.
_TO_SETTLE = timedelta(seconds=30)


@dataclass(frozen=True, slots=True)
class SendReport:
    """Messages by channel. ``failed``: with the class of failure, by channel that could not be told."""

    sent: Mapping[str, int] = field(default_factory=dict)
    failed: Mapping[str, str] = field(default_factory=dict)
    dropped: int = 0


@dataclass(frozen=True, slots=True)
class _Round:
    sent: int = 0
    error: str | None = None
    dropped: int = 0


def send_alerts(engine: sa.Engine, *, settings: Settings, clock: Clock) -> SendReport:
    """Send what is due, each channel by itself. A failure is a value of the report, and told by `leads alerts`."""
    now, begin_by = clock.now(), clock.monotonic() + BEGIN_SECONDS
    with engine.begin() as connection:
        dropped = notices.drop_unknown(connection, channels=list(settings.alerts.channels))
        notices.supersede(connection, now=now)
        # Those that take nothing come last: they must not use up the time of the others.
        queues = sorted(notices.unsent(connection), key=lambda queue: queue.attempts)
    channels = [queue.channel for queue in queues]
    if not channels:
        return SendReport(dropped=dropped)

    def send(channel: str) -> _Round:
        return _guarded(engine, channel, settings, clock) if clock.monotonic() <= begin_by else _Round()

    with ThreadPoolExecutor(min(len(channels), _CHANNELS_AT_ONCE), thread_name_prefix="alerts") as threads:
        rounds = dict(zip(channels, threads.map(send, channels), strict=True))
    return SendReport(
        sent={name: each.sent for name, each in rounds.items() if each.sent},
        failed={name: each.error for name, each in rounds.items() if each.error is not None},
        dropped=dropped + sum(each.dropped for each in rounds.values()),
    )


def send_test(settings: Settings, channel: str) -> str | None:
    """Send a message that says that it is a test. Returns the class of failure, if it failed.

    Raises:
        NotFound: leads.yaml names no such channel.
    """
    if channel not in settings.alerts.channels:
        known = ", ".join(settings.alerts.channels) or "none"
        raise NotFound(f"there is no channel {channel!r} under alerts.channels in {settings.path}; defined: {known}")
    words = "This is a test of the channel, sent by hand with `leads alerts test`. Nothing is wrong."
    return _send(settings, channel, [Message("[test] leads_pipeline can reach you", words, "info")]).error


def _guarded(engine: sa.Engine, channel: str, settings: Settings, clock: Clock) -> _Round:
    """One channel's fault, of whatever kind, is no other's: its claims run out, and are taken again."""
    try:
        return _round(engine, channel, settings, clock)
    except Exception as error:  # noqa: BLE001 - a door: the kind is told, a message may quote the database's row
        log.error("alerts_not_sent", channel=channel, error_class=type(error).__name__)  # noqa: TRY400 - see above
        return _Round(error=SendFailure.BROKEN)


def _round(engine: sa.Engine, channel: str, settings: Settings, clock: Clock) -> _Round:
    seconds = settings.alerts.send_seconds
    limit = max(1, min(_MOST_AT_ONCE, int(ROUND_SECONDS // seconds)))
    now = clock.now()
    until = now + timedelta(seconds=START_SECONDS + limit * seconds) + _TO_SETTLE
    with engine.begin() as connection:
        longest = timedelta(minutes=settings.alerts.retry_minutes)
        claimed = notices.claim(connection, channel=channel, until=until, limit=limit, now=now, longest=longest)
        stories = _stories(connection, claimed, settings, now=now)
        orphans = [notice for notice in claimed if notice.notice_id not in stories]
        for notice in orphans:
            notices.drop(connection, notice, error=notices.SUPERSEDED)
    due = [notice for notice in claimed if notice.notice_id in stories]
    if not due:
        return _Round(dropped=len(orphans))
    messages = [
        compose(stories[notice.notice_id], notice.kind, told_before=notice.told_before, now=now) for notice in due
    ]
    result = _send(settings, channel, messages)
    return _settle(engine, channel, due, result, settings=settings, clock=clock)


def _send(settings: Settings, channel: str, messages: Sequence[Message]) -> Sendings:
    try:
        address = settings.alerts.channels[channel].url.resolve().get_secret_value()
    except ConfigError:
        return Sendings(0, SendFailure.NO_ADDRESS)
    return send_messages(address, messages, seconds=settings.alerts.send_seconds)


def _settle(
    engine: sa.Engine, channel: str, tried: Sequence[Notice], result: Sendings, *, settings: Settings, clock: Clock
) -> _Round:
    alerts, now, dropped = settings.alerts, clock.now(), 0
    with engine.begin() as connection:
        for notice in tried[: result.sent]:
            if not notices.settle_sent(connection, notice, now=now):
                log.warning("alert_perhaps_sent_twice", channel=channel, notice_id=notice.notice_id)
        if result.error is None:
            notices.hasten(connection, channel, now=now)
            return _Round(sent=result.sent)
        failed, *untried = tried[result.sent :]
        due_at = now + next_try(failed.attempts, longest=timedelta(minutes=alerts.retry_minutes))
        if due_at - failed.created_at >= timedelta(hours=alerts.give_up_hours):
            notices.drop(connection, failed, error=result.error)
            log.error("alert_given_up", channel=channel, notice_id=failed.notice_id, failure=result.error)
            dropped = 1
        else:
            notices.settle_failed(connection, failed, error=result.error, due_at=due_at)
        for notice in untried:
            notices.give_back(connection, notice, error=None, due_at=due_at)
        notices.put_off(connection, channel, until=due_at, error=result.error)
    if failed.attempts == 1:  # each later try would say the same
        log.warning("alert_not_sent", channel=channel, failure=result.error)
    return _Round(result.sent, result.error, dropped)


def _stories(
    connection: sa.Connection, claimed: Sequence[Notice], settings: Settings, *, now: datetime
) -> dict[int, Story]:
    """What is to be told, by notice. The actions are those of now: a message that was late tells what is so now."""
    alerts = read_alerts(connection, list({notice.alert_id for notice in claimed}))
    return {
        notice.notice_id: story_of(connection, alerts[notice.alert_id], settings=settings, now=now)
        for notice in claimed
        if notice.alert_id in alerts
    }


def story_of(connection: sa.Connection, alert: StoredAlert, *, settings: Settings, now: datetime) -> Story:
    """An alert with what the system did about it."""
    return Story(
        alert_id=str(alert.alert_id),
        severity=alert.severity,
        title=alert.title,
        facts=alert.facts,
        actions=actions_taken(connection, tenant=alert.tenant, now=now),
        tenant=alert.tenant,
        opened_at=alert.opened_at,
        closed_at=alert.closed_at,
        closed_for=alert.closed_for,
        closed_by=alert.closed_by,
        command=alert.command,
        playbook=playbook_link(alert.playbook, settings),
    )


def playbook_link(playbook: str | None, settings: Settings) -> str | None:
    """Where a playbook is read: below ``alerts.playbooks_url``, or its path in the repository."""
    if playbook is None:
        return None
    base = settings.alerts.playbooks_url
    return f"docs/playbooks/{playbook}.md" if base is None else f"{base.rstrip('/')}/{playbook}.md"
