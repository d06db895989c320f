"""A golden contact as a destination's properties: by rules, typed, held against what the destination has. Pure.

A property that the destination would refuse is left out and named, never dropped in silence: ``mapping_faults`` says
what is wrong with a rule whatever the contact, ``Mapped.withheld`` what could not be sent of one contact. Keep out:
where the rules (``config.destinations``) and the schema (``storage.destination_schemas``) come from.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from difflib import get_close_matches
from enum import StrEnum
from math import isfinite

from leads_pipeline.domain.consent_folding import ANY_CHANNEL
from leads_pipeline.domain.delivery import PropertyValue
from leads_pipeline.domain.destination_schema import DestinationSchema, FieldSchema, FieldType

# consent.PURPOSE.CHANNEL: whether the person agreed, where they said anything of it.
CONSENT = "consent."

# What a field of a golden contact is; all others are text.
_KINDS: Mapping[str, FieldType] = {
    "date_of_birth": FieldType.DATE,
    "first_seen_at": FieldType.DATETIME,
    "last_seen_at": FieldType.DATETIME,
    "risk_score": FieldType.NUMBER,
}
# What takes a text takes the text of anything.
_TAKES_TEXT = frozenset({FieldType.TEXT, FieldType.CHOICE, FieldType.CHOICES})
_YES, _NO = frozenset({"true", "yes", "1"}), frozenset({"false", "no", "0"})
_MOST_OPTIONS = 10
# What stands between several options of one property, as the vendors that have such properties write it.
_SEVERAL = ";"
_REFUSED_ADVICE = (
    "the destination refused it, whatever its fields say: give our credentials the right to write it, or take it out "
    "of the mapping; then `leads destinations check`"
)


class Fault(StrEnum):
    """Why a property cannot be sent."""

    UNKNOWN_PROPERTY = "unknown_property"
    READ_ONLY = "read_only"
    WRONG_TYPE = "wrong_type"
    NOT_AN_OPTION = "not_an_option"
    TOO_LONG = "too_long"
    NO_VALUE_MAPPED = "no_value_mapped"
    REQUIRED_UNMAPPED = "required_unmapped"
    KEY_NOT_UNIQUE = "key_not_unique"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class MappingRule:
    """Where one property comes from: a golden contact's ``source`` field, or a ``constant``.

    ``kind``: what the value is read as, where it is not what the field is. ``values``: a table by the value's text;
    what it lacks becomes ``otherwise``, and is withheld without one.
    """

    name: str
    source: str | None = None
    constant: PropertyValue = None
    kind: FieldType | None = None
    values: Mapping[str, str] | None = None
    otherwise: str | None = None

    @property
    def fixed_values(self) -> list[PropertyValue]:
        """Values that are sent whatever a contact has."""
        if self.source is None:
            return [self.constant]
        return [value for value in (*(self.values or {}).values(), self.otherwise) if value is not None]


@dataclass(frozen=True, slots=True)
class MappingFault:
    """What is wrong with the rule of a property. ``blocks``: without it no contact of the destination can be sent."""

    name: str
    fault: Fault
    advice: str
    blocks: bool = False


@dataclass(frozen=True, slots=True)
class Mapped:
    """What one contact is at the destination. ``withheld``: properties that it would refuse, and why; no values."""

    properties: Mapping[str, PropertyValue] = field(repr=False)
    withheld: Mapping[str, Fault]


class Unfit(Exception):
    """A value that a property does not take."""

    def __init__(self, fault: Fault) -> None:
        self.fault = fault
        super().__init__(fault)


@dataclass(frozen=True, slots=True)
class DestinationMapping:
    """The rules of one destination, and its schema where it is known.

    ``refused``: properties that it refused whatever it tells. ``marks``: of what it was checked by, by property.
    """

    rules: Sequence[MappingRule]
    schema: DestinationSchema | None = None
    key: str | None = None
    refused: Collection[str] = frozenset()
    marks: Mapping[str, str] = field(default_factory=dict)

    def faults(self) -> list[MappingFault]:
        """What must be mended; without a schema only what was refused is known to be wrong."""
        told = [] if self.schema is None else mapping_faults(self.rules, self.schema, key=self.key)
        known = {item.name for item in told}
        mapped = {rule.name for rule in self.rules}
        refused = sorted((mapped & set(self.refused)) - known)
        return told + [MappingFault(name, Fault.REFUSED, _REFUSED_ADVICE) for name in refused]

    def properties_of(self, contact: Mapping[str, object], *, delivered: Collection[str] = ()) -> Mapped:
        """The contact's fields under the destination's names.

        A field that we do not know is left out, because the destination's users may have filled it in. One that was
        ``delivered`` before and that we no longer know is empty, which clears it. One that is withheld stays as it is.
        """
        properties: dict[str, PropertyValue] = {}
        withheld: dict[str, Fault] = {}
        for rule in self.rules:
            value = rule.constant if rule.source is None else _value(contact, rule.source)
            if rule.name in self.refused:
                withheld[rule.name] = Fault.REFUSED
                continue
            if value is None or value == "":
                if rule.name in delivered:
                    properties[rule.name] = ""
                continue
            try:
                properties[rule.name] = _fitted(value, rule, self._field(rule.name))
            except Unfit as unfit:
                withheld[rule.name] = unfit.fault
        return Mapped(properties, withheld)

    def _field(self, name: str) -> FieldSchema | None:
        if self.schema is None:
            return None
        found = self.schema.fields.get(name)
        if found is None and not self.schema.is_open:
            raise Unfit(Fault.UNKNOWN_PROPERTY)
        return found


def mapping_faults(
    rules: Sequence[MappingRule], schema: DestinationSchema, *, key: str | None = None
) -> list[MappingFault]:
    """What of the rules the destination would refuse, whatever the contact, and what to do about it.

    ``key``: the property that holds our contact id.
    """
    faults = [fault for rule in rules if (fault := _fault_of(rule, schema)) is not None]
    if key is not None:
        held = schema.fields.get(key)
        if held is None:
            advice = (
                f"make it at the destination: a text with unique values, which holds our contact id{_like(key, schema)}"
            )
            faults.append(MappingFault(key, Fault.UNKNOWN_PROPERTY, advice, blocks=True))
        elif not held.unique:
            advice = "its values must be unique: make a property that asks for unique values, and name it as the key"
            faults.append(MappingFault(key, Fault.KEY_NOT_UNIQUE, advice, blocks=True))
    mapped = {rule.name for rule in rules} | {key}
    missing = [item for item in schema.fields.values() if item.required and not item.read_only]
    faults += [
        MappingFault(
            item.name,
            Fault.REQUIRED_UNMAPPED,
            "the destination takes no contact without it: map a field to it, or give it a constant",
            blocks=True,
        )
        for item in missing
        if item.name not in mapped
    ]
    return faults


def _fault_of(rule: MappingRule, schema: DestinationSchema) -> MappingFault | None:
    where = "the constant" if rule.source is None else rule.source
    held = schema.fields.get(rule.name)
    if held is None and schema.is_open:
        return None
    if held is None:
        advice = f"make it at the destination, or map {where} to one that it has{_like(rule.name, schema)}"
        return MappingFault(rule.name, Fault.UNKNOWN_PROPERTY, advice)
    if held.read_only:
        advice = f"the destination fills it in by itself: map {where} to another one, or take the line out"
        return MappingFault(rule.name, Fault.READ_ONLY, advice)
    if not _takes(held.type, _kind(rule)):
        return MappingFault(rule.name, Fault.WRONG_TYPE, _type_advice(rule, held))
    for value in rule.fixed_values:
        try:
            _converted(value, rule, held)
        except Unfit as unfit:
            return MappingFault(rule.name, unfit.fault, _value_advice(unfit.fault, held))
    return None


def _kind(rule: MappingRule) -> FieldType:
    """What the rule's values are before they are fitted to the property."""
    if rule.kind is not None:
        return rule.kind
    if rule.source is None:
        return _kind_of_constant(rule.constant)
    if rule.values is not None:
        return FieldType.TEXT
    return FieldType.BOOLEAN if rule.source.startswith(CONSENT) else _KINDS.get(rule.source, FieldType.TEXT)


def _kind_of_constant(value: PropertyValue) -> FieldType:
    if isinstance(value, bool):
        return FieldType.BOOLEAN
    return FieldType.NUMBER if isinstance(value, int | float) else FieldType.TEXT


def _takes(type_: FieldType, kind: FieldType) -> bool:
    return type_ is kind or type_ in _TAKES_TEXT


def _type_advice(rule: MappingRule, held: FieldSchema) -> str:
    where = "a constant" if rule.source is None else rule.source
    if held.type is FieldType.OTHER:
        return f"it takes nothing that a contact has: map {where} to another property"
    said = f"{where} is of type {_kind(rule)}, the property takes {held.type}"
    if rule.kind is None and rule.source is not None:
        return (
            f"{said}: write {{to: {rule.name}, as: {held.type}}} if its values can be read so, or map another property"
        )
    return f"{said}: map another property, or mend `as`"


def _value_advice(fault: Fault, held: FieldSchema) -> str:
    if fault is Fault.NOT_AN_OPTION:
        some = ", ".join(sorted(held.options or ())[:_MOST_OPTIONS])
        more = ", …" if len(held.options or ()) > _MOST_OPTIONS else ""
        return f"it takes one of: {some}{more}; mend the constant or the table of values"
    if fault is Fault.TOO_LONG:
        return f"it takes {held.max_length:,} characters: give a shorter value"
    return f"the property takes {held.type}: mend the constant or the table of values"


def _like(name: str, schema: DestinationSchema) -> str:
    found = get_close_matches(name, schema.fields, n=1)
    return f"; did you mean {found[0]}?" if found else ""


def _value(contact: Mapping[str, object], source: str) -> object:
    if not source.startswith(CONSENT):
        return contact.get(source)
    _, purpose, channel = source.split(".", 2)
    consent = contact.get("consent")
    channels = consent.get(purpose, {}) if isinstance(consent, Mapping) else {}
    statement = channels.get(channel) or channels.get(ANY_CHANNEL)
    return None if statement is None else statement["granted"] is True


def _fitted(value: object, rule: MappingRule, held: FieldSchema | None) -> PropertyValue:
    """The value as the property takes it.

    Raises:
        Unfit: it does not take it.
    """
    if rule.values is not None:
        text = _text(value)
        value = rule.values.get(text, rule.otherwise)
        if value is None:
            raise Unfit(Fault.NO_VALUE_MAPPED)
    return _converted(value, rule, held)


def _converted(value: object, rule: MappingRule, held: FieldSchema | None) -> PropertyValue:
    if held is not None and held.read_only:
        raise Unfit(Fault.READ_ONLY)
    kind = _kind(rule)
    if held is not None and not _takes(held.type, kind):
        raise Unfit(Fault.WRONG_TYPE)
    try:
        read = _READERS[kind](value)
    except (ValueError, OverflowError):
        raise Unfit(Fault.WRONG_TYPE) from None
    if held is None:
        return read
    if held.type in _TAKES_TEXT:
        read = _text(read)
        if held.options is not None and not _chosen(read, held).issubset(held.options):
            raise Unfit(Fault.NOT_AN_OPTION)
    if held.max_length is not None and isinstance(read, str) and len(read) > held.max_length:
        raise Unfit(Fault.TOO_LONG)
    return read


def _chosen(text: str, held: FieldSchema) -> set[str]:
    several = held.type is FieldType.CHOICES and text not in (held.options or ())
    return set(text.split(_SEVERAL)) if several else {text}


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return value.isoformat() if isinstance(value, date) else str(value)


def _number(value: object) -> int | float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    text = _text(value).strip()
    number = float(text)
    if not isfinite(number):
        raise ValueError
    return int(text) if text.lstrip("+-").isdigit() else number


def _boolean(value: object) -> bool:
    text = _text(value).strip().lower()
    if text in _YES:
        return True
    if text in _NO:
        return False
    raise ValueError


def _date(value: object) -> str:
    if isinstance(value, datetime):
        return value.astimezone(UTC).date().isoformat()
    return value.isoformat() if isinstance(value, date) else date.fromisoformat(str(value).strip()).isoformat()


def _datetime(value: object) -> str:
    if not isinstance(value, datetime):
        value = datetime.fromisoformat(_text(value).strip())
    return _text(value if value.tzinfo else value.replace(tzinfo=UTC))


_READERS = {
    FieldType.TEXT: _text,
    FieldType.CHOICE: _text,
    FieldType.CHOICES: _text,
    FieldType.OTHER: _text,
    FieldType.NUMBER: _number,
    FieldType.BOOLEAN: _boolean,
    FieldType.DATE: _date,
    FieldType.DATETIME: _datetime,
}
