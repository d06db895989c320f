"""Channels that take no messages: the others are told."""

from collections.abc import Sequence
from datetime import timedelta

from leads_pipeline.domain.alert_message import span
from leads_pipeline.domain.alerting import Observation, Trouble
from leads_pipeline.domain.severity import Severity
from leads_pipeline.storage.alert_notices import unsent
from leads_pipeline.watching.alert_sources.watch import Watch

# Two tries have failed by then, and one more.
UNSENT_FOR = timedelta(minutes=2)


def look_at_channels(watch: Watch) -> Sequence[Observation]:
    """One observation for each channel. It is well once all that was for it is sent."""
    with watch.engine.connect() as connection:
        queues = {queue.channel: queue for queue in unsent(connection)}
    found = []
    for name in watch.settings.alerts.channels:
        queue, trouble = queues.get(name), None
        if queue is not None and queue.error is not None and watch.now - queue.since >= UNSENT_FOR:
            facts = (
                ("messages that wait", f"{queue.waiting:,}, the oldest for {span(watch.now - queue.since)}"),
                ("why", queue.error.replace("_", " ")),
                ("lost", "none: they are tried again, and told to no other channel by themselves"),
            )
            title = f"The alert channel {name} takes no messages"
            trouble = Trouble(Severity.TICKET, title, facts, "alerts-not-sent", f"leads alerts test {name}")
        found.append(Observation.of(f"channel:{name}", trouble))
    return found
