"""What leads.yaml must not say about verification, and how it is told."""

from typing import Any

import pytest
from pydantic import ValidationError

from leads_pipeline.config import VerificationSettings
from leads_pipeline.config.verification import VENDOR_LOOKUPS
from leads_pipeline.verification.registry import PROVIDERS

ZB = {"vendor": "zerobounce", "key": {"env": "ZB_KEY"}}


@pytest.mark.parametrize(
    ("said", "fault"),
    [
        (
            {"triage": [{"tier": "full"}, {"tier": "gold"}]},
            r"triage\.1\.tier names 'gold'; defined tiers: full, minimal, none",
        ),
        ({"mailbox": ["zb"]}, "mailbox names the provider 'zb'; defined: none"),
        ({"providers": {"zb": ZB}, "phone": ["zb"]}, "phone names 'zb', but zerobounce looks up mailbox"),
        ({"providers": {"zb": {"vendor": "zerobounce"}}}, r"providers\.zb needs key: \{env: NAME\}"),
        ({"providers": {"tw": {"vendor": "twilio", "key": {"env": "T"}}}}, r"providers\.tw needs account"),
        ({"providers": {"re": {"vendor": "reacher"}}}, r"providers\.re needs base_url"),
        (
            {"providers": {"zb": {**ZB, "budget": {"per_day": 5}}}},
            r"budget\.per_day needs cost_per_lookup: without a price nothing is ever spent",
        ),
        (
            {"providers": {"zb": {**ZB, "cost_per_lookup": 0.01, "budget": {"per_month": 0}}}},
            r"budget\.per_month = 0 pays for no look-up at 0\.01 each; to ask this provider for nothing, take its name",
        ),
        ({"providers": {"zb": ZB}, "mailbox": ["zb", "zb"]}, "mailbox names a provider twice"),
        ({"tiers": {}}, "at least 1 item"),
        ({"triage": [{"tier": "full", "when": {"at_least": 5}}]}, "at_least needs field"),
        ({"triage": [{"tier": "full", "when": {"field": "budget"}}]}, "field needs is_in, matches or at_least"),
        ({"tiers": {"full": {"lookups": ["email"]}}}, "lookups"),
    ],
)
def test_what_cannot_be_is_refused_with_what_there_is(said: dict[str, Any], fault: str) -> None:
    with pytest.raises(ValidationError, match=fault):
        VerificationSettings.model_validate(said)


def test_every_vendor_has_an_adapter_that_looks_up_what_the_configuration_says() -> None:
    assert {name: str(provider.quirks.kind) for name, provider in PROVIDERS.items()} == VENDOR_LOOKUPS


def test_by_default_nothing_is_looked_up() -> None:
    usual = VerificationSettings()
    assert [usual.lookups_of(tier) for tier in usual.tiers] == [(), (), ()]
    assert usual.last_tier == "none"
    assert usual.lookups_of("gold") == ()
