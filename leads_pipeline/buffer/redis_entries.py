"""What a Redis buffer's streams and counters hold, read."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec

from leads_pipeline.buffer.port import BufferDepth
from leads_pipeline.buffer.redis_keys import CAPTURED, DUPLICATES
from leads_pipeline.domain.stage import Lane

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """What is read of a lead to move it. The rest stays text, as it was sent."""

    lead_id: UUID
    tenant: str
    source: str
    lane: Lane
    received_at: datetime
    key_hex: str
    body_hex: str
    payload: msgspec.Raw
    consent: msgspec.Raw
    context: msgspec.Raw


_ENTRY = msgspec.json.Decoder(Entry)


class Taken(msgspec.Struct, frozen=True):
    """One entry of a stream. ``entry`` is ``None`` if it cannot be read as a lead."""

    lane: Lane
    entry_id: bytes
    json: bytes
    entry: Entry | None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What Redis holds at one instant. Keys are (tenant, source, lane) for counters, (tenant, lane) for streams."""

    incarnation: str | None
    captured: Mapping[tuple[str, str, Lane], int]
    duplicates: Mapping[tuple[str, str, Lane], int]
    waiting: Mapping[tuple[str, Lane], int]
    aside: Mapping[tuple[str, Lane], int]


def places_of(counters: Iterable[bytes | str]) -> list[tuple[str, Lane]]:
    """The tenants and lanes that the counters are named after."""
    names = [name if isinstance(name, str) else name.decode() for name in counters]
    parts = (name.partition(":")[2].split(":") for name in names if name.startswith((CAPTURED, DUPLICATES)))
    return sorted({(tenant, Lane(lane)) for tenant, _source, lane in parts})


def depths_of(places: Sequence[tuple[str, Lane]], answers: Sequence[Any]) -> list[BufferDepth]:
    """What waits, from the length and the first entry of each stream, in turn."""
    found: list[BufferDepth] = []
    for (tenant, lane), length, first in zip(places, answers[0::2], answers[1::2], strict=True):
        if length and first:
            entry = read_entry(tenant, lane, *first[0]).entry
            # An entry that is no lead is as old as its id says.
            oldest = entry.received_at if entry is not None else _instant_of(first[0][0])
            found.append(BufferDepth(tenant, lane, length, oldest))
    return found


def read_taken(tenant: str, lane: Lane, ids: bytes, lengths: bytes, leads: bytes) -> Iterator[Taken]:
    """What the script ``TAKE`` answered."""
    begin = 0
    for entry_id, length in zip(ids.split(), map(int, lengths.split()), strict=True):
        yield _read(tenant, lane, entry_id, leads[begin : begin + length])
        begin += length


def read_entry(tenant: str, lane: Lane, entry_id: bytes, fields: Mapping[bytes, bytes]) -> Taken:
    """One entry as the client gives it."""
    return _read(tenant, lane, entry_id, fields.get(b"lead", b""))


def _read(tenant: str, lane: Lane, entry_id: bytes, json: bytes) -> Taken:
    try:
        entry = _ENTRY.decode(json)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return Taken(lane, entry_id, json, None)
    is_ours = entry.tenant == tenant and entry.lane == lane
    return Taken(lane, entry_id, json, entry if is_ours else None)


def counted(counters: Mapping[bytes, bytes], kind: str) -> dict[tuple[str, str, Lane], int]:
    found: dict[tuple[str, str, Lane], int] = {}
    for name, value in counters.items():
        if name.startswith(kind.encode()):
            tenant, source, lane = name.decode().removeprefix(kind).split(":")
            found[tenant, source, Lane(lane)] = int(value)
    return found


def by_lane(taken: Sequence[Taken]) -> dict[Lane, list[bytes]]:
    found: dict[Lane, list[bytes]] = {}
    for item in taken:
        found.setdefault(item.lane, []).append(item.entry_id)
    return found


def _instant_of(entry_id: bytes) -> datetime:
    """When Redis took an entry in: its id begins with the milliseconds."""
    return _EPOCH + timedelta(milliseconds=int(entry_id.partition(b"-")[0]))


def as_text(value: bytes | str | None) -> str | None:
    """A value as Redis sends it, as text."""
    return value.decode() if isinstance(value, bytes) else value
