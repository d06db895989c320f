"""The port that every destination implements.

A client turns records into requests and answers into one verdict per record; it holds no state and asks for no time.
Each request goes through the ``Courier`` that it is given, which waits for the account's quota, writes the request down
and sends it; so no request can slip past the limiter or the books. Add a destination as a module beside this one that
passes ``leads_pipeline_tests/crm/test_delivery.py``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from leads_pipeline.domain.delivery import CrmRecord, RecordVerdict, Verdict
from leads_pipeline.outbound.transport import NetworkFailure

__all__ = [
    "Courier", "CrmClient", "CrmRecord", "CrmRequest", "CrmResponse", "NetworkFailure", "Quota", "RecordVerdict",
    "Verdict",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Quota:
    """What the vendor's headers say is left; ``None`` where they say nothing."""

    window_remaining: int | None = None
    daily_remaining: int | None = None


@dataclass(frozen=True, slots=True)
class CrmRequest:
    """One HTTP request. ``purpose`` is what the books call it: upsert, archive, link, look_up."""

    purpose: str
    method: str
    path: str
    body: Mapping[str, Any] = field(repr=False)
    records: int


@dataclass(frozen=True, slots=True)
class CrmResponse:
    """What came back. Exactly one of ``status`` and ``failure`` is set.

    ``pause_seconds`` is set when the CRM asks us to stop asking, ``pause_until_midnight`` when the day's quota is gone.
    """

    status: int | None
    body: Any = field(repr=False)
    failure: NetworkFailure | None = None
    correlation_id: str | None = None
    pause_seconds: float | None = None
    pause_until_midnight: bool = False
    quota: Quota = Quota()


class Courier(Protocol):
    """What a client sends its requests through."""

    def __call__(self, request: CrmRequest) -> CrmResponse:
        """Wait for the account's quota, write the request down, send it, write the answer down.

        Raises:
            AccountParked: the account must not be asked soon enough to wait for it; nothing was sent.
        """
        ...


class CrmClient(Protocol):
    """One destination."""

    def send(self, request: CrmRequest) -> CrmResponse:
        """Send one request as it is. Never raises for what a network or a CRM can do."""
        ...

    def deliver(self, records: Sequence[CrmRecord], *, courier: Courier) -> list[RecordVerdict]:
        """Bring the CRM to the state that ``records``, all of one operation, ask for.

        One verdict for each record, in any order. When the courier parks, what has not been sent is ``throttled``.
        """
        ...

    def close(self) -> None:
        """Let go of the connections."""
        ...
