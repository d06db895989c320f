"""What a contact has agreed to: all consent statements of its leads folded into one, per purpose and channel.

Statements are events and stay as they are; this is the state that they add up to. The latest wins, and of two at the
same instant the withdrawal. The order in which they come, and how often, makes no difference. Keep out: how a sender
words a statement (``domain.consent``).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

ANY_CHANNEL = "any"


@dataclass(frozen=True, slots=True)
class ConsentEvent:
    """One statement of one lead."""

    lead_id: UUID
    position: int
    granted: bool
    purpose: str
    channel: str
    occurred_at: datetime


def fold_consent(events: Iterable[ConsentEvent]) -> dict[str, dict[str, dict[str, object]]]:
    """``{purpose: {channel: {granted, as_of, lead_id}}}``, in the order of the alphabet.

    A statement about any channel is one about each channel: withdrawing "any" ends an older consent to e-mail.
    A channel that was never named is not listed; look it up under "any", as ``is_granted`` does.
    """
    by_purpose: dict[str, set[ConsentEvent]] = {}
    for event in events:
        by_purpose.setdefault(event.purpose, set()).add(event)
    folded: dict[str, dict[str, dict[str, object]]] = {}
    for purpose in sorted(by_purpose):
        known = by_purpose[purpose]
        folded[purpose] = {}
        for channel in sorted({event.channel for event in known}):
            last = max((event for event in known if event.channel in (channel, ANY_CHANNEL)), key=_rank)
            folded[purpose][channel] = {
                "granted": last.granted,
                "as_of": last.occurred_at.isoformat(),
                "lead_id": str(last.lead_id),
            }
    return folded


def is_granted(consent: Mapping[str, Mapping[str, Mapping[str, object]]], *, purpose: str, channel: str) -> bool:
    """Whether folded consent allows a purpose on a channel. Silence is no consent."""
    channels = consent.get(purpose, {})
    statement = channels.get(channel) or channels.get(ANY_CHANNEL)
    return statement is not None and statement["granted"] is True


def _rank(event: ConsentEvent) -> tuple[datetime, bool, UUID, int]:
    return (event.occurred_at, not event.granted, event.lead_id, event.position)
