"""How contacts are delivered, to whatever destination.

Add what holds for all destinations. Keep out: what one of them is (``destinations``) and allows (``limits``).
"""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from leads_pipeline.config.base import Fraction, LaneName, Model

Seconds = Annotated[float, Field(gt=0)]
Attempts = Annotated[int, Field(gt=0)]


class ClassBudget(Model):
    """How long a record is tried again that is refused in one way. What is left out is as for all."""

    base_seconds: Seconds | None = Field(None, description="Wait after the first refusal; as for all if unset.")
    max_seconds: Seconds | None = Field(None, description="No wait is longer; as for all if unset.")
    max_attempts: Attempts | None = Field(None, description="Refusals of this class; as for all if unset.")


class LockedBudget(ClassBudget):
    """Someone works on the record: they are done in minutes, or have gone home."""

    base_seconds: Seconds | None = Field(4, description="Wait after the first refusal; it doubles.")
    max_seconds: Seconds | None = Field(1800, description="No wait is longer.")
    max_attempts: Attempts | None = Field(110, description="Refusals of this class.")


class ConflictBudget(ClassBudget):
    """Another record is in the way: it moves with its own change, mostly in seconds, or when a person moves it."""

    base_seconds: Seconds | None = Field(6, description="Wait after the first refusal; it doubles.")
    max_seconds: Seconds | None = Field(86_400, description="No wait is longer.")
    max_attempts: Attempts | None = Field(16, description="Refusals of this class.")


class ClassBudgets(Model):
    """A budget for each class of refusal that is tried again; each is counted by itself."""

    transient: ClassBudget = Field(ClassBudget(), description="The CRM was not able to; nothing was written.")
    ambiguous: ClassBudget = Field(ClassBudget(), description="It may have been written.")
    locked: LockedBudget = Field(LockedBudget(), description="Someone works on the record.")
    conflict: ConflictBudget = Field(ConflictBudget(), description="Another record is in the way.")


class RetrySettings(Model):
    """How long a refused record is tried again: exponential, with full jitter on the upper half."""

    base_seconds: Annotated[float, Field(gt=0, description="Wait after the first refusal; it doubles.")] = 2
    max_seconds: Annotated[float, Field(gt=0, description="No wait is longer.")] = 3600
    max_attempts: Annotated[int, Field(gt=0)] = Field(60, description="Attempts before a record is a dead letter.")
    budgets: ClassBudgets = Field(ClassBudgets(), description="What differs for a class of refusal.")


EmailVerdict = Literal["valid", "invalid", "risky", "unknown"]


class LaneShareSettings(Model):
    """One lane's part of a destination's requests, while others wait as well."""

    weight: Annotated[float, Field(gt=0)] = Field(1, description="Requests in proportion to the other lanes' weights …")
    floor: Fraction = Field(0, description="… but never a smaller share than this.")
    ageing_seconds: Annotated[float, Field(gt=0)] = Field(
        3600, description="Once its oldest contact waits longer, the lane weighs as much as the heaviest one."
    )


_LANES: dict[LaneName, LaneShareSettings] = {
    "real_time": LaneShareSettings(weight=8, floor=0.2, ageing_seconds=60),
    "near_real_time": LaneShareSettings(weight=3, floor=0.1, ageing_seconds=900),
    "batch": LaneShareSettings(weight=1, floor=0.05, ageing_seconds=21_600),
}


class DestinationBreakerSettings(Model):
    """When a destination that fails is left alone."""

    failures: Annotated[int, Field(gt=0)] = Field(
        5, description="Batches in a row without an answer, or with an error of the CRM's own; then nothing is sent …"
    )
    pause_seconds: Annotated[float, Field(gt=0)] = Field(
        30, description="… for so long, then one batch of all processes is the probe."
    )
    max_pause_seconds: Annotated[float, Field(gt=0)] = Field(900, description="Each failed probe doubles the pause.")


class UrgentWhen(Model):
    """Holds when all that it says holds; without anything it always does."""

    value_at_least: Annotated[int, Field(ge=0, le=100)] | None = Field(None, description="The lead's value score.")
    risk_below: Annotated[int, Field(ge=0, le=101)] | None = Field(None, description="The lead's risk score is lower.")
    email_verdict: tuple[EmailVerdict, ...] = Field((), description="What verification says of its address, if asked.")


class UrgentRule(Model):
    """Makes a contact's delivery more urgent than the lane in which its new lead came."""

    lane: LaneName = Field(description="In which it is delivered, unless it came in a more urgent one.")
    when: UrgentWhen = UrgentWhen()


class DeliverySettings(Model):
    """Which contacts go next, while more wait than an account allows."""

    urgent: tuple[UrgentRule, ...] = Field(
        (
            UrgentRule(
                lane="near_real_time", when=UrgentWhen(value_at_least=70, risk_below=40, email_verdict=("valid",))
            ),
        ),
        description="Verified, valuable contacts first; the most urgent rule that holds counts.",
    )
    lanes: dict[LaneName, LaneShareSettings] = Field(
        default_factory=lambda: dict(_LANES), description="Each lane's part; the others keep theirs."
    )
    backlog_seconds: Annotated[float, Field(gt=0)] = Field(
        60, description="A lane has a backlog once its oldest contact waits longer; then the newest go first …"
    )
    fresh_share: Fraction = Field(0.8, description="… in so many of its requests, and the oldest in the others.")
    claim_ahead_seconds: Annotated[float, Field(ge=0, le=30)] = Field(
        2, description="Contacts are claimed at most so long before their request may go."
    )
    breaker: DestinationBreakerSettings = Field(
        DestinationBreakerSettings(), description="When a destination that fails is left alone."
    )

    @field_validator("lanes", mode="before")
    @classmethod
    def _lanes_left_out_keep_their_part(cls, value: object) -> object:
        return {**_LANES, **value} if isinstance(value, dict) else value

    @field_validator("lanes", mode="after")
    @classmethod
    def _floors_leave_room(cls, value: dict[LaneName, LaneShareSettings]) -> dict[LaneName, LaneShareSettings]:
        if sum(item.floor for item in value.values()) > 1:
            raise ValueError("the lanes' floors are more than 1 together; allowed: shares that add up to 1 at most")
        return value
