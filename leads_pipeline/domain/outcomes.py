"""What became of a lead after delivery, as whoever mails or sells tells it: one event, about a lead or a contact.

An outcome names ids of ours and nothing of a person. The same event, told again, is the same outcome: its key is made
of the sender's own id and the kind. Add a kind here and to docs/outcomes.md. Keep out: SQL (``storage.outcomes``), HTTP
(``capture.outcome_posts``).
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from uuid import UUID

from leads_pipeline.domain.posted_lead import FieldFault


class OutcomeKind(StrEnum):
    """What can become of a delivered lead."""

    HARD_BOUNCE = "hard_bounce"
    SOFT_BOUNCE = "soft_bounce"
    COMPLAINT = "complaint"
    OPPORTUNITY = "opportunity"
    WON = "won"
    LOST = "lost"


# The address does not exist, or its owner called a message spam. A full mailbox says nothing of the lead.
BOUNCES = frozenset({OutcomeKind.HARD_BOUNCE})
# What a sender of mail tells. Of whom nothing of it is told, nothing is known: that is no rate of 0.
MAILED = frozenset({OutcomeKind.HARD_BOUNCE, OutcomeKind.SOFT_BOUNCE, OutcomeKind.COMPLAINT})
# Sales took the lead up, whatever came of that.
OPPORTUNITIES = frozenset({OutcomeKind.OPPORTUNITY, OutcomeKind.WON, OutcomeKind.LOST})

FIELDS = ("kind", "lead_id", "contact_id", "event_id", "occurred_at", "amount")
MAX_EVENT_ID = 255
# Clocks differ; a sender's that is a day ahead is broken, and would put its outcomes where no window looks.
MAX_AHEAD = timedelta(minutes=10)
EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
_AMOUNT = re.compile(r"[0-9]{1,12}(\.[0-9]{1,4})?")


@dataclass(frozen=True, slots=True)
class Outcome:
    """One event. Exactly one of ``lead_id`` and ``contact_id`` is set; ``amount`` is in the tenant's currency."""

    kind: OutcomeKind
    lead_id: UUID | None
    contact_id: UUID | None
    event_id: str
    occurred_at: datetime
    amount: Decimal | None

    @property
    def key_sha256(self) -> bytes:
        """What tells a repetition from another event. A deal that is an opportunity and then won is two events."""
        return hashlib.sha256(f"{self.kind}\0{self.event_id}".encode()).digest()


def read_outcome(given: Mapping[object, object], *, now: datetime) -> Outcome | tuple[FieldFault, ...]:
    """The outcome in ``given``, or everything that is wrong with it. A fault never repeats what was given."""
    kind = _kind(given.get("kind"))
    subject = _subject(given)
    event_id = _event_id(given.get("event_id"))
    occurred_at = _instant(given["occurred_at"], now=now) if "occurred_at" in given else now
    amount = _amount(given["amount"], kind) if "amount" in given else None
    faults = [item for item in (kind, subject, event_id, occurred_at, amount) if isinstance(item, FieldFault)]
    if not given.keys() <= set(FIELDS):
        faults.append(FieldFault("", f"holds a key that is none of {', '.join(FIELDS)}"))
    if faults:
        return tuple(faults)
    # What is left is no fault; the type checker cannot know it from the list.
    assert isinstance(kind, OutcomeKind)
    assert isinstance(subject, tuple)
    assert isinstance(event_id, str)
    assert isinstance(occurred_at, datetime)
    assert not isinstance(amount, FieldFault)
    lead_id, contact_id = subject
    return Outcome(kind, lead_id, contact_id, event_id, occurred_at, amount)


def _kind(given: object) -> OutcomeKind | FieldFault:
    known = {kind.value: kind for kind in OutcomeKind}
    found = known.get(given) if isinstance(given, str) else None
    return found or FieldFault("kind", f"must be one of {', '.join(known)}")


def _subject(given: Mapping[object, object]) -> tuple[UUID | None, UUID | None] | FieldFault:
    named = [name for name in ("lead_id", "contact_id") if name in given]
    if len(named) != 1:
        return FieldFault("lead_id", "exactly one of lead_id and contact_id must be given")
    [name] = named
    text = given[name]
    try:
        # Also the braces and urn: that UUID() takes would be a second spelling of one id: 36 characters are read.
        found = UUID(text) if isinstance(text, str) and len(text) == 36 else None
    except ValueError:
        found = None
    if found is None:
        return FieldFault(name, "must be a UUID")
    return (found, None) if name == "lead_id" else (None, found)


def _event_id(given: object) -> str | FieldFault:
    if isinstance(given, str) and 1 <= len(given) <= MAX_EVENT_ID and given.isascii() and given.isprintable():
        return given
    return FieldFault("event_id", f"must be 1 to {MAX_EVENT_ID} visible ASCII characters: your own id of the event")


def _instant(given: object, *, now: datetime) -> datetime | FieldFault:
    try:
        found = datetime.fromisoformat(given) if isinstance(given, str) and len(given) <= 40 else None
        if found is not None and found.tzinfo is not None and EARLIEST <= found <= now + MAX_AHEAD:
            return found.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    return FieldFault(
        "occurred_at", "must be a time with its offset, such as 2026-03-01T09:30:00Z, since 2000 and not in the future"
    )


def _amount(given: object, kind: OutcomeKind | FieldFault) -> Decimal | FieldFault:
    if kind not in OPPORTUNITIES and isinstance(kind, OutcomeKind):
        return FieldFault("amount", f"stands only with {', '.join(sorted(OPPORTUNITIES))}")
    # A sum of binary fractions has a tail that nobody meant.
    number = round(given, 4) if isinstance(given, int | float) and not isinstance(given, bool) else None
    text = given if number is None else format(Decimal(str(number)), "f")
    if isinstance(text, str) and _AMOUNT.fullmatch(text):
        return Decimal(text)
    return FieldFault("amount", "must be a number from 0 to below 10^12 with at most 4 decimals")
