"""The vocabulary of the flow: its stages, lanes and states, and what a chunk of work is told and reports."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from leads_pipeline.domain.ids import BatchId


class Stage(StrEnum):
    """The five rooms of the flow, in order. Each is an asset, a table, a step module and a test folder."""

    RAW_LEADS = "raw_leads"
    VALIDATED_LEADS = "validated_leads"
    DEDUPED_LEADS = "deduped_leads"
    GOLDEN_CONTACTS = "golden_contacts"
    CRM_SYNC_BATCHES = "crm_sync_batches"


class Lane(StrEnum):
    """How urgent a lead is, most urgent first."""

    REAL_TIME = "real_time"
    NEAR_REAL_TIME = "near_real_time"
    BATCH = "batch"


ALL_LANES: tuple[Lane, ...] = tuple(Lane)
# What is served as soon as it comes; the batch lane has a schedule.
HOT_LANES: tuple[Lane, ...] = (Lane.REAL_TIME, Lane.NEAR_REAL_TIME)


class LeadState(StrEnum):
    """Where a captured lead is. Exactly one holds for each lead; their counts add up to what was captured."""

    PENDING = "pending"
    DELIVERED = "delivered"  # its contact's delivered version includes it, and it founded the contact
    MERGED = "merged"  # its contact's delivered version includes it, another lead founded the contact
    REJECTED = "rejected"
    DEAD = "dead"
    SUPPRESSED = "suppressed"
    DISCARDED = "discarded"
    ERASED = "erased"


class OutboxState(StrEnum):
    """What is happening to one contact at one destination."""

    WAITING = "waiting"  # wants to be sent once ``due_at`` has come
    IN_FLIGHT = "in_flight"  # claimed until ``claimed_until``; afterwards it may be claimed again
    DELIVERED = "delivered"  # delivered_version = wanted_version
    DEAD = "dead"  # an operator must act
    SUPPRESSED = "suppressed"  # must not be sent
    CANCELLED = "cancelled"  # never sent and not to be: the contact was merged away, or an operator gave up on it


class Operation(StrEnum):
    """What a destination is asked to do with a contact."""

    UPSERT = "upsert"
    ARCHIVE = "archive"
    ERASE = "erase"  # for good, as privacy laws ask for


@dataclass(frozen=True, slots=True)
class Chunk:
    """What one call of a step may take: at most ``limit`` items of one tenant, from these lanes.

    ``batch_id`` and ``runner_id`` are stamped on every row that the call writes.
    """

    tenant: str
    lanes: tuple[Lane, ...]
    limit: int
    batch_id: BatchId
    runner_id: str
    now: datetime


@dataclass(frozen=True, slots=True)
class ChunkReport:
    """What one call of a step did. ``taken`` is 0 when nothing was pending.

    ``counts`` are named by the step (``rejected``, ``merged`` …) and end in the asset's metadata: numbers only.
    """

    taken: int
    passed: int
    counts: dict[str, int]
