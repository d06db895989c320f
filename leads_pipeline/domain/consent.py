"""Consent statements: from what a sender said to the events that are kept.

A statement is a JSON object ``{"granted": true, "purpose": "marketing", "channel": "email", …}``, or a bare yes or no,
which speaks for marketing on any channel. What cannot be read is never guessed at: it is handed back as it came, for
the raw lead to keep. How events fold into a contact's consent is ``domain.consent_folding``'s part.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

DEFAULT_PURPOSE = "marketing"
MAX_TEXT = 200

# A sender's clock may be slow, or its times in another zone without saying so (up to 14 hours): a withdrawal that is
# dated within this of its receipt counts from its receipt, or it might come before the grant that it ends.
WITHDRAWAL_MARGIN = timedelta(days=1)
# What is dated before it comes from a clock that was never set.
CLOCKS_BEGIN = datetime(2000, 1, 1, tzinfo=UTC)

_YES = frozenset({"true", "yes", "y", "1", "on", "t", "granted", "opted in", "opt-in", "subscribed"})
_NO = frozenset({"false", "no", "n", "0", "off", "f", "denied", "withdrawn", "opted out", "opt-out", "unsubscribed"})


class Channel(StrEnum):
    """What a consent speaks for."""

    EMAIL = "email"
    PHONE = "phone"
    ANY = "any"


_CHANNELS = frozenset(Channel)


@dataclass(frozen=True, slots=True)
class ConsentEvent:
    """One thing that a person allowed or withdrew. ``position`` counts from 1 within the lead."""

    position: int
    granted: bool
    purpose: str
    channel: Channel
    legal_basis: str | None
    text_version: str | None
    ip: str | None
    user_agent: str | None
    occurred_at: datetime


@dataclass(frozen=True, slots=True)
class ParsedConsent:
    """What a lead's statements said, and the statements that could not be read, as they were sent."""

    events: tuple[ConsentEvent, ...]
    malformed: tuple[Any, ...]


def parse_consent(statements: Sequence[Any], *, context: Mapping[str, Any], received_at: datetime) -> ParsedConsent:
    """Read a lead's consent statements. No statement gives no event.

    A statement without a time is of ``received_at``. The time that a sender gives is believed only as far as it cannot
    bring a consent back (``_when``).
    """
    events: list[ConsentEvent] = []
    malformed: list[Any] = []
    for position, statement in enumerate(statements, start=1):
        event = _event(statement, position=position, context=context, received_at=received_at)
        if event is None:
            malformed.append(statement)
        else:
            events.append(event)
    return ParsedConsent(tuple(events), tuple(malformed))


def read_yes_or_no(value: object) -> bool | None:
    """The answer that a form or a column gives in one of the usual spellings; ``None`` if it is neither."""
    if isinstance(value, bool):
        return value
    if isinstance(value, int | float):
        return {0: False, 1: True}.get(int(value)) if value in (0, 1) else None
    if not isinstance(value, str):
        return None
    word = value.strip().lower()
    if word in _YES:
        return True
    return False if word in _NO else None


def _event(
    statement: object, *, position: int, context: Mapping[str, Any], received_at: datetime
) -> ConsentEvent | None:
    fields: Mapping[str, Any] = statement if isinstance(statement, dict) else {"granted": statement}
    granted = read_yes_or_no(fields.get("granted"))
    purpose = _text(fields.get("purpose"), default=DEFAULT_PURPOSE)
    channel = _text(fields.get("channel"), default=Channel.ANY)
    occurred_at = _instant(fields.get("occurred_at"), default=received_at)
    if granted is None or purpose is None or channel is None or occurred_at is None:
        return None
    if channel.lower() not in _CHANNELS:
        return None
    return ConsentEvent(
        position=position,
        granted=granted,
        purpose=purpose.lower(),
        channel=Channel(channel.lower()),
        legal_basis=_text(fields.get("legal_basis")),
        text_version=_text(fields.get("text_version")),
        ip=_text(context.get("ip")),
        user_agent=_text(context.get("user_agent"), max_length=1_000),
        occurred_at=_when(occurred_at, granted=granted, received_at=received_at),
    )


def _when(stated: datetime, *, granted: bool, received_at: datetime) -> datetime:
    """The time that counts of a statement.

    A time ahead is set back to the receipt: a consent dated ahead would outlive every withdrawal until then. A grant is
    otherwise as dated, since an older one is a weaker one. A withdrawal is never weakened by a clock: it counts from
    its receipt unless it is dated a good while before it, as in a history that is imported.
    """
    if granted:
        return min(stated, received_at)
    return received_at if stated > received_at - WITHDRAWAL_MARGIN or stated < CLOCKS_BEGIN else stated


def _text(value: object, *, default: str | None = None, max_length: int = MAX_TEXT) -> str | None:
    if value is None or value == "":
        return default
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    text = str(value).strip()
    return text[:max_length] or default


def _instant(value: object, *, default: datetime) -> datetime | None:
    if value is None or value == "":
        return default
    if not isinstance(value, str):
        return None
    try:
        instant = datetime.fromisoformat(value.strip())
        return instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)
    except (ValueError, OverflowError):  # the latter: in UTC it would be before the year 1 or after 9999
        return None
