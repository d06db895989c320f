"""``leads.yaml`` and the environment, read once, validated whole, frozen.

The only module that reads the environment. A door (CLI, capture, a Dagster code location) calls ``load_settings`` and
passes values down. Secrets stand in the file as ``{env: NAME}`` only and are resolved when they are needed.

Environment: ``LEADS_CONFIG`` (path of the file), ``LEADS_DATABASE_URL`` (a PostgreSQL to use instead of the embedded
one), and the names that the file refers to.
"""

import ipaddress
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo, available_timezones

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)

from leads_pipeline.errors import ConfigError
from leads_pipeline.patterns import fault_of

CONFIG_VARIABLE = "LEADS_CONFIG"
DATABASE_URL_VARIABLE = "LEADS_DATABASE_URL"
DEFAULT_CONFIG_NAME = "leads.yaml"

_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")


def _valid_name(value: str) -> str:
    if not _NAME.fullmatch(value):
        raise ValueError("allowed: a lower-case letter, then up to 62 lower-case letters, digits or underscores")
    return value


def _valid_time_zone(value: str) -> str:
    if value not in available_timezones():
        raise ValueError("allowed: an IANA time zone such as UTC or Europe/Vienna")
    return value


# The golden contact's fields that a CRM may be sent; a test compares them with the domain's.
DELIVERABLE_FIELDS = (
    "email", "phone", "first_name", "last_name", "company", "job_title", "date_of_birth",
    "address", "city", "state", "postcode", "country", "first_source", "last_source", "first_seen_at", "last_seen_at",
)  # fmt: skip


def _valid_network(value: str) -> str:
    try:
        return str(ipaddress.ip_network(value, strict=False))
    except ValueError:
        raise ValueError("allowed: an IP address or a network such as 10.0.0.0/8") from None


def _deliverable_field(value: str) -> str:
    if value not in DELIVERABLE_FIELDS:
        raise ValueError(f"not a field of a golden contact; allowed: {', '.join(DELIVERABLE_FIELDS)}")
    return value


Name = Annotated[str, AfterValidator(_valid_name)]
TimeZone = Annotated[str, AfterValidator(_valid_time_zone)]
Network = Annotated[str, AfterValidator(_valid_network)]
LaneName = Literal["real_time", "near_real_time", "batch"]
_MAX_PENDING: dict[LaneName, float] = {"real_time": 120.0, "near_real_time": 600.0, "batch": 86_400.0}
Fraction = Annotated[float, Field(ge=0, le=1)]
Transform = Literal["strip", "lower", "upper", "digits", "first_word", "last_word", "after_first_word"]


class Model(BaseModel):
    """A frozen part of the configuration that knows no other keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)


class SecretRef(Model):
    """A secret, named by the environment variable that holds it."""

    env: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", description="Name of an environment variable.")]

    def resolve(self) -> SecretStr:
        """The secret's value.

        Raises:
            ConfigError: the variable is not set or empty.
        """
        value = os.environ.get(self.env, "")
        if not value:
            raise ConfigError(f"the environment variable {self.env} is not set; leads.yaml refers to it as a secret")
        return SecretStr(value)


SourceKind = Literal[
    "json",
    "form",
    "hubspot",
    "meta",
    "google_ads",
    "typeform",
    "standard_webhooks",
    "contact_form_7",
    "gravity_forms",
    "wpforms",
]
# Whose requests prove themselves with a secret shared with the vendor; the others carry an API key of ours.
SIGNED_KINDS: frozenset[SourceKind] = frozenset({"hubspot", "meta", "google_ads", "typeform", "standard_webhooks"})
_ORIGIN = r"^(https?://[^/*]+|\*)$"
_WEB_ADDRESS = r"^https?://"
_PATTERNS_IN_WORDS = {
    _ORIGIN: "must be a site without a path, such as https://www.example.com, or '*'",
    _WEB_ADDRESS: "must begin with https:// or http://",
    r"^[A-Z]{2}$": "must be a code of two capital letters, such as US",
}
_KINDS_THAT_HEED: dict[str, frozenset[SourceKind]] = {
    "secret": SIGNED_KINDS,
    "verify_token": frozenset({"meta"}),
    "access_token": frozenset({"meta", "hubspot"}),
    "api_url": frozenset({"meta", "hubspot"}),
    "public_url": frozenset({"hubspot"}),
    "redirects": frozenset({"form"}),
}


# The canonical fields of a lead; a test compares them with the domain's.
LEAD_FIELDS = (
    "email", "phone", "first_name", "last_name", "full_name", "company", "job_title", "date_of_birth", "address",
    "city", "state", "postcode", "country", "external_id", "message", "lead_source", "campaign", "utm_source",
    "utm_medium", "landing_page",
)  # fmt: skip


def _lead_field(value: str) -> str:
    if value not in LEAD_FIELDS:
        raise ValueError(f"not a field of a lead; allowed: {', '.join(LEAD_FIELDS)}")
    return value


def _valid_pattern(value: str) -> str:
    if (fault := fault_of(value)) is not None:
        raise ValueError(fault)
    return value


def _as_browsers_write_it(origin: str) -> str:
    """A browser names a site in lower case and without its scheme's own port."""
    origin = origin.lower()
    return origin.removesuffix(":443" if origin.startswith("https:") else ":80")


LeadField = Annotated[str, AfterValidator(_lead_field)]
FieldPath = Annotated[
    str,
    Field(min_length=1, max_length=200, description="A field as `leads sources test` shows it, such as address.city."),
]


class FieldMappingSettings(Model):
    """Where a canonical field's value comes from."""

    path: FieldPath | tuple[FieldPath, ...] = Field((), description="The source's field; of several the first filled.")
    default: str | None = Field(None, description="The value where the source sends none.")
    transform: tuple[Transform, ...] = Field((), description="Applied to the value, in this order.")

    @property
    def paths(self) -> tuple[str, ...]:
        return (self.path,) if isinstance(self.path, str) else self.path


class ConsentMappingSettings(Model):
    """A field of the source that is a consent statement, such as a ticked box."""

    path: FieldPath
    purpose: str = Field("marketing", description="What the person agrees to.")
    channel: Literal["email", "phone", "any"] = Field("any", description="By which way.")
    legal_basis: str | None = Field(None, description="Such as consent or legitimate_interest.")
    text_version: str | None = Field(None, description="Which text the person saw; or the field that says so.")
    text_version_path: FieldPath | None = Field(None, description="The source's field that names the text's version.")
    granted_when: tuple[str, ...] = Field((), description="Values that mean yes, besides the usual words.")


class LaneRule(Model):
    """Sends a lead into another lane when all that it says holds. The first rule that holds decides."""

    lane: LaneName = Field(description="Where the lead goes.")
    field: FieldPath = Field(description="The field of the source that decides.")
    is_in: tuple[str, ...] | None = Field(None, description="The value is one of these; case does not matter.")
    matches: Annotated[str, AfterValidator(_valid_pattern)] | None = Field(
        None, max_length=200, description="The regular expression is found in the value."
    )
    at_least: float | None = Field(None, description="The value is a number not below this one.")

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.is_in is None and self.matches is None and self.at_least is None:
            raise ValueError("a lane rule needs one of is_in, matches, at_least")
        return self


class KeyRate(Model):
    """How often one API key, or one signed source, may post."""

    requests: Annotated[int, Field(gt=0, description="Requests in any so many seconds, on average.")] = 500
    seconds: Annotated[float, Field(gt=0, le=3600, description="Length of the window.")] = 1
    burst: Annotated[int, Field(ge=0)] = Field(1_000, description="Requests beyond it that may come at once.")


class SourceSettings(Model):
    """One way in: a form, a webhook, an import."""

    description: str = Field("", description="For people; shown nowhere else.")
    kind: SourceKind = Field("json", description="Who sends, and so how it is verified and read: docs/sources.md.")
    lane: LaneName = Field("near_real_time", description="How urgent this source's leads are.")
    lane_rules: tuple[LaneRule, ...] = Field((), description="Leads of this source that are more or less urgent.")
    country: Annotated[str, Field(pattern=r"^[A-Z]{2}$")] | None = Field(
        None, description="ISO 3166 code assumed for phone numbers without one; the tenant's if unset."
    )
    priority: Annotated[int, Field(ge=0, le=100)] = Field(
        50, description="Whose value wins in a golden contact when all else is equal; higher wins."
    )
    mapping: dict[LeadField, FieldMappingSettings] = Field(
        default_factory=dict, description="Canonical field → the source's; `field: path` is short for {path: path}."
    )
    consent: tuple[ConsentMappingSettings, ...] = Field((), description="Which fields are consent statements.")
    secret: SecretRef | None = Field(
        None, description="What a signed kind's vendor signs with; for google_ads its key."
    )
    verify_token: SecretRef | None = Field(None, description="kind meta: what Meta repeats when it subscribes.")
    access_token: SecretRef | None = Field(None, description="kinds meta and hubspot: reads the lead that was named.")
    api_url: Annotated[str, Field(pattern=_WEB_ADDRESS)] | None = Field(
        None, description="kinds meta and hubspot: where the lead is read, if not at the vendor's usual address."
    )
    public_url: Annotated[str, Field(pattern=_WEB_ADDRESS)] | None = Field(
        None, description="kind hubspot: this source's address as HubSpot calls it; it is part of what is signed."
    )
    cors_origins: tuple[Annotated[str, Field(pattern=_ORIGIN), AfterValidator(_as_browsers_write_it)], ...] = Field(
        (), description="Sites whose scripts may post, such as https://www.example.com; '*' for any."
    )
    honeypot: str = Field("website_url", description="kind form: a hidden field; who fills it is a robot.")
    redirects: tuple[Annotated[str, Field(pattern=_WEB_ADDRESS)], ...] = Field(
        (), description="kind form: pages that a form may send people on to; the first one if it names none."
    )
    rate: KeyRate | None = Field(None, description="Of this source; capture.rate if unset.")

    @field_validator("mapping", mode="before")
    @classmethod
    def _short_form(cls, value: object) -> object:
        if not isinstance(value, dict):
            return value
        return {name: {"path": item} if isinstance(item, str | list) else item for name, item in value.items()}

    @model_validator(mode="after")
    def _signed_kinds_have_a_secret(self) -> Self:
        if self.kind in SIGNED_KINDS and self.secret is None:
            raise ValueError(f"a source of kind {self.kind} needs its secret: write secret: {{env: NAME}}")
        if self.kind == "hubspot" and self.public_url is None:
            raise ValueError("a source of kind hubspot needs public_url: HubSpot signs the address that it calls")
        for key, kinds in _KINDS_THAT_HEED.items():
            # Somebody who wrote it would believe, for example, that an unsigned source is verified.
            if getattr(self, key) and self.kind not in kinds:
                raise ValueError(f"{key} does nothing for kind {self.kind}, only for {', '.join(sorted(kinds))}")
        return self


class TenantSettings(Model):
    """One business whose leads are kept apart from all others."""

    description: str = Field("", description="For people; shown nowhere else.")
    country: Annotated[str, Field(pattern=r"^[A-Z]{2}$")] = Field("US", description="ISO 3166 code of the home market.")
    sources: Annotated[dict[Name, SourceSettings], Field(min_length=1, description="Its ways in, by name.")]
    destinations: tuple[Name, ...] = Field((), description="Where its contacts must be delivered.")


class WindowLimit(Model):
    """At most ``requests`` in any ``seconds`` on end."""

    requests: Annotated[int, Field(gt=0, description="Most requests in any window of so many seconds.")]
    seconds: Annotated[int, Field(gt=0, le=3600, description="Length of the window; it slides.")]


class DailyLimit(Model):
    """At most ``requests`` between two midnights of the account's time zone."""

    requests: Annotated[int, Field(gt=0, description="Most requests in a day.")]
    time_zone: TimeZone = Field("UTC", description="Whose midnight begins the day: the account's.")

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.time_zone)


class RequestLimits(Model):
    """What an account allows, for all processes together."""

    windows: tuple[WindowLimit, ...] = (WindowLimit(requests=100, seconds=10),)
    daily: DailyLimit | None = DailyLimit(requests=250_000)
    in_flight: Annotated[int, Field(gt=0, le=64)] = Field(4, description="Requests under way at once, per process.")


# HubSpot's own property names for the canonical fields of a golden contact.
HUBSPOT_MAPPING: dict[str, str] = {
    "email": "email",
    "phone": "phone",
    "first_name": "firstname",
    "last_name": "lastname",
    "company": "company",
    "job_title": "jobtitle",
    "address": "address",
    "city": "city",
    "state": "state",
    "postcode": "zip",
    "country": "country",
}


class DestinationSettings(Model):
    """One CRM account that contacts are delivered to."""

    vendor: Literal["hubspot"] = Field(description="Whose API it speaks.")
    account: Annotated[str, Field(min_length=1)] = Field(
        description="Whose quota is spent: destinations with the same account share one limit."
    )
    base_url: Annotated[str, Field(pattern=_WEB_ADDRESS)] = Field(
        "https://api.hubapi.com", description="An http address of this machine is served by `leads dev`: the sandbox."
    )
    api_prefix: Annotated[str, Field(pattern=r"^/")] = Field("/crm/v3/objects", description="Before /contacts/….")
    token: SecretRef
    key_property: str = Field("lead_key", description="The CRM's unique property that holds our contact id.")
    batch_size: Annotated[int, Field(gt=0, le=100)] = Field(100, description="Records in one request.")
    limits: RequestLimits = RequestLimits()
    timeout_seconds: Annotated[float, Field(gt=0, le=120)] = Field(30, description="For one request.")
    mapping: dict[Annotated[str, AfterValidator(_deliverable_field)], str] = Field(
        default_factory=lambda: dict(HUBSPOT_MAPPING), description="Golden contact's field → the CRM's property."
    )


class RetrySettings(Model):
    """How long a refused record is tried again: exponential, with full jitter on the upper half."""

    base_seconds: Annotated[float, Field(gt=0, description="Wait after the first refusal; it doubles.")] = 2
    max_seconds: Annotated[float, Field(gt=0, description="No wait is longer.")] = 3600
    max_attempts: Annotated[int, Field(gt=0)] = Field(60, description="Attempts before a record is a dead letter.")


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


class PipelineSettings(Model):
    """How work is cut."""

    chunk_size: Annotated[int, Field(gt=0, le=20_000)] = Field(1_000, description="Leads in one transaction of a step.")
    run_seconds: Annotated[float, Field(gt=0)] = Field(
        300, description="A stage stops taking new chunks after this long; the next run goes on."
    )


class MatchingSettings(Model):
    """When two leads are one person. Weights are log2 Bayes factors (Splink match weights)."""

    merge_weight: float = Field(5.0, description="At or above: merged.")
    review_weight: float = Field(3.0, description="At or above, below merge_weight: put before a person.")
    max_candidates_per_key: Annotated[int, Field(gt=0)] = Field(
        100, description="A key shared by more records than this yields only its newest ones."
    )

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.review_weight > self.merge_weight:
            raise ValueError("review_weight must not be above merge_weight")
        return self


class SloSettings(Model):
    """What the asset checks hold the pipeline to."""

    max_pending_seconds: dict[LaneName, Annotated[float, Field(gt=0)]] = Field(
        default_factory=lambda: dict(_MAX_PENDING),
        description="Oldest lead that may wait in any one stage, per lane.",
    )
    max_rejection_rate: Fraction = Field(0.25, description="Of the leads that were judged within the window.")
    rejection_window_hours: Annotated[int, Field(gt=0, description="Window of the rejection rate.")] = 24
    min_delivery_success: Fraction = Field(0.99, description="Of the contacts settled within the window.")
    delivery_window_hours: Annotated[int, Field(gt=0, description="Window of the delivery success.")] = 24
    drift_window_hours: Annotated[int, Field(gt=0)] = Field(
        336, description="How long a source's field is reported that is new and unused, or does not come any more."
    )
    min_sample: Annotated[int, Field(gt=0)] = Field(20, description="Below so many leads a rate proves nothing.")

    @field_validator("max_pending_seconds", mode="before")
    @classmethod
    def _lanes_left_out_keep_their_limit(cls, value: object) -> object:
        """Without this, whoever changes one lane's limit would let the others wait for ever unseen."""
        return {**_MAX_PENDING, **value} if isinstance(value, dict) else value


class RetentionSettings(Model):
    """How long bookkeeping is kept."""

    ingest_keys_days: Annotated[int, Field(gt=0)] = Field(
        30, description="How long a re-post of the same lead is recognised."
    )


class Settings(Model):
    """Everything that leads.yaml may say."""

    version: Literal[1] = Field(1, description="Of this file's format.")
    state_dir: str = Field(".leads", description="Where embedded servers keep their files; relative to this file.")
    tenants: Annotated[dict[Name, TenantSettings], Field(min_length=1)]
    destinations: dict[Name, DestinationSettings] = Field(default_factory=dict)
    capture: CaptureSettings = CaptureSettings()
    buffer: BufferSettings = BufferSettings()
    pipeline: PipelineSettings = PipelineSettings()
    matching: MatchingSettings = MatchingSettings()
    retry: RetrySettings = RetrySettings()
    slos: SloSettings = SloSettings()
    retention: RetentionSettings = RetentionSettings()

    _path: Path = PrivateAttr(default=Path(DEFAULT_CONFIG_NAME))

    @model_validator(mode="after")
    def _destinations_exist(self) -> Self:
        known = ", ".join(sorted(self.destinations)) or "none"
        for tenant, settings in self.tenants.items():
            for destination in settings.destinations:
                if destination not in self.destinations:
                    raise ValueError(f"tenants.{tenant}.destinations names {destination!r}; defined: {known}")
        return self

    @model_validator(mode="after")
    def _accounts_have_one_limit(self) -> Self:
        """Two limits would be two ways to count one quota, and the larger would win."""
        first_of: dict[str, str] = {}
        for name, settings in self.destinations.items():
            first = first_of.setdefault(settings.account, name)
            one, other = self.destinations[first].limits, settings.limits
            if set(one.windows) != set(other.windows) or one.daily != other.daily:
                raise ValueError(
                    f"destinations.{name}.limits differ from destinations.{first}.limits, and both spend the quota of "
                    f"the account {settings.account!r}; allowed: the same windows and the same daily limit"
                )
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

    def secrets(self) -> dict[str, SecretRef]:
        """Every secret that the file refers to, by the path of its key."""
        found = {f"destinations.{name}.token": item.token for name, item in self.destinations.items()}
        for tenant, settings in self.tenants.items():
            for name, source in settings.sources.items():
                for key in ("secret", "verify_token", "access_token"):
                    reference = getattr(source, key)
                    if reference is not None:
                        found[f"tenants.{tenant}.sources.{name}.{key}"] = reference
        if self.buffer.redis is not None:
            found["buffer.redis.url"] = self.buffer.redis.url
        return found


def config_path(explicit: str | None = None) -> Path:
    """The file to read: ``explicit``, else ``LEADS_CONFIG``, else ``leads.yaml`` here or in a parent directory."""
    named = explicit or os.environ.get(CONFIG_VARIABLE)
    if named:
        return Path(named).resolve()
    here = Path.cwd()
    for directory in (here, *here.parents):
        candidate = directory / DEFAULT_CONFIG_NAME
        if candidate.is_file():
            return candidate
    return here / DEFAULT_CONFIG_NAME


def load_settings(explicit: str | None = None) -> Settings:
    """Read and validate the configuration.

    Raises:
        ConfigError: no file, not YAML, or any number of faults, each named with its path, value and what is allowed.
    """
    path = config_path(explicit)
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"cannot read the configuration {path}: {error.strerror}. "
            f"Name a file with --config or {CONFIG_VARIABLE}, or work in a directory that has a {DEFAULT_CONFIG_NAME}."
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text: {error.reason} at byte {error.start}") from error
    return parse_settings(text, path=path)


class _UniqueKeys(yaml.SafeLoader):
    """Refuses a key that a mapping has twice: YAML keeps the last one, and what the first one said is gone."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _value in node.value:
            # "<<" takes other mappings in and may stand more than once.
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    raise yaml.MarkedYAMLError(problem=f"{key.value!r} stands here twice", problem_mark=key.start_mark)
                seen.add(key.value)
        return super().construct_mapping(node, deep=deep)


def parse_settings(text: str, *, path: Path) -> Settings:
    """Validate the text of a configuration file. Raises ``ConfigError`` as ``load_settings`` does."""
    try:
        document = yaml.load(text, _UniqueKeys)  # noqa: S506 - a SafeLoader
    except yaml.YAMLError as error:
        # PyYAML calls what it reads "<unicode string>".
        told = str(error).replace('in "<unicode string>", ', "at ")
        raise ConfigError(f"{path} is not YAML: {told}") from error
    if not isinstance(document, dict):
        raise ConfigError(f"{path} must hold a mapping with the keys {', '.join(Settings.model_fields)}")
    try:
        settings = Settings.model_validate(document)
    except ValidationError as error:
        faults = tuple(_fault(item) for item in error.errors(include_url=False))
        raise ConfigError(f"{path} has {len(faults)} fault{'s' if len(faults) > 1 else ''}:", faults=faults) from None
    settings._path = path.resolve()
    return settings


def _fault(item: Any) -> str:
    path = ".".join(str(part) for part in item["loc"] if part != "[key]") or "(top level)"
    message = str(item["msg"]).removeprefix("Value error, ")
    if item["type"] == "missing":
        return f"{path}: required, but missing"
    if item["type"] == "extra_forbidden":
        return f"{path}: there is no such key"
    # A secret where its variable's name should stand is not the name's pattern: it must not be repeated either.
    misplaced = item["type"] == "string_pattern_mismatch" and item["loc"][-1] == "env"
    if misplaced or (item["type"] == "model_type" and item["ctx"]["class_name"] == SecretRef.__name__):
        return f"{path}: a secret stands in the environment, not in this file: write {{env: NAME}}"
    value = item["input"]
    shown = "" if isinstance(value, dict | list | BaseModel) else f" = {value!r}"
    if item["type"] == "string_type" and isinstance(value, bool):  # NO is not Norway, on and off are no names
        message += "; YAML reads yes, no, on and off as true and false: put it in quotes"
    return f"{path}{shown}: {_told_in_words(item) or message[:1].lower() + message[1:]}"


def _told_in_words(item: Any) -> str | None:
    """What is allowed, where Pydantic would speak of Python's types or show a regular expression."""
    match item["type"]:
        case "tuple_type":
            return "must be a list, such as [a, b]"
        case "model_type":
            model = next(kind for kind in _every_model(Model) if kind.__name__ == item["ctx"]["class_name"])
            return f"must be a mapping with the keys {', '.join(model.model_fields)}"
        case "dict_type":
            return "must be a mapping"
        case "bool_type" | "bool_parsing":
            return "must be true or false"
        case "int_type" | "int_parsing" | "int_from_float":
            return "must be a whole number"
        case "float_type" | "float_parsing":
            return "must be a number"
        case "string_pattern_mismatch":
            return _PATTERNS_IN_WORDS.get(item["ctx"]["pattern"])
    return None


def _every_model(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    for kind in model.__subclasses__():
        yield kind
        yield from _every_model(kind)


def json_schema() -> dict[str, Any]:
    """The JSON Schema of leads.yaml, for editors."""
    schema = Settings.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "leads.yaml", **schema}


def database_url() -> str | None:
    """The PostgreSQL to use instead of the embedded one, or ``None``."""
    return os.environ.get(DATABASE_URL_VARIABLE) or None


@dataclass(frozen=True, slots=True)
class ServiceManager:
    """What systemd has put into the environment of a service that it started."""

    notify_socket: str | None
    listen_fds: int
    watchdog_seconds: float | None


def service_manager() -> ServiceManager:
    """What systemd tells this process; nothing where something else started it."""

    def is_meant_for_us(variable: str) -> bool:
        return os.environ.get(variable, str(os.getpid())) == str(os.getpid())

    descriptors, watchdog = os.environ.get("LISTEN_FDS", ""), os.environ.get("WATCHDOG_USEC", "")
    handed = descriptors.isdigit() and "LISTEN_PID" in os.environ and is_meant_for_us("LISTEN_PID")
    watched = watchdog.isdigit() and is_meant_for_us("WATCHDOG_PID")
    return ServiceManager(
        notify_socket=os.environ.get("NOTIFY_SOCKET") or None,
        listen_fds=int(descriptors) if handed else 0,
        watchdog_seconds=int(watchdog) / 1e6 if watched else None,
    )


def inherited_environment() -> dict[str, str]:
    """A copy of the environment for a child process."""
    return dict(os.environ)


def project_file(name: str) -> Path:
    """A file or directory of the repository that is read at run time: in a checkout, or as shipped in the wheel."""
    package = Path(__file__).parent
    checkout = package.parent / name
    return checkout if checkout.exists() else package / "_project" / name
