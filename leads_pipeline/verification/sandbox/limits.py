"""How often a vendor may be asked: windows of three kinds, requests at once, and doors that stay shut after an excess.

Only admitted requests count; a refused one costs nothing but, where the vendor blocks, the time of the block.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol

from leads_pipeline.sandbox.windows import SlidingWindow


class WindowKind(StrEnum):
    """Where a window begins."""

    SLIDING = "sliding"  # nowhere: any so many seconds on end
    CLOCK = "clock"  # at each full part of the clock
    FIXED = "fixed"  # with the first request after the last one ended


@dataclass(frozen=True, slots=True)
class Window:
    """At most so many requests in so many seconds."""

    requests: int
    seconds: int
    kind: WindowKind = WindowKind.SLIDING


@dataclass(frozen=True, slots=True)
class Limit:
    """What holds for some of a vendor's addresses. ``block_seconds``: an excess shuts the door for so long."""

    windows: tuple[Window, ...] = ()
    in_flight: int | None = None
    block_seconds: float | None = None

    def with_calls_per_minute(self, calls: int) -> "Limit":
        """The same with so many requests a minute instead of the vendor's windows up to a minute."""
        kinds = [window.kind for window in self.windows if window.seconds == 60]
        longer = tuple(window for window in self.windows if window.seconds > 60)
        return replace(self, windows=(Window(calls, 60, kinds[0] if kinds else WindowKind.SLIDING), *longer))


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request may not pass: ``seconds`` until one could, and the window that is full, if one is."""

    seconds: float
    window: Window | None = None


class _Counted(Protocol):
    @property
    def peak(self) -> int: ...

    def held(self, tick: float, now: datetime) -> int: ...

    def add(self, tick: float, now: datetime) -> None: ...

    def seconds_until_free(self, tick: float, now: datetime) -> float: ...


class _Sliding:
    def __init__(self, seconds: int) -> None:
        self._window = SlidingWindow(seconds)

    @property
    def peak(self) -> int:
        return self._window.peak

    def held(self, tick: float, now: datetime) -> int:
        return self._window.held(tick)

    def add(self, tick: float, now: datetime) -> None:
        self._window.add(tick)

    def seconds_until_free(self, tick: float, now: datetime) -> float:
        return self._window.seconds_until_free(tick)


class _Parts:
    """Counts in one part of time after the other."""

    def __init__(self, seconds: int, *, by_the_clock: bool) -> None:
        self._seconds = seconds
        self._by_the_clock = by_the_clock
        self._end = 0.0
        self._held = 0
        self.peak = 0

    def held(self, tick: float, now: datetime) -> int:
        return self._held if self._at(tick, now) < self._end else 0

    def add(self, tick: float, now: datetime) -> None:
        at = self._at(tick, now)
        if at >= self._end:
            begun = at // self._seconds * self._seconds if self._by_the_clock else at
            self._end, self._held = begun + self._seconds, 0
        self._held += 1
        self.peak = max(self.peak, self._held)

    def seconds_until_free(self, tick: float, now: datetime) -> float:
        return max(0.0, self._end - self._at(tick, now))

    def _at(self, tick: float, now: datetime) -> float:
        return now.timestamp() if self._by_the_clock else tick


def _counted(window: Window) -> _Counted:
    if window.kind is WindowKind.SLIDING:
        return _Sliding(window.seconds)
    return _Parts(window.seconds, by_the_clock=window.kind is WindowKind.CLOCK)


class _Door:
    """One limit and what has passed it."""

    def __init__(self, limit: Limit) -> None:
        self.limit = limit
        self.accepted = [(window, _counted(window)) for window in limit.windows]
        self.arrived = [_counted(window) for window in limit.windows]
        self.shut_until: float | None = None
        self.blocks = 0

    def admit(self, *, tick: float, now: datetime, in_flight: int) -> Refusal | None:
        for seen in self.arrived:
            seen.add(tick, now)
        if self.shut_until is not None and tick < self.shut_until:
            return Refusal(self.shut_until - tick)
        if self.limit.in_flight is not None and in_flight > self.limit.in_flight:
            return Refusal(0.0)
        for window, held in self.accepted:
            if held.held(tick, now) >= window.requests:
                if self.limit.block_seconds is not None:
                    self.shut_until = tick + self.limit.block_seconds
                    self.blocks += 1
                    return Refusal(self.limit.block_seconds, window)
                return Refusal(held.seconds_until_free(tick, now), window)
        for _window, held in self.accepted:
            held.add(tick, now)
        return None


class Limits:
    """A vendor's limits by name, each for some of its addresses."""

    def __init__(self, limits: Mapping[str, Limit]) -> None:
        self._doors = {name: _Door(limit) for name, limit in limits.items()}
        self.refused = 0

    def admit(self, name: str | None, *, tick: float, now: datetime, in_flight: int) -> Refusal | None:
        """Let one request pass and count it, or say why not. ``name`` of ``None`` or an unknown one has no limit."""
        door = self._doors.get(name) if name is not None else None
        refusal = door.admit(tick=tick, now=now, in_flight=in_flight) if door is not None else None
        self.refused += refusal is not None
        return refusal

    def shown(self) -> dict[str, Any]:
        """``calls_over_limit``, ``blocks``, and each window with the most that it ever held."""
        return {
            "calls_over_limit": self.refused,
            "blocks": sum(door.blocks for door in self._doors.values()),
            "windows": [
                {
                    "limit": name,
                    "requests": window.requests,
                    "seconds": window.seconds,
                    "kind": window.kind.value,
                    "max_accepted": held.peak,
                    "max_requests": arrived.peak,
                }
                for name, door in self._doors.items()
                for (window, held), arrived in zip(door.accepted, door.arrived, strict=True)
            ],
        }
