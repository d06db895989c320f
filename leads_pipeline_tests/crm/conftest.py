"""A sandbox CRM over real HTTP."""

from collections.abc import Iterator

import pytest

from leads_pipeline.crm.sandbox.hubspot.options import HubSpotOptions
from leads_pipeline.crm.sandbox.running import SandboxServer, running_sandbox
from leads_pipeline_tests.crm.delivering import TOKEN

pytest.register_assert_rewrite("leads_pipeline_tests.crm.contract")


@pytest.fixture
def sandbox() -> Iterator[SandboxServer]:
    """HubSpot's sandbox with no limits."""
    with running_sandbox(HubSpotOptions(token=TOKEN).without_limits()) as server:
        yield server
