"""How settings and connections reach a run: read and opened in the run, closed with it.

Nothing here touches a file or a database when it is imported. Add a resource only for what a run must open and close.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from leads_pipeline.config import load_settings
from leads_pipeline.flows import FlowContext
from leads_pipeline.storage.database_clock import DatabaseClock
from leads_pipeline.storage.open import open_database

# Under these names assets, checks, sensors and ops ask for them.
FLOW = "flow"
CRM_IO_MANAGER = "crm_io_manager"


class FlowResource(dg.ConfigurableResource[FlowContext]):
    """The settings, the database and the clock that every stage is given.

    ``config_file`` names a leads.yaml; unset, it is found as the command line finds it.
    """

    config_file: str | None = None

    @contextmanager
    def yield_for_execution(self, context: dg.InitResourceContext) -> Iterator[FlowContext]:
        settings = load_settings(self.config_file)
        engine = open_database(settings)
        try:
            yield FlowContext(engine=engine, settings=settings, clock=DatabaseClock(engine))
        finally:
            engine.dispose()
