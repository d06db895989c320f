"""Who is told when something is wrong, and how often.

Keep out: what is wrong (``watching.alert_sources``), and how a message reads (``domain.alert_message``).
"""

from collections.abc import Collection, Iterator
from typing import Annotated, Literal

from pydantic import Field, field_validator

from leads_pipeline.config.base import Model, Name, SecretRef, WebAddress

SeverityName = Literal["page", "ticket"]
Hours = Annotated[float, Field(ge=0)]

_REMINDERS: dict[SeverityName, float] = {"page": 4.0, "ticket": 24.0}


class AlertChannel(Model):
    """A place where people read: Slack, PagerDuty, mail, a webhook; whatever apprise knows."""

    url: SecretRef = Field(description="Names the variable that holds apprise's address of it, such as slack://….")
    severities: Annotated[tuple[SeverityName, ...], Field(min_length=1)] = Field(
        ("page", "ticket"), description="What it is told of: page, someone is needed now; ticket, on a working day."
    )
    tenants: tuple[Name, ...] = Field((), description="Told only of alerts about these; of every alert if empty.")


class AlertSettings(Model):
    """What people are told. Without a channel alerts are listed by `leads alerts`, and logged."""

    channels: dict[Name, AlertChannel] = Field(default_factory=dict, description="Where to, by name.")
    playbooks_url: WebAddress | None = Field(
        None, description="Where docs/playbooks is served; an alert links to a file below it. Unset: its path is told."
    )
    reminder_hours: dict[SeverityName, Hours] = Field(
        default_factory=lambda: dict(_REMINDERS), description="An alert that lasts is told again after it; 0: never."
    )
    recovery_minutes: Annotated[float, Field(ge=0)] = Field(
        5, description="An alert is over once what it is about was seen to be well for so long, without a break."
    )
    outage_minutes: Annotated[float, Field(ge=0)] = Field(
        5, description="A destination that does not answer, or has no quota left, is an alert after so long."
    )
    stale_minutes: Annotated[float, Field(gt=0)] = Field(
        15,
        description="A promise is judged every half minute, or every five; one that was not for so long is an alert.",
    )
    failed_runs: Annotated[int, Field(gt=0, le=20)] = Field(
        3, description="Runs of a job in a row that fail before it is an alert, where the next is asked for at once."
    )
    send_seconds: Annotated[float, Field(gt=0, le=30)] = Field(
        10, description="A message that is not sent by then has failed, and is tried again."
    )
    retry_minutes: Annotated[float, Field(gt=0)] = Field(
        30, description="The longest wait between two tries; the first is 15 seconds, each later one twice as long."
    )
    give_up_hours: Annotated[float, Field(gt=0)] = Field(
        48, description="A message that could not be sent for so long is dropped; `leads alerts show` tells."
    )

    @field_validator("reminder_hours", mode="before")
    @classmethod
    def _severities_left_out_keep_theirs(cls, value: object) -> object:
        return {**_REMINDERS, **value} if isinstance(value, dict) else value

    def channels_for(self, severity: str, tenant: str | None) -> list[str]:
        """The channels that are told of such an alert; ``tenant`` of ``None``: it is about all of them."""
        return [
            name
            for name, channel in self.channels.items()
            if severity in channel.severities and (not channel.tenants or tenant in channel.tenants)
        ]

    def unheard(self, tenants: Collection[str]) -> Iterator[str]:
        """Alerts of which nobody would be told although there are channels, in words."""
        if not self.channels:
            return
        if not any("page" in channel.severities for channel in self.channels.values()):
            yield "no channel takes a page: nobody is woken, whatever happens"
        for severity in ("page", "ticket"):
            taking = [channel for channel in self.channels.values() if severity in channel.severities]
            if taking and all(channel.tenants for channel in taking):
                missed = sorted(set(tenants) - {tenant for channel in taking for tenant in channel.tenants})
                more = f", or about {', '.join(missed)}" if missed else ""
                yield f"each channel that takes a {severity} names tenants: nobody hears of one about all of them{more}"
