"""A corrected lead is weighed against the contact that it may leave, whether they still share a key or not."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from uuid import UUID

from leads_pipeline.domain.ids import ContactId
from leads_pipeline.domain.resolution import Record


def home_pairs(records: Sequence[Record], loose: Mapping[UUID, ContactId]) -> set[tuple[int, int]]:
    """Each corrected lead with each record of the contact that it may leave."""
    places: dict[ContactId, list[int]] = defaultdict(list)
    for place, record in enumerate(records):
        if record.contact_id is not None:
            places[record.contact_id].append(place)
    return {
        (min(place, other), max(place, other))
        for place, record in enumerate(records)
        if record.lead_id in loose
        for other in places[loose[record.lead_id]]
    }


def is_home_pair(left: Record, right: Record, loose: Mapping[UUID, ContactId]) -> bool:
    """Whether the two are a corrected lead in ``loose`` and a record of the contact that it may leave."""
    return any(
        other.contact_id is not None and loose.get(one.lead_id) == other.contact_id
        for one, other in ((left, right), (right, left))
    )
