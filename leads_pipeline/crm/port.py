"""The port that every destination implements.

A client turns records into requests and answers into one verdict per record; it holds no state and asks for no time.
Each request goes through the ``Courier`` that it is given, which waits for the account's quota, writes the request down
and sends it; so no request can slip past the limiter or the books. Add a destination as a module beside this one that
passes the cases of ``leads_pipeline_tests/crm/contract.py``, and name it in ``clients``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Protocol, runtime_checkable

from leads_pipeline.domain.delivery import (
    ONE_REQUEST,
    CrmRecord,
    QuotaReading,
    RecordVerdict,
    Unit,
    Verdict,
)
from leads_pipeline.domain.destination_schema import DestinationSchema
from leads_pipeline.domain.stage import Operation
from leads_pipeline.errors import CredentialsRefused
from leads_pipeline.outbound.transport import NetworkFailure

__all__ = [
    "LINK", "ONE_REQUEST", "Courier", "CrmClient", "CrmRecord", "CrmRequest", "CrmResponse", "JobClient", "JobState",
    "JobStep", "JobTraits", "NetworkFailure", "QuotaReading", "RecordVerdict", "Traits", "Unit", "Verdict",
]  # fmt: skip


# The purpose of requests that give a record which people made our key.
LINK = "link"


@dataclass(frozen=True, slots=True)
class CrmRequest:
    """One HTTP request. ``purpose`` is what the books call it: upsert, archive, link, look_up, describe.

    It has a JSON ``body``, a ``content`` of ``content_type`` (CSV, a form), or neither. ``endpoint_class`` names the
    limits that hold for it, ``cost`` what it uses up of them; its records count without being named there.
    ``outbox_ids`` are those of the records that it is about.
    """

    purpose: str
    method: str
    path: str
    records: int
    body: Mapping[str, Any] | None = field(default=None, repr=False)
    content: bytes | None = field(default=None, repr=False)
    content_type: str | None = None
    query: Mapping[str, str] = field(default_factory=dict, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    endpoint_class: str = "api"
    cost: Mapping[Unit, int] = field(default_factory=lambda: ONE_REQUEST)
    outbox_ids: tuple[int, ...] = ()

    def about(self, records: Sequence[CrmRecord]) -> "CrmRequest":
        """The same request, which says whom it is about."""
        return replace(self, outbox_ids=tuple(record.outbox_id for record in records))

    def __post_init__(self) -> None:
        if self.records:
            object.__setattr__(self, "cost", {Unit.RECORDS: self.records, **self.cost})


@dataclass(frozen=True, slots=True)
class CrmResponse:
    """What came back. Exactly one of ``status``, ``failure`` and ``no_credentials`` is set.

    ``text`` is the body where it is no JSON. ``no_credentials``: nothing was sent, for want of an access token.
    ``throttled``: refused because a limit is reached, whatever the status. ``credentials_renewed``: refused for
    credentials of which there are newer ones by now. ``pause_seconds`` is set when the CRM asks us to stop asking,
    ``until_reset`` when the day's quota is gone. ``readings``: what it says is left.
    """

    status: int | None
    body: Any = field(default=None, repr=False)
    text: str = field(default="", repr=False)
    failure: NetworkFailure | None = None
    no_credentials: CredentialsRefused | None = None
    correlation_id: str | None = None
    throttled: bool = False
    credentials_renewed: bool = False
    pause_seconds: float | None = None
    until_reset: bool = False
    readings: tuple[QuotaReading, ...] = ()


@dataclass(frozen=True, slots=True)
class Traits:
    """What a vendor takes in one request, and what it can do at all.

    ``partial_updates``: it keeps the properties that an upsert does not name, so that a difference is enough;
    ``always_sent`` names those that it wants even then, because the upsert may turn out to create the record.
    ``withdrawals``: although it takes a record whole only, it can be told of a withdrawn consent alone.
    """

    max_batch: int
    partial_updates: bool
    operations: frozenset[Operation]
    always_sent: frozenset[str] = frozenset()
    withdrawals: bool = False


class JobStep(StrEnum):
    """How far a job is. Until it is ``CLOSED`` the vendor has changed no record for it."""

    PLANNED = "planned"  # the vendor may not know of it
    CREATED = "created"  # it may have been given the records
    UPLOADED = "uploaded"  # it has them all, and may have been closed
    CLOSED = "closed"  # the vendor is at work, or done


@dataclass(frozen=True, slots=True)
class JobState:
    """A job between two steps. ``fresh``: this process has just made the step, and knows that nothing came after."""

    step: JobStep = JobStep.PLANNED
    crm_job_id: str | None = None
    fresh: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True)
class JobTraits:
    """When contacts go as a job: more due ones than ``above`` (``None``: never), no more than ``most`` in one."""

    above: int | None
    most: int
    poll_seconds: float
    deadline_seconds: float


class Courier(Protocol):
    """What a client sends its requests through."""

    def __call__(self, request: CrmRequest) -> CrmResponse:
        """Wait for the account's quota, write the request down, send it, write the answer down.

        Raises:
            AccountParked: the account must not be asked soon enough to wait for it; nothing was sent.
            Overtaken: some of its records must no longer go; nothing was sent, and it may be asked again without them.
        """
        ...


class CrmClient(Protocol):
    """One destination."""

    @property
    def traits(self) -> Traits:
        """What the engine must know of the vendor."""
        ...

    def describe(self, *, courier: Courier) -> DestinationSchema:
        """Which fields the CRM's contacts have.

        Raises:
            AccountParked: see ``Courier``.
            CrmError: it did not tell.
        """
        ...

    def send(self, request: CrmRequest) -> CrmResponse:
        """Send one request as it is. Never raises for what a network or a CRM can do."""
        ...

    def deliver(self, records: Sequence[CrmRecord], *, courier: Courier) -> list[RecordVerdict]:
        """Bring the CRM to the state that ``records``, all of one operation, ask for.

        One verdict for each record, in any order. When the courier parks, what has not been sent is ``throttled``. An
        operation that the vendor does not have is ``invalid`` for each, with an explanation.
        """
        ...

    def close(self) -> None:
        """Let go of the connections."""
        ...


@runtime_checkable
class JobClient(Protocol):
    """A destination that can also be given many upserts as one job, at which it works by itself."""

    @property
    def job_traits(self) -> JobTraits:
        """When to."""
        ...

    def advance(
        self, job: JobState, records: Sequence[CrmRecord], *, courier: Courier, overdue: bool
    ) -> JobState | list[RecordVerdict]:
        """Take the next step of a job: one that may be taken again after a crash, whatever became of it.

        The state that is to be written down; the same again if there is nothing to do but to wait. Once it is over, a
        verdict for each of ``records``. ``overdue``: it has taken too long, and is to be given up.

        Raises:
            AccountParked: see ``Courier``.
        """
        ...
