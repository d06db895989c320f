"""What a sandbox is told when it starts."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, Self

DEFAULT_PORT = 8090


@dataclass(frozen=True, slots=True)
class SandboxOptions:
    """The account that the sandbox plays. The defaults are HubSpot's free tier.

    ``requests`` in ``window_seconds``, ``daily`` and ``search_per_second`` of ``None`` are no limit. ``token`` of
    ``None`` accepts any bearer that is not empty. ``store`` of ``None`` forgets everything at the end.
    """

    vendor: Literal["hubspot"] = "hubspot"
    token: str | None = field(default=None, repr=False)
    requests: int | None = 100
    window_seconds: float = 10.0
    daily: int | None = 250_000
    time_zone: str = "UTC"
    search_per_second: int | None = 5
    store: Path | None = None
    key_property: str = "lead_key"
    # Further custom text properties that exist from the start, for mappings of one's own.
    custom_properties: tuple[str, ...] = ()
    # HubSpot documents no Retry-After on a 429 (facts: not known); clients must live with and without.
    retry_after: bool = False
    # The specification says that results repeat the trace id; recorded answers of batch create do not.
    echo_trace_ids: bool = True
    # A merge usually makes a third id; accounts in a beta keep the primary one.
    merge_keeps_primary_id: bool = False
    # The search index lags behind writes, which is why search-then-create doubles records.
    search_lag_seconds: float = 2.0

    def without_limits(self) -> Self:
        """The same account with no quota at all."""
        return replace(self, requests=None, daily=None, search_per_second=None)
