"""What a sandbox is told when it starts."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, Self

DEFAULT_PORT = 8090


@dataclass(frozen=True, slots=True)
class Window:
    """So many requests in any so many seconds; ``most`` of ``None`` is no limit, and is counted all the same."""

    most: int | None
    seconds: float


@dataclass(frozen=True, slots=True)
class SandboxOptions:
    """The account that the sandbox plays. The defaults are HubSpot's free tier.

    ``requests`` in ``window_seconds``, ``daily`` and ``search_per_second`` of ``None`` are no limit. ``token`` of
    ``None`` accepts any bearer that is not empty. ``store`` of ``None`` forgets everything at the end.
    """

    vendor: Literal["hubspot"] = "hubspot"
    token: str | None = field(default=None, repr=False)
    # Those of other applications that use the same account and eat the same quota.
    other_tokens: tuple[str, ...] = field(default=(), repr=False)
    # One more application, played on the sandbox's own clock: it asks so often, evenly.
    others_per_second: float = 0.0
    # How long a token holds that the sandbox gave out. HubSpot's hold half an hour.
    token_seconds: float = 1800.0
    requests: int | None = 100
    window_seconds: float = 10.0
    # Further windows that hold at the same time.
    more_windows: tuple[Window, ...] = ()
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

    @property
    def windows(self) -> tuple[Window, ...]:
        """Every window of ordinary requests; the first is the one that reports call the limit."""
        return (Window(self.requests, self.window_seconds), *self.more_windows)

    def without_limits(self) -> Self:
        """The same account with no quota at all."""
        return replace(self, requests=None, more_windows=(), daily=None, search_per_second=None)
