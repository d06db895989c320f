"""Asking a vendor for one lead, beside others who spend the same account's quota."""

import threading
from collections.abc import Sequence

import pytest
import sqlalchemy as sa
from pydantic import SecretStr

from leads_pipeline.clock import FrozenClock
from leads_pipeline.config import RequestLimits, SourceSettings
from leads_pipeline.outbound.gate import Gate
from leads_pipeline.outbound.limiter import Grant, Limiter
from leads_pipeline.sources.fetching import HubSpotContacts, LeadFetcher


class _Unaskable(HubSpotContacts):
    """A vendor that does not know how to ask for some lead."""

    def path(self, reference: str, settings: SourceSettings, also: Sequence[str] = ()) -> str:
        raise ValueError(reference)


def test_a_lead_that_cannot_be_asked_for_keeps_no_place_among_the_requests_under_way(
    engine: sa.Engine, clock: FrozenClock
) -> None:
    limits = RequestLimits(windows=(), daily=None, shared_in_flight=1)
    limiter = Limiter(engine, account="a", limits=limits)
    gate = Gate(limiter, clock=clock, deadline=60, stopping=threading.Event())
    fetcher = LeadFetcher(_Unaskable(), SourceSettings(), token=SecretStr("t"), clock=clock, gate=gate)
    with fetcher, pytest.raises(ValueError, match="1"):
        fetcher.fetch("1")
    assert isinstance(limiter.acquire(), Grant)
