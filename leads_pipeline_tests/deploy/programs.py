"""What checks the files of ``deploy`` and pip does not bring."""

import shutil

import pytest

MISSING = "promtool is not on the PATH; install it: apt-get install --no-install-recommends prometheus"


@pytest.fixture(scope="session")
def promtool() -> str:
    """Prometheus' own checker."""
    found = shutil.which("promtool")
    if found is None:
        pytest.skip(MISSING)
    return found


@pytest.fixture(scope="session")
def prometheus(promtool: str) -> str:
    """Prometheus itself, which comes in one package with its checker."""
    found = shutil.which("prometheus")
    if found is None:
        pytest.skip(MISSING)
    return found
