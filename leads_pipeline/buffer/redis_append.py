"""One group commit as the script ``APPEND`` takes it, and its answer as the port gives it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import msgspec

from leads_pipeline.buffer.port import EncodedLead, Posted, PostResult
from leads_pipeline.buffer.redis_keys import Keys
from leads_pipeline.domain.posted_lead import Fault, storage_fault

# As the capture service's group commit: it bounds how long one script keeps Redis from everybody else.
MAX_GROUP_LEADS = 1_000
MAX_GROUP_BYTES = 8 * 1024 * 1024

_ID_BYTES = 16
_BODY_BYTES = 16  # of SHA-256; Redis keeps 32 bytes in the least space, and 128 bits of a hash do not collide


class _Envelope(msgspec.Struct, frozen=True):
    """What the script must be told of a lead beside its JSON."""

    tenant: str
    source: str
    lane: str
    key_hex: str
    body_hex: str


class _Suspect(msgspec.Struct, frozen=True):
    payload: dict[str, Any]
    consent: list[Any]
    context: dict[str, Any]


_ENVELOPE = msgspec.json.Decoder(_Envelope)
_SUSPECT = msgspec.json.Decoder(_Suspect)


@dataclass(frozen=True, slots=True)
class AppendCall:
    """Keys and arguments of one call, for the leads that Redis is asked to store.

    ``refused`` holds the others: PostgreSQL could not keep them later.
    """

    keys: list[str | bytes]
    arguments: list[str | int | bytes]
    lead_ids: list[UUID]
    own: list[bytes]
    refused: dict[UUID, Posted]

    @classmethod
    def of(cls, leads: Sequence[EncodedLead], *, keys: Keys, key_seconds: int) -> "AppendCall":
        """The call that stores ``leads`` in this order."""
        streams: dict[str, int] = {}
        groups: dict[tuple[str, str, str], int] = {}
        group_arguments: list[str | int] = []
        posts: list[bytes] = []
        packed: list[bytes] = []
        lead_ids: list[UUID] = []
        own: list[bytes] = []
        refused: dict[UUID, Posted] = {}
        for lead in leads:
            if _cannot_be_kept(lead.json):
                refused[lead.lead_id] = Posted(PostResult.UNSTORABLE, lead.lead_id)
                continue
            envelope = _ENVELOPE.decode(lead.json)
            group = (envelope.tenant, envelope.source, envelope.lane)
            number = groups.get(group)
            if number is None:
                number = groups[group] = len(groups) + 1
                stream = keys.stream(envelope.tenant, envelope.lane)
                group_arguments += [":".join(group), streams.setdefault(stream, len(streams) + 1)]
            mine = lead.lead_id.bytes + bytes.fromhex(envelope.body_hex)[:_BODY_BYTES]
            posts.append(keys.post(envelope.tenant, envelope.source, bytes.fromhex(envelope.key_hex)))
            packed.append(mine + number.to_bytes(2) + lead.json)
            lead_ids.append(lead.lead_id)
            own.append(mine)
        return cls(
            keys=[keys.counters, *streams, *posts],
            arguments=[key_seconds, uuid4().hex, len(streams), len(groups), *group_arguments, *packed],
            lead_ids=lead_ids,
            own=own,
            refused=refused,
        )

    def results(self, answers: Sequence[bytes | None]) -> dict[UUID, Posted]:
        """What became of each lead, from the script's answer."""
        return {
            lead_id: _posted(lead_id, mine, first)
            for lead_id, mine, first in zip(self.lead_ids, self.own, answers, strict=True)
        }


def groups_of(leads: Sequence[EncodedLead]) -> Iterator[list[EncodedLead]]:
    """Cut leads into calls of a bounded size, in order."""
    group: list[EncodedLead] = []
    size = 0
    for lead in leads:
        if group and (len(group) >= MAX_GROUP_LEADS or size + len(lead.json) > MAX_GROUP_BYTES):
            yield group
            group, size = [], 0
        group.append(lead)
        size += len(lead.json)
    if group:
        yield group


def _posted(lead_id: UUID, mine: bytes, first: bytes | None) -> Posted:
    if first is None or first[:_ID_BYTES] == mine[:_ID_BYTES]:
        return Posted(PostResult.ACCEPTED, lead_id)
    same_body = first[_ID_BYTES:] == mine[_ID_BYTES:]
    return Posted(PostResult.DUPLICATE if same_body else PostResult.KEY_REUSED, UUID(bytes=first[:_ID_BYTES]))


def _cannot_be_kept(json: bytes) -> bool:
    """Whether the lead holds U+0000. The door refuses it beforehand; Redis would take it, and PostgreSQL never."""
    if b"\\u0000" not in json:
        return False
    suspect = _SUSPECT.decode(json)
    parts = (suspect.payload, {"consent": suspect.consent}, suspect.context)
    faults = [storage_fault(part) for part in parts]
    return any(found is not None and found.fault is Fault.NUL_CHARACTER for found in faults)
