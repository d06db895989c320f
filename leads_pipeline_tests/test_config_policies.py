"""What leads.yaml says about rules that act: what is refused, what is doubted, what is shipped."""

from pathlib import Path

import pytest

from leads_pipeline.cli._policy_doubts import doubtful_policies
from leads_pipeline.config import MEASURE_NAMES, Settings, parse_settings
from leads_pipeline.config.default_policies import DEFAULT_POLICIES
from leads_pipeline.errors import ConfigError
from leads_pipeline.watching.measures import MEASURES
from leads_pipeline_tests.conftest import LEADS_YAML


def configured(rule: str) -> Settings:
    return parse_settings(f"{LEADS_YAML}policies:\n  mine: {rule}\n", path=Path("leads.yaml"))


def doubts(rule: str) -> dict[str, str]:
    return dict(doubtful_policies(configured(rule)))


def test_what_rules_may_ask_for_is_what_is_measured():
    assert {name: kind.labels for name, kind in MEASURES.items()} == MEASURE_NAMES


@pytest.mark.parametrize(
    ("rule", "fault"),
    [
        (
            "{when: {measure: depth, above: 1}, then: {action: refuse_batch}}",
            "policies.mine.when.measure = 'depth': there is no such measure; allowed: bounce_rate, ",
        ),
        (
            "{when: {measure: queue_depth}, then: {action: refuse_batch}}",
            "policies.mine.when: needs a limit; allowed: one of above and below",
        ),
        (
            "{when: {measure: queue_depth, above: 1, source: [website]}, then: {action: refuse_batch}}",
            "policies.mine.when: source: queue_depth is not measured by it; allowed: tenant, lane, stage",
        ),
        (
            "{when: {measure: queue_depth, above: 10}, until: {below: 11}, then: {action: refuse_batch}}",
            "policies.mine: until: well is on the other side of when; allowed: below, at most 10",
        ),
        (
            "{when: {measure: queue_depth, below: 10}, until: {above: 9}, then: {action: refuse_batch}}",
            "policies.mine: until: well is on the other side of when; allowed: above, at least 10",
        ),
        (
            "{when: {measure: queue_depth, above: 10, tenant: [acme, globex], per: []}, then: {action: refuse_batch}}",
            "policies.mine: when.tenant names 2, and the action would be about every tenant; allowed: tenant among",
        ),
        (
            "{when: {measure: queue_depth, above: 10}, then: {action: resize_chunks}}",
            "policies.mine.then: resize_chunks needs factor",
        ),
        (
            "{when: {measure: queue_depth, above: 10}, then: {action: refuse_batch, speed: 0.5}}",
            "policies.mine.then: refuse_batch has no speed; allowed: action alone",
        ),
        (
            "{when: {measure: queue_depth, above: 10}, then: {action: refuse_batch, destination: hubspot}}",
            "policies.mine.then: refuse_batch cannot be about one destination; allowed: tenant",
        ),
        (
            "{when: {measure: queue_depth, above: 10}, then: {action: lower_tier, tier: gold}}",
            "policies.mine.then.tier names 'gold'; defined tiers: full, minimal, none",
        ),
        (
            "{when: {measure: queue_depth, above: 10}, then: {action: lower_tier, tier: minimal, to: full}}",
            "policies.mine.then.to = 'full' is not lower than 'minimal'",
        ),
    ],
)
def test_a_mistake_is_named_with_its_key_its_value_and_what_is_allowed(rule: str, fault: str):
    with pytest.raises(ConfigError) as refused:
        configured(rule)

    assert any(fault in found for found in refused.value.faults)


def test_the_rules_that_are_shipped_stay_when_leads_yaml_names_others(settings: Settings):
    mine = configured("{when: {measure: queue_depth, above: 10}, then: {action: refuse_batch}}")

    assert mine.policies.keys() == {*DEFAULT_POLICIES, "mine"}
    assert {name: rule for name, rule in mine.policies.items() if name != "mine"} == settings.policies


def test_a_rule_that_is_shipped_is_changed_key_by_key():
    changed = parse_settings(f"{LEADS_YAML}policies: {{backlog_deep: {{for_seconds: 5}}}}", path=Path("leads.yaml"))

    rule = changed.policies["backlog_deep"]
    assert (rule.for_seconds, rule.then.factor) == (5, 4)


def test_nothing_that_is_shipped_is_doubtful(settings: Settings):
    assert dict(doubtful_policies(settings)) == {}


@pytest.mark.parametrize(
    ("rule", "where", "why"),
    [
        (
            "{when: {measure: rejection_rate, above: 0.5, tenant: [nobody]}, then: {action: refuse_batch}}",
            "policies.mine.when.tenant",
            "never acts",
        ),
        (
            "{when: {measure: bounce_rate, above: 1}, then: {action: refuse_batch}}",
            "policies.mine.when.above",
            "never acts",
        ),
        (
            "{when: {measure: queue_depth, above: 9}, until: {below: 0}, then: {action: refuse_batch}}",
            "policies.mine.until.below",
            "each action lasts at_most_seconds",
        ),
        (
            "{when: {measure: bounce_rate, above: 0.1}, at_most_seconds: 60, then: {action: refuse_batch}}",
            "policies.mine.recover_seconds",
            "each action lasts that long",
        ),
        (
            "{when: {measure: queue_depth, above: 9}, then: {action: refuse_batch}}",
            "policies.mine.until",
            "noise",
        ),
        (
            "{when: {measure: buffer_fullness, above: 0.5}, until: {below: 0.4}, then: {action: pause_destination}}",
            "policies.mine.then",
            "every destination",
        ),
        (
            "{when: {measure: lookups_stopped, above: 0.5}, then: {action: shed_enrichment}}",
            "policies.mine.then.action",
            "nobody is asked",
        ),
        (
            "{when: {measure: lookups_stopped, above: 0.5}, then: {action: pause_destination}}",
            "policies.mine.then.action",
            "nobody obeys",
        ),
    ],
)
def test_a_rule_that_cannot_do_what_was_meant_is_doubted(rule: str, where: str, why: str):
    assert why in doubts(rule)[where]
