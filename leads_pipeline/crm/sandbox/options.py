"""What a sandbox is told when it starts, whoever the vendor is. A vendor's own options stand in its package."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar, Self


@dataclass(frozen=True, slots=True)
class Window:
    """So many requests in any so many seconds; ``most`` of ``None`` is no limit, and is counted all the same."""

    most: int | None
    seconds: float


@dataclass(frozen=True, slots=True)
class SandboxOptions:
    """The account that a sandbox plays. A vendor's class has that vendor's defaults.

    ``requests`` in ``window_seconds`` and ``daily`` of ``None`` are no limit. ``token`` of ``None`` accepts any that is
    not empty. ``store`` of ``None`` forgets everything at the end.
    """

    vendor: ClassVar[str]  # its name in leads.yaml

    token: str | None = field(default=None, repr=False)
    # Those of other applications that use the same account and eat the same quota.
    other_tokens: tuple[str, ...] = field(default=(), repr=False)
    # One more application, played on the sandbox's own clock: it asks so often, evenly.
    others_per_second: float = 0.0
    # How long a token holds that the sandbox gave out.
    token_seconds: float = 3600.0
    requests: int | None = None
    window_seconds: float = 10.0
    # Further windows that hold at the same time.
    more_windows: tuple[Window, ...] = ()
    daily: int | None = None
    time_zone: str = "UTC"
    store: Path | None = None
    # The custom unique field that exists and holds our key.
    key_property: str = "lead_key"
    # Further custom text fields that exist from the start, for mappings of one's own.
    custom_properties: tuple[str, ...] = ()

    @property
    def windows(self) -> tuple[Window, ...]:
        """Every window of ordinary requests; the first is the one that reports call the limit."""
        return (Window(self.requests, self.window_seconds), *self.more_windows)

    def limits_shown(self) -> str:
        """Its quota, for people."""
        windows = [f"{item.most:,} requests / {item.seconds:g} s" for item in self.windows if item.most is not None]
        day = [] if self.daily is None else [f"{self.daily:,} a day"]
        return ", ".join([*windows, *day]) or "no limits"

    def without_limits(self) -> Self:
        """The same account with no quota at all."""
        return replace(self, requests=None, more_windows=(), daily=None)
