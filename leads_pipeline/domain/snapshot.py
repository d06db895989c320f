"""What a destination is known to hold from us, and what is left to be sent.

A snapshot is ``{property: hash of its value}``; a hash of ``None`` says that something of ours may be there and nobody
knows what. It holds hashes, not values, so that what must be forgotten stands in one place less (docs/adr/0010). Pure.
Keep out: when a snapshot is written (``crm.batch``).
"""

import json
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from hashlib import blake2b
from uuid import UUID

from leads_pipeline.domain.delivery import PropertyValue

Snapshot = Mapping[str, int | None]

# Made once: `json.dumps` makes an encoder each time it is told more than the text.
_encoded = json.JSONEncoder(ensure_ascii=False).encode


def value_hash(contact_id: UUID, name: str, value: PropertyValue) -> int:
    """A hash of what was sent, 63 bits. Keyed by the contact: equal values of two contacts do not show as equal."""
    text = _encoded([name, value])
    return int.from_bytes(blake2b(text.encode(), digest_size=8, key=contact_id.bytes).digest()) >> 1


def difference(
    wanted: Mapping[str, PropertyValue],
    snapshot: Snapshot,
    *,
    contact_id: UUID,
    always: Collection[str] = (),
) -> dict[str, PropertyValue]:
    """Those of the ``wanted`` properties that the destination is not known to hold.

    An empty value asks to clear the property, which is due for as long as the snapshot names it. ``always`` are sent
    beside any difference, and alone are none.
    """
    left = {
        name: value
        for name, value in wanted.items()
        if (name in snapshot if is_empty(value) else not _holds(snapshot.get(name), contact_id, name, value))
    }
    return {name: value for name, value in wanted.items() if name in left or name in always} if left else {}


def acknowledged(contact_id: UUID, wanted: Mapping[str, PropertyValue]) -> dict[str, int | None]:
    """The snapshot once the destination has taken all that was ``wanted``; what was cleared is not there."""
    return {name: value_hash(contact_id, name, value) for name, value in wanted.items() if not is_empty(value)}


def holds(snapshot: Snapshot, contact_id: UUID, name: str, text: str) -> bool:
    """Whether the destination holds ``text`` from us, which it tells as text whatever was sent."""
    known = snapshot.get(name)
    return known is not None and known in {value_hash(contact_id, name, value) for value in _read(text)}


def _holds(known: int | None, contact_id: UUID, name: str, value: PropertyValue) -> bool:
    return known is not None and known == value_hash(contact_id, name, value)


def _read(text: str) -> list[PropertyValue]:
    values: list[PropertyValue] = [text]
    if text in ("true", "false"):
        values.append(text == "true")
    for number in (int, float):
        with suppress(ValueError):
            values.append(number(text))
    return values


def unsure(snapshot: Snapshot, touched: Iterable[str]) -> dict[str, int | None]:
    """The snapshot after a request with the ``touched`` properties of which nobody knows whether it was carried out."""
    return {**snapshot, **dict.fromkeys(touched)}


def is_empty(value: PropertyValue) -> bool:
    """Whether it asks to clear its property."""
    return value is None or value == ""
