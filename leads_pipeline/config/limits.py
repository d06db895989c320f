"""What an account allows to be asked of it, by all processes together.

Add what a vendor may limit. Keep out: how a limit is kept (``outbound.limiter``).
"""

from typing import Annotated, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import Field, field_validator, model_validator

from leads_pipeline.config.base import Fraction, Model, TimeZone

UnitName = Literal["requests", "credits", "records"]  # what a window counts; domain.delivery.Unit

_UNITS: tuple[UnitName, ...] = ("requests", "credits", "records")
_DAY_SECONDS = 86_400
_SharedInFlight = Annotated[int, Field(gt=0, le=1000)] | None


class WindowLimit(Model):
    """At most so many requests, credits or records in any ``seconds`` on end, or in each such part of the clock."""

    requests: Annotated[int, Field(gt=0)] | None = Field(
        None, description="Most requests in any window of so many seconds. A window counts one of the three."
    )
    credits: Annotated[int, Field(gt=0)] | None = Field(
        None, description="Most credits, where the vendor counts a request by what it costs."
    )
    records: Annotated[int, Field(gt=0)] | None = Field(None, description="Most records, in whatever requests.")
    seconds: Annotated[int, Field(gt=0, le=86_400, description="Length of the window; it slides.")]
    by_the_clock: bool = Field(
        False, description="It does not slide: it begins at each full minute, or hour; for a day see `daily`."
    )

    @model_validator(mode="after")
    def _counts_one_unit(self) -> Self:
        if sum(getattr(self, unit) is not None for unit in _UNITS) != 1:
            raise ValueError("a window counts one of requests, credits and records")
        return self

    @model_validator(mode="after")
    def _a_day_is_no_window_of_the_clock(self) -> Self:
        if self.by_the_clock and self.seconds >= _DAY_SECONDS:
            raise ValueError(
                "a day that begins at midnight is no window by the clock; allowed: limits.daily, which knows the "
                "account's time zone, or a window of 24 hours that slides"
            )
        return self

    @property
    def unit(self) -> UnitName:
        """What is counted."""
        return next(unit for unit in _UNITS if getattr(self, unit) is not None)

    @property
    def most(self) -> int:
        """How many of ``unit`` the window may hold."""
        return self.requests or self.credits or self.records or 0


class DailyLimit(Model):
    """At most ``requests`` between two midnights of the account's time zone."""

    requests: Annotated[int, Field(gt=0, description="Most requests in a day.")]
    time_zone: TimeZone = Field("UTC", description="Whose midnight begins the day: the account's.")

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.time_zone)


class EndpointClassLimits(Model):
    """What a vendor allows one class of its endpoints, such as search."""

    windows: tuple[WindowLimit, ...] = Field((), description="Windows of this class alone.")
    shared_in_flight: _SharedInFlight = Field(
        None, description="Requests of this class under way at once, of all processes together."
    )
    separate: bool = Field(
        False, description="Its requests do not count in the account's windows, only in its own and in the day's quota."
    )


class RequestLimits(Model):
    """What an account allows, for all processes together."""

    windows: tuple[WindowLimit, ...] = (WindowLimit(requests=100, seconds=10),)
    daily: DailyLimit | None = DailyLimit(requests=250_000)
    reserve: Fraction = Field(
        0.1, description="Share of the daily quota, or of a window of 24 hours, that is kept for the real-time lane."
    )
    endpoint_classes: dict[str, EndpointClassLimits] = Field(
        default_factory=dict, description="Further limits of some endpoints, such as search."
    )
    shared_in_flight: _SharedInFlight = Field(
        None, description="Requests under way at once, of all processes together, if the vendor limits them."
    )
    in_flight: Annotated[int, Field(gt=0, le=64)] = Field(4, description="Requests under way at once, per process.")

    @field_validator("endpoint_classes")
    @classmethod
    def _the_account_s_own_class_is_not_named(
        cls, value: dict[str, EndpointClassLimits]
    ) -> dict[str, EndpointClassLimits]:
        """``api`` is the class of whatever has no class: a second set of limits for it would undo the first."""
        if "api" in value:
            raise ValueError("api is the account as a whole; allowed: limits.windows and limits.shared_in_flight")
        return value

    @property
    def has_budget(self) -> bool:
        """Whether anything is limited for so long that a part of it can be kept for the real-time lane."""
        return self.daily is not None or any(window.seconds >= _DAY_SECONDS for window in self.windows)

    def same_quota(self, other: Self) -> bool:
        """Whether both say the same of one account. How much of it a process uses at once may differ."""
        return set(self.windows) == set(other.windows) and all(
            getattr(self, name) == getattr(other, name)
            for name in ("daily", "reserve", "endpoint_classes", "shared_in_flight")
        )
