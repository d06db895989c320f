"""When each room last had something new: by the order of an index each, whatever is in them. Nothing personal."""

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa


@dataclass(frozen=True, slots=True)
class Newest:
    """When a lead last came to a place; ``None``: never."""

    place: str
    at: datetime | None


_NEWEST = {
    "captured": "select max(committed_at) from capture_batches",
    "validated_leads": "select max(validated_at) from validated_leads",
    "rejected_leads": "select max(rejected_at) from rejected_leads",
    "crm_sync_batches": "select max(delivered_at) from outbox where delivered_at is not null",
}


def newest(connection: sa.Connection) -> list[Newest]:
    """When a lead last came to each place, in the order of the flow."""
    return [Newest(place, connection.execute(sa.text(text)).scalar()) for place, text in _NEWEST.items()]
