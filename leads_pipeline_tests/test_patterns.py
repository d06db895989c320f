"""Which regular expressions leads.yaml may hold."""

from pathlib import Path

import pytest

from leads_pipeline.config import parse_settings
from leads_pipeline.errors import ConfigError
from leads_pipeline.patterns import fault_of


@pytest.mark.parametrize(
    "pattern",
    [
        "(a+)+$",
        r"^(\w+\.?)+@",
        r"(?:[a-z]*,)*x",
        "((a|b)*?c)+",
        "(x{1,100}){5,}",
        "(?=(a+)*b)",
        "(a)(?(1)(b+)+|c)",
        "(?i:(a+)+)",
    ],
)
def test_a_repeat_within_a_repeat_is_refused(pattern: str) -> None:
    fault = fault_of(pattern)
    assert fault is not None
    assert "a repeat within a repeat" in fault


@pytest.mark.parametrize(
    "pattern",
    [
        "@(example|test)[.]",
        r"^[a-z]+\.[a-z]+$",
        "(ab)+c*",
        "(a+){1,3}",
        "(?i)enterprise|business",
        r"^\d{5}(-\d{4})?$",
        "",
        "[(a+)+]",
    ],
)
def test_a_pattern_that_cannot_explode_is_taken(pattern: str) -> None:
    assert fault_of(pattern) is None


def test_what_is_no_pattern_is_said() -> None:
    assert str(fault_of("(")).startswith("not a regular expression: missing )")


def test_a_lane_rule_is_held_to_it() -> None:
    rule = "{lane: batch, field: email, matches: (a+)+$}"
    with pytest.raises(ConfigError, match="a repeat within a repeat"):
        parse_settings(
            f"version: 1\ntenants: {{acme: {{sources: {{website: {{lane_rules: [{rule}]}}}}}}}}\n",
            path=Path("leads.yaml"),
        )
