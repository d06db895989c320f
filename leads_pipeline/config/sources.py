"""The sources of leads.yaml: who sends, how it proves itself, what its fields mean."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, field_validator, model_validator

from leads_pipeline.config.base import ORIGIN, WEB_ADDRESS, LaneName, Model, SecretRef
from leads_pipeline.patterns import fault_of

Transform = Literal["strip", "lower", "upper", "digits", "first_word", "last_word", "after_first_word"]
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

_KINDS_THAT_HEED: dict[str, frozenset[SourceKind]] = {
    "secret": SIGNED_KINDS,
    "verify_token": frozenset({"meta"}),
    "access_token": frozenset({"meta", "hubspot"}),
    "api_url": frozenset({"meta", "hubspot"}),
    "public_url": frozenset({"hubspot"}),
    "redirects": frozenset({"form"}),
    # Others are answered to a server that reads no verdict.
    "verify_in_request": frozenset({"json", "form"}),
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


class InRequestSettings(Model):
    """What is verified before the sender of one lead is answered. No lead is refused over it."""

    lookups: tuple[Literal["mx"], ...] = Field(
        ("mx",), description="Besides the local checks. Look-ups that are paid for are never made in a request."
    )
    budget_ms: Annotated[int, Field(gt=0, le=5_000)] = Field(
        300, description="The answer waits so long for DNS at most; the rest is verified later."
    )
    lanes: tuple[LaneName, ...] = Field(
        (), description="Only leads of these lanes, by lane and lane_rules; empty: all."
    )


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
    api_url: Annotated[str, Field(pattern=WEB_ADDRESS)] | None = Field(
        None, description="kinds meta and hubspot: where the lead is read, if not at the vendor's usual address."
    )
    public_url: Annotated[str, Field(pattern=WEB_ADDRESS)] | None = Field(
        None, description="kind hubspot: this source's address as HubSpot calls it; it is part of what is signed."
    )
    cors_origins: tuple[Annotated[str, Field(pattern=ORIGIN), AfterValidator(_as_browsers_write_it)], ...] = Field(
        (), description="Sites whose scripts may post, such as https://www.example.com; '*' for any."
    )
    honeypot: str = Field("website_url", description="kind form: a hidden field; who fills it is a robot.")
    redirects: tuple[Annotated[str, Field(pattern=WEB_ADDRESS)], ...] = Field(
        (), description="kind form: pages that a form may send people on to; the first one if it names none."
    )
    rate: KeyRate | None = Field(None, description="Of this source; capture.rate if unset.")
    verify_in_request: InRequestSettings | None = Field(
        None, description="kinds json and form: the answer says what is known of the e-mail address; off if unset."
    )

    @property
    def lanes(self) -> frozenset[LaneName]:
        """Every lane into which its leads may come."""
        return frozenset({self.lane, *(rule.lane for rule in self.lane_rules)})

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
