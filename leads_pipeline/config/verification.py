"""What leads.yaml says about verification: tiers, triage, providers and their budgets, how long a verdict holds."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from leads_pipeline.config.base import (
    WEB_ADDRESS,
    Fraction,
    LaneName,
    Model,
    Name,
    Resolver,
    SecretRef,
    TimeZone,
    resolver_address,
)
from leads_pipeline.patterns import fault_of

LookupName = Literal["mx", "mailbox", "phone"]
VerdictName = Literal["valid", "invalid", "risky", "unknown"]
ProviderVendor = Literal["zerobounce", "neverbounce", "kickbox", "hunter", "reacher", "twilio"]

# What each vendor can look up; a test compares it with `verification.registry`.
VENDOR_LOOKUPS: dict[str, LookupName] = {
    "zerobounce": "mailbox",
    "neverbounce": "mailbox",
    "kickbox": "mailbox",
    "hunter": "mailbox",
    "reacher": "mailbox",
    "twilio": "phone",
}
# Most that each looks up in one request, compared in the same way.
VENDOR_BATCH_SIZES: dict[str, int] = {
    "zerobounce": 100,
    "neverbounce": 1000,
    "kickbox": 1,
    "hunter": 1,
    "reacher": 1,
    "twilio": 1,
}


def _usable_pattern(value: str) -> str:
    if (fault := fault_of(value)) is not None:
        raise ValueError(fault)
    return value


Points = Annotated[int, Field(ge=-100, le=100)]
Days = Annotated[float, Field(ge=0, le=3650)]


class Condition(Model):
    """Holds when all that it says holds; without anything it always does."""

    tenant: tuple[Name, ...] = Field((), description="Any of these tenants.")
    source: tuple[Name, ...] = Field((), description="Any of these sources.")
    lane: tuple[LaneName, ...] = Field((), description="Any of these lanes.")
    flag: tuple[str, ...] = Field((), description="Any of these flags of validation, such as disposable_mailbox.")
    without_flag: tuple[str, ...] = Field((), description="None of these flags.")
    present: tuple[str, ...] = Field((), description="All of these canonical fields have a value.")
    field: str | None = Field(None, description="A canonical field, or one as `leads sources test` shows it.")
    is_in: tuple[str, ...] | None = Field(None, description="The field's value is one of these, in any case.")
    matches: Annotated[str, AfterValidator(_usable_pattern)] | None = Field(
        None, description="The field's value holds this regular expression."
    )
    at_least: float | None = Field(None, description="The field's value is a number, this or more.")
    value_at_least: Annotated[int, Field(ge=0, le=100)] | None = Field(None, description="The lead's value score.")
    risk_at_least: Annotated[int, Field(ge=0, le=100)] | None = Field(None, description="The lead's risk score.")

    @model_validator(mode="after")
    def _tests_have_a_field(self) -> Self:
        tests = [name for name in ("is_in", "matches", "at_least") if getattr(self, name) is not None]
        if tests and self.field is None:
            raise ValueError(f"{tests[0]} needs field: the name of the field that it is about")
        if self.field is not None and not tests:
            raise ValueError("field needs is_in, matches or at_least")
        return self


class ValueRule(Model):
    """Points towards a lead's value, from 0 to 100; those of all rules that hold are added up."""

    points: Points = Field(description="Added to the value of a lead for which the condition holds.")
    when: Condition = Condition()


class TriageRule(Model):
    """Puts a lead into a tier. The first rule that holds decides."""

    tier: Name = Field(description="One of verification.tiers.")
    when: Condition = Condition()


class TierSettings(Model):
    """How deeply a lead is verified, and how long it waits for that."""

    lookups: tuple[LookupName, ...] = Field((), description="What is looked up, the critical first.")
    patience_seconds: Annotated[float, Field(ge=0, le=86_400)] = Field(
        0, description="How long a lead waits for its look-ups; then it goes on unverified, to be upgraded later."
    )
    slo_seconds: Annotated[float, Field(gt=0)] = Field(300, description="Verified within so long of its validation …")
    slo_share: Fraction = Field(0.99, description="… in this share of its look-ups.")
    budget_reserve: Fraction = Field(
        0, description="This share of a provider's budget is kept for the tiers before this one."
    )


class RiskSettings(Model):
    """Points of each factor; a lead's risk is their sum, from 0 to 100."""

    disposable_mailbox: Points = Field(40, description="The address is of a provider of throw-away mailboxes.")
    role_mailbox: Points = Field(10, description="Several people read the address: info@, sales@.")
    misspelt_mailbox: Points = Field(10, description="The domain is nearly a large provider's.")
    honeypot: Points = Field(60, description="A field that people do not see was filled in; an operator released it.")
    country_mismatch: Points = Field(15, description="The phone number's country is not the one that the lead states.")
    velocity_ip: Points = Field(30, description="Too many leads from one address of the network.")
    velocity_domain: Points = Field(20, description="Too many leads with one e-mail domain that is no free provider's.")
    max_leads_per_ip: Annotated[int, Field(gt=0)] = Field(10, description="Within the window; beyond it velocity_ip.")
    max_leads_per_domain: Annotated[int, Field(gt=0)] = Field(30, description="Beyond it velocity_domain.")
    window_minutes: Annotated[int, Field(gt=0, le=1440)] = Field(60, description="Of both velocities.")


class BudgetSettings(Model):
    """Most that a provider may cost, in its account's currency."""

    per_day: Annotated[float, Field(ge=0)] | None = Field(None, description="Between two midnights of time_zone.")
    per_month: Annotated[float, Field(ge=0)] | None = Field(None, description="In a calendar month of time_zone.")
    time_zone: TimeZone = Field("UTC", description="Whose midnight begins the day and the month.")


class ProviderSettings(Model):
    """An account at a verification provider."""

    vendor: ProviderVendor = Field(description="Whose API it speaks.")
    base_url: Annotated[str, Field(pattern=WEB_ADDRESS)] | None = Field(
        None, description="The vendor's own if unset; an http address of this machine is served by `leads dev`."
    )
    key: SecretRef | None = Field(None, description="The API key; Twilio: the auth token. Reacher may have none.")
    account: str | None = Field(None, description="Twilio: the account SID.")
    cost_per_lookup: Annotated[float, Field(ge=0)] = Field(0, description="What one look-up costs, for the budget.")
    budget: BudgetSettings = BudgetSettings()
    batch_size: Annotated[int, Field(gt=0)] | None = Field(None, description="The vendor's own if unset.")
    calls_per_minute: Annotated[int, Field(gt=0)] | None = Field(None, description="The vendor's own limit if unset.")
    timeout_seconds: Annotated[float, Field(gt=0, le=300)] = Field(70, description="For one request.")

    @model_validator(mode="after")
    def _budget_can_be_counted(self) -> Self:
        for name in ("per_day", "per_month"):
            limit = getattr(self.budget, name)
            if limit is None:
                continue
            if self.cost_per_lookup == 0:
                raise ValueError(f"budget.{name} needs cost_per_lookup: without a price nothing is ever spent")
            if limit < self.cost_per_lookup:
                raise ValueError(
                    f"budget.{name} = {limit:g} pays for no look-up at {self.cost_per_lookup:g} each; "
                    "to ask this provider for nothing, take its name out of verification.mailbox or phone"
                )
        return self


class MxSettings(Model):
    """Asking DNS whether a domain takes mail. Off by default: it asks servers that nobody named."""

    enabled: bool = Field(False, description="Ask DNS for the domains of e-mail addresses.")
    resolvers: tuple[Resolver, ...] = Field((), description="address or address:port; the machine's own if empty.")
    timeout_seconds: Annotated[float, Field(gt=0, le=30)] = Field(2, description="For one query to one resolver.")
    queries_per_second: Annotated[int, Field(gt=0)] = Field(50, description="To each resolver.")
    positive_hours: Annotated[float, Field(ge=0)] = Field(72, description="How long a domain with mail is remembered.")
    negative_hours: Annotated[float, Field(ge=0)] = Field(6, description="How long one without is.")
    failure_seconds: Annotated[float, Field(ge=0)] = Field(60, description="How long a failure of DNS is.")

    @property
    def addresses(self) -> tuple[tuple[str, int], ...]:
        """Address and port of each configured resolver."""
        return tuple(resolver_address(text) for text in self.resolvers)


class VerdictCacheSettings(Model):
    """How long a provider's verdict about an address holds; then a further lead with it is looked up again."""

    valid_days: Days = Field(90, description="How long a valid verdict holds.")
    invalid_days: Days = Field(180, description="How long an invalid one holds.")
    risky_days: Days = Field(30, description="How long a risky one holds.")
    unknown_days: Days = Field(1, description="How long nobody is asked again after an answer that tells nothing.")
    reverify: Literal["on_next_lead", "when_expired"] = Field(
        "on_next_lead", description="when_expired: contacts are looked up anew, with what the day's budget leaves."
    )

    def days(self, verdict: str) -> float:
        found: float = getattr(self, f"{verdict}_days")
        return found


class BreakerSettings(Model):
    """When a provider that fails is left alone."""

    failures: Annotated[int, Field(gt=0)] = Field(5, description="In a row; then nothing is sent …")
    pause_seconds: Annotated[float, Field(gt=0)] = Field(60, description="… for so long, then one probe.")
    max_pause_seconds: Annotated[float, Field(gt=0)] = Field(900, description="Each failed probe doubles the pause.")


def _usual_tiers() -> dict[str, TierSettings]:
    return {
        "full": TierSettings(lookups=("mx", "mailbox", "phone"), patience_seconds=30),
        "minimal": TierSettings(lookups=("mx",), patience_seconds=10),
        "none": TierSettings(),
    }


class VerificationSettings(Model):
    """Verification as a resource with a budget."""

    mx: MxSettings = MxSettings()
    providers: dict[Name, ProviderSettings] = Field(default_factory=dict, description="Accounts, by a name of ours.")
    mailbox: tuple[Name, ...] = Field((), description="Who looks mailboxes up; the next where one fails or is spent.")
    phone: tuple[Name, ...] = Field((), description="Who looks phone numbers up.")
    tiers: Annotated[dict[Name, TierSettings], Field(min_length=1)] = Field(
        default_factory=_usual_tiers, description="Most thorough first: a tier can be switched down to a later one."
    )
    value: tuple[ValueRule, ...] = Field((), description="What makes a lead valuable.")
    triage: tuple[TriageRule, ...] = Field((), description="Which tier a lead falls into; the last tier if none holds.")
    risk: RiskSettings = RiskSettings()
    cache: VerdictCacheSettings = VerdictCacheSettings()
    breaker: BreakerSettings = BreakerSettings()
    give_up_after_hours: Annotated[float, Field(gt=0)] = Field(
        72, description="A look-up for which nobody could be asked for so long is let go, as unknown."
    )
    seconds_in_hot_run: Annotated[float, Field(ge=0, le=60)] = Field(
        5, description="How long a micro-batch asks DNS before it goes on; the verification job does the rest."
    )

    @model_validator(mode="after")
    def _names_are_known(self) -> Self:
        tiers = ", ".join(self.tiers)
        for number, rule in enumerate(self.triage):
            if rule.tier not in self.tiers:
                raise ValueError(f"triage.{number}.tier names {rule.tier!r}; defined tiers: {tiers}")
        for kind in ("mailbox", "phone"):
            names = getattr(self, kind)
            if len(set(names)) < len(names):
                raise ValueError(f"{kind} names a provider twice: it is asked once")
            for name in names:
                provider = self.providers.get(name)
                if provider is None:
                    known = ", ".join(self.providers) or "none"
                    raise ValueError(f"{kind} names the provider {name!r}; defined: {known}")
                if VENDOR_LOOKUPS[provider.vendor] != kind:
                    raise ValueError(
                        f"{kind} names {name!r}, but {provider.vendor} looks up {VENDOR_LOOKUPS[provider.vendor]}"
                    )
        return self

    @model_validator(mode="after")
    def _accounts_are_whole(self) -> Self:
        for name, provider in self.providers.items():
            if provider.key is None and provider.vendor != "reacher":
                raise ValueError(f"providers.{name} needs key: {{env: NAME}}")
            if provider.vendor == "twilio" and provider.account is None:
                raise ValueError(f"providers.{name} needs account: the account SID")
            if provider.vendor == "reacher" and provider.base_url is None:
                raise ValueError(f"providers.{name} needs base_url: Reacher is hosted by yourself")
            most, asked = VENDOR_BATCH_SIZES[provider.vendor], provider.batch_size
            if asked is not None and asked > most:
                raise ValueError(
                    f"providers.{name}.batch_size is {asked}; {provider.vendor} takes at most {most} at once"
                )
        return self

    @property
    def last_tier(self) -> str:
        """Where a lead falls that no rule of triage takes."""
        return list(self.tiers)[-1]

    def providers_of(self, kind: str) -> tuple[str, ...]:
        """Who answers a kind of look-up, in the order in which they are asked."""
        return self.mailbox if kind == "mailbox" else self.phone if kind == "phone" else ()

    def can_look_up(self, kind: str) -> bool:
        """Whether anybody is configured for it."""
        return self.mx.enabled if kind == "mx" else bool(self.providers_of(kind))

    def lookups_of(self, tier: str) -> tuple[str, ...]:
        """What is looked up in a tier, as far as somebody is configured for it."""
        known = self.tiers.get(tier)
        return tuple(kind for kind in known.lookups if self.can_look_up(kind)) if known else ()
