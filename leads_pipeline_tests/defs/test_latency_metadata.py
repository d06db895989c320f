"""What Dagster plots of how long leads take, and that old latencies do not pile up."""

from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from leads_pipeline.clock import FrozenClock
from leads_pipeline.domain.latency import Station
from leads_pipeline.storage.latency import HOURS_KEPT, Took, measure_latency
from leads_pipeline_tests.defs.conftest import metadata_of

pytestmark = pytest.mark.usefixtures("expectations_imported")


def test_every_asset_says_how_long_leads_took_to_it(run: Any, seeding: Any, clock: FrozenClock) -> None:
    with seeding() as flow, seeding(lane="near_real_time", source="webinar") as webinar:
        flow.buffered()
        webinar.buffered(lead_id=webinar.new_lead())
    clock.advance(60)
    result = run("near_real_time")
    assert result.success
    for asset in ("raw_leads", "validated_leads", "deduped_leads", "golden_contacts"):
        metadata = metadata_of(result, asset)
        for name in ("p50", "p95", "p99", "real_time_p50", "real_time_p99"):
            assert metadata[f"{name}_seconds_last_hour"] == pytest.approx(60, rel=0.1), (asset, name)
    assert metadata_of(run("delivery"), "crm_sync_batches")["real_time_p99_seconds_last_hour"] == pytest.approx(
        60, rel=0.1
    )


def test_an_hour_in_which_nothing_came_has_no_percentiles(run: Any, seeding: Any, clock: FrozenClock) -> None:
    with seeding() as flow:
        flow.buffered()
    assert run("near_real_time").success
    clock.advance(2 * 3600)
    assert not [name for name in metadata_of(run("near_real_time"), "raw_leads") if name.endswith("_last_hour")]


def test_maintenance_adds_latencies_up_and_forgets_them_after_five_weeks(
    run: Any, engine: sa.Engine, clock: FrozenClock, count: Any
) -> None:
    with engine.begin() as connection:
        for at in (clock.now(), clock.now() - HOURS_KEPT - timedelta(hours=1)):
            measure_latency(connection, Took("acme", Station.RAW_LEADS, [("batch", 1.0)]), now=at)
    assert run("maintenance").success
    assert (count("latency_measurements"), count("latency_histograms")) == (0, 1)


def test_maintenance_forgets_what_rules_did_and_people_were_told_long_ago(
    run: Any, seeding: Any, clock: FrozenClock, count: Any
) -> None:
    now = clock.now()
    with seeding() as flow:
        for days in (399, 401):
            then = now - timedelta(days=days)
            flow.insert("policy_actions", policy=f"rule of {days}", began_at=then, ends_at=then, ended_at=then)
            flow.insert("alerts", alert_key=f"trouble of {days}", opened_at=then, closed_at=then)
            flow.insert("slo_history", slo="leads_verified", evaluated_at=then)
        flow.insert("policy_actions", policy="still acts", began_at=now - timedelta(days=500))
        flow.insert("alerts", alert_key="still open", opened_at=now - timedelta(days=500))
    assert run("maintenance").success
    assert (count("policy_actions"), count("alerts"), count("slo_history")) == (2, 2, 1)
