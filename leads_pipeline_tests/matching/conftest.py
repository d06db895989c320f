"""The shipped model, loaded once."""

import pytest

from leads_pipeline.matching.scoring import PairScorer


@pytest.fixture(scope="session")
def scorer() -> PairScorer:
    return PairScorer.load()
