"""Everything that leads.yaml may say; its larger parts have modules of their own."""

from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, PrivateAttr, field_validator, model_validator

from leads_pipeline.config.alerts import AlertSettings
from leads_pipeline.config.analytics import AnalyticsSettings
from leads_pipeline.config.base import Model, Name, Network, SecretRef
from leads_pipeline.config.default_policies import with_defaults
from leads_pipeline.config.delivery import DeliverySettings, RetrySettings
from leads_pipeline.config.destinations import Destination
from leads_pipeline.config.matching import MatchingSettings
from leads_pipeline.config.objectives import SloSettings
from leads_pipeline.config.policies import PolicySettings
from leads_pipeline.config.sources import KeyRate, SourceSettings
from leads_pipeline.config.survivorship import Rules, SurvivorshipSettings
from leads_pipeline.config.validation import ValidationSettings
from leads_pipeline.config.verification import VerificationSettings

DEFAULT_CONFIG_NAME = "leads.yaml"


class TenantSettings(Model):
    """One business whose leads are kept apart from all others."""

    description: str = Field("", description="For people; shown nowhere else.")
    country: Annotated[str, Field(pattern=r"^[A-Z]{2}$")] = Field("US", description="ISO 3166 code of the home market.")
    sources: Annotated[dict[Name, SourceSettings], Field(min_length=1, description="Its ways in, by name.")]
    destinations: tuple[Name, ...] = Field((), description="Where its contacts must be delivered.")
    validation: ValidationSettings = Field(
        ValidationSettings(),
        description="Its own lists: they are added to everybody's, and hold where the two disagree.",
    )
    survivorship: SurvivorshipSettings | None = Field(
        None, description="Its own rules of the groups that it names; survivorship of the others."
    )


class LookupRate(KeyRate):
    """How often one key of scope lookup may ask: people who look up a caller, not a copy of all contacts."""

    requests: Annotated[int, Field(gt=0, description="Requests in any so many seconds, on average.")] = 50
    burst: Annotated[int, Field(ge=0)] = Field(100, description="Requests beyond it that may come at once.")


class LookupSettings(Model):
    """What teams may ask of contacts. Without a key of scope lookup nobody can."""

    enabled: bool = Field(True, description="Serve /v1/contacts/lookup to keys of scope lookup.")
    rate: LookupRate = Field(LookupRate(), description="For each such key; beyond it 429.")


class CaptureSettings(Model):
    """The HTTP door."""

    host: str = Field("127.0.0.1", min_length=1, description="Address to listen on.")
    port: Annotated[int, Field(ge=0, le=65535)] = Field(8080, description="Port to listen on.")
    max_body_bytes: Annotated[int, Field(gt=0)] = Field(1_048_576, description="Largest body of one lead; else 413.")
    max_batch_body_bytes: Annotated[int, Field(gt=0)] = Field(16_777_216, description="Largest body of a batch.")
    max_batch_leads: Annotated[int, Field(gt=0)] = Field(10_000, description="Most leads in a batch; else 413.")
    max_queued_leads: Annotated[int, Field(gt=0)] = Field(20_000, description="Beyond it: 503 with Retry-After.")
    max_bytes_under_way: Annotated[int, Field(gt=0)] = Field(
        268_435_456, description="Bodies being received or waiting for their commit, together; beyond it 503."
    )
    body_seconds: Annotated[float, Field(gt=0, le=600)] = Field(10, description="A body must come in it; else 408.")
    headers_seconds: Annotated[float, Field(gt=0, le=600)] = Field(
        10, description="A connection that has not sent a request's headers by then is closed."
    )
    workers: Annotated[int, Field(gt=0, le=64)] = Field(
        1, description="Processes that share the port; each has its own queue, body bytes and connections."
    )
    rate: KeyRate = Field(KeyRate(), description="For each API key and each signed source; beyond it 429.")
    max_connections: Annotated[int, Field(gt=0)] = Field(
        10_000, description="Open connections; a request on one beyond it is answered 503."
    )
    trusted_proxies: tuple[Network, ...] = Field(
        ("127.0.0.1/32",),
        description="Proxies whose X-Forwarded-For tells a person's own address: theirs, or networks.",
    )
    lookup: LookupSettings = Field(LookupSettings(), description="What teams may ask of contacts.")
    metrics: bool = Field(True, description="Serve /metrics for Prometheus: counts and ages, nothing personal.")
    example_page: bool = Field(True, description="Serve the page /example, which posts with leads.js.")


class RedisSettings(Model):
    """A Redis or Valkey server that holds the buffer."""

    url: SecretRef = Field(description="Names the variable that holds redis://… or rediss://….")
    prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,40}$")] = Field("leads", description="Of every key's name.")
    accept_losing_a_second: bool = Field(
        False, description="Start also on a server that is not 'appendfsync always'; a crash may then lose leads."
    )


class BoundsSettings(Model):
    """How much may wait in the buffer. Near a bound imports slow down; at it the batch lane is refused first."""

    max_leads: Annotated[int, Field(gt=0)] = Field(5_000_000, description="Leads that wait, of all tenants.")
    max_age_hours: Annotated[float, Field(gt=0)] = Field(72, description="Age of the oldest lead that waits.")
    min_free_disk_bytes: Annotated[int, Field(ge=0)] = Field(
        1_073_741_824, description="Free space where the database, or Redis, keeps its files; 0: not watched."
    )
    disk_path: str | None = Field(
        None, description="A directory on that disk; the embedded server's own if unset, none for a remote server."
    )


class BufferSettings(Model):
    """Where leads wait between the door and the pipeline."""

    kind: Literal["postgresql", "redis"] = Field("postgresql", description="Which implementation takes new leads.")
    redis: RedisSettings | None = Field(
        None, description="Needed for kind redis; while it stands here the other buffer's rest is drained too."
    )
    bounds: BoundsSettings = BoundsSettings()

    @model_validator(mode="after")
    def _redis_is_described(self) -> Self:
        if self.kind == "redis" and self.redis is None:
            raise ValueError("kind redis needs redis: {url: {env: NAME}}")
        return self


class MetricsSettings(Model):
    """Where ``leads metrics serve`` and ``leads dev`` tell Prometheus the pipeline's numbers."""

    host: str = Field("127.0.0.1", min_length=1, description="Address to listen on.")
    port: Annotated[int, Field(gt=0, le=65535)] = Field(9464, description="Port to listen on.")


class DatabaseSettings(Model):
    """How long PostgreSQL lets one of our sessions be in everybody's way. Imports and rebuilds stay far below."""

    statement_seconds: Annotated[float, Field(ge=0)] = Field(7_200, description="One statement; 0: without end.")
    lock_seconds: Annotated[float, Field(ge=0)] = Field(
        1_800, description="A statement's wait for what another session holds; 0: without end."
    )
    idle_transaction_seconds: Annotated[float, Field(ge=0)] = Field(
        3_600, description="A transaction in which nothing happens, as of a process that hangs; 0: without end."
    )


class PipelineSettings(Model):
    """How work is cut."""

    chunk_size: Annotated[int, Field(gt=0, le=20_000)] = Field(
        1_000, description="Leads in one transaction of a step, at most, while more of them wait."
    )
    first_chunk_size: Annotated[int, Field(gt=0, le=20_000)] = Field(
        250, description="Of a tenant's first chunk at a stage; it doubles up to chunk_size while chunks come full."
    )
    run_seconds: Annotated[float, Field(gt=0)] = Field(
        300, description="A stage stops taking new chunks after this long; the next run goes on."
    )


class RetentionSettings(Model):
    """How long bookkeeping is kept."""

    ingest_keys_days: Annotated[int, Field(gt=0)] = Field(
        30, description="How long a re-post of the same lead is recognised."
    )
    slo_history_days: Annotated[int, Field(ge=31)] = Field(
        400,
        description="How long it is kept what promises came to; after two days each change, and of every hour the "
        "worst row and the last.",
    )
    runs_days: Annotated[int, Field(gt=0)] = Field(
        7, description="Dagster's runs of jobs that start all day: near_real_time, delivery, verification."
    )
    check_runs_days: Annotated[int, Field(gt=0)] = Field(2, description="Runs of slo_checks.")
    other_runs_days: Annotated[int, Field(gt=0)] = Field(30, description="Runs of all other jobs.")
    failed_runs_days: Annotated[int, Field(gt=0)] = Field(30, description="Runs that failed, of any job.")
    runs_kept_per_job: Annotated[int, Field(ge=0, le=1_000)] = Field(
        20, description="So many newest runs of each job are kept, however old."
    )


class Settings(Model):
    """Everything that leads.yaml may say."""

    version: Literal[1] = Field(1, description="Of this file's format.")
    state_dir: str = Field(".leads", description="Where embedded servers keep their files; relative to this file.")
    tenants: Annotated[dict[Name, TenantSettings], Field(min_length=1)]
    destinations: dict[Name, Destination] = Field(default_factory=dict)
    capture: CaptureSettings = CaptureSettings()
    buffer: BufferSettings = BufferSettings()
    database: DatabaseSettings = DatabaseSettings()
    pipeline: PipelineSettings = PipelineSettings()
    validation: ValidationSettings = ValidationSettings()
    verification: VerificationSettings = VerificationSettings()
    matching: MatchingSettings = MatchingSettings()
    survivorship: SurvivorshipSettings = SurvivorshipSettings()
    delivery: DeliverySettings = DeliverySettings()
    retry: RetrySettings = RetrySettings()
    slos: SloSettings = Field(default_factory=lambda: SloSettings.model_validate({}))
    policies: dict[Name, PolicySettings] = Field(
        default_factory=lambda: {name: PolicySettings.model_validate(rule) for name, rule in with_defaults({}).items()},
        description="Rules that act on what is measured, beside those that are shipped; the same name changes one.",
    )
    alerts: AlertSettings = AlertSettings()
    metrics: MetricsSettings = MetricsSettings()
    retention: RetentionSettings = RetentionSettings()
    analytics: AnalyticsSettings = AnalyticsSettings()

    _path: Path = PrivateAttr(default=Path(DEFAULT_CONFIG_NAME))

    @field_validator("policies", mode="before")
    @classmethod
    def _shipped_rules_stay(cls, value: object) -> object:
        return with_defaults(value) if isinstance(value, dict) else value

    @model_validator(mode="after")
    def _rules_lower_tiers_that_exist(self) -> Self:
        tiers = list(self.verification.tiers)
        for name, rule in self.policies.items():
            for key in ("tier", "to"):
                tier = getattr(rule.then, key)
                if tier is not None and tier not in tiers:
                    raise ValueError(f"policies.{name}.then.{key} names {tier!r}; defined tiers: {', '.join(tiers)}")
            tier, lower = rule.then.tier, rule.then.to
            if lower is not None and tiers.index(lower) <= tiers.index(tier or tiers[0]):
                raise ValueError(
                    f"policies.{name}.then.to = {lower!r} is not lower than {tier or tiers[0]!r}; "
                    f"the order, most thorough first: {', '.join(tiers)}"
                )
        return self

    @model_validator(mode="after")
    def _destinations_exist(self) -> Self:
        known = ", ".join(sorted(self.destinations)) or "none"
        for tenant, settings in self.tenants.items():
            for destination in settings.destinations:
                if destination not in self.destinations:
                    raise ValueError(f"tenants.{tenant}.destinations names {destination!r}; defined: {known}")
        return self

    @model_validator(mode="after")
    def _promises_are_about_tenants_that_exist(self) -> Self:
        for name, promise in self.slos.objectives.items():
            if promise is not None and promise.tenant is not None and promise.tenant not in self.tenants:
                known = ", ".join(sorted(self.tenants))
                raise ValueError(f"slos.objectives.{name}.tenant = {promise.tenant!r}; defined: {known}")
        return self

    @model_validator(mode="after")
    def _requests_can_be_verified(self) -> Self:
        for tenant, settings in self.tenants.items():
            for name, source in settings.sources.items():
                wanted = source.verify_in_request
                if wanted is not None and "mx" in wanted.lookups and not self.verification.mx.enabled:
                    raise ValueError(
                        f"tenants.{tenant}.sources.{name}.verify_in_request looks up mx, and verification.mx.enabled "
                        "is false; allowed: enable it, or lookups: [] for the local checks alone"
                    )
        return self

    @model_validator(mode="after")
    def _costs_are_of_what_exists(self) -> Self:
        for place, cost in enumerate(self.analytics.cost_per_lead):
            tenant = self.tenants.get(cost.tenant)
            if tenant is None:
                known = ", ".join(sorted(self.tenants))
                raise ValueError(f"analytics.cost_per_lead[{place}].tenant is {cost.tenant!r}; allowed: {known}")
            if cost.source is not None and cost.source not in tenant.sources:
                known = ", ".join(sorted(tenant.sources))
                raise ValueError(f"analytics.cost_per_lead[{place}].source is {cost.source!r}; allowed: {known}")
        return self

    @model_validator(mode="after")
    def _accounts_have_one_limit(self) -> Self:
        """Two limits would be two ways to count one quota, and the larger would win."""
        first_of: dict[str, str] = {}
        for name, settings in self.destinations.items():
            first = first_of.setdefault(settings.account, name)
            if not settings.limits.same_quota(self.destinations[first].limits):
                raise ValueError(
                    f"destinations.{name}.limits differ from destinations.{first}.limits, and both spend the quota of "
                    f"the account {settings.account!r}; allowed: the same limits; only in_flight may differ"
                )
        return self

    @model_validator(mode="after")
    def _channels_name_tenants(self) -> Self:
        for name, channel in self.alerts.channels.items():
            if unknown := [tenant for tenant in channel.tenants if tenant not in self.tenants]:
                known = ", ".join(sorted(self.tenants))
                raise ValueError(f"alerts.channels.{name}.tenants names {unknown[0]!r}; defined: {known}")
        return self

    @property
    def path(self) -> Path:
        """The file that these settings came from."""
        return self._path

    @cached_property
    def state_path(self) -> Path:
        """The absolute directory of embedded servers' files."""
        return (self._path.parent / self.state_dir).resolve()

    def source(self, tenant: str, source: str) -> SourceSettings | None:
        """The settings of a source, or ``None`` if the tenant or the source is not configured."""
        tenant_settings = self.tenants.get(tenant)
        return tenant_settings.sources.get(source) if tenant_settings else None

    def mailbox_lists(self, tenant: str) -> dict[str, frozenset[str]]:
        """What the file says of mail domains and mailboxes for a tenant; what it says for all, if it knows it not."""
        tenant_settings = self.tenants.get(tenant)
        return self.validation.lists(tenant_settings.validation if tenant_settings else None)

    def survivorship_rules(self, tenant: str) -> dict[str, Rules]:
        """By which rules each group of a tenant's golden contacts survives; as for all, if it is not configured."""
        tenant_settings = self.tenants.get(tenant)
        return self.survivorship.rules(tenant_settings.survivorship if tenant_settings else None)

    def secrets(self) -> dict[str, SecretRef]:
        """Every secret that the file refers to, by the path of its key."""
        found: dict[str, SecretRef] = {}
        for name, destination in self.destinations.items():
            found |= {f"destinations.{name}.{key}": secret for key, secret in destination.secrets().items()}
        for tenant, settings in self.tenants.items():
            for name, source in settings.sources.items():
                for key in ("secret", "verify_token", "access_token"):
                    reference = getattr(source, key)
                    if reference is not None:
                        found[f"tenants.{tenant}.sources.{name}.{key}"] = reference
        for name, provider in self.verification.providers.items():
            if provider.key is not None:
                found[f"verification.providers.{name}.key"] = provider.key
        for name, channel in self.alerts.channels.items():
            found[f"alerts.channels.{name}.url"] = channel.url
        if self.buffer.redis is not None:
            found["buffer.redis.url"] = self.buffer.redis.url
        return found
