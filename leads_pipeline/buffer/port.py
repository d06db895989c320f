"""What a buffer does: keep posted leads durably, tell a re-post from a new lead, hand them to the first step.

``leads_pipeline_tests.buffer.contract`` holds every implementation to it. Keep out: HTTP, and what a field means.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol
from uuid import UUID

import msgspec
import sqlalchemy as sa

from leads_pipeline.domain.posted_lead import PostedLead
from leads_pipeline.domain.stage import Chunk, Lane


class NewLead(msgspec.Struct, frozen=True, kw_only=True):
    """One posted lead on its way into the buffer.

    ``key_hex`` is what makes two posts the same post, within a tenant and source; ``body_hex`` is what they say.
    """

    lead_id: UUID
    tenant: str
    source: str
    lane: Lane
    received_at: datetime
    key_hex: str
    body_hex: str
    payload: dict[str, Any]
    consent: list[Any]
    context: dict[str, Any]

    def encoded(self) -> "EncodedLead":
        """The lead as the buffer is sent it."""
        return EncodedLead(self.lead_id, self.tenant, self.lane, msgspec.json.encode(self))


@dataclass(frozen=True, slots=True)
class EncodedLead:
    """A lead's JSON, made once where the lead came in, and what must be known of it beside."""

    lead_id: UUID
    tenant: str
    lane: Lane
    json: bytes


class PostResult(StrEnum):
    """What became of a posted lead."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"  # the same post came before; its lead stands
    KEY_REUSED = "key_reused"  # another body came before under this key; nothing was stored
    UNSTORABLE = "unstorable"  # the store cannot represent it; nothing was stored


@dataclass(frozen=True, slots=True)
class Posted:
    """The result of one post. ``lead_id`` is the first lead's for a duplicate, the new one's otherwise."""

    result: PostResult
    lead_id: UUID


@dataclass(frozen=True, slots=True)
class BufferedLead:
    """A lead as it leaves the buffer. ``consent`` is empty if the sender made no statement.

    ``context`` may be left out (empty) where it holds no ``reference`` and there is no statement of consent.
    """

    lead_id: UUID
    lane: Lane
    received_at: datetime
    consent: list[Any]
    context: dict[str, Any]


class Moved:
    """What one ``LeadBuffer.move`` took. ``taken`` counts everything that will have left the buffer.

    ``leads`` are those that are new in ``raw_leads``, for the next door: a lead that was moved before and was given out
    again is not among them, nor is a ``duplicates``, a post that turned out to be known.

    The methods are for a buffer that cannot commit together with PostgreSQL; for one that does they do nothing.
    A process that dies before it has called one of them loses nothing: the buffer gives the leads out again.
    """

    def __init__(self, leads: Sequence[BufferedLead] = (), *, taken: int | None = None, duplicates: int = 0) -> None:
        self.leads = list(leads)
        self.taken = len(self.leads) if taken is None else taken
        self.duplicates = duplicates

    def acknowledge(self) -> None:
        """The transaction has committed: the buffer may let go of the leads."""

    def release(self) -> None:
        """The transaction was rolled back: others may have the leads at once."""

    def set_aside(self, reason: str) -> bool:
        """Instead of ``release``: keep the leads where they hold nobody up, until an operator puts them back.

        ``reason`` names the failure, never a lead's content. ``False``: this buffer cannot, nothing was done.
        """
        return False


@dataclass(frozen=True, slots=True)
class BufferDepth:
    """How much waits in the buffer, for one tenant and lane."""

    tenant: str
    lane: Lane
    waiting: int
    oldest_received_at: datetime


class LeadBuffer(Protocol):
    """The buffer as steps and commands see it."""

    def append(self, leads: Sequence[NewLead], *, now: datetime) -> list[Posted]:
        """Store leads durably in one commit; the answers are in the order of ``leads``.

        A lead whose key is known is not stored again. A lead that cannot be stored does not hinder the others.

        Raises:
            DatabaseUnavailable: nothing is known about these leads; append them again with the same keys.
        """
        ...

    def move(self, connection: sa.Connection, chunk: Chunk) -> Moved:
        """Take up to ``chunk.limit`` leads of ``chunk.tenant`` and write them to ``raw_leads``, in one transaction.

        Urgent lanes first, oldest first. Until ``connection`` commits, the leads are still in the buffer. After the
        commit call ``acknowledge`` on what is returned, after a rollback ``release``.
        """
        ...

    def tenants_waiting(self, connection: sa.Connection, *, lanes: Sequence[Lane]) -> list[str]:
        """The tenants with something in these lanes, by name."""
        ...

    def depths(self, connection: sa.Connection) -> list[BufferDepth]:
        """What waits, per tenant and lane."""
        ...

    def close(self) -> None:
        """Let go of connections of its own."""
        ...


class AsyncLeadBuffer(Protocol):
    """The buffer as the capture service sees it: one writer, leads encoded beforehand."""

    async def append(self, leads: Sequence[EncodedLead], *, now: datetime) -> list[Posted]:
        """As ``LeadBuffer.append``."""
        ...

    async def check(self) -> None:
        """Raises ``DatabaseUnavailable`` unless the store would take leads now."""
        ...

    async def close(self) -> None:
        """Let go of the connection."""
        ...


class AsyncDepths(Protocol):
    """What waits, for the capture service."""

    async def read(self) -> list[BufferDepth]:
        """As ``LeadBuffer.depths``.

        Raises:
            DatabaseUnavailable: nothing is known.
        """
        ...

    async def close(self) -> None:
        """Let go of the connection."""
        ...


def content_key(lead: PostedLead) -> tuple[str, str]:
    """(``key_hex``, ``body_hex``) of a lead that came without an idempotency key: its content is its key."""
    body_hex = body_hash(lead)
    return hashlib.sha256(b"body:" + body_hex.encode()).hexdigest(), body_hex


def named_key(key: str, lead: PostedLead, *, index: int | None = None) -> tuple[str, str]:
    """(``key_hex``, ``body_hex``) under the sender's idempotency key; ``index`` is the place within a batch."""
    scope = "key:" if index is None else f"key[{index}]:"
    return hashlib.sha256((scope + key).encode()).hexdigest(), body_hash(lead)


def event_key(event_id: str) -> tuple[str, str]:
    """(``key_hex``, ``body_hex``) of a vendor's event: a repeated delivery is the same post, whatever else changed."""
    key_hex = hashlib.sha256(b"event:" + event_id.encode()).hexdigest()
    return key_hex, key_hex


def body_hash(lead: PostedLead) -> str:
    """What the lead says, as a hash; the order of its keys does not matter."""
    return hashlib.sha256(lead.canonical_bytes()).hexdigest()
