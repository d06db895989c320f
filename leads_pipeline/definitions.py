"""The code location ``leads``: the explicit list of what Dagster sees of the hot chain.

Every run is a new process and pays for what this module imports, so it stays light: no Great Expectations, dbt,
pandas, Splink or DuckDB at import (a test holds it to that), no file read, no connection made. What is heavy and may
wait belongs to ``leads_pipeline.analytics``.
"""

import dagster as dg

from leads_pipeline.defs.alert_sensors import ALERT_SENSORS
from leads_pipeline.defs.assets import ASSETS
from leads_pipeline.defs.checks import SLO_CHECKS
from leads_pipeline.defs.crm_io_manager import CrmIOManager
from leads_pipeline.defs.delivery_checks import DELIVERY_CHECKS
from leads_pipeline.defs.expectations import expectations
from leads_pipeline.defs.jobs import JOBS
from leads_pipeline.defs.maintenance import maintenance, maintenance_daily, reverification, reverification_hourly
from leads_pipeline.defs.replay import replay
from leads_pipeline.defs.resources import CRM_IO_MANAGER, FLOW, FlowResource
from leads_pipeline.defs.run_checks import RUN_CHECKS
from leads_pipeline.defs.run_retention import retention, retention_hourly
from leads_pipeline.defs.schedules import SCHEDULES
from leads_pipeline.defs.sensors import SENSORS
from leads_pipeline.defs.slo_checks import slos
from leads_pipeline.defs.sweep import stuck_work
from leads_pipeline.defs.validation_checks import VALIDATION_CHECKS
from leads_pipeline.defs.verification import verifications
from leads_pipeline.defs.verification_checks import VERIFICATION_CHECKS
from leads_pipeline.defs.watching import WATCH_SENSORS
from leads_pipeline.flows import FlowContext
from leads_pipeline.telemetry import configure_logging


def build_defs(flow: FlowResource | FlowContext | None = None) -> dg.Definitions:
    """Everything of this location. ``flow`` replaces the settings and the database that a run finds by itself."""
    flow = flow or FlowResource()
    return dg.Definitions(
        assets=(*ASSETS, verifications),
        asset_checks=(
            *SLO_CHECKS,
            slos,
            *VALIDATION_CHECKS,
            *VERIFICATION_CHECKS,
            *DELIVERY_CHECKS,
            *RUN_CHECKS,
            expectations,
        ),
        jobs=(*JOBS, maintenance, reverification, retention, replay),
        sensors=(*SENSORS, *WATCH_SENSORS, stuck_work, *ALERT_SENSORS),
        schedules=(*SCHEDULES, maintenance_daily, reverification_hourly, retention_hourly),
        resources={FLOW: flow, CRM_IO_MANAGER: CrmIOManager(flow=flow)},
        # The chain runs in one process: a process per step costs many times the work.
        executor=dg.in_process_executor,
    )


@dg.definitions
def defs() -> dg.Definitions:
    configure_logging()  # this location is a door: unconfigured, the logger would print tracebacks with their values
    return build_defs()
