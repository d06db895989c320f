"""What Dagster shows of a delivery."""

from datetime import timedelta

from leads_pipeline.crm.parking import Parked
from leads_pipeline.defs.crm_io_manager import report_metadata
from leads_pipeline.domain.quota_budget import Budget, BudgetPlan
from leads_pipeline.domain.stage import Lane
from leads_pipeline.steps.crm_sync_batches import SyncReport
from leads_pipeline_tests.conftest import NOW


def test_a_run_shows_what_was_sent_how_much_quota_is_left_for_whom_and_until_when() -> None:
    budget = Budget(1000, 250, foreign=50, resets_at=NOW + timedelta(hours=12), share_left=0.5)
    lanes = {Lane.REAL_TIME: 700, Lane.NEAR_REAL_TIME: 650, Lane.BATCH: 600}
    report = SyncReport(
        delivered=90, retried=3, dead=1, requests=2, requests_by_lane={"real_time": 1, "batch": 1},
        budgets={"hubspot": BudgetPlan(budget, lanes, None, 1.0), "webhook": BudgetPlan(None, {}, None, 1.0)},
        parked={"hubspot batch": Parked("reserve", NOW)},
    )  # fmt: skip
    found = report_metadata(report)
    assert {"delivered": 90, "retried": 3, "dead": 1, "requests": 2, "suppressed": 0}.items() <= found.items()
    assert (found["requests real_time"], found["requests batch"], found["hubspot day left"]) == (1, 1, 700)
    assert found["quota of the day"].value.splitlines()[2:] == [
        "| hubspot | 700 | 700 | 650 | 600 | 50 | 2026-01-16 00:00 UTC |"
    ]
    assert "| hubspot batch |" in found["parked"].value


def test_an_account_without_a_quota_of_a_day_shows_none() -> None:
    found = report_metadata(SyncReport(budgets={"webhook": BudgetPlan(None, {}, None, 1.0)}))
    assert "quota of the day" not in found
