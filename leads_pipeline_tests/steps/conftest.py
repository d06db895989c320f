"""What the tests of look-ups share: the provider that they ask, and leads.yaml's word about it."""

from collections.abc import Iterator

import pytest

from leads_pipeline.clock import FrozenClock
from leads_pipeline.config import VerificationSettings
from leads_pipeline.verification.sandbox.options import ProviderOptions
from leads_pipeline.verification.sandbox.running import ProviderSandbox, running_provider_sandbox
from leads_pipeline_tests.steps.verifying import KEY, KEY_VARIABLE, provider, verification


@pytest.fixture(autouse=True)
def _provider_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_VARIABLE, KEY)


@pytest.fixture
def zerobounce(clock: FrozenClock) -> Iterator[ProviderSandbox]:
    """The provider of these tests; it goes by their clock."""
    with running_provider_sandbox(ProviderOptions("zerobounce", key=KEY), clock=clock) as sandbox:
        yield sandbox


@pytest.fixture
def usual(zerobounce: ProviderSandbox) -> VerificationSettings:
    """The provider alone, at a cent a look-up."""
    return verification({"zb": provider(zerobounce.base_url, cost_per_lookup=0.01)})
