"""Fixtures for the tests of the HTTP door."""

from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from leads_pipeline.clock import FrozenClock
from leads_pipeline.config import Settings
from leads_pipeline_tests.capture.running import Capture, capture_service


@pytest.fixture
def capture(settings: Settings, database_url: str, engine: sa.Engine, clock: FrozenClock) -> Iterator[Capture]:
    """A service with the settings' own limits."""
    with capture_service(settings, database_url=database_url, engine=engine, clock=clock) as running:
        yield running
