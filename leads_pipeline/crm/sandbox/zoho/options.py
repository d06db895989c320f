"""Organisations at Zoho CRM: their own options, and the one that a destination of leads.yaml expects."""

from dataclasses import dataclass, replace
from typing import ClassVar, Self

from leads_pipeline.config import SecretRef, ZohoSettings
from leads_pipeline.crm.sandbox.options import SandboxOptions, Window
from leads_pipeline.crm.sandbox.zoho.fields import names_beyond

CREDIT_SECONDS = 86_400.0  # on end, and not a day of the calendar
# The free edition's.
FREE_CREDITS = 5_000
FREE_CONCURRENCY = 5


@dataclass(frozen=True, slots=True)
class ZohoOptions(SandboxOptions):
    """An organisation. The defaults are those of the free edition; ``token`` is the refresh token that it demands.

    ``credits``, ``concurrency`` and ``many_records_at_once`` of ``None`` are no limit.
    """

    vendor: ClassVar[str] = "zoho"

    key_property: str = "Lead_Key"
    credits: int | None = FREE_CREDITS
    concurrency: int | None = FREE_CONCURRENCY
    many_records_at_once: int | None = 10  # writes of more than ten records, in every edition
    # Of a refresh token: more are refused, and one more that lives ends the oldest.
    tokens_in_ten_minutes: int = 10
    living_tokens: int = 15
    # The module's setting "Do not allow duplicate values" for Email; off in a new organisation.
    unique_email: bool = False
    # What a batch of which only a part was written is answered; both were seen.
    partial_status: int = 207

    @property
    def windows(self) -> tuple[Window, ...]:
        """Zoho counts no requests: its first window holds credits."""
        return (Window(self.credits, CREDIT_SECONDS), *self.more_windows)

    def limits_shown(self) -> str:
        """See ``SandboxOptions.limits_shown``."""
        shown = [] if self.credits is None else [f"{self.credits:,} credits / 24 h"]
        shown += [] if self.concurrency is None else [f"{self.concurrency} at once"]
        return ", ".join(shown) or "no limits"

    def without_limits(self) -> Self:
        """See ``SandboxOptions.without_limits``. Those of tokens stay."""
        free = SandboxOptions.without_limits(self)
        return replace(free, credits=None, concurrency=None, many_records_at_once=None)


def account_for(settings: ZohoSettings) -> ZohoOptions:
    """An organisation whose module has the fields that a destination fills in, with the credits that it counts on."""
    limits = settings.limits
    rolling = (item.credits for item in limits.windows if item.credits is not None and item.seconds == CREDIT_SECONDS)
    return ZohoOptions(
        key_property=settings.key_property,
        custom_properties=names_beyond(settings.properties()),
        credits=next(rolling, FREE_CREDITS),
        concurrency=limits.shared_in_flight or FREE_CONCURRENCY,
    )


def secrets_of(settings: ZohoSettings) -> tuple[SecretRef, ...]:
    """What a client shows; the first is what the sandbox demands."""
    return (settings.refresh_token, settings.client_secret)
