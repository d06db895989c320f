"""``slos``: what the pipeline promises, by name, and what the asset checks hold it to.

The promises of ``DEFAULTS`` hold without a word in leads.yaml; an entry of the same name changes only what it names,
and ``null`` switches it off. Add a default here, and its line in docs/slos.md. Keep out: how a promise is judged
(``domain.burn_rate``).
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from leads_pipeline.config.base import Fraction, LaneName, Model, Name
from leads_pipeline.config.measure_names import MEASURE_NAMES

SeverityName = Literal["page", "ticket"]
MeasureName = Literal["latency", "rejections", "bounces", "conservation", "duplicates", "measured"]
LatencyStage = Literal["raw_leads", "validated_leads", "verified", "deduped_leads", "golden_contacts", "delivered"]
StaleMeaning = Literal["open", "closed"]

_MAX_PENDING: dict[LaneName, float] = {"real_time": 120.0, "near_real_time": 600.0, "batch": 86_400.0}

# What these measures are about, none of it may happen: they have no budget that could burn.
_WITHOUT_BUDGET: tuple[MeasureName, ...] = ("conservation", "duplicates", "measured")

# Of these a share must be good: they have a budget. What is rejected or bounces comes from outside.
SHARES: tuple[MeasureName, ...] = ("latency", "rejections", "bounces")

# Which keys belong to which measures only.
_OF_MEASURES: dict[str, tuple[MeasureName, ...]] = {
    "stage": ("latency",),
    "within_seconds": ("latency",),
    "lanes": ("latency", "measured"),
    "objective": SHARES,
    "window_hours": SHARES,
    "min_events": SHARES,
    "min_bad_events": SHARES,
    "burn_alerts": SHARES,
    "measured": ("measured",),
    "limit": ("measured",),
    "at_least": ("measured",),
}

# What only sending changes. A gate that it closed would hold it as it is, and so itself closed.
_OF_SENDING = (
    "delivery_failure_rate",
    "throttled_rate",
    "breaker_open",
    "parked",
    "dead_letters_open",
    "opportunity_rate",
)

_CAME_TO: dict[LatencyStage, str] = {
    "raw_leads": "out of the buffer",
    "validated_leads": "validated",
    "verified": "verified",
    "deduped_leads": "matched",
    "golden_contacts": "golden contacts",
    "delivered": "in the CRM",
}

_DAY_HOURS = 24


class BurnAlertSettings(Model):
    """Somebody is told while the budget burns too fast over the long window, and still does over the short one."""

    burn: Annotated[float, Field(gt=0, description="How many times faster than allowed the budget is spent.")]
    long_minutes: Annotated[float, Field(gt=0, description="The window that proves it.")]
    short_minutes: Annotated[float, Field(gt=0, description="The window that shows that it goes on.")]
    severity: SeverityName = Field(description="`page`: somebody is needed now; `ticket`: on a working day.")

    @model_validator(mode="after")
    def _short_is_shorter(self) -> Self:
        if self.short_minutes > self.long_minutes:
            raise ValueError(
                f"short_minutes = {self.short_minutes:g} is longer than long_minutes = {self.long_minutes:g}; "
                "allowed: at most as long"
            )
        return self


def _recommended() -> tuple[BurnAlertSettings, ...]:
    """What the SRE workbook recommends: 2 % of a month's budget in an hour, 5 % in six, 10 % in three days."""
    return (
        BurnAlertSettings(burn=14.4, long_minutes=60, short_minutes=5, severity="page"),
        BurnAlertSettings(burn=6, long_minutes=360, short_minutes=30, severity="page"),
        BurnAlertSettings(burn=1, long_minutes=4_320, short_minutes=360, severity="ticket"),
    )


class ObjectiveSettings(Model):
    """One promise: what is measured, how much of it must be good, and what follows where it is not."""

    enabled: bool = Field(True, description="`false`: not promised; so does `null` in place of the entry.")
    promise: str = Field("", description="In words, for people; unset: made of what is measured.")
    measure: MeasureName = Field(
        "latency",
        description="`latency`: leads that passed a stage in time. `rejections`: leads that were not rejected. "
        "`bounces`: leads whose address did not bounce, where senders of mail tell. "
        "`conservation`: leads that are in no state. `duplicates`: golden contacts that share an address. "
        "`measured`: a measurement of docs/measurements.md against a limit.",
    )
    stage: LatencyStage = Field("delivered", description="Of latency: where the leads came to.")
    within_seconds: Annotated[float, Field(gt=0)] | None = Field(
        None, description="Of latency: how long a lead may take from capture to there."
    )
    measured: str | None = Field(None, min_length=1, description="Of measured: the measurement's name.")
    limit: float | None = Field(None, description="Of measured: the most that it may be.")
    at_least: float | None = Field(None, description="Of measured: the least that it may be.")
    objective: Annotated[float, Field(gt=0, le=1)] = Field(
        0.99, description="Share of events that must be good; 1 leaves no budget."
    )
    window_hours: Annotated[float, Field(gt=0, le=8_760)] = Field(720, description="Over which the objective holds.")
    lanes: tuple[LaneName, ...] = Field((), description="Only leads of these lanes; unset: of all.")
    tenant: Name | None = Field(None, description="Only this tenant's; unset: each tenant is judged by itself.")
    together: bool = Field(False, description="Judge all tenants as one, not each by itself.")
    severity: SeverityName = Field("page", description="The most that a breach may be: `page`, or only a `ticket`.")
    action: Literal["none", "close_gate"] = Field(
        "none",
        description="What a broken promise does. `close_gate`: nothing more is sent about the contacts of the tenant "
        "(and lane); archives, erasures and withdrawals go on.",
    )
    playbook: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*$")] | None = Field(
        None, description="Name of the page of docs/playbooks to open, without .md."
    )
    min_events: Annotated[int, Field(gt=0)] = Field(
        20, description="Fewer events within a window prove nothing, unless all are bad."
    )
    min_bad_events: Annotated[int, Field(gt=0)] = Field(
        3, description="Fewer bad events prove nothing, unless nothing was good for a day."
    )
    burn_alerts: tuple[BurnAlertSettings, ...] = Field(
        default_factory=_recommended, description="How fast the budget may burn; by default as the SRE workbook has it."
    )
    timeout_seconds: Annotated[float, Field(gt=0, le=3_600)] = Field(
        20, description="An evaluation that takes longer is given up; the last verdict stays, and grows stale."
    )

    @model_validator(mode="after")
    def _keys_fit_the_measure(self) -> Self:
        for key, measures in _OF_MEASURES.items():
            # The default says nothing, also where settings are made anew of all that other settings say.
            unsaid = (None, (), type(self).model_fields[key].get_default(call_default_factory=True))
            if getattr(self, key) not in unsaid and self.measure not in measures:
                raise ValueError(f"{key} is of measure {' or '.join(measures)}, and measure is {self.measure}")
        if self.measure == "latency" and self.within_seconds is None:
            raise ValueError("measure latency needs within_seconds")
        if self.measure == "measured" and (self.measured is None or (self.limit is None) == (self.at_least is None)):
            raise ValueError("measure measured needs measured: NAME, and either limit or at_least")
        if self.measured is not None and self.measured not in MEASURE_NAMES:
            raise ValueError(f"measured = {self.measured!r} is not measured; allowed: {', '.join(MEASURE_NAMES)}")
        if self.tenant is not None and self.together:
            raise ValueError("tenant and together contradict each other; allowed: one of them")
        return self

    @model_validator(mode="after")
    def _a_gate_does_not_hold_itself_closed(self) -> Self:
        if self.action != "close_gate":
            return self
        if self.measure == "latency" and self.stage == "delivered":
            allowed = ", ".join(stage for stage in _CAME_TO if stage != "delivered")
            raise ValueError(
                "action = 'close_gate' on stage = 'delivered' would hold itself closed: what waits at a gate is late; "
                f"allowed: action none, or a stage before it: {allowed}"
            )
        if self.measured in _OF_SENDING:
            allowed = ", ".join(name for name in MEASURE_NAMES if name not in _OF_SENDING)
            raise ValueError(
                f"action = 'close_gate' on measured = {self.measured!r} would hold itself closed: only sending changes "
                f"it; allowed: action none, or one of {allowed}"
            )
        return self

    @property
    def has_budget(self) -> bool:
        """Whether some of it may go wrong."""
        return self.measure not in _WITHOUT_BUDGET and self.objective < 1

    @property
    def lane(self) -> str:
        """The one lane that it is about; empty: several, or all."""
        return self.lanes[0] if len(self.lanes) == 1 else ""

    @property
    def words(self) -> str:
        """The promise in words."""
        return self.promise or self._made_of_numbers()

    def _made_of_numbers(self) -> str:
        whose = f" of {self.tenant}" if self.tenant else ""
        share = f"{100 * self.objective:.4g} %"
        over = f"over {span_in_words(self.window_hours * 3600)}"
        match self.measure:
            case "latency":
                lanes = " and ".join(lane.replace("_", "-") for lane in self.lanes)
                leads = f"{lanes} leads" if lanes else "leads"
                came = _CAME_TO[self.stage]
                return f"{share} of {leads}{whose} are {came} within {span_in_words(self.within_seconds or 0)}, {over}"
            case "rejections":
                return f"no more than {100 - 100 * self.objective:.4g} % of the leads{whose} are rejected, {over}"
            case "bounces":
                return f"no more than {100 - 100 * self.objective:.4g} % of the leads{whose} bounce, {over}"
            case "conservation":
                return f"every captured lead{whose} is in exactly one state"
            case "duplicates":
                return f"no two golden contacts{whose or ' of a tenant'} hold one e-mail address"
            case "measured":
                bound = f"at most {self.limit:g}" if self.limit is not None else f"at least {self.at_least:g}"
                return f"{self.measured}{whose} is {bound}"


def span_in_words(seconds: float) -> str:
    """``60 s``, ``5 min``, ``24 h``, ``30 days``: as people say it."""
    for unit, size in (("days", 172_800), ("h", 7_200), ("min", 120)):
        if seconds >= size:
            one = {"days": 86_400, "h": 3_600, "min": 60}[unit]
            return f"{seconds / one:.4g} {unit}"
    return f"{seconds:.4g} s"


# The promises that hold unless leads.yaml says otherwise.
DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "verified_in_time": {
        # The batch lane waits for its hour.
        "measure": "latency", "stage": "verified", "within_seconds": 300, "objective": 0.99,
        "lanes": ["real_time", "near_real_time"], "playbook": "leads-late",
    },
    "real_time_in_crm": {
        "measure": "latency", "stage": "delivered", "within_seconds": 60, "objective": 0.99, "lanes": ["real_time"],
        "playbook": "deliveries-late",
    },
    "delivered_in_a_day": {
        "measure": "latency", "stage": "delivered", "within_seconds": 86_400, "objective": 0.999,
        "playbook": "deliveries-late",
    },
    # Leads may be rejected: a budget of a quarter cannot burn 14 times too fast, and nobody is to be woken.
    "rejection_rate": {
        "measure": "rejections", "severity": "ticket", "playbook": "rejections-rising",
        "burn_alerts": [{"burn": 2, "long_minutes": 60, "short_minutes": 15, "severity": "ticket"}],
    },
    # Amazon SES puts an account under review from 5 % on, and may stop its sending from 10 % on. It goes by when the
    # leads came, and by days: those of the last hours had no time to bounce.
    "bounce_rate": {
        "measure": "bounces", "objective": 0.95, "window_hours": 168, "min_events": 50, "severity": "ticket",
        "playbook": "high-bounce-rate",
        "burn_alerts": [{"burn": 2, "long_minutes": 2_880, "short_minutes": 1_440, "severity": "ticket"}],
    },
    # The gate stays open: what is lost is not found by holding back what is not.
    "conservation": {"measure": "conservation", "playbook": "conservation-broken", "timeout_seconds": 300},
    "duplicate_contacts": {"measure": "duplicates", "action": "close_gate", "playbook": "duplicates-rising"},
}  # fmt: skip


class SloSettings(Model):
    """What is promised, and what the asset checks hold the pipeline to."""

    objectives: dict[Name, ObjectiveSettings | None] = Field(
        default_factory=dict,
        description="Promises by name. An entry of a default's name changes what it names; `null` switches it off.",
    )
    when_stale: StaleMeaning = Field(
        "open", description="What a gate is whose verdict is missing or was last renewed too long ago."
    )
    stale_seconds: Annotated[float, Field(ge=60)] = Field(
        1_800, description="A verdict that is older is stale; so long does a closing of a gate hold without renewal."
    )
    reopen_seconds: Annotated[float, Field(ge=0, le=86_400)] = Field(
        300, description="How long a promise must have been neither broken nor burning until its gate opens again."
    )
    max_pending_seconds: dict[LaneName, Annotated[float, Field(gt=0)]] = Field(
        default_factory=lambda: dict(_MAX_PENDING),
        description="Oldest lead that may wait in any one stage, per lane.",
    )
    max_rejection_rate: Fraction = Field(0.25, description="Of the leads that were judged within the window.")
    rejection_window_hours: Annotated[int, Field(gt=0, description="Window of the rejection rate.")] = _DAY_HOURS
    min_delivery_success: Fraction = Field(0.99, description="Of the contacts settled within the window.")
    delivery_window_hours: Annotated[int, Field(gt=0, description="Window of the delivery success.")] = _DAY_HOURS
    verification_window_hours: Annotated[int, Field(gt=0)] = Field(
        24, description="Window of the share of look-ups that verification.tiers.*.slo_share is about."
    )
    drift_window_hours: Annotated[int, Field(gt=0)] = Field(
        336, description="How long a source's field is reported that is new and unused, or does not come any more."
    )
    min_sample: Annotated[int, Field(gt=0)] = Field(20, description="Below so many leads a rate proves nothing.")

    @field_validator("max_pending_seconds", mode="before")
    @classmethod
    def _lanes_left_out_keep_their_limit(cls, value: object) -> object:
        """Without this, whoever changes one lane's limit would let the others wait for ever unseen."""
        return {**_MAX_PENDING, **value} if isinstance(value, dict) else value

    @model_validator(mode="before")
    @classmethod
    def _defaults_stand(cls, value: object) -> object:
        """What an entry does not name stays as it is by default; the older keys are the rejection rate's own."""
        if not isinstance(value, dict):
            return value
        given = value.get("objectives") or {}
        if not isinstance(given, dict):
            return value
        named: dict[Any, Any] = {}
        for name, default in _defaults(value).items():
            entry = given.get(name, {})
            if entry is not None:
                named[name] = {**_fitting(default, entry), **entry} if isinstance(entry, dict) else entry
        for name, entry in given.items():
            if name not in DEFAULTS:
                if entry is None:
                    known = ", ".join(DEFAULTS)
                    raise ValueError(f"objectives.{name} = null switches nothing off; promised by default: {known}")
                named[name] = entry
        return {**value, "objectives": named}

    @property
    def promises(self) -> dict[str, ObjectiveSettings]:
        """What is promised, by name."""
        return {name: item for name, item in self.objectives.items() if item is not None and item.enabled}


def _defaults(slos: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    found = {name: dict(item) for name, item in DEFAULTS.items()}
    rate, hours = slos.get("max_rejection_rate", 0.25), slos.get("rejection_window_hours", _DAY_HOURS)
    # Anything else is a fault of its own key.
    in_bounds = isinstance(rate, int | float) and 0 <= rate < 1
    found["rejection_rate"]["objective"] = 1 - rate if in_bounds else 0.75
    found["rejection_rate"]["window_hours"] = hours if isinstance(hours, int) and hours > 0 else _DAY_HOURS
    return found


def _fitting(default: Mapping[str, Any], entry: Mapping[str, Any]) -> dict[str, Any]:
    """A default without what only its own measure has, where the entry measures something else."""
    measure = entry.get("measure", default["measure"])
    return {key: item for key, item in default.items() if measure in _OF_MEASURES.get(key, (measure,))}
