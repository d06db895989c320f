"""What every flow is given."""

from dataclasses import dataclass

import sqlalchemy as sa

from leads_pipeline.clock import Clock
from leads_pipeline.config import Settings
from leads_pipeline.storage.latency import Measure, measure_latency


@dataclass(frozen=True, slots=True)
class FlowContext:
    """The database, the settings and the clock, and how it is written down how long leads took."""

    engine: sa.Engine
    settings: Settings
    clock: Clock
    measure: Measure = measure_latency
