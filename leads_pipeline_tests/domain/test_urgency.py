"""Which lane a contact is delivered in."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leads_pipeline.config.delivery import DeliverySettings, UrgentRule, UrgentWhen
from leads_pipeline.domain.stage import ALL_LANES, Lane
from leads_pipeline.domain.urgency import sync_lane

BY_DEFAULT = DeliverySettings().urgent
scores = st.none() | st.integers(0, 100)
verdicts = st.sampled_from([None, "valid", "invalid", "risky", "unknown"])
rules = st.lists(
    st.builds(
        UrgentRule,
        lane=st.sampled_from(ALL_LANES),
        when=st.builds(
            UrgentWhen,
            value_at_least=scores,
            risk_below=scores,
            email_verdict=st.sets(verdicts.filter(bool)).map(tuple),
        ),
    ),
    max_size=3,
)


@pytest.mark.parametrize(
    ("value", "risk", "verdict", "lane"),
    [
        (70, 39, "valid", Lane.NEAR_REAL_TIME),
        (69, 0, "valid", Lane.BATCH),
        (100, 40, "valid", Lane.BATCH),
        (100, 0, "risky", Lane.BATCH),
        (100, 0, None, Lane.BATCH),
        (None, None, "valid", Lane.BATCH),
    ],
)
def test_by_default_a_verified_and_valuable_lead_of_a_batch_is_more_urgent(value, risk, verdict, lane) -> None:
    assert sync_lane(Lane.BATCH, value=value, risk=risk, email_verdict=verdict, rules=BY_DEFAULT) is lane


@given(lane=st.sampled_from(ALL_LANES), value=scores, risk=scores, verdict=verdicts, urgent=rules)
def test_no_rule_makes_a_lead_less_urgent(lane, value, risk, verdict, urgent) -> None:
    found = sync_lane(lane, value=value, risk=risk, email_verdict=verdict, rules=urgent)
    assert ALL_LANES.index(found) <= ALL_LANES.index(lane)
    assert found in {lane, *(rule.lane for rule in urgent)}


def test_a_rule_without_a_condition_holds_for_everybody() -> None:
    assert (
        sync_lane(Lane.BATCH, value=None, risk=None, email_verdict=None, rules=[UrgentRule(lane="real_time")])
        is Lane.REAL_TIME
    )
