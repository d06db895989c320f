"""Which lane a lead takes."""

import pytest

from leads_pipeline.config import LaneRule
from leads_pipeline.domain.lane_rules import lane_of
from leads_pipeline.domain.stage import Lane


@pytest.mark.parametrize(
    ("rule", "fields", "holds"),
    [
        ({"field": "plan", "is_in": ("Enterprise", "Pro")}, {"plan": " enterprise "}, True),
        ({"field": "plan", "is_in": ("Enterprise",)}, {"plan": "free"}, False),
        ({"field": "plan", "is_in": ("Enterprise",)}, {}, False),
        ({"field": "budget", "at_least": 10_000}, {"budget": "12,000"}, True),
        ({"field": "budget", "at_least": 10_000}, {"budget": 9_999.5}, False),
        ({"field": "budget", "at_least": 10_000}, {"budget": "a lot"}, False),
        ({"field": "email", "matches": "@example[.]org$"}, {"email": "ada@example.org"}, True),
        ({"field": "email", "matches": "@example[.]org$"}, {"email": "ada@example.org.invalid"}, False),
        ({"field": "a", "is_in": ("1",), "at_least": 2}, {"a": 1}, False),
        ({"field": "tags", "is_in": ("x",)}, {"tags": ["x"]}, False),
    ],
)
def test_a_rule_holds_when_all_that_it_says_holds(rule: dict[str, object], fields: dict[str, object], holds: bool):
    lane = lane_of(fields, [LaneRule(lane="real_time", **rule)], default=Lane.BATCH)  # type: ignore[arg-type]

    assert (lane is Lane.REAL_TIME) == holds


def test_the_first_rule_that_holds_decides():
    rules = [
        LaneRule(lane="real_time", field="budget", at_least=100),
        LaneRule(lane="batch", field="budget", at_least=1),
    ]

    assert lane_of({"budget": 500}, rules, default=Lane.NEAR_REAL_TIME) is Lane.REAL_TIME
    assert lane_of({"budget": 50}, rules, default=Lane.NEAR_REAL_TIME) is Lane.BATCH
    assert lane_of({"budget": 0}, rules, default=Lane.NEAR_REAL_TIME) is Lane.NEAR_REAL_TIME
