"""What every destination has, whoever the vendor is.

A vendor's own settings stand in a subclass, in a module beside this one. Keep out: what an account allows (``limits``).
"""

import re
from typing import Annotated, ClassVar, Literal, NamedTuple, Self

from pydantic import AfterValidator, Field, model_validator

from leads_pipeline.config.base import Model, SecretRef
from leads_pipeline.config.limits import RequestLimits, UnitName

# The golden contact's fields that a CRM may be sent; a test compares them with the domain's.
DELIVERABLE_FIELDS = (
    "email", "phone", "first_name", "last_name", "company", "job_title", "date_of_birth",
    "address", "city", "state", "postcode", "country", "first_source", "last_source", "first_seen_at", "last_seen_at",
    "email_verdict", "phone_verdict", "phone_line_type", "risk_score",
)  # fmt: skip


_CONSENT = re.compile(r"consent\.[^.\s]+\.[^.\s]+")


def _mapped_field(value: str) -> str:
    if value not in DELIVERABLE_FIELDS and not _CONSENT.fullmatch(value):
        fields = ", ".join(DELIVERABLE_FIELDS)
        raise ValueError(f"not a field of a golden contact; allowed: {fields}, consent.PURPOSE.CHANNEL")
    return value


MappedField = Annotated[str, AfterValidator(_mapped_field)]


class PropertySettings(Model):
    """One property of a CRM, where a name alone does not say enough."""

    to: Annotated[str, Field(min_length=1)] = Field(description="The CRM's property.")
    as_: Literal["text", "number", "boolean", "date", "datetime"] | None = Field(
        None, alias="as", description="What the value is read and sent as; what the field is if unset."
    )
    values: dict[str, str] | None = Field(None, description="What becomes of each value, by its text.")
    otherwise: str | None = Field(
        None, description="What becomes of a value that `values` lacks; without it the property is left out and named."
    )

    @model_validator(mode="after")
    def _otherwise_belongs_to_values(self) -> Self:
        if self.otherwise is not None and self.values is None:
            raise ValueError("otherwise says what becomes of values that `values` lacks: give `values` too")
        return self


class RuleSettings(Model):
    """What one property is filled in with, as a person says it who changes the mapping for a while."""

    from_: MappedField | None = Field(None, alias="from", description="A golden contact's field.")
    constant: bool | int | float | str | None = Field(None, description="What every contact has there.")
    as_: Literal["text", "number", "boolean", "date", "datetime"] | None = Field(None, alias="as")
    values: dict[str, str] | None = None
    otherwise: str | None = None

    @model_validator(mode="after")
    def _comes_from_one_place(self) -> Self:
        if (self.from_ is None) == (self.constant is None):
            raise ValueError("a rule has either from: FIELD or constant: VALUE")
        if self.constant is not None and (self.as_ or self.values or self.otherwise):
            raise ValueError("a constant is sent as it is: no as, values or otherwise")
        return self


class GateSettings(Model):
    """Who may be sent, asked at the last moment. The suppression list (`leads suppressions`) always holds."""

    require: Literal["granted", "not_withdrawn", "nothing"] = Field(
        "not_withdrawn", description="What must be known of consent; `not_withdrawn`: silence passes."
    )
    purpose: Annotated[str, Field(min_length=1)] = Field("marketing", description="Consent to what.")
    channel: Annotated[str, Field(min_length=1)] = Field("email", description="By which way; `any` stands for all.")


class Price(NamedTuple):
    """What a request uses up beside being one: of which class of endpoints it is, and its credits."""

    endpoint_class: str = "api"
    credits: int = 0


class DestinationSettings(Model):
    """What every destination has: one account that contacts are delivered to.

    ``charged``: the units, and ``classes``: the classes of endpoints, that the vendor's client charges its requests; a
    limit of anything else would limit nothing.
    """

    charged: ClassVar[tuple[UnitName, ...]] = ("requests", "records")
    classes: ClassVar[tuple[str, ...]] = ()
    # Whether a record may go from one contact to another when the two are merged.
    hands_records_on: ClassVar[bool] = False

    vendor: str = Field(description="Whose API it speaks.")
    account: Annotated[str, Field(min_length=1)] = Field(
        description="Whose quota is spent: destinations with the same account share one limit."
    )
    batch_size: Annotated[int, Field(gt=0)] = Field(100, description="Records in one request.")
    limits: RequestLimits = RequestLimits()
    timeout_seconds: Annotated[float, Field(gt=0, le=120)] = Field(30, description="For one request.")
    mapping: dict[MappedField, str | PropertySettings] = Field(
        default_factory=dict,
        description="Golden contact's field, or consent.PURPOSE.CHANNEL → the CRM's property; "
        "`field: property` is short for {to: property}.",
    )
    constants: dict[str, bool | int | float | str] = Field(
        default_factory=dict, description="The CRM's property → what every contact has there."
    )
    gate: GateSettings = Field(GateSettings(), description="Who may be sent.")

    def address(self) -> str | None:
        """Where its API is, if there is a sandbox that can stand in for it there."""
        return None

    def key(self) -> str | None:
        """The CRM's property that holds our contact id, where it has one."""
        return None

    def price(self, records: int) -> Price:
        """Of an upsert of so many records."""
        return Price()

    def properties(self) -> tuple[str, ...]:
        """The CRM's properties that are filled in."""
        targets = (item if isinstance(item, str) else item.to for item in self.mapping.values())
        return (*targets, *self.constants)

    @model_validator(mode="after")
    def _a_property_is_filled_in_once(self) -> Self:
        names = [name for name in (*self.properties(), self.key()) if name is not None]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"{', '.join(twice)}: filled in more than once by mapping, constants and the key")
        return self

    @model_validator(mode="after")
    def _limits_are_of_what_is_charged(self) -> Self:
        for name in self.limits.endpoint_classes:
            if name not in self.classes:
                known = ", ".join(self.classes) or "none"
                raise ValueError(
                    f"limits.endpoint_classes names {name!r}, and no request to {self.vendor} is of it; "
                    f"allowed: {known}"
                )
        windows = [*self.limits.windows]
        windows += [window for item in self.limits.endpoint_classes.values() for window in item.windows]
        for window in windows:
            if window.unit not in self.charged:
                raise ValueError(
                    f"limits: a window counts {window.unit}, and requests to {self.vendor} are charged none; allowed: "
                    f"{', '.join(self.charged)}"
                )
            if window.unit == "records" and window.most < self.batch_size:
                raise ValueError(
                    f"limits: {window.most} records in {window.seconds} s hold no full batch of {self.batch_size}; "
                    f"allowed: batch_size up to {window.most}"
                )
        return self

    @model_validator(mode="after")
    def _a_reserve_is_of_something(self) -> Self:
        limits = self.limits
        if "reserve" in limits.model_fields_set and limits.reserve > 0 and not limits.has_budget:
            raise ValueError(
                "limits.reserve keeps a share of the daily quota, or of a window of 24 hours, and there is neither; "
                "allowed: state one of them, or leave reserve out"
            )
        return self

    def secrets(self) -> dict[str, SecretRef]:
        """Every secret that it refers to, by its key."""
        return {name: value for name, value in self if isinstance(value, SecretRef)}
