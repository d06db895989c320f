"""A webhook keeps the contract of every destination, with one event a request and with lists of them.

It has no ids of its own, no fields, no differences, no conflicts of its own and tells nothing of a quota: those
contracts are absent.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from typing import Any
from uuid import UUID

import pytest

from leads_pipeline.config import SecretRef, WebhookSettings
from leads_pipeline.crm.clients import BUILDERS
from leads_pipeline.crm.port import CrmClient
from leads_pipeline.domain.delivery import Verdict
from leads_pipeline.outbound.access_tokens import MemoryTokens
from leads_pipeline.sandbox.faults import FaultKind
from leads_pipeline_tests.crm.contract import (
    BadRecordContract,
    BisectionContract,
    CredentialsContract,
    FullBatchContract,
    Held,
    LifeContract,
    LimitContract,
    LockContract,
    OpenSchemaContract,
    ReachContract,
    ReportContract,
    SilenceContract,
    TroubleContract,
    WholeContract,
)
from leads_pipeline_tests.crm.played_receiver import SECRET, Receiver, receiving

BATCH = 20


class PlayedWebhook:
    """A receiver, as the contract sees a vendor."""

    names: Mapping[str, str] = {name: name for name in ("email", "first_name", "last_name", "company")}
    key = "contact_id"

    def __init__(self, receiver: Receiver, stack: ExitStack) -> None:
        self.receiver = receiver
        self._stack = stack

    def client(self, *, timeout_seconds: float = 5, base_url: str | None = None) -> CrmClient:
        settings = WebhookSettings(
            vendor="webhook",
            account="receiver",
            url=base_url or self.receiver.url,
            secret=SecretRef(env="LEADS_WEBHOOK_SECRET"),
            batch_size=BATCH if self.receiver.batches else 1,
            timeout_seconds=timeout_seconds,
        )
        return self._stack.enter_context(closing(BUILDERS["webhook"](settings, MemoryTokens())))

    def held(self) -> dict[UUID, Held]:
        return {UUID(key): Held(None, properties) for key, properties in self.receiver.held().items()}

    def made_by_people(self, **fields: str) -> str:
        raise NotImplementedError("a receiver has no records of its own")

    def count(self) -> int:
        return len(self.receiver.held())

    def limited(self, requests: int) -> None:
        raise NotImplementedError("a receiver tells no limits")

    def fail(self, *rules: Mapping[str, Any]) -> None:
        self.receiver.fail(*rules)


@pytest.fixture
def vendor(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[PlayedWebhook]:
    monkeypatch.setenv("LEADS_WEBHOOK_SECRET", SECRET)
    with ExitStack() as stack:
        receiver = stack.enter_context(receiving(batches=request.cls is TestLists))
        yield PlayedWebhook(receiver, stack)


class TestLists(
    LifeContract, WholeContract, FullBatchContract, BadRecordContract, BisectionContract, ReportContract,
    OpenSchemaContract, TroubleContract, ReachContract, CredentialsContract, LockContract, SilenceContract,
    LimitContract,
):  # fmt: skip
    """Lists of events, with a result for each."""


class TestSingleEvents(
    LifeContract, WholeContract, OpenSchemaContract, TroubleContract, ReachContract, CredentialsContract, LockContract,
    SilenceContract, LimitContract,
):  # fmt: skip
    """One event a request: an answer of 2xx is its result, so that an empty one is no trouble."""

    TOGETHER = 1
    TROUBLES: Sequence[tuple[FaultKind, Verdict, bool]] = tuple(
        trouble for trouble in TroubleContract.TROUBLES if trouble[0] is not FaultKind.SILENT_200
    )
    INTERRUPTIONS = (FaultKind.HTTP_503, FaultKind.WRITTEN_THEN_RESET)
