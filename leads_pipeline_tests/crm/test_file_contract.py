"""A folder of files keeps the contract of every destination, in both formats, as its reader sees it.

It judges no values, has no ids, fields, differences, conflicts, locks or quota, and answers for a whole file: those
contracts are absent. What a disk may do to a request is that it is full, or gone.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from leads_pipeline.domain.delivery import Verdict
from leads_pipeline.sandbox.faults import FaultKind
from leads_pipeline_tests.crm.contract import (
    CredentialsContract,
    FullBatchContract,
    LifeContract,
    OpenSchemaContract,
    SilenceContract,
    TroubleContract,
    WholeContract,
)
from leads_pipeline_tests.crm.played_folder import PlayedFolder


@pytest.fixture
def vendor(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[PlayedFolder]:
    with ExitStack() as stack:
        yield PlayedFolder(tmp_path / "out", stack, format_="csv" if request.cls is TestCsv else "ndjson")


class TestNdjson(
    LifeContract, WholeContract, FullBatchContract, OpenSchemaContract, TroubleContract, CredentialsContract,
    SilenceContract,
):  # fmt: skip
    """A JSON document a line."""

    TROUBLES: Sequence[tuple[FaultKind, Verdict, bool]] = ((FaultKind.HTTP_503, Verdict.TRANSIENT, False),)
    INTERRUPTIONS = (FaultKind.HTTP_503,)


class TestCsv(TestNdjson):
    """A table with a header."""
