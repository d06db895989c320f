"""How contacts are delivered, to whatever destination.

Add what holds for all destinations. Keep out: what one of them is (``destinations``) and allows (``limits``).
"""

from typing import Annotated

from pydantic import Field

from leads_pipeline.config.base import Model

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
    """Another record is in the way: it moves with its own change, within minutes, or when a person moves it."""

    base_seconds: Seconds | None = Field(90, description="Wait after the first refusal; it doubles.")
    max_seconds: Seconds | None = Field(86_400, description="No wait is longer.")
    max_attempts: Attempts | None = Field(12, description="Refusals of this class.")


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
