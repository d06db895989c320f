"""How contacts are delivered, to whatever destination.

Add what holds for all destinations. Keep out: what one of them is (``destinations``) and allows (``limits``).
"""

from typing import Annotated

from pydantic import Field

from leads_pipeline.config.base import Model


class RetrySettings(Model):
    """How long a refused record is tried again: exponential, with full jitter on the upper half."""

    base_seconds: Annotated[float, Field(gt=0, description="Wait after the first refusal; it doubles.")] = 2
    max_seconds: Annotated[float, Field(gt=0, description="No wait is longer.")] = 3600
    max_attempts: Annotated[int, Field(gt=0)] = Field(60, description="Attempts before a record is a dead letter.")
