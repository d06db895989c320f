"""What leads.yaml may say about survivorship, and how it is told what is wrong."""

from pathlib import Path

import pytest

from leads_pipeline.config import Settings, parse_settings
from leads_pipeline.errors import ConfigError
from leads_pipeline_tests.conftest import LEADS_YAML


def parsed(text: str, *, of_tenant: str = "") -> Settings:
    document = LEADS_YAML.replace("    country: US", f"    country: US\n    survivorship: {of_tenant}", 1)
    return parse_settings((document if of_tenant else LEADS_YAML) + f"survivorship: {text}\n", path=Path("leads.yaml"))


def test_a_tenant_has_its_own_rules_where_it_names_a_group_and_everybodys_elsewhere() -> None:
    settings = parsed("{company: [oldest], job_title: [longest]}", of_tenant="{company: [source_priority, oldest]}")
    acme, globex = settings.survivorship_rules("acme"), settings.survivorship_rules("globex")
    assert acme["company"] == ("source_priority", "oldest")
    assert globex["company"] == ("oldest",)
    assert acme["job_title"] == globex["job_title"] == ("longest",)
    assert acme["email"] == parsed("{}").survivorship_rules("acme")["email"]
    assert settings.survivorship_rules("unknown") == globex


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("{company: [newest]}", r"survivorship\.company\.0 = 'newest': .*'most_recent'.*'longest'"),
        ("{company: []}", r"survivorship\.company: no rule; allowed: a list out of most_recent, oldest"),
        ("{company: most_recent}", r"survivorship\.company = 'most_recent': must be a list, such as \[a, b\]"),
        ("{company: [longest, longest]}", r"survivorship\.company: longest stands here twice"),
        ("{company: [better_quality]}", r"survivorship\.company: better_quality tells no two values of company apart"),
        ("{name: [most_recent_verified]}", r"survivorship\.name: most_recent_verified .*; allowed: better_quality"),
        ("{phone: [most_complete]}", r"survivorship\.phone: most_complete tells no two values of phone apart"),
        ("{email: [most_recent, longest, oldest]}", r"survivorship\.email: oldest is left nothing to decide"),
        ("{fax: [oldest]}", r"survivorship\.fax: there is no such key"),
    ],
)
def test_a_rule_that_could_decide_nothing_is_refused_by_key_and_value_with_what_is_allowed(
    text: str, fault: str
) -> None:
    with pytest.raises(ConfigError, match=fault):
        parsed(text)
    with pytest.raises(ConfigError, match=fault.replace("survivorship", r"tenants\.acme\.survivorship", 1)):
        parsed("{}", of_tenant=text)
