"""What a lead is worth, what risk it is, and into which tier it falls."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leads_pipeline.config import VerificationSettings
from leads_pipeline.domain.stage import Lane
from leads_pipeline.domain.triage import Circumstances, Factor, Triage, fields_asked_for, triage
from leads_pipeline.domain.validation import ValidLead, validate
from leads_pipeline_tests.conftest import NOW

TIERS = {"full": {"lookups": ["mx"]}, "minimal": {"lookups": ["mx"]}, "none": {}}


def policy(**said: Any) -> VerificationSettings:
    return VerificationSettings.model_validate({"tiers": TIERS, **said})


def lead(**payload: object) -> ValidLead:
    found = validate({"email": "anna@firm.com", **payload}, country="US", today=NOW.date())
    assert isinstance(found, ValidLead), found
    return found


def came(**said: Any) -> Circumstances:
    return Circumstances(**{"tenant": "acme", "source": "website", "lane": Lane.REAL_TIME, "sent": {}, **said})


def tier_of(when: dict[str, Any], lead_: ValidLead, came_: Circumstances, **said: Any) -> str:
    return triage(lead_, came_, policy=policy(triage=[{"tier": "full", "when": when}], **said)).tier


def test_without_rules_a_lead_is_worth_nothing_and_falls_into_the_last_tier() -> None:
    assert triage(lead(), came(), policy=policy()) == Triage("none", 0, 0, ())


def test_the_points_of_all_rules_that_hold_add_up_and_the_first_tier_that_fits_is_taken() -> None:
    rules = policy(
        value=[
            {"points": 40, "when": {"lane": ["real_time"]}},
            {"points": 30, "when": {"present": ["company"]}},
            {"points": -10, "when": {"flag": ["free_mailbox"]}},
            {"points": 5},
        ],
        triage=[
            {"tier": "full", "when": {"value_at_least": 75}},
            {"tier": "minimal", "when": {"value_at_least": 45}},
            {"tier": "full"},
        ],
    )

    def found(lead_: ValidLead, **said: Any) -> tuple[int, str]:
        weighed = triage(lead_, came(**said), policy=rules)
        return weighed.value, weighed.tier

    assert found(lead(company="Firm Ltd")) == (75, "full")
    assert found(lead()) == (45, "minimal")
    assert found(lead(email="a.b@gmail.com")) == (35, "full")  # no other rule holds
    assert found(lead(), lane=Lane.BATCH) == (5, "full")


@pytest.mark.parametrize(
    ("when", "holds", "fails"),
    [
        ({"tenant": ["acme", "globex"]}, (lead(), came()), (lead(), came(tenant="other"))),
        ({"source": ["website"]}, (lead(), came()), (lead(), came(source="webinar"))),
        ({"lane": ["batch"]}, (lead(), came(lane=Lane.BATCH)), (lead(), came())),
        ({"flag": ["role_mailbox", "free_mailbox"]}, (lead(email="x.y@gmail.com"), came()), (lead(), came())),
        ({"without_flag": ["role_mailbox"]}, (lead(), came()), (lead(email="info@firm.com"), came())),
        ({"present": ["email", "company"]}, (lead(company="Firm"), came()), (lead(), came())),
        ({"present": ["campaign"]}, (lead(campaign="spring"), came()), (lead(), came())),
        ({"present": ["budget"]}, (lead(), came(sent={"budget": 5})), (lead(), came(sent={"budget": None}))),
        ({"field": "company", "is_in": ["FIRM"]}, (lead(company="Firm"), came()), (lead(company="Farm"), came())),
        ({"field": "seats", "at_least": 10}, (lead(), came(sent={"seats": "10.5"})), (lead(), came(sent={"seats": 9}))),
        ({"field": "seats", "at_least": 1}, (lead(), came(sent={"seats": 10})), (lead(), came(sent={"seats": "few"}))),
        ({"field": "job_title", "matches": "(?i)^chief"}, (lead(job_title="Chief of IT"), came()), (lead(), came())),
        ({"risk_at_least": 60}, (lead(), came(filled_honeypot=True)), (lead(), came())),
        ({"tenant": ["acme"], "lane": ["batch"]}, (lead(), came(lane=Lane.BATCH)), (lead(), came())),  # all must hold
    ],
)  # fmt: skip
def test_each_condition_holds_when_it_should_and_only_then(
    when: dict[str, Any], holds: tuple[ValidLead, Circumstances], fails: tuple[ValidLead, Circumstances]
) -> None:
    assert tier_of(when, *holds) == "full"
    assert tier_of(when, *fails) == "none"


def test_each_factor_of_the_risk_is_told_with_its_points() -> None:
    def factors(lead_: ValidLead, came_: Circumstances | None = None) -> dict[str, int]:
        weighed = triage(lead_, came_ or came(), policy=policy())
        assert weighed.risk == min(100, sum(factor.points for factor in weighed.factors))
        return {factor.factor: factor.points for factor in weighed.factors}

    assert factors(lead()) == {}
    assert factors(lead(email="x@mailinator.com")) == {"disposable_mailbox": 40}
    assert factors(lead(email="info@firm.com")) == {"role_mailbox": 10}
    assert factors(lead(email="anna@gmial.com"))["misspelt_mailbox"] == 10
    assert factors(lead(), came(filled_honeypot=True)) == {"honeypot": 60}
    assert factors(lead(phone="+442079460958", country="US")) == {"country_mismatch": 15}
    assert factors(lead(phone="+14155552671", country="US")) == {}
    assert factors(lead(), came(leads_from_ip=10, leads_of_domain=30)) == {}  # as many as may come
    assert factors(lead(), came(leads_from_ip=11, leads_of_domain=31)) == {"velocity_ip": 30, "velocity_domain": 20}
    assert Factor("honeypot", 60).as_json() == {"factor": "honeypot", "points": 60}


def test_a_factor_that_is_worth_nothing_is_not_told_and_a_negative_one_lowers_the_risk() -> None:
    weighed = triage(
        lead(email="info@firm.com"), came(filled_honeypot=True),
        policy=policy(risk={"role_mailbox": 0, "honeypot": -20}),
    )  # fmt: skip
    assert (weighed.risk, weighed.factors) == (0, (Factor("honeypot", -20),))


def test_the_fields_that_conditions_are_about_are_known_beforehand() -> None:
    rules = policy(
        value=[{"points": 1, "when": {"field": "budget", "at_least": 1}}],
        triage=[{"tier": "full", "when": {"present": ["seats"]}}, {"tier": "full", "when": {"value_at_least": 1}}],
    )
    assert fields_asked_for(rules) == {"budget", "seats"}


points = st.integers(-100, 100)


@given(
    values=st.lists(points, max_size=8),
    risks=st.fixed_dictionaries(dict.fromkeys(("role_mailbox", "honeypot", "velocity_ip"), points)),
    honeypot=st.booleans(),
    ips=st.integers(0, 50),
    bar=st.integers(0, 100),
)
def test_scores_are_bounded_explained_and_decide_the_tier(
    values: list[int], risks: dict[str, int], honeypot: bool, ips: int, bar: int
) -> None:
    rules = policy(
        value=[{"points": value} for value in values],
        risk=risks,
        triage=[{"tier": "minimal", "when": {"value_at_least": bar, "risk_at_least": bar}}],
    )
    weighed = triage(lead(email="info@firm.com"), came(filled_honeypot=honeypot, leads_from_ip=ips), policy=rules)
    assert weighed.value == min(100, max(0, sum(values)))
    assert weighed.risk == min(100, max(0, sum(factor.points for factor in weighed.factors)))
    assert weighed.tier == ("minimal" if min(weighed.value, weighed.risk) >= bar else "none")
