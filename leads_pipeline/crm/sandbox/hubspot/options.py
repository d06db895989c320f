"""HubSpot accounts: their own options, and the account that a destination of leads.yaml expects."""

from dataclasses import dataclass, replace
from typing import ClassVar, Self

from leads_pipeline.config import HubSpotSettings, SecretRef
from leads_pipeline.crm.sandbox.hubspot.properties import names_beyond
from leads_pipeline.crm.sandbox.options import SandboxOptions


@dataclass(frozen=True, slots=True)
class HubSpotOptions(SandboxOptions):
    """A HubSpot account. The defaults are those of the free tier."""

    vendor: ClassVar[str] = "hubspot"

    token_seconds: float = 1800.0
    requests: int | None = 100
    daily: int | None = 250_000
    # ``None`` is no limit.
    search_per_second: int | None = 5
    # HubSpot documents no Retry-After on a 429 (facts: not known); clients must live with and without.
    retry_after: bool = False
    # The specification says that results repeat the trace id; recorded answers of batch create do not.
    echo_trace_ids: bool = True
    # A merge usually makes a third id; accounts in a beta keep the primary one.
    merge_keeps_primary_id: bool = False
    # The search index lags behind writes, which is why search-then-create doubles records.
    search_lag_seconds: float = 2.0

    def without_limits(self) -> Self:
        """See ``SandboxOptions.without_limits``."""
        return replace(SandboxOptions.without_limits(self), search_per_second=None)


def account_for(settings: HubSpotSettings) -> HubSpotOptions:
    """An account that has the properties which a destination fills in."""
    return HubSpotOptions(key_property=settings.key_property, custom_properties=names_beyond(settings.properties()))


def secrets_of(settings: HubSpotSettings) -> tuple[SecretRef, ...]:
    """What a client shows; the first is what the sandbox demands."""
    return (settings.token,)
