"""Channels that take no messages: the others are told."""

from collections.abc import Sequence
from datetime import timedelta

from leads_pipeline.domain.alert_message import span
from leads_pipeline.domain.alerting import Health, Observation, Trouble
from leads_pipeline.domain.severity import Severity
from leads_pipeline.storage.alert_notices import given_up, unsent
from leads_pipeline.watching.alert_sources.watch import Watch

# Two tries have failed by then, and one more.
UNSENT_FOR = timedelta(minutes=2)
SENDER_DIED = "whoever sends ended in the middle of it"


def look_at_channels(watch: Watch) -> Sequence[Observation]:
    """One observation for each channel. It is well once all that was for it is sent, not once it was given up."""
    with watch.engine.connect() as connection:
        queues = {queue.channel: queue for queue in unsent(connection)}
        lost = given_up(connection)
    found = []
    for name in watch.settings.alerts.channels:
        key, queue = f"channel:{name}", queues.get(name)
        if queue is None:
            found.append(Observation(key, Health.UNKNOWN if name in lost else Health.WELL))
        elif watch.now - queue.since < UNSENT_FOR or not (queue.error or queue.attempts):  # not tried yet
            found.append(Observation(key, Health.UNKNOWN))
        else:
            why = queue.error or SENDER_DIED
            facts = (
                ("messages that wait", f"{queue.waiting:,}, the oldest for {span(watch.now - queue.since)}"),
                ("why", why.replace("_", " ")),
                ("lost", "none: they are tried again, and told to no other channel by themselves"),
            )
            title = f"The alert channel {name} takes no messages"
            trouble = Trouble(Severity.TICKET, title, facts, "alerts-not-sent", f"leads alerts test {name}")
            found.append(Observation.of(key, trouble))
    return found
