"""The jobs of the hot chain: what one run does, in which lanes, and in which order the queue takes it.

Every job carries ``SERIAL_TAG``: two runs of one job are harmless (rows are claimed with ``skip locked``) but
pointless, so at most one is in flight. Deliveries are a job beside the chain: the next leads are matched while contacts
are sent, and a CRM that hardly answers keeps no lead waiting. Keep out: when a job runs (``defs.sensors``,
``defs.schedules``).
"""

import dagster as dg

from leads_pipeline.defs.assets import ASSETS, CHAIN, chain_config, crm_sync_batches, delivery_config
from leads_pipeline.defs.checks import (
    OLDEST_PENDING,
    SLO_CHECKS,
    conservation,
    delivery_success,
    duplicate_emails,
    record_keys,
    rejection_rate,
    schema_drift,
)
from leads_pipeline.defs.delivery_checks import DELIVERY_CHECKS
from leads_pipeline.defs.expectations import LANES_TAG, expectations
from leads_pipeline.defs.run_checks import RUN_CHECKS
from leads_pipeline.defs.runs import BACKGROUND, SERIAL_TAG
from leads_pipeline.defs.slo_checks import slos
from leads_pipeline.defs.validation_checks import quality_holds, validation_rules
from leads_pipeline.defs.verification import VERIFICATIONS, VerificationConfig, verifications
from leads_pipeline.defs.verification_checks import VERIFICATION_CHECKS
from leads_pipeline.domain.stage import ALL_LANES, HOT_LANES, Lane

# How long a run that serves every lane looks up.
SECONDS_BESIDE_THE_CHAIN = 20.0

# How long each stage of a micro-batch takes chunks while more comes than it can take: the stages behind it, and
# deliveries, have something to do meanwhile, and an urgent lead waits for no more than this at each.
SLICE_SECONDS = 20.0

_ALL = dg.AssetSelection.assets(*ASSETS)
_CHAIN = dg.AssetSelection.assets(*CHAIN)
# The SLO checks read whole tables: twelve times an hour is enough, a micro-batch does not repeat them.
_SCHEDULED_ONLY = dg.AssetSelection.checks(
    conservation,
    *OLDEST_PENDING,
    rejection_rate,
    schema_drift,
    record_keys,
    delivery_success,
    quality_holds,
    *DELIVERY_CHECKS,
    *RUN_CHECKS,
    slos,
)
_VERIFICATION_CHECKS = dg.AssetSelection.checks(*VERIFICATION_CHECKS)
# One set of rules: Great Expectations for the batch lane, SQL for the hot chain.
_EXPECTATIONS = dg.AssetSelection.checks(expectations)
_RULES_IN_SQL = dg.AssetSelection.checks(validation_rules)


def _serial(name: str, **tags: str) -> dict[str, str]:
    return {SERIAL_TAG: name, **tags}


def _every_lane_config() -> dg.RunConfig:
    # The assets below come after it in this process: leads whose patience has ended are not to wait for the rest.
    look_ups = {VERIFICATIONS: VerificationConfig(seconds=SECONDS_BESIDE_THE_CHAIN)}
    return dg.RunConfig(ops={**chain_config(ALL_LANES), **delivery_config(ALL_LANES), **look_ups})


near_real_time = dg.define_asset_job(
    "near_real_time",
    selection=_CHAIN - _SCHEDULED_ONLY - _EXPECTATIONS,
    config=dg.RunConfig(ops=dict(chain_config(HOT_LANES, seconds=SLICE_SECONDS))),
    tags=_serial("near_real_time", **{"dagster/priority": "10"}),
    description="A micro-batch: what waits in the real-time and near-real-time lanes becomes golden contacts.",
)

delivery = dg.define_asset_job(
    "delivery",
    # The blocking check stands in front of it here as well: Dagster asks it although the chain is not in this job.
    selection=(dg.AssetSelection.assets(crm_sync_batches) - _SCHEDULED_ONLY)
    | dg.AssetSelection.checks(duplicate_emails, *DELIVERY_CHECKS),
    config=dg.RunConfig(ops=dict(delivery_config(ALL_LANES, follow=True))),
    tags=_serial("delivery", **{"dagster/priority": "10"}),
    description="Sends what is due to the CRMs, each lane in its share, and stays while urgent leads are on their way.",
)

batch = dg.define_asset_job(
    "batch",
    selection=_CHAIN - _SCHEDULED_ONLY - _RULES_IN_SQL,
    config=dg.RunConfig(ops=dict(chain_config((Lane.BATCH,)))),
    tags=_serial("batch", **{"dagster/priority": "-10", LANES_TAG: str(Lane.BATCH), **BACKGROUND}),
    description="The batch lane. What Great Expectations is not content with is held before it is matched.",
)

all_lanes = dg.define_asset_job(
    "all_lanes",
    selection=_ALL | dg.AssetSelection.assets(verifications),
    config=_every_lane_config(),
    tags=_serial("all_lanes"),
    description="Everything that waits, in every lane, with every check: for a person at the UI.",
)

# Not a part of the micro-batch: a provider that takes a minute would hold up leads that need none.
verification = dg.define_asset_job(
    "verification",
    selection=dg.AssetSelection.assets(verifications),  # with its checks: without, each run would blank their verdict
    tags=_serial("verification"),
    description="Looks up what leads still wait for: at DNS and at providers, inside their limits and budgets.",
)

slo_checks = dg.define_asset_job(
    "slo_checks",
    selection=dg.AssetSelection.checks(
        *SLO_CHECKS, slos, quality_holds, *VERIFICATION_CHECKS, *DELIVERY_CHECKS, *RUN_CHECKS
    ),
    tags=_serial("slo_checks"),
    description="Only the checks that hold the pipeline to its SLOs; they fail when it has stopped.",
)


JOBS = (near_real_time, delivery, batch, all_lanes, verification, slo_checks)
