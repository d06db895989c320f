"""What every flow is given."""

from dataclasses import dataclass

import sqlalchemy as sa

from leads_pipeline.clock import Clock
from leads_pipeline.config import Settings


@dataclass(frozen=True, slots=True)
class FlowContext:
    """The database, the settings and the clock."""

    engine: sa.Engine
    settings: Settings
    clock: Clock
