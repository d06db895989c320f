"""Salesforce orgs: their own options, and the org that a destination of leads.yaml expects."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Self

from leads_pipeline.config import SalesforceSettings, SecretRef
from leads_pipeline.crm.sandbox.options import SandboxOptions
from leads_pipeline.crm.sandbox.salesforce.fields import names_beyond

DAY_SECONDS = 86_400.0
# A call that has lasted so long takes one of the places for long calls.
LONG_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class SalesforceOptions(SandboxOptions):
    """An org. The defaults are those of Enterprise Edition without a licence beyond its base: 100,000 in 24 hours.

    ``token`` and ``other_tokens`` are the secrets of connected apps; access tokens are given for them.
    """

    vendor: ClassVar[str] = "salesforce"

    token_seconds: float = 7200.0  # the session time-out that an org begins with
    requests: int | None = 100_000
    window_seconds: float = DAY_SECONDS
    key_property: str = "Lead_Key__c"
    # What a client must call itself; ``None``: anything.
    consumer_key: str | None = None
    # PEM file with the certificate or public key of JWT assertions; ``None``: their signatures are not looked at.
    certificate: Path | None = None
    # Whether a rule of the org refuses records whose e-mail another record of the object has.
    duplicate_rule: bool = False
    # Whether the key's field is unique; if not, two records may hold one key, and an upsert by it matches several.
    unique_key: bool = True
    # How long a bulk job takes.
    job_seconds: float = 0.0
    # Long calls that may run at once: 25 in production, 5 in developer editions; ``None``: no limit.
    long_calls: int | None = 25

    def without_limits(self) -> Self:
        """See ``SandboxOptions.without_limits``."""
        return replace(SandboxOptions.without_limits(self), long_calls=None)


def account_for(settings: SalesforceSettings) -> SalesforceOptions:
    """An org that has the fields which a destination fills in."""
    return SalesforceOptions(
        key_property=settings.key_property,
        custom_properties=names_beyond(settings.properties(), object_type=settings.object_type),
    )


def secrets_of(settings: SalesforceSettings) -> tuple[SecretRef, ...]:
    """What a client shows; a private key cannot be made up."""
    return () if settings.client_secret is None else (settings.client_secret,)
