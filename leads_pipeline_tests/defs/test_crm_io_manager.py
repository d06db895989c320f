"""What Dagster shows of a delivery."""

from datetime import timedelta

import pytest

from leads_pipeline.crm.parking import AUTH, MAPPING, Parked
from leads_pipeline.crm.report import DestinationReport, Refusal
from leads_pipeline.defs.delivery_metadata import report_metadata
from leads_pipeline.domain.quota_budget import Budget, BudgetPlan
from leads_pipeline.domain.stage import Lane
from leads_pipeline.outbound.limiter import WaitReason
from leads_pipeline.steps.crm_sync_batches import SyncReport
from leads_pipeline_tests.conftest import NOW


def rows_of(table) -> list[str]:
    """A Markdown table without its header."""
    return table.value.splitlines()[2:]


def test_a_run_shows_what_was_sent_how_much_quota_is_left_for_whom_and_until_when() -> None:
    budget = Budget(1000, 250, foreign=50, resets_at=NOW + timedelta(hours=12), share_left=0.5)
    lanes = {Lane.REAL_TIME: 700, Lane.NEAR_REAL_TIME: 650, Lane.BATCH: 600}
    report = SyncReport(
        delivered=90, retried=3, dead=1, records=94, requests=2, requests_by_lane={"real_time": 1, "batch": 1},
        budgets={"hubspot": BudgetPlan(budget, lanes, None, 1.0), "webhook": BudgetPlan(None, {}, None, 1.0)},
        parked={"hubspot batch": Parked("reserve", NOW)},
    )  # fmt: skip
    found = report_metadata(report)
    assert {"delivered": 90, "retried": 3, "dead": 1, "requests": 2, "suppressed": 0}.items() <= found.items()
    assert (found["requests real_time"], found["requests batch"], found["hubspot left today"]) == (1, 1, 700)
    assert found["calls_per_record"] == pytest.approx(2 / 94, abs=1e-4)
    assert rows_of(found["quota of the day"]) == [
        "| hubspot | 700 | 1,000 | 700 | 650 | 600 | 50 | 2026-01-16 00:00:00 UTC |"
    ]
    assert rows_of(found["lanes"]) == ["| real_time | 1 | 50% |", "| batch | 1 | 50% |"]
    [parked] = rows_of(found["parked"])
    assert parked.startswith(
        "| hubspot batch | 2026-01-15 12:00:00 UTC | reserve | what is left is kept for more urgent"
    )


def test_a_run_shows_each_destination_s_part_and_why_contacts_were_refused() -> None:
    refusals = {Refusal(False, "transient", ""): 3, Refusal(True, "invalid", "INVALID_EMAIL"): 1_000}
    part = DestinationReport(
        delivered=9_000, retried=3, dead=1_000, records=10_003, requests=101, throttled=2, breaker="open (no_answer)",
        refusals=refusals,
    )  # fmt: skip
    found = report_metadata(SyncReport(destinations={"hubspot": part}))
    assert rows_of(found["destinations"]) == [
        "| hubspot | 9,000 | 0 | 0 | 3 | 1,000 | 101 | 0.010 | 2 | open (no_answer) |"
    ]
    assert rows_of(found["refused"]) == [
        "| hubspot | invalid | INVALID_EMAIL | 1,000 | dead letter |",
        "| hubspot | transient |  | 3 | tried again |",
    ]


def test_an_account_without_a_quota_of_a_day_shows_none() -> None:
    found = report_metadata(SyncReport(budgets={"webhook": BudgetPlan(None, {}, None, 1.0)}))
    assert not {"quota of the day", "destinations", "refused", "lanes", "parked"} & found.keys()


@pytest.mark.parametrize("reason", [AUTH, MAPPING, "no_answer", "server_error", *WaitReason])
def test_every_reason_for_which_something_is_parked_says_what_to_do(reason: str) -> None:
    assert Parked(reason, NOW).advice != Parked("whatever else", NOW).advice
