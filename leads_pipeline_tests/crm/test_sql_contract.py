"""A table keeps the contract of every destination, over real PostgreSQL.

It has no ids of its own, no differences, nobody who makes records of ours, no requests that are refused without saying
of which row, and no quota: those contracts are absent.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack

import pytest

from leads_pipeline.domain.delivery import Verdict
from leads_pipeline.sandbox.faults import FaultKind
from leads_pipeline_tests.crm.contract import (
    BadRecordContract,
    CredentialsContract,
    FieldsContract,
    FullBatchContract,
    LifeContract,
    LockContract,
    ReachContract,
    SchemaContract,
    SilenceContract,
    TroubleContract,
    WholeContract,
)
from leads_pipeline_tests.crm.played_table import PlayedTable


@pytest.fixture
def vendor(
    request: pytest.FixtureRequest, empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[PlayedTable]:
    archive = "delete" if request.cls is TestDeletedRows else "mark"
    with ExitStack() as stack:
        yield PlayedTable(empty_database_url, stack, monkeypatch, archive=archive)


class TestMarkedRows(
    LifeContract, WholeContract, FullBatchContract, BadRecordContract, FieldsContract, SchemaContract, TroubleContract,
    ReachContract, CredentialsContract, LockContract, SilenceContract,
):  # fmt: skip
    """Rows of contacts that are no more are marked."""

    # A transaction of which nobody knows whether it was committed; one that nobody could begin.
    TROUBLES: Sequence[tuple[FaultKind, Verdict, bool]] = (
        (FaultKind.RESET_CONNECTION, Verdict.AMBIGUOUS, False),
        (FaultKind.TIMEOUT, Verdict.AMBIGUOUS, False),
        (FaultKind.WRITTEN_THEN_RESET, Verdict.AMBIGUOUS, True),
        (FaultKind.WRITTEN_THEN_TIMEOUT, Verdict.AMBIGUOUS, True),
    )
    INTERRUPTIONS = (FaultKind.HTTP_503, FaultKind.RESET_CONNECTION, FaultKind.WRITTEN_THEN_RESET)


class TestDeletedRows(LifeContract, WholeContract):
    """Rows of contacts that are no more are deleted."""
