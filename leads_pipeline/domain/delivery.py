"""What is sent to a CRM and what came of it, whatever the CRM.

Add what every destination shares. Keep out: how a vendor says it (``crm``), what follows a verdict (``domain.retry``).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from uuid import UUID

from leads_pipeline.domain.stage import Lane, Operation


class Unit(StrEnum):
    """What a vendor's limit counts."""

    REQUESTS = "requests"
    CREDITS = "credits"
    RECORDS = "records"


# What a request costs unless its client says more.
ONE_REQUEST: Mapping[Unit, int] = MappingProxyType({Unit.REQUESTS: 1})


@dataclass(frozen=True, slots=True)
class QuotaReading:
    """What a vendor says is left, of all applications that use the account together.

    ``seconds`` is the window's length, ``None`` for the vendor's day; ``limit`` is ``None`` where it is not told. A
    vendor that says nothing of a window gives no reading of it: that does not mean that it has no limit.
    """

    unit: Unit
    seconds: int | None
    limit: int | None
    remaining: int
    endpoint_class: str = "api"


# The code of a withdrawal that found no record to be told to.
NOT_THERE = "NOT_THERE"

# What a property may be sent as; ``None`` clears it.
PropertyValue = str | int | float | bool | None


class Verdict(StrEnum):
    """What became of one record. Each class has its own budget; see ``domain.retry``."""

    DELIVERED = "delivered"
    TRANSIENT = "transient"  # the CRM was not able to; nothing was written
    THROTTLED = "throttled"  # the CRM asks for a pause
    AUTH = "auth"  # credentials, scopes or set-up: no record of this destination can pass until a person acts
    INVALID = "invalid"  # this record, as it is, will never be taken
    CONFLICT = "conflict"  # another record of the CRM stands in its way
    LOCKED = "locked"  # someone else works on the record
    AMBIGUOUS = "ambiguous"  # it may have been written; sending it again is safe and shows


@dataclass(frozen=True, slots=True)
class CrmRecord:
    """One contact as a destination is to see it. ``properties`` carry the vendor's names.

    ``complete``: they are all that we have to say; otherwise they are the difference to what the destination holds.
    ``taken_over``: its record there was made by people, not by us; ``None``: not known. ``claims_record``: the record
    that this contact is to take over, as after a merge. ``withdrawal``: nothing but that consent is withdrawn, for the
    record that is there, whose key stays as it is; where none is, none may be made. ``former_records``: others that it
    had, which an erasure removes, too.
    """

    outbox_id: int
    tenant: str
    contact_id: UUID
    version: int
    operation: Operation
    crm_record_id: str | None = None
    claims_record: str | None = None
    taken_over: bool | None = None
    properties: Mapping[str, PropertyValue] = field(default_factory=dict, repr=False)
    complete: bool = True
    withdrawal: bool = False
    former_records: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RecordVerdict:
    """What became of one record. ``explanation`` holds the vendor's words, which may quote the lead: never log it."""

    outbox_id: int
    verdict: Verdict
    code: str | None = None
    crm_record_id: str | None = None
    explanation: str | None = field(default=None, repr=False)
    retry_after: float | None = None  # seconds that the CRM asked for
    created: bool | None = None  # whether the CRM made the record anew, where it says so
    linked: bool = False  # a record that people had made was taken over
    holder_id: str | None = None  # of a conflict: the CRM's record that stands in the way
    refused_properties: tuple[str, ...] = ()  # names of those that the CRM does not take


@dataclass(frozen=True, slots=True)
class ClaimedRow:
    """A row of the outbox that this process may settle until ``claimed_until`` passes."""

    outbox_id: int
    tenant: str
    contact_id: UUID
    operation: Operation
    lane: Lane
    wanted_version: int
    delivered_version: int | None
    attempts: int
    crm_record_id: str | None
    snapshot: Mapping[str, int | None]  # what is there from us; see ``domain.snapshot``
    failures: Mapping[str, int] = field(default_factory=dict)  # of the attempts, by the class of the refusal
    taken_over: bool | None = None  # the CRM's record was made by people; ``None``: not known
    claims_record: str | None = None  # of the CRM, which the contact is to take over
    former_records: tuple[str, ...] = ()  # of the CRM, which the contact had before ``crm_record_id``
    uncertain: bool = False  # a request with it got lost: what the destination holds is not known
