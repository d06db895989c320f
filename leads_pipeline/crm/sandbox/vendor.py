"""What a vendor must bring to be played; the frame around it is the same for all.

The frame lets a request pass its token, its limits and the fault rules in this order, counts and logs it. The vendor
says where it answers, what it says at each of these doors, and what its operations do. Add one as a package beside
``hubspot`` and name it in ``vendors``.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from random import Random
from typing import Protocol

from leads_pipeline.crm.sandbox.limits import API, AccountLimits, Admission
from leads_pipeline.crm.sandbox.observations import CrmObservations
from leads_pipeline.crm.sandbox.options import SandboxOptions
from leads_pipeline.crm.sandbox.tokens import Tokens
from leads_pipeline.sandbox.answers import Answer
from leads_pipeline.sandbox.faults import FaultInjector, FaultKind


@dataclass(frozen=True, slots=True)
class Incoming:
    """One request as a vendor sees it. ``body`` is ``None`` when it was too large; header names are lower case."""

    path: Mapping[str, str]
    query: Mapping[str, str]
    headers: Mapping[str, str] = field(repr=False)
    body: bytes | None = field(repr=False)
    now: datetime
    tick: float
    request_id: str


@dataclass(frozen=True, slots=True)
class Shared:
    """What the requests of one account share, whoever the vendor is. Gone with every reset."""

    options: SandboxOptions
    limits: AccountLimits
    faults: FaultInjector
    observations: CrmObservations
    tokens: Tokens
    random: Random


@dataclass(frozen=True, slots=True)
class Charge:
    """What a request takes of its windows, and the narrower kind that it is of, if that is limited at once."""

    cost: int = 1
    kind: str | None = None


ONE_REQUEST = Charge()


@dataclass(frozen=True, slots=True)
class PlayedEndpoint:
    """One operation: its name in reports and fault rules, its method and its paths.

    ``limited_as`` is the class of its limits. ``None``: it stands outside of token and limits, as those do that give
    out tokens. ``charge``: what each request is counted as.
    """

    name: str
    method: str
    paths: tuple[str, ...]
    operation: Callable[[Shared, Incoming], Answer]
    limited_as: str | None = API
    charge: Callable[[Incoming], Charge] = lambda _incoming: ONE_REQUEST


@dataclass(frozen=True, slots=True)
class ShownContact:
    """A contact as the sandbox's own page shows it."""

    crm_record_id: str
    name: str
    email: str | None
    phone: str | None
    company: str | None
    written_at: str
    archived: bool


@dataclass(frozen=True, slots=True)
class StoredContact:
    """A contact as the sandbox's control side tells it. ``place`` is its number in the order of ids."""

    place: int
    crm_record_id: str
    properties: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Tally:
    """What the rows say: contacts, the archived ones, and how often each key of ours was written."""

    contacts: int
    archived: int
    duplicates: int
    lead_keys: int
    writes_per_lead_key: Mapping[int, int]


class PlayedVendor(Protocol):
    """A vendor. Whoever calls it holds the account's lock."""

    @property
    def endpoints(self) -> Sequence[PlayedEndpoint]:
        """Where it answers; the first path that fits does."""
        ...

    @property
    def elsewhere(self) -> PlayedEndpoint:
        """What any other address gets."""
        ...

    @property
    def faults(self) -> Collection[FaultKind]:
        """What can go wrong here."""
        ...

    def limits(self) -> AccountLimits:
        """The account's limits, unused."""
        ...

    def token_of(self, incoming: Incoming) -> str | None:
        """The token that a request brings."""
        ...

    def unauthorized(self, incoming: Incoming) -> Answer:
        """What a token gets that is not known."""
        ...

    def over_limit(self, incoming: Incoming, admission: Admission) -> Answer:
        """What a request gets that a limit refuses."""
        ...

    def fault(self, kind: FaultKind, incoming: Incoming, admission: Admission) -> Answer:
        """What a request gets that a fault rule stops, or whose answer it spoils."""
        ...

    def headers(self, incoming: Incoming, admission: Admission | None) -> dict[str, str]:
        """What goes with every answer; ``None``: the request did not come as far as the limits."""
        ...

    def tally(self) -> Tally:
        """Count what is stored."""
        ...

    def newest(self, limit: int) -> list[ShownContact]:
        """The contacts written last, newest first."""
        ...

    def page(self, *, after: int, limit: int, archived: bool) -> list[StoredContact]:
        """Contacts whose place is above ``after``, in the order of places."""
        ...

    def writes(self, *, at_least: int, after: str, limit: int) -> dict[str, int]:
        """How often each key of ours was written, in the order of keys."""
        ...

    def clear(self) -> None:
        """Forget everything that is stored."""
        ...

    def close(self) -> None:
        """Let go of the file."""
        ...
