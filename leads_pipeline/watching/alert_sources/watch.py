"""What every source of alerts is given to look with."""

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from leads_pipeline.clock import Clock
from leads_pipeline.config import Settings


@dataclass(frozen=True, slots=True)
class Watch:
    """The database, the settings and the instant of the look."""

    engine: sa.Engine
    settings: Settings
    clock: Clock
    now: datetime
