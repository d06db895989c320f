"""What a vendor's module says: its addresses, its limits, where the key stands, and its words for every failure."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

from leads_pipeline.sandbox.answers import Answer
from leads_pipeline.verification.sandbox.limits import Limit, Refusal

if TYPE_CHECKING:
    from leads_pipeline.verification.sandbox.account import ProviderAccount


@dataclass(frozen=True, slots=True)
class Call:
    """One request. ``fields`` are those of a JSON object or a form in the body."""

    account: "ProviderAccount"
    endpoint: str
    path: Mapping[str, str]
    query: Mapping[str, str]
    headers: Mapping[str, str]
    fields: Mapping[str, Any]
    now: datetime
    tick: float

    def given(self, name: str) -> str:
        """A parameter of the query or the body as text; absent is empty."""
        value = self.query.get(name, self.fields.get(name))
        return "" if value is None or isinstance(value, dict | list) else str(value)


class OverLimit(Exception):
    """An operation finds that more is under way than the vendor allows."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One operation: its name in reports and fault rules, method, path, and the limit that it counts against."""

    name: str
    methods: tuple[str, ...]
    path: str
    operation: Callable[[Call], Answer]
    limit: str | None = None


class Vendor(Protocol):
    """One vendor that is played. Holds what outlives a request, such as jobs; a reset makes a new one."""

    @property
    def endpoints(self) -> tuple[Endpoint, ...]: ...

    @property
    def limits(self) -> Mapping[str, Limit]: ...

    @property
    def key_needed(self) -> bool: ...

    @property
    def batch_size(self) -> int: ...

    def key_of(self, call: Call) -> str:
        """The key that a request has; empty if none."""
        ...

    def unauthorized(self, call: Call) -> Answer: ...

    def throttled(self, call: Call, refusal: Refusal) -> Answer: ...

    def out_of_credit(self, call: Call) -> Answer: ...

    def broken(self, status: int) -> Answer:
        """A 5xx."""
        ...

    def no_such_address(self, call: Call) -> Answer: ...


def bearer_of(call: Call) -> str:
    """The token of an Authorization header, whatever its scheme; empty if there is none."""
    scheme, _, token = call.headers.get("authorization", "").partition(" ")
    return token.strip() or scheme
