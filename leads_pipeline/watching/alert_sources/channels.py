"""Channels that take no messages, of which the others are told, and a sender that is not there at all."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from leads_pipeline.domain.alert_message import span
from leads_pipeline.domain.alerting import Health, Observation, Trouble
from leads_pipeline.domain.severity import Severity
from leads_pipeline.storage.alert_notices import ChannelQueue, given_up, unsent
from leads_pipeline.watching.alert_sources.watch import Watch

# Two tries have failed by then, and one more.
UNSENT_FOR = timedelta(minutes=2)
# A message is tried within seconds where somebody sends.
NOBODY_SENDS_AFTER = timedelta(minutes=10)
SENDING_KEY = "sending"
SENDER_DIED = "whoever sends ended in the middle of it"


def look_at_channels(watch: Watch) -> Sequence[Observation]:
    """One observation for whether anybody sends, and one for each channel.

    A channel is well once all that was for it is sent, not once it was given up.
    """
    with watch.engine.connect() as connection:
        queues = {queue.channel: queue for queue in unsent(connection)}
        lost = given_up(connection)
    channels = list(watch.settings.alerts.channels)
    found = [_sending([queues[name] for name in channels if name in queues], now=watch.now)]
    for name in channels:
        key, queue = f"channel:{name}", queues.get(name)
        if queue is None:
            found.append(Observation(key, Health.UNKNOWN if name in lost else Health.WELL))
        elif queue.untried or watch.now - queue.since < UNSENT_FOR:
            found.append(Observation(key, Health.UNKNOWN))
        else:
            found.append(Observation.of(key, _takes_none(queue, now=watch.now)))
    return found


def _sending(queues: Sequence[ChannelQueue], *, now: datetime) -> Observation:
    untried = [queue for queue in queues if queue.untried]
    late = [queue for queue in untried if now - queue.since >= NOBODY_SENDS_AFTER]
    if not late:
        return Observation(SENDING_KEY, Health.UNKNOWN if untried else Health.WELL)
    oldest = min(queue.since for queue in late)
    facts = (
        ("messages that wait", f"{sum(queue.waiting for queue in late):,}, the oldest for {span(now - oldest)}"),
        ("for", ", ".join(queue.channel for queue in late)),
        ("who sends", "Dagster's sensor alerts_waiting, or `leads alerts send`: neither has tried"),
    )
    title = "Nobody sends alerts: messages wait that were never tried"
    return Observation.of(SENDING_KEY, Trouble(Severity.TICKET, title, facts, "alerts-not-sent", "leads alerts send"))


def _takes_none(queue: ChannelQueue, *, now: datetime) -> Trouble:
    why = queue.error or SENDER_DIED
    facts = (
        ("messages that wait", f"{queue.waiting:,}, the oldest for {span(now - queue.since)}"),
        ("why", why.replace("_", " ")),
        ("lost", "none: they are tried again, and told to no other channel by themselves"),
    )
    title = f"The alert channel {queue.channel} takes no messages"
    return Trouble(Severity.TICKET, title, facts, "alerts-not-sent", f"leads alerts test {queue.channel}")
